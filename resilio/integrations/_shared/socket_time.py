"""
Time limits for sockets of sync clients: each wait is bounded by the time left, computed anew.

The time left is the minimum of the client's own timeout, the attempt's timeout and the ambient deadline. The body of an
answer has the remainder of a fixed timeout, or of a deadline of the policy. A learned timeout is learned from the time
to the headers; for a body, only its ceiling counts, as a bound on the silence between two parts.
"""

from __future__ import annotations

from collections.abc import Callable
from operator import attrgetter
from typing import TYPE_CHECKING, Any

from resilio._context import variables
from resilio._native import clock
from resilio._native.core import ambient_deadline, seconds_left
from resilio._native.strategies import TimeLimit, late_error
from resilio.errors import CallTimeoutError, DeadlineExceededError, ResilienceError
from resilio.integrations._shared.guarded_call import gates_of

if TYPE_CHECKING:
    from resilio._native.core import Permit
    from resilio._native.strategies import TimeoutGate
    from resilio._policy.base import Policy
    from resilio.integrations._shared.held_permits import HeldPermits

__all__ = ["BodyTime", "BodyTimes", "end_late", "end_out_of_time", "late_of", "left_of", "narrow_reads", "wait"]

_TIMEOUTS = {"Timeout", "TimeoutError", "TimeoutException"}
"""Names of the base classes of clients' timeouts."""

Translate = Callable[[Exception], Exception]


def left_of(timeout: float | None) -> float | None:
    """
    Return the upper bound of a wait in seconds, > 0; None: no limit.

    Args:
        timeout: The client's own timeout, or None.
    """
    left = seconds_left()
    if left is None:
        return timeout
    left = max(left, 1e-6)  # 0 makes a socket non-blocking
    return left if timeout is None or left < timeout else timeout


def wait(call: Callable[..., Any], timeout: float | None, translate: Translate, *args: Any, **options: Any) -> Any:
    """
    Call a function that waits for a network, for no longer than the time left.

    Args:
        call: The function, with a keyword argument `timeout`.

        timeout: The client's own timeout, or None.

        translate: Translates an error of resilio into the client's terms.

        args: Positional arguments of the function.

        options: Keyword arguments of the function.
    """
    if seconds_left() is None:
        return call(*args, timeout=timeout, **options)
    late = late_error()  # also if data is always ready, so that no wait times out
    if late is not None:
        raise translate(late)
    try:
        return call(*args, timeout=left_of(timeout), **options)
    except Exception as error:
        late = late_of(error)
        if late is None:
            raise
        raise translate(late) from error


def late_of(error: BaseException) -> Exception | None:
    """
    Return the error to raise in place of a client's timeout; None if no timeout or deadline of resilio has passed.

    Args:
        error: An error of any client, recognised as a timeout by its class name.
    """
    if isinstance(error, ResilienceError):
        return None  # translated already, nearer to the socket
    names = {kind.__name__ for kind in type(error).__mro__}
    return late_error() if names & _TIMEOUTS else None


def narrow_reads(request: Any, seconds: float) -> Any:
    """
    Narrow the read timeout of an httpx request, which any transport obeys.

    Args:
        request: A request of httpx or httpx2.

        seconds: Upper bound on its read timeout.

    Returns:
        The previous timeouts, or None, for restoring: the request may be sent again, or its timeouts be inherited by a
        redirect.
    """
    given = request.extensions.get("timeout")
    times = dict(given or {})
    before = times.get("read")
    times["read"] = seconds if before is None else min(before, seconds)
    request.extensions["timeout"] = times
    return given


def end_late(permit: Permit, error: BaseException) -> bool:
    """
    End a call's permit if a timeout or a deadline outside its gates ended the call. Return False if none did.

    Args:
        permit: The permit of the call.

        error: The call's exception.
    """
    if isinstance(error, CallTimeoutError):
        limit: TimeLimit | None = variables.time_limit.get()
        if limit is None or not limit.late:
            return False  # gates outside judge the exception by their own rules
        permit.failure(error)
        return True
    if isinstance(error, DeadlineExceededError) and error.called and seconds_left() == 0.0:
        permit.out_of_time(error)
        return True
    return False


