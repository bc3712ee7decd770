"""What is ambient, taken away by `detached` and taken along by `carry`."""

from __future__ import annotations

import asyncio
import contextvars
import inspect
import threading
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack

import anyio
import pytest

from resilio import carry, deadline, detached, remaining, retry
from resilio._context import detached as _ambient
from resilio._context import variables

BACKENDS = pytest.mark.parametrize("backend", ["asyncio", "trio"])


@pytest.fixture
def other(monkeypatch):
    """Another ambient variable, set in this context."""
    monkeypatch.setattr(variables, "AMBIENT", [*variables.AMBIENT])
    variable = variables.ambient("other")
    token = variable.set("value")
    yield variable
    variable.reset(token)


# ---- detached --------------------------------------------------------------------------------------------------------


@BACKENDS
def test_a_detached_block_has_nothing_ambient(vt, backend, other):
    """Inside there is no deadline and nothing else ambient, in tasks started there too; after it all is back."""
    seen = []

    async def audit():
        seen.append((remaining(), other.get()))

    async def main():
        async with anyio.create_task_group() as group:
            with deadline(5.0):
                async with detached():
                    seen.append((remaining(), other.get()))
                    group.start_soon(audit)
                    with deadline(9.0):
                        assert remaining() == pytest.approx(9.0)
                with detached():
                    seen.append((remaining(), other.get()))
                assert (remaining(), other.get()) == (pytest.approx(5.0), "value")

    vt.run(main, backend=backend)
    assert seen == [(None, None)] * 3


@BACKENDS
def test_a_detached_function_has_nothing_ambient(vt, backend, other):
    """As a decorator, bare or called, of functions and async functions; each call is detached on its own."""

    @detached
    def write():
        return remaining(), other.get()

    @detached()
    async def awrite(depth):
        await anyio.sleep(0.1)
        return await awrite(depth - 1) if depth else (remaining(), other.get())

    async def main():
        with deadline(5.0):
            assert write() == (None, None)
            assert await awrite(2) == (None, None)
            assert (remaining(), other.get()) == (pytest.approx(4.7), "value")

    assert inspect.iscoroutinefunction(awrite)
    assert write.__name__ == "write"
    vt.run(main, backend=backend)


def test_a_detached_block_in_a_generator_leaves_the_consumer_its_deadline(vt):
    """Between two items the consumer has the deadline that it has; the generator has none."""
    inside = []

    def stream():
        with detached():
            inside.append(remaining())
            yield 1
            inside.append(remaining())
            with deadline(0.5):
                inside.append(remaining())
        inside.append(remaining())

    with deadline(3.0):
        for _ in stream():
            assert remaining() == pytest.approx(3.0)
        assert remaining() == pytest.approx(3.0)
    assert inside == [None, None, pytest.approx(0.5), pytest.approx(3.0)]


def nested():
    """An outer and an inner retry of one attempt more than the callee fails, and both, each in the other's call."""
    outer, inner = (retry(on=OSError, attempts=3, backoff=0.0) for _ in range(2))
    tried = []

    def callee():
        tried.append(remaining())
        raise OSError

    async def acallee():
        callee()

    return outer, inner, tried, inner(callee), inner(acallee)


@BACKENDS
@pytest.mark.parametrize("shape", ["with", "async with", "sync"])
def test_a_detached_block_hides_the_retry_around_it_from_calls_in_the_same_task(vt, backend, shape):
    """A retry inside does not stand aside for one outside, nor does it pay out of that one's budget."""
    outer, inner, tried, inside, ainside = nested()

    async def call():
        if shape == "with":
            with detached(), pytest.raises(OSError):
                await ainside()
        elif shape == "async with":
            async with detached():
                with pytest.raises(OSError):
                    await ainside()
        else:
            with detached(), pytest.raises(OSError):
                inside()
        counts = inner.snapshot().retries, outer.budget.withdrawals
        with pytest.raises(OSError):
            await ainside()  # out of the block the outer one is there again, and the retry inside leaves it to it
        return counts

    assert vt.run(outer(call), backend=backend) == (2, 0)
    assert len(tried) == 3 + 1
    assert inner.snapshot().stopped["attempts"] == 1
    assert inner.snapshot().stopped["nested"] == 1


def test_a_success_in_a_detached_block_pays_in_on_its_own(vt):
    """It is not one of the outer retry's attempts: that one deposits for its own call, and this one too."""
    outer, inner = (retry(on=OSError, backoff=0.0) for _ in range(2))
    record = inner(lambda: 1)

    def call():
        record()
        with detached():
            record()

    outer(call)()
    assert (outer.budget.deposits, inner.budget.deposits) == (1, 1)


@BACKENDS
def test_a_detached_block_hides_the_deadlines_of_calls_under_way(vt, backend):
    """Those that only the call knows too; one that is set inside holds, however near those outside are."""
    seen = []

    @deadline(5.0, tasks=False)
    async def call():
        seen.append(remaining())
        with detached():
            seen.append(remaining())
            with deadline(9.0):
                seen.append(remaining())
                with deadline(99.0):
                    seen.append(remaining())
                await quiet()
            async with deadline(8.0):
                seen.append(remaining())
        seen.append(remaining())

    @deadline(7.0, tasks=False)
    async def quiet():
        seen.append(remaining())
        with detached():
            seen.append(remaining())

    vt.run(call, backend=backend)
    close = pytest.approx
    assert seen == [close(5.0), None, close(9.0), close(9.0), close(7.0), None, close(8.0), close(5.0)]


