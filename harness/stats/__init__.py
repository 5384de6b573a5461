"""Runs that belong together, how sure their scores are, and which of them differ."""
