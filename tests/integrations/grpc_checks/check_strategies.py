"""Calls with one message each way through strategies: one call to its user, however many attempts it takes."""

from __future__ import annotations

import asyncio
import gc
import weakref
from collections.abc import Callable
from contextvars import ContextVar
from typing import Any

import grpc
import pytest
from grpc import aio
from servers.grpc_service import Code, Served, ends, pairs

import resilio
from resilio.integrations.grpc import interceptors, method, preset

pytestmark = pytest.mark.anyio
LOGS_DROPPED = tuple(map(int, grpc.__version__.split(".")[:2])) < (1, 85)  # up to 1.76 at least: the error of a call
SAID: ContextVar[str] = ContextVar("SAID", default="nothing")


def retry(**options: Any) -> resilio.Retry:
    """Three attempts at once, for what lasts a moment."""
    return resilio.retry(on=preset.momentary, budget=None, **{"backoff": 0.0, **options})


def channel(served: Served, policy: Any, **options: Any) -> Any:
    """A channel whose calls go through a policy."""
    return served.channel(interceptors(policy, **options))


def nothing_held(policy: Any) -> bool:
    """Whether no part of a policy holds a permit."""
    gc.collect()
    return all(part.snapshot().inflight == part.snapshot().queued == 0 for part in policy.policies)


async def test_a_call_that_goes_well_is_what_its_user_knows(served: Served, breaker: Any) -> None:
    """Awaited twice, asked for all that it can be asked for, and called back once, it answers as a bare one does."""
    policy, told = resilio.pipeline(retry(), breaker, resilio.timeout(20.0)), []
    async with channel(served, policy) as way, served.channel() as bare:
        await way.channel_ready()
        for made in (way, bare):
            call = made.unary_unary("/s/echo")(b"a", metadata=(("a", "b"),), timeout=30.0)
            assert isinstance(call, aio.UnaryUnaryCall)
            assert (call.done(), call.cancelled()) == (False, False)
            call.add_done_callback(told.append)
            assert (await call, await call) == (b"a", b"a")
            assert (await call.code(), await call.details()) == (Code.OK, "")
            assert pairs(await call.initial_metadata()) == pairs(await call.trailing_metadata()) == {}
            assert await call.debug_error_string() in (None, "")
            await call.wait_for_connection()
            assert (call.done(), call.cancelled(), call.cancel()) == (True, False, False)
            assert told.pop() is call
            call.add_done_callback(told.append)
            assert told.pop() is call
        assert "a" in repr(way.unary_unary("/s/echo")(b"a"))
    assert served.service.metadata[0]["a"] == "b"
    assert breaker.snapshot().successes >= 1


async def test_what_did_not_go_well_is_gone_on_with(served: Served, breaker: Any) -> None:
    """All that can be asked of the call is what its last try says; whoever waits is told then, and once."""
    policy, told = resilio.pipeline(retry(), breaker), []
    async with channel(served, policy) as way:
        call = way.unary_unary("/s/recovers")(b"2")
        call.add_done_callback(told.append)
        code, details, again = (asyncio.ensure_future(one) for one in (call.code(), call.details(), _awaited(call)))
        assert await call == b"well"
        assert (await code, await details, await again) == (Code.OK, "", b"well")
        assert told == [call]
        fails = way.unary_unary("/s/aborts")(b"UNAVAILABLE:1")
        with pytest.raises(aio.AioRpcError) as caught:
            await fails
        assert caught.value.resilio.stop_reason == "attempts"
        assert (await fails.code(), await fails.details()) == (Code.UNAVAILABLE, "as asked for")
        assert pairs(await fails.trailing_metadata()) == {"grpc-retry-pushback-ms": "1"}
    assert ends(breaker) == (1, 2, 3)  # UNAVAILABLE with a pushback is a refusal


