"""
Sockets of clients for threads wait no longer than timeouts and deadlines leave: computed anew before each wait.

The time that is left is the least of what the client's own timeout gives, of the attempt's timeout, and of the ambient
deadline. The body of an answer has what a fixed timeout, or a deadline of the policy, has left of the whole; what a
learned timeout has learned is the time to the headers, so for a body its ceiling bounds silence alone.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from resilio._context import variables
from resilio._native import clock
from resilio._native.core import ambient_deadline, seconds_left
from resilio._options.quantile import Quantile
from resilio._strategies.time_limit import TimeLimit, late_error
from resilio.errors import CallTimeoutError, DeadlineExceededError, ResilienceError
from resilio.integrations._shared.guarded_call import gates_of

if TYPE_CHECKING:
    from resilio._native.core import Permit
    from resilio._native.strategies import TimeoutGate
    from resilio._policy.base import Policy
    from resilio.integrations._shared.held_permits import HeldPermits

__all__ = ["BodyTime", "BodyTimes", "end_late", "end_out_of_time", "late_of", "left_of", "narrow_reads", "wait"]

_TIMEOUTS = {"Timeout", "TimeoutError", "TimeoutException"}
"""What clients call the broadest class of their timeouts."""

Translate = Callable[[Exception], Exception]


def left_of(timeout: float | None) -> float | None:
    """
    Return the seconds that a wait may take, > 0; None: as long as it takes.

    Args:
        timeout: What the client's own timeout gives it.
    """
    left = seconds_left()
    if left is None:
        return timeout
    left = max(left, 1e-6)  # 0 means to a socket that it must not wait
    return left if timeout is None or left < timeout else timeout


def wait(call: Callable[..., Any], timeout: float | None, told: Translate, *args: Any, **options: Any) -> Any:
    """
    Call something that waits for a network, for no longer than is left.

    Args:
        call: Takes `timeout` by name.

        timeout: What the client's own timeout gives it.

        told: Returns an error of resilio's as the client's users know errors.

        args: Of the call.

        options: Of the call, by name.
    """
    if seconds_left() is None:
        return call(*args, timeout=timeout, **options)
    late = late_error()  # also where there is always something to read
    if late is not None:
        raise told(late)
    try:
        return call(*args, timeout=left_of(timeout), **options)
    except Exception as error:
        late = late_of(error)
        if late is None:
            raise
        raise told(late) from error


def late_of(error: BaseException) -> Exception | None:
    """
    Return what to raise in place of a client's error, None if it is not the end of a timeout or a deadline.

    Args:
        error: Of any client; one that says of itself that it is a timeout.
    """
    if isinstance(error, ResilienceError):
        return None  # it was found nearer to the socket
    names = {kind.__name__ for kind in type(error).__mro__}
    return late_error() if names & _TIMEOUTS else None


def narrow_reads(request: Any, seconds: float) -> Any:
    """
    Have a client of httpx wait no longer for the next bytes, by what a request says to any transport.

    Args:
        request: Of httpx or httpx2.

        seconds: The most that its read timeout may be.

    Returns:
        What it said before, None if nothing: the same request may be sent again, or be followed by one that takes over
        what it says.
    """
    given = request.extensions.get("timeout")
    times = dict(given or {})
    before = times.get("read")
    times["read"] = seconds if before is None else min(before, seconds)
    request.extensions["timeout"] = times
    return given


def end_late(permit: Permit, error: BaseException) -> bool:
    """
    End the permit of gates inside of the timeout, or the deadline, that has ended a call; False: nothing of that is so.

    Args:
        permit: It was held for the call.

        error: What was raised.
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
    End all permits that an answer holds: a deadline has passed before the end of its body.

    Args:
        held: The body.

        error: What was raised.
    """
    while (permit := held._next()) is not None:
        permit.out_of_time(error)


class BodyTime:
    """The time of one body, entered around each step of reading it."""

    __slots__ = ("_silence", "_whole")

    def __init__(self, whole: tuple[TimeLimit, ...], silence: tuple[TimeoutGate, float] | None) -> None:
        """
        Begin with the body.

        Args:
            whole: By when all of it has to be there.

            silence: Whose clock bounds the time between two parts, and how many seconds it gives; None: no clock does.
        """
        self._whole = whole
        self._silence = silence

    def step(self) -> TimeLimit:
        """Return the time of the next step."""
        limits = list(self._whole)
        if self._silence is not None:
            gate, seconds = self._silence
            limits.append(TimeLimit(gate, clock.now_ns() + round(seconds * 1e9), seconds, "idle"))
        return min(limits, key=lambda limit: limit.until_ns)

    @property
    def longest_wait(self) -> float:
        """Seconds that nothing waits for longer than, whichever part it is for."""
        seconds = [limit.seconds for limit in self._whole]
        return min(seconds if self._silence is None else [*seconds, self._silence[1]])

    def late(self) -> Exception | None:
        """Return what to raise where all of the body had to be there by now, else None."""
        now_ns = clock.now_ns()
        passed = [limit for limit in self._whole if limit.until_ns <= now_ns]
        return min(passed, key=lambda limit: limit.until_ns).expired() if passed else None


class BodyTimes:
    """What a policy says of the time of bodies: made once for a client."""

    __slots__ = ("_deadline", "_idle", "acts")

    def __init__(self, policy: Policy[Any]) -> None:
        """Look at the policy's clocks."""
        clocks = gates_of(policy, "timeout")
        self._idle = next((gate for gate in clocks if gate.idle is not None), None)
        self._deadline = any(getattr(gate.policy, "bounds_bodies", True) for gate in gates_of(policy, "deadline"))
        self.acts = bool(clocks) or self._deadline

    def begin(self) -> BodyTime | None:
        """Return the time of the body whose headers are here: called within the attempt; None: it has all there is."""
        limit: TimeLimit | None = variables.time_limit.get()
        whole: list[TimeLimit] = []
        silence = None if self._idle is None or self._idle.idle is None else (self._idle, self._idle.idle)
        config = None if limit is None or limit.gate is None else getattr(limit.gate.policy, "config", None)
        if config is not None and limit is not None and limit.gate is not None:
            if isinstance(config.total, Quantile):
                silence = silence or (limit.gate, config.ceiling)
            elif limit.clock == "total":
                whole.append(limit)
            elif config.total is not None:
                begun_ns = limit.until_ns - round(limit.seconds * 1e9)
                whole.append(TimeLimit(limit.gate, begun_ns + round(config.total * 1e9), config.total))
        if self._deadline:
            whole += _deadline_around(limit)
        return BodyTime(tuple(whole), silence) if whole or silence else None


def _deadline_around(limit: TimeLimit | None) -> list[TimeLimit]:
    """The deadline of the policy, or a nearer one around it."""
    deadline = ambient_deadline() if limit is None else limit.around
    return [] if deadline is None else [TimeLimit(None, deadline.until_ns, deadline.allowed_ns / 1e9)]
