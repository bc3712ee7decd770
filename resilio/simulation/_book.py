"""What is counted while a stack is simulated: by outcome, by load, by reason, and over time."""

from __future__ import annotations

from collections import Counter

from resilio._native.simulation import BEGIN_NS, Counts, Tally
from resilio.simulation._scenario import Scenario

__all__ = ["FATES", "Book", "fates_of"]

FATES: tuple[str, ...] = ("good", "late", "failed", "refused", "gave_up", "unfinished")
"""
What becomes of a task: an answer in time, an answer too late, an error, a refusal by a policy of the client's, a caller
who went away, no end within the run.
"""

_SLICES = 120  # of the time line, at most
_BINS = 100  # in a window: how finely the time to recover is known


class Book(Tally):
    """
    The counts of one run.

    Args:
        scenario: What is simulated.

    Attributes:
        by_load: The counts of each load, by name, after the warm-up.

        refusals: How often who refused, and why.

        failures: How often tasks ended with which error.

        width: Seconds of a slice of the time line.

        bin: Seconds of what the time to recover is found in.
    """

    def __init__(self, scenario: Scenario) -> None:
        self.by_load = {load.name: Counts() for load in scenario.loads}
        self.refusals: Counter[tuple[str, str]] = Counter()
        self.failures: Counter[str] = Counter()
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

    def refused(self, who: str, reason: str) -> None:
        """Count a refusal."""
        self.refusals[who, reason] += 1


def fates_of(counts: Counts) -> dict[str, int]:
    """Return how many tasks had which fate."""
    return {fate: getattr(counts, fate) for fate in FATES}


def slice_width(duration: float) -> float:
    """Return a round number of seconds of which at most 120 make up the duration."""
    width = 1e-6
    while True:
        for step in (1, 2, 5):
            if duration <= _SLICES * width * step:
                return width * step
        width *= 10
