"""
The types that users see: read by mypy and pyright, never run.

A guarded function has the type that it had; what a policy gives has a type that one can work with.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from contextlib import AsyncExitStack, ExitStack, asynccontextmanager
from datetime import timedelta
from typing import Any, assert_type

import resilio
from resilio import (
    AdaptiveLimit,
    Bulkhead,
    CircuitBreaker,
    Deadline,
    Health,
    LatencyHistogram,
    Outcome,
    Permit,
    Pipeline,
    Policy,
    RateLimit,
    RejectedError,
    Rejection,
    Result,
    Snapshot,
    adaptive_limit,
    bulkhead,
    carry,
    circuit_breaker,
    configure,
    current,
    custom_gate,
    deadline,
    detached,
    hedge,
    phase,
    pipeline,
    policy_of,
    rate_limit,
    registry,
    remaining,
    timeout,
)
from resilio._policies.adaptive_limit import AdaptiveLimitSnapshot
from resilio.events import Event, StateChanged, subscribe
from resilio.gates import CustomGate, GateCall, Reject

# ---- factories -------------------------------------------------------------------------------------------------------

breaker = circuit_breaker("payments", open_for=0.5, window=(200, "60s"), on=(OSError, ValueError))
pool = bulkhead(10, max_queued=5, max_wait=1.0)
limit = rate_limit("100/s")
both = pipeline(limit, breaker, pool, name="payments-api")

assert_type(breaker, CircuitBreaker)
assert_type(pool, Bulkhead)
assert_type(limit, RateLimit)
assert_type(both, Pipeline)


# ---- decorators: F -> F ----------------------------------------------------------------------------------------------


def plain(a: int, *, b: str = "") -> float:
    return 0.0


async def coroutine(a: int, *, b: str = "") -> float:
    return 0.0


def generator(a: int) -> Iterator[str]:
    yield ""


async def async_generator(a: int) -> AsyncIterator[str]:
    yield ""


def to_awaitable(a: int) -> Awaitable[bytes]:
    return asyncio.sleep(0, b"")


assert_type(breaker(plain)(1, b=""), float)
assert_type(circuit_breaker(plain)(1), float)
assert_type(circuit_breaker(failure_rate=0.3)(plain)(1), float)
assert_type(both(plain)(1), float)
assert_type(breaker(generator)(1), Iterator[str])
assert_type(breaker(async_generator)(1), AsyncIterator[str])
assert_type(breaker(to_awaitable)(1), Awaitable[bytes])


@breaker
async def decorated(a: int) -> str:
    return ""


@circuit_breaker
async def bare(a: int) -> str:
    return ""


@limit
@circuit_breaker("stack")
@pool
async def stacked(a: int) -> str:
    return ""


class Client:
    @breaker
    async def method(self, a: int) -> str:
        return ""

    @breaker
    @staticmethod
    def static(a: int) -> str:
        return ""

    @staticmethod
    @breaker
    def static_inside(a: int) -> str:
        return ""

    @breaker
    @classmethod
    def made(cls, a: int) -> Client:
        return cls()

    @property
    @breaker
    def value(self) -> int:
        return 1

    @asynccontextmanager
    @breaker
    async def session(self) -> AsyncIterator[bytes]:
        yield b""


async def use_decorated(client: Client) -> None:
    """A guarded coroutine function gives a coroutine: a task can be made of it."""
    assert_type(await limit(breaker(pool(coroutine)))(1), float)
    assert_type(await decorated(1), str)
    assert_type(await bare(1), str)
    assert_type(await stacked(1), str)
    assert_type(asyncio.create_task(decorated(1)), asyncio.Task[str])
    assert_type(await client.method(1), str)
    assert_type(client.static(1), str)
    assert_type(Client.static_inside(1), str)
    assert_type(Client.made(1), Client)
    assert_type(client.value, int)
    async with client.session() as session:
        assert_type(session, bytes)
    async with asyncio.TaskGroup() as group:
        assert_type(group.create_task(stacked(1)), asyncio.Task[str])


# ---- calling through -------------------------------------------------------------------------------------------------


async def call() -> None:
    """`call`, `acall`, `try_call` and `try_acall` give what the function gives, and check its arguments."""
    assert_type(breaker.call(plain, 1, b=""), float)
    assert_type(await breaker.acall(coroutine, 1, b=""), float)
    assert_type(await both.acall(to_awaitable, 1), bytes)
    result = breaker.try_call(plain, 1)
    assert_type(result, Result[float])
    assert_type(result.ok, bool)
    assert_type(result.unwrap(), float)
    assert_type(result.value, float | None)
    assert_type(result.error, Exception | None)
    assert_type(await breaker.try_acall(coroutine, 1), Result[float])
    breaker.call(plain, "1")  # type: ignore[arg-type]  # pyright: ignore[reportArgumentType, reportCallIssue]
    breaker.call(plain, 1, c="")  # type: ignore[call-arg]  # pyright: ignore[reportCallIssue]


# ---- blocks and permits ----------------------------------------------------------------------------------------------


async def blocks() -> None:
    """Both forms of block give the permit."""
    with breaker as permit:
        assert_type(permit, Permit)
    async with breaker as permit:
        assert_type(permit, Permit)
    with pool.permit("any", argument=1) as permit:
        assert_type(permit, Permit)
    async with pool.permit() as permit:
        assert_type(permit, Permit)
    with ExitStack() as stack:
        assert_type(stack.enter_context(breaker), Permit)
    async with AsyncExitStack() as stack:
        assert_type(await stack.enter_async_context(breaker), Permit)


async def by_hand() -> None:
    """A permit is true and a rejection false, and a checker knows it."""
    got = breaker.try_acquire()
    assert_type(got, Permit | Rejection)
    if got:
        assert_type(got, Permit)
        got.success()
    else:
        assert_type(got, Rejection)
        assert_type(got.retry_after, float | None)
        raise got.error
    assert_type(breaker.acquire(), Permit)
    assert_type(await breaker.aacquire(), Permit)


# ---- what a policy shows ---------------------------------------------------------------------------------------------


def shown(policy: Policy[Any]) -> None:
    """Names, states and numbers."""
    assert_type(policy.name, str | None)
    assert_type(policy.kind, str)
    assert_type(policy.snapshot(), Snapshot)
    assert_type(policy.snapshot().limit, float | None)
    assert_type(policy.health(), Health)
    assert_type(policy.latency, LatencyHistogram)
    assert_type(breaker.state, str)
    assert_type(breaker.config.open_for, float)
    assert_type(both.drain(1.0), bool)
    assert_type(both.explain().steps[0].position, int)
    assert_type(both.policies, tuple[Policy[Any], ...])
    assert_type(registry.get("payments"), Policy[Any])
    assert_type(registry.get("payments", resilio.CircuitBreaker), resilio.CircuitBreaker)
    assert_type(resilio.trail_of(OSError()), resilio.RetryTrail | None)
    assert_type(resilio.segments_of(OSError()), resilio.Segments | None)
    assert_type(registry.all(), tuple[Policy[Any], ...])
    assert_type(policy_of(decorated), Policy[Any])
    breaker.reconfigure(open_for=1.0)
    configure({"payments": {"open_for": 0.5}})
    configure(registry.from_env())


def listener(event: StateChanged) -> None:
    """A listener takes the records that it asked for."""
    assert_type(event.old, str)


def listens(event: Event) -> None:
    """Or all of them."""


assert_type(breaker.on_event(listener), Callable[[], None])
assert_type(subscribe(listens, kinds=(StateChanged, resilio.events.Rejected)), Callable[[], None])


def ambient() -> None:
    """The call under way, if there is one."""
    under_way = current()
    if under_way is not None:
        under_way.fail()
    phase("connect")
    phase(None)


def rejected(error: RejectedError) -> None:
    """A rejection says who, why and when again."""
    assert_type(error.retry_after, float | None)
    assert_type(error.reason, str)
    assert_type(error.called, bool)


# ---- a gate of one's own ---------------------------------------------------------------------------------------------


class Window:
    """The protocol is structural: no base class."""

    kind = "maintenance_window"
    reasons = ("maintenance",)

    def admit(self, call: GateCall) -> Reject | None:
        return Reject("maintenance", retry_after=60.0) if call.args else None

    def settle(self, call: GateCall, outcome: Outcome, seconds: float) -> None:
        call.data = seconds


assert_type(custom_gate(Window(), name="window"), CustomGate)
custom_gate(object())  # type: ignore[arg-type]  # pyright: ignore[reportArgumentType]


# ---- options ---------------------------------------------------------------------------------------------------------

circuit_breaker(on=lambda error: isinstance(error, OSError))
circuit_breaker(failed_if=lambda result: Outcome.FAILURE)
circuit_breaker(on="http")
circuit_breaker(on=resilio.presets.model)
circuit_breaker(on="htp")  # type: ignore[arg-type]  # pyright: ignore[reportArgumentType, reportCallIssue]
hedge(idempotent=True, on=OSError, ignore=(TimeoutError,), failed_if=lambda answer: answer is None)
hedge(idempotent=True, after=lambda size: None if size > 9 else size / 10)
timeout(lambda size: timedelta(seconds=size), ceiling="10s")
circuit_breaker(open_fore=1)  # type: ignore[call-overload]  # pyright: ignore[reportCallIssue]
circuit_breaker(window=1.5)  # type: ignore[call-overload]  # pyright: ignore[reportArgumentType, reportCallIssue]
adaptive_limit(law="cubic")  # type: ignore[arg-type]  # pyright: ignore[reportArgumentType]
assert_type(adaptive_limit(start=5, on=TimeoutError), AdaptiveLimit)
assert_type(adaptive_limit().snapshot(), AdaptiveLimitSnapshot)
bulkhead("10")  # type: ignore[arg-type]  # pyright: ignore[reportArgumentType]
bulkhead()  # type: ignore[call-arg]  # pyright: ignore[reportCallIssue]
pipeline(plain)  # type: ignore[arg-type]  # pyright: ignore[reportArgumentType]
assert_type(bulkhead(10, max_queued=1, max_wait=timedelta(seconds=1)).config.max_wait, float | None)
assert_type(rate_limit("100/s", "1000/min", max_wait=1.0), RateLimit)
rate_limit("100/s", max_wiat=1.0)  # type: ignore[call-overload]  # pyright: ignore[reportCallIssue]
assert_type(resilio.keyed(lambda: bulkhead(2), key="host")["example.org"], Bulkhead)
assert_type(resilio.RetryBudget("shared", decay=timedelta(seconds=30)), resilio.RetryBudget)
resilio.RetryBudget(ratoi=0.2)  # type: ignore[call-arg]  # pyright: ignore[reportCallIssue]
resilio.retry(on=OSError, attempts="3")  # type: ignore[arg-type]  # pyright: ignore[reportArgumentType]
resilio.retrying(on=OSError, attempts="3")  # type: ignore[call-overload]  # pyright: ignore[reportArgumentType, reportCallIssue]
assert_type(resilio.standard("search", on="http", pool=["https://a", resilio.Endpoint("b")]), resilio.Standard)
resilio.standard("search", on="http", pool=[3])  # type: ignore[list-item]  # pyright: ignore[reportArgumentType]
resilio.standard("payments", on="http", attempt=3)  # type: ignore[call-arg]  # pyright: ignore[reportCallIssue]


# ---- deadlines -------------------------------------------------------------------------------------------------------


@detached
def plain_detached(a: int) -> str:
    return str(a)


@detached()
async def async_detached(a: int) -> str:
    return str(a)


@deadline(2.0)
async def in_time(a: int) -> str:
    return str(a)


async def deadlines() -> None:
    assert_type(deadline(2.0), Deadline)
    assert_type(await in_time(1), str)
    await in_time("1")  # type: ignore[arg-type]
    assert_type(remaining(), float | None)
    assert_type(remaining(cap=1.0), float)
    assert_type(carry(plain)(1, b=""), float)
    assert_type(plain_detached(1), str)
    assert_type(await async_detached(1), str)
    with deadline(timedelta(seconds=1)) as nothing, detached():
        assert_type(nothing, None)
    async with deadline(1), detached():
        pass