def test_a_detached_block_hides_a_retry_that_runs_a_block(vt):
    """Whose scope is ambient, not a call's."""
    outer, inner, tried, inside, _ = nested()
    for attempt in outer.retrying():
        with attempt, detached(), pytest.raises(OSError):
            inside()
    assert len(tried) == 3
    assert inner.snapshot().stopped["nested"] == 0


def test_a_call_that_began_in_a_detached_block_is_seen_in_it(vt):
    """What is hidden is what is outside: a retry inside of the block is one for what it calls."""
    _, middle, _, _, _ = nested()
    outer, inner, tried, inside, _ = nested()

    @middle
    def between():
        inside()

    def call():
        with detached(), pytest.raises(OSError):
            between()

    outer(call)()
    assert len(tried) == 3
    assert (middle.snapshot().retries, inner.snapshot().retries) == (2, 0)
    assert outer.budget.withdrawals == inner.budget.withdrawals == 0


@BACKENDS
def test_a_block_elsewhere_hides_nothing_here(vt, backend):
    """Blocks that begin in other tasks, or have ended, leave the retry around where it was."""
    outer, inner, tried, _, ainside = nested()

    async def elsewhere():
        with detached():
            await anyio.sleep(5.0)

    async def call():
        with detached():
            pass
        async with anyio.create_task_group() as group:
            group.start_soon(elsewhere)
            await anyio.sleep(1.0)
            with pytest.raises(OSError):
                await ainside()

    vt.run(outer(call), backend=backend)
    assert len(tried) == 1
    assert inner.snapshot().stopped["nested"] == 1


def test_a_detached_block_left_in_another_context_raises_nothing(vt):
    """A generator that is closed in another context than it began in ends its block there."""

    def stream():
        with detached():
            yield

    with deadline(1.0):
        running = stream()
        contextvars.copy_context().run(next, running)
        contextvars.copy_context().run(running.close)
        assert remaining() == pytest.approx(1.0)


def test_one_detached_block_serves_many_at_once():
    """Entered inside of itself, by hand and on an exit stack too: each end puts back what was before."""
    block = detached()
    with deadline(9.0), block:
        with deadline(5.0), block:
            assert remaining() is None
        with deadline(5.0):
            block.__enter__()
            assert remaining() is None
            with ExitStack() as stack:
                stack.enter_context(deadline(3.0))
                stack.enter_context(block)
                assert remaining() is None
            block.__exit__(None, None, None)
            assert remaining() is not None
        assert remaining() is None
    assert remaining() is None
    with pytest.raises(RuntimeError, match="never entered"):
        block.__exit__(None, None, None)


def test_what_cannot_be_detached_is_rejected():
    """A generator, a class and what is no function are TypeErrors that say so."""

    def stream():
        yield

    async def astream():
        yield

    for wrong in (stream, astream):
        with pytest.raises(TypeError, match="fn must be no generator"):
            detached(wrong)
    for wrong in (3, int):
        with pytest.raises(TypeError, match="fn must be a function, not"):
            detached()(wrong)


# ---- carry -----------------------------------------------------------------------------------------------------------


def test_executors_and_threads_that_drop_the_context_get_it_carried(vt):
    """A pool, `run_in_executor` and a thread see nothing by themselves, and the deadline by `carry`."""

    async def main():
        loop = asyncio.get_running_loop()
        with ThreadPoolExecutor(1) as pool, deadline(2.0):
            carried = carry(remaining)
            assert pool.submit(remaining).result() is None
            assert pool.submit(carried).result() == pytest.approx(2.0)
            assert await loop.run_in_executor(pool, remaining) is None
            assert await loop.run_in_executor(pool, carried) == pytest.approx(2.0)
            assert pool.submit(carried, cap=1.0).result() == 1.0

    vt.run(main)


def test_a_carried_function_runs_many_times_at_once():
    """Each call has a copy of the context of the moment of `carry`: calls neither collide nor see each other."""
    variable = contextvars.ContextVar("variable", default=0)
    both = threading.Barrier(2)

    def work(value):
        both.wait()  # inside of both at once
        before = variable.get()
        variable.set(value)
        both.wait()
        return before, variable.get()

    variable.set(7)
    carried = carry(work)
    variable.set(8)
    with ThreadPoolExecutor(2) as pool:
        assert list(pool.map(carried, [1, 2])) == [(7, 1), (7, 2)]
    assert carried.__name__ == "work"


def test_what_cannot_be_carried_is_rejected():
    """The body of an async function or a generator would run in another context: a TypeError names the way."""

    async def later():
        pass

    async def astream():
        yield

    def stream():
        yield

    for wrong in (later, astream, stream):
        with pytest.raises(TypeError, match="context=copy_context"):
            carry(wrong)
    with pytest.raises(TypeError, match="fn must be a function, not 3"):
        carry(3)


def test_the_blocks_are_objects_of_their_class():
    """`detached()` gives a block; each call a new one."""
    assert isinstance(detached(), _ambient.Detached)
    assert detached() is not detached()
