"""Calls are kept for calls to come, tracked by the collector: neither side may disturb the other."""

from __future__ import annotations

import gc
import subprocess
import sys
import types
import weakref
from collections.abc import Generator
from typing import Any

import pytest

from resilio import circuit_breaker
from resilio._native import core

pytestmark = pytest.mark.skipif(core._private_state()["spare_calls"] != "in use", reason="no calls are kept here")


@types.coroutine
def suspend() -> Generator[None, Any, Any]:
    return (yield)


def finish(call: Any) -> Any:
    """Drive a call that does not suspend, and return its result."""
    try:
        call.send(None)
    except StopIteration as stopped:
        return stopped.value
    raise AssertionError("it has suspended")


def spares() -> list[Any]:
    return [thing for thing in gc.get_objects() if type(thing) is core.Call and thing._spare]


@pytest.fixture
def breaker() -> core.Pipeline:
    return circuit_breaker()


def inflight(policy: core.Pipeline) -> int:
    return policy.gates[0].counters()["inflight"]


def test_a_call_that_begins_during_a_collection_is_not_cleared_by_it(breaker: Any) -> None:
    """
    The collector clears one by one what it has found to be garbage. The first one it clears lets go of a call that has
    ended, and of what has a callback that makes a call: in the memory of that call, which was still to be cleared.
    """
    made: list[Any] = []

    @breaker
    async def answer(x: int) -> int:
        await suspend()
        return x

    def leave_garbage() -> tuple[int, weakref.ref[Any]]:
        holder: dict[str, Any] = {}
        holder["self"] = holder  # tracked from here on, before the call is by its suspension
        holder["ended"] = answer(1)
        holder["ended"].send(None)
        assert finish(holder["ended"]) == 1
        # of the few things that can be watched and that the collector does not know
        holder["watched"] = compile("1", "watched", "eval")
        return id(holder["ended"]), weakref.ref(holder["watched"], lambda _: made.append(answer(42)))

    gc.collect()
    gc.disable()
    try:
        ended, watch = leave_garbage()
        gc.collect()
    finally:
        gc.enable()

    assert watch() is None
    assert [id(call) for call in made] == [ended], "the call was not made in the memory of the one that had ended"
    made[0].send(None)
    assert finish(made[0]) == 42


@pytest.mark.skipif(sys.version_info >= (3, 14), reason="collections go by other generations")
def test_a_dropped_call_is_found_among_the_youngest(breaker: Any) -> None:
    """Its memory may be as old as the process, its permit is not: no full collection is waited for."""

    async def work(holder: list[Any]) -> None:
        await suspend()

    def drop() -> None:
        holder: list[Any] = []
        call = breaker.acall(work, holder)
        holder.append(call)
        call.send(None)

    drop()
    for _ in range(4):
        gc.collect()
    assert spares()
    gc.disable()
    try:
        drop()
        assert inflight(breaker) == 1
        gc.collect(0)
        assert inflight(breaker) == 0
    finally:
        gc.enable()


FROZEN = """
import gc, types
from resilio import circuit_breaker

@types.coroutine
def suspend():
    yield

async def work(holder):
    await suspend()

breaker = circuit_breaker("frozen")

def drop():
    holder = []
    call = breaker.acall(work, holder)
    holder.append(call)
    call.send(None)

drop()
gc.collect()
gc.freeze()
drop()
assert breaker.snapshot().inflight == 1
gc.collect()
assert breaker.snapshot().inflight == 0
print("let go")
"""


def test_a_call_is_found_though_its_memory_was_frozen() -> None:
    """Servers that fork freeze all there is, and kept calls with it, which no collection looks at again."""
    done = subprocess.run([sys.executable, "-c", FROZEN], capture_output=True, text=True, check=False)
    assert done.stdout == "let go\n", done.stderr


def test_who_looks_at_spare_calls_does_not_disturb(breaker: Any) -> None:
    """A debugger may ask the collector for all objects, keep a spare call, and see it come alive."""

    @breaker
    async def answer(x: int) -> int:
        return x

    finish(answer(0))
    seen = spares()
    assert seen
    for spare in seen:
        assert (spare.cr_frame, spare.cr_await, spare.cr_running, spare.cr_suspended) == (None, None, False, False)
        assert "guarded" in repr(spare)
        assert spare.close() is None
        with pytest.raises(RuntimeError, match="cannot reuse"):
            spare.send(None)
        with pytest.raises(RuntimeError, match="cannot reuse"):
            spare.throw(ValueError())
        with pytest.raises(ValueError, match="stage"):
            spare._inner(0)
        assert spare._interrupt(0, 1) == 0

    calls = [answer(n) for n in range(len(seen))]
    assert set(map(id, calls)) & set(map(id, seen))
    assert [finish(call) for call in calls] == list(range(len(seen)))
    del calls
    assert [finish(answer(n)) for n in range(100)] == list(range(100))
    del seen, spare
    assert [finish(answer(n)) for n in range(100)] == list(range(100))
    assert inflight(breaker) == 0


def test_more_calls_than_are_kept_are_freed(breaker: Any) -> None:
    """Of a thousand calls at once most are freed at their end."""

    @breaker
    async def work() -> None:
        await suspend()

    calls = [work() for _ in range(1000)]
    for call in calls:
        call.send(None)
    for call in calls:
        finish(call)
    del calls, call
    assert 0 < len(spares()) <= 64
    assert inflight(breaker) == 0
