"""
What happens to the dependency, and when: pure data and pure functions, without a clock.

Both runs of the demo meet the same schedule. What happens to one request depends on the seed, the request's identity
and the phase alone, so the same request meets the same fate in both runs if it arrives in the same phase.
"""

from __future__ import annotations

import random
from collections.abc import Iterable, Mapping, Sequence
from typing import Any, Literal

import attrs

__all__ = ["FULL", "QUICK", "Fate", "Phase", "Schedule", "fate_of", "service_seconds"]

Fate = Literal["answer", "hang", "unavailable", "reset"]

_SHAPE = 4  # of the gamma distribution of service times: a coefficient of variation of one half


def _pair(values: Sequence[float]) -> tuple[float, float]:
    first, last = values
    return first, last


@attrs.frozen
class Phase:
    """
    One stretch of the schedule.

    Attributes:
        name: What people call it.

        seconds: How long it lasts.

        slowdown: How many times the healthy service time a request takes at its beginning and at its end.

        hang: Share of the requests that are accepted and not worked on until the phase ends, 0..1.

        unavailable: Share that is rejected at once with 503, 0..1.

        reset: Share whose connection is reset, 0..1.
    """

    name: str
    seconds: float
    slowdown: tuple[float, float] = attrs.field(default=(1.0, 1.0), converter=_pair)
    hang: float = 0.0
    unavailable: float = 0.0
    reset: float = 0.0

    @property
    def down(self) -> bool:
        """True if no request of this phase gets a proper answer within it."""
        return self.hang + self.unavailable + self.reset > 0.999


@attrs.frozen
class Schedule:
    """The phases in order; after the last one its end state lasts."""

    phases: tuple[Phase, ...]

    @property
    def seconds(self) -> float:
        """How long all phases last together."""
        return sum(phase.seconds for phase in self.phases)

    def spans(self) -> list[tuple[Phase, float, float]]:
        """Give each phase with its begin and end in seconds from the start."""
        result: list[tuple[Phase, float, float]] = []
        begin = 0.0
        for phase in self.phases:
            result.append((phase, begin, begin + phase.seconds))
            begin += phase.seconds
        return result

    def at(self, seconds: float) -> tuple[Phase, float]:
        """
        Give the phase at a time and how much of it has passed.

        Args:
            seconds: Since the start; before it the first phase holds, after the end the last.

        Returns:
            The phase, and its progress in 0..1.
        """
        for phase, begin, end in self.spans():
            if seconds < end:
                return phase, max(0.0, (seconds - begin) / phase.seconds)
        return self.phases[-1], 1.0

    def outage(self) -> tuple[float, float] | None:
        """Give begin and end of the first phase that is down, or None if no phase is."""
        return next(((begin, end) for phase, begin, end in self.spans() if phase.down), None)

    def to_json(self) -> list[dict[str, Any]]:
        """Give the phases as plain data, to hand them to the server process."""
        return [attrs.asdict(phase) for phase in self.phases]

    @classmethod
    def from_json(cls, phases: Iterable[Mapping[str, Any]]) -> Schedule:
        """Read what `to_json` gave."""
        return cls(tuple(Phase(**phase) for phase in phases))


def _request_random(seed: int, request: str, purpose: str) -> random.Random:
    return random.Random(f"{seed}/{request}/{purpose}")


def fate_of(seed: int, request: str, phase: Phase) -> Fate:
    """
    Draw what happens to a request, the same for the same arguments.

    Args:
        seed: Of the run.

        request: The request's identity, unlike that of any other.

        phase: In which it arrives.

    Returns:
        "answer", "hang", "unavailable" or "reset", with the shares of the phase.
    """
    draw = _request_random(seed, request, "fate").random()
    if draw < phase.hang:
        return "hang"
    if draw < phase.hang + phase.unavailable:
        return "unavailable"
    if draw < phase.hang + phase.unavailable + phase.reset:
        return "reset"
    return "answer"


def service_seconds(seed: int, request: str, healthy: float, phase: Phase, progress: float) -> float:
    """
    Draw how long a worker of the server is busy with a request, the same for the same arguments.

    Args:
        seed: Of the run.

        request: The request's identity.

        healthy: Mean in seconds while all is well.

        phase: In which the work begins.

        progress: Of the phase, 0..1.

    Returns:
        Seconds, gamma distributed around the mean of that moment.
    """
    first, last = phase.slowdown
    mean = healthy * (first + (last - first) * progress)
    return _request_random(seed, request, "service").gammavariate(_SHAPE, mean / _SHAPE)


def _schedule(
    healthy: float, slow: float, down: float, recovering: float, after: float, *, slowdown: float
) -> Schedule:
    return Schedule(
        (
            Phase("healthy", healthy),
            Phase("slow", slow, slowdown=(slowdown, slowdown)),
            Phase("down", down, slowdown=(slowdown, slowdown), hang=0.6, unavailable=0.3, reset=0.1),
            Phase("recovering", recovering, slowdown=(1.5, 1.0)),
            Phase("healthy again", after),
        )
    )


FULL = _schedule(1.5, 2.0, 3.5, 1.5, 3.5, slowdown=3.0)
QUICK = _schedule(0.6, 0.7, 1.1, 0.5, 1.2, slowdown=1.8)
