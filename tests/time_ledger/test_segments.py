"""Each segment has exactly the time that was spent on it, on asyncio, on trio and in threads."""

from __future__ import annotations

import asyncio
import re
from typing import Any

import anyio
import pytest
from anyio import sleep

import resilio
from resilio import (
    DeadlineExceededError,
    Segments,
    bulkhead,
    circuit_breaker,
    current,
    deadline,
    fallback,
    phase,
    pipeline,
    rate_limit,
    retry,
    timeout,
    trail_of,
)
from resilio._native.core import SEGMENTS

pytestmark = pytest.mark.anyio


def spent(policy: Any) -> dict[str, float]:
    """Return what the policy's calls have spent time on, rounded to the microsecond."""
    return {name: round(value, 6) for name, value in policy.call_seconds.items() if value}


def told(segments: Segments) -> dict[str, float]:
    """Return the segments that are not empty, rounded to the microsecond."""
    return {name: round(value, 6) for name, value in segments.asdict().items() if value}


async def test_a_call_that_runs_once_is_its_attempt(vt: Any) -> None:
    """Admitted at once, it has spent all on the attempt, inside, in the counters and on its exception."""
    policy = circuit_breaker("plain")

    @policy
    async def work(fails: bool) -> Segments:
        await sleep(0.25)
        if fails:
            raise OSError("no")
        return current().segments

    assert told(await work(False)) == {"attempt": 0.25}
    with pytest.raises(OSError, match=r"^no$") as caught:  # and no note
        await work(True)
    assert told(caught.value.resilio_segments) == {"attempt": 0.25}
    assert spent(policy) == {"attempt": 0.5}
    assert policy.waited_seconds == 0.0


async def test_waits_attempts_and_sleeps_are_told_apart(vt: Any) -> None:
    """A call that queues, fails, sleeps, waits for a token and fails again says so, in order, in one note."""
    queue = bulkhead(1, max_queued=9, max_wait=9.0, name="one at a time")
    limit = rate_limit("1/s", burst=1, max_wait=9.0, name="one a second")
    tries = retry(on=OSError, attempts=2, backoff=0.25, budget=None, name="twice")
    whole = pipeline(tries, limit, queue, name="the whole")

    @whole
    async def work() -> None:
        await sleep(0.1)
        raise OSError("no")

    async with anyio.create_task_group() as group:
        group.start_soon(failing, work)
        group.start_soon(occupy, queue)
        await sleep(0.5)
        began = vt.now
        with pytest.raises(OSError, match="no") as caught:
            await work()
    segments = caught.value.resilio_segments
    assert segments.total == pytest.approx(vt.now - began, abs=1e-6)
    assert told(segments) == {"queue": 0.3, "attempt": 0.2, "retry_sleep": 0.25, "rate_limit": 1.85}
    (note,) = caught.value.__notes__
    assert note == (
        "resilio: retry 'twice': 2 attempts in 2.6 s, no other: attempts; rate_limit 1.50 + queue 0.30 + "
        "attempt1 0.10 (OSError) + retry_sleep 0.25 + rate_limit 0.35 + attempt2 0.10 (OSError)"
    )
    assert queue.waited_seconds == pytest.approx(0.3)
    assert limit.waited_seconds == pytest.approx(1.85 + 0.65)
    assert sum(spent(whole).values()) == pytest.approx(1.1 + segments.total)
    assert [spent(one) for one in (queue, tries, limit)] == [{"attempt": 0.4}, {}, {}]


async def occupy(queue: Any) -> None:
    await sleep(1.9)
    async with queue:
        await sleep(0.4)


async def failing(work: Any) -> None:
    with pytest.raises(OSError, match="no"):
        await work()


async def test_phases_split_the_attempt_of_all_calls_under_way(vt: Any) -> None:
    """An integration's phases count in the call and in the calls around it, until the attempt ends."""
    inner_policy, outer_policy = circuit_breaker("inner"), circuit_breaker("outer")
    inside: list[Segments] = []

    @inner_policy
    async def client() -> None:
        await sleep(0.01)
        for name, seconds in (("connect", 0.02), ("first_byte", 0.04), ("body", 0.08), (None, 0.16)):
            phase(name)
            await sleep(seconds)
        phase("body")
        await sleep(0.32)
        inside.append(current().segments)

    @outer_policy
    async def handler() -> None:
        await client()
        await sleep(0.64)
        inside.append(current().segments)

    phase("body")  # outside of a call it is nothing
    await handler()
    phases = {"attempt": 0.17, "connect": 0.02, "first_byte": 0.04, "body": 0.4}
    assert told(inside[0]) == phases
    assert told(inside[1]) == {**phases, "attempt": 0.81}
    assert spent(inner_policy) == phases
    assert spent(outer_policy) == {**phases, "attempt": 0.81}


