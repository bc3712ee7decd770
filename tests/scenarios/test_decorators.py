"""Decorators: every shape of callable is guarded honestly, or rejected where it is decorated (DC-01, DC-02)."""

from __future__ import annotations

import asyncio
import contextlib
import copy
import functools
import inspect
import pickle
import sys
from collections.abc import AsyncIterator, Iterator
from typing import Any

import anyio
import pytest

import resilio
from resilio import CircuitOpenError, bulkhead, circuit_breaker, custom_gate, pipeline, policy_of, rate_limit

# ---- the shapes ---------------------------------------------------------------------------------------------------


class Boom(Exception):
    """What the callee raises."""


def work(fail: bool) -> str:
    if fail:
        raise Boom
    return "done"


def function(fail: bool = False) -> str:
    """Do it."""
    return work(fail)


async def coroutine(fail: bool = False) -> str:
    """Do it."""
    await anyio.lowlevel.checkpoint()
    return work(fail)


def generator(fail: bool = False) -> Iterator[str]:
    """Do it."""
    yield "item"
    yield work(fail)


async def async_generator(fail: bool = False) -> AsyncIterator[str]:
    """Do it."""
    yield "item"
    await anyio.lowlevel.checkpoint()
    yield work(fail)


class Called:
    def __call__(self, fail: bool = False) -> str:
        return work(fail)


class CalledAsync:
    async def __call__(self, fail: bool = False) -> str:
        return await coroutine(fail)


class CalledGenerator:
    def __call__(self, fail: bool = False) -> Iterator[str]:
        yield from generator(fail)


class Methods:
    def method(self, fail: bool = False) -> str:
        return work(fail)

    async def async_method(self, fail: bool = False) -> str:
        return await coroutine(fail)


def guarded_in_class(decorate: Any, wrap: Any, guard_first: bool, function: Any) -> Any:
    """A class attribute: the policy below or above staticmethod or classmethod, or without either."""
    attribute = wrap(decorate(function)) if guard_first else decorate(wrap(function))
    return type("Holder", (), {"attribute": attribute})().attribute


def as_method(decorate: Any, function: Any) -> Any:
    return guarded_in_class(decorate, lambda guarded: guarded, True, lambda self, fail=False: function(fail))


def as_static(decorate: Any, guard_first: bool, function: Any) -> Any:
    return guarded_in_class(decorate, staticmethod, guard_first, function)


def as_class(decorate: Any, guard_first: bool, function: Any) -> Any:
    if inspect.iscoroutinefunction(function):

        async def attribute(cls: type, fail: bool = False) -> str:
            assert cls.__name__ == "Holder"
            return await function(fail)

    else:

        def attribute(cls: type, fail: bool = False) -> str:
            assert cls.__name__ == "Holder"
            return function(fail)

    return guarded_in_class(decorate, classmethod, guard_first, attribute)


SHAPES = {
    "def": lambda policy: policy(function),
    "async def": lambda policy: policy(coroutine),
    "generator": lambda policy: policy(generator),
    "async generator": lambda policy: policy(async_generator),
    "method": lambda policy: as_method(policy, function),
    "bound method": lambda policy: policy(Methods().method),
    "bound async method": lambda policy: policy(Methods().async_method),
    "policy over staticmethod": lambda policy: as_static(policy, False, function),
    "policy over async staticmethod": lambda policy: as_static(policy, False, coroutine),
    "staticmethod over policy": lambda policy: as_static(policy, True, function),
    "policy over classmethod": lambda policy: as_class(policy, False, function),
    "policy over async classmethod": lambda policy: as_class(policy, False, coroutine),
    "classmethod over policy": lambda policy: as_class(policy, True, function),
    "partial": lambda policy: policy(functools.partial(function)),
    "partial of async": lambda policy: policy(functools.partial(coroutine)),
    "partial of partial of async": lambda policy: policy(functools.partial(functools.partial(coroutine))),
    "partial of generator": lambda policy: policy(functools.partial(generator)),
    "partial of async generator": lambda policy: policy(functools.partial(async_generator)),
    "object": lambda policy: policy(Called()),
    "object with async call": lambda policy: policy(CalledAsync()),
    "object with generator call": lambda policy: policy(CalledGenerator()),
    "partial of object with async call": lambda policy: policy(functools.partial(CalledAsync())),
    "lambda": lambda policy: policy(lambda fail=False: work(fail)),
    "lambda to awaitable": lambda policy: policy(lambda fail=False: coroutine(fail)),
    "cached": lambda policy: policy(functools.lru_cache(function)),
    "guarded already": lambda policy: policy(circuit_breaker(consecutive=None)(function)),
    "guarded async already": lambda policy: policy(circuit_breaker(consecutive=None)(coroutine)),
    "guarded generator already": lambda policy: policy(circuit_breaker(consecutive=None)(generator)),
    "partial of guarded": lambda policy: policy(functools.partial(circuit_breaker(consecutive=None)(coroutine))),
}