RETRY_INFO = (
    "1a350a28747970652e676f6f676c65617069732e636f6d2f676f6f676c652e7270632e5265747279496e666f12090a070801108084af5f"
)
"""The details of a status, with a RetryInfo of 1.2 s, serialised by googleapis-common-protos 1.76."""


async def test_a_wait_in_the_details_of_a_status_is_kept(served: Served, breaker: Any) -> None:
    """Google's services name it there, and not as a pushback: told 2 s, a retry came after 0.06 s."""
    policy = resilio.pipeline(retry(max_retry_after=1.0), breaker)
    async with channel(served, policy) as way:
        with pytest.raises(aio.AioRpcError) as caught:
            await way.unary_unary("/s/aborts")(f"RESOURCE_EXHAUSTED:{RETRY_INFO}".encode())
    trail = caught.value.resilio
    assert (trail.stop_reason, trail.retry_after, trail.allowed) == ("retry_after", 1.2, 1.0)
    assert trail.asked_by == "metadata grpc-status-details-bin"


@pytest.mark.parametrize(("send", "key"), [(True, "x-envoy-attempt-count"), ("x-try", "x-try")])
async def test_the_number_of_the_attempt_is_sent(served: Served, breaker: Any, send: bool | str, key: str) -> None:
    """A server that sheds could not tell a first attempt from a third; the caller's own metadata stay."""
    policy = resilio.pipeline(retry(), breaker)
    async with channel(served, policy, send_attempt=send) as way:
        assert await way.unary_unary("/s/recovers")(b"2", metadata=(("a", "b"),)) == b"well"
        assert await way.unary_unary("/s/echo")(b"a") == b"a"
    assert [seen[key] for seen in served.service.metadata] == ["1", "2", "3", "1"]
    assert [seen.get("a") for seen in served.service.metadata] == ["b", "b", "b", None]


async def test_the_number_of_the_attempt_is_not_sent_by_default(served: Served, breaker: Any) -> None:
    """A foreign server has no use for it; a wrong key is rejected where the interceptors are made."""
    async with channel(served, resilio.pipeline(retry(), breaker)) as way:
        await way.unary_unary("/s/recovers")(b"1")
    assert not any("x-envoy-attempt-count" in seen for seen in served.service.metadata)
    with pytest.raises(ValueError, match="send_attempt must be a header's name"):
        interceptors(breaker, send_attempt="two words")


async def _awaited(call: Any) -> Any:
    return await call


async def test_a_call_that_nobody_awaits_goes_on_to_its_end(served: Served, breaker: Any) -> None:
    """Kept or dropped, well or not; nothing of it is left."""
    policy = resilio.pipeline(retry(), breaker, resilio.timeout(20.0))
    async with channel(served, policy) as way:
        gone = [weakref.ref(way.unary_unary(f"/s/{name}")(b"1")) for name in ("echo", "recovers")]
        await served.until(lambda: served.service.calls["recovers"] == 2)
        await served.until(lambda: breaker.snapshot().successes == 2)
    await asyncio.sleep(0.01)
    assert ends(breaker) == (2, 1, 0)
    assert [one() for one in gone] == [None, None]


# ---- cancelled at every step -----------------------------------------------------------------------------------------

Steps = dict[str, tuple[Callable[[], Any], str, Callable[[Served, Any], bool]]]
STEPS: Steps = {
    "in the queue": (
        lambda: resilio.pipeline(retry(), resilio.bulkhead(1, max_queued=5, max_wait=60.0)),
        "hangs",
        lambda served, policy: policy.policies[-1].snapshot().queued == 1,
    ),
    "in the first try": (
        lambda: resilio.pipeline(retry(), resilio.bulkhead(5)),
        "hangs",
        lambda served, policy: served.service.calls["hangs"] == 1,
    ),
    "in a retry's sleep": (
        lambda: resilio.pipeline(retry(backoff=60.0), resilio.bulkhead(5)),
        "fails_and_hangs",
        lambda served, policy: policy.policies[0].snapshot().retries == 1,
    ),
    "in the second try": (
        lambda: resilio.pipeline(retry(), resilio.bulkhead(5)),
        "fails_and_hangs",
        lambda served, policy: served.service.calls["fails_and_hangs"] == 2,
    ),
    "while a hedge races": (
        lambda: resilio.pipeline(resilio.hedge(idempotent=True, after=0.005), resilio.bulkhead(5)),
        "hangs",
        lambda served, policy: served.service.calls["hangs"] == 2,
    ),
    "within a timeout that was armed": (
        lambda: resilio.pipeline(resilio.timeout(60.0), retry(), resilio.bulkhead(5)),
        "hangs",
        lambda served, policy: served.service.calls["hangs"] == 1,
    ),
}


