"""`Pipeline._begin`: a permit at once, or a call that goes on with the wait; it is made only where there is one."""

from __future__ import annotations

import asyncio
import gc
from typing import Any

import pytest

import resilio
from resilio import bulkhead, circuit_breaker, deadline, rate_limit
from resilio._native import core
from resilio.testing import disabled, no_wait


def pipeline_of(*policies: Any) -> core.Pipeline:
    """Their gates."""
    return core.Pipeline(tuple(gate for policy in policies for gate in policy.gates))


async def _go_on(begun: Any) -> Any:
    """Await what `_begin` has begun, as `Sending` does."""
    call, waited = begun
    waited.add_done_callback(lambda _: None)
    await asyncio.wait([waited])
    waited._asyncio_future_blocking = False
    try:
        call.send(None)
    except StopIteration as end:
        return end.value
    raise AssertionError("it waits still")


def test_a_permit_that_is_there_takes_no_call() -> None:
    """Nor does a rejection; both are counted as ever."""
    room = bulkhead(1)
    gates = pipeline_of(room)
    permit = gates._begin("a")
    assert isinstance(permit, core.Permit)
    with pytest.raises(resilio.BulkheadFullError):
        gates._begin("b")
    permit.success()
    assert (room.snapshot().inflight, room.snapshot().successes, room.snapshot().rejected) == (0, 1, 1)


def test_a_wait_is_gone_on_with_by_a_call() -> None:
    """What was asked before the wait is held, and what comes after it gets the call's arguments."""
    costs: list[tuple[Any, ...]] = []

    def cost(*args: Any, **named: Any) -> int:
        costs.append((args, named))
        return 1

    breaker, room, limit = circuit_breaker(), bulkhead(1, max_queued=9, max_wait=60.0), rate_limit("1000/s", cost=cost)

    async def main() -> None:
        gates = pipeline_of(breaker, room, limit)
        first = gates._begin(0)
        begun = gates._begin(*range(20), named="n")
        assert not isinstance(begun, core.Permit)
        assert (breaker.snapshot().inflight, room.snapshot().queued) == (2, 1)
        first.success()
        second = await _go_on(begun)
        assert isinstance(second, core.Permit)
        assert costs == [((0,), {}), (tuple(range(20)), {"named": "n"})]
        second.success()

    asyncio.run(main())
    for policy in (breaker, room, limit):
        assert (policy.snapshot().inflight, policy.snapshot().queued, policy.snapshot().successes) == (0, 0, 2)


@pytest.mark.parametrize("end", ["close", "throw", "drop"])
def test_a_wait_that_is_given_up_leaves_nothing(end: str) -> None:
    """Closed, cancelled or dropped: the queue is as it was, and what was held is given back."""
    breaker, room = circuit_breaker(), bulkhead(1, max_queued=9, max_wait=60.0)

    async def main() -> None:
        gates = pipeline_of(breaker, room)
        first = gates._begin()
        call, waited = gates._begin()
        assert room.snapshot().queued == 1
        waited._asyncio_future_blocking = False
        if end == "close":
            call.close()
        elif end == "throw":
            with pytest.raises(asyncio.CancelledError):
                call.throw(asyncio.CancelledError())
        del call, waited
        gc.collect()
        assert (breaker.snapshot().inflight, room.snapshot().queued) == (1, 0)
        first.success()
        again = gates._begin()
        assert isinstance(again, core.Permit)
        again.success()

    asyncio.run(main())
    assert (breaker.snapshot().inflight, room.snapshot().inflight) == (0, 0)


def test_no_wait_and_disabled_are_heeded(vt: Any) -> None:
    """What only time would end is ended at once; without gates there is a permit all the same."""
    limit = rate_limit("1/s", burst=1, max_wait=60.0)
    gates = pipeline_of(limit)
    gates._begin().success()
    with no_wait():
        permit = gates._begin()
    assert isinstance(permit, core.Permit)
    permit.success()
    shut = circuit_breaker()
    shut.force_open()
    with disabled():
        pipeline_of(shut)._begin().success()
    assert shut.snapshot().calls == 0


def test_a_deadline_that_has_passed_is_a_rejection(vt: Any) -> None:
    """No gate is asked for more than is left."""
    room = bulkhead(1)
    with deadline(1.0):
        vt.advance(2.0)
        with pytest.raises(resilio.DeadlineExceededError):
            pipeline_of(room)._begin()
    assert (room.snapshot().inflight, room.snapshot().rejected) == (0, 1)


def test_an_acquisition_begun_tells_a_permit_from_a_wait() -> None:
    """`_begin` gives the permit if there is one now, raises the rejection, or hands out the call that waits."""
    gate = bulkhead(1, max_queued=1, max_wait=60.0)

    async def main() -> None:
        permit = gate._begin()
        call, trap = gate._begin()
        assert trap is not None
        with pytest.raises(Exception, match="queue"):
            gate._begin()
        call.close()
        permit.success()

    asyncio.run(main())
    assert (gate.snapshot().inflight, gate.snapshot().queued) == (0, 0)
