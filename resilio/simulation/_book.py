"""What is counted while a stack is simulated: by outcome, by load, by reason, and over time."""

from __future__ import annotations

from collections import Counter

from resilio import LatencyHistogram
from resilio._native.simulation import BEGIN_NS
from resilio.simulation._scenario import Scenario

__all__ = ["FATES", "Book", "Slice"]

FATES: tuple[str, ...] = ("good", "late", "failed", "refused", "gave_up", "unfinished")
"""
What becomes of a task: an answer in time, an answer too late, an error, a refusal by a policy of the client's, a caller
who went away, no end within the run.
"""

_SLICES = 120  # of the time line, at most
_BINS = 100  # in a window: how finely the time to recover is known


class Slice:
    """What happened in one stretch of the time line; tasks count where they arrived."""

    __slots__ = ("arrived", "fates", "latency", "offered", "sent")

    def __init__(self) -> None:
        self.offered = 0
        self.fates = dict.fromkeys(FATES, 0)
        self.sent = 0
        self.arrived = 0
        self.latency: LatencyHistogram | None = None


class Book:
    """
    The counts of one run.

    Args:
        scenario: What is simulated.

    Attributes:
        by_load: How many tasks of each load had each fate, after the warm-up.

        refusals: How often who refused, and why.

        failures: How often tasks ended with which error.

        sent: Attempts that left the clients.
    """

    def __init__(self, scenario: Scenario) -> None:
        self.by_load = {load.name: dict.fromkeys(FATES, 0) for load in scenario.load}
        self.latencies = {load.name: LatencyHistogram() for load in scenario.load}
        self.calls = {load.name: load.calls for load in scenario.load}
        self.offered = 0
        self.refusals: Counter[tuple[str, str]] = Counter()
        self.failures: Counter[str] = Counter()
        self.sent = self.received = self.in_outage = self.done = self.wasted = self.requests = 0
        self.width = slice_width(scenario.duration)
        self.bin = scenario.window / _BINS
        self.slices = [Slice() for _ in range(-int(-scenario.duration // self.width))]
        self.offered_bins = [0] * (int(scenario.duration / self.bin) + 2)
        self.good_bins = [0] * len(self.offered_bins)
        self._warm_ns = BEGIN_NS + round(scenario.warmup * 1e9)
        self._deadline_ns = round(scenario.deadline * 1e9)
        self._slice_ns = round(self.width * 1e9)
        self._bin_ns = round(self.bin * 1e9)
        self._last = len(self.slices) - 1

    def _at(self, now_ns: int) -> Slice:
        return self.slices[min(self._last, (now_ns - BEGIN_NS) // self._slice_ns)]

    # ---- tasks -------------------------------------------------------------------------------------------------------

    def begun(self, now_ns: int) -> None:
        """Count a task that arrives."""
        self.offered += 1
        self._at(now_ns).offered += 1
        self.offered_bins[(now_ns - BEGIN_NS) // self._bin_ns] += 1

    def answered(self, load: str, born_ns: int, now_ns: int) -> None:
        """Count a task that has its answer."""
        took = now_ns - born_ns
        part = self.slices[min(self._last, (born_ns - BEGIN_NS) // self._slice_ns)]
        if part.latency is None:
            part.latency = LatencyHistogram()
        part.latency.record_ns(took)
        if took <= self._deadline_ns:
            fate = "good"
            self.good_bins[(born_ns - BEGIN_NS) // self._bin_ns] += 1
        else:
            fate = "late"
        part.fates[fate] += 1
        if born_ns >= self._warm_ns:
            self.by_load[load][fate] += 1
            self.latencies[load].record_ns(took)

    def ended(self, load: str, born_ns: int, fate: str, why: str = "") -> None:
        """Count a task that ends without an answer."""
        self._at(born_ns).fates[fate] += 1
        if born_ns >= self._warm_ns:
            self.by_load[load][fate] += 1
        if why:
            self.failures[why] += 1

    # ---- requests ----------------------------------------------------------------------------------------------------

    def attempted(self, now_ns: int) -> None:
        """Count an attempt that leaves a client."""
        self.sent += 1
        self._at(now_ns).sent += 1

    def arrived(self, now_ns: int) -> None:
        """Count a request that has reached a replica."""
        self.received += 1
        self._at(now_ns).arrived += 1

    def served(self, *, wasted: bool) -> None:
        """Count work that is done, for nobody if `wasted`."""
        self.done += 1
        self.wasted += wasted

    def refused(self, who: str, reason: str) -> None:
        """Count a refusal."""
        self.refusals[who, reason] += 1


def slice_width(duration: float) -> float:
    """Return a round number of seconds of which at most 120 make up the duration."""
    width = 1e-6
    while True:
        for step in (1, 2, 5):
            if duration <= _SLICES * width * step:
                return width * step
        width *= 10
