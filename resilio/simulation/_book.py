"""Counts of one stack's simulation: by fate, by load, by reason, and over time."""

from __future__ import annotations

from collections import Counter

from resilio._native.simulation import BEGIN_NS, Counts, Tally
from resilio.simulation._scenario import Scenario

__all__ = ["FATES", "Book", "fates_of"]

FATES: tuple[str, ...] = ("good", "late", "failed", "rejected", "gave_up", "unfinished")
"""
Fates of a task: answered in time, answered too late, failed with an error, rejected by a policy of the client, given up
by its caller, not ended within the run.
"""

_SLICES = 120  # maximum number of slices of the time line
_BINS = 100  # in a window: the resolution of the time to recover


class Book(Tally):
    """
    The counts of one run.

    Args:
        scenario: The scenario.

    Attributes:
        by_load: Counts of each load, by name, after the warm-up.

        rejections: Number of rejections by policy and reason.

        failures: Number of failed tasks by type of error.

        trips: Exchanges with the store of the clients' fleet.

        width: Seconds of a slice of the time line.

        bin: Seconds of a bin, the resolution of the time to recover.
    """

    def __init__(self, scenario: Scenario) -> None:
        self.by_load = {load.name: Counts() for load in scenario.loads}
        self.rejections: Counter[tuple[str, str]] = Counter()
        self.failures: Counter[str] = Counter()
        self.trips = 0
        self.width = slice_width(scenario.duration)
        self.bin = scenario.window / _BINS
        recovers = scenario.recovery_from is not None
        super().__init__(
            [Counts() for _ in range(-int(-scenario.duration // self.width))],
            round(self.width * 1e9),
            round(scenario.deadline * 1e9),
            BEGIN_NS + round(scenario.warmup * 1e9),
            round(self.bin * 1e9) if recovers else 0,
            int(scenario.duration / self.bin) + 2 if recovers else 0,
        )

    def rejected(self, who: str, reason: str) -> None:
        """Count a rejection."""
        self.rejections[who, reason] += 1


def fates_of(counts: Counts) -> dict[str, int]:
    """Return the number of tasks by fate."""
    return {fate: getattr(counts, fate) for fate in FATES}


def slice_width(duration: float) -> float:
    """Return a round number of seconds that divides the duration into at most 120 slices."""
    width = 1e-6
    while True:
        for step in (1, 2, 5):
            if duration <= _SLICES * width * step:
                return width * step
        width *= 10
