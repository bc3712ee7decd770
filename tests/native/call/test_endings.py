"""What must not end a process: code of the user's that comes back into the call, the gate or the policy asking it."""

from __future__ import annotations

import asyncio
import contextlib
import functools
import gc
import types
import weakref
from collections.abc import AsyncIterator, Callable, Generator, Iterator
from typing import Any

import pytest

from resilio import PipelineWarning, bulkhead, circuit_breaker, current, events, pipeline, rate_limit
from resilio._native import core
from resilio._native.gates import BreakerGate


@types.coroutine
def suspend() -> Generator[None, Any, Any]:
    return (yield)


def counters(policy: core.Pipeline) -> dict[str, int]:
    return policy.gates[0].counters()


def settled(policy: core.Pipeline) -> bool:
    """Nothing is held, and every call is counted as exactly one thing."""
    c = counters(policy)
    ends = ("successes", "failures", "ignored", "rejected", "cancelled")
    return (c["inflight"], c["queued"], c["calls"]) == (0, 0, sum(c[end] for end in ends))


class Meddler:
    """Drives a call from where it must not be driven, and notes what it is told."""

    def __init__(self) -> None:
        self.call: Any = None
        self.told: list[str] = []

    def __call__(self, *_: object, **__: object) -> int:
        if self.call is not None:
            for drive in (lambda: self.call.send(None), self.call.close, lambda: self.call.throw(KeyError)):
                try:
                    drive()
                    self.told.append("driven")
                except ValueError as error:
                    self.told.append(str(error))
        return 1


async def count(*args: object) -> int:
    return len(args)


def run(call: Any) -> Any:
    with pytest.raises(StopIteration) as stop:
        call.send(None)
    return stop.value.value


EXECUTING = "coroutine already executing"


def test_a_cost_function_cannot_drive_the_call_that_asks_it() -> None:
    """send, close and throw from within the admission are told that the call is running; it is admitted once."""
    meddler = Meddler()
    for policy in (bulkhead(5, weight=meddler), rate_limit("100/s", cost=meddler)):
        meddler.told.clear()
        meddler.call = policy.acall(count, *"twenty arguments are kept on the heap")
        assert run(meddler.call) == 37
        assert meddler.told == [EXECUTING] * 3
        assert (counters(policy)["successes"], settled(policy)) == (1, True)


def test_a_listener_cannot_drive_the_call_that_it_hears_of() -> None:
    """The same while a rejection is told."""
    breaker, meddler = circuit_breaker(), Meddler()
    breaker.force_open()
    breaker.on_event(meddler, kinds=[events.Rejected])
    meddler.call = breaker.acall(count, *range(20))
    with contextlib.suppress(Exception):
        meddler.call.send(None)
    assert meddler.told == [EXECUTING] * 3
    assert settled(breaker)


def test_a_cost_function_cannot_drive_the_call_after_a_wait() -> None:
    """A bulkhead in which the call has waited, then a limit whose cost function drives the call."""
    meddler = Meddler()
    outer, inner = bulkhead(1, max_queued=1, max_wait=60), rate_limit("100/s", cost=meddler)
    both = pipeline(outer, inner)

    async def main() -> None:
        permit = outer.acquire()
        meddler.call = both.acall(count, 1, 2)
        task = asyncio.ensure_future(meddler.call)
        await asyncio.sleep(0)
        permit.success()
        assert await task == 2

    asyncio.run(main())
    assert meddler.told == [EXECUTING] * 3
    assert settled(outer)
    assert settled(inner)


def test_an_argument_that_dies_with_its_call_cannot_drive_it() -> None:
    """A function that keeps none of its arguments: the last reference to one goes after it has returned."""
    breaker, meddler = circuit_breaker(), Meddler()

    class Argument:
        def __del__(self) -> None:
            meddler()

    class Function:
        def __call__(self, *_: object) -> Any:
            return suspend()

    meddler.call = breaker.acall(Function(), Argument())
    meddler.call.send(None)
    assert meddler.told == [EXECUTING] * 3
    assert run(meddler.call) is None
    assert settled(breaker)


def test_a_judge_that_replaces_itself_is_not_freed_while_it_judges() -> None:
    """judge_value and judge_error drop the last reference to themselves, and their answers count."""
    breaker = circuit_breaker()
    gate = breaker.gates[0]

    def judge(*parts: object) -> int:
        gate.judge_value = gate.judge_error = None
        return len(parts[:2])

    gate.judge_value = functools.partial(judge, [object()])
    assert breaker.call(max, 1, 2) == 2
    gate.judge_error = functools.partial(judge, [object()])
    with pytest.raises(ZeroDivisionError):
        breaker.call(lambda: 1 / 0)
    assert (counters(breaker)["ignored"], gate.judge_value, gate.judge_error) == (2, None, None)


