"""Quotas of providers, clients that are asked to come back, and tenants behind one breaker."""

from __future__ import annotations

import random
from collections.abc import Iterator
from functools import partial

from benchmarks.efficacy.untuned._cell import Cell, Load
from benchmarks.efficacy.untuned._worlds import Door, Flaky, Quota, between

__all__ = ["CELLS", "draw"]


def _model(name: str, quota: int, used: float, burst: int, lasts: float = 900.0, *, says: bool = True) -> Cell:
    load = Load(quota / 60.0 * used / burst, lasts, size=burst, spread=2.0)
    world = partial(Quota, quota=quota, says=says)
    return Cell(
        "quotas", name, world, load, patience=600.0, on="model", also=("OpenAI", "tenacity"), told=True, oracle=1.0
    )


def _herd(
    name: str, clients: int, asks: float | None, rate: float = 700.0, status: int = 503, burst: float = 75.0
) -> Cell:
    load = Load(5.0, 0.4, size=clients, spread=0.05, pause=10.0)
    world = partial(Door, rate=rate, burst=burst, opens=0.5, asks=asks, status=status)
    return Cell("herds", name, world, load, clients=clients, overloaded=False, oracle=1.0)


def _tenants(name: str, share: float, rate: float = 100.0) -> Cell:
    load = Load(rate, 40.0, kinds={"broken": share, "well": 1.0})
    world = partial(Flaky, broken=frozenset({"broken"}), fails_in=between(0.01, 0.03))
    return Cell("tenants", name, world, load, kind="well", oracle=1.0)


CELLS = (
    _model("users of a model at 80 % of its quota, in bursts", 60, 0.8, 16),
    _model("60 calls a minute, a batch of 180", 60, 0.9, 180, 1200.0),
    _model("80 % of the quota in bursts, 429s without Retry-After", 60, 0.8, 16, says=False),
    _herd("1,000 clients are asked to come back in 1 s", 1000, 1.0),
    _herd("200 clients are asked to come back in 5 s", 200, 5.0, 100.0, 429, 20.0),
    _herd("500 clients are rejected and asked nothing", 500, None, 300.0),
    _tenants("40 % of the calls are a broken tenant's: the others", 0.4),
    _tenants("55 % of the calls are a broken tenant's: the others", 0.55),
    _tenants("20 % of the calls are a broken tenant's: the others", 0.2),
)


def draw(random: random.Random) -> Iterator[Cell]:
    """Draw a quota and how it is used, a herd, and a broken tenant."""
    quota, used, burst = random.randrange(20, 200), random.uniform(0.5, 0.95), random.randrange(4, 60)
    yield _model(f"{quota} a minute, used to {used:.0%} in bursts of {burst}", quota, used, burst, 36000.0 / quota)
    clients, asks = round(50 * 20 ** random.random()), random.uniform(0.5, 8.0)
    rate = clients * random.uniform(0.3, 1.5)
    yield _herd(
        f"{clients} clients come back in {asks:.1f} s, {rate:.0f}/s are taken", clients, asks, rate, 503, rate / 10
    )
    share = random.uniform(0.1, 0.7)
    yield _tenants(f"{share:.0%} of the calls are a broken tenant's: the others", share)
