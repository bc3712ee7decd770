"""Text of users' values in messages."""

from __future__ import annotations

__all__ = ["show"]


def show(value: object) -> str:
    """Return a short repr of `value`, even if its own repr is long or raises."""
    try:
        text = repr(value)
    except Exception:  # noqa: BLE001 - a foreign repr may raise anything
        text = f"<{type(value).__name__}>"
    return text if len(text) <= 80 else text[:77] + "..."
