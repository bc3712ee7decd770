"""How values of users are shown in messages."""

from __future__ import annotations

__all__ = ["show"]


def show(value: object) -> str:
    """Return a short repr of `value`, also when its own repr is long or raises."""
    try:
        text = repr(value)
    except Exception:  # noqa: BLE001 - whatever a foreign repr raises
        text = f"<{type(value).__name__}>"
    return text if len(text) <= 80 else text[:77] + "..."
