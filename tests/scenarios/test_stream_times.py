"""The numbered scenarios of timeouts and deadlines of streams."""

from __future__ import annotations

import asyncio

import anyio
import pytest

from resilio import bulkhead, circuit_breaker, deadline, pipeline, remaining, timeout
from resilio.errors import BulkheadFullError, CallTimeoutError, DeadlineExceededError
from resilio.testing import assert_no_leaks

BACKENDS = pytest.mark.parametrize("backend", ["asyncio", "trio"])


async def items(*waits):
    """Give 0, 1, ..., each after its wait."""
    for number, seconds in enumerate(waits):
        await anyio.sleep(seconds)
        yield number


async def collect(stream, pause=0.0):
    """Return what came, and the error that ended it."""
    got = []
    try:
        async for item in stream:
            got.append(item)
            await anyio.sleep(pause)
    except TimeoutError as error:
        return got, error
    return got, None


@BACKENDS
@pytest.mark.parametrize(
    ("limits", "waits", "clock", "came", "after"),
    [
        ({"first": 1.0}, (2.0,), "first", 0, 1.0),
        ({"first": 1.0, "idle": 0.5}, (0.9, 0.4, 0.6), "idle", 2, 1.8),
        ({"idle": 0.5}, (5.0, 0.4, 0.6), "idle", 2, 5.9),
        ({"total": 2.0, "idle": 1.0}, (0.9, 0.9, 0.9), "total", 2, 2.0),
        ({"total": 1.0, "first": 2.0}, (3.0,), "total", 0, 1.0),
    ],
)
def test_each_clock_says_that_it_was_it(vt, backend, limits, waits, clock, came, after):
    """A stream whose item comes too late is ended, and the error names the clock and its limit."""
    limit = timeout(**limits)

    async def main():
        got, error = await collect(limit(items)(*waits))
        assert len(got) == came
        assert isinstance(error, CallTimeoutError)
        assert (error.clock, error.limit) == (clock, limits[clock])

    vt.run(main, backend=backend)
    assert vt.now == pytest.approx(after, abs=0.01)
    assert limit.snapshot().failures == 1
    assert_no_leaks(limit)


@BACKENDS
def test_to07_no_timer_runs_across_a_yield(vt, backend):
    """TO-07: a consumer may take its time between items, whatever the limits are; its own time is not the stream's."""
    limit = timeout(2.0, first=1.0, idle=0.5)

    async def main():
        got, error = await collect(limit(items)(0.4, 0.4, 0.4), pause=10.0)
        assert (got, error) == ([0, 1, 2], None)

    vt.run(main, backend=backend)
    assert limit.snapshot().successes == 1


@BACKENDS
def test_streams_behave_as_without(vt, backend):
    """What is sent, thrown and closed reaches the generator; cleanup runs, and wrong arguments are told at once."""
    limit, closed = timeout(5.0), []

    @limit
    async def echo(first):
        try:
            while True:
                try:
                    first = yield first
                except KeyError as error:
                    first = error
        finally:
            await anyio.sleep(0.1)
            closed.append(vt.now)

    async def main():
        with pytest.raises(TypeError):
            echo()
        stream = echo(1)
        assert await anext(stream) == 1
        assert await stream.asend(2) == 2
        error = KeyError("thrown")
        assert await stream.athrow(error) is error
        await stream.aclose()
        assert closed

    vt.run(main, backend=backend)
    assert limit.snapshot().ignored == 1
    assert_no_leaks(limit)


@BACKENDS
def test_the_generators_own_errors_pass(vt, backend):
    """What the generator raises is raised unchanged, its own TimeoutError included (TO-01)."""
    limit, error = timeout("p50", ceiling=5.0), TimeoutError("the callee's")

    @limit
    async def stream():
        yield 1
        raise error

    async def main():
        got, raised = await collect(stream())
        assert got == [1]
        assert raised is error

    vt.run(main, backend=backend)
    assert limit.learned_from == 0


@BACKENDS
def test_gates_around_and_inside(vt, backend):
    """A stream goes through gates and timeouts in their order; for gates inside a timeout is a failure."""
    outer, breaker, permits = circuit_breaker(), circuit_breaker(consecutive=1), bulkhead(1)
    limit = timeout(idle=0.5)
    guarded = pipeline(outer, timeout(60.0), breaker, limit, permits)(items)

    async def main():
        got, error = await collect(guarded(0.1, 0.2, 5.0))
        assert (got, error.clock) == ([0, 1], "idle")

    vt.run(main, backend=backend)
    assert permits.snapshot().failures == 1
    assert breaker.snapshot().failures == outer.snapshot().failures == 1
    assert_no_leaks(outer, breaker, permits, limit)


@BACKENDS
def test_a_rejection_inside_is_no_timeout(vt, backend):
    """A gate inside that rejects ends the stream with its rejection, which the timeout ignores."""
    limit, permits = timeout(1.0), bulkhead(1)
    guarded = pipeline(limit, permits)(items)

    async def main():
        with permits.permit(), pytest.raises(BulkheadFullError):
            await anext(guarded(0.1))

    vt.run(main, backend=backend)
    assert limit.snapshot().ignored == 1
    assert_no_leaks(limit, permits)


