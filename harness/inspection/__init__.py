"""A close look at rows, predictions and errors: description of a task, evaluation of a saved model, output files."""
