"""What an adaptive limit promises beyond the numbered scenarios."""

from __future__ import annotations

import gc
import itertools
import re
from collections.abc import AsyncIterator, Iterator
from typing import Any

import anyio
import pytest

import resilio
from resilio import OverloadedError, adaptive_limit, bulkhead, events, keyed, pipeline, rate_limit, registry, retry
from resilio._policies.adaptive_limit import AdaptiveLimit
from resilio.errors import DeadlineExceededError
from resilio.testing import VirtualTime, assert_no_leaks

BACKENDS = pytest.mark.parametrize("backend", ["asyncio", "trio"])


def waiting(start: int = 1, **options: Any) -> AdaptiveLimit:
    """A limit that stays where it is, and in which many may wait for long."""
    return adaptive_limit(
        **{"start": start, "floor": start, "ceiling": start, "max_queued": 100, "max_wait": 60.0, **options}
    )


def busy(limit: AdaptiveLimit, vt: VirtualTime, *, times: int, seconds: float = 0.01) -> None:
    """So many rounds of calls that use all there is; each takes so long."""
    for _ in range(times):
        permits = [limit.try_acquire() for _ in range(limit.limit)]
        vt.advance(seconds)
        for permit in permits:
            permit.success()


# ---- options ---------------------------------------------------------------------------------------------------------


def test_the_start_gives_way_to_bounds_beside_it() -> None:
    """A start out of bounds is the nearer bound."""
    assert adaptive_limit(floor=30).limit == 30
    assert adaptive_limit(ceiling=7, start=21).limit == 7


def test_one_name_is_one_limit() -> None:
    """The same name and options give the same object; other options are rejected."""
    limit = adaptive_limit(name="db", start=9)
    assert adaptive_limit(name="db", start=9) is limit
    with pytest.raises(ValueError, match="db"):
        adaptive_limit(name="db", start=8)


def test_it_is_configured_by_name() -> None:
    """`configure` reaches one that is there, and one made later."""
    limit = adaptive_limit(name="now", start=9)
    resilio.configure({"now": {"ceiling": 4}, "later": {"floor": 40}})
    assert limit.limit == 4
    assert adaptive_limit(name="later").limit == 40
    registry.clear()


# ---- rejections and the queue
# ------------------------------------------------------------------------------------------


def test_a_rejection_says_why_and_when_to_come_back(vt: VirtualTime) -> None:
    """Before anything was measured there is no time to name; then it is what calls take."""
    limit = waiting(2, max_queued=0, max_wait=None)
    held = [limit.acquire(), limit.acquire()]
    with pytest.raises(OverloadedError) as caught:
        limit.acquire()
    error = caught.value
    assert (error.policy, error.reason, error.measured, error.limit, error.retry_after) == (
        "adaptive_limit",
        "limit",
        2,
        2,
        None,
    )
    vt.advance(0.1)
    held.pop().success()
    held.append(limit.acquire())
    rejection = limit.try_acquire()
    assert rejection.error.retry_after == pytest.approx(0.15, rel=0.01)
    assert not rejection
    for permit in held:
        permit.success()
    assert_no_leaks(limit)


@BACKENDS
def test_those_who_wait_are_served_in_order_and_in_time(vt: VirtualTime, backend: str) -> None:
    """First in, first out; beyond `max_queued` rejected at once, beyond `max_wait` rejected then."""
    limit, served, rejected = waiting(1, max_queued=3, max_wait=0.1875), list[int](), list[tuple[int, str, float]]()

    async def call(number: int) -> None:
        try:
            async with limit:
                served.append(number)
                await anyio.sleep(0.125)
        except OverloadedError as error:
            rejected.append((number, error.reason, vt.now))

    async def main() -> None:
        async with anyio.create_task_group() as group:
            for number in range(6):
                group.start_soon(call, number)
                await anyio.wait_all_tasks_blocked()

    vt.run(main, backend=backend)
    assert served == [0, 1]
    assert [(number, reason) for number, reason, _ in sorted(rejected)] == [
        (2, "wait"),
        (3, "wait"),
        (4, "queue_full"),
        (5, "queue_full"),
    ]
    assert rejected[-1][2] == pytest.approx(0.1875)
    assert_no_leaks(limit)


