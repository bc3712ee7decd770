"""Small programs, each run as a file; `demo` is a larger one: `make demo`."""
