"""Batches by `asyncio.gather`: failures come back before slower successes."""

from __future__ import annotations

import random
from collections.abc import Iterator
from functools import partial
from typing import Any

from benchmarks.efficacy.untuned._cell import Cell, Load
from benchmarks.efficacy.untuned._worlds import Flaky, between

__all__ = ["CELLS", "draw"]

_TOOK = between(0.05, 0.15)


def _cell(name: str, size: int, share: float, pause: float = 1.0, batches: int = 30, **world: Any) -> Cell:
    load = Load(size=size, pause=pause, seconds=batches * (pause + 0.1))
    return Cell("batches", name, partial(Flaky, share=share, took=_TOOK, **world), load, oracle=1.0)


CELLS = (
    _cell("100 at a time, 12 % fail at once", 100, 0.12),
    _cell("500 at a time, 5 % fail at once", 500, 0.05, batches=10),
    _cell("30 at a time, 20 % fail at once", 30, 0.2),
    _cell("100 at a time, 12 % fail as late as others succeed", 100, 0.12, fails_in=_TOOK),
    _cell("200 at a time without a pause, 3 % refuse connections", 200, 0.03, 0.01, 60, status=0),
)


def draw(random: random.Random) -> Iterator[Cell]:
    """Draw sizes from 10 to 400, and up to a quarter that fails."""
    size, share = round(10 * 40 ** random.random()), random.uniform(0.02, 0.25)
    pause, fails_in = random.uniform(0.05, 3.0), random.choice((0.001, 0.01, 0.1))
    yield _cell(
        f"{size}, {share:.0%} fail in {fails_in:g} s, pause {pause:.1f} s",
        size,
        share,
        pause,
        30,
        fails_in=between(fails_in, 1.5 * fails_in),
    )
