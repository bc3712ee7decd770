"""The pool: its policy, endpoints, zones, names and probes."""
