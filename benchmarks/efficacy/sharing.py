"""
`python -m benchmarks.efficacy.sharing`: what worker processes of one host gain when they share policies.

The scenarios `shared-limit`, `shared-breaker`, `shared-outage` and `killed-worker` of the simulator, each with the
seeds 1 to 3; a cell has the worst of them.

    Musts of one for the host: at least 97 % of the capacity and a p99 of at most 60 of 100 ms at 1.2 to 3 times the
    capacity; at most 800 calls into a buffered outage of 10 s, and recovery within 5 s; at most 2,500 calls into an
    outage of 240 s, 9 a second in its last minute, and notice after 3.5 s.
"""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Callable, Iterator, Sequence
from typing import Any

import attrs

from benchmarks.efficacy import _results
from resilio._native.clock import now_ns
from resilio._native.simulation import BEGIN_NS
from resilio.gates import GateCall, Outcome, custom_gate
from resilio.simulation import Scenario, Stack, simulate
from resilio.simulation._files import load
from resilio.simulation._main import _shipped

__all__ = [
    "BREAKER",
    "KILLED",
    "LIMIT",
    "OUTAGE",
    "breaker",
    "killed",
    "limit",
    "main",
    "outage",
    "scenarios",
    "watched",
]

SEEDS = (1, 2, 3)
Rows = Iterator[tuple[str, ...]]

LIMIT = ("load", "no limit", "a limit for each process", "one for the host")
BREAKER = ("", "into the outage", "recovered after", "answered in time")
OUTAGE = ("", "into the outage", "a second in its last minute", "noticed after", "recovered after")
KILLED = ("", "answered in time", "rejected")


def scenarios(name: str) -> Iterator[tuple[Any, Scenario]]:
    """Yield what a shipped scenario runs, with the values of its sweep."""
    yield from load(_shipped()[name]).scenarios


def limit(seeds: Sequence[int] = SEEDS) -> Rows:
    """Yield the rows under `LIMIT`: the least share of the capacity, and the longest p99."""
    for rate, scenario in scenarios("shared-limit"):
        capacity = scenario.server.workers / scenario.server.service.mean
        runs = [simulate(scenario, seed=seed) for seed in seeds]
        cells = []
        for name in LIMIT[1:]:
            share = min(run[name].goodput for run in runs) / capacity
            tail = max(run[name].p99 or 0.0 for run in runs)
            cells.append(f"{share:.1%} ({tail * 1e3:.0f} ms)" if share else "0 %")
        yield f"{rate / capacity:g} x", *cells


def breaker(seeds: Sequence[int] = SEEDS, name: str = "shared-breaker") -> Rows:
    """Yield the rows under `BREAKER`: the most calls, the longest time, the least share."""
    ((_, scenario),) = scenarios(name)
    runs = [simulate(scenario, seed=seed) for seed in seeds]
    for stack in scenario.stacks:
        found = [run[stack] for run in runs]
        back = max(one.recovery or scenario.duration for one in found)
        success = min(one.success or 0.0 for one in found)
        yield stack, f"{max(one.in_outage for one in found):,}", f"{back:.1f} s", f"{success:.1%}"


def outage(seeds: Sequence[int] = SEEDS, name: str = "shared-outage") -> Rows:
    """Yield the rows under `OUTAGE`: the most calls, the longest times."""
    ((_, scenario),) = scenarios(name)
    for title, stack in scenario.stacks.items():
        if stack.client is not None:
            yield title, *_worst([_sent(scenario, stack, seed) for seed in seeds], scenario.duration)


@attrs.frozen
class _Sent:
    """Calls that one run sent into the outage, and times."""

    calls: int
    probes: float
    noticed: float | None
    recovery: float | None


def _worst(runs: Sequence[_Sent], never: float) -> tuple[str, ...]:
    noticed = max(never if run.noticed is None else run.noticed for run in runs)
    back = max(never if run.recovery is None else run.recovery for run in runs)
    calls, probes = max(run.calls for run in runs), max(run.probes for run in runs)
    times = ("never" if seconds == never else f"{seconds:.1f} s" for seconds in (noticed, back))
    return f"{calls:,}", f"{probes:.1f}", *times


