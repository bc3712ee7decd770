"""
Greenlets, those of gevent and of SQLAlchemy's async sessions, share a thread and its stack.

Calls under way were known by their thread, and lay on its stack: a guarded function that let another greenlet run, in
which there was a guarded call as well, brought the process down.
"""

from __future__ import annotations

import asyncio
import gc
import subprocess
import sys
import sysconfig
import textwrap
import threading
from collections.abc import Callable
from typing import Any

import pytest

from resilio import bulkhead, circuit_breaker, current, deadline, pipeline, remaining, retry
from resilio._native.core import phase
from resilio.testing import VirtualTime

if sysconfig.get_config_var("Py_GIL_DISABLED"):  # before it is imported: loaded, it is asked for in every thread
    pytest.skip("greenlet 3.2 itself ends the process there", allow_module_level=True)
greenlets = pytest.importorskip("greenlet", reason="greenlet is not installed")


def pause() -> None:
    """Let the others run."""
    greenlets.getcurrent().parent.switch()


def take_turns(*functions: Callable[[], Any]) -> int:
    """Run functions as greenlets, each up to its next pause in turn; how often one was gone on with."""
    running, turns = [greenlets.greenlet(function) for function in functions], 0
    while running:
        for one in running:
            one.switch()
            turns += not one.dead
        running = [one for one in running if not one.dead]
    return turns


def test_each_greenlet_is_within_its_own_calls() -> None:
    policies = [bulkhead(100) for _ in range(40)]
    inside = bulkhead(100)
    nested = inside(pause)
    wrong = []

    def of(number: int) -> Callable[[], None]:
        policy = policies[number]

        def guarded() -> None:
            for turn in range(1 + number % 5):
                mine = current()
                nested() if turn % 2 else pause()
                if current() is not mine or mine.gates[0].policy is not policy:
                    wrong.append((number, turn))
            if number % 3 == 0:
                current().fail()

        return policy(guarded)

    def beside() -> None:
        for _ in range(3):
            if current() is not None:
                wrong.append("beside")
            pause()

    turns = take_turns(*[of(number) for number in range(40)], beside)

    assert turns > 100
    assert wrong == []
    assert [policy.snapshot().failures for policy in policies] == [int(number % 3 == 0) for number in range(40)]
    assert [policy.snapshot().inflight for policy in policies] == [0] * 40
    assert current() is None


def test_a_greenlet_is_within_the_calls_of_who_has_started_it() -> None:
    outer, inner = bulkhead(10), bulkhead(10)
    seen = []

    def note() -> None:
        now = current()
        seen.append(None if now is None else now.gates[0].policy)

    def child() -> None:
        note()
        inner(lambda: (note(), pause(), note()))()
        note()
        pause()
        note()

    started = greenlets.greenlet(child)

    @outer
    def guarded() -> None:
        started.switch()
        note()
        started.switch()

    guarded()
    started.switch()  # from here, where there is no call

    assert seen == [outer, inner, outer, inner, outer, None]
    assert started.dead


def test_stages_go_on_where_they_were(vt: VirtualTime) -> None:
    """Attempts, deadlines and generators of several greenlets, each interrupted by the others."""
    retries = retry(on=OSError, attempts=3, backoff=0.0, budget=None)
    permits = bulkhead(100)
    stack = pipeline(circuit_breaker(), permits)
    got = []

    def of(number: int) -> Callable[[], None]:
        @retries
        def attempts() -> int:
            attempt = current().attempt
            pause()
            assert current().attempt == attempt
            if attempt < 1 + number % 3:
                raise OSError
            return attempt

        @stack
        def items() -> Any:
            for item in range(number):
                phase("body")
                pause()
                yield item

        def run() -> None:
            with deadline(100 + number):
                pause()
                assert remaining() == 100 + number
                got.append((attempts(), list(items())))

        return run

    assert take_turns(*map(of, range(12))) > 100
    assert sorted(got, key=lambda each: len(each[1])) == [(1 + number % 3, list(range(number))) for number in range(12)]
    assert permits.snapshot().inflight == 0


