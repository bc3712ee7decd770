"""
`python -m benchmarks.efficacy.hedge`: what hedging does where nothing queues, beside exact and published values.

R1 is the workload of bhope/hedge (2026): 5 ms, give or take 2, and every 20th call takes ten times as long. R2 is that
of "The Tail at Scale" (Dean and Barroso, CACM 2013): a request reads from 100 servers and ends when the slowest has
answered; a copy after 10 ms takes its p99.9 from 1.8 s to 74 ms. The hedges are the real library's, on virtual time.

Exact are the quantiles and the extra load of copies that are drawn independently and started at given times: see
`_laws`. A delay that is a quantile is learned from the last 10,000 to 20,000 calls; there, exact is the mean over the
delays that there were. Where hardly any call is as long as the quantile, as at the p95 of R1, they differ a lot.
"""

from __future__ import annotations

import asyncio
import math
import random
from collections import Counter
from collections.abc import Awaitable, Callable, Iterator, Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import Any

from benchmarks.efficacy import _results
from benchmarks.efficacy._laws import BIGTABLE, MIXTURE, Law, Tail, extra, hedged, quantile
from resilio import Hedge, hedge
from resilio.testing import virtual_time

__all__ = ["FAN_OUT", "Read", "Seen", "fan_out", "fan_out_table", "learned", "main", "schedule", "single", "table"]

RATE = 1000.0  # calls, or requests to all servers, a second
FAN_OUT = 100
FIRST = 10.0  # ms: a read below it never meets a hedge

Send = Callable[["Read"], Awaitable[None]]


class Read:
    """What a call asks for, and what its first copy takes, in milliseconds; without it that is drawn, as for others."""

    __slots__ = ("first",)

    def __init__(self, first: float | None = None) -> None:
        self.first = first


Policy = Callable[[Send], Send]


@dataclass(frozen=True)
class Seen:
    """
    What a run came to.

    Attributes:
        times: Of all calls or requests, in milliseconds, sorted.

        extra: Copies in addition, a call.

        delays: How often the delay before a copy was which, in milliseconds; None: there was none yet.
    """

    times: list[float]
    extra: float
    delays: Counter[float | None]

    def quantile(self, q: float) -> float:
        """Return the time of nearest rank, in milliseconds."""
        return self.times[math.ceil(q * len(self.times)) - 1]


def schedule(starts: Sequence[float], **options: Any) -> Policy:
    """
    Return a decorator that hedges at these times, as the real library does it.

    Args:
        starts: Milliseconds from the start of the call; none: it does not hedge at all.

        options: Of `hedge`, beside the times.
    """
    if not starts:
        return lambda send: send
    after = tuple((start - before) / 1e3 for before, start in pairwise((0.0, *starts)))
    return hedge(idempotent=True, after=after, **options)


class _Service:
    """A service without queues: every copy takes a time of its own."""

    def __init__(self, law: Law, seed: int) -> None:
        self.law = law
        self.draw = random.Random(seed + 1_000_003)
        self.loop = asyncio.get_running_loop()
        self.calls = self.copies = 0
        self.times: list[float] = []
        self.delays: Counter[float | None] = Counter()

    async def send(self, read: Read) -> None:
        """Answer after the time that a copy takes; at once if that is none."""
        self.copies += 1
        first, read.first = read.first, None
        milliseconds = self.law.draw(self.draw) if first is None else first
        if milliseconds <= 0:
            return
        answer = self.loop.create_future()
        timer = self.loop.call_later(milliseconds / 1e3, answer.set_result, None)
        try:
            await answer
        finally:
            timer.cancel()

    async def timed(self, calls: Sequence[Awaitable[None]]) -> None:
        """Await calls that were made now, and write down when the last one ended, in milliseconds."""
        begin = self.loop.time()
        if len(calls) == 1:
            await calls[0]
        else:
            await asyncio.gather(*calls)
        self.times.append((self.loop.time() - begin) * 1e3)

    def seen(self) -> Seen:
        """Return what it has come to."""
        return Seen(sorted(self.times), self.copies / self.calls - 1, self.delays)


