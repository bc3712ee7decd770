"""Timers of a loop come due in order, never early, and leave nothing behind."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from typing import Any

import pytest

from oracles.stepping import StepLoop
from resilio._native.core import Timer

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
