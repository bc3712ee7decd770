"""A pause of a rate limit, as a server asks for one by Retry-After: calls wait for its end, then pass at the rate."""

from __future__ import annotations

import threading
from typing import Any

import anyio
import anyio.lowlevel
import pytest

from resilio import Rate, RateLimitedError, deadline, rate_limit, retry
from resilio.testing import assert_no_leaks, virtual_time

BACKENDS = pytest.mark.parametrize("backend", ["asyncio", "trio"])


async def passes(limit: Any, seconds: float | None, into: list[Any], vt: Any) -> None:
    """Note when a call passes, or why it does not, and when that was known."""
    began = vt.now
    try:
        if seconds is None:
            (await limit.aacquire()).success()
        else:
            async with deadline(seconds):
                (await limit.aacquire()).success()
    except RateLimitedError as rejected:
        into.append((rejected.reason, round(vt.now - began, 3)))
    else:
        into.append(("passed", round(vt.now - began, 3)))


def together(vt: Any, backend: str, limit: Any, *seconds: float | None, pause: float = 2.0) -> list[Any]:
    """Begin calls with so many seconds each as a pause begins; what became of them, in that order."""
    fates: list[Any] = []

    async def main() -> None:
        limit.pause(pause)
        async with anyio.create_task_group() as group:
            for one in seconds:
                group.start_soon(passes, limit, one, fates, vt)
                await anyio.lowlevel.checkpoint()

    vt.run(main, backend=backend)
    assert_no_leaks(limit)
    return fates


@BACKENDS
@pytest.mark.parametrize("rates", [("10/s",), ("10/s", Rate("100/s", unit="tokens"))])
def test_calls_wait_for_the_end_of_a_pause_up_to_their_deadline(backend: str, rates: Any) -> None:
    """One 429 had other calls rejected at once, though they had time to wait: `max_wait` says nothing of a pause."""
    with virtual_time() as vt:
        fates = together(vt, backend, rate_limit(*rates), 10.0, 10.0, 10.0)
    assert fates == [("passed", 2.1), ("passed", 2.2), ("passed", 2.3)]


@BACKENDS
def test_a_call_that_has_no_time_for_the_pause_is_rejected_at_once(backend: str) -> None:
    """The rejection's reason is `paused`, and it says when the call would pass."""
    with virtual_time() as vt:
        limit = rate_limit("10/s")
        assert together(vt, backend, limit, 1.0, 2.05) == [("paused", 0.0), ("paused", 0.0)]
        assert limit.snapshot().rejected == 2
        rejection = limit.try_acquire()
        assert (rejection.reason, rejection.retry_after) == ("paused", pytest.approx(2.1))
        assert rejection.measured == pytest.approx(2.1)


@BACKENDS
@pytest.mark.parametrize(("max_wait", "fate"), [(0.0, ("paused", 0.0)), (1.0, ("passed", 2.1))])
def test_without_a_deadline_max_wait_counts_from_the_end_of_the_pause(backend: str, max_wait: float, fate: Any) -> None:
    """A limit whose calls wait for a second at most rejected every call of a longer pause."""
    with virtual_time() as vt:
        assert together(vt, backend, rate_limit("10/s", max_wait=max_wait), None) == [fate]


@BACKENDS
def test_a_pause_has_waiters_wait_longer(backend: str) -> None:
    """Calls that queue when the pause begins keep their places, whatever `max_wait` was left to them."""
    fates: list[Any] = []

    async def main() -> None:
        async with anyio.create_task_group() as group:
            for seconds in (None, None, 10.0):
                group.start_soon(passes, limit, seconds, fates, vt)
                await anyio.lowlevel.checkpoint()
            await anyio.sleep(0.1)
            limit.pause(5.0)

    with virtual_time() as vt:
        limit = rate_limit("2/s", burst=1, max_wait=1.0)
        vt.run(main, backend=backend)
    assert fates == [("passed", 0.0), ("passed", 5.6), ("passed", 6.1)]


@BACKENDS
def test_after_a_pause_calls_come_at_the_rate_and_not_at_once(backend: str) -> None:
    """Fifty calls that waited together pass one after the other, in the order they came."""
    with virtual_time() as vt:
        fates = together(vt, backend, rate_limit("100/s", burst=100), *[60.0] * 50)
    assert [fate for fate, _ in fates] == ["passed"] * 50
    assert [when for _, when in fates] == [pytest.approx(2.0 + (n + 1) / 100) for n in range(50)]


def test_tokens_that_come_back_during_a_pause_wait_for_its_end() -> None:
    """Calls under way that cost less than they had reserved gave tokens back, with which others passed in a pause."""
    with virtual_time() as vt:
        limit = rate_limit(Rate("100/s", unit="tokens", cost=10, burst=100))
        limit.pause(2.0)
        limit._gate.adjust("tokens", -50)
        assert limit.peek() == pytest.approx(2.0)
        assert limit.try_acquire().reason == "paused"
        vt.advance(1.999)
        assert limit.try_acquire().reason == "paused"
        vt.advance(0.001)
        assert limit.try_acquire()


def test_the_end_of_a_pause_is_known_and_reset_ends_it() -> None:
    """`paused` says how long it still is; a shorter pause does not end a longer one."""
    with virtual_time() as vt:
        limit = rate_limit("10/s")
        assert limit.paused == 0.0
        limit.pause(2.0)
        vt.advance(0.5)
        limit.pause(0.5)
        assert limit.paused == pytest.approx(1.5)
        limit.reset()
        assert limit.paused == 0.0
        assert limit.try_acquire()


def test_threads_wait_for_the_end_of_a_pause() -> None:
    """A call in a thread waits as well, as long as its deadline lets it."""
    passed: list[bool] = []
    limit = rate_limit("100/s")

    def work() -> None:
        with deadline(60.0):
            passed.append(bool(limit.call(lambda: True)))

    limit.pause(0.05)
    thread = threading.Thread(target=work)
    thread.start()
    thread.join(60)
    assert passed == [True]


@BACKENDS
def test_without_a_queue_a_pause_rejects(backend: str) -> None:
    """`max_queued=0` means that no call ever waits."""
    with virtual_time() as vt:
        assert together(vt, backend, rate_limit("10/s", max_queued=0), 10.0) == [("paused", 0.0)]


@BACKENDS
def test_a_full_queue_is_still_one(backend: str) -> None:
    """The queue is bounded in a pause as it always is."""
    with virtual_time() as vt:
        fates = together(vt, backend, rate_limit("10/s", max_queued=2), 10.0, 10.0, 10.0)
    assert fates == [("queue_full", 0.0), ("passed", 2.1), ("passed", 2.2)]


def test_shadow_mode_counts_who_would_wait() -> None:
    """A limit that enforces nothing lets calls pass in a pause."""
    with virtual_time():
        limit = rate_limit("10/s", enforce=False)
        limit.pause(2.0)
        with deadline(10.0):
            assert limit.try_acquire()
        assert limit.snapshot().rejected == 0


def test_a_rejection_in_a_pause_is_shown_by_its_reason() -> None:
    """Metrics have the reason among their labels, a closed set."""
    from prometheus_client import CollectorRegistry, generate_latest

    from resilio.metrics.prometheus import ResilioCollector

    limit = rate_limit("10/s", name="provider")
    assert "paused" in limit._gate.reasons
    limit.pause(2.0)
    with pytest.raises(RateLimitedError, match="paused"):
        retry(on=OSError).call(limit.call, int)
    registry = CollectorRegistry()
    ResilioCollector(registry)
    assert 'policy="provider",reason="paused"} 1.0' in generate_latest(registry).decode()
