"""The hook `hand_over(held)`: permits of neighbouring gates outlive the call, if it takes them."""

from __future__ import annotations

import asyncio
import gc
import sys
import warnings
import weakref
from collections.abc import Callable
from typing import Any

import pytest

import resilio
from resilio._native import core
from resilio.testing import virtual_time


class Keeping:
    """A hook that takes each permit, keeps those of answers, and ends those of errors."""

    def __init__(self) -> None:
        self.kept: list[tuple[Any, Any]] = []
        self.errors: list[BaseException] = []
        self.requests: list[Any] = []

    def __call__(self, held: core.Held) -> None:
        """Keep it, or end it."""
        self.requests.append(held.request)
        if held.error is None:
            self.kept.append((held.take(), held.answer))
        else:
            self.errors.append(held.error)
            held.take().raised(held.error)


def parts() -> tuple[Any, Any, Any]:
    """A bulkhead, a retry and a breaker, whose gates are apart."""
    return resilio.bulkhead(1), resilio.retry(on=OSError, backoff=0.0, budget=None), resilio.circuit_breaker()


def handing(policies: tuple[Any, ...], hook: Callable[[core.Held], object]) -> core.Pipeline:
    """A pipeline with a hook."""
    return core.Pipeline(tuple(gate for policy in policies for gate in policy.gates), hand_over=hook)


async def _awaited(what: Any) -> Any:
    return await what


async def echo(request: Any) -> Any:
    """Answer with the request."""
    await asyncio.sleep(0)
    return request


def echo_now(request: Any) -> Any:
    """The same for a thread."""
    return request


def sent(pipeline: core.Pipeline, request: Any, *, in_thread: bool) -> Any:
    """The answer to a request, awaited or not."""
    return pipeline.call(echo_now, request) if in_thread else asyncio.run(_awaited(pipeline.acall(echo, request)))


@pytest.mark.parametrize("in_thread", [False, True])
def test_each_run_of_neighbouring_gates_gives_one_permit(in_thread: bool) -> None:
    """Strategies are settled with the call, the gates are held until their permits end."""
    outer, retry, inner = parts()
    hook = Keeping()
    assert sent(handing((outer, retry, inner), hook), "request", in_thread=in_thread) == "request"
    assert [answer for _, answer in hook.kept] == ["request", "request"]
    assert hook.requests == ["request", "request"]
    assert [one.snapshot().inflight for one in (outer, retry, inner)] == [1, 0, 1]
    for permit, _ in hook.kept:
        permit.success()
    assert [one.snapshot().successes for one in (outer, retry, inner)] == [1, 1, 1]


@pytest.mark.parametrize("answer", [None, "a", (1, 2), StopIteration(3), 0], ids=repr)
@pytest.mark.parametrize("in_thread", [False, True])
def test_the_answer_comes_out_whatever_it_is(answer: Any, in_thread: bool) -> None:
    """A tuple or an exception as well: it was returned."""
    hook = Keeping()
    assert sent(handing((resilio.bulkhead(1),), hook), answer, in_thread=in_thread) is answer
    ((permit, kept),) = hook.kept
    assert kept is answer
    permit.success()


@pytest.mark.parametrize("in_thread", [False, True])
def test_gates_whose_permit_is_not_taken_judge_by_their_own_rules(in_thread: bool) -> None:
    """An answer without a body ends its call: nothing is left to be held."""
    policies = resilio.bulkhead(1), resilio.circuit_breaker(failed_if=lambda answer: answer == "request")
    asked: list[Any] = []
    sent(handing(policies, lambda held: asked.append(held.answer)), "request", in_thread=in_thread)
    assert asked == ["request"]
    assert [(one.snapshot().inflight, one.snapshot().failures) for one in policies] == [(0, 0), (0, 1)]