def test_a_cancellation_from_outside_goes_on_outward(vt):
    """Whoever cancels the consumer has it cancelled, also at the moment of the timeout."""
    limit = timeout(idle=0.1, first=0.1)

    async def main():
        task = asyncio.create_task(collect(limit(items)(10.0)))
        asyncio.get_running_loop().call_later(0.1, task.cancel)
        with pytest.raises(asyncio.CancelledError):
            await task
        task = asyncio.create_task(collect(limit(items)(10.0)))
        with pytest.raises(TimeoutError):
            async with asyncio.timeout(0.05):
                await task
        assert asyncio.current_task().cancelling() == 0

    vt.run(main)
    assert_no_leaks(limit)


def test_a_quantile_is_learned_from_whole_streams(vt):
    """A timeout that learns takes the producer's time for a stream, the consumer's apart."""
    limit = timeout("p50*2", ceiling=30.0)

    async def main():
        for _ in range(30):
            await collect(limit(items)(0.5, 0.5), pause=0.2)
        assert limit.seconds == pytest.approx(2.0, rel=0.02)
        got, error = await collect(limit(items)(0.5, 5.0))
        assert (got, error.clock) == ([0], "total")
        assert limit.learned_from == 31

    vt.run(main)


def test_generators_that_are_not_async_are_rejected():
    """Nothing can stop a generator that is not async, thread or not; `first` and `idle` are for streams only."""

    def numbers():
        yield 1

    async def call():
        """Return nothing."""

    for limit in (timeout(1.0), timeout(1.0, thread=True), timeout(idle=1.0)):
        with pytest.raises(TypeError, match="async generator"):
            limit(numbers)
    with pytest.raises(TypeError, match="`first` and `idle`"):
        timeout(idle=1.0)(call)
    with pytest.raises(TypeError, match="`first` and `idle`"):
        pipeline(bulkhead(1), timeout(first=1.0))(call)


# ---- deadlines -------------------------------------------------------------------------------------------------------


@BACKENDS
def test_a_stream_is_interrupted_at_its_deadline(vt, backend):
    """A deadline runs from the first step, is ambient for the producer alone, and interrupts it."""
    seen = []

    @deadline(2.0)
    async def stream():
        for number in range(10):
            await anyio.sleep(0.8)
            seen.append(remaining())
            yield number

    async def main():
        got = []
        with pytest.raises(DeadlineExceededError) as caught:
            async for item in stream():
                got.append(item)
                assert remaining() is None
        assert (got, caught.value.deadline) == ([0, 1], 2.0)

    vt.run(main, backend=backend)
    assert vt.now == pytest.approx(2.0, abs=0.01)
    assert seen == [pytest.approx(1.2, abs=0.01), pytest.approx(0.4, abs=0.01)]


@BACKENDS
def test_a_nearer_deadline_outside_is_the_streams(vt, backend):
    """A consumer's deadline that is nearer than the stream's holds in it too."""

    @deadline(5.0)
    async def stream():
        yield remaining()
        await anyio.sleep(60)

    async def main():
        with deadline(1.0):
            guarded = stream()
            assert await anext(guarded) == pytest.approx(1.0)
            with pytest.raises(DeadlineExceededError):
                await anext(guarded)
            assert remaining() == pytest.approx(0.0, abs=0.01)

    vt.run(main, backend=backend)


def test_a_generator_knows_its_deadline(vt):
    """In a generator that is not async the deadline is known while it works, and its consumer has none."""
    limit, permits = deadline(2.0), bulkhead(1)

    @pipeline(limit, permits)
    def numbers(error=None):
        got = yield remaining()
        assert got == "sent"
        vt.advance(0.5)
        try:
            yield remaining()
        except KeyError:
            yield "thrown"
        if error:
            raise error
        return "returned"

    stream = numbers()
    assert next(stream) == pytest.approx(2.0)
    assert remaining() is None
    assert stream.send("sent") == pytest.approx(1.5)
    assert stream.throw(KeyError()) == "thrown"
    with pytest.raises(StopIteration) as stop:
        next(stream)
    assert stop.value.value == "returned"
    failing = numbers(ValueError("mine"))
    next(failing)
    failing.send("sent")
    with pytest.raises(ValueError, match="mine"):
        next(failing)
    closed = numbers()
    next(closed)
    closed.close()
    snapshot = limit.snapshot()
    assert (snapshot.successes, snapshot.failures, snapshot.ignored, snapshot.inflight) == (1, 1, 1, 0)
    assert_no_leaks(limit, permits)


@BACKENDS
def test_a_step_after_the_deadline_ends_the_stream(vt, backend):
    """A consumer that comes back after the deadline finds it passed: the step is interrupted."""

    async def main():
        stream = deadline(1.0)(items)(0.1, 0.1)
        assert await anext(stream) == 0
        await anyio.sleep(5)
        with pytest.raises(DeadlineExceededError):
            await anext(stream)

    vt.run(main, backend=backend)