@BACKENDS
def test_a_call_that_cannot_end_in_time_does_not_wait(vt: VirtualTime, backend: str) -> None:
    """With a deadline shorter than the wait and the median, it is rejected at once; one that expires is not granted."""
    limit = waiting(1)
    for _ in range(30):
        busy(limit, vt, times=1, seconds=1.0)

    async def main() -> None:
        held = limit.try_acquire()
        with resilio.deadline(1.5), pytest.raises(DeadlineExceededError):
            await limit.acall(anyio.sleep, 0)
        held.success()

    before = vt.now
    vt.run(main, backend=backend)
    assert vt.now == before
    assert_no_leaks(limit)


@BACKENDS
def test_a_higher_limit_is_handed_out_at_once(vt: VirtualTime, backend: str) -> None:
    """Who waits gets a permit when `reconfigure` raises the limit, and nobody is stopped when it lowers it."""
    limit = waiting(1)

    async def main() -> None:
        async with anyio.create_task_group() as group:
            for _ in range(4):
                group.start_soon(limit.acall, anyio.sleep, 1.0)
            await anyio.wait_all_tasks_blocked()
            assert (limit.used, limit.snapshot().queued) == (1, 3)
            limit.reconfigure(start=3, floor=3, ceiling=3)
            assert limit.used == 3
            limit.reconfigure(start=1, floor=1, ceiling=1)
            assert (limit.used, limit.limit) == (3, 1)

    vt.run(main, backend=backend)
    assert vt.now == pytest.approx(2.0)
    assert_no_leaks(limit)


@BACKENDS
def test_a_waiter_whose_deadline_has_passed_is_passed_over(vt: VirtualTime, backend: str) -> None:
    """The permit goes to the next in the queue, who can still use it."""
    limit = waiting(1)
    got = []

    async def call(name: str, seconds: float) -> None:
        try:
            with resilio.deadline(seconds):
                await limit.acall(anyio.sleep, 0.125)
            got.append(name)
        except DeadlineExceededError:
            got.append(f"{name} late")

    async def main() -> None:
        async with anyio.create_task_group() as group:
            for name, seconds in (("first", 9.0), ("second", 0.0625), ("third", 9.0)):
                group.start_soon(call, name, seconds)
                await anyio.wait_all_tasks_blocked()

    vt.run(main, backend=backend)
    assert sorted(got) == ["first", "second late", "third"]
    assert_no_leaks(limit)


# ---- what it learns, and keeps ---------------------------------------------------------------------------------------


def test_reconfiguring_keeps_what_was_learned(vt: VirtualTime) -> None:
    """Another bound or queue leaves the limit; another law begins where the old one was."""
    limit = adaptive_limit(law="aimd", start=4)
    busy(limit, vt, times=10)
    grown = limit.limit
    assert grown > 20
    limit.reconfigure(ceiling=500, max_queued=3, max_wait=1.0)
    assert limit.limit == grown
    limit.reconfigure(law="vegas")
    assert limit.limit == grown
    limit.reset()
    assert limit.limit == 4


def test_calls_from_before_a_reset_teach_nothing(vt: VirtualTime) -> None:
    """Their permits come back, and what they say belongs to what was forgotten."""
    limit = adaptive_limit(law="aimd", start=4)
    permits = [limit.acquire() for _ in range(4)]
    limit.reset()
    assert limit.used == 4
    permits.pop().failure(TimeoutError())
    permits.pop().success()
    assert limit.snapshot().learned == 4
    for permit in permits:
        permit.success()
    assert_no_leaks(limit)