async def run(call: Any) -> Any:
    """Drive whatever a call gives to its end, as its consumer would."""
    if inspect.isasyncgen(call):
        return [item async for item in call][-1]
    if inspect.isgenerator(call):
        return list(call)[-1]
    return await call if inspect.isawaitable(call) else call


@pytest.fixture(params=SHAPES)
def shape(request: pytest.FixtureRequest) -> Any:
    return SHAPES[request.param]


@pytest.mark.anyio
async def test_dc01_every_shape_is_guarded(shape: Any) -> None:
    """DC-01: a success is a success, a failure a failure, and nothing is held afterwards."""
    policy = circuit_breaker(consecutive=None)
    guarded = shape(policy)
    assert await run(guarded()) == "done"
    with pytest.raises(Boom):
        await run(guarded(True))
    with pytest.raises(Boom):
        await run(guarded(fail=True))
    seen = policy.snapshot()
    assert (seen.calls, seen.successes, seen.failures, seen.inflight) == (3, 1, 2, 0)


@pytest.mark.anyio
async def test_dc01_every_shape_is_rejected_without_a_call(shape: Any) -> None:
    """DC-01: an open breaker rejects before the callee runs."""
    policy = circuit_breaker(consecutive=None)
    guarded = shape(policy)
    policy.force_open()
    with pytest.raises(CircuitOpenError):
        await run(guarded(True))
    seen = policy.snapshot()
    assert (seen.rejected, seen.failures, seen.inflight) == (1, 0, 0)


@pytest.mark.anyio
async def test_dc01_every_shape_stays_what_it_was(shape: Any) -> None:
    """DC-01: a coroutine function stays one, a generator function too, and the signature is the same."""
    bare, guarded = shape(lambda function: function), shape(circuit_breaker())
    bare = getattr(bare, "__wrapped__", bare)
    for question in (inspect.isgeneratorfunction, inspect.isasyncgenfunction):
        assert question(guarded) == question(_called(bare)), question
    assert inspect.iscoroutinefunction(guarded) == inspect.iscoroutinefunction(_called(bare))
    assert asyncio.iscoroutinefunction(guarded) == inspect.iscoroutinefunction(_called(bare))
    assert inspect.signature(guarded) == inspect.signature(bare)


def _called(fn: Any) -> Any:
    """What runs: the function under partials, or an object's __call__."""
    while isinstance(fn, functools.partial):
        fn = fn.func
    return fn if inspect.isroutine(fn) else type(fn).__call__


@pytest.mark.parametrize("fn", [function, coroutine, generator, async_generator])
def test_dc01_name_and_documentation_survive(fn: Any) -> None:
    """DC-01: what functools.wraps keeps is kept, marks of other decorators included."""
    fn.marked = "by another decorator"
    guarded = circuit_breaker(fn)
    for attribute in ("__name__", "__qualname__", "__module__", "__doc__", "__annotations__", "__defaults__", "marked"):
        assert getattr(guarded, attribute) == getattr(fn, attribute), attribute
    assert guarded.__wrapped__ is fn


