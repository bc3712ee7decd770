"""The offered load: who asks for what, and when, fixed before the run begins and the same for both runs."""

from __future__ import annotations

import random
from collections.abc import Mapping

import attrs

__all__ = ["Arrival", "poisson_arrivals"]


@attrs.frozen
class Arrival:
    """
    One request that the service is asked to serve.

    Attributes:
        at: When, in seconds from the start.

        dependency: Which dependency it needs.

        request: Its identity.
    """

    at: float
    dependency: str
    request: str


def poisson_arrivals(seed: int, seconds: float, rates: Mapping[str, float], limit: int = 50_000) -> list[Arrival]:
    """
    Draw an open-loop load: independent Poisson arrivals that wait for nobody, the same for the same arguments.

    Args:
        seed: Of the run.

        seconds: How long requests arrive.

        rates: Requests per second for each dependency, > 0.

        limit: Largest number of arrivals.

    Returns:
        All arrivals in the order of time.

    Raises:
        ValueError: If the load would exceed *limit*.
    """
    arrivals: list[Arrival] = []
    for dependency, rate in rates.items():
        draw = random.Random(f"{seed}/{dependency}/arrivals")
        at = draw.expovariate(rate)
        while at < seconds:
            if len(arrivals) >= limit:
                raise ValueError(f"rates={dict(rates)!r} over {seconds:g} s give more than {limit} arrivals")
            arrivals.append(Arrival(at, dependency, f"{dependency}-{len(arrivals)}"))
            at += draw.expovariate(rate)
    return sorted(arrivals, key=lambda arrival: arrival.at)
