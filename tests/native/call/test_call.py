"""The call is a coroutine to everybody else, and gives back what it holds on every way out."""

from __future__ import annotations

import asyncio
import collections.abc
import contextlib
import gc
import inspect
import sys
import threading
import traceback
import types
from collections.abc import Awaitable, Callable, Generator
from typing import Any

import anyio
import pytest
import trio

from resilio import CircuitOpenError, circuit_breaker
from resilio._native import core


def inflight(policy: core.Pipeline) -> int:
    return policy.gates[0].counters()["inflight"]


def counts(policy: core.Pipeline) -> tuple[int, int, int]:
    c = policy.gates[0].counters()
    return c["successes"], c["failures"], c["ignored"]


@types.coroutine
def suspend(value: Any = None) -> Generator[Any, Any, Any]:
    return (yield value)


@pytest.fixture
def breaker() -> core.Pipeline:
    return circuit_breaker()


def test_a_call_is_a_coroutine_to_inspection(breaker: Any) -> None:
    """Inspect, collections.abc and asyncio take the call and its function for the real things."""

    @breaker
    async def fetch(x: int) -> int:
        """Fetch it."""
        return x

    call = fetch(1)

    assert inspect.iscoroutinefunction(fetch)
    assert inspect.iscoroutine(call)
    assert isinstance(call, collections.abc.Coroutine)
    assert asyncio.iscoroutine(call)
    assert (call.__name__, call.__qualname__.rpartition(".")[2]) == ("fetch", "fetch")
    assert call.cr_code is fetch.__wrapped__.__code__
    assert str(inspect.signature(fetch)) == "(x: 'int') -> 'int'"
    assert "fetch" in repr(call)
    assert call.cr_state == inspect.CORO_CREATED
    call.close()
    assert inspect.getcoroutinestate(call) == call.cr_state == inspect.CORO_CLOSED


def test_a_call_says_its_state_as_coroutines_do_since_3_15(breaker: Any) -> None:
    """`inspect.getcoroutinestate` reads `cr_state` since 3.15; guarded calls had none, and it raised AttributeError."""
    seen = []

    @types.coroutine
    def pause() -> Any:
        yield

    @breaker
    async def fetch() -> None:
        seen.append(call.cr_state)
        await pause()

    call = fetch()
    call.send(None)
    seen.append(call.cr_state)
    call.close()
    assert seen == [inspect.CORO_RUNNING, inspect.CORO_SUSPENDED]


def test_nothing_is_admitted_before_the_first_send(breaker: Any) -> None:
    """A call that is only made holds nothing, and its function has not been called."""
    called = []

    async def fetch() -> None:
        called.append(1)

    call = breaker.acall(fetch)

    assert (inflight(breaker), called) == (0, [])
    with pytest.raises(StopIteration):
        call.send(None)
    assert (inflight(breaker), called) == (0, [1])


def test_a_call_that_is_never_awaited_warns_by_name(breaker: Any) -> None:
    """The interpreter's own warning, with the user's function in it, and nothing counted."""

    @breaker
    async def forgotten() -> None: ...

    with pytest.warns(RuntimeWarning, match="coroutine '.*forgotten' was never awaited"):
        forgotten()
        gc.collect()
    assert breaker.gates[0].counters()["calls"] == 0


def test_send_and_throw_pass_through(breaker: Any) -> None:
    """What the user's coroutine yields, is sent and is thrown goes through unchanged."""

    async def talk() -> list[Any]:
        heard = [await suspend("first")]
        try:
            await suspend("second")
        except KeyError as error:
            heard.append(error.args[0])
        return heard

    call = breaker.acall(talk)

    assert call.send(None) == "first"
    assert inflight(breaker) == 1
    assert call.send("one") == "second"
    with pytest.raises(StopIteration) as stop:
        call.throw(KeyError("two"))
    assert stop.value.value == ["one", "two"]
    assert counts(breaker) == (1, 0, 0)


@pytest.mark.filterwarnings("ignore:the .type, exc, tb. signature of throw:DeprecationWarning")
def test_throw_takes_three_arguments(breaker: Any) -> None:
    """The old signature of throw works: a class, a value, a traceback."""
    call = breaker.acall(suspend)
    call.send(None)
    with pytest.raises(KeyError, match="late"):
        call.throw(KeyError, "late", None)
    assert counts(breaker) == (0, 1, 0)