guarded_at_module_level = circuit_breaker("dc01-pickle")(function)


def test_dc01_a_guarded_function_is_pickled_by_name() -> None:
    """DC-01: a guarded function of a module crosses processes as a plain one does, and copies are the same."""
    globals()["function_pickled"] = guarded = circuit_breaker(function)
    guarded.__qualname__ = "function_pickled"
    assert pickle.loads(pickle.dumps(guarded)) is guarded
    assert copy.copy(guarded) is guarded
    assert copy.deepcopy(guarded) is guarded


def test_dc01_methods_share_the_state_of_their_policy() -> None:
    """DC-01: a decorated method has one state for all instances, and binds as methods do."""
    policy = circuit_breaker()

    class Client:
        def __init__(self, name: str) -> None:
            self.name = name

        @policy
        def get(self, path: str) -> str:
            return f"{self.name}{path}"

    class Special(Client):
        @policy
        def get(self, path: str) -> str:
            return "special " + super().get(path)

    assert (Client("a").get("/x"), Client("b").get("/y")) == ("a/x", "b/y")
    assert Client.get(Client("c"), "/z") == "c/z"
    assert Special("d").get("/") == "special d/"
    assert policy.snapshot().successes == 5
    assert Client.get.__qualname__.endswith("Client.get")


REJECTED = {
    "class": (Methods, "guard its methods"),
    "property": (property(function), "put the policy under @property"),
    "cached_property": (functools.cached_property(function), "put the policy under @property"),
    "partialmethod": (functools.partialmethod(function), "the function that it is made of"),
    "singledispatchmethod": (functools.singledispatchmethod(function), "the function that it is made of"),
    "contextmanager": (contextlib.contextmanager(generator), "below that decorator"),
    "asynccontextmanager": (contextlib.asynccontextmanager(async_generator), "below that decorator"),
    "partial of contextmanager": (functools.partial(contextlib.contextmanager(generator)), "below that decorator"),
    "number": (3, "cannot be called"),
    "None": (None, "cannot be called"),
}


@pytest.mark.parametrize("kind", REJECTED)
def test_dc01_what_cannot_be_guarded_is_rejected_at_decoration(kind: str) -> None:
    """DC-01: a TypeError where it is decorated, which says what to do instead."""
    subject, instead = REJECTED[kind]
    with pytest.raises(TypeError, match=instead):
        circuit_breaker("dc01")(subject)


def test_dc01_a_coroutine_and_a_policy_are_rejected_with_what_to_do() -> None:
    """DC-01: one call's coroutine is no function, and a policy is guarded by pipeline()."""
    one_call = coroutine()
    with pytest.raises(TypeError, match="acall"):
        circuit_breaker("dc01")(one_call)
    one_call.close()
    with pytest.raises(TypeError, match="pipeline"):
        circuit_breaker("dc01")(circuit_breaker("other"))


def test_dc01_the_policy_below_contextmanager_holds_its_permit_for_the_block() -> None:
    """DC-01: what the rejection recommends does what it says."""
    policy = circuit_breaker()

    @contextlib.contextmanager
    @policy
    def session() -> Iterator[str]:
        yield "session"

    with session() as opened:
        assert (opened, policy.snapshot().inflight) == ("session", 1)
    with pytest.raises(Boom), session():
        raise Boom
    seen = policy.snapshot()
    assert (seen.successes, seen.failures, seen.inflight) == (1, 1, 0)


@pytest.mark.anyio
async def test_dc01_a_lambda_that_returns_an_async_context_manager_is_a_type_error() -> None:
    """DC-01: a guard around it could not see the block, so it does not pretend."""
    policy = circuit_breaker()
    manager = contextlib.asynccontextmanager(async_generator)
    with pytest.raises(TypeError, match="async context manager"):
        await policy(lambda: manager(False))()
    assert policy.snapshot().inflight == 0


# ---- streams ------------------------------------------------------------------------------------------------------


