"""What people and other programs read, made from records alone."""
