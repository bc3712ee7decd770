"""Events of a pool's endpoints that the user causes: added, removed, drained, undrained."""

from __future__ import annotations

from typing import Any

from resilio._events.delivery import dispatch, queue
from resilio._events.records import StateChanged
from resilio._native import clock

__all__ = ["ABSENT", "changed_by_hand"]

ABSENT = "absent"
"""The state, in events, of an endpoint before it is added and after it is removed."""


def changed_by_hand(pool: Any, endpoint: str, old: str, new: str) -> None:
    """Deliver that the user has changed the state of an endpoint."""
    if old != new:
        about = {"kind": "pool", "name": pool.name, "key": endpoint}
        queue(pool.gates[0], StateChanged(**about, old=old, new=new, reason="manual", at_ns=clock.now_ns()))
        dispatch()