def test_the_permit_of_a_generator_lasts_to_its_end() -> None:
    """Nothing is admitted before the first item is asked for; the permit goes back with the last."""
    policy = circuit_breaker()
    stream = policy(generator)()
    assert policy.snapshot().calls == 0
    assert next(stream) == "item"
    assert policy.snapshot().inflight == 1
    assert list(stream) == ["done"]
    assert (policy.snapshot().inflight, policy.snapshot().successes) == (0, 1)


def test_wrong_arguments_of_a_generator_are_told_at_the_call() -> None:
    """As without a guard: not at the first item."""
    with pytest.raises(TypeError, match="surprise"):
        circuit_breaker(generator)(surprise=1)


def test_a_generator_keeps_send_throw_and_its_result() -> None:
    """Everything that a consumer says reaches the user's generator, and everything it answers comes back."""

    @circuit_breaker
    def talk() -> Any:
        heard = yield "first"
        while heard != "bye":
            try:
                heard = yield f"heard {heard}"
            except ValueError as error:
                heard = yield f"caught {error}"
        return "result"

    stream = talk()
    assert next(stream) == "first"
    assert stream.send("a") == "heard a"
    assert stream.throw(ValueError("x")) == "caught x"
    assert stream.send("b") == "heard b"
    assert next(stream) == "heard None"
    assert stream.send("c") == "heard c"
    with pytest.raises(StopIteration) as stop:
        stream.send("bye")
    assert stop.value.value == "result"
    assert policy_of(talk).snapshot().successes == 1


def test_throwing_into_the_first_item_reaches_the_generator() -> None:
    """An exception of the consumer passes through the user's generator, and is judged as the stream's own."""
    policy = circuit_breaker()
    stream = policy(generator)()
    next(stream)
    with pytest.raises(Boom):
        stream.throw(Boom())
    assert policy.snapshot().failures == 1


def test_a_closed_or_dropped_generator_is_closed_before_its_permit_goes_back() -> None:
    """The user's cleanup runs inside the permit, and a consumer that leaves says nothing about the producer."""
    policy = circuit_breaker()
    inside: list[int] = []

    @policy
    def stream() -> Iterator[int]:
        try:
            yield from range(9)
        finally:
            inside.append(policy.snapshot().inflight)

    for leave_after in (1, 2, 3):
        for item in stream():
            if item + 1 == leave_after:
                break
    closed = stream()
    next(closed)
    closed.close()
    seen = policy.snapshot()
    assert (inside, seen.ignored, seen.failures, seen.inflight) == ([1, 1, 1, 1], 4, 0, 0)


def test_an_empty_generator_and_one_that_fails_at_once_are_settled() -> None:
    """The end may come with the first step."""
    policy = circuit_breaker()

    @policy
    def stream(fail: bool) -> Iterator[int]:
        if fail:
            raise Boom
        yield from ()

    assert list(stream(False)) == []
    with pytest.raises(Boom):
        next(stream(True))
    assert (policy.snapshot().successes, policy.snapshot().failures) == (1, 1)


@pytest.mark.anyio
async def test_an_async_generator_keeps_asend_athrow_and_aclose() -> None:
    """Everything that a consumer says reaches the user's generator, and everything it answers comes back."""
    policy = circuit_breaker()
    closed: list[int] = []

    @policy
    async def talk() -> Any:
        heard = yield "first"
        try:
            while True:
                try:
                    heard = yield f"heard {heard}"
                except ValueError as error:
                    heard = yield f"caught {error}"
        finally:
            await anyio.lowlevel.checkpoint()
            closed.append(policy.snapshot().inflight)

    stream = talk()
    assert await stream.__anext__() == "first"
    assert await stream.asend("a") == "heard a"
    assert await stream.athrow(ValueError("x")) == "caught x"
    assert await stream.asend("b") == "heard b"
    await stream.aclose()
    assert (closed, policy.snapshot().ignored, policy.snapshot().inflight) == ([1], 1, 0)