async def test_phases_belong_to_the_calls_of_this_task(vt: Any) -> None:
    """What a task says that a call has started is not the call's; nor is what is said where there is none."""
    policy = circuit_breaker("with a child")

    @policy
    async def work() -> Segments:
        async with anyio.create_task_group() as group:
            group.start_soon(child)
            await sleep(0.5)
        return current().segments

    async def child() -> None:
        phase("body")
        await sleep(0.25)

    assert told(await work()) == {"attempt": 0.5}


def test_phases_are_told_in_plain_code(vt: Any) -> None:
    """In a thread as in a task, and an attempt that fails in a phase ends that."""
    from resilio import _backends

    policy = circuit_breaker("plain phases")
    tries = retry(on=OSError, attempts=2, backoff=0.0, budget=None, name="plain tries")
    whole = pipeline(tries, policy, name="plain whole")
    seen: list[Segments] = []

    @whole
    def work() -> None:
        _backends.sleep(0.125)
        phase("connect")
        _backends.sleep(0.25)
        if not seen:
            seen.append(current().segments)
            raise OSError
        phase("first_byte")
        _backends.sleep(0.5)

    work()
    assert told(seen[0]) == {"attempt": 0.125, "connect": 0.25}
    assert spent(whole) == {"attempt": 0.25, "connect": 0.5, "first_byte": 0.5}
    assert resilio.phase is phase
    assert phase("body") is None  # outside of a call


async def test_a_fallback_has_its_time(vt: Any) -> None:
    """What the target takes is the fallback's, and what the primary took the attempt's."""

    async def other() -> str:
        await sleep(0.5)
        return "other"

    whole = pipeline(fallback(other, on=OSError), circuit_breaker(), name="with another")

    @whole
    async def work() -> str:
        await sleep(0.25)
        raise OSError

    assert await work() == "other"
    assert spent(whole) == {"attempt": 0.25, "fallback": 0.5}


async def test_a_fallback_alone_tells_no_time_that_it_has_not_measured(vt: Any) -> None:
    """It reads no clock: an exception that it lets pass keeps what a call inside has told, and gets nothing else."""
    inner = circuit_breaker()

    async def work(inside: bool) -> None:
        await sleep(0.25)
        raise KeyError(inside)

    guarded = fallback(default=None, on=OSError)(lambda inside: (inner(work) if inside else work)(inside))
    with pytest.raises(KeyError) as caught:
        await guarded(True)
    assert told(caught.value.resilio_segments) == {"attempt": 0.25}
    with pytest.raises(KeyError) as caught:
        await guarded(False)
    assert not hasattr(caught.value, "resilio_segments")


async def test_a_rejection_after_a_wait_tells_of_it(vt: Any) -> None:
    """The wait is on the exception and in the counters, though nothing was called; rejected at once, it is nothing."""
    policy = bulkhead(1, max_queued=1, max_wait=0.5, name="narrow")
    permit = policy.try_acquire()
    with pytest.raises(resilio.BulkheadFullError) as caught:
        await policy.acall(sleep, 1)
    assert told(caught.value.resilio_segments) == {"queue": 0.5}
    assert caught.value.__notes__ == ["resilio: bulkhead 'narrow': 0.50s = queue 0.50"]
    assert spent(policy) == {"queue": 0.5}
    assert permit
    with pytest.raises(resilio.BulkheadFullError) as caught:
        policy.reconfigure(max_queued=0, max_wait=0.0)
        await policy.acall(sleep, 1)
    assert caught.value.resilio_segments == Segments()
    assert not hasattr(caught.value, "__notes__")


