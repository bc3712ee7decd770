"""A deadline around a function: as a decorator, and as a stage of a pipeline."""

from __future__ import annotations

import asyncio
import copy
import pickle

import anyio
import pytest

from resilio import (
    bulkhead,
    circuit_breaker,
    current,
    deadline,
    fallback,
    pipeline,
    policy_of,
    registry,
    remaining,
    retry,
    timeout,
)
from resilio._native.core import ambient_deadline
from resilio.errors import CallTimeoutError, DeadlineExceededError
from resilio.testing import assert_no_leaks

BACKENDS = pytest.mark.parametrize("backend", ["asyncio", "trio"])


# ---- the promise -----------------------------------------------------------------------------------------------------


@BACKENDS
def test_an_async_function_is_interrupted_at_its_deadline(vt, backend):
    """RT-02: a call that would take 10 s under a deadline of 0.5 s raises after 0.5 s, and leaves none behind."""
    limit = deadline(0.5)

    @limit
    async def call():
        assert remaining() == pytest.approx(0.5)
        await anyio.sleep(10)

    async def main():
        with pytest.raises(DeadlineExceededError) as caught:
            await call()
        assert (caught.value.deadline, caught.value.remaining) == (0.5, 0.0)
        assert remaining() is None

    vt.run(main, backend=backend)
    assert vt.now == pytest.approx(0.5, abs=0.002)
    assert limit.snapshot().failures == 1
    assert_no_leaks(limit)


@BACKENDS
def test_a_function_in_time_is_left_alone(vt, backend):
    """What ends in time returns or raises what it did, and nothing is left in the context."""
    limit = deadline(1.0)

    @limit
    async def call(error=None):
        await anyio.sleep(0.1)
        if error:
            raise error
        return remaining()

    async def main():
        assert await call() == pytest.approx(0.9, abs=0.001)
        with pytest.raises(KeyError):
            await call(KeyError("mine"))
        await anyio.sleep(5)
        assert ambient_deadline() is None

    vt.run(main, backend=backend)


def test_a_sync_function_knows_its_deadline(vt):
    """In a function that is not async the deadline cannot interrupt; it is known, and guarded calls are rejected."""
    permits = bulkhead(1)

    @deadline(1.0)
    def call():
        assert remaining() == pytest.approx(1.0)
        vt.advance(2.0)
        assert remaining() == 0.0
        with pytest.raises(DeadlineExceededError) as rejected:
            permits.call(int)
        assert not rejected.value.called
        return "late"

    assert call() == "late"
    assert remaining() is None


@BACKENDS
def test_one_object_is_block_decorator_and_stage(vt, backend):
    """One deadline serves as block, decorator and stage, also at once."""
    limit = deadline(1.0)

    @limit
    async def decorated():
        return remaining()

    @pipeline(limit, bulkhead(1))
    async def staged():
        with limit:
            await anyio.sleep(0.25)
            return remaining()

    async def main():
        assert await decorated() == pytest.approx(1.0)
        assert await staged() == pytest.approx(0.75, abs=0.001)
        async with limit:
            await anyio.sleep(0.5)
            assert await decorated() == pytest.approx(0.5, abs=0.001)

    vt.run(main, backend=backend)
    assert policy_of(decorated) is limit


@BACKENDS
@pytest.mark.parametrize(("outer", "inner"), [(1.0, 2.0), (2.0, 1.0), (1.0, 1.0)])
def test_nested_deadlines_only_shorten(vt, backend, outer, inner):
    """Of two deadlines the nearer holds, whichever is outside, in one pipeline, in two functions, and with a block."""

    async def work():
        assert remaining() == pytest.approx(1.0)
        await anyio.sleep(10)

    async def outside():
        await deadline(inner)(work)()

    async def block():
        async with deadline(inner):
            await work()

    async def main():
        for call in (
            pipeline(deadline(outer), deadline(inner))(work),
            deadline(outer)(outside),
            deadline(outer)(block),
        ):
            with pytest.raises(DeadlineExceededError):
                await call()
        async with anyio.create_task_group() as group:  # none of it has left a cancellation behind
            group.start_soon(anyio.sleep, 0.1)

    vt.run(main, backend=backend)
    assert vt.now == pytest.approx(3.1, abs=0.02)


def test_the_deadline_reaches_tasks_that_outlive_the_call(vt):
    """A task started inside keeps the deadline, one started outside has none."""
    seen = []

    async def child():
        await asyncio.sleep(0.2)
        seen.append(remaining())

    @deadline(1.0)
    async def call():
        return asyncio.create_task(child())

    async def main():
        task = await call()
        assert remaining() is None
        await task

    vt.run(main)
    assert seen == [pytest.approx(0.8, abs=0.001)]


