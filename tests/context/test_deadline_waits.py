"""What waits asks the deadline: rejected before the callee exists, queued no longer than that, not begun in vain."""

from __future__ import annotations

import asyncio
import threading

import anyio
import pytest

from resilio import (
    BulkheadFullError,
    DeadlineExceededError,
    Outcome,
    bulkhead,
    circuit_breaker,
    deadline,
    detached,
    pipeline,
    rate_limit,
    remaining,
    retry,
)
from resilio.testing import assert_no_leaks, no_wait, record_events

BACKENDS = pytest.mark.parametrize("backend", ["asyncio", "trio"])
ANSWERED = 30


@pytest.fixture
def vt(resilio_virtual_time):
    """Virtual time for the whole test; nothing may be held at its end."""
    yield resilio_virtual_time
    assert_no_leaks()


def answered(policy, vt, seconds, times=ANSWERED):
    """Have so many calls succeed in that time, one by one."""
    for _ in range(times):
        permit = policy.acquire()
        vt.advance(seconds)
        permit.success()


# ---- a deadline that has passed --------------------------------------------------------------------------------------


POLICIES = {
    "bulkhead": lambda: bulkhead(1),
    "circuit_breaker": circuit_breaker,
    "rate_limit": lambda: rate_limit("10/s"),
    "pipeline": lambda: pipeline(circuit_breaker(), bulkhead(1)),
}


@pytest.mark.parametrize("kind", POLICIES)
def test_a_call_after_its_deadline_is_rejected_before_the_callee_is_called(vt, kind):
    """Every guard rejects it, holds nothing, and counts it as rejected with the reason "deadline"."""
    policy, called = POLICIES[kind](), []

    async def work():
        called.append("async")

    def step(call):
        with pytest.raises(DeadlineExceededError) as caught:
            call()
        error = caught.value
        assert (error.called, error.deadline, error.remaining, error.needed) == (False, 1.0, 0.0, None)
        assert error.policy == policy.gates[0].kind

    async def main():
        for call in (policy(work), lambda: policy.acall(work), policy.aacquire):
            with pytest.raises(DeadlineExceededError):
                await call()

    with deadline(1.0):
        vt.advance(1.0)
        step(lambda: policy.call(called.append, "sync"))
        step(policy(lambda: called.append("sync")))
        step(policy.acquire)
        result = policy.try_call(called.append, "sync")
        assert (result.called, result.outcome) == (False, "rejected")
        assert isinstance(result.error, DeadlineExceededError)
        rejection = policy.try_acquire()
        assert (rejection.reason, rejection.retry_after, rejection.admitted) == ("deadline", None, False)
        assert isinstance(rejection.error, DeadlineExceededError)
        vt.run(main)
    assert called == []
    gate = policy.gates[0]
    assert gate.rejections()["deadline"] == gate.counters()["rejected"] == gate.counters()["calls"] == 8
    policy.call(called.append, "in time")
    assert called == ["in time"]


def test_listeners_hear_of_it_with_its_reason(vt):
    """A rejection for the deadline is an event as any other."""
    policy = bulkhead(1, name="db")
    with (
        record_events() as events,
        deadline(0),
        pytest.raises(DeadlineExceededError, match=r"bulkhead 'db' rejected the call: "),
    ):
        policy.call(print)
    assert events.reasons("db") == {"deadline": 1}


def test_shadow_mode_rejects_nothing(vt):
    """A policy that enforces nothing lets a call with a passed deadline through; one further in rejects it."""
    shadow, inner = rate_limit("10/s", enforce=False), circuit_breaker()
    with deadline(0):
        assert shadow.call(lambda: "called") == "called"
        with pytest.raises(DeadlineExceededError) as caught:
            shadow(inner(lambda: "called"))()
    assert caught.value.policy == "circuit_breaker"
    assert shadow.snapshot().inflight == 0


def test_detached_work_is_not_rejected(vt):
    """What is detached has no deadline that could have passed."""
    policy = bulkhead(1)
    with deadline(0), detached():
        assert policy.call(remaining) is None


def test_a_rejection_for_the_deadline_says_nothing_about_the_callee(vt):
    """An outer guard ignores that an inner one rejected for the deadline, unless the class is listed in `on`."""
    inner = bulkhead(1)
    learns, told, listed = circuit_breaker(), circuit_breaker(on=OSError), circuit_breaker(on=DeadlineExceededError)

    def late():
        with deadline(0):
            inner.call(print)

    def own():
        raise DeadlineExceededError(1.0)

    for outer, outcome in ((learns, "ignored"), (told, "ignored"), (listed, "failure")):
        assert outer.try_call(late).outcome == outcome
    assert learns.try_call(own).outcome == "failure"
    group = ExceptionGroup("both", [DeadlineExceededError(policy="bulkhead"), BulkheadFullError("bulkhead")])

    def raises_group():
        raise group

    assert learns.try_call(raises_group).outcome == "ignored"
    assert Outcome.IGNORED == 2


