"""
`python -m benchmarks.efficacy.storm`: how soon clients let a server recover that an outage has pushed over the edge.

The example of Bronson et al., "Metastable failures in distributed systems" (HotOS 2021): a server of 300 requests a
second has a load of 280, its callers wait a second for an answer. The network keeps what is sent for some ten seconds,
then delivers it all, and now the server works on requests whose callers have gone. Retries of them can keep it there
for good. The clients are the real library, on virtual time.

Recovery is the time from the end of the outage to the first two seconds of whose calls 95 % are served. The published
figures are those of the study that chose the defaults. The length of the outage varies from run to run, because at one
length the phase of the breaker's probes can be lucky.
"""

from __future__ import annotations

import asyncio
import math
import random
import statistics
from collections.abc import Awaitable, Callable, Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass

from benchmarks.efficacy import _results
from benchmarks.efficacy._recovery import WINDOW, Watch, seconds
from benchmarks.efficacy._server import Server
from resilio import RejectedError, RetryBudget, circuit_breaker, retry, timeout
from resilio.testing import seeded, virtual_time

__all__ = [
    "Storm",
    "breaker_alone",
    "lengths",
    "main",
    "naive",
    "no_retries",
    "recoveries",
    "storm",
    "table",
    "whole_stack",
]

CAPACITY, LOAD, TIMEOUT = 300.0, 280.0, 1.0
SETTLED = 5.0  # seconds after which a call has ended: three attempts and the sleeps between them

Send = Callable[[], Awaitable[None]]
Stack = Callable[[Send, int], Send]


def no_retries(send: Send, seed: int) -> Send:  # noqa: ARG001
    """Wait a second for the answer."""

    async def call() -> None:
        async with asyncio.timeout(TIMEOUT):
            await send()

    return call


def naive(send: Send, seed: int) -> Send:
    """Wait a second for the answer, three times, one after the other."""
    once = no_retries(send, seed)

    async def call() -> None:
        for _ in range(2):
            with suppress(TimeoutError):
                return await once()
        return await once()

    return call


def breaker_alone(send: Send, seed: int) -> Send:
    """Wait a second for the answer, behind a circuit breaker with its defaults."""
    breaker = circuit_breaker()
    breaker._gate._seed(seed * 2654435761 + 1)  # type: ignore[attr-defined]
    return breaker(no_retries(send, seed))


def whole_stack(send: Send, seed: int) -> Send:
    """Wait a second for the answer, three times, within a budget and behind a circuit breaker, all with defaults."""

    @timeout(TIMEOUT)
    async def once() -> None:
        await send()

    breaker = circuit_breaker()
    breaker._gate._seed(seed * 2654435761 + 1)  # type: ignore[attr-defined]
    return retry(on=TimeoutError, budget=RetryBudget())(breaker(once))


@dataclass(frozen=True)
class Storm:
    """
    One run.

    Attributes:
        recovery: Seconds from the end of the outage, infinite if there was none in the time watched.

        per_second: Requests that the server was sent, in each second after the outage.
    """

    recovery: float
    per_second: float


async def _storm(
    stack: Stack, clients: int, length: float, seed: int, drops_expired: bool, warm: float, watched: float
) -> Storm:
    loop = asyncio.get_running_loop()
    draw = random.Random(seed)
    server = Server(CAPACITY, random.Random(seed + 1_000_003), TIMEOUT, drops_expired)
    now = loop.time()
    watch = Watch(now + warm + length)
    server.cut_off(now + warm, watch.healed)
    calls = [stack(server.answer, clients * seed + index) for index in range(clients)]
    async with asyncio.TaskGroup() as tasks:
        sent_before, next_look = 0, watch.healed + WINDOW + SETTLED
        while watch.recovery is None and now < watch.healed + watched:
            now += draw.expovariate(LOAD)
            await asyncio.sleep(now - loop.time())
            number = watch.begin(now)
            sent_before = server.sent if number < 0 else sent_before
            tasks.create_task(_call(draw.choice(calls), watch, number))
            if now >= next_look:
                watch.look(now - SETTLED)
                next_look += 1.0
        sent = server.sent - sent_before
    return Storm(math.inf if watch.recovery is None else watch.recovery, sent / (now - watch.healed))


async def _call(call: Send, watch: Watch, number: int) -> None:
    try:
        await call()
    except (TimeoutError, RejectedError):
        return
    if number >= 0:
        watch.served[number] = True


def storm(
    stack: Stack,
    clients: int,
    length: float,
    seed: int,
    *,
    drops_expired: bool = False,
    warm: float = 10.0,
    watched: float = 200.0,
) -> Storm:
    """
    Put clients through an outage and return what came of it.

    Args:
        stack: Makes a client's call of a function that sends one request; its second argument is a seed.

        clients: That share the load.

        length: Of the outage, in seconds.

        seed: Of the arrivals, of the server and of the clients.

        drops_expired: Whether the server throws away what has expired.

        warm: Seconds of healthy load before the outage.

        watched: Seconds after the outage in which it has to recover.
    """
    with seeded(seed), virtual_time() as vt:
        return vt.run(_storm, stack, clients, length, seed, drops_expired, warm, watched)


