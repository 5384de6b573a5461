"""Fine-tune any encoder on GLUE-style tasks, on whatever devices accelerate is set up for, and keep the numbers."""

__version__ = "0.1.0"
