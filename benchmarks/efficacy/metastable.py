"""
`python -m benchmarks.efficacy.metastable`: R8 and R9, how soon a server is well again that sheds what it cannot do.

The failures of `storm`, in which callers who retry keep a server down that has been down: the example of Bronson et al.
(HotOS 2021), and the experiment of Huang et al., "Metastable failures in the wild" (OSDI 2022), in which a server has a
fifth of its speed for some ten seconds, and clients resend four times what is not answered within three seconds. Here
the server has a load shedder with its defaults; the clients are naive, or have the whole stack.

Recovery is the time from the end of the trouble to the first two seconds in which 95 % is served of what was before it.
"""

from __future__ import annotations

import math
import statistics
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import attrs

from benchmarks.efficacy import _results
from benchmarks.efficacy._recovery import seconds
from resilio import RetryBudget, circuit_breaker, load_shed, retry, timeout
from resilio.simulation import (
    Exponential,
    Fault,
    Load,
    Outage,
    Outcome,
    Poisson,
    Scenario,
    Server,
    Slow,
    Stack,
    simulate,
)

__all__ = ["Trial", "hotos", "main", "osdi", "osdi_scenario", "stack", "table_of_hotos", "table_of_osdi"]

CAPACITY = 300.0


def stack(clients: str, shedder: bool, patience: float, resends: int, workers: int | None = None) -> Stack:
    """
    Return a stack.

    Args:
        clients: "no retries", "naive" or "resilio".

        shedder: Whether the server has a load shedder.

        patience: Seconds that a client waits for an answer.

        resends: Of the naive.

        workers: What the shedder is told of their number; None: it learns.
    """

    def none() -> list[Any]:
        return [timeout(patience)]

    def naive() -> list[Any]:
        return [retry(on=Exception, attempts=1 + resends, backoff=lambda _: 0.0, budget=None), timeout(patience)]

    def guarded() -> list[Any]:
        return [retry(on=Exception, budget=RetryBudget()), circuit_breaker(), timeout(patience)]

    made = {"no retries": none, "naive": naive, "resilio": guarded}[clients]
    return Stack(client=made, server=(lambda: load_shed(max_concurrent=workers)) if shedder else None)


@dataclass(frozen=True)
class Trial:
    """
    What came of a run.

    Attributes:
        recovery: Seconds, infinite if there was none.

        before: The share of the calls that were served before the trouble.

        amplification: Attempts for each call.
    """

    recovery: float
    before: float
    amplification: float


def _trial(scenario: Scenario, seed: int) -> Trial:
    outcome: Outcome = simulate(scenario, seed=seed)["it"]
    first = scenario.faults[0].at
    early = [part for part in outcome.timeline if scenario.warmup <= part["begin"] < first - 1]
    before = sum(part["good"] for part in early) / sum(part["offered"] for part in early)
    return Trial(math.inf if outcome.recovery is None else outcome.recovery, before, outcome.amplification or 0.0)


def _scenario(
    stacks: Mapping[str, Stack], load: float, fault: Fault, clients: int, deadline: float, watched: float, workers: int
) -> Scenario:
    return Scenario(
        load=(Load(arrivals=Poisson(load * CAPACITY)),),
        server=Server(workers=workers, service=Exponential(workers / CAPACITY)),
        stacks=dict(stacks),
        deadline=deadline,
        duration=fault.end + watched,
        faults=(fault,),
        clients=clients,
        warmup=5.0,
    )


def hotos(tried: Stack, clients: int, length: float, seed: int, watched: float = 60.0, warm: float = 20.0) -> Trial:
    """
    Run the example of HotOS: a load of 280 of 300, a network that keeps what is sent and delivers it at the end.

    Args:
        tried: The stack; its clients wait for a second.

        clients: That share the load.

        length: Of the outage, in seconds.

        seed: Of everything.

        watched: Seconds after the outage.

        warm: Seconds before it.
    """
    outage = Outage(at=warm, lasts=length, mode="buffer")
    return _trial(_scenario({"it": tried}, 280 / CAPACITY, outage, clients, 5.0, watched, workers=1), seed)


def osdi(tried: Stack, load: float, share: float, length: float, seed: int, watched: float = 60.0) -> Trial:
    """
    Run the experiment of OSDI: two processors whose speed is cut at 60 s.

    Args:
        tried: The stack; its clients wait for three seconds.

        load: As a share of what the server can serve.

        share: Of its speed that is left.

        length: Of the cut, in seconds.

        seed: Of everything.

        watched: Seconds after the cut.
    """
    return _trial(osdi_scenario({"it": tried}, load, share, length, watched), seed)


def osdi_scenario(
    stacks: Mapping[str, Stack],
    load: float,
    share: float,
    length: float,
    watched: float,
    at: float = 60.0,
    title: str = "R9",
) -> Scenario:
    """Return the experiment for several stacks; the arguments are those of `osdi`."""
    slow = Slow(at=at, lasts=length, factor=1 / share)
    return attrs.evolve(_scenario(stacks, load, slow, 1, 16.0, watched, workers=2), title=title)


