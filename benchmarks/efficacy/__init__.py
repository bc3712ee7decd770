"""Does it do what it is for: simulations with the real policies on virtual time."""
