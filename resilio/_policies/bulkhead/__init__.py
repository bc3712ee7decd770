"""The bulkhead, and its `map`."""
