"""The switches of `resilio.testing`: bare functions, and calls that never wait."""

from __future__ import annotations

import threading

import anyio
import pytest

from resilio import BulkheadFullError, CircuitOpenError, RateLimitedError, bulkhead, circuit_breaker, rate_limit
from resilio.testing import VirtualTime, disabled, no_wait


def test_disabled_asks_no_gate() -> None:
    """In the block an open circuit lets everything through and counts nothing; after it, it rejects again."""
    breaker = circuit_breaker(initial="forced_open")
    guarded = breaker(lambda: "called")
    with pytest.raises(CircuitOpenError):
        guarded()
    with disabled():
        assert guarded() == "called"
        assert breaker.call(lambda: "called") == "called"
        assert breaker.try_call(lambda: "called").value == "called"
    with pytest.raises(CircuitOpenError):
        guarded()
    assert breaker.snapshot().calls == 2


@pytest.mark.anyio
async def test_disabled_asks_no_gate_for_async_functions() -> None:
    """The same for async functions, in the block and in tasks started in it."""
    breaker = circuit_breaker(initial="forced_open")

    @breaker
    async def guarded() -> str:
        return "called"

    with disabled():
        assert await guarded() == "called"
        async with anyio.create_task_group() as group:
            group.start_soon(guarded)
    with pytest.raises(CircuitOpenError):
        await guarded()


def test_disabled_does_not_reach_other_threads() -> None:
    """Another context is not affected."""
    breaker = circuit_breaker(initial="forced_open")
    errors: list[type[BaseException]] = []

    def other() -> None:
        try:
            breaker.call(lambda: None)
        except CircuitOpenError as error:
            errors.append(type(error))

    with disabled():
        thread = threading.Thread(target=other)
        thread.start()
        thread.join()
    assert errors == [CircuitOpenError]


def test_no_wait_ends_a_wait_for_time(vt: VirtualTime) -> None:
    """A call that would wait for tokens is admitted at once, and the clock stands."""
    limit = rate_limit("1/s", max_wait=100)
    with no_wait():
        for _ in range(5):
            assert limit.call(lambda: "called") == "called"
    assert vt.now == 0.0


@pytest.mark.anyio
async def test_no_wait_ends_an_async_wait_for_time(vt: VirtualTime) -> None:
    """The same for async calls."""
    limit = rate_limit("1/s", max_wait=100)

    async def fetch() -> str:
        return "called"

    with no_wait():
        for _ in range(5):
            assert await limit.acall(fetch) == "called"
    assert vt.now == 0.0


def test_no_wait_rejects_what_another_call_would_have_to_end(vt: VirtualTime) -> None:
    """A call that would wait for a permit is rejected at once, and the queue is empty after it."""
    pool = bulkhead(1, max_queued=5, max_wait=100)
    permit = pool.acquire()
    with no_wait(), pytest.raises(BulkheadFullError):
        pool.call(lambda: None)
    permit.ignore()
    snapshot = pool.snapshot()
    assert (vt.now, snapshot.queued, snapshot.inflight) == (0.0, 0, 0)


def test_no_wait_ends_with_its_block(vt: VirtualTime) -> None:
    """After the block a call waits again."""
    limit = rate_limit("1/s", max_wait=100)
    with no_wait():
        limit.call(lambda: None)
    limit.call(lambda: None)
    assert vt.now == pytest.approx(1.0)


def test_no_wait_still_rejects_what_is_rejected() -> None:
    """What would not even wait is rejected as ever."""
    limit = rate_limit("1/s")
    limit.call(lambda: None)
    with no_wait(), pytest.raises(RateLimitedError):
        limit.call(lambda: None)
