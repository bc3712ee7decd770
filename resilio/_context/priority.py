"""
How important a call is, known to all that works for it: what a load shedder sheds first.

A context variable hands it to tasks and worker threads, as it does the deadline. The classes are a closed set; within
one class nothing is more important, but what belongs to a task that is under way is served before what would begin one.
"""

from __future__ import annotations

import sys
import threading
from typing import TYPE_CHECKING, Any, Literal

from resilio._context import variables
from resilio._context.scope import AmbientBlock
from resilio._native.core import AmbientPriority, ambient_priority
from resilio._options.validators import choice, refuse
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
        """Set nothing yet."""
        self._level = level
        self._task = task

    def _begin_block(self, setting: AmbientSetting, generator: Any, enforced: bool) -> None:  # noqa: ARG002
        task = self._task
        if task is None and (here := ambient_priority()) is not None:
            task = here.task  # a part of a task may be less important, and belongs to it all the same
        setting.set(variables.priority, AmbientPriority(self._level, task, variables.priority.get(), generator))


def priority(level: PriorityClass, *, task: object = None) -> Priority:
    """
    Return a block, or a decorator, inside of which all calls have this priority.

    A load shedder serves the most important first and refuses the least important first. Without a block calls are
    "standard"; a hedge is "sheddable" at most.

    Args:
        level: "critical" (a user is lost without it), "standard", "sheddable" (prefetching, retries of what can be
            done later), or "background" (jobs that nobody waits for).

        task: What the calls belong to, an order or a session: any hashable value. Under overload a task's calls are
            served or refused together, those of tasks that have been served before first; None: the task of the block
            outside.

    Raises:
        TypeError: `task` has no hash.

        ValueError: No such class.
    """
    choice("level", level, options=CLASSES)
    try:
        hash(task)
    except Exception:  # noqa: BLE001 - whatever a foreign __hash__ raises
        refuse("task", task, "hashable, like an id", TypeError)
    return Priority(CLASSES.index(level), task)


def current_priority() -> PriorityClass:
    """Return the priority of calls made here: what to send on to a service that is called."""
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
    Return the priority that a request's header names, if whoever sent it may choose it; never raises on a header.

    Everybody finds his own call critical. So a value counts only where `trusted` says that it comes from a service of
    one's own; all others are ignored, and counted.

    Args:
        value: The header's value as text or bytes; None: there was none.

        trusted: Whether the sender may choose: ask who it is, not what it says.

        default: The priority of what says nothing, nothing known, or has no say.

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
    """Return how many values :func:`priority_from` has ignored: "untrusted", and "unknown" ones of trusted senders."""
    with _counting:
        return dict(_ignored)
