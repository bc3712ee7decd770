"""`standard`, `load_shed()` and `hedge()` as they come, in cells that no default was tuned to; see README.md."""
