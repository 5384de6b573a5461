"""One run besides the engine: which it is, what it needs, where it stands, what came out."""