def test_each_attempt_that_raises_is_settled_within_the_stages_around_it() -> None:
    """The inner gates get each attempt's permit back before the next, the outer ones the call's."""
    outer, retry, inner = parts()
    tries = [OSError(1), None]

    async def attempt(request: Any) -> Any:
        error = tries.pop(0)
        if error is not None:
            raise error
        return request

    hook = Keeping()
    asyncio.run(_awaited(handing((outer, retry, inner), hook).acall(attempt, 1)))
    assert [error.args for error in hook.errors] == [(1,)]
    found = inner.snapshot()
    assert (found.failures, found.inflight, outer.snapshot().inflight) == (1, 1, 1)


@pytest.mark.parametrize("raises", [False, True])
@pytest.mark.parametrize("takes", [False, True])
def test_what_a_hook_raises_is_what_the_call_raises(raises: bool, takes: bool) -> None:
    """And its permit comes back without a verdict: a hook that fails says nothing about the callee."""
    policy = resilio.circuit_breaker()

    async def attempt(request: Any) -> Any:
        if raises:
            raise OSError
        return request

    def broken(held: core.Held) -> None:
        if takes:
            held.take()
        raise LookupError

    with pytest.raises(LookupError):
        asyncio.run(_awaited(handing((policy,), broken).acall(attempt, 1)))
    gc.collect()
    found = policy.snapshot()
    assert (found.inflight, found.ignored) == (0, 1)


def test_what_is_held_is_known_while_the_hook_runs() -> None:
    """Kept beyond that it would point to a call that is gone; and a permit is taken once."""
    known: list[core.Held] = []

    def hook(held: core.Held) -> None:
        known.append(held)
        held.take().success()
        with pytest.raises(RuntimeError, match="taken"):
            held.take()

    handing((resilio.bulkhead(1),), hook).call(echo_now, 1)
    with pytest.raises(RuntimeError, match="only while"):
        known[0].take()
    with pytest.raises(RuntimeError, match="only while"):
        _ = known[0].answer


def test_the_hook_knows_the_function_that_was_called() -> None:
    """By which it finds what belongs to one call alone; a call without arguments has no request."""
    found: list[Any] = []

    def nothing() -> None:
        """Take no argument."""

    pipeline = handing((resilio.bulkhead(1),), lambda held: found.append((held.function, held.request, held.answer)))
    pipeline.call(nothing)
    assert found == [(nothing, None, None)]


def test_the_time_of_a_call_is_counted_once_up_to_the_end_of_its_permit() -> None:
    """By the outermost stage, as of any call: had each its own, their sum would be the wall time several times over."""
    outer, retry, inner = parts()

    async def attempt(request: Any) -> Any:
        await asyncio.sleep(1)
        return request

    async def scenario() -> None:
        hook = Keeping()
        await handing((outer, retry, inner), hook).acall(attempt, 1)
        await asyncio.sleep(2)
        for permit, _ in hook.kept:
            permit.success()

    with virtual_time() as vt:
        vt.run(scenario)
    spent = [sum(one.call_seconds.values()) for one in (outer, retry, inner)]
    assert spent == pytest.approx([3.0, 0.0, 0.0])


def test_a_timeout_outside_of_gates_is_a_failure_for_them() -> None:
    """The hook runs within the call, whose stages know whose cancellation it is; gates outside see the timeout."""
    outer, timeout, inner = resilio.circuit_breaker(), resilio.timeout(1.0), resilio.circuit_breaker()

    async def attempt(_: Any) -> None:
        await asyncio.sleep(10)

    async def scenario() -> None:
        with pytest.raises(resilio.CallTimeoutError):
            await handing((outer, timeout, inner), hook).acall(attempt, 1)

    hook = Keeping()
    with virtual_time() as vt:
        vt.run(scenario)
    assert [type(error) for error in hook.errors] == [asyncio.CancelledError, resilio.CallTimeoutError]
    assert [one.snapshot().failures for one in (outer, inner)] == [1, 1]