# ---- in the queue ----------------------------------------------------------------------------------------------------


@BACKENDS
def test_a_wait_for_a_permit_ends_at_the_deadline(vt, backend):
    """A call queues until its deadline and no longer, though the bulkhead would have let it."""
    policy = bulkhead(1, max_queued=5, max_wait=60)

    async def main():
        permit = policy.acquire()
        with deadline(2.0), pytest.raises(DeadlineExceededError) as caught:
            await policy.acall(anyio.sleep, 1)
        assert vt.now == pytest.approx(2.0)
        assert (caught.value.called, caught.value.needed) == (False, None)
        assert policy.snapshot().queued == 0
        permit.success()

    vt.run(main, backend=backend)


def test_a_thread_waits_until_the_deadline(vt):
    """The same in a thread, where nothing but the wait itself could end it."""
    policy = bulkhead(1, max_queued=5, max_wait=60)
    permit = policy.acquire()
    with deadline(2.0), pytest.raises(DeadlineExceededError):
        policy.call(print)
    assert vt.now == pytest.approx(2.0)
    permit.success()


@BACKENDS
def test_a_wait_that_ends_in_time_is_admitted(vt, backend):
    """A permit that is free before the deadline is granted; woken in between, the call waits on."""
    policy = bulkhead(2, max_queued=5, max_wait=60)

    async def main():
        first, second = policy.acquire(), policy.acquire()
        async with anyio.create_task_group() as group:
            group.start_soon(_release, first, 1.0)
            group.start_soon(_release, second, 1.5)
            with deadline(2.0):
                assert await policy.acall(_left) == pytest.approx(1.0)
                assert vt.now == pytest.approx(1.0)

    vt.run(main, backend=backend)


async def _left():
    return remaining()


async def _release(permit, seconds):
    await anyio.sleep(seconds)
    permit.success()


@BACKENDS
@pytest.mark.parametrize("rates", [["1/s"], ["1/s", "60/min"]])
def test_the_next_in_the_queue_for_tokens_moves_up_when_one_gives_up(vt, backend, rates):
    """A waiter at the head that leaves at its deadline takes no tokens, and those behind it come sooner."""
    policy, served = rate_limit(*rates, burst=1, max_wait=60), []

    async def call(name, seconds):
        with deadline(seconds):
            try:
                await policy.acall(_left)
                served.append((name, vt.now))
            except DeadlineExceededError:
                served.append((f"{name} rejected", vt.now))

    async def main():
        policy.acquire().success()
        async with anyio.create_task_group() as group:
            group.start_soon(call, "first", 1.5)
            await anyio.sleep(0.01)
            group.start_soon(call, "second", 10)
            await anyio.sleep(0.01)
            policy._gate.adjust("requests", 2.0)  # somebody's call cost more than it had taken

    vt.run(main, backend=backend)
    assert [name for name, _ in served] == ["first rejected", "second"]
    assert [when for _, when in served] == pytest.approx([1.5, 3.0])


def test_no_wait_waits_no_longer_than_the_deadline(vt):
    """Under `no_wait` what would be admitted before the deadline is admitted, the rest rejected, without waiting."""
    policy = rate_limit("1/s", burst=1, max_wait=60)
    policy.acquire().success()
    with no_wait(), deadline(5.0):
        policy.call(print)
        with pytest.raises(DeadlineExceededError), deadline(0.5):
            policy.call(print)
    assert vt.now == 0


# ---- cannot finish ---------------------------------------------------------------------------------------------------


def test_tokens_that_come_after_the_deadline_are_not_waited_for(vt):
    """A rate limit knows its wait: a call whose tokens come too late is rejected at once, with what it needs."""
    policy = rate_limit("1/s", burst=1, max_wait=60)
    policy.acquire().success()
    policy.acquire().success()
    begun = vt.now
    with deadline(0.75), pytest.raises(DeadlineExceededError) as caught:
        policy.call(print)
    assert vt.now == begun
    assert (caught.value.needed, caught.value.remaining) == (pytest.approx(1.0), pytest.approx(0.75))
    assert "1 s are needed, 0.75 s are left" in str(caught.value)
    with deadline(1.25):
        policy.call(print)