def test_throw_before_the_first_send_calls_nobody(breaker: Any) -> None:
    """An exception thrown into a call that has not begun ends it, and nothing was admitted."""
    call = breaker.acall(suspend)
    with pytest.raises(KeyError):
        call.throw(KeyError("early"))
    with pytest.raises(RuntimeError, match="already awaited"):
        call.send(None)
    assert breaker.gates[0].counters()["calls"] == 0


def test_misuse_is_an_error_of_the_kind_that_coroutines_raise(breaker: Any) -> None:
    """Sending to a fresh call, re-entering, awaiting twice, throwing nonsense."""
    call = breaker.acall(suspend)
    with pytest.raises(TypeError, match="just-started"):
        call.send(1)

    async def reenter() -> None:
        inner.send(None)

    inner = breaker.acall(reenter)
    with pytest.raises(ValueError, match="already executing"):
        inner.send(None)
    with pytest.raises(RuntimeError, match="already awaited"):
        inner.send(None)
    with pytest.raises(RuntimeError, match="already awaited"):
        inner.throw(KeyError())
    call.send(None)
    with pytest.raises(TypeError, match="deriving from BaseException"):
        call.throw(1)
    with pytest.raises(TypeError, match="1 to 3"):
        call.throw()
    call.close()
    assert inflight(breaker) == 0


def test_close_runs_the_users_cleanup_inside_the_permit(breaker: Any) -> None:
    """On close, and on drop, the user's coroutine is closed first and then the permit is given back."""
    seen = []

    async def work() -> None:
        try:
            await suspend()
        finally:
            seen.append(inflight(breaker))

    for end in (lambda call: call.close(), lambda call: None):
        call = breaker.acall(work)
        call.send(None)
        end(call)
        del call
        assert inflight(breaker) == 0
    assert seen == [1, 1]
    assert counts(breaker) == (0, 0, 2)


def test_close_that_is_rejected_or_raises_gives_back_too(breaker: Any) -> None:
    """A coroutine that ignores GeneratorExit, or raises while closed, ends its permit."""

    async def stubborn() -> None:
        try:
            await suspend()
        except GeneratorExit:
            await suspend()

    async def fails() -> None:
        try:
            await suspend()
        finally:
            raise KeyError("cleanup")

    for function, error in ((stubborn, RuntimeError), (fails, KeyError)):
        call = breaker.acall(function)
        call.send(None)
        with pytest.raises(error):
            call.close()
        assert inflight(breaker) == 0


def test_a_cycle_that_holds_a_call_is_collected_and_gives_back(breaker: Any) -> None:
    """A call reachable only from itself: the collector ends it, in another thread too."""

    def leave_a_cycle() -> None:
        async def work(holder: list[Any]) -> None:
            await suspend()

        holder: list[Any] = []
        call = breaker.acall(work, holder)
        holder.append(call)
        call.send(None)

    gc.disable()
    try:
        leave_a_cycle()
        assert inflight(breaker) == 1
        collector = threading.Thread(target=gc.collect)
        collector.start()
        collector.join()
        assert inflight(breaker) == 0
    finally:
        gc.enable()


def test_a_rejection_creates_no_coroutine_and_leaves_no_frame_of_ours(breaker: Any) -> None:
    """CB-15: the function is not called; the traceback holds the caller's frame only."""
    breaker.force_open()
    called = []

    @breaker
    async def fetch() -> None:
        called.append(1)

    async def main() -> None:
        await fetch()

    with pytest.raises(CircuitOpenError) as caught:
        asyncio.run(main())
    assert called == []
    assert traceback.extract_tb(caught.value.__traceback__)[-1].name == "main"


def test_results_of_every_type_come_out_unchanged(breaker: Any) -> None:
    """None, tuples, exceptions and StopIteration itself as results; the carrier is not shared."""

    @breaker
    async def echo(x: Any) -> Any:
        return x

    async def main() -> None:
        for value in (None, (), (1, 2), ValueError("a value"), StopIteration(3), [1], 0, False):
            assert await echo(value) is value
            assert (await breaker.try_acall(echo.__wrapped__, value)).value is value

    asyncio.run(main())


def test_a_kept_stop_iteration_is_never_reused(breaker: Any) -> None:
    """Whoever keeps the StopIteration that carried a result keeps its value."""

    async def one() -> int:
        return 1

    async def two() -> int:
        return 2

    kept = []
    for function in (one, two, one, two):
        call = breaker.acall(function)
        try:
            next(call.__await__())
        except StopIteration as stop:
            kept.append(stop)
    assert [stop.value for stop in kept] == [1, 2, 1, 2]


