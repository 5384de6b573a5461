"""The rows of a task: from files or the Hub to texts and labels in canonical columns."""
