"""Ctrl-C at any instruction of a block that sets something ambient: nothing of it is left, wherever it comes."""

from __future__ import annotations

import asyncio
import gc
import signal
import sys
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from contextlib import suppress
from pathlib import Path
from types import FrameType
from typing import Any

import pytest
import trio

from resilio import DeadlineExceededError, deadline, detached, pipeline, priority, remaining, timeout
from resilio._context import scope, variables
from resilio._native import core
from resilio.testing import VirtualTime
from storm.interrupting import Interrupter, InterrupterOfCalls

pytestmark = [
    pytest.mark.untraced,
    pytest.mark.filterwarnings("ignore:coroutine .* was never awaited:RuntimeWarning"),
]

MOST = 20_000  # instructions


@pytest.fixture(autouse=True)
def seen() -> Iterator[None]:
    """
    Have each Ctrl-C come out.

    Python swallows one that comes in a callback of the collector; and what the core has put off, a runner of asyncio
    would make a cancellation of.
    """

    def resend(*_: object) -> None:
        raise KeyboardInterrupt

    before = signal.signal(signal.SIGINT, resend)
    gc.disable()
    yield
    gc.enable()
    signal.signal(signal.SIGINT, before)


def ambient() -> list[Any]:
    """Return what all ambient variables are here."""
    return [variable.get() for variable in variables.AMBIENT]


def same(values: list[Any], others: list[Any]) -> bool:
    """Whether they are the same objects."""
    return all(one is other for one, other in zip(values, others, strict=True))


class Interrupted:
    """
    What came out of a block that was interrupted at one instruction after the other.

    Iterating gives their numbers until a block has come to its end. The errors live, with their frames and all in them.
    """

    def __init__(self) -> None:
        self.errors: list[BaseException] = []
        self.ended = False

    def __iter__(self) -> Iterator[int]:
        for number in range(MOST):
            yield number
            if self.ended:
                break
        assert self.ended, f"more than {MOST} instructions"
        assert len(self.errors) == number > 10

    def take(self, error: BaseException | None) -> None:
        """Note how a block has ended."""
        if error is None:
            self.ended = True
        else:
            self.errors.append(error)


# ---- plain blocks ----------------------------------------------------------------------------------------------------


def in_a_deadline() -> None:
    with deadline(5.0):
        assert remaining(cap=10.0) <= 5.0


def in_a_deadline_that_is_no_nearer() -> None:
    with deadline(500.0):
        assert remaining() is not None


def in_a_priority() -> None:
    with priority("critical", task="inner"):
        pass


def detached_from_all() -> None:
    with detached():
        assert remaining() is None


def in_blocks_in_blocks() -> None:
    with deadline(5.0), priority("critical"), detached(), deadline(7.0):
        pass


def in_a_block_that_fails() -> None:
    async def fail() -> None:
        with suppress(OSError), deadline(5.0), priority("critical"), detached():
            raise OSError

    next(fail().__await__(), None)  # interrupted while it handles an error, it leaves that behind: not in this thread


def in_a_generators_block() -> None:
    def items() -> Iterator[int]:
        with deadline(5.0), priority("critical"), detached():
            yield 1

    for _ in items():
        pass


@deadline(5.0)
@priority("critical")
@detached
def in_decorated_functions() -> None:
    assert remaining() is None


PLAIN = [
    in_a_deadline,
    in_a_deadline_that_is_no_nearer,
    in_a_priority,
    detached_from_all,
    in_blocks_in_blocks,
    in_a_block_that_fails,
    in_a_generators_block,
    in_decorated_functions,
]


def interrupt(number: int, run: Callable[[], object]) -> BaseException | None:
    """Call a function with a Ctrl-C before that instruction; return it, None if the function ended before."""
    interrupter, before = Interrupter(number), sys.gettrace()
    try:
        try:
            interrupter.begin()
            run()
        finally:
            sys.settrace(before)
        arrive()
    except KeyboardInterrupt as error:
        return error
    assert interrupter.left >= 0, f"swallowed at instruction {number}"
    return None


def arrive() -> None:
    """Have a Ctrl-C that the core has put off come out."""
    for _ in range(20):
        pass


@pytest.mark.parametrize("block", PLAIN)
def test_a_block_interrupted_at_any_instruction_leaves_what_was_before(block: Callable[[], None]) -> None:
    """
    A Ctrl-C before each instruction in turn, in a block inside of others: those hold again, and nothing is remembered.

    An `__exit__` written in Python could be interrupted at its first instruction, and a deadline that has passed then
    rejected every call of the thread for good.
    """
    block()  # imports what it needs
    interrupted = Interrupted()
    with deadline(60.0), priority("sheddable", task="outer"):
        before = ambient()
        for number in interrupted:
            interrupted.take(interrupt(number, block))
            assert same(ambient(), before), f"interrupted before instruction {number}"
            assert len(scope._open) == 0
    assert remaining() is None


# ---- on an event loop ------------------------------------------------------------------------------------------------


async def in_an_async_deadline() -> None:
    async with deadline(5.0):
        assert remaining(cap=10.0) <= 5.0


async def in_a_deadline_that_has_passed() -> None:
    async with deadline(0.0):
        pass


async def in_a_deadline_enforced_outside() -> None:
    async with deadline(5.0), deadline(6.0):
        pass


async def in_other_async_blocks() -> None:
    async with priority("critical"), detached(), deadline(5.0):
        pass


async def in_an_async_block_that_fails() -> None:
    with suppress(OSError):
        async with deadline(5.0), priority("critical"), detached():
            raise OSError


@deadline(5.0)
@priority("critical")
@detached
async def in_decorated_async_functions() -> None:
    assert remaining() is None


