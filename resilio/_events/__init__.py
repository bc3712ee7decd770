"""Events on their way to listeners, and the log."""