@pytest.mark.parametrize("make", [lambda f: bulkhead(5, weight=f), lambda f: rate_limit("100/s", cost=f)])
def test_a_cost_function_that_replaces_itself_is_not_freed_while_it_answers(make: Callable[[Any], Any]) -> None:
    """It reconfigures the policy that asks it; the policy keeps no function of before."""
    option = {"bulkhead": "weight", "rate_limit": "cost"}

    class Cost:
        def __call__(self, *_: object) -> int:
            policy.reconfigure(**{option[policy.kind]: 1})
            return 2

    cost = Cost()
    policy = make(cost)
    gone = weakref.ref(cost)
    del cost
    assert policy.call(max, 1, 2) == 2
    gc.collect()
    assert gone() is None
    assert settled(policy)


def test_reconfiguring_without_end_keeps_nothing_of_before() -> None:
    """A hundred weight and cost functions, one after the other: only the last of each is alive."""
    pool, limit = bulkhead(5), rate_limit("100/s")
    alive: weakref.WeakSet[Any] = weakref.WeakSet()
    for _ in range(100):
        for policy, option in ((pool, "weight"), (limit, "cost")):
            function = functools.partial(max, 1)
            alive.add(function)
            policy.reconfigure(**{option: function})
    del function
    gc.collect()
    assert len(alive) == 2


def test_a_rejection_in_a_cycle_with_its_policy_is_collected() -> None:
    """An application keeps the last rejection, and the policy's predicate leads back to the application."""

    class Application:
        def __init__(self) -> None:
            self.breaker = circuit_breaker(failed_if=self.is_bad)
            self.breaker.force_open()
            self.last = self.breaker.try_acquire()

        def is_bad(self, _: object) -> bool:
            return False

    application = weakref.ref(Application())
    gc.collect()
    assert application() is None


def test_a_waiter_of_a_closed_loop_goes_with_it() -> None:
    """A loop is closed with a task that waits long: nothing of this thread keeps it, and its place is given back."""
    pool = bulkhead(1, max_queued=1, max_wait=60)
    permit = pool.acquire()
    loop = asyncio.new_event_loop()
    task = loop.create_task(pool.aacquire())
    loop.run_until_complete(asyncio.sleep(0))
    task._log_destroy_pending = False  # type: ignore[attr-defined]
    loop.close()
    del task, loop
    gc.collect()
    assert counters(pool)["queued"] == 0
    permit.success()
    assert settled(pool)


def test_a_stream_that_the_collector_finds_in_a_cycle_cleans_up_to_the_end() -> None:
    """Its event loop closes it, as a stream without a guard: the user's cleanup may await, inside its permit."""
    pool, ends = bulkhead(1), []

    @pool
    async def numbers() -> AsyncIterator[int]:
        try:
            yield 1
        finally:
            await asyncio.sleep(0)
            ends.append(counters(pool)["inflight"])

    async def main() -> None:
        stream = numbers()
        await anext(stream)
        cycle: list[Any] = [stream]
        cycle.append(cycle)
        del stream, cycle
        gc.collect()
        for _ in range(100):
            await asyncio.sleep(0)

    asyncio.run(main())
    assert ends == [1]
    assert settled(pool)


def test_a_group_that_contains_itself_is_a_failure() -> None:
    """What a group says of its leaves is read from the group, not from an attribute; nesting has no end in memory."""

    class Mirror(ExceptionGroup[Exception]):
        @property
        def exceptions(self) -> Any:
            return (self,)

    def fail(error: Exception) -> None:
        raise error

    breaker = circuit_breaker(consecutive=None)
    nested: Exception = KeyError()
    for _ in range(50_000):
        nested = ExceptionGroup("", [nested])
    for error in (Mirror("", [KeyError()]), nested):
        with pytest.raises(ExceptionGroup):
            breaker.call(fail, error)
    while isinstance(nested, ExceptionGroup):  # let go of it from the outside in: older interpreters recurse
        nested = nested.exceptions[0]
    assert counters(breaker)["failures"] == 2


def test_guards_of_guards_have_an_end() -> None:
    """A hundred thousand native guards around each other: RecursionError to call, and no crash to free."""
    breaker, guarded = circuit_breaker(), max
    for _ in range(100_000):
        guarded = core.Guard(breaker, guarded, "sync")
    with pytest.raises(RecursionError):
        guarded(1, 2)
    assert settled(breaker)
    del guarded


def test_gates_come_before_calls() -> None:
    """A pipeline takes its gates once, be they none, and makes no call before that: a call has room for its gates."""
    gates = tuple(circuit_breaker().gates[0] for _ in range(6))
    empty = core.Pipeline(())
    call = empty.acall(count)
    with pytest.raises(RuntimeError, match="once"):
        empty.__init__(gates)  # type: ignore[misc]
    assert run(call) == 0
    unmade = core.Pipeline.__new__(core.Pipeline)
    for face in (unmade.acall, unmade.call, unmade.try_call):
        with pytest.raises(RuntimeError, match="no gates yet"):
            face(max, 1, 2)
    for face in (unmade.aacquire, unmade.acquire, unmade.try_acquire):
        with pytest.raises(RuntimeError, match="no gates yet"):
            face()
    unmade.__init__(gates)  # type: ignore[misc]
    assert unmade.call(max, 1, 2) == 2


