"""One module a client: how its calls come to the stack of their host."""
