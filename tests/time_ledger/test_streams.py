"""What the strategies and gates of a guarded stream wait for is told as for calls, in one ledger for all of them."""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterator
from typing import Any

import anyio
import pytest
from anyio import sleep

import resilio
from resilio import _backends, bulkhead, circuit_breaker, fallback, phase, rate_limit, retry, timeout
from resilio._native.core import Pipeline

pytestmark = pytest.mark.anyio


def spent(policy: Any) -> dict[str, float]:
    """Return what the policy's calls have spent time on, rounded to the microsecond."""
    return {name: round(value, 6) for name, value in policy.call_seconds.items() if value}


async def occupy(queue: Any, seconds: float) -> None:
    async with queue:
        await sleep(seconds)


async def test_waits_inside_of_a_stream_are_told_as_such(vt: Any) -> None:
    """The outermost stage tells of queues, rates, sleeps and phases of all attempts; those inside count nothing."""
    tries = retry(on=OSError, attempts=3, backoff=0.25, budget=None, name="tries")
    rates = rate_limit("30/min", burst=1, max_wait=9.0, name="rates")
    pool = bulkhead(1, max_queued=9, max_wait=9.0, name="pool")
    begun: list[int] = []

    @timeout(first=30.0)
    @tries
    @rates
    @pool
    async def items() -> AsyncIterator[int]:
        begun.append(1)
        phase("connect")
        await sleep(0.125)
        phase("first_byte")
        await sleep(0.25)
        if len(begun) == 1:
            raise OSError
        yield 1
        await sleep(2)
        yield 2

    async with anyio.create_task_group() as group:
        group.start_soon(occupy, pool, 0.625)
        await sleep(0.125)
        began = vt.now
        assert [item async for item in items()] == [1, 2]
    phases = {"connect": 0.25, "first_byte": 0.5, "body": 2.0}
    assert spent(tries) == {"queue": 0.5, "rate_limit": 0.875, "retry_sleep": 0.25} | phases
    assert sum(spent(tries).values()) == pytest.approx(vt.now - began)
    assert spent(rates) == {}
    assert spent(pool) == {"attempt": 0.625}  # of the one that held it before
    assert pool.waited_seconds == pytest.approx(0.5)


async def test_what_leaves_a_stream_tells_of_all_attempts(vt: Any) -> None:
    """The exception has the segments of the whole stream, and one note with each attempt."""
    tries = retry(on=OSError, attempts=2, backoff=0.25, budget=None)

    @tries
    @circuit_breaker()
    async def items() -> AsyncIterator[int]:
        await sleep(0.5)
        raise OSError("no")
        yield 1

    with pytest.raises(OSError, match="no") as caught:
        await anext(items())
    assert caught.value.resilio_segments.asdict()["retry_sleep"] == 0.25
    (note,) = caught.value.__notes__
    assert note.startswith("resilio: retry 'tests.time_ledger.")
    assert note.endswith(
        ".items': 2 attempts in 1.25 s, no other: attempts; attempt1 0.50 (OSError) + retry_sleep 0.25 + "
        "attempt2 0.50 (OSError)"
    )


@pytest.mark.filterwarnings(
    "ignore::resilio._composition.pipeline.PipelineWarning"
)  # the order is not the recommended one
async def test_a_wait_that_ends_in_a_rejection_or_a_cancellation_was_a_wait(vt: Any) -> None:
    """In a stage inside too: it counts as the queue's, whatever became of the stream."""
    outer = circuit_breaker("outer")
    pool = bulkhead(1, max_queued=9, max_wait=0.5, name="pool")

    @outer
    @retry(on=OSError, budget=None)
    @pool
    async def items() -> AsyncIterator[int]:
        yield 1

    async with anyio.create_task_group() as group:
        group.start_soon(occupy, pool, 5.0)
        await sleep(0.125)
        with pytest.raises(resilio.BulkheadFullError) as caught:
            await anext(items())
        assert caught.value.resilio_segments.asdict()["queue"] == 0.5
        assert spent(outer) == {"queue": 0.5}
        with anyio.move_on_after(0.25):
            await anext(items())
        assert spent(outer) == {"queue": 0.75}


