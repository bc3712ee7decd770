"""Check of a client's private attributes before `guard_client` replaces them; versions without them are rejected."""

from __future__ import annotations

from typing import Any

__all__ = ["require_inside"]


def require_inside(client: Any, *names: str, instead: str) -> None:
    """
    Check that a client has the attributes that will be used, before any is changed.

    Args:
        client: The client; its library makes no promise about the attributes.

        names: Names of the attributes.

        instead: The public alternative, which needs none of them.

    Raises:
        TypeError: An attribute is missing; the message names it and the alternative.
    """
    missing = [name for name in names if not hasattr(client, name)]
    if missing:
        kind = f"{type(client).__module__}.{type(client).__qualname__}"
        raise TypeError(
            f"client: this version of {kind} has no {', '.join(missing)}: it cannot be guarded in place; use {instead}"
        )
