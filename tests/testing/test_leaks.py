"""`assert_no_leaks` finds what is held, says by whom, and changes nothing."""

from __future__ import annotations

import anyio
import pytest

from resilio import bulkhead, circuit_breaker
from resilio.testing import VirtualTime, assert_no_leaks


def test_a_held_permit_is_a_leak() -> None:
    """The text names policy, amount and holder; once ended it is no leak."""
    pool = bulkhead(3, name="pool")
    permit = pool.acquire()
    with pytest.raises(AssertionError, match=r"(?s)bulkhead 'pool': inflight 1.*held by <Permit of"):
        assert_no_leaks(pool)
    permit.success()
    assert_no_leaks(pool)


def test_a_dropped_permit_is_no_leak() -> None:
    """A permit that nobody holds any more is given back by the collection."""
    pool = bulkhead(3)
    cycle: list[object] = [pool.acquire()]
    cycle.append(cycle)
    del cycle
    assert_no_leaks(pool)


@pytest.mark.anyio
async def test_calls_under_way_are_leaks(vt: VirtualTime) -> None:
    """Running and queued calls are listed by their functions' names."""
    pool = bulkhead(1, max_queued=5, max_wait=10, name="pool")

    @pool
    async def fetch() -> None:
        await anyio.sleep(1)

    async with anyio.create_task_group() as group:
        for _ in range(3):
            group.start_soon(fetch)
        await anyio.wait_all_tasks_blocked()
        with pytest.raises(AssertionError, match=r"(?s)inflight 1, queued 2.*held by <guarded coroutine .*fetch"):
            assert_no_leaks(pool)
    assert_no_leaks(pool)


def test_a_probe_under_way_is_a_leak(vt: VirtualTime) -> None:
    """A half-open breaker's lease counts."""
    breaker = circuit_breaker(consecutive=1)
    with pytest.raises(OSError):
        breaker.call(_fail)
    vt.advance(1)
    permit = breaker.acquire()
    with pytest.raises(AssertionError, match="probes 1"):
        assert_no_leaks(breaker)
    permit.ignore()
    assert_no_leaks(breaker)


def test_without_arguments_every_policy_is_looked_at() -> None:
    """Also an unnamed one, and one that is only found through the registry."""
    pool = bulkhead(3)
    permit = pool.acquire()
    with pytest.raises(AssertionError, match="unnamed bulkhead: inflight 1"):
        assert_no_leaks()
    permit.ignore()
    assert_no_leaks()


def test_what_is_no_policy_is_rejected() -> None:
    """A guarded function too, with what to ask it for."""
    with pytest.raises(TypeError, match=r"policies must be policies; policy_of\(function\) gives .* not <guarded"):
        assert_no_leaks(bulkhead(3)(print))


def test_looking_changes_nothing() -> None:
    """No counter moves."""
    pool = bulkhead(3)
    before = pool.snapshot()
    assert_no_leaks(pool)
    assert pool.snapshot() == before


def _fail() -> None:
    raise OSError
