"""Trained models as folders that transformers can load, their model cards, and their upload to the Hub."""
