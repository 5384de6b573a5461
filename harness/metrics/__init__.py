"""Numbers that compare predictions with gold labels, each metric defined in one place with all its forms."""