def test_nested_calls_keep_their_own_results(breaker: Any) -> None:
    """A guarded call inside guarded calls, deep, with results on the way out."""

    @breaker
    async def down(depth: int) -> int:
        return 0 if depth == 0 else 1 + await down(depth - 1)

    assert asyncio.run(down(150)) == 150
    assert counts(breaker)[0] == 151


def test_current_is_the_innermost_call_of_this_task(breaker: Any) -> None:
    """current() answers with the call under way, across suspensions, and with None outside."""

    async def inner() -> None:
        here = core.current()
        assert here is not None
        await asyncio.sleep(0)
        assert core.current() is here

    async def outer() -> Any:
        here = core.current()
        await asyncio.gather(breaker.acall(inner), breaker.acall(inner))
        await breaker.acall(inner)
        assert core.current() is here
        return here

    ended = asyncio.run(breaker.acall(outer))
    assert core.current() is None
    with pytest.raises(RuntimeError, match="ended"):
        ended.fail()


def test_current_can_fail_or_ignore_a_call_that_returns(breaker: Any) -> None:
    """An error inside a 200: the callee returns, and the breaker hears of a failure."""

    def bad() -> str:
        current = core.current()
        assert current is not None
        assert current.gates == breaker.gates
        current.fail()
        return "half an answer"

    async def unsure() -> None:
        current = core.current()
        assert current is not None
        current.first_item()
        current.ignore()

    assert breaker.call(bad) == "half an answer"
    asyncio.run(breaker.acall(unsure))
    assert counts(breaker) == (0, 1, 1)


@pytest.mark.anyio
async def test_task_groups_timeouts_and_shields_see_a_coroutine(breaker: Any) -> None:
    """anyio's task groups and cancel scopes, on both event loops, treat a guarded call like any coroutine."""

    @breaker
    async def forever() -> None:
        await anyio.sleep_forever()

    with anyio.move_on_after(0.01) as scope:
        await forever()
    assert scope.cancelled_caught
    async with anyio.create_task_group() as group:
        group.start_soon(forever)
        await anyio.wait_all_tasks_blocked()
        assert inflight(breaker) == 1
        group.cancel_scope.cancel()
    assert inflight(breaker) == 0
    assert counts(breaker) == (0, 0, 2)


def loops() -> dict[str, Callable[[Awaitable[None]], None]]:
    def with_factory(factory: Callable[[], asyncio.AbstractEventLoop]) -> Callable[[Any], None]:
        def run(main: Any) -> None:
            with asyncio.Runner(loop_factory=factory) as runner:
                runner.run(main)

        return run

    found: dict[str, Callable[[Any], None]] = {
        "asyncio": asyncio.run,
        "debug": lambda main: asyncio.run(main, debug=True),
    }
    with contextlib.suppress(ImportError):
        import uvloop

        found["uvloop"] = with_factory(uvloop.new_event_loop)
    if sys.version_info >= (3, 12):

        def eager() -> asyncio.AbstractEventLoop:
            loop = asyncio.new_event_loop()
            loop.set_task_factory(asyncio.eager_task_factory)
            return loop

        found["eager"] = with_factory(eager)
    return found


@pytest.mark.parametrize("loop", loops())
def test_asyncio_machinery_treats_the_call_as_a_coroutine(breaker: Any, loop: str) -> None:
    """create_task, gather, wait_for, shield, timeout, TaskGroup, names in repr; also debug, uvloop, eager tasks."""

    @breaker
    async def work(x: int, delay: float = 0.0) -> int:
        await asyncio.sleep(delay)
        return x

    async def main() -> None:
        assert await asyncio.create_task(work(1)) == 1
        assert await asyncio.gather(work(2), work(3)) == [2, 3]
        assert await asyncio.wait_for(work(4), 60) == 4
        assert await asyncio.shield(work(5)) == 5
        async with asyncio.TaskGroup() as group:
            tasks = [group.create_task(work(i, 0.001)) for i in range(3)]
        assert [task.result() for task in tasks] == [0, 1, 2]
        with pytest.raises(TimeoutError):
            async with asyncio.timeout(0.001):
                await work(6, 60)
        task = asyncio.create_task(work(7, 60))
        await asyncio.sleep(0)
        assert "work" in repr(task)
        assert task.get_stack()
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
        assert task.cancelled()

    loops()[loop](main())
    assert inflight(breaker) == 0
    assert counts(breaker)[2] == 2


