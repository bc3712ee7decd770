"""Names and kinds of policies, and changes of options by name."""
