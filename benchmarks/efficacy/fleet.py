"""
`python -m benchmarks.efficacy.fleet`: what hosts gain when they share policies through a store.

Real gates, couriers and rules, and a simulated store: eight loads of 50 processes on one limit; the limit while things
go wrong with the store; and the scenarios `fleet-breaker`, `fleet-outage` and `one-broken-host` of the simulator.

    Musts: leases of a limit use at least 97.5 % of what an ideal bucket admits with a tick of 0.25 s, and 98 % with
    0.1 s, and overdraw it by no more than a quarter of the burst, once; at most 320 calls into a buffered outage of
    10 s, of which some 280 begin before one can have failed, and recovery within 3.5 s; at most 200 calls into an
    outage of 240 s, one a second in its last minute, and notice after 0.6 s; at least 95.5 % of the calls answered
    while one host of 25 is cut off; no overdraft where the store loses keys, answers or its time.
"""

from __future__ import annotations

import statistics
from collections.abc import Callable, Iterator, Mapping, Sequence

import attrs

from benchmarks.efficacy import _results, sharing
from benchmarks.efficacy._leased import Leased
from benchmarks.efficacy._leases import LOADS, OTHERS, Figures, Load, figures
from resilio.simulation import (
    Constant,
    Evict,
    Failover,
    Fault,
    Partition,
    Scenario,
    Store,
    StoreClock,
    StoreDown,
    StoreSlow,
    simulate,
)

__all__ = ["BROKEN", "HANGS", "LEASES", "TROUBLE", "broken", "hangs", "leases", "main", "trouble"]

SEEDS = sharing.SEEDS
MORE_SEEDS = range(1, 16)
Rows = Iterator[tuple[str, ...]]
TICKS = (0.1, 0.25)

LEASES = ("load", "", "used", "overdraft of 1,000", "most in a second above burst + rate", "trips a second")
TROUBLE = ("trouble at 10 s", "used", "overdraft of 1,000", "trips a second")
HANGS = ("seeds", "into the outage", "of them in its first second", "after that", "recovered after", "answered in time")
BROKEN = ("", "answered in time", "of those that can be")


def leases(loads: Mapping[str, Load] = LOADS, seed: int = 7) -> Rows:
    """Yield the rows under `LEASES`."""
    for title, load in loads.items():
        arrivals = load.arrivals(seed)
        for other, make in OTHERS.items():
            shares = make(load)
            admitted = [now for now, process in arrivals if shares.call(process, now)]
            yield title, other, *_cells(figures(load, arrivals, admitted, shares.trips))
        for tick in TICKS:
            run = Leased(load, Store(tick=tick)).run(arrivals)
            yield title, f"leases, {tick:g} s", *_cells(figures(load, arrivals, run.admitted, run.trips))


def _cells(found: Figures) -> tuple[str, ...]:
    return f"{found.used:.1%}", f"{found.overdraft:,.0f}", f"{found.most:+.0%}", f"{found.trips:,.0f}"


_HALF = list(range(25))
_TROUBLE: Mapping[str, tuple[Store, Sequence[Fault]]] = {
    "none": (Store(), ()),
    "one message in ten is lost": (Store(loss=0.1), ()),
    "no connection for 5 s": (Store(), [StoreDown(at=10, lasts=5)]),
    "no answer for 5 s": (Store(), [StoreDown(at=10, lasts=5, mode="hang")]),
    "stopped for 5 s, then does what it was sent": (Store(), [StoreDown(at=10, lasts=5, mode="buffer")]),
    "0.2 s slower for 5 s": (Store(), [StoreSlow(at=10, lasts=5, seconds=0.2)]),
    "0.04 s slower for 5 s": (Store(), [StoreSlow(at=10, lasts=5, seconds=0.04)]),
    "half of the hosts cut off for 5 s": (Store(), [Partition(at=10, lasts=5, clients=_HALF)]),
    "two masters for 5 s": (Store(), [Partition(at=10, lasts=5, clients=_HALF, two_masters=True)]),
    "failover, the replica 0.1 s behind": (Store(), [Failover(at=10, lasts=1, loses=0.1)]),
    "all keys lost": (Store(), [Evict(at=10)]),
    "clock 5 s ahead for 5 s": (Store(), [StoreClock(at=10, lasts=5, seconds=5.0)]),
    "clock 5 s behind for 5 s": (Store(), [StoreClock(at=10, lasts=5, seconds=-5.0)]),
    "trips of 20 ms": (Store(rtt=Constant(0.02)), ()),
}


def trouble(load: str = "even, 5 x", seed: int = 7) -> Rows:
    """Yield the rows under `TROUBLE`: one load, and a store with which something is wrong."""
    found = LOADS[load]
    arrivals = found.arrivals(seed)
    for title, (store, faults) in _TROUBLE.items():
        run = Leased(found, store).run(arrivals, faults)
        cells = _cells(figures(found, arrivals, run.admitted, run.trips))
        yield title, cells[0], cells[1], cells[3]


