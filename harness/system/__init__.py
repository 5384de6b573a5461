"""The world around a run: signals, locks, devices, the Hub."""