async def _single(law: Law, policy: Policy | Hedge, calls: int, seed: int) -> Seen:
    service = _Service(law, seed)
    send = policy(service.send)
    arrivals = random.Random(seed)
    now = service.loop.time()
    async with asyncio.TaskGroup() as tasks:
        for _ in range(calls):
            now += arrivals.expovariate(RATE)
            await asyncio.sleep(now - service.loop.time())
            service.calls += 1
            if isinstance(policy, Hedge):
                service.delays[None if policy.delay is None else policy.delay * 1e3] += 1
            tasks.create_task(service.timed([send(Read())]))
    return service.seen()


def single(law: Law, policy: Policy | Hedge, calls: int, seed: int = 1) -> Seen:
    """Return what so many calls came to, which arrive at random, a thousand a second."""
    with virtual_time() as vt:
        return vt.run(_single, law, policy, calls, seed)


async def _fan_out(policy: Policy, requests: int, seed: int) -> Seen:
    service = _Service(BIGTABLE, seed)
    send = policy(service.send)
    draw = random.Random(seed)
    async with asyncio.TaskGroup() as tasks:
        for _ in range(requests):
            service.calls += FAN_OUT
            slow = [time for _ in range(FAN_OUT) if (time := BIGTABLE.draw(draw)) > FIRST]
            for _ in range(FAN_OUT - len(slow)):
                await send(Read(0.0))
            if slow:
                tasks.create_task(service.timed([send(Read(time)) for time in slow]))
            else:
                service.times.append(FIRST)
            await asyncio.sleep(1 / RATE)
    return service.seen()


def fan_out(policy: Policy, requests: int, seed: int = 1) -> Seen:
    """
    Return what so many requests to 100 servers each came to.

    Reads of up to 10 ms, before any copy starts, go through the library but take no time: only the slowest read of a
    request counts, and nine requests of ten have a slower one. The others are written down with 10 ms.

    Args:
        policy: How a read is sent.

        requests: A hundred times as many reads; p99.9 needs 100,000.

        seed: Of this run.
    """
    with virtual_time() as vt:
        return vt.run(_fan_out, policy, requests, seed)


PLAIN = "none"
# Milliseconds at which copies start, and what was published.
SINGLE: tuple[tuple[str, tuple[float, ...], str], ...] = (
    (PLAIN, (), "64.3 / 104.5"),
    ("at 10 ms", (10.0,), "17.4 / 46.5, 7.4 %"),
    ("at 50 ms", (50.0,), "54.7 / 60.2, 2.1 %"),
    ("at 10 and 20 ms", (10.0, 20.0), ""),
    ("at 8.65 and 45 ms: p99 at 10 %", (8.65, 45.0), "p99 <= 15.6"),
    ("at 9.7 and 14.7 ms: p99.9 at 10 %", (9.7, 14.7), "p99.9 <= 20.5"),
    ("at 9.2 and 15.4 ms: both at 10 %", (9.2, 15.4), "15.6 / 20.5"),
    ("at 8.7 and 14.9 ms: both", (8.7, 14.9), "15.6 / 20.5"),
)
LEARNED = (("p90", "17.0 / 59.4, 8.9 %"), ("p95", ""))
FANNED: tuple[tuple[str, tuple[float, ...], str], ...] = (
    (PLAIN, (), "1,800"),
    ("at 10 ms", (10.0,), "74, 2 %"),
    ("at 10 and 20 ms", (10.0, 20.0), "<= 27, <= 2.1 %"),
    ("at 10 and 13.25 ms", (10.0, 13.25), "<= 27, <= 2.1 %"),
)


