"""
Interruption of a trio task when its time is up, by a cancel scope.

Trio's scopes are written in Python, and a scope that is left open breaks its task. Trio's own protection defers a
Ctrl-C here. Exceptions from handlers of other signals are not deferred.
"""

from __future__ import annotations

import trio

__all__ = ["TrioCutoff"]


class TrioCutoff:
    """Interrupts one block of the task that starts it."""

    __slots__ = ("__weakref__", "_scope", "_task")

    def __init__(self) -> None:
        """Interrupt nothing yet."""
        self._scope: trio.CancelScope | None = None
        self._task: trio.lowlevel.Task | None = None

    @trio.lowlevel.enable_ki_protection
    def start(self, seconds: float) -> None:
        """Begin the block, in the current task."""
        self._task = trio.lowlevel.current_task()
        scope = trio.CancelScope()
        scope.deadline = trio.current_time() + max(seconds, 0.0)
        scope.__enter__()
        self._scope = scope

    @trio.lowlevel.enable_ki_protection
    def close(self, error: BaseException | None) -> bool:
        """
        End the block; True: the deadline ended it.

        Raises:
            BaseException: The rest of an exception group from which the scope removed its own cancellation.
        """
        scope, self._scope = self._scope, None
        if scope is None:
            return False
        kind = None if error is None else type(error)
        scope.__exit__(kind, error, None if error is None else error.__traceback__)
        return scope.cancelled_caught

    @property
    def fired(self) -> bool:
        """Whether the block is cancelled."""
        return self._scope is not None and self._scope.cancel_called

    def here(self) -> bool:
        """Return True if the current task is the one that is interrupted."""
        try:
            return trio.lowlevel.current_task() is self._task
        except RuntimeError:  # a thread without a loop
            return False
