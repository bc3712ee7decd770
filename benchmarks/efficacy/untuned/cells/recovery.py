"""Clients of a server that has too much to do: buffered outages, cold dependencies, shared workers, tiers."""

from __future__ import annotations

import random
from collections.abc import Iterator
from functools import partial
from typing import Any

from benchmarks.efficacy._queueing import exponential
from benchmarks.efficacy.untuned._cell import Cell, Load
from benchmarks.efficacy.untuned._worlds import Served, Tiers, between, warming

__all__ = ["CELLS", "draw"]


def _storm(
    name: str, clients: int, length: float = 10.0, patience: float = 4.0, expires: float | None = None, **cell: Any
) -> Cell:
    """R8, a quarter of the size: 75/s can be served, 70/s come, and the network holds up all that is sent."""
    end = 20.0 + length
    world = partial(Served, service=exponential(1 / 75.0), held=(20.0, end), expires=expires)
    lost = 0.0 if expires else max(0.0, length * 70.0 / 75.0 - patience)  # until what is held up has been worked off
    cell |= {"clients": clients, "since": end, "cut": 1.0, "overloaded": True, "oracle": 1.0 - lost / 40.0}
    return Cell("storms", name, world, Load(70.0, end + 40.0), patience, **cell)


def _cold(name: str, clients: int, warm_up: float = 30.0, load: float = 40.0) -> Cell:
    """Down for 30 s, then a tenth of its speed; the minute after it is back counts."""
    world = partial(Served, service=between(0.02, 0.02), down=(10.0, 40.0), speed=warming(40.0, 0.1, warm_up))
    steps = [min(load, 50.0 * min(1.0, 0.1 + 0.9 * (second + 0.5) / warm_up)) for second in range(60)]
    share = sum(steps) / (60 * load)
    return Cell(
        "cold", name, world, Load(load, 100.0), 1.0, clients=clients, since=40.0, cut=1.0, overloaded=True, oracle=share
    )


def _shared(name: str, clients: int, workers: int, load: float, *, leaves: bool = False) -> Cell:
    """Clients that share workers of 0.2 s, whose queue has no bound; answers after 2 s are worth nothing."""
    world = partial(Served, service=exponential(0.2), workers=((0.0, workers),))
    options: dict[str, Any] = {"leaves": leaves, "told": leaves, "also": ("adaptive_limit()",)}
    options |= {"cut": 2.0, "overloaded": load > 1.0, "oracle": min(1.0, 1.0 / load)}
    return Cell(
        "shared workers", name, world, Load(load * workers / 0.2, 10.0), 2.0, clients=clients, since=5.0, **options
    )


def _sheds(name: str, load: float, asks: float | None = None) -> Cell:
    """A server of 200/s with room for ten, which rejects the others at once; 20 clients."""
    world = partial(Served, service=exponential(0.02), workers=((0.0, 4),), room=10, asks=asks)
    return Cell(
        "sheds", name, world, Load(200.0 * load, 40.0), 10.0, clients=20, since=10.0, overloaded=True, oracle=1.0 / load
    )


def _tiers(name: str, kind: str, between: int = 2, length: float = 5.0) -> Cell:
    """Workers of 0.05 s at a load of 0.85, behind services that pass calls on; then requests are held or rejected."""
    end = 15.0 + length
    trouble: dict[str, Any] = {kind: (15.0, end)}
    world = partial(Tiers, between=between, service=exponential(0.05), workers=((0.0, 4),), **trouble)
    lost = max(0.0, length * 68.0 / 80.0 - 2.0) if kind == "held" else 0.0
    share = 1.0 - lost / (55.0 - end)
    return Cell("tiers", name, world, Load(68.0, 55.0), 2.0, since=end, cut=1.0, overloaded=True, oracle=share)


CELLS = (
    _sheds("a server that rejects at once, load 1.5", 1.5),
    _sheds("a server that rejects at once and asks for 1 s, load 1.5", 1.5, 1.0),
    _storm("a buffered outage of 10 s, 50 clients", 50),
    _storm("a buffered outage of 10 s, 50 clients with a deadline of 1 s", 50, patience=1.0, told=True),
    _storm("a buffered outage of 10 s, 1 client", 1),
    _storm("a buffered outage of 10 s, 50 clients, a server that drops what has expired", 50, expires=1.0),
    _cold("a dependency that comes back cold, 20 clients", 20),
    _cold("a dependency that comes back cold, 1 client", 1),
    _shared("20 clients share 30 workers, load 1.5", 20, 30, 1.5),
    _shared("20 clients share 30 workers, load 1.5, callers leave after 2 s", 20, 30, 1.5, leaves=True),
    _shared("20 clients share 30 workers, load 3", 20, 30, 3.0),
    _shared("1 client of 30 workers, load 0.8", 1, 30, 0.8),
    _tiers("three tiers, held up for 5 s", "held"),
    _tiers("three tiers, down for 5 s", "down"),
    _tiers("two tiers, held up for 8 s", "held", 1, 8.0),
)


def draw(random: random.Random) -> Iterator[Cell]:
    """Draw an outage and the number of clients, a warm-up, workers that are shared, tiers, and a server that sheds."""
    clients, length = random.choice((1, 5, 20, 100)), random.uniform(4.0, 15.0)
    patience, told = random.choice((1.0, 2.5, 4.0)), random.random() < 0.5
    name = f"a buffered outage of {length:.1f} s, {clients} clients of {patience:g} s patience" + ", told" * told
    yield _storm(name, clients, length, patience, told=told)
    clients, warm_up = random.choice((1, 10, 50)), random.uniform(10.0, 50.0)
    yield _cold(f"warm in {warm_up:.0f} s, {clients} clients", clients, warm_up)
    clients, workers, load = random.randrange(1, 30), random.randrange(4, 30), random.uniform(0.6, 3.0)
    yield _shared(f"{clients} clients share {workers} workers, load {load:.1f}", clients, workers, load)
    between, length = random.choice((1, 2, 3)), random.uniform(2.0, 10.0)
    kind = random.choice(("held", "down"))
    yield _tiers(f"{between + 1} tiers, {kind} for {length:.1f} s", kind, between, length)
    load, asks = random.uniform(1.1, 2.0), random.choice((None, 1.0))
    yield _sheds(f"rejects at once, load {load:.2f}" + " and asks for 1 s" * (asks is not None), load, asks)
