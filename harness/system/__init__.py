"""The system around a run: files, locks, signals, devices, the Hub."""
