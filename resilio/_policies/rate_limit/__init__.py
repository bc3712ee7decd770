"""The rate limit, its rates and reservations."""
