"""Text of users' values, and of kinds of policies, in messages."""

from __future__ import annotations

__all__ = ["show", "with_article"]


def show(value: object) -> str:
    """Return a short repr of `value`, even if its own repr is long or raises."""
    try:
        text = repr(value)
    except Exception:  # noqa: BLE001 - a foreign repr may raise anything
        text = f"<{type(value).__name__}>"
    return text if len(text) <= 80 else text[:77] + "..."


def with_article(kind: str) -> str:
    """Return the kind of a policy with "a" or "an" in front."""
    return f"an {kind}" if kind[:1] in ("a", "e", "i", "o", "u") else f"a {kind}"