def test_trio_sees_the_users_frame(breaker: Any) -> None:
    """trio accepts the call in start_soon, and its task tree lists the user's frame once."""
    looked = trio.Event()

    @breaker
    async def work() -> None:
        await looked.wait()

    async def main() -> None:
        async with trio.open_nursery() as nursery:
            nursery.start_soon(work)
            await trio.testing.wait_all_tasks_blocked()
            task = next(iter(nursery.child_tasks))
            code = work.__wrapped__.__code__
            assert [frame.f_code for frame, _ in task.iter_await_frames()].count(code) == 1
            looked.set()

    trio.run(main)
    assert counts(breaker) == (1, 0, 0)


def test_origin_tracking_shows_where_a_call_was_made(breaker: Any) -> None:
    """sys.set_coroutine_origin_tracking_depth works for calls as for coroutines."""
    before = sys.get_coroutine_origin_tracking_depth()
    sys.set_coroutine_origin_tracking_depth(2)
    try:
        call = breaker.acall(suspend)
    finally:
        sys.set_coroutine_origin_tracking_depth(before)
    assert call.cr_origin[0][2] == "test_origin_tracking_shows_where_a_call_was_made"
    call.close()


@pytest.mark.parametrize("n", [0, 1, 4, 5, 9])
def test_arguments_of_any_number_arrive(breaker: Any, n: int) -> None:
    """Positional and keyword arguments, fewer and more than fit into the call itself."""

    async def echo(*args: Any, **kwargs: Any) -> Any:
        return args, kwargs

    args = tuple(object() for _ in range(n))
    kwargs = {f"k{i}": object() for i in range(n)}
    before = [sys.getrefcount(arg) for arg in args]

    assert asyncio.run(breaker.acall(echo, *args, **kwargs)) == (args, kwargs)
    assert [sys.getrefcount(arg) for arg in args] == before


def test_more_gates_than_fit_inline_are_admitted_and_settled() -> None:
    """Nine gates in one pipeline: all hold during the call, none after it, one rejection gives all back."""
    breakers = [circuit_breaker() for _ in range(9)]
    nine = core.Pipeline(tuple(b.gates[0] for b in breakers))

    async def look() -> list[int]:
        await asyncio.sleep(0)
        return [inflight(b) for b in breakers]

    assert asyncio.run(nine.acall(look)) == [1] * 9
    assert nine.call(lambda: [inflight(b) for b in breakers]) == [1] * 9
    permit = nine.try_acquire()
    assert [inflight(b) for b in breakers] == [1] * 9
    permit.success()
    breakers[8].force_open()
    assert not nine.try_acquire()
    with pytest.raises(CircuitOpenError):
        nine.call(print)
    assert [inflight(b) for b in breakers] == [0] * 9


def test_an_awaitable_of_ones_own_is_driven(breaker: Any) -> None:
    """acall awaits whatever the function returns: custom awaitables, futures, tasks; a plain value is the result."""

    class Later:
        def __await__(self) -> Generator[Any, Any, int]:
            yield from asyncio.sleep(0).__await__()
            return 7

    async def main() -> None:
        loop = asyncio.get_running_loop()
        future = loop.create_future()
        loop.call_soon(future.set_result, 8)
        assert await breaker.acall(Later) == 7
        assert await breaker.acall(lambda: future) == 8
        assert await breaker.acall(lambda: 9) == 9
        with pytest.raises(ZeroDivisionError):
            await breaker.acall(lambda: 1 / 0)

    asyncio.run(main())
    assert counts(breaker) == (3, 1, 0)


def test_a_sync_function_that_returns_an_awaitable_settles_when_that_ends(breaker: Any) -> None:
    """DC-01: a lambda over a coroutine function, and one that returns a future, hold their permit to the end."""

    async def work(fail: bool) -> int:
        await asyncio.sleep(0)
        if fail:
            raise KeyError
        return 1

    guarded = breaker(lambda fail: work(fail))  # noqa: PLW0108 - a lambda that returns an awaitable is the point
    scheduled = breaker(lambda fail: asyncio.ensure_future(work(fail)))

    async def main() -> None:
        for function in (guarded, scheduled):
            pending = function(False)
            assert inflight(breaker) == 1
            assert await pending == 1
            await asyncio.sleep(0)
            with pytest.raises(KeyError):
                await function(True)
            cancelled = asyncio.ensure_future(function(False))
            await asyncio.sleep(0)
            cancelled.cancel()
            with pytest.raises(asyncio.CancelledError):
                await cancelled
            await asyncio.sleep(0)

    asyncio.run(main())
    assert inflight(breaker) == 0
    assert counts(breaker) == (2, 2, 2)
