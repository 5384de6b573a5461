"""A trained model as a folder, on the disk and on the Hub."""
