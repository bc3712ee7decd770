"""
`python -m benchmarks.efficacy.shared_learner`: what an adaptive limit loses if its host's learner lags.

The worker processes of a host call one server, at 1.2 to 3 times its capacity. All of them obey one limit at once, and
one of them, the learner, reads the ends of all calls from their rings now and then. Here the permits are exact and the
law is the real one; only the way of the samples is modelled: a ring of 64 for each worker, which loses what does not
fit, and a learner that drains all rings when its time has come, or when 32 samples wait. Beside it stand a learner
without a lag, and a limit for each process.

    Musts: at least 97 % of the capacity, and a p99 of at most 60 % of the callers' patience.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterator, Sequence
from itertools import count
from typing import Any

import attrs

from benchmarks.efficacy import _results
from resilio import adaptive_limit, timeout
from resilio._native.clock import now_ns
from resilio.gates import GateCall, Outcome, Reject, custom_gate
from resilio.laws import Law, Sample
from resilio.simulation import Exponential, Load, Poisson, Scenario, Server, Stack, simulate

__all__ = ["CELLS", "HOWS", "Lag", "Trial", "main", "measured", "table"]

PATIENCE = 10.0  # mean times of service
RING, BATCH = 64, 32


@attrs.frozen
class Lag:
    """
    How the samples get to the learner.

    Attributes:
        every: Seconds between two readings of the rings.

        batch: Samples that wait and cause a reading before its time; None: nothing but time does.

        ring: Samples that a worker's ring holds.

        stamped: Whether a sample carries the time of its end, or gets that of its reading.
    """

    every: float = 0.01
    batch: int | None = BATCH
    ring: int = RING
    stamped: bool = False


class _Host:
    """The words that the workers of a host share, and the learner that reads their rings."""

    def __init__(self, lag: Lag) -> None:
        self.law = Law()
        self.limit = self.law.limit
        self.used = self.lost = 0
        self.rings: list[deque[Sample]] = []
        self._lag = lag
        self._read = now_ns() * 1e-9

    def end(self, ring: deque[Sample], sample: Sample) -> None:
        """Put a sample into a worker's ring."""
        if len(ring) < self._lag.ring:
            ring.append(sample)
        else:
            self.lost += 1
        if self._lag.batch is not None and sum(map(len, self.rings)) >= self._lag.batch:
            self._drain(sample.now)

    def look(self, now: float) -> None:
        """Drain the rings if the learner's time has come; nothing has happened since it came."""
        if now - self._read >= self._lag.every:
            due = self._read + (now - self._read) // self._lag.every * self._lag.every
            self._drain(due)

    def _drain(self, now: float) -> None:
        found = [sample for ring in self.rings for sample in ring]
        if self._lag.stamped:
            found.sort(key=lambda sample: sample.now)
        for ring in self.rings:
            ring.clear()
        for sample in found:
            at = sample.now if self._lag.stamped else now
            self.law.learn(at, sample.latency, sample.inflight, sample.dropped, self.used + 1)
        self.limit = self.law.limit
        self._read = now


class _Worker:
    """The gate of one worker process."""

    kind, reasons = "adaptive_limit", ("limit",)

    def __init__(self, host: _Host) -> None:
        self._host = host
        self._ring: deque[Sample] = deque()
        host.rings.append(self._ring)

    def admit(self, call: GateCall, /) -> Reject | None:
        host = self._host
        host.look(now_ns() * 1e-9)
        if host.used + 1 > host.limit:
            return Reject("limit")
        host.used += 1
        call.data = host.used
        return None

    def settle(self, call: GateCall, outcome: Outcome, seconds: float, /) -> None:
        host, now = self._host, now_ns() * 1e-9
        host.look(now)
        host.used -= 1
        if outcome is not Outcome.IGNORED:
            host.end(self._ring, Sample(now, seconds, call.data, outcome is Outcome.FAILURE))

    def cancel(self, call: GateCall, /) -> None:
        del call
        self._host.used -= 1


def _lagging(lag: Lag, workers: int, patience: float) -> Callable[[], Any]:
    """Return what makes the policies of each worker; a new run begins with a new host."""
    hosts: list[_Host] = []
    numbers = count()

    def made() -> Any:
        if next(numbers) % workers == 0:
            hosts[:] = [_Host(lag)]
        return [custom_gate(_Worker(hosts[0])), timeout(patience)]

    return made


