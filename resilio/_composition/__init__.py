"""Policies together: pipelines, the standard stack, a policy for each key."""
