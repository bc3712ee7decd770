"""Hosts: what the policies of all client processes of one host have in common."""

from __future__ import annotations

from collections.abc import Callable, Hashable, Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from typing import Any, TypeVar

__all__ = ["SCOPES", "Host", "shared"]

SCOPES = ("process", "host")
T = TypeVar("T")


class Host:
    """One host: the policies that all its client processes share."""

    def __init__(self) -> None:
        self._shared: dict[Hashable, Any] = {}

    @contextmanager
    def here(self) -> Iterator[None]:
        """Make the policies of a client process of this host within the block."""
        token = _here.set(self)
        try:
            yield
        finally:
            _here.reset(token)

    def obtain(self, key: Hashable, make: Callable[[], T]) -> T:
        """Return what the host has under this key, made if it has none."""
        if key not in self._shared:
            self._shared[key] = make()
        found: T = self._shared[key]
        return found


_here: ContextVar[Host | None] = ContextVar("host", default=None)


def shared(make: Callable[[], T]) -> Callable[[], T]:
    """Return a function that makes one for each host; outside of a host it makes one at each call."""
    key = object()

    def obtain() -> T:
        host = _here.get()
        return make() if host is None else host.obtain(key, make)

    return obtain