def test_one_that_is_dropped_in_its_call_gives_its_permit_back() -> None:
    policy = bulkhead(10)

    @policy
    def guarded() -> None:
        pause()
        raise AssertionError("it was dropped")

    @policy
    def other() -> None:
        for _ in range(20):
            dropped = greenlets.greenlet(guarded)
            dropped.switch()
            assert policy.snapshot().inflight == 2
            del dropped  # the last reference: GreenletExit is raised in it
            assert policy.snapshot().inflight == 1
            assert current().gates[0].policy is policy

    other()
    assert policy.snapshot().inflight == 0
    assert policy.snapshot().failures == 0


def test_one_that_has_the_address_of_another_does_not_have_its_calls() -> None:
    outer = bulkhead(10)
    seen = set()

    def child() -> None:
        assert current() is None or current().gates[0].policy is outer
        seen.add(current() is not None)

    @outer
    def guarded() -> None:
        greenlets.greenlet(child).switch()

    for _ in range(200):
        guarded()
        greenlets.greenlet(child).switch()
    assert seen == {True, False}
    assert outer.snapshot().inflight == 0


def test_each_thread_has_greenlets_of_its_own() -> None:
    policy = bulkhead(100)
    turns = []

    @policy
    def guarded() -> None:
        mine = current()
        for _ in range(50):
            pause()
            assert current() is mine

    threads = [threading.Thread(target=lambda: turns.append(take_turns(*[guarded] * 5))) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert turns == [250] * 4
    assert policy.snapshot().successes == 20


def test_a_call_from_before_there_were_greenlets_goes_on() -> None:
    """Its frame is on the stack: greenlets that are started inside of it leave that alone."""
    program = """
        import sys

        from resilio import bulkhead, current

        outer, inner = bulkhead(10), bulkhead(10)


        @outer
        def guarded():
            mine = current()
            assert "greenlet" not in sys.modules
            import greenlet

            def child():
                assert current() is mine
                for _ in range(3):
                    inner(greenlet.getcurrent().parent.switch)()
                assert current() is mine

            children = [greenlet.greenlet(child) for _ in range(10)]
            for _ in range(4):
                for one in children:
                    one.switch()
                    assert current() is mine
            assert all(one.dead for one in children)


        guarded()
        assert current() is None
        print(outer.snapshot().successes, inner.snapshot().successes)
    """
    done = subprocess.run([sys.executable, "-c", textwrap.dedent(program)], capture_output=True, text=True, check=False)
    assert (done.returncode, done.stdout, done.stderr) == (0, "1 30\n", "")


def test_functions_that_sqlalchemy_runs_in_greenlets_may_be_guarded() -> None:
    """`run_sync` has a function wait in a greenlet for what the event loop, in the same thread, does meanwhile."""
    util = pytest.importorskip("sqlalchemy.util", reason="sqlalchemy is not installed")
    guard, beside, around = bulkhead(1000), bulkhead(1000), bulkhead(1000)
    interleaved = []

    @guard
    def query(number: int) -> int:
        mine = current()
        for _ in range(3):
            util.await_only(asyncio.sleep(0))
            interleaved.append(number)
            assert current() is mine
        return number

    @beside
    async def other(number: int) -> int:
        mine = current()
        await asyncio.sleep(0)
        assert current() is mine
        return number

    @around
    async def outside(number: int) -> int:
        mine = current()
        got: int = await util.greenlet_spawn(query, number)
        assert current() is mine
        return got

    async def main() -> list[int]:
        kinds = (other, outside, lambda number: util.greenlet_spawn(query, number))
        return await asyncio.gather(*[kinds[number % 3](number) for number in range(90)])

    assert asyncio.run(main()) == list(range(90))
    assert len(interleaved) == 180
    assert interleaved != sorted(interleaved)
    assert [policy.snapshot().inflight for policy in (guard, beside, around)] == [0, 0, 0]
    gc.collect()
