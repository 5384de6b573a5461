"""The cost of the harness compared with other ways to train the same model, and the code that measured it."""
