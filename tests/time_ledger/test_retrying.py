"""Blocks that are run again tell their time as functions do: attempts, the sleeps between them, decisions."""

from __future__ import annotations

from typing import Any

import anyio
import pytest
from anyio import sleep

from resilio import BulkheadFullError, Retry, Segments, constant, retry, retrying
from resilio.testing import VirtualTime

pytestmark = pytest.mark.anyio


def told(segments: Segments) -> dict[str, float]:
    """Return the segments that are not empty, rounded to the microsecond."""
    return {name: round(value, 6) for name, value in segments.asdict().items() if value}


def counted(policy: Retry) -> dict[str, float]:
    """Return what the policy's calls have spent time on."""
    return told(Segments(**policy.call_seconds))


def tries(**options: Any) -> Retry:
    """Return a retry that sleeps for half a second."""
    return retry(**{"on": OSError, "attempts": 3, "backoff": constant(0.5), "budget": None, **options})


async def test_a_loop_tells_its_sleeps_from_its_attempts(vt: VirtualTime) -> None:
    """In order, on the exception that leaves it and in the counters, and they add up to the wall time."""
    policy = tries()
    began = vt.now
    with pytest.raises(OSError, match="no") as caught:
        async for attempt in retrying(policy):
            with attempt:
                await sleep(0.125 * attempt.number)
                raise OSError("no")
    segments = caught.value.resilio_segments
    assert told(segments) == counted(policy) == {"attempt": 0.75, "retry_sleep": 1.0}
    assert segments.total == pytest.approx(vt.now - began, abs=1e-6)
    (note,) = caught.value.__notes__
    assert note == (
        "resilio: retry: 3 attempts in 1.75 s, no other: attempts; attempt1 0.12 (OSError) + retry_sleep 0.50 + "
        "attempt2 0.25 (OSError) + retry_sleep 0.50 + attempt3 0.38 (OSError)"
    )


def test_a_loop_in_a_thread_tells_the_same(vt: VirtualTime) -> None:
    """A block that succeeds after a failure, whose sleep blocks."""
    policy = tries()
    for attempt in retrying(policy):
        with attempt:
            vt.advance(0.25)
            if attempt.number == 1:
                raise OSError
    assert counted(policy) == {"attempt": 0.5, "retry_sleep": 0.5}


async def test_a_failed_result_is_closed_in_nobodys_attempt(vt: VirtualTime) -> None:
    """What closing it takes is the policy's own, and so is a predicate's time; a sleep cut short counts too."""

    class Slow:
        async def aclose(self) -> None:
            await sleep(0.0625)

    def fails(_: object) -> bool:
        vt.advance(0.25)
        return True

    policy = tries(on=fails, failed_if=lambda _: True, attempts=9)
    with anyio.move_on_after(2.0):
        async for attempt in retrying(policy):
            with attempt:
                await sleep(0.125)
                if attempt.number == 2:
                    raise OSError
                attempt.result(Slow())
    assert counted(policy) == {"attempt": 0.375, "own": 0.375, "retry_sleep": 1.25}
    assert sum(counted(policy).values()) == pytest.approx(vt.now)


async def test_an_earlier_error_that_leaves_the_loop_has_its_segments(vt: VirtualTime) -> None:
    """The last try was rejected, so the one before it is what is raised: it tells of the whole loop."""
    policy = tries()
    with pytest.raises(OSError, match="first") as caught:
        async for attempt in retrying(policy):
            with attempt:
                if attempt.number == 2:
                    raise BulkheadFullError("rejected")
                await sleep(0.125)
                raise OSError("first")
    assert told(caught.value.resilio_segments) == {"attempt": 0.125, "retry_sleep": 0.5}


def test_a_failed_result_in_a_thread_is_slept_on_like_an_error(vt: VirtualTime) -> None:
    """The pause after a result is a sleep of the retry, too, and not its own time."""
    policy = tries(failed_if=lambda result: result == "later")
    for attempt in retrying(policy):
        with attempt:
            vt.advance(0.25)
            attempt.result("later" if attempt.number == 1 else "now")
    assert counted(policy) == {"attempt": 0.5, "retry_sleep": 0.5}
