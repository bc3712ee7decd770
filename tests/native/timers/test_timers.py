"""Timers of a loop come due in order, never early, and leave nothing behind."""

from __future__ import annotations

import asyncio
import gc
import weakref
from collections.abc import Iterator
from typing import Any

import pytest

from oracles.stepping import StepLoop
from resilio import timeout
from resilio._native.core import Timer
from resilio.testing import DeadlockError, VirtualTime

MS = 1_000_000


@pytest.fixture
def loop() -> Iterator[StepLoop]:
    """A loop whose time the test moves."""
    stepping = StepLoop()
    yield stepping
    stepping.end()


def inside(loop: asyncio.AbstractEventLoop, function: Any, *args: Any) -> None:
    """Call *function* in the running *loop*."""

    async def call() -> None:
        function(*args)

    loop.run_until_complete(call())


def test_a_collection_may_come_while_an_armed_timer_is_freed(loop: StepLoop) -> None:
    """The last one takes the loop's own back, which is Python: a collection found it half freed, and freed it again."""
    threshold = gc.get_threshold()

    def arm_and_drop() -> None:
        for _ in range(50):
            timer = Timer(print, ["never"])
            timer.arm(5.0)
            del timer

    gc.set_threshold(1)
    try:
        inside(loop, arm_and_drop)
    finally:
        gc.set_threshold(*threshold)


@pytest.mark.parametrize("seconds", [0.0, 0.001, 0.02, 3.0, 4000.0, 86400.0 * 3650])
def test_a_timer_is_never_early_and_at_most_a_tick_late(loop: StepLoop, seconds: float) -> None:
    """A timer fires in the tick of its time, once, and is disarmed then; ten years ahead as well."""
    fired: list[str] = []
    timer = Timer(fired.append, "fired")
    assert not timer.armed
    inside(loop, timer.arm, seconds)
    if seconds:
        loop.advance(int(seconds * 1e9) - 1)
        assert fired == []
        assert timer.armed
        loop.advance(1)
    loop.advance(MS)
    assert fired == ["fired"]
    assert not timer.armed
    loop.advance(MS)
    assert fired == ["fired"]


class _Kept:
    """Something that can be referred to weakly."""


def test_what_a_timer_keeps_lives_until_it_is_disarmed_or_dropped(loop: StepLoop) -> None:
    """The loop keeps it, armed or not, and one thing at a time."""
    timer, kept = Timer(print), [_Kept(), _Kept(), _Kept()]
    seen = [weakref.ref(one) for one in kept]
    for one in kept[:2]:
        timer.keep(loop, one)
    kept[:2] = []
    del one
    assert [reference() is not None for reference in seen[:2]] == [False, True]
    timer.disarm()
    assert seen[1]() is None
    timer.keep(loop, kept.pop())
    assert seen[2]() is not None
    del timer
    assert seen[2]() is None


def test_a_timer_that_keeps_its_own_loop_is_collected_with_it() -> None:
    """The ring from the loop to what it keeps and back is one that the collector sees."""
    loop = StepLoop()
    timer = Timer(print, loop)
    timer.keep(loop, timer)
    gone = weakref.ref(loop)
    loop.end()
    del loop, timer
    gc.collect()
    assert gone() is None


def test_keep_takes_a_loop_and_what_it_keeps(loop: StepLoop) -> None:
    """Anything else is rejected, and nothing is kept."""
    with pytest.raises(TypeError, match="keep\\(\\) takes 2 arguments, not 1"):
        Timer(print).keep(loop)  # type: ignore[call-arg]


def test_a_call_that_has_ended_in_time_leaves_no_timer(resilio_virtual_time: VirtualTime) -> None:
    """A loop that waits for ever has nothing to wake up for: the timer of a timeout lay in it until that was due."""
    vt, limit = resilio_virtual_time, timeout(5.0)

    async def main() -> None:
        await limit(asyncio.sleep)(1.0)
        await asyncio.Event().wait()

    began = vt.now
    with pytest.raises(DeadlockError):
        vt.run(main)
    assert vt.now - began == pytest.approx(1.0)