ASYNC = [
    in_an_async_deadline,
    in_a_deadline_that_has_passed,
    in_a_deadline_enforced_outside,
    in_other_async_blocks,
    in_an_async_block_that_fails,
    in_decorated_async_functions,
]


async def ainterrupt(
    number: int, run: Callable[[], Awaitable[object]], hits: Callable[[FrameType], bool] | None = None
) -> BaseException | None:
    """The same for a coroutine that does not suspend."""
    return await aencounter(Interrupter(number, hits), run)


async def aencounter(interrupter: Interrupter, run: Callable[[], Awaitable[object]]) -> BaseException | None:
    """Run such a coroutine into a Ctrl-C; return it, None if the coroutine ended before."""
    before = sys.gettrace()
    try:
        try:
            interrupter.begin()
            await run()
        finally:
            sys.settrace(before)
        arrive()
    except KeyboardInterrupt as error:
        return error
    assert interrupter.left >= 0, f"swallowed, {interrupter.left}"
    return None


def nothing_left_on(loop: Any) -> bool:
    """Whether the loop keeps no task, and nobody has asked for the cancellation of this one."""
    task = asyncio.current_task(loop)
    assert task is not None
    return not loop.__dict__.get("_resilio_keeps") and not task.cancelling()


def armed_timers() -> list[core.Timer]:
    """Return all timers of the process that will still call somebody."""
    return [timer for timer in gc.get_objects() if isinstance(timer, core.Timer) and timer.armed]


@pytest.mark.parametrize("block", ASYNC)
def test_an_async_block_interrupted_at_any_instruction_leaves_what_was_before(
    vt: VirtualTime, block: Callable[[], Awaitable[None]]
) -> None:
    """The same on asyncio: and there is no timer that would cancel the task later."""

    async def main() -> None:
        await block()  # imports what it needs
        interrupted = Interrupted()
        with deadline(60.0), priority("sheddable", task="outer"):
            before = ambient()
            for number in interrupted:
                interrupted.take(await ainterrupt(number, block))
                assert same(ambient(), before), f"interrupted before instruction {number}"
                assert nothing_left_on(asyncio.get_running_loop()), f"interrupted before instruction {number}"
                assert len(scope._open) == 0
        assert armed_timers() == []
        await asyncio.sleep(100.0)

    vt.run(main)


@pipeline(deadline(5.0), timeout(first=5.0, idle=5.0))
async def items() -> AsyncIterator[int]:
    for item in range(3):
        assert remaining(cap=10.0) <= 5.0
        yield item


def is_of_the_library(frame: FrameType) -> bool:
    """Python's own callbacks, as those of weak references, swallow a Ctrl-C."""
    return "resilio" in Path(frame.f_code.co_filename).parts[-3:]


async def read() -> None:
    assert [item async for item in items()] == [0, 1, 2]


def test_a_stream_interrupted_as_any_function_begins_leaves_what_was_before(vt: VirtualTime) -> None:
    """Its steps set what is ambient, and a timer, for as long as they take."""

    async def main() -> None:
        await read()
        number = 0
        with deadline(60.0):
            before = ambient()
            while await aencounter(InterrupterOfCalls(number, is_of_the_library), read) is not None:
                assert same(ambient(), before), f"interrupted at function {number}"
                assert nothing_left_on(asyncio.get_running_loop()), f"interrupted at function {number}"
                number += 1
                await asyncio.sleep(0)  # what was left in the middle is closed
        assert number > 50
        assert armed_timers() == []
        await asyncio.sleep(100.0)

    vt.run(main)


async def late_block(interrupter: Interrupter) -> None:
    """Be interrupted by the deadline, and from then on by a Ctrl-C."""
    async with deadline(0.1):
        try:
            await asyncio.sleep(10.0)
        finally:
            interrupter.begin(here=True)


def test_the_end_of_an_interrupted_block_is_interrupted_at_any_instruction(vt: VirtualTime) -> None:
    """A Ctrl-C while a block ends that its deadline has had cancelled: the cancellation is taken back, exactly once."""

    async def once(number: int) -> BaseException | None:
        interrupter, before = Interrupter(number), sys.gettrace()
        try:
            try:
                await late_block(interrupter)
            finally:
                sys.settrace(before)
                arrive()
        except KeyboardInterrupt as error:
            return error
        except DeadlineExceededError:
            assert interrupter.left >= 0, f"swallowed at instruction {number}"
            return None
        raise AssertionError("not late")

    async def main() -> None:
        interrupted = Interrupted()
        with deadline(1e6):
            before = ambient()
            for number in interrupted:
                interrupted.take(await once(number))
                assert same(ambient(), before), f"interrupted before instruction {number}"
                assert nothing_left_on(asyncio.get_running_loop()), f"interrupted before instruction {number}"
        assert armed_timers() == []

    vt.run(main)


def test_on_trio_a_ctrl_c_comes_where_trio_lets_it(vt: VirtualTime) -> None:
    """Trio's scopes are written in Python; it holds a Ctrl-C back where it would leave one open, and so do we."""

    async def main() -> None:
        await in_an_async_deadline()  # imports what it needs
        interrupted, outer = Interrupted(), trio.current_effective_deadline()
        with deadline(60.0), priority("sheddable", task="outer"):
            before = ambient()
            for number in interrupted:
                hit = await ainterrupt(
                    number, in_an_async_deadline, lambda _: not trio.lowlevel.currently_ki_protected()
                )
                interrupted.take(hit)
                assert same(ambient(), before), f"interrupted before instruction {number}"
                assert trio.current_effective_deadline() == outer, f"interrupted before instruction {number}"
        await trio.sleep(100.0)

    vt.run(main, backend="trio")
