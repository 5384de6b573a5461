"""One run, from the command line until it is ready to train: options, identity, parent, companions, preparation."""
