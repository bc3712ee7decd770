"""
Endpoints that a process uses of too many: each process others, so that all of them together use all.

Why: a connection from each process to each of hundreds of servers costs both sides more than it balances.
"""

from __future__ import annotations

import os
import weakref
from hashlib import blake2b
from typing import Protocol

from resilio._policies.pool.endpoint import Endpoint
from resilio._support.after_fork import in_child
from resilio._support.random_seed import seed64

__all__ = ["MOST_PLACES", "choose_anew_in_children", "subset"]

MOST_PLACES, SUBSET = 64, 32

_seed = seed64()


class _Pool(Protocol):
    """A pool that uses a part of its endpoints."""

    def _choose_anew(self) -> None:
        """Use the part of this process."""


_parts: weakref.WeakSet[_Pool] = weakref.WeakSet()


def subset(endpoints: tuple[Endpoint, ...], most: int = MOST_PLACES) -> tuple[Endpoint, ...]:
    """
    Return the endpoints, or some of them if there are too many: each process others, and mostly the same again later.

    Source: rendezvous hashing (Thaler and Ravishankar, 1998). An endpoint that leaves changes no other place.
    """
    if len(endpoints) <= most:
        return endpoints
    mine = f"{_seed}:{os.getpid()}:"
    ranked = sorted(endpoints, key=lambda one: blake2b(f"{mine}{one.name}".encode(), digest_size=8).digest())
    return tuple(ranked[: min(most, SUBSET)])


def choose_anew_in_children(pool: _Pool) -> None:
    """Let each forked child use a part of its own: workers that are forked would all have their parent's."""
    _parts.add(pool)


def _forked() -> None:
    for pool in list(_parts):
        pool._choose_anew()


in_child("state", _forked)
