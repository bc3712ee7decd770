"""Ambient values of tasks that start each other: their chains stay short, and are freed without recursion."""

from __future__ import annotations

import gc
import subprocess
import sys
import threading
from collections.abc import Awaitable, Callable
from typing import Any

import anyio
import pytest

from resilio import deadline, detached, priority, remaining, retry, retrying
from resilio._context import variables
from resilio._native.core import AmbientDeadline, AmbientPriority

BACKENDS = pytest.mark.parametrize("backend", ["asyncio", "trio"])
TASKS = 300


def chain(value: Any) -> list[Any]:
    """Return what an ambient value leads to, itself included."""
    found = []
    while value is not None:
        found.append(value)
        value = value.outer
    return found


async def in_detached(start: Callable[[], None]) -> None:
    with detached():
        start()


async def in_deadline(start: Callable[[], None]) -> None:
    with deadline(1000):
        start()


async def in_both(start: Callable[[], None]) -> None:
    with detached(), deadline(1000), priority("critical"):
        start()


async def in_generators(start: Callable[[], None]) -> None:
    async def items() -> Any:
        with deadline(1000), priority("critical"):
            start()
            yield None

    async for _ in items():
        pass


def succeed(vt: Any, backend: str, step: Callable[[Callable[[], None]], Awaitable[None]]) -> list[int]:
    """Run tasks, each started within a step of the one before; return how long their chains are in the end."""
    lengths: list[int] = []

    async def main() -> None:
        async with anyio.create_task_group() as group:

            async def task(left: int) -> None:
                await anyio.lowlevel.checkpoint()
                if left:
                    await step(lambda: group.start_soon(task, left - 1))
                else:
                    lengths.append(len(chain(variables.deadline.get())) + len(chain(variables.priority.get())))

            with detached():
                group.start_soon(task, TASKS)

    vt.run(main, backend=backend)
    return lengths


@BACKENDS
@pytest.mark.parametrize("step", [in_detached, in_deadline, in_both, in_generators])
def test_a_chain_of_successors_stays_short(vt, backend, step):
    """
    A worker that starts the next one within its own deadline did so 30,000 times: by then each guarded call walked
    through 30,000 values, for 0.2 ms.
    """
    (length,) = succeed(vt, backend, step)
    assert length <= 4


def test_a_deadline_within_a_detached_block_counts_and_what_is_outside_does_not(vt):
    """What is left out of the chain is what could not have counted."""
    with deadline(5):
        with detached():
            assert remaining() is None
            with deadline(50):
                with deadline(100):
                    assert remaining() == 50
                    with detached(), deadline(70):
                        assert remaining() == 70
                    with deadline(20):
                        assert remaining() == 20
                    assert remaining() == 50
                assert remaining() == 50
            assert remaining() is None
        assert remaining() == 5


@pytest.mark.real(1.0)
def test_a_chain_of_a_million_values_is_freed():
    """Freeing it was a recursion in C, and ended the process."""
    script = """
from resilio._native.core import AmbientDeadline, AmbientPriority
def items():
    yield
generator, deadline, priority = items(), None, None
for at in range(1_000_000):
    deadline = AmbientDeadline(at, at, deadline, generator)
    priority = AmbientPriority(1, None, priority, generator)
assert deadline.outer.outer is not None and priority.outer.outer is not None
shared = deadline.outer
del deadline, priority, shared
print("freed")
"""
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=False, timeout=300)
    assert (done.returncode, done.stdout, done.stderr) == (0, "freed\n", "")


def test_a_value_whose_generator_is_gone_is_left_out():
    """It can never hold again."""

    def items():
        yield

    generator = items()
    outer = AmbientDeadline(3, 5, None, generator)
    said = AmbientPriority(1, None, None, generator)
    assert chain(AmbientDeadline(5, 5, outer))[1:] == [outer]
    assert chain(AmbientPriority(2, None, said))[1:] == [said]
    del generator
    assert len(chain(AmbientDeadline(5, 5, outer))) == 1
    assert len(chain(AmbientPriority(2, None, said))) == 1


@BACKENDS
def test_retried_blocks_that_start_each_other_keep_no_chain(vt, backend):
    """A scope that has ended holds on to none but those that were open with it."""
    alive: list[int] = []

    async def main() -> None:
        async with anyio.create_task_group() as group:

            async def task(left: int) -> None:
                async for attempt in retrying(policy):
                    with attempt:
                        if left:
                            group.start_soon(task, left - 1)
                            await anyio.lowlevel.checkpoint()
                        else:
                            kind = type(variables.retry_scope.get())
                            alive.append(sum(type(one) is kind for one in gc.get_objects()))

            await task(TASKS)

    policy = retry(on=ValueError)
    vt.run(main, backend=backend)
    assert 1 <= alive[0] <= 6


def test_scopes_opened_by_several_threads_at_once_are_all_counted():
    """
    Without the GIL two threads changed the number of retry scopes at once: it was wrong for ever, no retry saw that it
    was inside of another, and a call was attempted six times instead of three.
    """
    threads, rounds = 8, 400
    together = threading.Barrier(threads)
    outer = retry(on=ValueError, attempts=2, backoff=0, budget=None)
    inner = retry(on=ValueError, attempts=3, backoff=0, budget=None)
    attempts: list[int] = []

    def blocks() -> None:
        together.wait()
        for _ in range(rounds):
            for attempt in retrying(outer):
                with attempt:
                    pass

    def nested() -> int:
        calls = 0

        @inner
        def fails() -> None:
            nonlocal calls
            calls += 1
            raise ValueError("no")

        with pytest.raises(ValueError, match="no"):
            for attempt in retrying(outer):
                with attempt:
                    fails()
        return calls

    expected = nested()
    for _ in range(5):
        running = [threading.Thread(target=blocks) for _ in range(threads)]
        for thread in running:
            thread.start()
        for thread in running:
            thread.join()
        attempts.append(nested())
    assert attempts == [expected] * 5
