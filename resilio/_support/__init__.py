"""The ground floor: helpers that import nothing of the package but the core's clock and types."""
