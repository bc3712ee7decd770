"""
A deadline is the time by which a request must be answered, visible to all work done for it.

Why: a timeout bounds one call, while a user waits for the sum of calls, queues and retries. A deadline is set once, at
the edge, and checked everywhere inside. Work that cannot finish in time is not begun, and work stops when its answer is
no longer needed. When not: for work that must be done however long it takes (put it in `detached()`). It does not limit
one attempt; that is a timeout, after which a retry may still succeed.

The deadline is ambient: a context variable passes it to tasks and worker threads. Deadlines nest, and only shorten.
"""

from __future__ import annotations

import functools
import sys
import threading
from collections.abc import Callable
from functools import partial
from typing import Any, TypeVar

from resilio._context.deadline import begin
from resilio._context.scope import Block
from resilio._native import core
from resilio._native.strategies import DeadlineGate
from resilio._options.fields import option, record
from resilio._options.validators import flag
from resilio._options.validators import seconds as checked_seconds
from resilio._policy.base import Policy
from resilio._policy.factory import makes
from resilio._policy.types import Seconds
from resilio._registry.definitions import obtain
from resilio._support.after_fork import free_lock

__all__ = ["Deadline", "DeadlineConfig", "deadline"]

F = TypeVar("F")


@record
class DeadlineConfig:
    """The options of a deadline, checked; :func:`deadline` documents each."""

    seconds: Seconds = option(checked_seconds, zero_ok=True, kw_only=False)
    tasks: bool = option(flag, default=True)


class Deadline(Block, Policy[DeadlineConfig]):  # type: ignore[misc]  # a block of it has no permit
    """
    A time limit for a block or for each guarded call; see :func:`deadline`, which makes one.

    Most deadlines are blocks, made where they are entered. So the other parts of a policy are made on first use.
    """

    kind = "deadline"
    Config = DeadlineConfig
    bounds_bodies = True
    """True if clients for threads also end the body of an answer by it."""
    _gate: DeadlineGate

    def __init__(self, config: DeadlineConfig) -> None:  # the base's is called by `_as_stage`
        """Make the deadline; time runs from each entry."""
        self._declared = config
        self._allowed_ns = round(config.seconds * 1e9)

    def _as_stage(self) -> None:
        with _becoming:
            if "_gate" not in self.__dict__:
                obtain(Deadline, None, self._declared, self._become)

    def _become(self, config: DeadlineConfig) -> Deadline:
        super().__init__(DeadlineGate(config), config, None)
        return self

    def __getattr__(self, name: str) -> Any:
        if name not in _MADE_LATE or name in self.__dict__:
            raise AttributeError(f"{type(self).__name__!r} object has no attribute {name!r}")
        self._as_stage()
        return self.__dict__[name]

    @property
    def gates(self) -> tuple[core.Gate, ...]:
        """The gates, outermost first: one."""
        self._as_stage()
        return super().gates

    def _explained(self) -> str:
        return "interrupts async code; other code it bounds in its waits, retries and guarded clients, and nowhere else"

    def _apply(self, config: DeadlineConfig) -> None:
        self._allowed_ns = round(config.seconds * 1e9)
        super()._apply(config)

    @property
    def seconds(self) -> float:
        """The time that it allows, in seconds."""
        return self._allowed_ns / 1e9

    def __call__(self, fn: F) -> F:
        """Return `fn` guarded: the time runs from each call, and an async function is interrupted when it is up."""
        self._as_stage()
        return super().__call__(fn)

    def _begin_block(self, setting: core.AmbientSetting, generator: Any, enforced: bool) -> None:
        begin(setting, self._allowed_ns, generator, enforced=enforced)

    def __repr__(self) -> str:
        return f"deadline({self.seconds:g})"

    def __reduce__(self) -> tuple[Any, ...]:
        return partial(deadline, tasks=self._declared.tasks), (self.seconds,)


_becoming = threading.RLock()


free_lock(sys.modules[__name__], "_becoming")

_MADE_LATE = {"_blocks", "_called_after", "_config", "_gate", "_given"}


def _as_stage_first(native: Callable[..., Any]) -> Callable[..., Any]:
    @functools.wraps(native)
    def method(self: Deadline, /, *args: Any, **kwargs: Any) -> Any:
        self._as_stage()
        return native(self, *args, **kwargs)

    return method


for _name in ("call", "acall", "try_call", "try_acall", "try_acquire", "acquire", "aacquire"):
    setattr(Deadline, _name, _as_stage_first(getattr(Policy, _name)))


@makes(DeadlineConfig, "@deadline(2.0)")
def deadline(config: DeadlineConfig, _: str | None) -> Deadline:
    """
    Return a deadline: a block, a decorator or a stage of a pipeline that has `seconds`, from each entry or call.

    All code inside sees the time left, which is less if an outer deadline is nearer. Guarded calls wait no longer than
    that; once the time is up, they are rejected.

    `async with deadline(2.0):` and an async function are interrupted: the task is cancelled once, and the block or the
    call raises. Code that never suspends, or ends in time, ends as without a deadline. Code in `with deadline(2.0):`
    and functions that are not async are not interrupted. One object may be used any number of times, also at once.

    Args:
        seconds: Time from the entry, >= 0; 0 has passed at once.
        tasks: As a decorator or a stage: True if tasks and threads that a call starts see the deadline too. This uses a
            context variable, which takes two to three times as long as an empty wrapper. Code in the call's own task
            always sees it, until the call ends. Without effect on blocks, which always use the variable.

    Raises:
        TypeError: Neither a number nor a timedelta.
        ValueError: NaN, infinite, negative or more than ten years.
    """
    return Deadline(config)
