"""Replicas that are down, slow or hang, alone, by zones or one after the other."""

from __future__ import annotations

import math
import random
from collections.abc import Iterator, Sequence
from functools import partial

from benchmarks.efficacy.untuned._cell import Cell, Load
from benchmarks.efficacy.untuned._worlds import Fault, Replicas, between

__all__ = ["CELLS", "draw"]


def _cell(family: str, name: str, faults: Sequence[Fault], rate: float = 100.0, seconds: float = 40.0) -> Cell:
    return Cell(family, name, partial(Replicas, faults=faults), Load(rate, seconds), oracle=1.0)


def _down(*replicas: int, begin: float = 0.0, end: float = math.inf) -> tuple[Fault, ...]:
    return tuple(Fault(replica, begin, end) for replica in replicas)


def _gray(
    name: str, times: float, share: float = 1.0, *, of: int = 1, least: bool = False, begin: float = 20.0
) -> Cell:
    """Some of 8 replicas are slow for 30 s; 20 s before and 10 s after count as well."""
    faults = [Fault(replica, begin, begin + 30.0, times, share) for replica in range(of)]
    world = partial(Replicas, faults=faults, least=least, took=between(0.01, 0.05))
    load = Load(50.0, begin + 40.0)
    also = ("hedge()", "hedge, no cap")
    return Cell("gray", name, world, load, since=begin - 20.0, also=also, oracle=1.0)


_ROLLING = tuple(Fault(replica, 5.0 * replica, 5.0 * replica + 5.0) for replica in range(8))
CELLS = (
    _cell("deploys", "each of 8 replicas refuses connections for 5 s", _ROLLING),
    _cell("replicas", "3 of 8 are down", _down(0, 1, 2)),
    _cell("replicas", "1 of 3 is down, 5/s", _down(0), 5.0, 120.0),
    _cell("replicas", "3 of 8 are down for 10 s", _down(0, 1, 2, begin=15.0, end=25.0)),
    _cell("zones", "a zone of two is down, 4 of 8", _down(0, 1, 2, 3)),
    _cell("zones", "a zone of three is down, 1/s", _down(0, 1, 2), 1.0, 300.0),
    Cell(
        "replicas",
        "one of 8 hangs",
        partial(Replicas, faults=(Fault(0, 10.0, math.inf, math.inf),)),
        Load(30.0, 60.0),
        since=10.0,
        oracle=1.0,
    ),
    Cell(
        "replicas",
        "one of 8 rejects, least busy first",
        partial(Replicas, faults=_down(0), least=True),
        Load(200.0, 20.0),
        oracle=1.0,
    ),
    _gray("one of 8 is 10 x slow for 30 s", 10.0),
    _gray("one of 8 is 10 x slow for 30 s, least busy first", 10.0, least=True),
    _gray("all of 8 pause in 5 % of their calls", 20.0, 0.05, of=8),
    _gray("one of 8 is 10 x slow after 60 s of quiet", 10.0, begin=60.0),
)


def draw(random: random.Random) -> Iterator[Cell]:
    """Draw how many replicas there are, up to half of which are down; a gray one; and a deploy."""
    count = random.randrange(3, 16)
    down, rate = random.randrange(1, count // 2 + 1), 3.0 * 60 ** random.random()
    world = partial(Replicas, number=count, faults=_down(*range(down), begin=5.0), least=random.random() < 0.3)
    where = "zones" if 2 * down == count else "replicas"
    load = Load(rate, min(120.0, 4000.0 / rate))
    yield Cell(where, f"{down} of {count} are down, {rate:.0f}/s", world, load, since=5.0, oracle=1.0)
    times, share = random.uniform(4.0, 30.0), random.choice((0.05, 0.3, 1.0))
    slow = 1 if share == 1.0 else random.randrange(1, 9)
    yield _gray(f"{slow} of 8 are {times:.0f} x slow in {share:.0%} of their calls", times, share, of=slow)
    count, each = random.randrange(2, 12), random.uniform(1.0, 8.0)
    faults = tuple(Fault(one, 5 + each * one, 5 + each * one + each) for one in range(count))
    load = Load(60.0, 5.0 + count * each)
    name = f"each of {count} rejects for {each:.1f} s"
    yield Cell("deploys", name, partial(Replicas, number=count, faults=faults), load, since=5.0, oracle=1.0)
    parts, each = random.randrange(2, 5), random.randrange(1, 5)
    world = partial(Replicas, number=parts * each, faults=_down(*range(each), begin=5.0))
    rate = 5.0 * 20 ** random.random()
    load = Load(rate, min(120.0, 4000.0 / rate))
    yield Cell("zones", f"one of {parts} zones of {each}, {rate:.0f}/s", world, load, since=5.0, oracle=1.0)
