"""The spend limit: money in a calendar period or at a pace, reserved before a call and settled after it."""