def _sent(scenario: Scenario, stack: Stack, seed: int) -> _Sent:
    times: list[float] = []
    outcome = simulate(attrs.evolve(scenario, stacks={"it": watched(stack, times)}), seed=seed)["it"]
    (fault,) = scenario.faults

    def between(begin: float, end: float) -> int:
        return bisect_left(times, end) - bisect_left(times, begin)

    offered = outcome.offered / scenario.duration
    probes = between(fault.end - 60.0, fault.end) / 60.0
    return _Sent(
        between(fault.at, fault.end), probes, _noticed(between, fault.at, fault.end, offered), outcome.recovery
    )


def _noticed(between: Callable[[float, float], int], begin: float, end: float, offered: float) -> float | None:
    """Return the seconds to the first half second that has a twentieth of the usual calls, and three for chance."""
    for step in range(round(10 * (end - begin))):
        at = begin + step / 10
        if between(at, at + 0.5) < offered / 40 + 3:
            return at - begin
    return None


class _Log:
    """A gate that notes when calls pass it, in seconds of the run."""

    def __init__(self, times: list[float]) -> None:
        self._times = times

    def admit(self, call: GateCall, /) -> None:
        """Note a call."""
        del call
        self._times.append((now_ns() - BEGIN_NS) * 1e-9)

    def settle(self, call: GateCall, outcome: Outcome, seconds: float, /) -> None:
        """Do nothing."""


def watched(stack: Stack, times: list[float]) -> Stack:
    """Return a stack whose admitted calls note when they begin, in seconds of the run."""
    make: Any = stack.client
    return attrs.evolve(stack, client=lambda: [*make(), custom_gate(_Log(times))])


def killed(seeds: Sequence[int] = SEEDS) -> Rows:
    """Yield the rows under `KILLED`: the least share of answers, the most rejections; without the deaths, too."""
    ((_, scenario),) = scenarios("killed-worker")
    for title, one in (("", scenario), (", no deaths", attrs.evolve(scenario, faults=()))):
        runs = [simulate(one, seed=seed) for seed in seeds]
        for name in scenario.stacks:
            success = min(run[name].success or 0.0 for run in runs)
            rejected = max(run[name].rejected / run[name].offered for run in runs)
            yield name + title, f"{success:.1%}", f"{rejected:.1%}"


_WORST = "The worst of the seeds 1 to 3."
_ABOUT_LIMIT = (
    "`resilio simulate shared-limit`: eight processes call ten workers of 10 ms; calls answered within 100 ms as a "
    f"share of the capacity, and the p99 of answers. {_WORST}"
)
_ABOUT_BREAKER = (
    "`resilio simulate shared-breaker`: 200 processes on 25 hosts at 93 % of a server's capacity, which is cut off for "
    f"10 s by a switch that keeps all requests. {_WORST}"
)
_ABOUT_OUTAGE = (
    "`resilio simulate shared-outage`: 200 processes of 1.4 calls a second each on 25 hosts, and an outage of 240 s. "
    "Noticed: the first half second in which no more than a twentieth of the usual calls, and three for chance, are "
    f"sent. {_WORST}"
)
_ABOUT_KILLED = (
    "`resilio simulate killed-worker`: eight processes make 15 calls of 1 s a second; every ten seconds one of them "
    f"dies with its permits. {_WORST}"
)
_TABLES: dict[str, tuple[Sequence[str], Callable[..., Rows], str]] = {
    "R11 a limit for a host": (LIMIT, limit, _ABOUT_LIMIT),
    "R8 a breaker for a host": (BREAKER, breaker, _ABOUT_BREAKER),
    "R8 an outage seen by many": (OUTAGE, outage, _ABOUT_OUTAGE),
    "R10 killed workers": (KILLED, killed, _ABOUT_KILLED),
}


def main(arguments: Sequence[str] | None = None) -> None:
    """Print the tables."""
    options = _results.command("What worker processes of a host gain when they share policies.").parse_args(arguments)
    for title, (header, rows, about) in _TABLES.items():
        text = _results.section(about, header, rows())
        _results.show(title, text, recorded=options.record)


if __name__ == "__main__":
    main()