def _row(what: str, seen: Seen, tail: Tail, more: float, copies: int, published: str) -> tuple[str, ...]:
    cells = []
    for q in (0.99, 0.999):
        exact, figure = quantile(tail, q, copies), seen.quantile(q)
        cells += [f"{exact:.2f}", f"{figure:.2f} ({figure / exact - 1:+.1%})"]
    return (what, *cells, f"{more:.2%}", f"{seen.extra:.2%}", published or "-")


def learned(name: str, calls: int, seed: int = 1) -> tuple[Seen, Tail, float]:
    """
    Return what calls came to whose delay is learned, and the tail and the extra load of the delays that there were.

    Args:
        name: Of the quantile, like "p95".

        calls: How many.

        seed: Of this run.
    """
    seen = single(MIXTURE, hedge(idempotent=True, after=name, max_extra=1.0), calls, seed)
    parts = [(n / calls, () if delay is None else (delay,)) for delay, n in seen.delays.items()]
    tails = [(share, hedged(MIXTURE, starts)) for share, starts in parts]
    more = sum(share * extra(MIXTURE, starts) for share, starts in parts)
    return seen, lambda t: sum(share * tail(t) for share, tail in tails), more


def table(calls: int) -> Iterator[tuple[str, ...]]:
    """
    Yield the rows of R1.

    Args:
        calls: Of each row.
    """
    for what, starts, published in SINGLE:
        seen = single(MIXTURE, schedule(starts, max_extra=1.0), calls)
        yield _row(what, seen, hedged(MIXTURE, starts), extra(MIXTURE, starts), 1, published)
    for name, published in LEARNED:
        yield _row(f"at the learned {name}", *learned(name, calls), 1, published)


def fan_out_table(requests: int) -> Iterator[tuple[str, ...]]:
    """
    Yield the rows of R2.

    Args:
        requests: Of each row.
    """
    for what, starts, published in FANNED:
        seen = fan_out(schedule(starts), requests)
        yield _row(what, seen, hedged(BIGTABLE, starts), extra(BIGTABLE, starts), FAN_OUT, published)


_HEADER = ("hedges", "p99 exact", "p99 seen", "p99.9 exact", "p99.9 seen", "extra exact", "extra seen", "published")
_ABOUT_SINGLE = """{calls:,} calls a row, without a cap. Published are p99 / p99.9 in ms and the extra load of a
measured run of bhope/hedge; what has a "<=" is the aim. No two times reach both aims within 10 % of extra load: what
comes nearest is 16.1 / 21.0 ms, and both need 11.3 %. Each alone is reached but for what timers that are up to 1/8 ms
late cost, 0.2 %. At a learned quantile exact is the mean over the delays that were learned; with a delay of exactly
p90 it is 15.53 / 44.75, of p95 24.18 / 48.04. Between 14 and 25 ms the law is so flat that 20,000 calls do not tell
its p95 better than that."""
_ABOUT_FAN_OUT = """{requests:,} requests a row, each to 100 servers, with the default cap of 5 %. Published are p99.9
in ms and the extra load of "The Tail at Scale"; what has a "<=" is the aim. Of 100,000 requests 100 are above p99.9:
its standard error is 6 % without hedges, where the tail is that of t^-1.8, and 1 to 4 % with them."""


def main() -> None:
    """Print the tables."""
    parser = _results.command("What hedging does where nothing queues.")
    parser.add_argument("--calls", type=int, default=400_000, help="of each row of R1 (400,000)")
    parser.add_argument("--requests", type=int, default=100_000, help="of each row of R2 (100,000)")
    options = parser.parse_args()
    for title, about, rows in (
        ("R1 hedge without queueing", _ABOUT_SINGLE.format(calls=options.calls), table(options.calls)),
        ("R2 BigTable fan-out", _ABOUT_FAN_OUT.format(requests=options.requests), fan_out_table(options.requests)),
    ):
        text = _results.section(" ".join(about.split()), _HEADER, rows)
        _results.show(title, text, recorded=options.record)


if __name__ == "__main__":
    main()
