"""
`python -m benchmarks.efficacy.tied`: R3, tied requests.

Table 2 of "The Tail at Scale" (Dean and Barroso, CACM 2013): a read goes to a second replica after a millisecond, and
the first answer wins. The times are lognormal; phi is the share of their variance that is the read's, not the
replica's. Three parameters stand for eight published cells. Exact values are integrals over what the copies have in
common.

The copies are the library's: `hedge(after=0.001, max_extra=1.0)`.
"""

from __future__ import annotations

import asyncio
import math
import random
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from benchmarks.efficacy import _results
from resilio import hedge
from resilio.testing import virtual_time

__all__ = [
    "PUBLISHED",
    "READS",
    "Reads",
    "main",
    "quantiles",
    "table",
    "tied",
]

QUANTILES = (0.5, 0.9, 0.99, 0.999)
DELAY = 1.0  # ms


@dataclass(frozen=True)
class Reads:
    """
    A law of reads in milliseconds, and what two copies of one have in common.

    Attributes:
        name: As it stands in the table.

        median: In milliseconds.

        sigma: The deviation of the logarithm.

        phi: The share of its variance that both copies have in common.
    """

    name: str
    median: float
    sigma: float
    phi: float

    def draw(self, source: random.Random) -> tuple[float, float]:
        """Return the times of two copies."""
        common = math.sqrt(self.phi) * source.gauss(0.0, 1.0)
        own = math.sqrt(1 - self.phi)
        first, second = (self.median * math.exp(self.sigma * (common + own * source.gauss(0.0, 1.0))) for _ in range(2))
        return first, second

    def tail(self, t: float, *, copies: bool) -> float:
        """Return the probability that a read takes longer, alone or with a copy a millisecond later."""
        if t <= 0:
            return 1.0
        own, steps, total = math.sqrt(1 - self.phi), 400, 0.0
        for k in range(steps):  # over what is common, by the midpoint rule from -6 to 6 deviations
            z = 12.0 * (k + 0.5) / steps - 6.0
            weight = math.exp(-z * z / 2) / math.sqrt(2 * math.pi) * 12.0 / steps
            total += weight * self._alone(t, z, own) * (self._alone(t - DELAY, z, own) if copies else 1.0)
        return total

    def _alone(self, t: float, z: float, own: float) -> float:
        if t <= 0:
            return 1.0
        above = (math.log(t / self.median) / self.sigma - math.sqrt(self.phi) * z) / own
        return 0.5 * math.erfc(above / math.sqrt(2))

    def exact(self, q: float, *, copies: bool) -> float:
        """Return a quantile in milliseconds."""
        low, high = 0.0, 1000.0
        while high - low > 1e-3:
            middle = (low + high) / 2
            low, high = (middle, high) if self.tail(middle, copies=copies) > 1 - q else (low, middle)
        return high


READS = (Reads("idle", 19.0, 0.54, 0.2), Reads("with terasort", 24.0, 0.65, 0.35))
PUBLISHED = {
    ("idle", False): (19, 38, 67, 98),
    ("idle", True): (16, 29, 42, 61),
    ("with terasort", False): (24, 56, 108, 159),
    ("with terasort", True): (19, 38, 67, 108),
}


class _Read:
    """One read: the times of its copies, in the order in which they are sent."""

    __slots__ = ("times",)

    def __init__(self, times: tuple[float, float]) -> None:
        self.times = list(times)


async def _send(read: _Read) -> None:
    await asyncio.sleep(read.times.pop(0) / 1e3)


async def _tied(reads: Reads, count: int, seed: int) -> list[float]:
    draw = random.Random(seed)
    loop = asyncio.get_running_loop()
    send = hedge(idempotent=True, after=DELAY / 1e3, max_extra=1.0)(_send)
    times: list[float] = []

    async def timed() -> None:
        begin = loop.time()
        await send(_Read(reads.draw(draw)))
        times.append((loop.time() - begin) * 1e3)

    async with asyncio.TaskGroup() as tasks:
        for _ in range(count):
            tasks.create_task(timed())
            await asyncio.sleep(0.001)
    return sorted(times)


def tied(reads: Reads, count: int, seed: int = 1) -> list[float]:
    """Return the times of so many reads in milliseconds, sorted; each has a copy after a millisecond."""
    with virtual_time() as vt:
        return vt.run(_tied, reads, count, seed)


def quantiles(times: Sequence[float]) -> list[float]:
    """Return the four quantiles of sorted times, by nearest rank."""
    return [times[math.ceil(q * len(times)) - 1] for q in QUANTILES]


def table(count: int) -> Iterator[tuple[str, ...]]:
    """
    Yield the rows.

    Args:
        count: Reads of each row.
    """
    for reads in READS:
        for copies in (False, True):
            draw = random.Random(1)
            seen = tied(reads, count) if copies else sorted(reads.draw(draw)[0] for _ in range(count))
            for q, figure, published in zip(QUANTILES, quantiles(seen), PUBLISHED[reads.name, copies], strict=True):
                exact = reads.exact(q, copies=copies)
                yield (
                    *(reads.name, "tied" if copies else "alone", f"p{100 * q:g}", str(published), f"{exact:.1f}"),
                    *(f"{figure:.1f}", f"{figure / published - 1:+.1%}"),
                )


def main(arguments: Sequence[str] | None = None) -> None:
    """Print the table."""
    parser = _results.command("Tied requests.")
    parser.add_argument("--reads", type=int, default=200_000, help="reads of a row (200000)")
    options = parser.parse_args(arguments)
    header = ("replicas", "read", "quantile", "published ms", "exact ms", "seen ms", "off the published by")
    text = _results.section(ABOUT, header, table(options.reads))
    _results.show("R3 tied requests", text, recorded=options.record)


ABOUT = (
    "A read goes to a second replica after 1 ms, by `hedge(after=0.001, max_extra=1.0)`; the first answer wins. "
    "Lognormal times, median 19 ms and sigma 0.54, phi 0.2 for idle replicas; 24 ms and 0.65, phi 0.35 for those that "
    "sort as well; phi is fitted, the paper gives none. Must: the eight published cells of tied reads within 10 %. "
    "The 99.9th percentile alone of the second is what three parameters do not hold."
)

if __name__ == "__main__":
    main()