def test_wait_and_median_must_fit(vt):
    """Once enough calls have succeeded, half of them must have fitted into what is left after the wait."""
    policy = rate_limit("1/s", burst=1, max_wait=60)
    answered(policy, vt, 0.5)
    with deadline(0.9), pytest.raises(DeadlineExceededError) as caught:
        policy.call(print)
    assert caught.value.needed == pytest.approx(1.0, rel=0.01)
    with deadline(1.1):
        policy.call(print)


def test_a_call_that_takes_longer_than_is_left_does_not_queue(vt):
    """A bulkhead queues no call whose median is more than what is left; one that need not queue is let in."""
    policy = bulkhead(1, max_queued=5, max_wait=60)
    answered(policy, vt, 3.0)
    with deadline(2.0):
        permit = policy.acquire()
        with pytest.raises(DeadlineExceededError) as caught:
            policy.call(print)
        assert caught.value.needed == pytest.approx(3.0, rel=0.01)
    assert vt.now == pytest.approx(3.0 * ANSWERED)
    assert policy.snapshot().rejected == 1
    permit.success()


def test_few_calls_are_no_median(vt):
    """Of few calls nothing is concluded: the call queues."""
    policy = bulkhead(1, max_queued=5, max_wait=60)
    answered(policy, vt, 3.0, times=19)
    permit, begun = policy.acquire(), vt.now
    with deadline(2.0), pytest.raises(DeadlineExceededError):
        policy.call(print)
    assert vt.now - begun == pytest.approx(2.0)
    permit.success()


def test_what_would_be_rejected_anyway_says_so(vt):
    """A full queue is a full queue, deadline or not."""
    policy = bulkhead(1, max_queued=1, max_wait=60)
    answered(policy, vt, 3.0)
    permit = policy.acquire()

    async def main():
        waiting = asyncio.create_task(policy.acall(_left))
        await asyncio.sleep(0)
        with deadline(2.0), pytest.raises(BulkheadFullError):
            await policy.acall(_left)
        waiting.cancel()

    vt.run(main)
    permit.success()


# ---- what a deadline's cancellation says -----------------------------------------------------------------------------


@pytest.mark.parametrize(("seconds", "outcome"), [(0.05, "ignored"), (0.2, "failures")])
def test_a_call_that_the_deadline_interrupts_fails_if_it_had_ample_time(vt, seconds, outcome):
    """Interrupted after more than the p99 of its dependency it counts as a failure, after less as nothing."""
    policy = circuit_breaker()

    async def main():
        for _ in range(100):
            await policy.acall(asyncio.sleep, 0.1)
        with pytest.raises(DeadlineExceededError):
            async with deadline(seconds):
                await policy.acall(asyncio.sleep, 10)

    vt.run(main)
    assert getattr(policy.snapshot(), outcome) == 1


def test_a_cancellation_from_outside_is_no_outcome_under_a_sync_deadline(vt):
    """A block that interrupts nothing is not what has cancelled the call, also after its time."""
    policy = circuit_breaker()

    async def work():
        with deadline(0.2):
            await policy.acall(asyncio.sleep, 10)

    async def main():
        for _ in range(100):
            await policy.acall(asyncio.sleep, 0.1)
        task = asyncio.create_task(work())
        await asyncio.sleep(1)
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task

    vt.run(main)
    assert policy.snapshot().ignored == 1


def test_threads_with_deadlines_leave_nothing_in_the_queue():
    """Threads whose deadlines are too short, just right and long meet at one permit, in real time; none is lost."""
    policy, ends = bulkhead(1, max_queued=64, max_wait=60), []

    def work(seconds):
        for _ in range(50):
            try:
                with deadline(seconds):
                    policy.call(lambda: None)
                ends.append("called")
            except DeadlineExceededError:
                ends.append("rejected")

    threads = [threading.Thread(target=work, args=(0.0005 * (n % 4),)) for n in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    seen = policy.snapshot()
    assert len(ends) == 400
    assert ends.count("rejected") == seen.rejected >= 100  # a deadline of 0 always has passed
    assert (seen.inflight, seen.queued, policy.used) == (0, 0, 0)


@BACKENDS
def test_a_strategy_without_gates_calls_nothing_after_the_deadline(vt, backend):
    """Where no gate stands before the function, the deadline is raised in place of the call; strategies see it."""
    again, called = retry(on=ConnectionError), []

    async def work():
        called.append("async")

    async def main():
        with deadline(0), pytest.raises(DeadlineExceededError):
            await again.acall(work)

    vt.run(main, backend=backend)
    with deadline(0), pytest.raises(DeadlineExceededError) as caught:
        again.call(called.append, "sync")
    assert (caught.value.deadline, caught.value.remaining) == (0.0, 0.0)
    assert called == []
    again.call(called.append, "in time")
    assert called == ["in time"]
