"""The meaning of an exception or an answer: its outcome, its causes, and its advice on retries."""
