"""The base of all policies: decorators, streams, rules, snapshots."""
