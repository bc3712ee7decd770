"""An endpoint in its pool: what its calls pass."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from resilio._failures.outcome import Judge, Outcome
from resilio._native import core
from resilio._policies.pool.face import EndpointView
from resilio._policies.server_pauses import is_of_a_sheddable_call, note_as_made, pause_for
from resilio.errors import RejectedError

if TYPE_CHECKING:
    from resilio._native.core import Gate
    from resilio._native.pool import Seat
    from resilio._policy.base import Policy

__all__ = ["Placed"]


class Placed(EndpointView, core.Pipeline):
    """An endpoint in its pool: its seat, and the gates of its own policy."""

    def __init__(self, seat: Seat, policy: Policy[Any], place: int) -> None:
        """Put the endpoint of `seat` at a place."""
        super().__init__((seat, *policy.gates))
        for gate in policy.gates:
            belong_to: Any = getattr(gate, "belong_to", None)
            if belong_to is not None:
                belong_to(seat.endpoint)
        self.seat = seat
        self.policy = policy
        self.place = place
        self.weight: float = seat.endpoint.weight
        self.drained = False

    def belong_to(self, pool: Any) -> None:
        """Report as this pool, and judge outcomes as it does."""
        self.seat.policy = pool
        self.seat.name = pool.name
        self.seat.listening = pool._gate.listening
        self.seat.on_trip = _learn
        self.judge_as(pool._gate)

    def judge_as(self, gate: Gate) -> None:
        """Judge outcomes by the rules of a gate."""
        for rule in ("judge_error", "judge_value", "replay_error", "replay_value", "error_rule", "value_rule"):
            setattr(self.seat, rule, getattr(gate, rule))


def _learn(seat: Any, subject: object, outcome: int) -> None:
    """
    Learn from a call that was no success.

    Args:
        seat: That of the endpoint.

        subject: The exception or the answer, or what is kept of it.

        outcome: The verdict, an :class:`resilio.Outcome`.
    """
    if outcome != Outcome.IGNORED:
        _heed(seat, subject, refused=outcome == Outcome.REFUSED)
    elif isinstance(subject, RejectedError):  # by a policy further in, like that of the client which the function uses
        seat.charge()
    elif isinstance(subject, Exception) or not isinstance(subject, BaseException):  # a cancellation is no answer
        seat.unserved()


def _heed(seat: Any, subject: object, *, refused: bool) -> None:
    """Leave an endpoint alone for as long as its answer asks for; after a refusal without a time for a short one."""
    if is_of_a_sheddable_call():
        if refused:
            seat.charge()
        return
    pause = pause_for(subject, spread_out=False)
    if pause is not None:
        seat.hold(pause)
        note_as_made(subject)
    elif refused:
        seat.hold_refused()


def raised_is_unserved(judge: Judge | None) -> Judge | None:
    """Return the judge of exceptions for a seat: one that shows no failure is ignored, as no call was served."""
    if judge is None:
        return None

    def of_seat(error: Any) -> Outcome:
        outcome = judge(error)
        return Outcome.IGNORED if outcome == Outcome.SUCCESS else outcome

    return of_seat
