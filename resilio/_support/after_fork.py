"""
The one registry of fork hooks.

A child process has one thread, and a copy of the state that the other threads were changing: a lock that one of them
held would never be released. So each module registers here the objects to make anew. The order is that of `STAGES`, not
that of imports.
"""

from __future__ import annotations

import os
import threading
import weakref
from collections.abc import Callable
from contextlib import suppress
from typing import Any, Literal

__all__ = ["STAGES", "Stage", "around_fork", "free_lock", "in_child"]

Stage = Literal["native", "state", "threads"]
STAGES: tuple[Stage, ...] = ("native", "state", "threads")
"""
In the child: the native core, where calls from before the fork have no effect any more; then all locks; then state that
was queued or counted for the parent; and last the hooks that start threads, which use all of that.
"""

Hook = Callable[[], object]

_hooks: dict[Stage, list[Hook]] = {stage: [] for stage in STAGES}
_before: list[Hook] = []
_in_parent: list[Hook] = []
_locks: list[tuple[weakref.ref[Any], str]] = []


def in_child(stage: Stage, hook: Hook) -> None:
    """Call `hook` in the child of each fork, after those of earlier stages."""
    _hooks[stage].append(hook)


def around_fork(before: Hook, in_parent: Hook) -> None:
    """Call `before` in the thread that forks, and `in_parent` there once it has."""
    _before.insert(0, before)
    _in_parent.append(in_parent)


def free_lock(owner: object, attribute: str) -> None:
    """
    Replace a lock by a free one of its kind in the child of each fork.

    Args:
        owner: A module, or an object; held weakly.

        attribute: The name under which the owner has the lock.
    """
    _locks.append((weakref.ref(owner, _forget), attribute))


def _forget(owner: weakref.ref[Any]) -> None:
    """Drop the entries of a dead owner; may run in any thread, so each entry is removed by itself."""
    for entry in [entry for entry in _locks if entry[0] is owner]:
        with suppress(ValueError):
            _locks.remove(entry)


def _free_locks() -> None:
    for reference, attribute in _locks:
        if (owner := reference()) is not None:
            kind = type(getattr(owner, attribute))
            setattr(owner, attribute, _KINDS.get(kind, kind)())


_KINDS: dict[type, Callable[[], Any]] = {
    type(threading.Lock()): threading.Lock,
    type(threading.RLock()): threading.RLock,
}


def _run(hooks: list[Hook]) -> None:
    for hook in list(hooks):
        with suppress(Exception):  # a hook that raises must neither fail the fork nor skip the others
            hook()


def _child() -> None:
    _run(_hooks["native"])
    _run([_free_locks])
    _run(_hooks["state"])
    _run(_hooks["threads"])


if hasattr(os, "register_at_fork"):
    os.register_at_fork(before=lambda: _run(_before), after_in_parent=lambda: _run(_in_parent), after_in_child=_child)