async def test_a_stream_from_a_fallback_is_the_fallbacks(vt: Any) -> None:
    """What the primary took is its attempt; a fallback alone, outermost, tells as well."""

    async def other() -> AsyncIterator[int]:
        await sleep(0.5)
        yield 1
        await sleep(1)

    elsewhere = fallback(other, on=OSError, name="elsewhere")

    @elsewhere
    @circuit_breaker()
    async def items() -> AsyncIterator[int]:
        await sleep(0.25)
        raise OSError
        yield 2

    assert [item async for item in items()] == [1]
    assert spent(elsewhere) == {"attempt": 0.25, "fallback": 1.5}


def test_generators_in_threads_tell_the_same(vt: Any) -> None:
    """A plain generator, whose sleeps block: phases, an attempt that fails, the sleep after it and the rest."""
    tries = retry(on=OSError, attempts=2, backoff=0.25, budget=None, name="plain tries")
    begun: list[int] = []

    @tries
    @circuit_breaker()
    def items() -> Iterator[int]:
        begun.append(1)
        phase("connect")
        _backends.sleep(0.125)
        phase("first_byte")
        _backends.sleep(0.25)
        if len(begun) == 1:
            raise OSError
        yield 1
        phase("connect")  # after the first item the interpreter delegates
        _backends.sleep(2)
        yield 2

    assert list(items()) == [1, 2]
    assert spent(tries) == {"connect": 0.25, "first_byte": 0.5, "retry_sleep": 0.25, "body": 2.0}


async def test_phases_of_a_call_in_a_stream_are_the_streams_too(vt: Any) -> None:
    """Until its first item a stream is among the calls under way, as is a call around it; they end with the call."""
    stream, call, around = (circuit_breaker(name) for name in ("stream", "call", "around"))

    @call
    async def client() -> None:
        phase("connect")
        await sleep(0.25)

    @stream
    async def items() -> AsyncIterator[int]:
        await client()
        await sleep(0.5)
        yield 1

    @around
    async def handler() -> list[int]:
        return [item async for item in items()]

    assert await handler() == [1]
    assert spent(call) == {"connect": 0.25}
    assert spent(stream) == {"connect": 0.25, "first_byte": 0.5}
    assert spent(around) == {"connect": 0.25, "attempt": 0.5}


def test_the_natives_reject_what_makes_no_sense() -> None:
    """Stages are told apart by permits and segments, and by nothing else."""
    policy = circuit_breaker()
    permit = policy.acquire()
    with pytest.raises(ValueError, match="one of SEGMENTS"):
        permit._at("lunch", 1)
    with pytest.raises((OverflowError, TypeError)):
        permit._at("queue", -1)
    with pytest.raises(TypeError, match="what to call"):
        permit._within()  # type: ignore[call-arg]
    for method in (policy._acquire_within, policy._aacquire_within, Pipeline((policy.gates[0],))._hold):
        with pytest.raises(TypeError, match="permit of the stage around"):
            method(policy)  # type: ignore[arg-type]
    with pytest.raises(TypeError, match="first argument"):
        policy._acquire_within()  # type: ignore[call-arg]
    permit.success()
    permit._at("queue", 1)  # too late: it does nothing
    policy._acquire_within(permit).success()
    assert policy.snapshot().inflight == 0


def test_each_attempt_of_a_stream_in_a_thread_has_its_own_time(resilio_virtual_time: Any) -> None:
    """Once the retry of a synchronous stream has slept, the time is the next attempt's: the sleep has ended."""
    tries = retry(on=OSError, attempts=2, backoff=0.25, budget=None)

    @tries
    def items() -> Iterator[int]:
        resilio_virtual_time.advance(0.5)
        raise OSError("no")
        yield 1

    with pytest.raises(OSError, match="no") as caught:
        next(items())
    (note,) = caught.value.__notes__
    assert note.endswith("attempt1 0.50 (OSError) + retry_sleep 0.25 + attempt2 0.50 (OSError)")