@pytest.mark.parametrize("how", ["cancel()", "its task", "at once"])
@pytest.mark.parametrize("step", STEPS)
async def test_a_call_may_be_cancelled_at_every_step(served: Served, step: str, how: str) -> None:
    """The server sees it go, whoever asks is told that it was cancelled, and nothing is held."""
    make, name, reached = STEPS[step]
    policy = make()

    async def fails_and_hangs(request: bytes, context: Any) -> bytes:
        if served.service.calls["fails_and_hangs"] == 1:
            await context.abort(Code.UNAVAILABLE, "not yet")
        return await served.service.hangs(request, context)

    served.service.methods["fails_and_hangs"] = grpc.unary_unary_rpc_method_handler(fails_and_hangs)
    async with channel(served, policy) as way:
        if "hedge" in step:
            for _ in range(20):
                await way.unary_unary("/s/echo")(b"a")
        held = policy.policies[-1].acquire() if "queue" in step else None
        call = way.unary_unary(f"/s/{name}")(b"a")
        task = asyncio.ensure_future(_awaited(call))
        if how == "at once":
            call.cancel()
        else:
            await asyncio.sleep(0)  # a task cancelled before it began would not have awaited the call
            await served.until(lambda: reached(served, policy))
            if how == "cancel()":
                assert call.cancel()
            else:
                task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
        await served.until(call.done)
        assert call.cancelled()
        assert await call.code() is Code.CANCELLED
        assert not call.cancel()
        if held is not None:
            held.success()
        await served.until(lambda: nothing_held(policy))
        if how != "at once":
            hung = served.service.calls["hangs"] + max(served.service.calls["fails_and_hangs"] - 1, 0)
            await served.until(lambda: served.service.left["hangs"] == hung)
    found = policy.policies[-1].snapshot()
    assert found.failures == (1 if "fails_and" in name and how != "at once" else 0)
    assert found.abandoned == 0


async def test_a_call_is_cancelled_with_its_channel(served: Served) -> None:
    """In its first try as in a retry's sleep: closed is closed."""
    policy = resilio.pipeline(retry(backoff=60.0), resilio.bulkhead(5))
    way = channel(served, policy)
    calls = [way.unary_unary("/s/hangs")(b"a"), way.unary_unary("/s/aborts")(b"UNAVAILABLE")]
    await served.until(lambda: served.service.calls["hangs"] and policy.policies[0].snapshot().retries)
    await way.close()
    for call in calls:
        with pytest.raises(asyncio.CancelledError):
            await call
    assert nothing_held(policy)
    with pytest.raises(aio.UsageError):
        await way.unary_unary("/s/echo")(b"a")
    assert nothing_held(policy)


@pytest.mark.untraced
def test_a_loop_that_is_gone_takes_its_calls_with_it() -> None:
    """What was begun in it holds nothing once it is collected."""
    policy = resilio.pipeline(resilio.timeout(60.0), retry(), resilio.bulkhead(5))
    from servers.grpc_service import serve

    async def main() -> None:
        served = await serve()
        way = channel(served, policy)
        way.unary_unary("/s/hangs")(b"a")
        await served.until(lambda: served.service.calls["hangs"])
        assert policy.policies[-1].snapshot().inflight == 1
        await served.server.stop(None)
        await asyncio.sleep(0.1)  # what grpcio has to say to this loop must find it open

    with asyncio.Runner() as runner:
        runner.run(main())
    assert nothing_held(policy)


