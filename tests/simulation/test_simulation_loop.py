"""The event loop that simulations run in: order, time, cancelling, contexts, and its ends."""

from __future__ import annotations

import asyncio
import gc
import weakref
from contextvars import ContextVar, copy_context

import pytest
from hypothesis import given
from hypothesis import strategies as st

from resilio._native import clock
from resilio._native.simulation import BEGIN_NS, EventLoop, Source, StandstillError, Tally, Workers
from resilio.testing import virtual_time

SECOND = 10**9


def forever() -> bool:
    return True


@pytest.fixture(autouse=True)
def _virtual():
    """The loop moves the clock of the process, which gets its own back."""
    with virtual_time():
        clock.set_virtual(BEGIN_NS)
        yield


@pytest.fixture
def failures():
    return []


@pytest.fixture
def loop(failures):
    return EventLoop(failures.append)


@given(st.lists(st.tuples(st.integers(0, 50), st.booleans()), max_size=60))
def test_timers_fire_in_the_order_of_time_and_then_of_making(plan):
    """Whatever is set and cancelled, the rest fires as a sorted list would."""
    loop, fired = EventLoop(print), []
    timers = [loop.at(BEGIN_NS + when, fired.append, number) for number, (when, _) in enumerate(plan)]
    for timer, (_, cancelled) in zip(timers, plan, strict=True):
        if cancelled:
            timer.cancel()
    assert loop.run(BEGIN_NS + 25, forever)
    due = [number for number, (when, cancelled) in enumerate(plan) if when <= 25 and not cancelled]
    assert fired == sorted(due, key=lambda number: plan[number][0])
    assert loop.run(BEGIN_NS + 50, forever)
    assert len(fired) == sum(not cancelled for _, cancelled in plan)
    assert all(timer.cancelled() for timer in timers)