@BACKENDS
@pytest.mark.parametrize("order", ["deadline outside", "timeout outside"])
def test_a_timeout_and_a_deadline_that_tie_are_the_deadline(vt, backend, order):
    """In one pipeline a deadline and a timeout of the same time raise DeadlineExceededError, whichever is outside."""
    stages = [deadline(1.0), timeout(1.0)]
    if order == "timeout outside" and backend == "asyncio":  # of two scopes of trio the outer one is what ends it
        stages.reverse()

    @pipeline(*stages)
    async def call():
        await anyio.sleep(10)

    async def main():
        with pytest.raises(DeadlineExceededError):
            await call()

    vt.run(main, backend=backend)


# ---- RT-02 -----------------------------------------------------------------------------------------------------------


@BACKENDS
def test_rt02_a_deadline_around_a_retry_is_a_bound(vt, backend):
    """RT-02: attempts and sleeps together take no longer than the deadline, and no attempt starts after it."""
    begun = []

    @pipeline(deadline(1.0), retry(on=(ConnectionError, CallTimeoutError), attempts=50, backoff=0.2), timeout(0.3))
    async def call():
        begun.append(vt.now)
        await anyio.sleep(10)

    async def main():
        with pytest.raises((CallTimeoutError, DeadlineExceededError)):
            await call()

    vt.run(main, backend=backend)
    assert vt.now <= 1.002
    assert len(begun) >= 2
    assert max(begun) < 1.0


# ---- whether or not tasks inside know it -----------------------------------------------------------------------------


TASKS = pytest.mark.parametrize("tasks", [True, False], ids=["tasks", "call only"])


@BACKENDS
@TASKS
def test_a_deadline_of_the_call_only_bounds_it_as_any(vt, backend, tasks):
    """What the call does in its own task is interrupted, and knows the time that is left, on every backend."""
    limit = deadline(0.5, tasks=tasks)
    seen = []

    @limit
    async def call():
        seen.append(remaining())
        await anyio.sleep(10)

    async def main():
        async with deadline(2.0):
            with pytest.raises(DeadlineExceededError) as caught:
                await call()
            assert (caught.value.deadline, remaining()) == (0.5, pytest.approx(1.5, abs=0.002))

    vt.run(main, backend=backend)
    assert seen == [pytest.approx(0.5)]
    assert vt.now == pytest.approx(0.5, abs=0.002)
    assert_no_leaks(limit)


def call_of(vt, backend, stack, body):
    """Run `body`, which gets a `sleep`, under a stack; in this thread or async."""
    if backend == "sync":
        return stack(lambda: body_of_sync(vt, body))()

    async def call():
        answer, seconds = body()
        await anyio.sleep(seconds)
        return ended(answer)

    return vt.run(stack(call), backend=backend)


def body_of_sync(vt, body):
    answer, seconds = body()
    vt.advance(seconds)
    return ended(answer)


def ended(answer):
    if isinstance(answer, Exception):
        raise answer
    return answer


EVERYWHERE = pytest.mark.parametrize("backend", ["asyncio", "trio", "sync"])


@EVERYWHERE
@TASKS
def test_rt02_no_wait_begins_that_ends_after_the_deadline(vt, backend, tasks):
    """RT-02: a retry inside of a deadline gives up at once where its next attempt would begin too late."""
    inner = retry(on=OSError, backoff=5.0)
    with pytest.raises(OSError):
        call_of(vt, backend, lambda fn: deadline(1.0, tasks=tasks)(inner(fn)), lambda: (OSError(), 0.25))
    assert vt.now == pytest.approx(0.25, abs=0.002)
    assert inner.snapshot().stopped["deadline"] == 1


@EVERYWHERE
@TASKS
def test_a_deadline_inside_of_a_retry_is_each_attempts_own(vt, backend, tasks):
    """The retry outside is not bound by it: three attempts of 0.9 s, each with 1 s."""
    outer, seen = retry(on=OSError, backoff=0.5), []

    def body():
        seen.append(remaining())
        return OSError() if len(seen) < 3 else "done", 0.9

    assert call_of(vt, backend, lambda fn: outer(deadline(1.0, tasks=tasks)(fn)), body) == "done"
    assert seen == [pytest.approx(1.0, abs=0.002)] * 3
    assert vt.now == pytest.approx(3.7, abs=0.01)


@EVERYWHERE
@TASKS
def test_a_fallback_outside_of_a_deadline_has_its_own_time(vt, backend, tasks):
    """Its target runs after the deadline has passed, knows nothing of it, and its gates admit."""
    breaker, far = circuit_breaker(), deadline(9.0, tasks=tasks)

    @breaker
    def target():
        return remaining()

    async def atarget():
        return target()

    away = fallback(target if backend == "sync" else atarget, on=Exception)
    stack = lambda fn: far(away(deadline(1.0, tasks=tasks)(fn)))  # noqa: E731
    took = 2.0 if backend == "sync" else 1.0
    assert call_of(vt, backend, stack, lambda: (OSError(), 2.0)) == pytest.approx(9.0 - took, abs=0.002)
    assert breaker.snapshot().successes == 1


