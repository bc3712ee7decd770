"""What `guard_client` replaces inside a client; a version of the client that keeps it elsewhere is refused."""

from __future__ import annotations

from typing import Any

__all__ = ["require_inside"]


def require_inside(client: Any, *names: str, instead: str) -> None:
    """
    Check that a client has the attributes that are about to be used, before anything is changed.

    Args:
        client: Of a library that promises nothing about them.

        names: The attributes.

        instead: The public way, which needs none of them.

    Raises:
        TypeError: One is not there; the message names it and the public way.
    """
    missing = [name for name in names if not hasattr(client, name)]
    if missing:
        kind = f"{type(client).__module__}.{type(client).__qualname__}"
        raise TypeError(
            f"client: this version of {kind} has no {', '.join(missing)}: it cannot be guarded in place; use {instead}"
        )
