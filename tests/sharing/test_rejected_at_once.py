"""
What workers that share get of a limit whose calls are rejected at once, on the virtual clock, as several processes do.

There is no queue, and so no order: a call passes if there is room when it comes. So each worker has the same share of
its calls admitted, however many it makes.
"""

from __future__ import annotations

import heapq
import random
import sys
from collections.abc import Callable
from typing import Any

import pytest

from resilio import adaptive_limit, bulkhead, rate_limit
from resilio._native.shared import Region
from resilio.testing import VirtualTime

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="shared memory of hosts is for Linux")

HELD = 0.02
"""Seconds that a call takes."""
KINDS: dict[str, Callable[[], Any]] = {
    "rate limit": lambda: rate_limit("100/s", burst=10, scope="process"),
    "bulkhead": lambda: bulkhead(2, scope="process"),
    "adaptive limit": lambda: adaptive_limit(law="aimd", start=2, floor=2, ceiling=2, scope="process"),
}


def workers(n: int, make: Callable[[], Any]) -> list[Any]:
    """Return `n` policies as those of `n` processes that share one cell."""
    region, found = Region.private(), [make() for _ in range(n)]
    for policy in found:
        kind, stock, size = policy._gate.cell_wanted()
        policy._gate.share(region.cell(kind, "limit", stock, size, region.join()))
    return found


def shares(vt: VirtualTime, policies: list[Any], rates: list[float], seconds: float) -> list[float]:
    """Return the share of the calls of each worker that is admitted; they come at random times, so many a second."""
    draw, began = random.Random(1), vt.now
    asked, admitted = [0] * len(policies), [0] * len(policies)
    due = [(began + draw.expovariate(rate), i, None) for i, rate in enumerate(rates)]
    heapq.heapify(due)
    while due[0][0] < began + seconds:
        at, i, ends = heapq.heappop(due)
        vt.advance(at - vt.now)
        if ends is not None:
            ends.success()
            continue
        heapq.heappush(due, (at + draw.expovariate(rates[i]), i, None))
        asked[i] += 1
        permit = policies[i].try_acquire()
        if permit:
            admitted[i] += 1
            heapq.heappush(due, (at + HELD, i, permit))
    return [one / all_of for one, all_of in zip(admitted, asked, strict=True)]


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("rates", [[200.0] * 3, [200.0] * 4, [20.0, 200.0, 200.0]], ids=["three", "four", "one light"])
def test_each_worker_has_the_same_share_of_its_calls_admitted(vt: VirtualTime, kind: str, rates: list[float]) -> None:
    """Workers that make as many calls get the same, within a tenth; one that makes few has as many of them rejected."""
    found = shares(vt, workers(len(rates), KINDS[kind]), rates, 25.0)
    assert max(found) < 0.5
    assert max(found[1:]) <= 1.1 * min(found[1:])
    assert found[0] == pytest.approx(found[1], rel=0.1 if rates[0] == rates[1] else 0.2)
