"""
What a response holds of policies until its body has ended: the permits, and who ends them.

A call over the network returns with the headers; what it cost ends with the body. So its permits are taken out of the
call and put with the body. They are settled once, by the first of: the body's end, an error in it, the client closing
it, the collector finding that nobody will. Settling is synchronous and may happen in any thread.
"""

from __future__ import annotations

from contextlib import suppress
from typing import TYPE_CHECKING, Any

from resilio import _log
from resilio._native import clock
from resilio._native.body import Held, next_untold, note_abandoned, untold
from resilio._outcome import Outcome

if TYPE_CHECKING:
    from resilio._native.core import Permit

__all__ = ["Held", "Lease", "settle", "tell", "untold"]

LOG_EVERY = 60.0
"""Seconds between two lines in the log about what is abandoned, for each label."""
MOST_LABELS = 1000


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
_note_abandoned = note_abandoned


def tell() -> None:
    """Log what has been abandoned since the last time, for each label at most one line in `LOG_EVERY` seconds."""
    while (label := next_untold()) is not None:
        now = clock.now_ns() / 1e9
        if 0 <= now - _logged.get(label, -LOG_EVERY) < LOG_EVERY:
            continue
        if len(_logged) >= MOST_LABELS:
            _logged.clear()
        _logged[label] = now
        text = "%s: a response was dropped before its body had ended; its permit came back when it was collected"
        _log.say(_log.WARNING, text, label, fields={"policy": label})
