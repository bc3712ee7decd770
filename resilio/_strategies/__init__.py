"""The parts of strategies that are written in Python: scopes, threads, streams, races."""