async def test_a_timeout_between_attempts_is_told(vt: Any) -> None:
    """What a timeout around retries cuts short says how far they had come."""
    whole = pipeline(
        timeout(1.0), retry(on=OSError, backoff=0.5, attempts=9, budget=None), circuit_breaker(), name="late"
    )

    @whole
    async def work() -> None:
        await sleep(0.2)
        raise OSError

    with pytest.raises(resilio.CallTimeoutError) as caught:
        await work()
    assert told(caught.value.resilio_segments) == {"attempt": 0.4, "retry_sleep": 0.6}


async def test_by_hand_a_permit_tells_its_time(vt: Any) -> None:
    """From when it was asked for to its end; the first item of a stream parts it."""
    policy = bulkhead(1, max_queued=1, max_wait=9.0, name="by hand")
    held = await policy.aacquire()
    async with anyio.create_task_group() as group:
        group.start_soon(end_later, held)
        permit = await policy.aacquire()
    await sleep(0.1)
    permit.first_item()
    await sleep(0.2)
    assert told(permit.segments) == {"queue": 0.3, "first_byte": 0.1, "body": 0.2}
    permit.phase(None)
    await sleep(0.4)
    assert told(permit.segments) == {"queue": 0.3, "first_byte": 0.1, "body": 0.2, "attempt": 0.4}
    permit.success()
    permit.phase("body")
    with pytest.raises(RuntimeError, match="ended already"):
        permit.segments
    assert spent(policy) == {"queue": 0.3, "first_byte": 0.1, "body": 0.2, "attempt": 0.7}


async def end_later(permit: Any) -> None:
    await sleep(0.3)
    permit.success()


async def test_cancelled_in_the_queue_a_call_has_waited(vt: Any) -> None:
    """A wait that is cancelled counts: as long as it was."""
    policy = bulkhead(1, max_queued=1, max_wait=9.0, name="cancelled")
    held = policy.try_acquire()
    with anyio.move_on_after(0.3):
        await policy.acall(sleep, 1)
    assert spent(policy) == {"queue": 0.3}
    assert policy.waited_seconds == pytest.approx(0.3)
    assert held


def test_threads_account_as_tasks_do(vt: Any) -> None:
    """A call in a thread has the same segments: waits, sleeps and a timeout that runs it in another thread."""
    from resilio import _backends

    limit = rate_limit("2/s", burst=1, max_wait=9.0, name="thread limit")
    whole = pipeline(
        retry(on=OSError, attempts=2, backoff=0.25, budget=None), timeout(5.0, thread=True), limit, name="thread"
    )
    seen: list[Segments] = []

    @whole
    def work() -> str:
        _backends.sleep(0.125)
        seen.append(current().segments)
        if len(seen) == 1:
            raise OSError
        return "done"

    assert work() == "done"
    assert told(seen[1]) == {"attempt": 0.25, "retry_sleep": 0.25, "rate_limit": 0.125}
    assert spent(whole) == {"attempt": 0.25, "retry_sleep": 0.25, "rate_limit": 0.125}


def test_segments_are_values() -> None:
    """Equal if their numbers are, hashable, picklable, made by name; what is no time is rejected."""
    import pickle

    one = Segments(queue=0.5, attempt=1.25, wasted=3.0)
    assert one == Segments(queue=0.5, attempt=1.25, wasted=3.0) != Segments(queue=0.5)
    assert one != 1.75
    assert len({one, Segments(queue=0.5, attempt=1.25, wasted=3.0)}) == 1
    assert pickle.loads(pickle.dumps(one)) == one
    assert one.total == 1.75
    assert tuple(name for name in one.asdict() if name != "wasted") == SEGMENTS
    assert str(one) == "1.75s = queue 0.50 + attempt 1.25 (wasted 3.00)"
    assert repr(one) == "Segments(queue=0.5, attempt=1.25, wasted=3.0)"
    assert one.server_timing() == "queue;dur=500.000, attempt;dur=1250.000, wasted;dur=3000.000, total;dur=1750.000"
    assert str(Segments()) == "0s"
    assert Segments().server_timing() == ""
    for bad in (-1.0, float("nan"), float("inf")):
        with pytest.raises(ValueError, match="queue: must be seconds"):
            Segments(queue=bad)
    with pytest.raises(TypeError):
        Segments(0.5)  # type: ignore[misc]
    with pytest.raises(ValueError, match="connect, first_byte, body or None"):
        phase("wait")
    with pytest.raises(TypeError, match="connect, first_byte, body or None"):
        phase(1)  # type: ignore[arg-type]
    for state in (b"", "text", bytes(100), bytes(1000)):
        with pytest.raises(ValueError, match="state"):
            Segments._restore(state)  # type: ignore[arg-type]


