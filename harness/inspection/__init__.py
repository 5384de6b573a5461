"""What is looked at closely: the rows of a task, the answers and mistakes of a kept model."""
