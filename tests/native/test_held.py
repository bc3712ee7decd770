"""Calls with a holder: neighbouring gates are left as one, by a permit that outlives the call."""

from __future__ import annotations

import asyncio
import gc
import weakref
from collections.abc import Callable
from typing import Any

import pytest

import resilio
from resilio._native import core
from resilio.testing import virtual_time


class Holder:
    """Notes what it is told; its answers are whole, or not."""

    def __init__(self, attempt: Callable[[Any], Any], *, whole: bool = False) -> None:
        self.attempt = attempt
        self.leases = None if whole else ()
        self.held: list[tuple[Any, Any]] = []
        self.settled: list[BaseException] = []

    def hold(self, permit: Any, answer: Any) -> None:
        """Keep it."""
        self.held.append((permit, answer))

    def settle(self, permit: Any, error: BaseException) -> None:
        """End it."""
        self.settled.append(error)
        permit.raised(error)


def parts() -> tuple[Any, Any, Any]:
    """A bulkhead, a retry and a breaker, whose gates are apart."""
    return resilio.bulkhead(1), resilio.retry(on=OSError, backoff=0.0, budget=None), resilio.circuit_breaker()


def send(policies: tuple[Any, ...], holder: Holder, request: Any = "request") -> Any:
    """What is awaited."""
    gates = tuple(gate for policy in policies for gate in policy.gates)
    return core.Pipeline(gates, holds=True)._send(holder, request)


async def _awaited(what: Any) -> Any:
    return await what


async def echo(request: Any) -> Any:
    """Answer with the request."""
    await asyncio.sleep(0)
    return request


def test_each_run_of_neighbouring_gates_gives_the_holder_one_permit() -> None:
    """Strategies are settled with the call, the gates are held until their permits end."""
    outer, retry, inner = parts()
    holder = Holder(echo)
    assert asyncio.run(_awaited(send((outer, retry, inner), holder))) == "request"
    assert [answer for _, answer in holder.held] == ["request", "request"]
    assert [one.snapshot().inflight for one in (outer, retry, inner)] == [1, 0, 1]
    for permit, _ in holder.held:
        permit.success()
    assert [one.snapshot().successes for one in (outer, retry, inner)] == [1, 1, 1]


def test_of_an_answer_that_is_whole_nothing_is_held() -> None:
    """Its gates judge it by their own rules."""
    policies = resilio.bulkhead(1), resilio.circuit_breaker(failed_if=lambda answer: answer == "request")
    holder = Holder(echo, whole=True)
    asyncio.run(_awaited(send(policies, holder)))
    assert not holder.held
    assert [(one.snapshot().inflight, one.snapshot().failures) for one in policies] == [(0, 0), (0, 1)]


def test_each_attempt_that_raises_is_settled_by_the_holder_within_the_stages_around_it() -> None:
    """The inner gates get each attempt's permit back before the next, the outer ones the call's."""
    outer, retry, inner = parts()
    tries = [OSError(1), None]

    async def attempt(request: Any) -> Any:
        error = tries.pop(0)
        if error is not None:
            raise error
        return request

    holder = Holder(attempt)
    asyncio.run(_awaited(send((outer, retry, inner), holder)))
    assert [error.args for error in holder.settled] == [(1,)]
    found = inner.snapshot()
    assert (found.failures, found.inflight, outer.snapshot().inflight) == (1, 1, 1)


@pytest.mark.parametrize("method", ["hold", "settle"])
def test_what_a_holder_raises_is_what_the_call_raises(method: str) -> None:
    """And its permit, which nobody has any more, comes back."""
    policy = resilio.bulkhead(1)

    async def attempt(request: Any) -> Any:
        if method == "settle":
            raise OSError
        return request

    holder = Holder(attempt)

    def broken(*_: Any) -> None:
        raise LookupError

    setattr(holder, method, broken)
    with pytest.raises(LookupError):
        asyncio.run(_awaited(send((policy,), holder)))
    gc.collect()
    assert policy.snapshot().inflight == 0


def test_the_time_of_a_held_call_is_counted_once_up_to_the_end_of_its_permit() -> None:
    """By the outermost stage, as of any call: had each its own, their sum would be the wall time several times over."""
    outer, retry, inner = parts()

    async def attempt(request: Any) -> Any:
        await asyncio.sleep(1)
        return request

    async def scenario() -> None:
        holder = Holder(attempt)
        await send((outer, retry, inner), holder)
        await asyncio.sleep(2)
        for permit, _ in holder.held:
            permit.success()

    with virtual_time() as vt:
        vt.run(scenario)
    spent = [sum(one.call_seconds.values()) for one in (outer, retry, inner)]
    assert spent == pytest.approx([3.0, 0.0, 0.0])


def test_a_timeout_outside_of_gates_is_a_failure_for_them() -> None:
    """The holder settles within the call, whose stages know whose cancellation it is; gates outside see the timeout."""
    outer, timeout, inner = resilio.circuit_breaker(), resilio.timeout(1.0), resilio.circuit_breaker()

    async def attempt(_: Any) -> None:
        await asyncio.sleep(10)

    async def scenario() -> None:
        with pytest.raises(resilio.CallTimeoutError):
            await send((outer, timeout, inner), holder)

    holder = Holder(attempt)
    with virtual_time() as vt:
        vt.run(scenario)
    assert [type(error) for error in holder.settled] == [asyncio.CancelledError, resilio.CallTimeoutError]
    assert [one.snapshot().failures for one in (outer, inner)] == [1, 1]


def test_a_held_call_that_is_dropped_gives_everything_back_and_lets_go_of_its_holder() -> None:
    """It is collected with it, also in a cycle."""
    policy = resilio.bulkhead(1)
    waits: list[Any] = []

    class Waiting:
        def __await__(self) -> Any:
            yield self

    async def attempt(_: Any) -> None:
        await Waiting()

    holder = Holder(attempt)
    call = send((policy,), holder)
    waits.append(call.send(None))
    holder.call = call  # type: ignore[attr-defined]
    gone = weakref.ref(holder)
    assert policy.snapshot().inflight == 1
    del holder, call
    gc.collect()
    assert gone() is None
    assert policy.snapshot().inflight == 0


def test_a_pipeline_that_needs_a_holder_refuses_to_call_without_one() -> None:
    """There would be nobody to get its permits."""
    pipeline = core.Pipeline(resilio.bulkhead(1).gates, holds=True)
    for call in (pipeline.call, pipeline.acall, pipeline.attempt):
        with pytest.raises(TypeError, match="holder"):
            call(echo, 1)
    with pytest.raises(TypeError, match="holder"):
        core.Guard(pipeline, echo, "coroutine")
    with pytest.raises(TypeError, match="holder"):
        core.Pipeline(resilio.bulkhead(1).gates)._send(Holder(echo), 1)
