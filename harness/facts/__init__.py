"""What runs are about and what they leave behind, as plain values."""