def end_out_of_time(held: HeldPermits, error: BaseException) -> None:
    """
    End all permits of an answer, because a deadline passed before the end of its body.

    Args:
        held: The body.

        error: The exception of reading it.
    """
    while (permit := held._next()) is not None:
        permit.out_of_time(error)


class BodyTime:
    """The time limits of one body; `step` returns the one for each read."""

    __slots__ = ("_nearest", "_silence", "_whole")

    def __init__(self, whole: tuple[TimeLimit, ...], silence: tuple[TimeoutGate, float] | None) -> None:
        """
        Begin at the start of the body.

        Args:
            whole: Limits of the whole body.

            silence: The gate that bounds the time between two parts, and the bound in seconds; None: no bound.
        """
        self._whole = whole
        self._nearest = min(whole, key=_until) if whole else None
        self._silence = silence

    def step(self) -> TimeLimit:
        """Return the time limit of the next read."""
        whole = self._nearest
        if self._silence is None:
            return whole  # type: ignore[return-value]  # one of the two is there
        gate, seconds = self._silence
        until_ns = clock.now_ns() + round(seconds * 1e9)
        if whole is not None and whole.until_ns <= until_ns:
            return whole
        return TimeLimit(gate, until_ns, seconds, "idle")

    @property
    def longest_wait(self) -> float:
        """Upper bound, in seconds, on the wait for any part."""
        seconds = [limit.seconds for limit in self._whole]
        return min(seconds if self._silence is None else [*seconds, self._silence[1]])

    def late(self) -> Exception | None:
        """Return the error to raise if a limit of the whole body has passed, else None."""
        whole = self._nearest
        return whole.expired() if whole is not None and whole.until_ns <= clock.now_ns() else None


class BodyTimes:
    """A policy's time limits for bodies, computed once for a client."""

    __slots__ = ("_deadline", "_idle", "acts")

    def __init__(self, policy: Policy[Any]) -> None:
        """Collect the policy's clocks."""
        clocks = gates_of(policy, "timeout")
        self._idle = next((gate for gate in clocks if gate.idle is not None), None)
        self._deadline = any(getattr(gate.policy, "bounds_bodies", True) for gate in gates_of(policy, "deadline"))
        self.acts = bool(clocks) or self._deadline

    def begin(self) -> BodyTime | None:
        """Return the time limits of a body, None if it has none; called within the attempt, after its headers."""
        limit: TimeLimit | None = variables.time_limit.get()
        whole: tuple[TimeLimit, ...] = ()
        silence = None if self._idle is None or self._idle.idle is None else (self._idle, self._idle.idle)
        gate = None if limit is None else limit.gate
        if gate is not None and limit is not None:
            ceiling = gate.learned_ceiling
            if ceiling is None:
                whole = _whole(limit, gate)
            elif silence is None:
                silence = gate, ceiling
        if self._deadline:
            whole += _deadline_around(limit)
        return BodyTime(whole, silence) if whole or silence else None


_until = attrgetter("until_ns")


def _whole(limit: TimeLimit, gate: TimeoutGate) -> tuple[TimeLimit, ...]:
    """Return the limit of a call with its body, of which the limit of the call may be the first part."""
    if limit.clock == "total":
        return (limit,)
    if limit.total is None:
        return ()
    begun_ns = limit.until_ns - round(limit.seconds * 1e9)
    return (TimeLimit(gate, begun_ns + round(limit.total * 1e9), limit.total),)


def _deadline_around(limit: TimeLimit | None) -> tuple[TimeLimit, ...]:
    """Return the deadline of the policy, or a nearer one around it."""
    deadline = ambient_deadline() if limit is None else limit.around
    return () if deadline is None else (TimeLimit(None, deadline.until_ns, deadline.allowed_ns / 1e9),)