# ---- what strategies do ----------------------------------------------------------------------------------------------


async def test_a_timeout_ends_the_call_in_grpcs_terms(served: Served, breaker: Any) -> None:
    """Whoever awaits it while its first try is under way gets the timeout, not the cancellation of that."""
    policy = resilio.pipeline(resilio.timeout(0.05), breaker)
    async with channel(served, policy) as way:
        call = way.unary_unary("/s/hangs")(b"")
        waiting = [asyncio.ensure_future(_awaited(call)) for _ in range(2)]
        for one in waiting:
            with pytest.raises(resilio.CallTimeoutError) as caught:
                await one
            assert isinstance(caught.value, aio.AioRpcError)
        assert await call.code() is Code.DEADLINE_EXCEEDED
        await served.until(lambda: served.service.left["hangs"])
    assert ends(breaker) == (0, 1, 0)


async def test_a_hedge_wins_in_the_place_of_the_first_try(served: Served) -> None:
    """The response, the call's status and its callbacks are the winner's; the first try is cancelled."""
    inner, told = resilio.bulkhead(10), []
    policy = resilio.pipeline(resilio.hedge(idempotent=True, after=0.02), inner)

    async def odd_hangs(request: bytes, context: Any) -> bytes:
        if served.service.calls["odd"] > 20 and served.service.calls["odd"] % 2:
            await served.service.hangs(request, context)
        return request

    served.service.methods["odd"] = grpc.unary_unary_rpc_method_handler(odd_hangs)
    async with channel(served, policy) as way:
        for _ in range(20):
            await way.unary_unary("/s/odd")(b"a")
        call = way.unary_unary("/s/odd")(b"b")
        call.add_done_callback(told.append)
        assert await call == b"b"
        assert await call.code() is Code.OK
        await served.until(lambda: served.service.left["hangs"] == 1)
        await served.until(lambda: told)
    assert told == [call]
    assert served.service.calls["odd"] == 22
    assert ends(inner) == (21, 0, 1)


async def test_a_policys_deadline_is_told_to_the_server_and_stays_inside(served: Served, breaker: Any) -> None:
    """The first try and the second have what is left of it, or of `timeout=`; the caller's context has none."""
    policy = resilio.pipeline(resilio.deadline(3600.0), retry(), breaker)
    async with channel(served, policy) as way:
        await way.unary_unary("/s/echo")(b"a")
        await way.unary_unary("/s/echo")(b"a", timeout=1000.0)
        await way.unary_unary("/s/echo")(b"a", timeout=9000.0)
        call = way.unary_unary("/s/hangs")(b"a")
        assert resilio.remaining() is None
        call.cancel()
    first, second, third = served.service.remaining
    assert second <= 1011 < third <= 3611  # grpcio rounds long times up to ten seconds
    assert 1011 < first <= 3611  # grpcio rounds long times up to ten seconds
    short = resilio.pipeline(resilio.deadline(0.05), breaker)
    async with channel(served, short) as way:
        with pytest.raises(aio.AioRpcError) as caught:
            await way.unary_unary("/s/hangs")(b"a")
    assert caught.value.code() is Code.DEADLINE_EXCEEDED  # grpcio's or resilio's: both keep that time
    assert resilio.remaining() is None


async def test_a_fallback_runs_in_a_task_and_in_the_callers_context(served: Served) -> None:
    """What it needs of both is there."""
    seen: list[Any] = []

    async def elsewhere(call: Any) -> bytes:
        async with asyncio.timeout(60):
            await asyncio.sleep(0)
            seen.append((method(call), SAID.get()))
        return b"instead"

    policy = resilio.fallback(elsewhere, on=preset.failing)
    async with channel(served, policy) as way:
        token = SAID.set("by the caller")
        call = way.unary_unary("/s/aborts")(b"UNAVAILABLE")
        SAID.reset(token)
        assert await call == b"instead"
    assert seen == [("/s/aborts", "by the caller")]


