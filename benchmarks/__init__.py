"""The cost of the harness compared with other ways to train the same model, and the code that measured it."""

import os

os.environ["PYTHONDONTWRITEBYTECODE"] = ""  # set in many containers: each program measured would compile its libraries
