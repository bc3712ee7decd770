"""What is inside of a stage, as the stage is given it; and a stage that answers wrongly."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Callable
from typing import Any

import pytest
import trio

from resilio._native import core
from resilio._native.gates import BulkheadGate
from resilio._native.strategies import TimeoutGate
from resilio._policies.bulkhead.policy import BulkheadConfig
from resilio._policies.timeout import TimeoutConfig


class Showing(TimeoutGate):
    """A stage that shows what it runs."""

    seen: Any = None

    def run(self, rest: Any) -> Any:
        self.seen = rest
        return rest()


class Answering(TimeoutGate):
    """A stage whose coroutine is none."""

    def arun(self, rest: Any) -> Any:
        return 5


def answer(*args: Any, **kwargs: Any) -> Any:
    return args, kwargs


def shown(*outer: core.Gate, args: tuple[Any, ...] = (1, 2), **kwargs: Any) -> Any:
    """Return the inside of a stage that was called with these arguments."""
    stage = Showing(TimeoutConfig(1.0, thread=True))
    core.Pipeline((*outer, stage)).call(answer, *args, **kwargs)
    return stage.seen


def test_the_inside_of_a_stage_shows_its_function_and_arguments() -> None:
    """Positional and by keyword; calling it runs the function with them, and as often as wanted."""
    inside = shown(three=3, four=4)
    assert (inside.func, inside.args, inside.kwargs) == (answer, (1, 2), {"three": 3, "four": 4})
    assert inside() == inside() == ((1, 2), {"three": 3, "four": 4})
    assert shown(args=()).kwargs == {}
    assert not inside.is_async


@pytest.mark.parametrize("wrongly", [lambda inside: inside(1), lambda inside: inside(one=1)])
def test_the_inside_of_a_stage_takes_no_arguments(wrongly: Callable[[Any], object]) -> None:
    """It has them already, and says so."""
    with pytest.raises(TypeError, match="has its arguments already"):
        wrongly(shown())


def test_the_same_stages_go_around_another_function() -> None:
    """With the same arguments; what is no function is rejected."""
    inside = shown(three=3)
    assert inside.around(lambda *args, **kwargs: (kwargs, args))() == ({"three": 3}, (1, 2))
    with pytest.raises(TypeError, match="around: must be given a function, not 5"):
        inside.around(5)


def test_the_nearest_stage_of_a_kind_outside_is_found() -> None:
    """None where there is no such stage."""
    far, near = (BulkheadGate(BulkheadConfig(max_concurrent=most)) for most in (3, 2))
    inside = shown(far, near)
    assert inside.outside("bulkhead") is near
    assert inside.outside("retry") is None
    with pytest.raises(TypeError):
        inside.outside(5)


@pytest.mark.parametrize("one_shot", [iter(()), (number for number in ())])
def test_an_argument_that_is_gone_once_used_is_known(one_shot: Any) -> None:
    """Only what can be had again makes a call that can be run again."""
    assert shown(args=([1], "two")).replayable
    assert not shown(args=(one_shot,)).replayable
    assert not shown(args=(), items=one_shot).replayable


def test_a_stage_that_answers_with_no_awaitable_is_an_error() -> None:
    """The message shows what it has answered instead."""

    async def later() -> None:
        pytest.fail("it was run all the same")

    async def main() -> None:
        await core.Pipeline((Answering(TimeoutConfig(1.0)),)).acall(later)

    with pytest.raises(TypeError, match="arun must return an awaitable, not 5"):
        trio.run(main)


def test_stages_on_asyncio_need_no_trio() -> None:
    """A program that has not imported trio is not made to, and is not asked for a loop of it."""
    program = (
        "import asyncio, sys, resilio\n"
        "async def call(): await asyncio.sleep(0); return 42\n"
        "guarded = resilio.pipeline(resilio.deadline(5.0), resilio.timeout(3.0))(call)\n"
        "print(asyncio.run(guarded()), asyncio.run(guarded()), 'trio' in sys.modules)\n"
    )
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, timeout=60, check=False)
    assert (done.stdout, done.stderr) == ("42 42 False\n", "")