def test_gates_that_were_not_initialised_are_harmless() -> None:
    """A bare Gate, and a BreakerGate made without __init__, answer what there is to say."""
    assert core.Gate().drain_changes() == []
    gate = BreakerGate.__new__(BreakerGate)
    through = core.Pipeline((gate,))
    assert through.call(max, 1, 2) == 2
    with pytest.raises(ZeroDivisionError):
        through.call(lambda: 1 / 0)
    assert gate.counters()["calls"] == 2


def test_settling_a_call_that_ends_meanwhile_is_told() -> None:
    """current().settle() reads a number whose __float__ ends the call: its slot is not touched any more."""
    limit, views = rate_limit("100/s"), []

    async def fetch() -> None:
        views.append(current())
        await suspend()

    call = limit.acall(fetch)
    call.send(None)
    calls = [call]
    del call

    class Tokens:
        def __float__(self) -> float:
            calls.clear()
            return 5.0

    with pytest.raises(RuntimeError, match="ended already"):
        views[0].settle(limit, requests=Tokens())
    with pytest.raises(RuntimeError, match="ended already"):
        views[0].settle(limit, requests=5)
    assert settled(limit)


def test_trying_a_function_that_returns_a_future_answers_with_a_result() -> None:
    """As with any other awaitable that a plain function returns."""
    breaker = circuit_breaker()

    def answer(value: Any) -> asyncio.Future[Any]:
        future = asyncio.get_running_loop().create_future()
        future.set_exception(value) if isinstance(value, Exception) else future.set_result(value)
        return future

    async def main() -> None:
        assert (await breaker.try_acall(answer, 3)).unwrap() == 3
        assert (await breaker.try_acall(answer, KeyError())).outcome == "failure"

    asyncio.run(main())
    assert settled(breaker)


def test_a_rejection_to_block_an_event_loop_is_counted_and_told_once() -> None:
    """It is a rejection like any other: not cancelled as well, and listeners hear of it."""
    pool, heard = bulkhead(1, max_queued=1, max_wait=60), []
    pool.on_event(heard.append, kinds=[events.Rejected])

    async def main() -> None:
        permit = pool.acquire()
        assert pool.try_call(max, 1, 2).error.reason == "would_block"
        permit.success()

    asyncio.run(main())
    assert [event.reason for event in heard] == ["would_block"]
    assert (counters(pool)["rejected"], counters(pool)["cancelled"]) == (1, 0)
    assert settled(pool)


def test_a_shadow_pass_that_an_inner_gate_rejects_is_counted_as_cancelled() -> None:
    """It was asked, and neither ended nor was rejected here."""
    shadow, rejecting = bulkhead(1, enforce=False), circuit_breaker()
    rejecting.force_open()
    held = shadow.acquire()
    with pytest.warns(PipelineWarning):
        both = pipeline(shadow, rejecting)
    assert not both.try_acquire()
    held.success()
    assert (counters(shadow)["cancelled"], counters(shadow)["would_reject"]) == (1, 1)
    assert settled(shadow)


def test_an_ignored_permit_is_told() -> None:
    """Listeners to ends of calls hear of all that ends by hand; what is dropped is counted only."""
    breaker, heard = circuit_breaker(), []
    breaker.on_event(heard.append, kinds=[events.Settled])
    breaker.acquire().ignore()
    breaker.acquire().success()
    dropped = breaker.acquire()
    del dropped
    assert [event.outcome for event in heard] == ["ignored", "success"]
    assert counters(breaker)["ignored"] == 2


class Bare:
    """An awaitable whose iterator has neither send nor throw."""

    def __await__(self) -> Iterator[None]:
        return iter([None, None])


class Odd:
    """An awaitable whose throw ends it by a StopIteration that was never initialised."""

    def __await__(self) -> Odd:
        return self

    def __iter__(self) -> Odd:
        return self

    def __next__(self) -> None:
        return None

    def throw(self, *_: object) -> None:
        raise StopIteration.__new__(StopIteration)


@pytest.mark.parametrize("thrown", [(KeyError,), (KeyError("x"),), (KeyError, "x", None)])
def test_every_form_of_throw_ends_an_awaitable_that_has_none(thrown: tuple[Any, ...]) -> None:
    """The exception comes out of the call, as it comes out of an await."""
    breaker = circuit_breaker()
    call = breaker.call(Bare)
    call.send(None)
    with pytest.raises(KeyError):
        call.throw(*thrown)
    assert settled(breaker)


def test_a_stop_without_a_value_means_none() -> None:
    """A StopIteration that has no value, not even None."""
    breaker = circuit_breaker()
    call = breaker.call(Odd)
    call.send(None)
    with pytest.raises(StopIteration) as stop:
        call.throw(KeyError())
    assert stop.value.value is None
    assert settled(breaker)
