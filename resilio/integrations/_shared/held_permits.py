"""
The permits that an answer holds until its body has ended, and what ends them.

A call over the network returns with the headers; what it cost ends with the body. So its permits are taken out of the
call and put with the body. They are settled once, by the first of: the body's end, an error in it, the client closing
it, the collector finding that nothing reads it any more. Settling is synchronous and may happen in any thread.
"""

from __future__ import annotations

from collections.abc import Callable
from contextlib import suppress
from typing import Any

from resilio._events import log
from resilio._failures.outcome import Outcome
from resilio._native import clock
from resilio._native.core import Permit, defer

__all__ = ["HeldPermits", "Lease", "log_abandoned", "settle"]

LOG_EVERY = 60.0
"""Seconds between two lines in the log about abandoned answers, for each label."""
MOST_LABELS = 1000


class HeldPermits:
    """
    The permits of one answer: the first of its methods ends them, all later calls change nothing.

    Dropped with permits, the answer has been abandoned. A permit that was ended by hand stays as it is.
    """

    # A list's own atomicity decides: of a reader, a task that closes and a collector, one gets each permit.

    __slots__ = ("__weakref__", "_permits", "label")
    label: str

    def __init__(self, label: str = "a response") -> None:
        """
        Hold nothing yet.

        Args:
            label: Name of the answer in the log, if it is abandoned.
        """
        self._permits: list[Permit] = []
        self.label = label

    def __bool__(self) -> bool:
        return bool(self._permits)

    def add(self, permit: Permit) -> None:
        """Take a permit, whose answer has been judged by `permit.answered(...)`."""
        self._permits.append(permit)

    def ended(self) -> None:
        """End the permits of a complete body: each gate counts its verdict on the headers."""
        permits = self._permits
        while permits:  # as `_end`, without its frame: most answers end here
            try:
                permits.pop().complete()
            except (IndexError, RuntimeError):
                continue

    def failed(self, error: BaseException) -> None:
        """End the permits of a body that broke off: each gate judges `error`, a cancellation is no outcome."""
        while (permit := self._next()) is not None:
            with suppress(RuntimeError):
                permit.raised(error)

    def aborted(self) -> None:
        """End the permits of a body that was closed early: no outcome, unless the headers already were a failure."""
        self._end(Permit.abort)

    def abandoned(self) -> None:
        """End the permits of a body that was dropped: as `aborted`, counted by each gate and logged now and then."""
        if self._end(Permit.abandon):
            log_abandoned(self.label)

    def _end(self, how: Callable[[Permit], None]) -> bool:
        """End all permits that are left; False if there were none, or all were ended by hand."""
        found, permits = False, self._permits
        while permits:
            try:
                how(permits.pop())
            except (IndexError, RuntimeError):
                continue
            found = True
        return found

    def _next(self) -> Permit | None:
        """Take a permit that no other thread has taken; None if none is left."""
        try:
            return self._permits.pop()
        except IndexError:
            return None

    def __del__(self) -> None:
        if self._permits:
            self.abandoned()


class Lease(HeldPermits):
    """
    The permits of one answer, which end together, once: by whatever ends the answer first, in any thread.

    A permit that is added after that ends at once, in the same way.
    """

    __slots__ = ("_error", "_how")

    def __init__(self, label: str) -> None:
        """
        Hold nothing yet.

        Args:
            label: Name of the answer in the log, if it is abandoned.
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

    def first_item(self) -> None:
        """Measure latency up to now: the first part of the answer is here."""
        for permit in list(self._permits):
            permit.first_item()

    def end(self, how: str, error: BaseException | None = None) -> None:
        """
        End all permits, unless that was done before.

        Args:
            how: "ended", "failed", "aborted" or "abandoned", as `HeldPermits` has it; or "success", "failure",
                "refused", "unserved" or "ignore": the verdict for all gates.

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
                    end = getattr(permit, str(how))
                    end(error) if how in ("failure", "refused", "unserved") else end()


def settle(permit: Permit, error: BaseException, blamed: BaseException | Outcome) -> None:
    """
    End the permit of an attempt that has raised.

    Args:
        permit: The permit of the attempt.

        error: The exception.

        blamed: The meaning of the exception for the dependency, as `Request.blame` returns it.
    """
    if isinstance(blamed, BaseException):
        permit.raised(blamed)  # inside the strategies, which know the origin of a cancellation
    elif blamed is Outcome.FAILURE:
        permit.failure(error)
    elif blamed is Outcome.REFUSED:
        permit.refused(error)
    elif blamed is Outcome.SUCCESS:
        permit.unserved(error)
    else:
        permit.ignore()


_logged: dict[str, float] = {}


def log_abandoned(label: str) -> None:
    """Log an abandoned answer, at most one line in `LOG_EVERY` seconds a label; for finalisers."""
    defer(_log_now, label)


def _log_now(label: str) -> None:
    now = clock.now_ns() / 1e9
    if 0 <= now - _logged.get(label, -LOG_EVERY) < LOG_EVERY:
        return
    if len(_logged) >= MOST_LABELS:
        _logged.clear()
    _logged[label] = now
    text = "%s: a response was dropped before its body had ended; its permit came back when it was collected"
    log.say(log.WARNING, text, label, fields={"policy": label})