def lengths(runs: int, shortest: float = 9.0) -> list[float]:
    """
    Return lengths of an outage, evenly over 4 s: a fixed one locks phase with the probes.

    Args:
        runs: How many.

        shortest: Where they begin, in seconds.
    """
    return [shortest + 4.0 * (run + 0.5) / runs for run in range(runs)]


def recoveries(
    stack: Stack, clients: int, outages: Sequence[float], *, drops_expired: bool = False, warm: float | None = None
) -> list[Storm]:
    """
    Return a run for each length of an outage, with the seeds 1, 2, ...

    Args:
        stack: As for `storm`.

        clients: That share the load.

        outages: Their lengths, in seconds.

        drops_expired: Whether the server throws away what has expired.

        warm: Seconds of healthy load before; None is enough to fill what the clients remember.
    """
    if warm is None:
        warm = 10.0 if clients == 1 else 120.0
    return [
        storm(stack, clients, length, seed, drops_expired=drops_expired, warm=warm)
        for seed, length in enumerate(outages, 1)
    ]


@dataclass(frozen=True)
class _Row:
    what: str
    stack: Stack
    clients: int
    drops: bool
    must: str = "-"
    published: str = "-"
    effort: float = 0.2  # runs, of a hundred
    shortest: float = 9.0  # outage, in seconds; where the clients probe there are others up to 4 s longer

    @property
    def probes(self) -> bool:
        return self.stack not in (no_retries, naive)

    def outages(self, runs: int) -> list[float]:
        return lengths(runs, self.shortest) if self.probes else [10.0] * runs

    def cells(self, hundred: int) -> tuple[str, ...]:
        runs = max(1, round(hundred * self.effort))
        seen = recoveries(self.stack, self.clients, self.outages(runs), drops_expired=self.drops)
        outage = f"{self.shortest:.0f} to {self.shortest + 4:.0f}" if self.probes else "10"
        server = "drops what has expired" if self.drops else "first in, first out"
        sent = f"{statistics.mean(run.per_second for run in seen):,.0f}"
        figures = seconds([run.recovery for run in seen])
        return self.what, str(self.clients), server, outage, str(runs), self.must, self.published, figures, sent


_STACK = "retry(budget=RetryBudget()) > circuit_breaker() > timeout(1)"
_ROWS = (
    _Row("no retries", no_retries, 1, False, "-", "130 / 135; 126 is the mean time to drain"),
    _Row("no retries", no_retries, 200, False, "-", "125 / 144"),
    _Row("no retries", no_retries, 1, True, "-", "0 / 0"),
    _Row("naive retries", naive, 1, False, "never", "never", 0.05),
    _Row("naive retries", naive, 1, True, "-", "never", 0.05),
    _Row("naive retries", naive, 200, False, "never", "never", 0.05),
    _Row("circuit_breaker() alone", breaker_alone, 1, False, effort=1.0),
    _Row("circuit_breaker() alone", breaker_alone, 200, False),
    _Row(_STACK, whole_stack, 1, False, "p95 3.5, worst 4.5", "1.0 / 2.8", 1.0),
    _Row(_STACK, whole_stack, 200, False, "15", "12.6 / 13.8"),
    _Row(_STACK, whole_stack, 1, True, "p95 2", "0.8 / 1.5", 1.0),
    _Row(_STACK, whole_stack, 200, True, "p95 2", "0.4 / 2.0"),
    _Row(_STACK, whole_stack, 1, False, effort=1.0, shortest=60.0),
    _Row(_STACK, whole_stack, 1, True, effort=1.0, shortest=60.0),
)
HEADER = (
    *("clients", "how many", "server", "outage, s", "runs", "must"),
    *("study: median / worst", "median / p95 / worst", "sent, /s"),
)


def table(hundred: int) -> Iterator[tuple[str, ...]]:
    """
    Yield the rows under `HEADER`, all times in seconds.

    Args:
        hundred: Runs of a row whose share of the effort is 1.
    """
    for row in _ROWS:
        yield row.cells(hundred)


def main(arguments: Sequence[str] | None = None) -> None:
    """Print the table."""
    parser = _results.command("How soon clients let an overloaded server recover.")
    parser.add_argument("--runs", type=int, default=100, help="runs of the main rows (100)")
    options = parser.parse_args(arguments)
    text = _results.section(ABOUT, HEADER, table(options.runs))
    _results.show("R8 metastable failure", text, recorded=options.record)


ABOUT = (
    f"A server of {CAPACITY:.0f} requests/s, exponential; a load of {LOAD:.0f} calls/s; a timeout of {TIMEOUT:g} s; an "
    "outage in which the network keeps what is sent and delivers it at the end. Recovery in seconds: from the end of "
    "the outage to the first 2 s of whose calls 95 % are served; never: not in 200 s. A probe "
    "that fails costs its timeout and the open time after it, which grows with the outage: some 2 s after ten seconds, "
    "the longest, 3 s, after a minute. So recovery takes longer in the last rows, which nothing is promised of."
)

if __name__ == "__main__":
    main()