@BACKENDS
def test_rt02_no_call_starts_once_the_deadline_has_passed(vt, backend):
    """RT-02: a guarded function in a deadline that has passed is not called."""
    called = []

    @deadline(0.0)
    async def call():
        called.append(1)

    async def main():
        with pytest.raises(DeadlineExceededError):
            await call()

    vt.run(main, backend=backend)
    assert not called


# ---- cancellation ----------------------------------------------------------------------------------------------------


def test_cleanup_is_not_cancelled_again_by_a_block_inside(vt):
    """A block in a function whose stage has interrupted it, or the reverse, leaves the cleanup alone."""
    steps = []

    async def work():
        try:
            await asyncio.sleep(10)
        finally:
            await asyncio.sleep(0.5)
            steps.append("cleaned up")

    @deadline(1.0)
    async def block_inside():
        async with deadline(1.001):
            await work()

    @timeout(1.0)
    async def block_inside_of_timeout():
        async with deadline(1.2):
            await work()

    async def block_outside():
        async with deadline(1.001):
            await timeout(1.0)(work)()

    async def timeout_outside():
        async with deadline(1.0):
            await work()

    async def main():
        for call in (block_inside, block_inside_of_timeout, block_outside, timeout(1.1)(timeout_outside)):
            with pytest.raises((CallTimeoutError, DeadlineExceededError)):
                await call()
            assert asyncio.current_task().cancelling() == 0

    vt.run(main)
    assert steps == ["cleaned up"] * 4


def test_a_cancellation_from_outside_goes_on_outward(vt):
    """Somebody else's cancellation at the same moment is not turned into a passed deadline."""

    @deadline(0.1)
    async def call():
        await asyncio.sleep(10)

    async def main():
        task = asyncio.create_task(call())
        asyncio.get_running_loop().call_later(0.1, task.cancel)
        with pytest.raises(asyncio.CancelledError):
            await task

    vt.run(main)


# ---- labels ----------------------------------------------------------------------------------------------------------


@BACKENDS
@pytest.mark.parametrize("seconds", [0.05, 0.5])
def test_gates_inside_learn_a_failure_only_from_a_call_that_had_ample_time(vt, backend, seconds):
    """A passed deadline is a failure for a gate inside if the call had the p99 of successes, and else ignored."""
    breaker = circuit_breaker(min_calls=200, consecutive=100)

    async def work(takes):
        await anyio.sleep(takes)

    guarded = breaker(work)

    async def main():
        for _ in range(200):
            await guarded(0.1)
        with pytest.raises(DeadlineExceededError):
            await deadline(seconds)(guarded)(10)
        with pytest.raises(DeadlineExceededError):
            await pipeline(deadline(seconds), breaker)(work)(10)

    vt.run(main, backend=backend)
    snapshot = breaker.snapshot()
    assert (snapshot.failures, snapshot.ignored) == ((2, 0) if seconds > 0.1 else (0, 2))


# ---- the object ------------------------------------------------------------------------------------------------------


def test_a_block_costs_no_policy():
    """A deadline that is only entered is not registered, and one that guards a function is."""
    block, guarding = deadline(1.0), deadline(1.0)
    with block:
        assert remaining() <= 1.0

    @guarding
    def call():
        return current() is not None

    assert call()
    assert guarding in registry.all()
    assert block not in registry.all()
    assert guarding.name.endswith("call")


def test_it_is_a_policy_in_every_other_way(vt):
    """`call`, `try_call`, `gates`, `config`, ... work without a function being guarded first."""
    assert deadline(2.0).call(remaining) == pytest.approx(2.0)
    assert deadline(2.0).try_call(remaining).value == pytest.approx(2.0)
    assert len(deadline(2.0).gates) == 1
    assert deadline(2.0).config.seconds == 2.0
    assert deadline(2.0).snapshot().kind == "deadline"
    limit = deadline(2.0)
    limit.reconfigure(seconds=3)
    assert limit.call(remaining) == pytest.approx(3.0)
    assert limit.seconds == 3.0
    with limit:
        assert remaining() == pytest.approx(3.0)

    async def main():
        async def left():
            return remaining()

        assert await limit.acall(left) == pytest.approx(3.0)

    vt.run(main)


def test_it_gives_no_permits():
    """It has a block of its own, which knows no permit: whatever gives permits says so."""
    for give in (deadline(1.0).acquire, deadline(1.0).try_acquire, deadline(1.0).aacquire):
        with pytest.raises(TypeError, match="deadline"):
            give()


def test_bare_use_and_foreign_attributes_are_rejected():
    """`@deadline` without a time says what to write; what it does not have is an AttributeError."""
    with pytest.raises(TypeError, match=r"@deadline\(2.0\)"):
        deadline(print)
    with pytest.raises(AttributeError, match="no attribute 'sedonds'"):
        deadline(1.0).sedonds


def test_copies_and_pickles():
    """A deadline is its seconds to pickle, and itself to copy."""
    limit = deadline(1.5)
    assert copy.copy(limit) is limit
    assert copy.deepcopy(limit) is limit
    assert pickle.loads(pickle.dumps(limit)).seconds == 1.5
