"""Leaderboards, plots and exports, made from records only."""
