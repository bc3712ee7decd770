"""Ctrl-C at any instruction: it always comes out of the call that it hits, and leaves nothing behind."""

from __future__ import annotations

import gc
import random
import signal
import sys
import threading
import time
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import pytest

from resilio import (
    PipelineWarning,
    RejectedError,
    bulkhead,
    circuit_breaker,
    deadline,
    detached,
    events,
    keyed,
    pipeline,
    priority,
    rate_limit,
    retry,
    timeout,
)
from resilio._context import variables
from resilio._strategies import threads
from resilio._support.client_target import mark_as_heeding_time
from resilio.events import Rejected, Settled, StateChanged
from resilio.testing import assert_no_leaks, record_events
from storm.interrupting import Interrupter, InterrupterOfCalls
from storm.world import CalleeError

pytestmark = [
    pytest.mark.skipif(not hasattr(signal, "setitimer"), reason="there are no interval timers here"),
    pytest.mark.filterwarnings(f"ignore::{PipelineWarning.__module__}.PipelineWarning"),
]

ROUNDS = 4000


class Interrupts:
    """Sends the main thread a KeyboardInterrupt now and then, only while it is asked to, and counts."""

    def __init__(self) -> None:
        self.armed = False
        self.sent = 0

    def handle(self, *_: object) -> None:
        """Interrupt once."""
        if self.armed:
            self.armed = False
            self.sent += 1
            raise KeyboardInterrupt

    def resend(self, *_: object) -> None:
        """Raise again what the core could not raise where it came."""
        raise KeyboardInterrupt


@pytest.fixture
def uncollected() -> Iterator[None]:
    """Have the collector stand still: Python swallows a Ctrl-C that comes in one of its callbacks."""
    gc.disable()
    yield
    gc.enable()


@pytest.fixture
def interrupts(unlogged: None) -> Iterator[Interrupts]:
    """Install the handlers for the test."""
    interrupts = Interrupts()
    interval = sys.getswitchinterval()
    sys.setswitchinterval(1e-6)
    before = signal.signal(signal.SIGALRM, interrupts.handle), signal.signal(signal.SIGINT, interrupts.resend)
    yield interrupts
    sys.setswitchinterval(interval)
    signal.setitimer(signal.ITIMER_REAL, 0)
    signal.signal(signal.SIGALRM, before[0])
    signal.signal(signal.SIGINT, before[1])


def hit(interrupts: Interrupts, call: Any, after: float) -> str:
    """Make a call that is interrupted `after` seconds, if it still runs then; return how it ended."""
    try:
        interrupts.armed = True
        signal.setitimer(signal.ITIMER_REAL, after)
        how = end_of(call)
        interrupts.armed = False
        for _ in range(20):  # one that the core has put off arrives here
            pass
    except KeyboardInterrupt:
        interrupts.armed = False
        return "interrupted"
    return how


def end_of(call: Any) -> str:
    """Make a call and return how it ended."""
    try:
        call()
    except RejectedError:
        return "rejected"
    except CalleeError:
        return "error"
    return "returned"


def make_calls(rng: random.Random) -> list[Any]:
    """Return calls that go through every line there is: queues, hooks, listeners, streams, blocks."""
    pool = bulkhead(1, max_queued=5, max_wait=0.002, weight=lambda *_: 1)
    limit = rate_limit("50000/s", burst=3, max_wait=0.001, cost=lambda *_: 1)
    breaker = circuit_breaker(
        consecutive=3, open_for=0.0002, max_open_for=0.0002, failed_if=lambda result: result == 13
    )
    stack = pipeline(limit, breaker, pool)

    @stack
    def call() -> int:
        number = rng.randint(0, 15)
        if number < 2:
            raise CalleeError
        if number < 4:
            time.sleep(0.0001)
        return number

    def attempt() -> None:
        stack.try_call(call.__wrapped__).unwrap()

    def block() -> None:
        with pool:
            call.__wrapped__()

    def permit_block() -> None:
        with pool.permit():
            call.__wrapped__()

    def ambient() -> None:
        with deadline(600.0), priority("critical"), detached():
            call.__wrapped__()

    alone = pipeline(limit, breaker, bulkhead(1, weight=lambda *_: 1))(call.__wrapped__)
    return [call, attempt, block, permit_block, ambient, alone, alone, pool, breaker]


@contextmanager
def competition(pool: Any) -> Iterator[None]:
    """Have two threads compete for the permits of `pool`, so that there are queues and wake-ups."""
    stop = threading.Event()

    def compete() -> None:
        while not stop.is_set():
            pool.try_call(time.sleep, 0.0001)

    threads = [threading.Thread(target=compete) for _ in range(2)]
    for thread in threads:
        thread.start()
    try:
        yield
    finally:
        stop.set()
        for thread in threads:
            thread.join()


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


def left_behind() -> list[str]:
    """Return the names of what is ambient here, where nothing is under way."""
    return [variable.name for variable in variables.AMBIENT if variable.get() is not None]


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


@pytest.mark.untraced
def test_a_call_in_a_thread_that_was_interrupted_leaves_no_lock_taken(interrupts: Interrupts) -> None:
    """On 3.14 a Ctrl-C that comes as `with lock` has taken a lock leaves it taken: all calls after that one hung."""
    made: list[threads.Threads] = []
    limit = timeout(30.0, thread=True)
    with pytest.MonkeyPatch.context() as patched:
        begin = threads.Threads._begin
        patched.setattr(threads.Threads, "_begin", lambda self: (made.append(self), begin(self)))
        limit.call(int)
    (own,) = made
    for _ in range(ROUNDS):
        assert own._lock.acquire(timeout=30.0), "it is taken for ever"
        own._lock.release()
        limit.call(int)
        while not own.idle:  # how a thread begins is Python's own
            time.sleep(0)
        hit(interrupts, lambda: limit.call(int), random.uniform(1e-6, 1.2e-4))
    assert interrupts.sent > 100


def test_an_interrupt_is_never_swallowed_and_leaks_nothing(interrupts: Interrupts) -> None:
    """Of thousands of Ctrl-C at random moments each one comes out exactly once, and at the end nothing is held."""
    seed = random.randrange(2**32)
    print(f"interrupts: seed {seed}")
    rng = random.Random(seed)
    *calls, pool, breaker = make_calls(rng)
    unsubscribe = events.subscribe(lambda event: len(str(event)), kinds=[StateChanged, Rejected, Settled])
    ended: Counter[str] = Counter()
    with competition(pool):
        for _ in range(ROUNDS):
            before = interrupts.sent
            how = hit(interrupts, rng.choice(calls), rng.uniform(1e-6, rng.choice([3e-5, 4e-4, 5e-3])))
            sent = interrupts.sent - before
            assert sent == (how == "interrupted"), f"{how}, but {sent} were sent"
            ended[how] += 1
    unsubscribe()
    print(f"interrupts: {dict(ended)}")
    assert left_behind() == []
    assert min(ended["interrupted"], ended["returned"]) > 100, ended
    with record_events(breaker) as recorded:
        breaker.force_open()
    assert recorded.states() == ["forced_open"], "events are delivered no more"
    assert_no_leaks()