@dataclass(frozen=True)
class _Row:
    clients: str
    shedder: bool
    many: int = 1
    must: str = "-"
    effort: float = 1.0
    workers: int | None = None

    def of_hotos(self, runs: int) -> tuple[str, ...]:
        runs = max(2, round(runs * self.effort))
        tried = stack(self.clients, self.shedder, 1.0, 2, self.workers)
        seen = [hotos(tried, self.many, 9 + 4 * (run + 0.5) / runs, run + 1) for run in range(runs)]
        return self.clients, str(self.many), _server(self.shedder, self.workers), str(runs), self.must, *_cells(seen)


def _server(shedder: bool, workers: int | None = None) -> str:
    told = f"max_concurrent={workers}" if workers else ""
    return f"load_shed({told})" if shedder else "first in, first out"


def _cells(seen: Sequence[Trial]) -> tuple[str, ...]:
    before = statistics.mean(trial.before for trial in seen)
    sent = statistics.mean(trial.amplification for trial in seen)
    return seconds([trial.recovery for trial in seen]), f"{before:.4f}", f"{sent:.2f}"


_HOTOS = (
    _Row("no retries", False, effort=0.1),
    _Row("naive", False, must="never", effort=0.05),
    _Row("no retries", True, must="1"),
    _Row("no retries", True, 200, must="1", effort=0.5),
    _Row("no retries", True, must="1", workers=1),
    _Row("naive", True, effort=0.5),
    _Row("resilio", True, must="p95 3"),
    _Row("resilio", True, must="p95 3", workers=1),
    _Row("resilio", True, 200, must="p95 3", effort=0.5),
)
HOTOS_HEADER = ("clients", "how many", "server", "runs", "must", "median / p95 / worst", "before", "attempts a call")


def _row_of_hotos(number: int, runs: int) -> tuple[str, ...]:
    return _HOTOS[number].of_hotos(runs)


def table_of_hotos(runs: int) -> Iterator[tuple[str, ...]]:
    """Yield the rows under `HOTOS_HEADER`, in seconds; *runs* for a row whose share of the effort is 1."""
    yield from _results.spread(_row_of_hotos, [(number, runs) for number in range(len(_HOTOS))])


_CUTS = ((0.2, 10.0), (0.225, 10.0), (0.2, 9.0), (0.2, 60.0))
OSDI_HEADER = ("load", "speed", "for, s", "clients", "server", "runs", "recovered", *HOTOS_HEADER[5:])


def _row_of_osdi(load: float, share: float, length: float, clients: str, shedder: bool, runs: int) -> tuple[str, ...]:
    tried = stack(clients, shedder, 3.0, 4)
    seen = [osdi(tried, load, share, length, seed) for seed in range(1, runs + 1)]
    well = sum(trial.recovery < math.inf for trial in seen)
    return f"{load:g}", f"{share:g}", f"{length:g}", clients, _server(shedder), str(runs), str(well), *_cells(seen)


def table_of_osdi(runs: int) -> Iterator[tuple[str, ...]]:
    """Yield the rows under `OSDI_HEADER`, in seconds; *runs* seeds of each."""
    rows: list[tuple[Any, ...]] = [(0.36, *cut, "naive", False, runs) for cut in _CUTS[:3]]
    rows += [(load, *_CUTS[0], "naive", False, max(2, runs // 10)) for load in (0.6, 0.9)]
    for load in (0.36, 0.6, 0.75, 0.9):
        for cut in (_CUTS[0], _CUTS[3]):
            rows += [(load, *cut, clients, True, runs) for clients in ("no retries", "resilio")]
    rows += [(load, *_CUTS[0], "naive", True, max(2, runs // 4)) for load in (0.36, 0.9)]
    yield from _results.spread(_row_of_osdi, rows)


def main(arguments: Sequence[str] | None = None) -> None:
    """Print the tables."""
    parser = _results.command("How soon a server recovers that sheds load.")
    parser.add_argument("--runs", type=int, default=40, help="runs of the main rows of R8 (40)")
    parser.add_argument("--seeds", type=int, default=20, help="runs of each row of R9 (20)")
    options = parser.parse_args(arguments)
    texts = {
        "R8 with a load shedder": _results.section(_ABOUT_HOTOS, HOTOS_HEADER, table_of_hotos(options.runs)),
        "R9 metastable failure in the wild": _results.section(_ABOUT_OSDI, OSDI_HEADER, table_of_osdi(options.seeds)),
    }
    for title, text in texts.items():
        _results.show(title, text, recorded=options.record)


_ABOUT_HOTOS = (
    "The failure of the table above, in the public simulator: a server of 300 requests/s, exponential, a load of 280 "
    "calls/s, a timeout of 1 s, an outage of 9 to 13 s that buffers. The load shedder knows the "
    "number of workers only where it is told, and not the timeout. No retries: timeout(1); naive: two more at once; "
    "resilio: retry(budget=RetryBudget()) > circuit_breaker() > timeout(1). Recovery in seconds; never: not in 60 s."
)
_ABOUT_OSDI = (
    "A server of 300 requests/s on two workers, exponential, whose work takes 1/speed times as long for a while from "
    "60 s on; clients wait for 3 s. Naive: four resends at once. The published cells are those of a load of .36, and "
    "recover only statistically (a study: 18, 11, 20 of 20 runs). Must with the shedder: every run recovers, within "
    "5 s of the end; 0.99 served before. Recovery in seconds; never: not in 60 s."
)

if __name__ == "__main__":
    main()
