"""What the storm has found: cleanups that we cancelled once more, and hedges that went on without their call."""

from __future__ import annotations

import asyncio
import gc
from collections.abc import Awaitable, Callable
from typing import Any

import pytest
import trio
from measured import measured

import resilio
from resilio import CallTimeoutError
from resilio.testing import VirtualTime

Seen = list[str]


def cleaning(seen: Seen, lasts: float = 1.0) -> Callable[[], Awaitable[None]]:
    """Return a function that takes `lasts` seconds, and five to clean up."""

    async def work() -> None:
        try:
            await asyncio.sleep(lasts)
        finally:
            seen.append("cleans up")
            await asyncio.sleep(5)
            seen.append("is clean")

    return work


async def in_a_block(work: Callable[[], Awaitable[None]]) -> None:
    """Work in a block with a deadline."""
    with resilio.deadline(0.5):
        await work()


GUARDED: dict[str, Callable[[Callable[[], Any]], Callable[[], Any]]] = {
    "timeout": resilio.timeout(0.5),
    "deadline": resilio.deadline(0.5),
    "nested": lambda work: resilio.timeout(0.6)(resilio.timeout(0.5)(work)),
    "block": lambda work: lambda: in_a_block(work),
}


@pytest.mark.parametrize("guarded", GUARDED.values(), ids=GUARDED)
@pytest.mark.parametrize("after", [0.1, 0.5])
def test_the_cleanup_after_somebodys_cancellation_is_not_cancelled_by_a_timeout(
    resilio_virtual_time: VirtualTime, guarded: Callable[..., Any], after: float
) -> None:
    """A task that is cancelled cleans up for longer than it has time; the cancellation comes out, counted once."""
    seen: Seen = []

    async def main() -> None:
        task = asyncio.ensure_future(guarded(cleaning(seen))())
        asyncio.get_running_loop().call_later(after, task.cancel)
        with pytest.raises((asyncio.CancelledError, TimeoutError)):
            await task
        assert task.cancelling() <= 1

    resilio_virtual_time.run(main)
    assert seen == ["cleans up", "is clean"]


def test_a_timeout_holds_again_after_a_cancellation_that_was_taken_back(resilio_virtual_time: VirtualTime) -> None:
    """A function's own timeout passes at the same time: it goes on after that, and is ended a moment later."""

    @resilio.timeout(0.5)
    async def work() -> None:
        try:
            async with asyncio.timeout(0.5):
                await asyncio.sleep(10)
        except TimeoutError:
            await asyncio.sleep(10)

    async def main() -> None:
        with pytest.raises(CallTimeoutError):
            await work()

    resilio_virtual_time.run(main)
    assert 0.5 <= resilio_virtual_time.now < 0.51


@pytest.mark.filterwarnings("ignore:hedge .* around retry")
def test_a_losing_copy_that_cleans_up_already_is_not_cancelled(resilio_virtual_time: VirtualTime) -> None:
    """A timeout inside of the hedge has ended the copy just before the primary wins: its cleanup goes on."""
    seen: Seen = []
    hedge, limit = measured(1.0, typical=0.5, saved=10), resilio.timeout(2.0)

    async def work() -> str:
        if resilio.current().hedge:  # type: ignore[union-attr]
            await cleaning(seen, lasts=9.0)()
        await asyncio.sleep(1.9)  # it is given its time once more by a retry
        return "primary"

    async def primary() -> str:
        return await resilio.pipeline(hedge, resilio.retry(on=TimeoutError, budget=None), limit)(work)()

    async def main() -> None:
        assert await primary() == "primary"
        await asyncio.sleep(20)

    resilio_virtual_time.run(main)
    assert seen[:2] == ["cleans up", "is clean"]


def test_what_is_thrown_into_a_hedge_that_waits_for_its_copies_ends_it(resilio_virtual_time: VirtualTime) -> None:
    """A call that is driven by hand does not go on for ever: the primary has failed, and the wait for copies is cut."""
    hedge = measured([0.001, 0.001], typical=0.5, saved=10)

    @hedge
    async def work() -> None:
        if not resilio.current().hedge:  # type: ignore[union-attr]
            await asyncio.sleep(0.01)
            raise ConnectionError
        await asyncio.sleep(10)

    async def main() -> None:
        call = work()
        task = asyncio.ensure_future(_until_told(call))
        await asyncio.sleep(1)
        task.cancel()
        with pytest.raises(OSError, match="thrown"):
            await task
        await asyncio.sleep(0.1)
        assert asyncio.all_tasks() == {asyncio.current_task()}

    resilio_virtual_time.run(main)


async def _until_told(call: Any) -> None:
    await _Throwing(call)


class _Throwing:
    """Awaits a call, and throws an OSError in instead of its own cancellation."""

    def __init__(self, call: Any) -> None:
        self.call = call

    def __await__(self) -> Any:
        try:
            while True:
                yield self.call.send(None)
        except asyncio.CancelledError:
            self.call.throw(OSError("thrown"))


def test_a_hedge_in_a_cycle_that_has_been_won_hands_its_result_to_discard(resilio_virtual_time: VirtualTime) -> None:
    """The collector empties race and task before anybody can ask them: what was won is discarded all the same."""
    discarded: list[object] = []
    hedge = measured(0.001, typical=0.5, saved=10, discard=discarded.append)

    @hedge
    async def work() -> str:
        if not resilio.current().hedge:  # type: ignore[union-attr]
            await asyncio.get_running_loop().create_future()
        return "copy"

    def drive() -> None:
        call = work()
        cycle: list[Any] = [call]
        cycle.append(cycle)
        call.send(None)

    async def main() -> None:
        asyncio.get_running_loop().call_soon(drive)  # outside of any task: nobody can be cancelled for the winner
        await asyncio.sleep(0.1)
        gc.collect()
        await asyncio.sleep(0.1)
        assert asyncio.all_tasks() == {asyncio.current_task()}

    gc.disable()  # or it might come before the copy has won, and find nothing to discard
    try:
        resilio_virtual_time.run(main)
    finally:
        gc.enable()
    assert discarded == ["copy"]


def test_a_hedge_on_trio_that_was_judged_leaves_without_complaint(
    resilio_virtual_time: VirtualTime, caplog: pytest.LogCaptureFixture
) -> None:
    """The stage has delegated and then been judged: what it keeps is no race, and nothing is logged about it."""
    hedge, limit = measured(0.001, typical=0.005, saved=10), resilio.timeout(0.01)

    @resilio.pipeline(hedge, limit)
    async def work() -> None:
        await trio.sleep(10)

    @resilio.pipeline(limit, hedge)
    async def other() -> None:
        await trio.sleep(10)

    async def main() -> None:
        for fn in (work, other):
            with pytest.raises(CallTimeoutError):
                await fn()

    resilio_virtual_time.run(main, backend="trio")
    assert not caplog.records
