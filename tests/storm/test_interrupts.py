"""Ctrl-C at any instruction: it always comes out of the call that it hits, and leaves nothing behind."""

from __future__ import annotations

import signal
import sys
import threading
from typing import Any

import pytest

from resilio import (
    PipelineWarning,
    bulkhead,
    circuit_breaker,
    events,
    keyed,
    pipeline,
    retry,
    timeout,
)
from resilio._context import variables
from resilio._strategies import threads
from resilio._support.client_target import mark_as_heeding_time
from resilio.events import StateChanged
from resilio.testing import assert_no_leaks
from storm.alarms import end_of, left_behind
from storm.interrupting import Interrupter, InterrupterOfCalls
from storm.world import CalleeError

pytestmark = [
    pytest.mark.skipif(not hasattr(signal, "setitimer"), reason="there are no interval timers here"),
    pytest.mark.filterwarnings(f"ignore::{PipelineWarning.__module__}.PipelineWarning"),
]


def in_a_block(pool: Any) -> None:
    """Hold a permit, and have it where a traceback finds it."""
    with pool as permit:
        assert permit.admitted


def in_an_async_block(pool: Any) -> None:
    """Hold a permit in a coroutine that does not wait for anything."""

    async def block() -> None:
        async with pool as permit:
            assert permit.admitted

    next(block().__await__(), None)  # no `except` here: interrupted in it, its own exception would stay behind


@pytest.mark.untraced
@pytest.mark.usefixtures("uncollected")
@pytest.mark.filterwarnings("ignore:coroutine .* was never awaited:RuntimeWarning")
@pytest.mark.parametrize("block", [in_a_block, in_an_async_block])
def test_a_block_interrupted_at_any_instruction_keeps_no_permit(block: Any) -> None:
    """A Ctrl-C before each instruction in turn: the permit is back, also while the error lives with all its frames."""
    pool, errors = bulkhead(1), []
    for number in range(1000):
        before = sys.gettrace()
        Interrupter(number).begin()
        try:
            block(pool)
        except KeyboardInterrupt as error:
            errors.append(error)  # and with it the frames and what is in them
        else:
            break
        finally:
            sys.settrace(before)
        assert pool.used == 0, f"interrupted before instruction {number}"
    assert len(errors) == number > 10
    assert_no_leaks()


def interrupted(number: int, block: Any) -> bool:
    """Run a block with a Ctrl-C as that function begins; tell whether it has come out, False: it ended before."""
    before, interrupter = sys.gettrace(), InterrupterOfCalls(number)
    try:
        sys.settrace(interrupter)
        try:
            end_of(block)
        finally:
            sys.settrace(before)
        for _ in range(20):  # one that the core has put off arrives here
            pass
    except KeyboardInterrupt:
        return True
    assert interrupter.left >= 0, f"swallowed at function {number}"
    return False


def retried_blocks() -> Any:
    """Return what runs a block under a retry, twice."""
    tries = retry(on=CalleeError, backoff=0.0, budget=None)

    def blocks() -> None:
        for attempt in tries.retrying():
            with attempt:
                if attempt.number == 1:
                    raise CalleeError

    return blocks


def nested_retries() -> Any:
    """Return a call that an inner retry leaves to the outer one, by its predicate."""
    stack = pipeline(retry(on=lambda _: True, attempts=2, backoff=0.0, budget=None), retry(on=CalleeError, budget=None))

    def fail() -> None:
        raise CalleeError

    return lambda: stack.try_call(fail)


def calls_without_a_key() -> Any:
    """Return a call whose key function raises, which is reported."""
    policies = keyed(lambda: bulkhead(5), key=lambda: 1 / 0)
    return policies(lambda: None)


def calls_in_threads() -> Any:
    """Return a call in a thread that waits for one already: how one begins is Python's own."""
    call = timeout(30.0, thread=True)(lambda: None)
    call()
    return call


def calls_that_heed_their_time() -> Any:
    """Return a call of a client's that is told how much time its timeout leaves: within a limit, and a deadline."""

    def limited() -> None:
        for _ in range(3):
            variables.time_limit.get().run(step)

    def step() -> None:
        assert variables.time_limit.get() is not None

    return timeout(30.0)(mark_as_heeding_time(limited))


@pytest.mark.untraced
@pytest.mark.usefixtures("unlogged", "uncollected")
@pytest.mark.parametrize(
    "make", [retried_blocks, nested_retries, calls_without_a_key, calls_in_threads, calls_that_heed_their_time]
)
def test_an_interrupt_of_a_strategy_comes_out_as_one(make: Any) -> None:
    """
    A Ctrl-C as each function in turn begins, strategies' own too: that is what is raised, and nothing is held.

    A block's scope, and the deadline of a call that had a time limit, stayed behind in the thread's context for good.
    """
    make()()  # imports what it needs
    for number in range(1000):
        if not interrupted(number, make()):
            break
        assert left_behind() == [], f"interrupted at function {number}"
    assert 3 < number < 999
    assert_no_leaks()


@pytest.mark.untraced
@pytest.mark.usefixtures("unlogged", "uncollected")
def test_an_interrupt_beside_a_listener_has_no_thread_called_dead() -> None:
    """One thread is in a listener as others have events: a Ctrl-C in `Thread.is_alive` ends a thread, up to 3.12."""
    slow, here = circuit_breaker("slow"), circuit_breaker("here")
    entered, release, inside = threading.Event(), threading.Event(), [0]

    def listen(event: StateChanged) -> None:
        inside[0] += 1
        assert inside == [1], "two threads deliver"
        if event.name == "slow":
            entered.set()
            release.wait()
        inside[0] -= 1

    stop = events.subscribe(listen, kinds=[StateChanged])
    thread = threading.Thread(target=slow.force_open)
    thread.start()
    entered.wait()
    for number in range(1000):
        before = sys.gettrace()
        Interrupter(number, lambda frame: frame.f_code.co_filename == threading.__file__).begin()
        try:
            here.force_open()
            break
        except KeyboardInterrupt:
            pass
        finally:
            sys.settrace(before)
    alive = thread.is_alive()
    release.set()
    thread.join()
    stop()
    assert alive


class Popped(list[Any]):
    """A list where a Ctrl-C comes just after something was taken."""

    def pop(self, *_: Any) -> Any:
        """Take it."""
        super().pop()
        raise KeyboardInterrupt


def test_no_thread_waits_for_ever_for_a_call_that_was_interrupted(monkeypatch: pytest.MonkeyPatch) -> None:
    """A Ctrl-C as a call is handed to a thread that waits for one: the thread ends all the same, when it has waited."""
    monkeypatch.setattr(threads, "IDLE_SECONDS", 0.5)
    begin = threads.Threads._begin
    monkeypatch.setattr(threads.Threads, "_begin", lambda self: (begin(self), setattr(self, "_free", Popped())))
    limit, before = timeout(30.0, thread=True), set(threading.enumerate())
    limit.call(int)
    (thread,) = set(threading.enumerate()) - before
    with pytest.raises(KeyboardInterrupt):
        limit.call(int)
    thread.join(30.0)
    assert not thread.is_alive(), "it waits for ever"