async def test_answers_are_judged_where_a_policy_wants_to_see_them(served: Served) -> None:
    """A `failed_if` sees what was answered, in a task."""
    inner = resilio.circuit_breaker(consecutive=1000, min_calls=200, failed_if=lambda answer: answer == b"bad")
    tries = resilio.retry(on=(), failed_if=lambda answer: answer == b"bad", backoff=0.0, budget=None)
    async with channel(served, resilio.pipeline(tries, inner)) as way:
        assert await way.unary_unary("/s/echo")(b"good") == b"good"
        assert await way.unary_unary("/s/echo")(b"bad") == b"bad"
    assert served.service.calls["echo"] == 4
    assert ends(inner) == (1, 3, 0)


async def test_rejections_and_waits_are_those_of_interceptors(served: Served) -> None:
    """In gRPC's terms, awaited; what waits is made when it may be."""
    policy = resilio.pipeline(retry(), resilio.circuit_breaker("begun-open"))
    policy.policies[1].force_open()
    waits = resilio.pipeline(retry(), resilio.bulkhead(1, max_queued=1, max_wait=60.0))
    async with channel(served, policy) as way:
        call = way.unary_unary("/s/echo")(b"a")
        with pytest.raises(resilio.CircuitOpenError) as caught:
            await call
        assert isinstance(caught.value, aio.AioRpcError)
        assert await call.code() is Code.UNAVAILABLE
    async with channel(served, waits) as way:
        first, second = (way.unary_unary("/s/echo")(b"a") for _ in range(2))
        assert (await first, await second) == (b"a", b"a")
    assert nothing_held(policy)
    assert nothing_held(waits)


def broken(*_: Any) -> bool:
    """Ask a rule of a user's that is wrong."""
    raise LookupError("the user's")


async def test_what_rules_of_a_user_raise_is_contained(served: Served) -> None:
    """A call goes on without their word, and holds nothing."""
    tries = resilio.retry(on=broken, failed_if=broken, backoff=0.0, budget=None)
    inner = resilio.keyed(lambda: resilio.bulkhead(5), key=broken)
    policy = resilio.pipeline(tries, inner)
    async with channel(served, policy, idempotent=broken) as way:
        assert await way.unary_unary("/s/echo")(b"a") == b"a"
        with pytest.raises(aio.AioRpcError):
            await way.unary_unary("/s/aborts")(b"UNAVAILABLE")
    assert served.service.calls["aborts"] == 1
    assert inner.overflow.snapshot().inflight == 0


async def test_a_storm_of_calls_leaves_nothing_held(served: Served) -> None:
    """Well, failing, cancelled early and late, timed out, hedged and dropped, many at a time."""
    policy = resilio.standard("begun-storm", on=preset, idempotent=True, backoff=0.001, timeout=0.5, deadline=2.0)
    names = ("echo", "aborts", "hangs", "echo", "recovers")

    async def one(number: int) -> None:
        message = b"UNAVAILABLE" if number % 5 == 1 else b"1"
        call = way.unary_unary(f"/s/{names[number % 5]}")(message)
        if number % 7 == 0 and not (LOGS_DROPPED and number % 5 == 1):
            return
        task = asyncio.ensure_future(_awaited(call))
        if number % 3 == 0 or number % 5 == 2:
            await asyncio.sleep(0.001 * (number % 4))
            (task if number % 2 else call).cancel()
        await asyncio.gather(task, return_exceptions=True)

    async with channel(served, policy) as way:
        for start in range(0, 210, 30):
            await asyncio.gather(*(one(number) for number in range(start, start + 30)))
    await served.until(lambda: nothing_held(policy))
    assert policy.snapshot().inflight == 0
