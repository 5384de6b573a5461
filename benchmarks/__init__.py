"""The cost of the harness compared with other ways to train the same model, and the code that measured it."""

import os

os.environ["PYTHONDONTWRITEBYTECODE"] = ""  # many containers set it: each measured program would compile its libraries
