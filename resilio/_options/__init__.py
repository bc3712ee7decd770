"""Options: declared, checked, compared, and read from the environment."""
