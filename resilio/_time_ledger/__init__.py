"""The time ledger of a call, in words."""
