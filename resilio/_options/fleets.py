"""Options of policies that a fleet shares."""

from __future__ import annotations

from typing import Any, Literal

from resilio._options.validators import choice

__all__ = ["Accuracy", "OnStoreDown", "accuracy", "on_store_down"]

Accuracy = Literal["leased", "exact"]
OnStoreDown = Literal["local", "open", "closed"]


def accuracy(name: str, value: object) -> Any:
    """Return how a limit takes from its fleet: "leased", or "exact": it asks for each call."""
    return choice(name, value, ("leased", "exact"))


def on_store_down(name: str, value: object, *, none_ok: bool = True) -> Any:
    """Return what calls get while the fleet's store is away: a "local" share, "open", "closed"; None: as the fleet."""
    if value is None and none_ok:
        return None
    return choice(name, value, ("local", "open", "closed"))
