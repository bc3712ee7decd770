"""The acts: what each asks for, of whom, and what happens to them. Pure data; `_service` has the code that asks."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

import attrs

from examples.demo._schedule import FULL, QUICK, Phase, Schedule

__all__ = ["HOME", "RUNS", "Act", "Site", "acts"]

RUNS = ("bare", "guarded")


@attrs.frozen
class Site:
    """
    A server: work queues up in the order of arrival for its few workers.

    Attributes:
        schedule: What happens to requests there, and when.

        workers: How many requests it works on at once.

        service: Mean seconds of work for a request while all is well.

        queue: How many requests may wait for a worker; more are rejected with 503.
    """

    schedule: Schedule
    workers: int
    service: float
    queue: int = 500

    def to_json(self) -> dict[str, Any]:
        """Give it as plain data, to hand it to the server process."""
        return attrs.asdict(self, recurse=False) | {"schedule": self.schedule.to_json()}

    @classmethod
    def from_json(cls, site: Mapping[str, Any]) -> Site:
        """Read what `to_json` gave."""
        return cls(**{**site, "schedule": Schedule.from_json(site["schedule"])})


@attrs.frozen
class Act:
    """
    What both runs of an act have in common.

    Attributes:
        name: "outage", "spike", "storm" or "region".

        title: What people read.

        guard: What the guarded run has that the bare one has not, in a line.

        schedule: Of the whole.

        sites: The servers by name.

        rates: Requests offered per second, for each thing that can be asked for.

        flaky: Which of these meets the trouble.

        patience: Seconds after which a caller of the service has no use for an answer.

        timeout: Of the client, in seconds.

        pool: Connections of the client.
    """

    name: str
    title: str
    guard: str
    schedule: Schedule
    sites: dict[str, Site]
    rates: dict[str, float]
    flaky: str
    patience: float
    timeout: float
    pool: int

    def to_json(self) -> dict[str, Any]:
        """Give what a reader of the figures has to know."""
        return {
            "guard": self.guard,
            "offered_per_second": self.rates,
            "client_timeout": self.timeout,
            "client_connections": self.pool,
            "patience": self.patience,
            "phases": self.schedule.to_json(),
        }


def _outage(schedule: Schedule, patience: float, workers: int, pool: int) -> Act:
    healthy = Schedule((Phase("healthy", 1.0),))
    return Act(
        name="outage",
        title="Outage: a dependency gets slow, goes down and comes back",
        guard="circuit_breaker() > bulkhead(20)",
        schedule=schedule,
        sites={"recommendations": Site(schedule, workers, 0.06), "checkout": Site(healthy, 32, 0.02)},
        rates={"recommendations": 12.5 * workers, "checkout": 5.0 * workers},  # three quarters of what it can do
        flaky="recommendations",
        patience=patience,
        timeout=patience,
        pool=pool,  # of which, while all is well, one in seven is busy
    )


def _pauses(seconds: float, begins: Iterable[float], *, stops: float = 1.0) -> Schedule:
    """Stop the world for `_PAUSE` at each of these times; or, for a name only, nothing."""
    phases: list[Phase] = []
    now = 0.0
    for begin in begins:
        phases += [Phase("well", begin - now), Phase("paused", _PAUSE, hang=stops)]
        now = begin + _PAUSE
    return Schedule((*phases, Phase("well", seconds - now)))


_PAUSE = 0.2  # seconds: a garbage collection, a compaction
_REPLICAS = 4


def _spike(pauses: int, every: float, rate: float) -> Act:
    seconds = every * (pauses + 0.75)
    begins = [every * (number + 1) for number in range(pauses)]
    replicas = [_pauses(seconds, begins[number::_REPLICAS]) for number in range(_REPLICAS)]
    return Act(
        name="spike",
        title=f"Latency spikes: in turns, one of {_REPLICAS} replicas pauses for {_PAUSE:g} s",
        guard="hedge(idempotent=True)",
        schedule=_pauses(seconds, begins, stops=0.0),
        sites={f"search {number}": Site(schedule, 8, 0.02) for number, schedule in enumerate(replicas)},
        rates={"search": rate},
        flaky="search",
        patience=1.0,
        timeout=1.0,
        pool=100,
    )


def _storm(healthy: float, down: float, after: float, patience: float) -> Act:
    """Let a caller wait for three attempts, each about six times as long as the server needs."""
    attempt = patience / 3
    schedule = Schedule((Phase("healthy", healthy), Phase("down", down, hang=1.0), Phase("healthy again", after)))
    return Act(
        name="storm",
        title="Retry storm: a server that hangs for a moment, at 80 % of its capacity",
        guard=f"retry(budget=RetryBudget()) > circuit_breaker() > timeout({attempt:g})",
        schedule=schedule,
        sites={"orders": Site(schedule, round(12 * attempt), 0.16 * attempt, queue=5_000)},
        rates={"orders": 60.0},
        flaky="orders",
        patience=patience,
        timeout=attempt,
        pool=1_000,
    )


HOME = "eu-1"
"""The zone that the service of the last act is in; its replicas there have this name and a number."""
_AWAY = "us-1"


def _region(healthy: float, gone: float, after: float, patience: float) -> Act:
    """Let the replicas at home be as if the network to them had gone; those far away take three times as long."""
    well, back = Phase("healthy", healthy), Phase("back", after)
    schedule = Schedule((well, Phase("gone", gone, hang=1.0), back))
    far = Schedule((Phase("healthy", schedule.seconds),))
    home = {f"{HOME} {number}": Site(schedule, 8, 0.02) for number in (1, 2)}
    away = {f"{_AWAY} {number}": Site(far, 16, 0.06) for number in (1, 2)}
    return Act(
        name="region",
        title="Region failover: the region where the service is goes away, and comes back",
        guard="retry() > pool()",
        schedule=schedule,
        sites={**home, **away},
        rates={"catalog": 150.0},
        flaky="catalog",
        patience=patience,
        timeout=0.4 * patience,
        pool=1_000,
    )


def acts(*, quick: bool) -> tuple[Act, ...]:
    """
    Return the acts in their order.

    Args:
        quick: Whether they, and the patience of callers, are to be short.
    """
    if quick:
        short = _region(0.6, 1.0, 1.0, 0.5)
        return _outage(QUICK, 0.5, 5, 30), _spike(3, 0.7, 80.0), _storm(0.5, 0.7, 1.8, 0.75), short
    return _outage(FULL, 1.0, 8, 50), _spike(4, 0.9, 150.0), _storm(1.2, 1.5, 3.2, 1.5), _region(1.0, 2.2, 1.8, 1.0)
