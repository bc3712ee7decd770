"""The patterns, one module or folder each."""