def test_a_rejection_is_raised_and_the_hook_has_nothing_to_take() -> None:
    """No gate was passed, nothing was sent."""
    policy, hook = resilio.circuit_breaker(), Keeping()
    policy.force_open()
    with pytest.raises(resilio.CircuitOpenError):
        asyncio.run(_awaited(handing((policy,), hook).acall(echo, 1)))
    assert not hook.requests


def test_a_request_waits_for_its_permit() -> None:
    """It is sent once another's has ended; one that is cancelled meanwhile leaves the queue."""

    async def main() -> None:
        policy, hook = resilio.bulkhead(1, max_queued=2, max_wait=60.0), Keeping()
        pipeline = handing((policy,), hook)
        first = policy.acquire()
        waits, given_up = (
            asyncio.create_task(_awaited(pipeline.acall(echo, "a"))),
            asyncio.create_task(_awaited(pipeline.acall(echo, "b"))),
        )
        await asyncio.sleep(0)
        assert policy.snapshot().queued == 2
        given_up.cancel()
        with pytest.raises(asyncio.CancelledError):
            await given_up
        assert policy.snapshot().queued == 1
        first.success()
        assert await waits == "a"
        assert [answer for _, answer in hook.kept] == ["a"]

    asyncio.run(main())


async def hang(_: Any) -> Any:
    """Wait for ever."""
    await asyncio.get_running_loop().create_future()


@pytest.mark.parametrize("end", ["close", "drop"])
def test_one_that_is_given_up_says_nothing(end: str) -> None:
    """Closed or dropped in the middle: the sender's own cleanup runs within the permit, which then ends."""
    policy, seen = resilio.bulkhead(1), []

    async def cleaning(request: Any) -> Any:
        try:
            await hang(request)
        finally:
            seen.append(policy.snapshot().inflight)

    async def main() -> None:
        call = handing((policy,), Keeping()).acall(cleaning, "a")
        call.__await__().__next__()
        assert policy.snapshot().inflight == 1
        if end == "close":
            call.close()
        del call
        gc.collect()

    asyncio.run(main())
    found = policy.snapshot()
    assert (seen, found.inflight, found.ignored, found.abandoned) == ([1], 0, 1, 0)


def test_calls_in_cycles_are_collected_with_their_permits() -> None:
    """A request that knows its own call holds nothing once it cannot be reached, nor does a hook of its pipeline."""

    class Request:
        call: Any = None

    class Knowing(Keeping):
        pipeline: Any = None

    policy = resilio.bulkhead(1)

    def make() -> list[weakref.ref[Any]]:
        request, hook = Request(), Knowing()
        hook.pipeline = handing((policy,), hook)
        request.call = hook.pipeline.acall(hang, request)
        request.call.__await__().__next__()
        return [weakref.ref(request), weakref.ref(hook)]

    async def main() -> None:
        known = make()
        assert policy.snapshot().inflight == 1
        gc.collect()
        assert [one() for one in known] == [None, None]

    with warnings.catch_warnings():
        warnings.simplefilter("error")
        asyncio.run(main())
    assert policy.snapshot().inflight == 0


def test_answers_and_errors_are_owned_once() -> None:
    """What passes the hook is neither leaked nor freed too early, taken or not."""
    answer, hook = object(), Keeping()
    pipelines = handing(parts(), hook), handing((resilio.bulkhead(9),), lambda held: held.error)
    before = sys.getrefcount(answer)
    for pipeline in pipelines:
        for _ in range(10):
            assert pipeline.call(echo_now, answer) is answer
            while hook.kept:
                hook.kept.pop()[0].success()
    hook.requests.clear()
    assert sys.getrefcount(answer) == before


def test_a_hook_must_be_callable() -> None:
    """It is said where the pipeline is made."""
    with pytest.raises(TypeError, match="hand_over: must be"):
        core.Pipeline(resilio.bulkhead(1).gates, hand_over=1)  # type: ignore[arg-type]
