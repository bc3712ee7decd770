"""`load_shed()` before workers: bound by I/O or by the processor, with less capacity than before, cold, in bursts."""

from __future__ import annotations

import random
from collections.abc import Iterator
from functools import partial
from typing import Any

from benchmarks.efficacy._queueing import exponential, lognormal
from benchmarks.efficacy.untuned._cell import Cell, Draw, Load
from benchmarks.efficacy.untuned._worlds import Flaky, Served, between, warming

__all__ = ["CELLS", "draw"]

_TOLD = ("load_shed(c)", "adaptive_limit()", "adaptive_limit(start=c)")
_ENDLESS = 100_000


def _io(name: str, rate: float, before: float, after: float, lasts: float = 40.0, workers: int = 200) -> Cell:
    """A service that only waits for a dependency, which gets slow for good."""
    world = partial(Flaky, took=between(0.8 * before, 1.2 * before), slow=((20.0, 1e9, after / before),))
    load = Load(rate, 20.0 + lasts)
    options: dict[str, Any] = {
        "workers": workers,
        "mean": before,
        "also": _TOLD,
        "told": True,
        "oracle": 1.0,
        "leaves": False,
    }
    return Cell("I/O-bound", name, world, load, 10.0, since=20.0, side="server", **options)


def _served(
    family: str,
    name: str,
    workers: int,
    service: Draw,
    mean: float,
    load: float,
    *,
    left: int | None = None,
    since: float = 20.0,
    lasts: float = 30.0,
    bursts: tuple[float, float, float] | None = None,
    **world: Any,
) -> Cell:
    """Workers with a load, of which from `since` on some are left."""
    numbers = ((0.0, workers),) if left is None else ((0.0, workers), (since, left))
    rate = load * workers / mean
    factor = 1.0 if bursts is None else (bursts[0] * bursts[1] + bursts[2]) / (bursts[1] + bursts[2])
    share = (workers if left is None else left) / (workers * load * factor)
    return Cell(
        family,
        name,
        partial(Served, service=service, workers=numbers, **world),
        Load(rate, since + lasts, bursts=bursts),
        patience=10.0 * mean,
        since=since,
        side="server",
        leaves=False,
        overloaded=share < 1.0 or (bursts is not None and load * bursts[0] > 1.0) or "speed" in world,
        workers=workers,
        mean=mean,
        also=_TOLD,
        told=True,
        oracle=None if bursts or "speed" in world else min(1.0, share),
    )


def _bound(name: str, workers: int, mean: float, cv: float, load: float, seconds: float = 25.0) -> Cell:
    return _served("CPU-bound", name, workers, lognormal(mean, cv), mean, load, since=5.0, lasts=seconds)


CELLS = (
    _io("its dependency goes from 20 ms to 2 s, 40/s", 40.0, 0.02, 2.0),
    _io("its dependency goes from 50 ms to 1 s, 100/s", 100.0, 0.05, 1.0),
    _io("its dependency takes 1 s, 60/s", 60.0, 1.0, 1.0),
    _served("capacity", "12 of 100 workers are left", 100, exponential(0.2), 0.2, 0.6, left=12, since=10.0, lasts=15.0),
    _served(
        "capacity",
        "12 of 100 workers are left, and its client gives up after 2 s",
        100,
        exponential(0.2),
        0.2,
        0.6,
        left=12,
        since=10.0,
        lasts=15.0,
        gives_up=2.0,
    ),
    _served("capacity", "6 of 50 workers are left", 50, exponential(0.2), 0.2, 0.6, left=6, since=5.0, lasts=10.0),
    _served("capacity", "half of 20 workers are left, load 0.8", 20, exponential(0.2), 0.2, 0.8, left=10, lasts=20.0),
    _served("cold", "200 workers of 0.1 s, first 3 s", 200, exponential(0.1), 0.1, 0.8, since=0.0, lasts=3.0),
    _served("cold", "200 workers of 0.5 s, first 15 s", 200, exponential(0.5), 0.5, 0.8, since=0.0, lasts=15.0),
    _served("cold", "1,000 workers, first 10 s", 1000, exponential(2.0), 2.0, 0.8, since=0.0, lasts=10.0),
    _served("cold", "20 workers, first 10 s", 20, exponential(0.05), 0.05, 0.8, since=0.0, lasts=10.0),
    _bound("4 workers of 10 ms, load 0.7", 4, 0.01, 1.0, 0.7, 10.0),
    _bound("4 workers of 10 ms, load 1.5", 4, 0.01, 1.0, 1.5, 3.0),
    _bound("8 workers of 50 ms, load 2", 8, 0.05, 0.5, 2.0, 10.0),
    _served("bursts", "load 0.6, x 4 for 1 of 10 s", 10, exponential(0.05), 0.05, 0.6, bursts=(4.0, 1.0, 9.0)),
    _served(
        "bursts", "load 0.9, x 3 for 3 of 10 s", 10, exponential(0.1), 0.1, 0.9, lasts=20.0, bursts=(3.0, 3.0, 7.0)
    ),
    _served(
        "cold",
        "caches: a tenth of the speed, warm in 20 s",
        20,
        exponential(0.05),
        0.05,
        0.5,
        since=0.0,
        lasts=30.0,
        speed=warming(0.0, 0.1, 20.0),
    ),
)


def draw(random: random.Random) -> Iterator[Cell]:
    """Draw a dependency that gets slow, a loss of workers, a cold start, a load and bursts."""
    rate, before, after = 10.0 * 15 ** random.random(), 0.01 * 20 ** random.random(), random.uniform(0.3, 4.0)
    yield _io(f"its dependency from {before:.2f} to {after:.1f} s, {rate:.0f}/s", rate, before, after, 30.0)
    workers, mean, load = round(10 * 15 ** random.random()), 0.1 * 5 ** random.random(), random.uniform(0.5, 0.9)
    left = max(1, round(workers * random.uniform(0.1, 0.8)))
    name = f"{left} of {workers} workers of {mean:.2f} s are left, load {load:.1f}"
    yield _served(
        "capacity",
        name,
        workers,
        lognormal(mean, 1.0),
        mean,
        load,
        left=left,
        since=10.0,
        lasts=min(20.0, 3000.0 * mean / (workers * load)),
    )
    workers, mean = round(10 * 40 ** random.random()), random.uniform(0.2, 2.0)
    lasts = min(15.0, 5000.0 * mean / workers)
    name = f"{workers} workers of {mean:.1f} s, first {lasts:.0f} s"
    yield _served("cold", name, workers, exponential(mean), mean, 0.75, since=0.0, lasts=lasts)
    workers, mean, cv = random.randrange(1, 30), 0.02 * 10 ** random.random(), random.uniform(0.3, 2.0)
    load = 0.4 * 6 ** random.random()
    seconds = min(25.0, 4000.0 * mean / (workers * load))
    yield _bound(f"{workers} workers of {mean:.3f} s, CV {cv:.1f}, load {load:.1f}", workers, mean, cv, load, seconds)
    load, bursts = random.uniform(0.4, 0.9), (random.uniform(2.0, 5.0), random.uniform(0.5, 3.0), 6.0)
    name = f"load {load:.1f}, x {bursts[0]:.1f} for {bursts[1]:.1f} of {bursts[1] + 6:.1f} s"
    yield _served("bursts", name, 10, exponential(0.1), 0.1, load, bursts=bursts)