def test_time_is_what_the_policies_read(loop):
    """A callback runs at its time, to the nanosecond, for the loop and for the policies' clock."""
    seen = []
    loop.call_later(1.5, lambda: seen.append((loop.time(), loop.elapsed, clock.now_ns() - BEGIN_NS)))
    loop.call_at(0.25, lambda: seen.append((loop.time(), loop.elapsed, clock.now_ns() - BEGIN_NS)))
    assert loop.run(BEGIN_NS + 2 * SECOND, forever)
    assert seen == [(0.25, 0.25, SECOND // 4), (1.5, 1.5, 3 * SECOND // 2)]
    assert loop.now == BEGIN_NS + 2 * SECOND == clock.now_ns()


def test_a_time_that_has_passed_is_now(loop):
    """Time does not go back."""
    loop.at(BEGIN_NS + 100, lambda: loop.at(BEGIN_NS + 50, lambda: seen.append(loop.now)))
    seen = []
    loop.run(BEGIN_NS + 200, forever)
    assert seen == [BEGIN_NS + 100]


def test_what_is_ready_runs_before_the_next_timer(loop):
    """`call_soon` is at this time, in order; what is cancelled does not run."""
    seen = []
    loop.at(BEGIN_NS + 2, seen.append, "later")
    loop.call_soon(seen.append, "first")
    loop.call_soon_threadsafe(seen.append, "second")
    loop.call_soon(seen.append, "never").cancel()
    loop.run(BEGIN_NS + 5, forever)
    assert seen == ["first", "second", "later"]


def test_it_looks_up_now_and_then_and_can_be_stopped(loop):
    """After so many timers `look` is asked; where it says no, the loop stands, and can go on."""
    seen = []
    for number in range(10):
        loop.at(BEGIN_NS + number, seen.append, number)
    assert not loop.run(BEGIN_NS + 100, lambda: len(seen) < 6, steps=3)
    assert seen == [0, 1, 2, 3, 4, 5]
    assert loop.run(BEGIN_NS + 100, forever)
    assert seen == list(range(10))


def test_tasks_and_futures_of_asyncio_run_in_it(loop):
    """Sleeping, waiting for each other, time-outs and cancellation work as in any loop."""
    seen = []

    async def main():
        assert asyncio.get_running_loop() is loop
        assert loop.is_running()
        other = asyncio.create_task(asyncio.sleep(0.5, "slept"))
        with pytest.raises(TimeoutError):
            async with asyncio.timeout(0.2):
                await loop.create_future()
        seen.append((await other, loop.time()))
        await asyncio.gather(asyncio.sleep(0.1), asyncio.sleep(0.2))
        seen.append(loop.time())

    task = loop.create_task(main())
    assert loop.run(BEGIN_NS + SECOND, forever)
    task.result()
    assert seen == [("slept", 0.5), pytest.approx(0.7)]
    assert not loop.is_running()
    assert (loop.is_closed(), loop.get_debug()) == (False, False)
    with pytest.raises(RuntimeError, match="no running event loop"):
        asyncio.get_running_loop()


def test_callbacks_have_their_contexts(loop):
    """What is given a context runs in it, and leaves the one outside alone, also when it raises."""
    variable = ContextVar("variable", default="outside")
    inside = copy_context()
    inside.run(variable.set, "inside")
    seen = []

    def broken():
        seen.append(variable.get())
        raise LookupError("broken")

    loop.call_soon(lambda: seen.append(variable.get()), context=inside)
    loop.call_later(0.1, lambda: seen.append(variable.get()))
    loop.call_later(0.2, broken, context=inside)
    with pytest.raises(LookupError, match="broken"):
        loop.run(BEGIN_NS + SECOND, forever)
    assert seen == ["inside", "outside", "inside"]
    assert variable.get() == "outside"
    assert not loop.is_running()


@pytest.mark.parametrize("soon", [True, False])
def test_time_that_stands_still_ends_the_run(soon):
    """So many callbacks at one instant, ready ones or timers, are told; afterwards the loop does not run."""
    loop = EventLoop(print, still=100)

    def again():
        if soon:
            loop.call_soon(again)
        else:
            loop.call_later(0, again)

    loop.call_later(0.5, again)
    with pytest.raises(StandstillError, match=r"time stands still at 0\.500000 s"):
        loop.run(BEGIN_NS + SECOND, forever)
    assert not loop.is_running()


def test_it_is_the_only_loop(loop):
    """Inside of another loop it does not run."""

    async def inside():
        loop.run(BEGIN_NS + 1, forever)

    with pytest.raises(RuntimeError, match="inside of a running event loop"):
        asyncio.run(inside())


def test_what_nobody_took_is_handed_on(loop, failures):
    """The exception of a task that nobody awaits reaches who made the loop."""

    async def fail():
        raise LookupError("nobody took it")

    loop.create_task(fail())
    loop.run(BEGIN_NS + 1, forever)
    gc.collect()
    assert [str(context["exception"]) for context in failures] == ["nobody took it"]


def test_what_it_holds_can_be_collected():
    """Timers that refer to the loop and to each other are no leak."""

    class Owner:
        def begin(self) -> None:
            self.loop = EventLoop(print)
            self.timer = self.loop.at(BEGIN_NS + 5, self.begin)

    owner = Owner()
    owner.begin()
    gone = weakref.ref(owner)
    del owner
    gc.collect()
    assert gone() is None


def test_the_bases_leave_the_decisions_to_their_subclasses(loop):
    """What a subclass has to say is said by nobody else."""
    tally = Tally([], 1, 1, 1, 0, 0)
    options = {"draw": None, "uniform": None, "queue": None, "capacity": 1, "max_queued": -1, "least_left": 0.0}
    workers = Workers(
        loop, tally, **options, same_size=0.0, stops_cancelled=False, wire=None, busy=Exception, failure=Exception
    )
    source = Source(loop, tally, [], 1.0, 0)
    for call in (lambda: tally.rejected("it", "full"), lambda: workers.submit(None), lambda: source.begin(1)):
        with pytest.raises(NotImplementedError):
            call()
