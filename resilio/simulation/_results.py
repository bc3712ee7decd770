"""Results of a simulation: figures of each stack, and its time line."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

import attrs

from resilio import LatencyHistogram
from resilio.simulation._book import FATES, Book, fates_of
from resilio.simulation._scenario import Scenario

__all__ = ["Outcome", "Result", "outcome_of"]


@attrs.frozen
class Outcome:
    """
    Figures of one stack.

    Attributes:
        complete: Whether the run came to its end.

        ended_early: The reason if it did not, or None.

        elapsed: Simulated seconds.

        offered: Tasks that arrived after the warm-up: the sum of the next six.

        good: Tasks answered within the deadline.

        late: Tasks answered after it.

        failed: Tasks that ended with an error.

        rejected: Tasks that a policy of the client rejected.

        gave_up: Tasks whose caller ran out of patience.

        unfinished: Tasks that had not ended at the end of the run.

        success: Good tasks as a share of all; None without tasks.

        goodput: Good tasks a second.

        mean: Mean latency of answered tasks in seconds; None without answers.

        p50: Median latency of answered tasks in seconds; None without answers.

        p99: The same for the quantile 0.99.

        p999: The same for the quantile 0.999.

        requests: Calls that tasks made, each guarded by the client's policies. This and the following counts cover the
            whole run.

        attempts: Attempts that left the clients.

        amplification: Attempts for each call; None without calls.

        arrived: Requests that reached a replica.

        in_outage: Requests that met an outage; those that it held up arrive later.

        served: Requests that a worker finished.

        wasted: Served requests whose caller had given up, or whose answer was too late.

        trips: Exchanges with the store of the clients' fleet, each with all that a process asks.

        recovery: Seconds from the end of the last fault until the service recovers: the start of the first window with
            enough good tasks, relative to the time before the first fault (see `Scenario`). None if it never recovers,
            or if no fault ends within the run.

        rejections: Policy, reason and number of rejections.

        failures: Type of error and number of failed tasks.

        loads: Figures of each load, by name: offered, the six fates, success, p50, p99.

        timeline: For each slice its start, and the figures of the tasks that arrived in it.
    """

    complete: bool
    ended_early: str | None
    elapsed: float
    offered: int
    good: int
    late: int
    failed: int
    rejected: int
    gave_up: int
    unfinished: int
    success: float | None
    goodput: float
    mean: float | None
    p50: float | None
    p99: float | None
    p999: float | None
    requests: int
    attempts: int
    amplification: float | None
    arrived: int
    in_outage: int
    served: int
    wasted: int
    trips: int
    recovery: float | None
    rejections: tuple[tuple[str, str, int], ...]
    failures: tuple[tuple[str, int], ...]
    loads: dict[str, dict[str, Any]]
    timeline: tuple[dict[str, Any], ...]


@attrs.frozen
class Result(Mapping[str, Outcome]):
    """
    Result of a simulation: a mapping of the stacks' names to their outcomes.

    Attributes:
        scenario: The scenario.

        seed: The seed.

        outcomes: Outcomes by stack; fewer than the scenario's stacks if the simulation was stopped.
    """

    scenario: Scenario
    seed: int
    outcomes: dict[str, Outcome]

    def __getitem__(self, name: str) -> Outcome:
        return self.outcomes[name]

    def __iter__(self) -> Iterator[str]:
        return iter(self.outcomes)

    def __len__(self) -> int:
        return len(self.outcomes)

    @property
    def complete(self) -> bool:
        """True if the runs of all stacks came to their end."""
        done = all(outcome.complete for outcome in self.outcomes.values())
        return done and len(self.outcomes) == len(self.scenario.stacks)

    @property
    def ended_early(self) -> str | None:
        """The reason why the run of a stack ended early, or None."""
        return next((each.ended_early for each in self.outcomes.values() if each.ended_early), None)

    def to_dict(self) -> dict[str, Any]:
        """Return the result as data for JSON; the same seed gives the same data."""
        return {
            "title": self.scenario.title,
            "seed": self.seed,
            "complete": self.complete,
            "ended_early": self.ended_early,
            "deadline": self.scenario.deadline,
            "duration": self.scenario.duration,
            "clients": self.scenario.clients,
            "hosts": self.scenario.hosts,
            "stacks": {name: attrs.asdict(outcome) for name, outcome in self.outcomes.items()},
        }


def outcome_of(scenario: Scenario, book: Book, elapsed: float, ended_early: str | None) -> Outcome:
    """Return the figures of a book."""
    fates = {fate: sum(getattr(counts, fate) for counts in book.by_load.values()) for fate in FATES}
    offered = sum(fates.values())
    latency = LatencyHistogram()
    for each in book.by_load.values():
        latency.merge(each.latency)
    return Outcome(
        complete=ended_early is None,
        ended_early=ended_early,
        elapsed=_round(min(elapsed, scenario.duration)),
        offered=offered,
        **fates,
        success=_ratio(fates["good"], offered),
        goodput=_goodput(fates["good"], scenario, elapsed),
        **_latencies(latency),
        p999=_quantile(latency, 0.999),
        requests=book.requests,
        attempts=book.sent,
        amplification=_ratio(book.sent, book.requests),
        arrived=book.received,
        in_outage=book.in_outage,
        served=book.done,
        wasted=book.wasted,
        trips=book.trips,
        recovery=_recovery(scenario, book, elapsed),
        rejections=tuple((who, why, count) for (who, why), count in sorted(book.rejections.items())),
        failures=tuple(sorted(book.failures.items())),
        loads={name: _load(book, name) for name in book.by_load},
        timeline=tuple(_timeline(book, elapsed)),
    )


def _round(value: float) -> float:
    """Round to nanoseconds."""
    return round(value, 9)


def _ratio(part: int, whole: int) -> float | None:
    return part / whole if whole else None


def _goodput(good: int, scenario: Scenario, elapsed: float) -> float:
    counted = min(elapsed, scenario.duration) - scenario.warmup
    return good / counted if counted > 0 else 0.0


def _quantile(latency: LatencyHistogram, q: float) -> float | None:
    return _round(latency.quantile(q)) if latency.count else None


def _latencies(latency: LatencyHistogram) -> dict[str, Any]:
    mean = _round(latency.mean) if latency.count else None
    return {"mean": mean, "p50": _quantile(latency, 0.5), "p99": _quantile(latency, 0.99)}


def _load(book: Book, name: str) -> dict[str, Any]:
    counts = book.by_load[name]
    fates = fates_of(counts)
    offered = sum(fates.values())
    return {"offered": offered, **fates, "success": _ratio(counts.good, offered), **_latencies(counts.latency)}


def _timeline(book: Book, elapsed: float) -> Iterator[dict[str, Any]]:
    for number, part in enumerate(book.slices):
        begin = number * book.width
        if begin >= elapsed:
            return
        yield {
            "begin": _round(begin),
            "offered": part.offered,
            **fates_of(part),
            "attempts": part.sent,
            "arrived": part.arrived,
            "p50": _quantile(part.latency, 0.5),
            "p99": _quantile(part.latency, 0.99),
        }


def _recovery(scenario: Scenario, book: Book, elapsed: float) -> float | None:
    """Slide a window from the end of the last fault, until enough of its tasks are good."""
    since = scenario.recovery_from
    if since is None:
        return None
    needed = scenario.recovered * _before(scenario, book)
    per_window = round(scenario.window / book.bin)
    first = -int(-since // book.bin)
    for start in range(first, int(min(elapsed, scenario.duration) / book.bin) - per_window + 1):
        offered = sum(book.offered_bins[start : start + per_window])
        if offered and sum(book.good_bins[start : start + per_window]) >= needed * offered:
            return _round(max(0.0, start * book.bin - since))
    return None


def _before(scenario: Scenario, book: Book) -> float:
    """Return the success rate before the first fault; 1.0 if no tasks arrived before it."""
    begin = int(scenario.warmup / book.bin)
    end = int(min(fault.at for fault in scenario.faults) / book.bin)
    offered = sum(book.offered_bins[begin:end])
    return sum(book.good_bins[begin:end]) / offered if offered else 1.0
