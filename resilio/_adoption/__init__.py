"""A program tried out without an edit: its clients are guarded as they are imported, and a report shows the effect."""
