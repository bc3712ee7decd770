"""What a permit was held for is told once, however many gates it is of and however it ends."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

from resilio import bulkhead, circuit_breaker, pipeline, rate_limit
from resilio.testing import VirtualTime

ENDS: dict[str, Callable[[Any], object]] = {
    "success": lambda permit: permit.success(),
    "complete": lambda permit: permit.complete(),
    "abort": lambda permit: permit.abort(),
    "abandon": lambda permit: permit.abandon(),
    "dropped": lambda permit: None,
}


@pytest.mark.parametrize("end", ENDS)
@pytest.mark.parametrize("answered", [False, True], ids=["unanswered", "answered"])
def test_the_time_of_a_permit_of_several_gates_counts_once(vt: VirtualTime, end: str, answered: bool) -> None:
    """Those that settle each gate by itself, as its answer was judged, told it once for each gate."""
    stack = pipeline(rate_limit("10/s"), circuit_breaker(), bulkhead(2))
    permit = stack.try_acquire()
    vt.advance(0.5)
    if answered:
        permit.answered("an answer")
    vt.advance(0.25)
    ENDS[end](permit)
    del permit
    spent = {segment: seconds for segment, seconds in stack.call_seconds.items() if seconds}
    assert spent == pytest.approx({"first_byte": 0.5, "body": 0.25} if answered else {"attempt": 0.75})
