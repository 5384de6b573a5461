"""Fine-tune any encoder on GLUE-style tasks, on whatever devices accelerate is set up for, and record every number.

The functions for Python are in `harness.api`.
"""

__version__ = "0.1.0"
