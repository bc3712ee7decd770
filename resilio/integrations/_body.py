"""
What a response holds of policies until its body has ended: the permits, and who ends them.

A call over the network returns with the headers; what it cost ends with the body. So its permits are taken out of the
call and put with the body. They are settled once, by the first of: the body's end, an error in it, the client closing
it, the collector finding that nobody will. Settling is synchronous and may happen in any thread.
"""

from __future__ import annotations

from collections import deque
from contextlib import suppress
from typing import TYPE_CHECKING, Any

from resilio import _log
from resilio._native import clock
from resilio._outcome import Outcome

if TYPE_CHECKING:
    from resilio._native.core import Permit

__all__ = ["Held", "Lease", "settle", "tell", "untold"]

LOG_EVERY = 60.0
"""Seconds between two lines in the log about what is abandoned, for each label."""
MOST_LABELS = 1000


class Held:
    """
    The permits of one response: what they end as is said once, by whoever is first; all later calls change nothing.

    Dropped with permits, it has been abandoned.
    """

    __slots__ = ("__weakref__", "_permits", "label")

    def __init__(self, label: str = "a response") -> None:
        """
        Begin without any.

        Args:
            label: What is abandoned, for the log.
        """
        self._permits: list[Permit] = []
        self.label = label

    def __bool__(self) -> bool:
        return bool(self._permits)

    def add(self, permit: Permit) -> None:
        """Take a permit, whose answer has been judged by `permit.answered(...)`."""
        self._permits.append(permit)

    # A list's own atomicity decides: of a reader, a task that closes and a collector, one gets each permit. What was
    # ended by hand is left alone.

    def ended(self) -> None:
        """The body is complete: each gate counts what it has thought of the headers."""
        permits = self._permits
        while permits:
            try:
                permits.pop().complete()
            except (IndexError, RuntimeError):
                continue

    def failed(self, error: BaseException) -> None:
        """The body broke off with `error`: each gate judges it by its own rules, a cancellation is no outcome."""
        permits = self._permits
        while permits:
            try:
                permits.pop().raised(error)
            except (IndexError, RuntimeError):
                continue

    def aborted(self) -> None:
        """The caller wants no more: no outcome, unless the headers already were a failure."""
        permits = self._permits
        while permits:
            try:
                permits.pop().abort()
            except (IndexError, RuntimeError):
                continue

    def abandoned(self) -> None:
        """Nobody closed it: as `aborted`, counted by each gate and logged now and then."""
        permits, found = self._permits, False
        while permits:
            try:
                permits.pop().abandon()
                found = True
            except (IndexError, RuntimeError):
                continue
        if found:
            _note_abandoned(self.label)

    def _next(self) -> Permit | None:
        """Take a permit that nobody else has taken, for those who end it in a way of their own."""
        try:
            return self._permits.pop()
        except IndexError:
            return None

    def __del__(self) -> None:
        if self._permits:
            self.abandoned()


class Lease(Held):
    """
    The permits of one answer, which end together, once: by whatever ends the answer first, in any thread.

    A permit that is added after that ends at once, in the same way.
    """

    __slots__ = ("_error", "_how")

    def __init__(self, label: str) -> None:
        """
        Hold nothing yet.

        Args:
            label: What is abandoned, for the log.
        """
        super().__init__(label)
        self._how: str | None = None
        self._error: BaseException | None = None

    @property
    def over(self) -> bool:
        """Whether the answer has ended."""
        return self._how is not None

    def take(self, permit: Permit, answer: Any) -> None:
        """Hold a permit, whose gates judge the answer by what there is of it."""
        permit.answered(answer)
        self.hold(permit)

    def hold(self, permit: Permit) -> None:
        """Hold a permit."""
        self.add(permit)
        if self._how is not None:
            self._settle()

    def end(self, how: str, error: BaseException | None = None) -> None:
        """
        End all permits, unless that was done before.

        Args:
            how: "ended", "failed", "aborted" or "abandoned", as `Held` has it; or "success", "failure" or "ignore": the
                verdict for all gates.

            error: What the answer has ended with.
        """
        if self._how is None:
            self._error = error
            self._how = how
            self._settle()

    def _settle(self) -> None:
        how, error = self._how, self._error
        if how in ("ended", "aborted", "abandoned"):
            getattr(self, how)()
        elif how == "failed" and error is not None:
            self.failed(error)
        else:
            while permit := self._next():
                with suppress(RuntimeError):  # ended by hand
                    permit.failure(error) if how == "failure" else getattr(permit, str(how))()


def settle(permit: Permit, error: BaseException, blamed: BaseException | Outcome) -> None:
    """
    End the permit of an attempt that has raised.

    Args:
        permit: It was held for the attempt.

        error: What was raised.

        blamed: What that says of the dependency, as `Exchange.blame` has it.
    """
    if isinstance(blamed, BaseException):
        permit.raised(blamed)  # here, where the strategies around are: they know whose cancellation it is
    elif blamed is Outcome.FAILURE:
        permit.failure(error)
    elif blamed is Outcome.SUCCESS:
        permit.success()
    else:
        permit.ignore()


_logged: dict[str, float] = {}
_untold: deque[str] = deque(maxlen=MOST_LABELS)


def _note_abandoned(label: str) -> None:
    """Remember what to log: a finaliser runs in the middle of anything, a handler's own lock included."""
    if label not in _untold:
        _untold.append(label)


def tell() -> None:
    """Log what has been abandoned since the last time, for each label at most one line in `LOG_EVERY` seconds."""
    while _untold:
        label = _untold.popleft()
        now = clock.now_ns() / 1e9
        if 0 <= now - _logged.get(label, -LOG_EVERY) < LOG_EVERY:
            continue
        if len(_logged) >= MOST_LABELS:
            _logged.clear()
        _logged[label] = now
        text = "%s: a response was dropped before its body had ended; its permit came back when it was collected"
        _log.say(_log.WARNING, text, label, fields={"policy": label})


def untold() -> bool:
    """Tell whether `tell` has something to say."""
    return bool(_untold)
