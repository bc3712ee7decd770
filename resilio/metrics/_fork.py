"""Fork hooks of exporters: in the child, renew locks that another thread held, and start threads again."""

from __future__ import annotations

import weakref
from contextlib import suppress
from typing import Any, Protocol

from resilio._support.after_fork import in_child

__all__ = ["after_fork"]


class _Forked(Protocol):
    def forked(self) -> None:
        """Make the object usable in the child."""


_counting: weakref.WeakSet[Any] = weakref.WeakSet()


def after_fork(one: _Forked) -> None:
    """Call `one.forked()` in the child of each fork, until `one` is garbage collected."""
    _counting.add(one)


def _tell() -> None:
    for one in list(_counting):
        with suppress(Exception):  # a fork must not fail because of an exporter
            one.forked()


in_child("threads", _tell)
