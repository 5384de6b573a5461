"""What the harness costs beside other ways to train the same model, and how that was measured."""