@attrs.frozen
class Trial:
    """
    One run.

    Attributes:
        load: The load, as a multiple of the capacity.

        how: "own", a limit for each process; "ideal", one that learns at once; or the lag of the learner.

        processes: Worker processes of the host.

        server: Workers of the server.

        mean: Their mean time of service in seconds; callers wait ten times as long.

        seconds: How long it is measured.

        warmup: How long it runs before.
    """

    load: float = 1.0
    how: str | Lag = "ideal"
    processes: int = 8
    server: int = 10
    mean: float = 0.01
    seconds: float = 30.0
    warmup: float = 10.0


def measured(trial: Trial, seed: int) -> tuple[float, float]:
    """Return the share of the capacity that is answered in time, and the p99 of answers as a share of the patience."""
    how, capacity, patience = trial.how, trial.server / trial.mean, PATIENCE * trial.mean
    if isinstance(how, Lag):
        client = _lagging(how, trial.processes, patience)
    else:
        limits: dict[str, Callable[[], list[Any]]] = {
            "own": lambda: [adaptive_limit()],
            "ideal": lambda: [adaptive_limit(name="host")],
        }
        limit = limits[how]

        def client() -> list[Any]:
            return [*limit(), timeout(patience)]

    scenario = Scenario(
        load=Load(arrivals=Poisson(trial.load * capacity)),
        server=Server(workers=trial.server, service=Exponential(trial.mean)),
        stacks={"it": Stack(client=client)},
        clients=trial.processes,
        deadline=patience,
        duration=trial.warmup + trial.seconds,
        warmup=trial.warmup,
    )
    outcome = simulate(scenario, seed=seed)["it"]
    return outcome.goodput / capacity, (outcome.p99 or 0.0) / patience


LOADS = (1.2, 1.5, 2.0, 3.0)
HOWS: dict[str, str | Lag] = {
    "a limit each": "own",
    "one, no lag": "ideal",
    "10 ms or 32 samples": Lag(),
    "10 ms": Lag(0.01, None),
    "100 ms": Lag(0.1, None),
    "250 ms": Lag(0.25, None),
}
CELLS = {
    "8 processes, 10 workers of 10 ms": (Trial(), tuple(HOWS)),
    "32 processes, 50 workers of 10 ms": (Trial(processes=32, server=50, seconds=10.0, warmup=5.0), tuple(HOWS)[:4]),
    "8 processes, 64 workers of 1 ms": (Trial(server=64, mean=0.001, seconds=2.0, warmup=1.0), tuple(HOWS)[:4]),
}
HEADER = ("cell", "load", *HOWS)
SEEDS = (1, 2, 3)


def table(seeds: Sequence[int] = SEEDS) -> Iterator[tuple[str, ...]]:
    """Yield the rows under `HEADER`: the least share of the capacity, in brackets the longest p99 in per cent."""
    for cell, (trial, hows) in CELLS.items():
        for load in LOADS:
            tried = [attrs.evolve(trial, load=load, how=HOWS[how]) for how in hows]
            cells = [_written([measured(each, seed) for seed in seeds]) for each in tried]
            yield cell, f"{load:g}", *cells, *[""] * (len(HOWS) - len(cells))


def _written(runs: Sequence[tuple[float, float]]) -> str:
    shares, tails = zip(*runs, strict=True)
    return f"{min(shares):.1%} ({100 * max(tails):.0f})"


def main(arguments: Sequence[str] | None = None) -> None:
    """Print the table."""
    options = _results.command("What an adaptive limit loses if its host's learner lags.").parse_args(arguments)
    text = _results.section(_ABOUT, HEADER, table())
    _results.show("R11 a learner that lags", text, recorded=options.record)


_ABOUT = (
    "Calls answered within ten mean times of service, as a share of what the server can serve; in brackets the p99 of "
    "answers in per cent of that time. The load is in multiples of the capacity. A limit for each process, one for all "
    "whose law learns at once, and one whose learner reads the samples every so often. The worst of the seeds 1 to 3."
)

if __name__ == "__main__":
    main()