def test_keyed_adds_its_keys_up(vt: Any) -> None:
    """Each key's policy has its own time, and the keyed policy that of all, of those that are gone too."""
    policy = resilio.keyed(circuit_breaker, key="host", name="hosts")

    @policy
    async def work(host: str, seconds: float) -> None:
        await asyncio.sleep(seconds)

    async def main() -> None:
        await work("a", 0.25)
        await work("b", 0.5)

    vt.run(main)
    assert spent(policy["a"]) == {"attempt": 0.25}
    assert spent(policy) == {"attempt": 0.75}
    policy.reset()
    assert spent(policy) == {"attempt": 0.75}
    assert policy.waited_seconds == 0.0


async def test_a_stream_counts_once(vt: Any) -> None:
    """Until its first item it is first_byte, then body; at its outermost policy, where failed attempts are told too."""
    tries = retry(on=OSError, attempts=2, backoff=0.25, budget=None, name="stream tries")
    inner = circuit_breaker("stream breaker")
    begun: list[int] = []

    @timeout(first=9.0)
    @tries
    @inner
    async def items() -> Any:
        begun.append(1)
        await sleep(0.5)
        if len(begun) == 1:
            raise OSError
        yield 1
        await sleep(2)
        yield 2

    assert [item async for item in items()] == [1, 2]
    assert spent(tries) == {"attempt": 0.5, "retry_sleep": 0.25, "first_byte": 0.5, "body": 2.0}
    assert spent(inner) == {}
    alone: list[Segments] = []

    @inner
    async def plain() -> Any:
        await sleep(0.5)
        yield 1
        await sleep(1)
        alone.append(Segments())

    assert [item async for item in plain()] == [1]
    assert spent(inner) == {"first_byte": 0.5, "body": 1.0}


async def test_a_deadline_around_a_block_says_where_its_time_went(vt: Any) -> None:
    """The call that it cuts short hands its ledger on, as a deadline that is a stage does."""
    queue = bulkhead(1, max_queued=9, max_wait=9.0)
    guarded = queue(sleep)
    with queue.permit():
        for late in (deadline(0.5)(guarded), within(0.5, guarded)):
            with pytest.raises(DeadlineExceededError) as caught:
                await late(0)
            assert told(caught.value.resilio_segments) == {"queue": 0.5}
            (note,) = caught.value.__notes__
            assert re.fullmatch("resilio: (deadline|bulkhead) '.*sleep': 0.50s = queue 0.50", note)


@pytest.mark.parametrize("backend", ["asyncio", "trio"])
@pytest.mark.parametrize("around", ["block", "stage"])
def test_a_deadline_that_cuts_a_retry_off_has_its_trail(vt: Any, backend: str, around: str) -> None:
    """Two attempts were made, and `trail_of` the deadline's error was None."""
    again = retry(on=OSError, backoff=0.1, budget=None, name="again")

    @again
    async def work() -> None:
        await sleep(0.2 if current().attempt == 1 else 9)
        raise OSError("busy")

    async def main() -> Any:
        with pytest.raises(DeadlineExceededError) as caught:
            await (within(0.5, work) if around == "block" else deadline(0.5)(work))()
        return caught.value

    error = vt.run(main, backend=backend)
    trail = trail_of(error)
    assert (len(trail.attempts), trail.stop_reason) == (2, "deadline")
    assert trail.attempts[0].error == "OSError('busy')"
    if around == "block":
        assert error.__notes__[0].startswith("resilio: retry 'again': 2 attempts in 0.5 s, no other: deadline")


def within(seconds: float, function: Any) -> Any:
    async def block(*args: Any) -> Any:
        async with deadline(seconds):
            return await function(*args)

    return block


async def test_notes_on_one_exception_are_bounded() -> None:
    """An object that is raised for ever, by retries and fallbacks, does not grow."""
    error = OSError("always the same")

    def down() -> None:
        raise error

    guarded = pipeline(fallback(down, on=OSError), retry(on=OSError, backoff=0.0, budget=None))(down)
    for _ in range(20):
        with pytest.raises(OSError, match="the same"):
            guarded()
    assert len(error.__notes__) == 8