@pytest.mark.anyio
async def test_a_cancelled_async_generator_gives_its_permit_back_and_counts_nothing() -> None:
    """A cancellation is no outcome, also in the middle of a stream."""
    policy = circuit_breaker()
    cleaned: list[int] = []

    @policy
    async def stream() -> AsyncIterator[int]:
        try:
            yield 1
            await anyio.sleep_forever()
        finally:
            cleaned.append(policy.snapshot().inflight)

    async def consume() -> None:
        async for _ in stream():
            pass

    async with anyio.create_task_group() as tasks:
        tasks.start_soon(consume)
        await anyio.wait_all_tasks_blocked()
        tasks.cancel_scope.cancel()
    seen = policy.snapshot()
    assert (cleaned, seen.ignored, seen.failures, seen.inflight) == ([1], 1, 0, 0)


def test_async_generators_left_open_are_closed_once_when_their_loop_ends() -> None:
    """The loop knows the guarded generator alone: closing it closes the user's, and nothing clashes."""
    policy = circuit_breaker()
    closed: list[str] = []
    problems: list[Any] = []

    @policy
    async def stream(name: str) -> AsyncIterator[int]:
        try:
            yield 1
            yield 2
        finally:
            await asyncio.sleep(0)
            closed.append(name)

    async def main() -> list[Any]:
        asyncio.get_running_loop().set_exception_handler(lambda _, context: problems.append(context))
        kept = [stream(name) for name in "abc"]
        for one in kept:
            await one.__anext__()
        async for _ in stream("dropped"):
            break
        for _ in range(3):  # asyncio closes a dropped generator in a task of its own
            await asyncio.sleep(0)
        return kept

    kept = asyncio.run(main())
    assert (sorted(closed), problems) == (["a", "b", "c", "dropped"], [])
    assert (len(kept), policy.snapshot().ignored, policy.snapshot().inflight) == (3, 4, 0)


def test_an_async_generator_dropped_without_a_loop_gives_its_permit_back() -> None:
    """Driven by hand and forgotten: what can be closed at once is closed, and the permit is not lost."""
    policy = circuit_breaker()
    closed: list[int] = []

    @policy
    async def stream() -> AsyncIterator[int]:
        try:
            yield 1
        finally:
            closed.append(policy.snapshot().inflight)

    one = stream()
    with pytest.raises(StopIteration):
        one.__anext__().send(None)
    assert policy.snapshot().inflight == 1
    del one
    assert (closed, policy.snapshot().inflight, policy.snapshot().ignored) == ([1], 0, 1)


def test_a_stream_is_measured_to_its_first_item(vt: Any) -> None:
    """What follows is the consumer's pace: a slow consumer does not make a slow producer."""
    policy = circuit_breaker(slow_call=1.0)

    @policy
    def stream() -> Iterator[int]:
        vt.advance(0.25)
        yield 1
        vt.advance(30)
        yield 2

    assert list(stream()) == [1, 2]
    assert policy.latency.max == pytest.approx(0.25)
    assert policy.snapshot().window_slow == 0


# ---- stacks -------------------------------------------------------------------------------------------------------


def test_stacked_decorators_fuse_and_both_record() -> None:
    """Two policies on one function are one run of gates, outermost first, and each has its own outcome (CB-11)."""
    outer, inner = circuit_breaker("outer"), circuit_breaker("inner")
    guarded = outer(inner(function))
    assert guarded.__wrapped__ is function
    assert policy_of(guarded).gates == outer.gates + inner.gates
    assert policy_of(guarded).policies == (outer, inner)
    with pytest.raises(Boom):
        guarded(True)
    assert (outer.snapshot().failures, inner.snapshot().failures) == (1, 1)


def test_a_rejection_of_an_inner_policy_leaves_nothing_at_the_outer() -> None:
    """All or nothing: what the outer one gave goes back, and it learns nothing."""
    outer, inner = circuit_breaker("outer"), circuit_breaker("inner")
    guarded = outer(inner(function))
    inner.force_open()
    with pytest.raises(CircuitOpenError) as rejection:
        guarded()
    seen = outer.snapshot()
    assert (rejection.value.name, seen.inflight, seen.successes, seen.failures, seen.cancelled) == ("inner", 0, 0, 0, 1)


