"""The identity, recipe, task and record of a run as plain values."""
