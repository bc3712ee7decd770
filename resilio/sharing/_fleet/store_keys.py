"""The keys of the store: one for each stock, named by its policy and by the options that define it."""

from __future__ import annotations

import hashlib

__all__ = ["key_of"]


def key_of(fleet: str, kind: str, name: str, stock: str) -> str:
    """
    Return the key of a stock.

    Args:
        fleet: The name of the fleet.

        kind: Of the rule.

        name: Of the policy.

        stock: The options that define the stock: processes with others have another key.
    """
    return f"{{resilio:{fleet}:{kind}:{name}:{hashlib.sha256(stock.encode()).hexdigest()[:16]}}}"