def test_the_inner_guard_of_a_stack_still_works_alone() -> None:
    """Fusing makes a new guard; who kept the inner one has it unchanged."""
    outer, inner = circuit_breaker("outer"), circuit_breaker("inner")
    once = inner(function)
    twice = outer(once)
    assert (once(), twice()) == ("done", "done")
    assert (outer.snapshot().successes, inner.snapshot().successes) == (1, 2)


@pytest.mark.anyio
async def test_stacks_of_methods_and_static_methods_fuse() -> None:
    """A stack above staticmethod or classmethod fuses below it."""
    outer, inner = circuit_breaker("outer"), circuit_breaker("inner")

    class Client:
        @outer
        @inner
        async def method(self) -> str:
            return await coroutine()

        @outer
        @staticmethod
        @inner
        def static() -> str:
            return function()

        @outer
        @inner
        @classmethod
        def klass(cls) -> str:
            return function() + cls.__name__

    assert (await Client().method(), Client.static(), Client().klass()) == ("done", "done", "doneClient")
    assert (outer.snapshot().successes, inner.snapshot().successes) == (3, 3)
    assert policy_of(Client.static).policies == policy_of(Client.klass).policies == (outer, inner)


def test_policy_of_sees_through_methods_partials_and_wrappers() -> None:
    """policy_of finds the guard wherever other decorators have put it."""
    policy = circuit_breaker("found")
    guarded = policy(function)

    @functools.wraps(guarded)
    def wrapper(*args: Any) -> Any:
        return guarded(*args)

    class Holder:
        method = guarded
        static = staticmethod(guarded)

    for candidate in (guarded, functools.partial(guarded), wrapper, Holder().method, Holder.static):
        assert policy_of(candidate) is policy
    for candidate in (function, 3, None):
        with pytest.raises(TypeError, match="not guarded"):
            policy_of(candidate)


def test_policy_of_ends_on_wrappers_that_lead_in_a_circle() -> None:
    """A broken __wrapped__ is no endless loop."""

    def odd() -> None: ...

    odd.__wrapped__ = odd
    with pytest.raises(TypeError):
        policy_of(odd)


def test_a_bare_breaker_guards_and_a_bare_other_policy_says_what_to_write() -> None:
    """Only a breaker makes sense bare; the others need options, and the error shows how."""
    assert circuit_breaker(function)() == "done"

    class Holder:
        @circuit_breaker
        @staticmethod
        def static() -> str:
            return "static"

    assert Holder.static() == "static"
    for factory in (bulkhead, rate_limit):
        with pytest.raises(TypeError, match=f"write @{factory.__name__}"):
            factory(function)
    with pytest.raises(TypeError, match="an object with admit"):
        custom_gate(function)
    with pytest.raises(TypeError, match="policies must be"):
        pipeline(function)


@pytest.mark.anyio
async def test_dc02_a_guarded_coroutine_function_gives_a_coroutine() -> None:
    """DC-02: create_task and its like take what a guarded call returns (types: tests/typing/api.py)."""
    call = circuit_breaker(coroutine)()
    assert inspect.iscoroutine(call)
    assert inspect.isawaitable(call)
    assert await call == "done"


def test_dc02_a_guarded_call_is_a_task() -> None:
    """DC-02: on asyncio a guarded call can be a task, and be gathered."""

    async def main() -> list[str]:
        guarded = circuit_breaker(coroutine)
        return [await asyncio.create_task(guarded()), *await asyncio.gather(guarded(), guarded())]

    assert asyncio.run(main()) == ["done"] * 3


def test_public_names_are_not_shadowed_by_modules() -> None:
    """`resilio.circuit_breaker` is the function, whatever modules are imported."""
    assert "resilio._policies.circuit_breaker.policy" in sys.modules
    assert callable(resilio.circuit_breaker)
    assert callable(resilio.pipeline)
