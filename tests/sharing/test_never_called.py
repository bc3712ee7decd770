"""What a host's or a fleet's limit gets back, if a policy further in rejects the call: the function is never called."""

from __future__ import annotations

import contextlib
import sys
from collections.abc import Callable
from typing import Any

import limits_of_fleet
import money_of_fleet
import pytest

from resilio import RejectedError, circuit_breaker, deadline, fallback, pipeline, rate_limit, retry, timeout
from resilio._native.shared import Region
from resilio.cost import charge, spend_limit
from resilio.testing import VirtualTime

pytestmark = [
    pytest.mark.skipif(sys.platform != "linux", reason="shared memory of hosts is for Linux"),
    pytest.mark.filterwarnings("ignore::resilio.PipelineWarning"),
]

STRATEGIES: dict[str, Callable[[], Any]] = {
    "retry": lambda: retry(on=OSError, budget=None),
    "timeout": lambda: timeout(5.0, thread=True),
    "deadline": lambda: deadline(5.0),
    "fallback": lambda: fallback(on=Exception, default=None),
}


def of_host(region: Region) -> tuple[Any, Any]:
    """A spend limit and a rate limit that count in cells of a region, as a host's do."""
    day, limit = spend_limit("5 USD/day", reserve=0.05), rate_limit("100/h", scope="process")
    kind, stock, size = day._gate.cell_wanted()
    day._gate.share(region.cell(kind, "money", stock, size))
    kind, stock, size = limit._gate.cell_wanted()
    limit._gate.share(region.cell(kind, "limit", stock, size, region.join()))
    return day, limit


def of_fleet(vt: VirtualTime) -> tuple[Any, Any, Callable[[], None]]:
    """The same of a fleet with its store in memory, and a function that lets their couriers make their trips."""
    (money,) = money_of_fleet.hosts(1, "5 USD/day", reserve=0.05)
    (rate,) = limits_of_fleet.hosts(1, "100/s")

    def pass_time() -> None:
        for _ in range(300):
            money.fleet.step()
            rate.fleet.step()
            vt.advance(0.01)

    return money.limit, rate.limit, pass_time


@pytest.mark.parametrize("strategy", STRATEGIES)
@pytest.mark.parametrize("scope", ["host", "fleet"])
def test_a_shared_limit_pays_nothing_for_a_call_that_was_never_made(vt: VirtualTime, scope: str, strategy: str) -> None:
    """The shared stock is as it was after 20 rejections, and what one call then costs is all that is gone."""
    region = Region.private()
    if scope == "host":
        day, limit = of_host(region)
    else:
        day, limit, pass_time = of_fleet(vt)
        pass_time()
    before = limit.available["requests"]
    breaker = circuit_breaker()
    breaker.force_open()
    called = []

    def work() -> None:
        called.append(1)
        if strategy != "timeout":
            charge(0.05)

    ask = pipeline(day, limit, STRATEGIES[strategy](), breaker)(work)
    for _ in range(20):
        with contextlib.suppress(RejectedError):
            ask()
    assert called == []
    assert day.snapshot().spend.used == 0
    assert limit.available["requests"] == pytest.approx(before)
    if scope == "fleet":
        pass_time()
        assert day.snapshot().spend.used == 0
    breaker.reset()
    before = limit.available["requests"]
    ask()
    assert called == [1]
    assert day.snapshot().spend.used == pytest.approx(0.05)
    assert limit.available["requests"] == pytest.approx(before - 1)
    region.close()
