"""The retry: its policy, backoff, budget, and blocks that are run again."""
