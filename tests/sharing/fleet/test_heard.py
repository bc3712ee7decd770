"""What calls lack reaches the courier of their host, whichever process it is in: it is rung for, and looks."""

from __future__ import annotations

import sys
from typing import Any

import pytest

from resilio._policies.rate_limit.policy import RateLimit, RateLimitConfig
from resilio.sharing import Fleet, MemoryEngine
from resilio.testing import virtual_time

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="shared memory of hosts is for Linux")


def limit_of(fleet: Fleet, **given: Any) -> Any:
    """Return a limit of which each call is asked for."""
    options: Any = {"rates": ("100/s",), "scope": fleet, "accuracy": "exact", **given}
    return RateLimit(RateLimitConfig(**options), "orders")


def test_a_ring_for_nothing_does_not_silence_the_next_one() -> None:
    """
    A third of all calls was rejected at a fifth of the limit, in all processes of a host but the courier's.

    A call rang before it had reported what it lacked. The courier looked, found nothing, and slept; the ring stayed. So
    the call did not ring again once it had reported, nor did those after it.
    """
    with virtual_time() as vt:
        fleet = Fleet("shop", MemoryEngine(), is_stepped=True)
        limit = limit_of(fleet)
        cell = limit._link.tie.cell
        for _ in range(5):
            vt.advance(0.25)
            fleet.step()
        assert not cell.rings
        cell.ring()
        trips = fleet.courier.trips
        fleet.step()
        assert fleet.courier.trips == trips, "there is nothing to ask for"
        assert not cell.rings, "the next call rings again"
