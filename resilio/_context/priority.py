"""
Priority of a call, visible to all work done for it; a load shedder rejects the lowest first.

A context variable passes it to tasks and worker threads, like the deadline. The classes are a closed set. Within one
class no call is more important, but calls of a task in progress are served before calls that would begin one.
"""

from __future__ import annotations

import sys
import threading
from typing import TYPE_CHECKING, Any, Literal

from resilio._context import variables
from resilio._context.scope import AmbientBlock
from resilio._native.core import AmbientPriority, ambient_priority
from resilio._options.validators import choice, reject
from resilio._support.after_fork import free_lock

if TYPE_CHECKING:
    from resilio._native.core import AmbientSetting

__all__ = ["CLASSES", "Priority", "current_priority", "ignored_priorities", "priority", "priority_from"]

PriorityClass = Literal["critical", "standard", "sheddable", "background"]

CLASSES: tuple[PriorityClass, ...] = ("critical", "standard", "sheddable", "background")
"""Most important first; a level is an index into it."""

STANDARD = 1


class Priority(AmbientBlock):
    """A block, or a decorator, whose calls have a priority; see :func:`priority`, which makes one."""

    __slots__ = ("_level", "_task")

    def __init__(self, level: int, task: object) -> None:
        """Make the block; it takes effect when it is entered."""
        self._level = level
        self._task = task

    def _begin_block(self, setting: AmbientSetting, generator: Any, enforced: bool) -> None:  # noqa: ARG002
        task = self._task
        if task is None and (here := ambient_priority()) is not None:
            task = here.task  # a part of a task belongs to it, even at a lower priority
        setting.set(variables.priority, AmbientPriority(self._level, task, variables.priority.get(), generator))


def priority(level: PriorityClass, *, task: object = None) -> Priority:
    """
    Return a block, or a decorator, in which all calls have this priority.

    A load shedder serves the most important first and rejects the least important first. Outside of a block calls are
    "standard"; a hedge is "sheddable" at most.

    Args:
        level: "critical" (a user is lost without it), "standard", "sheddable" (prefetching, retries of work that can
            be done later), or "background" (jobs without a waiting user).

        task: The order, session or other unit that the calls belong to: any hashable value. Under overload a task's
            calls are served or rejected together; tasks that have been served before come first. None: the task of the
            enclosing block.

    Raises:
        TypeError: `task` has no hash.

        ValueError: No such class.
    """
    choice("level", level, options=CLASSES)
    try:
        hash(task)
    except Exception:  # noqa: BLE001 - a foreign __hash__ may raise anything
        reject("task", task, "hashable, like an id", TypeError)
    return Priority(CLASSES.index(level), task)


def current_priority() -> PriorityClass:
    """Return the priority of calls made here, to be sent on to a called service."""
    here = ambient_priority()
    return CLASSES[STANDARD if here is None else here.level]


_ignored = {"unknown": 0, "untrusted": 0}
_counting = threading.Lock()
free_lock(sys.modules[__name__], "_counting")


def _ignore(why: str, default: PriorityClass) -> PriorityClass:
    with _counting:
        _ignored[why] += 1
    return default


def priority_from(value: object, *, trusted: bool = False, default: PriorityClass = "standard") -> PriorityClass:
    """
    Return the priority that a request's header names, if its sender is trusted to choose; never raises on a header.

    Every sender finds its own calls critical. So a value is accepted only from a trusted service; all others are
    ignored, and counted.

    Args:
        value: The header's value as text or bytes; None: there was none.

        trusted: True if the sender may choose. Decide by its authenticated identity, not by a header.

        default: The priority of a request with no value, an unknown value, or an untrusted sender.

    Raises:
        ValueError: `default` is no class.
    """
    choice("default", default, options=CLASSES)
    if value is None:
        return default
    text = value.decode("latin-1") if isinstance(value, bytes) else value
    level = text.strip().lower() if isinstance(text, str) and len(text) <= 40 else None
    if not trusted:
        return _ignore("untrusted", default)
    if level not in CLASSES:
        return _ignore("unknown", default)
    return level


def ignored_priorities() -> dict[str, int]:
    """Return the counts of values that :func:`priority_from` ignored: "untrusted", and "unknown" of trusted senders."""
    with _counting:
        return dict(_ignored)