def test_a_snapshot_shows_what_is_believed(vt: VirtualTime) -> None:
    """The limit in force, the learned one, and what a call takes where none waits."""
    limit = adaptive_limit(name="shown")
    snapshot = limit.snapshot()
    assert (snapshot.kind, snapshot.limit, snapshot.baseline, snapshot.passing) == ("adaptive_limit", 20, None, 0)
    busy(limit, vt, times=40)
    snapshot = limit.snapshot()
    assert (snapshot.learned >= snapshot.limit, snapshot.state) == (True, None)
    assert 0.001 < snapshot.baseline < 0.02
    assert limit.health()


@BACKENDS
def test_a_stream_teaches_with_its_first_item_and_holds_to_its_end(vt: VirtualTime, backend: str) -> None:
    """The latency is that of the first item, learned when it is there; the permit is for the whole stream."""
    limit = adaptive_limit(law="aimd", start=1)

    @limit
    async def stream() -> AsyncIterator[int]:
        await anyio.sleep(0.25)
        yield 1
        await anyio.sleep(60)
        yield 2

    async def main() -> None:
        async for item in stream():
            assert (limit.used, limit.limit) == (1, 2), item

    vt.run(main, backend=backend)
    assert limit.limit == 2  # taught once
    assert (limit.latency.quantile(0.5), limit.used) == (pytest.approx(0.25, rel=0.01), 0)


def test_a_stream_that_breaks_off_is_a_drop_all_the_same(vt: VirtualTime) -> None:
    """A timeout after the first item shrinks the limit, though the item has taught already."""
    limit = adaptive_limit(law="aimd", start=1, floor=1)

    @limit
    def stream() -> Iterator[int]:
        yield 1
        raise TimeoutError

    with pytest.raises(TimeoutError):
        list(stream())
    assert limit.snapshot().learned == pytest.approx(1.8)


# ---- shadow mode -----------------------------------------------------------------------------------------------------


def test_in_shadow_mode_calls_beyond_the_limit_pass_and_are_seen_by_the_law(vt: VirtualTime) -> None:
    """They hold no permit and are counted apart, but the law sees how many were really in flight."""
    limit = adaptive_limit(law="aimd", start=2, max_queued=1, max_wait=1.0, enforce=False)
    held = limit.try_acquire()
    others = [limit.acquire() for _ in range(3)]
    snapshot = limit.snapshot()
    assert (snapshot.inflight, snapshot.passing, snapshot.queued) == (2, 2, 0)
    assert (snapshot.would_wait, snapshot.would_reject, snapshot.rejected) == (2, 0, 0)
    vt.advance(0.1)
    for permit in others:
        permit.success()
    assert (limit.used, limit.snapshot().passing, limit.limit) == (1, 0, 5)
    held.success()
    assert limit.snapshot().inflight == 0
    assert vt.now == pytest.approx(0.1)


def test_in_shadow_mode_without_a_queue_rejections_are_counted_and_cancelled_passes_come_back() -> None:
    """A gate further in that rejects gives the pass back."""
    limit = adaptive_limit(start=1, ceiling=1, enforce=False)
    stack = pipeline(limit, bulkhead(1))
    with stack:
        assert not stack.try_acquire()
        snapshot = limit.snapshot()
        assert (snapshot.would_reject, snapshot.inflight, snapshot.passing) == (1, 1, 0)
    assert limit.snapshot().inflight == 0


def test_a_share_is_enforced_exactly() -> None:
    """enforce=0.25 rejects a quarter of what it would, without randomness."""
    limit = adaptive_limit(start=1, ceiling=1, enforce=0.25)
    with limit:
        passed = [permit for permit in (limit.try_acquire() for _ in range(100)) if permit]
        assert len(passed) == 75
        for permit in passed:
            permit.ignore()
    assert limit.snapshot().rejected == 25


# ---- with others -----------------------------------------------------------------------------------------------------


