"""Shares of calls that fail, in one call or pages of many; slow calls behind one policy; latency that changes."""

from __future__ import annotations

import math
import random
from collections.abc import Iterator
from functools import partial

from benchmarks.efficacy._queueing import lognormal
from benchmarks.efficacy.untuned._cell import Cell, Load
from benchmarks.efficacy.untuned._worlds import Flaky, between

__all__ = ["CELLS", "draw"]


def _rare(name: str, share: float, seconds: float, rate: float = 60.0, lasts: float = 120.0) -> Cell:
    world = partial(Flaky, kinds={"slow": between(seconds, seconds)})
    return Cell(
        "mixed costs", name, world, Load(rate, lasts, kinds={"slow": share}), kind="slow", since=10.0, oracle=1.0
    )


def _step(name: str, times: float, lasts: float = math.inf, family: str = "deploys") -> Cell:
    world = partial(Flaky, slow=((20.0, 20.0 + lasts, times),), took=between(0.01, 0.03))
    return Cell(family, name, world, Load(50.0, 60.0), since=20.0, oracle=1.0)


CELLS = (
    Cell(
        "budgets", "20 % are 429s, 5 attempts", partial(Flaky, share=0.2, status=429, asks=1.0), Load(60.0), attempts=5
    ),
    Cell("budgets", "10 % are 503s", partial(Flaky, share=0.1), Load(100.0, 40.0), oracle=1.0),
    Cell(
        "budgets",
        "pages of 50 calls, 5 % fail",
        partial(Flaky, share=0.05),
        Load(1.0, 90.0, size=50, whole=True),
        oracle=1.0,
    ),
    Cell("budgets", "brownout: 40 % fail for 20 s", partial(Flaky, share=0.4, spans=((20.0, 40.0),)), Load(60.0, 50.0)),
    Cell("budgets", "10 % are 500s, 20 clients", partial(Flaky, share=0.1, status=500), Load(60.0, 60.0), clients=20),
    Cell(
        "budgets",
        "40 % fail as late as others succeed",
        partial(Flaky, share=0.4, fails_in=between(0.01, 0.03)),
        Load(60.0, 60.0),
    ),
    _rare("0.1 % of the calls take 1 s, those", 0.001, 1.0, 100.0, 150.0),
    _rare("0.5 % of the calls take 0.4 s, those", 0.005, 0.4),
    _rare("2 % of the calls take 5 s, those", 0.02, 5.0, 30.0),
    Cell(
        "mixed costs",
        "heavy tail: lognormal of 50 ms, CV 4",
        partial(Flaky, took=lognormal(0.05, 4.0)),
        Load(50.0, 60.0),
        also=("hedge()",),
        oracle=1.0,
    ),
    _step("from 20 to 400 ms after a deploy, for good", 20.0),
    _step("x 4 for 20 s", 4.0, 20.0),
    _step("the round trip doubles for good", 2.0),
    Cell("low traffic", "1 call in 10 s, 5 % fail", partial(Flaky, share=0.05), Load(0.1, 6000.0), oracle=1.0),
    Cell("low traffic", "1 call in 10 s, 25 % fail", partial(Flaky, share=0.25), Load(0.1, 6000.0)),
    Cell(
        "low traffic",
        "1 call a second, down for a minute",
        partial(Flaky, share=1.0, status=0, spans=((60.0, 120.0),)),
        Load(1.0, 400.0),
        since=120.0,
        oracle=1.0,
    ),
)


def draw(random: random.Random) -> Iterator[Cell]:
    """Draw shares that fail up to 30 %, with a status; pages; rare slow calls; a change of latency; a slow rate."""
    share, status = random.uniform(0.02, 0.3), random.choice((429, 500, 503, 0))
    rate, clients = 3.0 * 40 ** random.random(), random.choice((1, 1, 5, 20))
    asks = random.choice((None, 0.5, 2.0)) if status in {429, 503} else None
    world = partial(Flaky, share=share, status=status, asks=asks)
    name = f"{share:.0%} {status or 'rejected'}, asks {asks}, {rate:.0f}/s, {clients} clients"
    yield Cell("budgets", name, world, Load(rate, min(200.0, 3000 / rate)), clients=clients)
    size, share = random.randrange(5, 150), random.uniform(0.005, 0.1)
    load = Load(1.0, 60.0, size=size, whole=True)
    yield Cell("budgets", f"pages of {size}, {share:.1%} fail", partial(Flaky, share=share), load, oracle=1.0)
    share, seconds = 0.001 * 50 ** random.random(), 0.2 * 40 ** random.random()
    yield _rare(f"{share:.2%} of the calls take {seconds:.2f} s, those", share, seconds)
    times = random.uniform(2.0, 40.0)
    yield _step(f"latency x {times:.0f} for good", times)
    rate, share = 0.02 * 50 ** random.random(), random.uniform(0.02, 0.3)
    load = Load(rate, 400 / rate)
    yield Cell("low traffic", f"1 call in {1 / rate:.1f} s, {share:.0%} fail", partial(Flaky, share=share), load)
