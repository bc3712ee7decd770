"""
Attempts of a block: the items of `for attempt in retrying(...): with attempt:`.

A loop decides like `retry` around a function. Each loop is one call of the policy. A block that is left by `break` or
`return` has succeeded.
"""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING, Any, Protocol, Self, cast

from resilio import _backends
from resilio._context import variables
from resilio._context.frames import entered_in, generator_behind
from resilio._context.process_switch import say_once
from resilio._failures.outcome import Outcome
from resilio._native.strategies import TriedBlock, Tries, release

if TYPE_CHECKING:
    from resilio._native.core import Permit
    from resilio._native.strategies import RetryGate

__all__ = ["AsyncAttempts", "Attempts", "RetryAttempt"]


class Retries(Protocol):
    """The policy by which a block is run again."""

    _gate: RetryGate

    def _hold(self) -> Permit:
        """Return a permit for the whole call."""
        ...


class RetryAttempt(TriedBlock):
    """
    One run of the block: `with attempt:`. What the block raises is swallowed if there is another attempt.

    A block that raises nothing has succeeded, unless its result was passed to :meth:`result` and is judged a failure.
    """

    __slots__ = ("_number",)

    def __init__(self, loop: _Loop, number: int) -> None:  # noqa: ARG002 - the core keeps it
        """Make the attempt of one turn of a loop."""
        self._number = number

    @property
    def number(self) -> int:
        """The attempt's number, from 1."""
        return self._number

    def result(self, value: object) -> None:
        """
        Judge the block's result by the policy's `failed_if`.

        If it is a failure and there is another attempt, the value is closed (`aclose()` or `close()`, if it has one)
        and the loop goes on; else the loop ends, and the caller owns the value. Do not leave such a block by `return`.

        Args:
            value: The result.
        """
        self._loop.judge(value)

    def __enter__(self) -> Self:
        """Begin the attempt."""
        self._loop.enter(generator_behind(entered_in(sys._getframe(1))))
        return self

    def __repr__(self) -> str:
        return f"<RetryAttempt {self._number}>"


class _Loop:
    """One call: the common part of both kinds of iterators."""

    __slots__ = ("_bypassed", "_failed", "_permit", "_policy", "_state", "_tries", "_wait")

    threaded = True

    def __init__(self, policy: Retries) -> None:
        self._policy = policy
        self._permit: Permit | None = None
        self._tries = Tries(policy._gate)
        self._bypassed = variables.bypass.get()
        if self._bypassed:
            say_once()
        self._failed: tuple[object, ...] = ()
        self._wait: float | None = 0.0
        self._state = "new"

    def begin(self) -> RetryAttempt:
        """Make the next attempt."""
        if self._permit is None:
            self._permit = self._policy._hold()
        else:
            self._at("attempt", self._tries.number)
        self._state = "made"
        return RetryAttempt(self, self._tries.number)

    def enter(self, generator: object) -> None:
        """Begin the attempt that was made last."""
        if self._state != "made":
            raise RuntimeError("each attempt is for one block: write `for attempt in retrying(...): with attempt: ...`")
        self._state = "open"
        self._failed, self._wait = (), None
        if self._bypassed:
            return
        try:
            self._tries.enter(generator)
        except BaseException:  # a Ctrl-C after the work was done
            self._tries.leave()
            raise

    def judge(self, value: object) -> None:
        """Keep a result that is a failure."""
        if self._state != "open":
            raise RuntimeError("result() belongs inside of the attempt's block")
        judge = self._policy._gate.judge_value
        failed = not self._bypassed and judge is not None and judge(value) in (Outcome.FAILURE, Outcome.REFUSED)
        self._failed = (value,) if failed else ()

    def leave(self, error: BaseException | None) -> bool:
        """End the attempt; return True if there is another."""
        self._state = "left"
        if error is None:
            if self._failed:
                self._at("own")
            else:
                self._tries.succeeded()
                self._ended().success()
            return False
        if isinstance(error, Exception) and not self._bypassed:
            self._at("own")  # a predicate may take its time
            self._wait = self._tries.raised(error, self.threaded)
            if self._wait is not None:
                self._at("retry_sleep")
                return True
            shown, self._tries.shown = self._tries.shown or error, None
            self._give_up(shown)
            if shown is not error:
                raise shown
            return False
        self._ended().raised(error)
        return False

    def turn(self) -> bool:
        """Return True if there is another attempt, after `_wait` seconds."""
        if self._state in ("made", "open"):
            raise RuntimeError("the attempt was not run: write `for attempt in retrying(...): with attempt: ...`")
        if self._failed:
            self._wait = self._tries.returned(self._failed[0], self.threaded)
            if self._wait is None:
                self._failed = ()
                self._give_up(None)
        return self._wait is not None

    def abandon(self) -> None:
        """End the call when a Ctrl-C has cut a wait short; before the first attempt there is no permit yet."""
        self._tries.refund()
        if self._permit is not None:
            self._ended().ignore()
        self._wait = None

    def taken(self) -> tuple[object, ...]:
        """Return the failed result to be closed, if there is one, and release it from the loop."""
        failed, self._failed = self._failed, ()
        return failed

    def _at(self, segment: str, attempt: int = 0) -> None:
        """Count the call's time as this segment of this attempt from now on; 0: the latest attempt."""
        cast("Permit", self._permit)._at(segment, attempt)

    def _give_up(self, error: BaseException | None) -> None:
        if self._tries.counts:
            self._ended().failure(error)
        else:
            self._ended().ignore()

    def _ended(self) -> Permit:
        permit, self._permit = self._permit, None
        return cast("Permit", permit)  # held from the first attempt to the end


def _seconds(wait: float | None) -> float:
    return 0.0 if wait is None or variables.no_wait.get() else wait


class Attempts(_Loop):
    """The loop of `for`."""

    __slots__ = ()

    def __iter__(self) -> Self:
        return self

    def __next__(self) -> RetryAttempt:
        if not self.turn():
            raise StopIteration
        try:
            for failed in self.taken():
                release(failed, False)
            if seconds := _seconds(self._wait):
                self._at("retry_sleep")
                _backends.sleep(seconds)
        except BaseException:
            self.abandon()
            raise
        return self.begin()


class AsyncAttempts(_Loop):
    """The loop of `async for`."""

    __slots__ = ()

    threaded = False

    def __aiter__(self) -> Self:
        return self

    async def __anext__(self) -> RetryAttempt:
        if not self.turn():
            raise StopAsyncIteration
        try:
            for failed in self.taken():
                await _closed(release(failed, True))
            if seconds := _seconds(self._wait):
                self._at("retry_sleep")
                await _backends.asleep(seconds)
        except BaseException:
            self.abandon()
            raise
        return self.begin()


async def _closed(closing: Any) -> None:
    if closing is None:
        return
    try:
        await closing
    except Exception as error:  # noqa: BLE001 - the result is discarded, closed or not
        from resilio._events import log

        log.say(log.DEBUG, "a failed result could not be closed", error=error)
