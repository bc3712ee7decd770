"""Callers who wait no longer: no outcome, each for itself; an outage, when all of them leave and nothing succeeds."""

from __future__ import annotations

import asyncio
from contextlib import suppress

import anyio
import pytest

from resilio import CircuitOpenError, DeadlineExceededError, circuit_breaker, deadline, hedge

BACKENDS = pytest.mark.parametrize("backend", ["asyncio", "trio"])


class Server:
    """Answers in 20 ms, until it hangs."""

    def __init__(self):
        self.called, self.hangs = 0, False

    async def __call__(self, takes=0.02):
        self.called += 1
        await anyio.sleep(1000.0 if self.hangs else takes)


async def warm_up(guarded, calls=30):
    """Make calls that succeed."""
    for _ in range(calls):
        await guarded()


async def with_patience(guarded, seconds, **options):
    """Call, and leave after some time; a rejection is no reason to stay."""
    with anyio.move_on_after(seconds):
        with suppress(CircuitOpenError):
            await guarded(**options)


async def arrive(guarded, calls, patience, apart=0.05, **options):
    """Callers that come one after the other and leave after some time."""
    async with anyio.create_task_group() as tasks:
        for _ in range(calls):
            tasks.start_soon(lambda: with_patience(guarded, patience, **options))
            await anyio.sleep(apart)


@BACKENDS
def test_when_all_callers_leave_it_opens(vt, backend):
    """50 clients left a server that hung after four seconds: nothing failed, so they kept it down for good."""
    breaker, server = circuit_breaker(), Server()

    async def main():
        guarded = breaker(server)
        await warm_up(guarded)
        server.hangs = True
        await arrive(guarded, 100, 1.0)

    vt.run(main, backend=backend)
    seen = breaker.snapshot()
    assert seen.state != "closed"
    assert seen.rejected > 40
    assert (seen.failures, seen.window_failures) == (0, 0)
    assert seen.ignored == server.called - 30


@BACKENDS
def test_a_small_client_whose_deadlines_pass_opens(vt, backend):
    """A passed deadline counted after a hundred successes only: a client of few calls waited it out each time."""
    breaker, server = circuit_breaker(), Server()

    async def main():
        guarded = breaker(server)
        await warm_up(guarded)
        server.hangs = True
        in_time = deadline(1.0)(guarded)
        for _ in range(60):
            with suppress(DeadlineExceededError, CircuitOpenError):
                await in_time()
            await anyio.sleep(0.1)

    vt.run(main, backend=backend)
    assert breaker.snapshot().state != "closed"
    assert server.called - 30 <= 35


@BACKENDS
def test_callers_who_leave_among_others_who_are_answered_say_nothing(vt, backend):
    """Half of the calls are long polls, which are cancelled: what succeeds between them shows that all is well."""
    breaker, server = circuit_breaker(), Server()

    async def main():
        guarded = breaker(server)
        await warm_up(guarded)
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(lambda: arrive(guarded, 100, 2.0, 0.1, takes=30.0))
            tasks.start_soon(lambda: arrive(guarded, 100, 2.0, 0.1))

    vt.run(main, backend=backend)
    assert (breaker.snapshot().rejected, breaker.state) == (0, "closed")


@BACKENDS
def test_calls_that_are_cancelled_together_are_one(vt, backend):
    """A task group of twenty slow calls is cancelled since one of them has failed: that is one reason, not twenty."""
    breaker, server = circuit_breaker(), Server()

    async def main():
        guarded = breaker(server)
        await warm_up(guarded)
        server.hangs = True
        with anyio.move_on_after(5.0):
            async with anyio.create_task_group() as tasks:
                for _ in range(20):
                    tasks.start_soon(guarded)

    vt.run(main, backend=backend)
    seen = breaker.snapshot()
    assert seen.ignored == 20
    assert (seen.state, seen.consecutive) == ("closed", 1)


@BACKENDS
def test_fewer_who_leave_than_wait_say_nothing(vt, backend):
    """Calls become longer, and the impatient leave: as long as more are still waiting, those may know better."""
    breaker, server = circuit_breaker(), Server()

    async def main():
        guarded = breaker(server)
        await warm_up(guarded)
        async with anyio.create_task_group() as tasks:
            for number in range(60):
                patience = 2.0 if number % 3 == 0 else 100.0
                tasks.start_soon(lambda patience=patience: with_patience(guarded, patience, takes=30.0))
                await anyio.sleep(0.05)
        assert breaker.snapshot().rejected == 0

    vt.run(main, backend=backend)
    assert breaker.state == "closed"


@BACKENDS
@pytest.mark.parametrize("patience", [0.05, 0.2])
def test_callers_who_leave_soon_say_nothing(vt, backend, patience):
    """A user who types ahead cancels the search of each letter: that it had not been answered yet is no wonder."""
    breaker, server = circuit_breaker(), Server()

    async def main():
        guarded = breaker(server)
        await warm_up(guarded)
        server.hangs = True
        await arrive(guarded, 100, patience)

    vt.run(main, backend=backend)
    assert (breaker.snapshot().rejected, breaker.snapshot().consecutive) == (0, 0)


@BACKENDS
def test_a_stream_that_has_begun_is_left_when_it_is_enough(vt, backend):
    """Consumers of a stream of events leave after a minute: it has answered, whatever it would have said later."""
    breaker = circuit_breaker()

    async def events():
        for _ in range(1000):
            yield 1
            await anyio.sleep(1.0)

    async def consume(stream):
        with anyio.move_on_after(60.0):
            async for _ in stream():
                pass

    async def main():
        await warm_up(breaker(Server()))
        stream = breaker(events)
        async with anyio.create_task_group() as tasks:
            for _ in range(30):
                tasks.start_soon(consume, stream)
                await anyio.sleep(0.5)

    vt.run(main, backend=backend)
    assert (breaker.state, breaker.snapshot().consecutive) == ("closed", 0)


def test_a_copy_that_lost_is_no_caller_who_left(vt):
    """A hedge cancels the slower of two calls: the dependency has answered."""
    breaker = circuit_breaker()
    calls = []

    async def fetch():
        calls.append(None)
        await asyncio.sleep(0.02 if len(calls) <= 300 or len(calls) % 2 == 0 else 50.0)

    async def main():
        hedged = hedge(idempotent=True, after=1.0, max_extra=1.0)(breaker(fetch))
        await warm_up(hedged, 300)
        for _ in range(20):
            await hedged()

    vt.run(main)
    assert len(calls) >= 315  # nearly each of the 20 had a copy
    assert (breaker.state, breaker.snapshot().consecutive) == ("closed", 0)
