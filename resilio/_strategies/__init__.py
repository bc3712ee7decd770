"""What a strategy does in Python: scopes, threads, streams."""