def hangs(seeds: Sequence[int] = MORE_SEEDS) -> Rows:
    """Yield the rows under `HANGS`: the mean, and the worst, of the first seeds and of all."""
    ((_, scenario),) = sharing.scenarios("fleet-breaker")
    runs = [_hang(scenario, seed) for seed in seeds]
    for count in sorted({min(len(SEEDS), len(runs)), len(runs)}):
        calls, first, later, back, success = zip(*runs[:count], strict=True)
        worst = max(scenario.duration if seconds is None else seconds for seconds in back)
        counts = (f"{statistics.mean(each):.0f} ({max(each)})" for each in (calls, first, later))
        yield f"{seeds[0]} to {seeds[count - 1]}", *counts, f"{worst:.1f} s", f"{min(success):.1%}"


def _hang(scenario: Scenario, seed: int) -> tuple[int, int, int, float | None, float]:
    """Return the calls into the outage, those of its first second and those after it, the recovery and the success."""
    times: list[float] = []
    (fault,) = scenario.faults
    stack = sharing.watched(scenario.stacks["one for the fleet"], times)
    outcome = simulate(attrs.evolve(scenario, stacks={"it": stack}), seed=seed)["it"]
    first = sum(fault.at <= time < fault.at + 1.0 for time in times)
    calls = sum(fault.at <= time < fault.end for time in times)
    return calls, first, calls - first, outcome.recovery, outcome.success or 0.0


def broken(seeds: Sequence[int] = SEEDS) -> Rows:
    """Yield the rows under `BROKEN`: the least share of the tasks, and of those of hosts that are not cut off."""
    ((_, scenario),) = sharing.scenarios("one-broken-host")
    can_be = 1.0 - 1.0 / scenario.hosts
    runs = [simulate(scenario, seed=seed) for seed in seeds]
    for name in scenario.stacks:
        success = min(run[name].success or 0.0 for run in runs)
        yield name, f"{success:.1%}", f"{success / can_be:.1%}"


_WORST = "The worst of the seeds 1 to 3."
_ABOUT_LEASES = (
    "50 processes share a limit of 1,000 a second with a burst of 1,000, for 20 s. Used: admitted calls as a share of "
    "those that one ideal bucket admits. Overdraft: tokens that the ideal bucket is short of if it has to admit the "
    "same calls. Leases: the real gates, couriers and rules; the others: models."
)
_ABOUT_TROUBLE = (
    "The load of five times the limit, evenly, by leases of 0.25 s, and a store with which something is wrong."
)
_ABOUT_HANGS = (
    "`resilio simulate fleet-breaker`, one for the fleet: 200 processes on 25 hosts, and a switch that keeps all "
    "requests for 10 s. No call ends before its timeout of 1 s, so no breaker can know of the outage in its first "
    "second. Calls: the mean (and the most). Times and shares: the worst."
)
_ABOUT_OUTAGE = (
    "`resilio simulate fleet-outage`: 200 processes of 1.4 calls a second each on 25 hosts, and an outage of 240 s. "
    "Noticed: the first half second in which no more than a twentieth of the usual calls, and three for chance, are "
    f"sent. {_WORST}"
)
_ABOUT_BROKEN = (
    "`resilio simulate one-broken-host`: one of 25 hosts cannot reach the server, and sees failures only. The last "
    f"column is the share of the 96 % that can be answered. {_WORST}"
)
_TABLES: dict[str, tuple[Sequence[str], Callable[[], Rows], str]] = {
    "R11 a limit for a fleet": (LEASES, leases, _ABOUT_LEASES),
    "R11 a limit for a fleet, in trouble": (TROUBLE, trouble, _ABOUT_TROUBLE),
    "R8 calls that hang, seen by a fleet": (HANGS, hangs, _ABOUT_HANGS),
    "R8 an outage seen by a fleet": (sharing.OUTAGE, lambda: sharing.outage(name="fleet-outage"), _ABOUT_OUTAGE),
    "R8 one broken host of a fleet": (BROKEN, broken, _ABOUT_BROKEN),
}


def main(arguments: Sequence[str] | None = None) -> None:
    """Print the tables."""
    parser = _results.command("What hosts gain when they share policies through a store.")
    parser.add_argument("--only", nargs="+", choices=_TABLES, default=list(_TABLES), metavar="TITLE")
    options = parser.parse_args(arguments)
    for title in options.only:
        header, rows, about = _TABLES[title]
        text = _results.section(about, header, rows())
        _results.show(title, text, recorded=options.record)


if __name__ == "__main__":
    main()
