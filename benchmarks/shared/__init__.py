"""`python -m benchmarks.shared`: what sharing a host adds to a call."""