def test_an_inner_rejection_gives_the_permit_back() -> None:
    """Nothing is taken and nothing learned by a call that a gate further in rejected."""
    limit = adaptive_limit(start=3)
    stack = pipeline(limit, bulkhead(1))
    with stack:
        for _ in range(10):
            assert not stack.try_acquire()
        assert limit.used == 1
    assert limit.used == 0


def test_listeners_hear_of_notable_moves_only(vt: VirtualTime) -> None:
    """One event for each move by more than a fifth, from where the last one left; none without a listener."""
    limit, heard = adaptive_limit(law="aimd", start=10, name="moving"), list[Any]()
    busy(limit, vt, times=2)
    assert limit.gates[0].drain_moves() == []
    limit.reset()
    off = limit.on_event(heard.append, kinds=(events.LimitChanged,))
    busy(limit, vt, times=4)
    assert 3 <= len(heard) <= 20
    assert (heard[0].kind, heard[0].name, heard[0].old, heard[0].new) == ("adaptive_limit", "moving", 10, 13)
    assert all(after.old == before.new for before, after in itertools.pairwise(heard))
    assert all(event.new > 1.2 * event.old for event in heard)
    off()
    number = len(heard)
    limit.reset()
    assert len(heard) == number


def test_a_key_with_nothing_learned_may_go_and_one_that_has_stays(vt: VirtualTime) -> None:
    """Few calls conclude nothing, and a new limit would do as well; a limit that has moved is kept."""
    limits = keyed(lambda: adaptive_limit(law="aimd", start=4), key="host", max_keys=3)
    busy(limits["learned"], vt, times=3)
    call = limits(lambda host: host)
    for number in range(50):
        call(number)
    gc.collect()
    assert "learned" in limits
    assert len(limits) <= 3
    assert limits.snapshot().evicted > 40


@pytest.mark.parametrize(
    ("inner", "rule"),
    [
        (resilio.circuit_breaker, "adaptive-outside-breaker"),
        (lambda: retry(on=OSError), "retry-inside-adaptive"),
        (lambda: rate_limit("1/s", max_wait=1.0), "limit-inside-adaptive"),
    ],
)
def test_orders_that_cannot_do_what_they_say_are_warned_of(inner: Any, rule: str) -> None:
    """The warning names the rule, the other way round there is none."""
    with pytest.warns(resilio.PipelineWarning, match=rule):
        stack = pipeline(adaptive_limit(), inner())
    assert rule in str(stack.explain())
    assert not pipeline(inner(), adaptive_limit()).explain().warnings


def test_it_explains_itself() -> None:
    """Options that are not the default, and the class of its rejections."""
    text = str(pipeline(adaptive_limit(start=7, name="db")).explain())
    assert re.search(r"adaptive_limit\s+db\s+start=7\s+OverloadedError", text)


def test_a_child_process_holds_nothing_and_knows_what_was_learned(vt: VirtualTime, in_child: Any) -> None:
    """After a fork the limit is what it was, and the parent's permits are the parent's."""
    limit = adaptive_limit(law="aimd", start=4)
    busy(limit, vt, times=3)
    permits = [limit.acquire() for _ in range(3)]

    def child() -> tuple[int, int]:
        for permit in permits:
            permit.success()
        return limit.used, limit.limit

    assert in_child(child) == (0, limit.limit)
    assert limit.used == 3
    for permit in permits:
        permit.success()


def test_on_exception_makes_every_failure_a_drop() -> None:
    """With `on=Exception` any error shrinks the limit, but for rejections, and cancellations never do."""
    limit = adaptive_limit(law="aimd", start=10, on=Exception)

    def fails(error: BaseException) -> None:
        raise error

    for error in (ValueError("bad"), OverloadedError("inner"), KeyboardInterrupt()):
        with pytest.raises(type(error)):
            limit.call(fails, error)
    snapshot = limit.snapshot()
    assert (snapshot.failures, snapshot.ignored) == (1, 2)
    assert snapshot.learned == 9
