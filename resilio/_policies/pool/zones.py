"""
Zones and levels: the nearer an endpoint is, the earlier its level is called.

A level is a number, 0 is called first. An endpoint has that of its option; without one it follows from its zone and
that of the pool: 0 in the same zone, 1 in the same region, 2 elsewhere.
"""

from __future__ import annotations

import os
import re
from collections.abc import Sequence

from resilio._options.validators import policy_name
from resilio._policies.pool.endpoint import Endpoint

__all__ = ["SWITCH", "level_of", "ranked", "region_of", "zone_here"]

SWITCH = "RESILIO_ZONE"
"""The environment variable with the zone of this process, for pools whose code names none."""

SAME_ZONE, SAME_REGION, ELSEWHERE = 0, 1, 2
_ZONE = re.compile(r"(?P<region>.*[0-9])(?:-?[a-z]|-az[0-9]+)")
"""A region and its zone as AWS ("eu-central-1a", "use1-az2") and Google ("europe-west1-b") write them."""


def zone_here(zone: str | None) -> str | None:
    """
    Return the zone of this process: that of the option, or of the environment; None if neither is set.

    Raises:
        ValueError: The environment variable holds no name of a zone.
    """
    if zone is not None:
        return zone
    return policy_name(f"environment variable {SWITCH}", os.environ.get(SWITCH, "").strip() or None)


def region_of(zone: str) -> str:
    """
    Return the region of a zone.

    It is what stands before the first "/" ("westeurope/1"), else the zone without its last letter ("eu-1" of "eu-1a",
    "europe-west1" of "europe-west1-b"); a zone of another form is a region of its own.
    """
    before, slash, _ = zone.partition("/")
    if slash:
        return before
    match = _ZONE.fullmatch(zone)
    return zone if match is None else match["region"]


def level_of(endpoint: Endpoint, zone: str | None) -> int:
    """Return the level of an endpoint in a pool of this zone; 0 if nothing is known about where one of the two is."""
    if endpoint.level is not None:
        return endpoint.level
    if zone is None or endpoint.zone is None or endpoint.zone == zone:
        return SAME_ZONE
    return SAME_REGION if region_of(endpoint.zone) == region_of(zone) else ELSEWHERE


def ranked(levels: Sequence[int]) -> list[int]:
    """Return the ranks, from 0, of the endpoints' levels: levels without endpoints are left out."""
    ranks = {level: rank for rank, level in enumerate(sorted(set(levels)))}
    return [ranks[level] for level in levels]
