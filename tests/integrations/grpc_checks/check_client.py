"""Interceptors of grpc.aio's client: what each kind of call means to a policy."""

from __future__ import annotations

import asyncio
import gc
import pickle
from collections.abc import AsyncIterator
from typing import Any

import grpc
import pytest
from grpc import aio
from servers.grpc_service import Code, Served, ends, pairs, read, serve

import resilio
from resilio import errors
from resilio.integrations import grpc as guarded
from resilio.integrations._grpc.calls import StreamLease, StreamUnary, ended_with
from resilio.integrations._grpc.client import Guarded, _Over
from resilio.integrations._grpc.errors import in_terms
from resilio.integrations._grpc.exchange import hand_over
from resilio.integrations._shared.guarded_call import GuardedCall
from resilio.integrations.grpc import interceptors, method, preset
from resilio.testing import virtual_time

pytestmark = pytest.mark.anyio


async def several(*messages: bytes) -> AsyncIterator[bytes]:
    """A stream of requests."""
    for message in messages:
        yield message


async def endless(*messages: bytes) -> AsyncIterator[bytes]:
    """A stream of requests that goes on."""
    for message in messages:
        yield message
    await asyncio.sleep(20)


# ---- the four kinds --------------------------------------------------------------------------------------------------


async def test_all_kinds_of_calls_are_answered_as_without_a_policy(served: Served, breaker: Any) -> None:
    """Messages, metadata and status are those of the server; each call is a success."""
    async with served.channel(interceptors(breaker)) as channel:
        call = channel.unary_unary("/s/echo")(b"a")
        assert (await call, await call.code(), await call.details()) == (b"a", Code.OK, "")
        stream = channel.unary_stream("/s/numbers")(b"3")
        assert [message async for message in stream] == [b"0", b"1", b"2"]
        assert await stream.code() is Code.OK
        assert await channel.stream_unary("/s/joins")(several(b"a", b"b")) == b"ab"
        both = channel.stream_stream("/s/echoes")(several(b"a", b"b"))
        assert [message async for message in both] == [b"a", b"b"]
    assert ends(breaker) == (4, 0, 0)


async def test_messages_may_be_written_and_read_one_by_one(served: Served, breaker: Any) -> None:
    """`write`, `read` and `done_writing` do what they do without a policy."""
    async with served.channel(interceptors(breaker)) as channel:
        both = channel.stream_stream("/s/echoes")()
        for message in (b"a", b"b"):
            await both.write(message)
            assert await both.read() == message
        await both.done_writing()
        assert await read(both) is aio.EOF
        joined = channel.stream_unary("/s/joins")()
        await joined.write(b"a")
        await joined.write(b"b")
        await joined.done_writing()
        assert await joined == b"ab"
        with pytest.raises(asyncio.InvalidStateError):
            await joined.write(b"c")
    assert ends(breaker) == (2, 0, 0)


async def test_a_permit_is_held_until_the_stream_is_over(served: Served) -> None:
    """The call object is here at once, and the bulkhead counts it until its last message."""
    policy = resilio.bulkhead(1)
    async with served.channel(interceptors(policy)) as channel:
        stream = channel.unary_stream("/s/numbers")(b"2")
        assert await stream.read() == b"0"
        assert policy.snapshot().inflight == 1
        with pytest.raises(resilio.BulkheadFullError):
            await channel.unary_unary("/s/echo")(b"a")
        assert [await read(stream), await read(stream)] == [b"1", aio.EOF]
        assert await stream.code() is Code.OK
        assert policy.snapshot().inflight == 0
    assert served.service.calls["echo"] == 0
    assert ends(policy) == (1, 0, 0)


async def test_latency_is_that_of_the_first_message(served: Served, breaker: Any) -> None:
    """A stream that goes on for long is not a slow one."""
    async with served.channel(interceptors(breaker)) as channel:
        stream = channel.unary_stream("/s/drips")(b"")
        for _ in range(20):
            await stream.read()
        stream.cancel()
        async for _message in channel.unary_stream("/s/numbers")(b"2"):
            await asyncio.sleep(0.05)
    assert breaker.latency.count == 1
    assert breaker.latency.quantiles((1.0,))[0] < 0.1


# ---- how calls end ---------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("code", [code for code in Code if code is not Code.OK], ids=lambda code: code.name)
async def test_a_status_is_a_failure_an_answer_or_nothing(served: Served, breaker: Any, code: Any) -> None:
    """What says that the service is unwell is a failure; what a working one answers is none; CANCELLED says nothing."""
    async with served.channel(interceptors(breaker)) as channel:
        with pytest.raises(aio.AioRpcError) as caught:
            await channel.unary_unary("/s/aborts")(code.name.encode())
        with pytest.raises(aio.AioRpcError) as broken:
            async for _ in channel.unary_stream("/s/dies")(code.name.encode()):
                pass
    assert caught.value.code() is broken.value.code() is code
    ignored = code in (Code.CANCELLED, Code.RESOURCE_EXHAUSTED)
    expected = (0, 0, 2) if ignored else (0, 2, 0) if code in guarded.FAILING else (2, 0, 0)
    assert breaker.snapshot().refused == (2 if code is Code.RESOURCE_EXHAUSTED else 0)
    assert ends(breaker) == expected


async def test_which_statuses_are_failures_can_be_said(served: Served) -> None:
    """`failing` replaces the set; None leaves it to the policy's own rules."""
    policy, own = resilio.bulkhead(5), resilio.circuit_breaker(on=lambda error: error.code() is Code.NOT_FOUND)
    for used, failing in ((policy, (Code.NOT_FOUND,)), (own, None)):
        async with served.channel(interceptors(used, failing=failing)) as channel:
            for name in (b"NOT_FOUND", b"UNAVAILABLE"):
                with pytest.raises(aio.AioRpcError):
                    await channel.unary_unary("/s/aborts")(name)
                with pytest.raises(aio.AioRpcError):
                    await _read(channel.unary_stream("/s/dies")(name))
        assert ends(used) == (2, 2, 0)


async def test_a_server_that_is_not_there_is_a_failure(breaker: Any) -> None:
    """Nobody listens."""
    async with aio.insecure_channel("127.0.0.1:1", interceptors=interceptors(breaker)) as channel:
        with pytest.raises(aio.AioRpcError) as caught:
            await channel.unary_unary("/s/echo")(b"a")
        with pytest.raises(aio.AioRpcError):
            await channel.unary_stream("/s/numbers")(b"1").read()
    assert caught.value.code() is Code.UNAVAILABLE
    assert ends(breaker) == (0, 2, 0)


async def test_a_server_that_is_killed_in_the_middle_is_a_failure(served: Served, breaker: Any) -> None:
    """A stream cut by the end of its server, and a call under way."""
    async with served.channel(interceptors(breaker)) as channel:
        stream, call = channel.unary_stream("/s/hangs_stream")(b""), channel.unary_unary("/s/hangs")(b"")
        assert await stream.read() == b"first"
        await served.until(lambda: served.service.calls["hangs"])
        await served.server.stop(0)
        for waiting in (_read(stream), call):
            with pytest.raises(aio.AioRpcError):
                await waiting
    successes, failures, ignored = ends(breaker)
    assert (successes, failures + ignored) == (0, 2)  # grpcio shows a stopped server as UNAVAILABLE or CANCELLED


async def test_a_call_on_a_closed_channel_says_nothing(served: Served, breaker: Any) -> None:
    """What the client does wrong by itself blames no service, and holds nothing."""
    channel = served.channel(interceptors(breaker))
    await channel.close()
    with pytest.raises(aio.UsageError):
        await channel.unary_unary("/s/unary")(b"a")
    with pytest.raises(aio.UsageError):
        await anext(aiter(channel.unary_stream("/s/stream")(b"a")))
    assert (breaker.snapshot().ignored, breaker.snapshot().failures, breaker.snapshot().inflight) == (2, 0, 0)
    await asyncio.sleep(0)  # the loop has done with them
    gc.collect()  # here, and not in another test


async def test_a_timeout_of_the_call_is_a_failure(served: Served, breaker: Any) -> None:
    """grpcio's own `timeout=`, of a message and of a stream."""
    async with served.channel(interceptors(breaker)) as channel:
        for call in (
            channel.unary_unary("/s/hangs")(b"", timeout=0.05),
            _read(channel.unary_stream("/s/hangs_stream")(b"", timeout=0.05)),
        ):
            with pytest.raises(aio.AioRpcError) as caught:
                await call
            assert caught.value.code() is Code.DEADLINE_EXCEEDED
    assert ends(breaker) == (0, 2, 0)


async def test_a_call_cancelled_by_its_caller_says_nothing(served: Served, breaker: Any) -> None:
    """`cancel()` and a cancelled task, before and after the first message."""
    async with served.channel(interceptors(breaker)) as channel:
        for name, kind in (("hangs", channel.unary_unary), ("hangs_stream", channel.unary_stream)):
            call = kind(f"/s/{name}")(b"")
            await served.until(lambda name=name: served.service.calls[name] == 1)
            call.cancel()
            with pytest.raises(asyncio.CancelledError):
                await (call if name == "hangs" else _read(call))
            assert call.cancelled()
            task = asyncio.ensure_future(kind(f"/s/{name}")(b"") if name == "hangs" else _read(kind(f"/s/{name}")(b"")))
            await served.until(lambda name=name: served.service.calls[name] == 2)
            task.cancel()
            with pytest.raises(asyncio.CancelledError):
                await task
        both = channel.stream_stream("/s/echoes")(endless(b"a"))
        assert await both.read() == b"a"
        both.cancel()
    assert ends(breaker) == (0, 0, 5)
    assert breaker.snapshot().abandoned == 0


@pytest.mark.untraced
@pytest.mark.parametrize("begun", [False, True])
@pytest.mark.parametrize("kind", ["answers", "iterates", "writes", "joins"])
async def test_a_stream_that_is_dropped_gives_its_permit_back(served: Served, kind: str, begun: bool) -> None:
    """grpcio would keep it until the server ends it: it is collected, counted as abandoned, and cancelled."""
    policy = resilio.bulkhead(10)
    async with served.channel(interceptors(policy)) as channel:
        start = {
            "answers": lambda: channel.unary_stream("/s/hangs_stream")(b""),
            "iterates": lambda: channel.stream_stream("/s/echoes")(endless(b"a")),
            "writes": channel.stream_stream("/s/echoes"),
            "joins": channel.stream_unary("/s/joins"),
        }
        stream, told = start[kind](), []
        stream.add_done_callback(told.append)
        await served.until(served.service.calls.total)
        if begun and kind in ("writes", "joins"):
            await stream.write(b"a")
        if begun and kind != "joins":
            async for _ in stream:
                break
        assert policy.snapshot().inflight == 1
        del stream
        while not told:
            gc.collect()
            await asyncio.sleep(0.001)
        assert told[0].cancelled()
        told.clear()
    assert ends(policy) == (0, 0, 1)
    assert policy.snapshot().abandoned == 1


async def _read(call: Any) -> list[bytes]:
    return [message async for message in call]


# ---- rejections
# --------------------------------------------------------------------------------------------------------


async def test_cb20_a_rejection_is_an_error_of_grpc(served: Served) -> None:
    """CB-20: `except grpc.aio.AioRpcError` catches it; it has a status, a text and when to come back."""
    policy = resilio.circuit_breaker("grpc-cb20", consecutive=1, open_for=5.0)
    async with served.channel(interceptors(policy)) as channel:
        with pytest.raises(aio.AioRpcError):
            await channel.unary_unary("/s/aborts")(b"UNAVAILABLE")
        with pytest.raises(aio.AioRpcError) as caught:
            await channel.unary_unary("/s/echo")(b"a")
        stream, call = channel.unary_stream("/s/numbers")(b"1"), channel.unary_unary("/s/echo")(b"a")
        for rejected in (stream, call):
            assert await rejected.code() is Code.UNAVAILABLE
            assert "grpc-cb20" in await rejected.details()
            assert pairs(await rejected.trailing_metadata())["grpc-retry-pushback-ms"].isdigit()
            assert pairs(await rejected.initial_metadata()) == {}
        written = channel.stream_stream("/s/echoes")()
        with pytest.raises(asyncio.InvalidStateError):
            await written.write(b"a")
    error = caught.value
    assert isinstance(error, resilio.CircuitOpenError)
    assert (error.name, error.reason, error.called) == ("grpc-cb20", "open", False)
    assert "grpc-cb20" in str(error)
    assert "CircuitOpenError" in error.debug_error_string()
    assert served.service.calls["echo"] == 0


@pytest.mark.parametrize(
    ("kind", "code"),
    [
        ("BulkheadFullError", "RESOURCE_EXHAUSTED"),
        ("CircuitOpenError", "UNAVAILABLE"),
        ("OverloadedError", "RESOURCE_EXHAUSTED"),
        ("RateLimitedError", "RESOURCE_EXHAUSTED"),
        ("RejectedError", "RESOURCE_EXHAUSTED"),
    ],
)
def test_rejections_keep_all_they_know(kind: str, code: str) -> None:
    """Each class of rejections has its counterpart, which pickles with all its fields and notes."""
    ours = getattr(errors, kind)("some", "name", "why", 3.0, 2.0, 1.5)
    ours.add_note("a note")
    error = in_terms(ours)
    assert type(error) is getattr(guarded, kind)
    assert in_terms(error) is error
    for one in (error, pickle.loads(pickle.dumps(error))):
        assert (one.policy, one.name, one.reason, one.measured, one.limit, one.retry_after, one.scope) == ours.args
        assert one.code() is Code[code]
        assert one.__notes__ == ["a note"]
        assert pairs(one.trailing_metadata()) == {"grpc-retry-pushback-ms": "1500"}


async def test_an_error_without_counterpart_stays_what_it_is() -> None:
    """A custom error of resilio's root passes unchanged."""

    class Own(resilio.ResilienceError):
        pass

    own = Own("a")
    assert in_terms(own) is own  # type: ignore[attr-defined]


# ---- time ------------------------------------------------------------------------------------------------------------


async def test_a_call_has_no_more_time_than_the_deadline_leaves(served: Served, breaker: Any) -> None:
    """The ambient deadline is told to the server, and the nearer of it and `timeout=` counts."""
    async with served.channel(interceptors(breaker)) as channel:
        echo = channel.unary_unary("/s/echo")
        await echo(b"a")
        with resilio.deadline(3600.0):
            await echo(b"a")
            await echo(b"a", timeout=1000.0)
            await echo(b"a", timeout=9000.0)
    first, second, third, fourth = served.service.remaining
    assert first is None
    assert 1011 < second <= 3611  # grpcio rounds long times up to ten seconds
    assert third <= 1011
    assert 1011 < fourth <= 3611  # grpcio rounds long times up to ten seconds


async def test_a_deadline_that_passes_is_one_of_the_callers(served: Served, breaker: Any) -> None:
    """The server is not to blame for a caller that had little time; the error is DEADLINE_EXCEEDED."""
    async with served.channel(interceptors(breaker)) as channel:
        for call in (
            channel.unary_unary("/s/hangs"),
            lambda message: _read(channel.unary_stream("/s/hangs_stream")(message)),
        ):
            with resilio.deadline(0.05), pytest.raises(aio.AioRpcError) as caught:
                await call(b"")
            assert caught.value.code() is Code.DEADLINE_EXCEEDED
    assert ends(breaker) == (0, 0, 2)


async def test_a_timeout_of_the_policy_cancels_the_call(served: Served, breaker: Any) -> None:
    """The error is both resilio's and gRPC's; the gates inside take it for a failure; the server sees the client go."""
    policy, made = resilio.pipeline(resilio.timeout(0.05), breaker), 0
    async with served.channel(interceptors(policy)) as channel:
        while not served.service.calls["hangs"]:  # on a busy machine a call may be over before it was sent
            made += 1
            with pytest.raises(resilio.CallTimeoutError) as caught:
                await channel.unary_unary("/s/hangs")(b"")
            assert isinstance(caught.value, aio.AioRpcError)
            assert caught.value.code() is Code.DEADLINE_EXCEEDED
            assert pairs(caught.value.trailing_metadata()) == {}
        await served.until(lambda: served.service.left["hangs"])
    assert ends(breaker) == (0, made, 0)


async def test_an_exhausted_deadline_of_the_policy_is_told_in_grpcs_terms(served: Served) -> None:
    """
    A deadline in the policy ends a wait for it with DEADLINE_EXCEEDED.

    A permit that nobody held was given back at once: the call was not waiting, and at times the server was quicker.
    """
    room = resilio.bulkhead(1, max_queued=1, max_wait=30.0)
    held = room.acquire()
    async with served.channel(interceptors(resilio.pipeline(resilio.deadline(0.05), room))) as channel:
        with pytest.raises(resilio.DeadlineExceededError) as caught:
            await channel.unary_unary("/s/hangs")(b"")
    assert caught.value.code() is Code.DEADLINE_EXCEEDED  # type: ignore[attr-defined]
    assert not served.service.calls  # it never got as far
    held.success()


# ---- again -----------------------------------------------------------------------------------------------------------


def retry(**options: Any) -> resilio.Retry:
    """Three attempts at once, for what lasts a moment."""
    return resilio.retry(on=preset.momentary, backoff=0.0, budget=None, **options)


async def test_a_message_is_sent_again(served: Served, breaker: Any) -> None:
    """Two attempts fail, the third is answered; each is one for the breaker."""
    async with served.channel(interceptors(resilio.pipeline(retry(), breaker))) as channel:
        call = channel.unary_unary("/s/recovers")(b"2")
        assert await call == b"well"
        assert await call.code() is Code.OK
        assert [message async for message in channel.unary_stream("/s/recovers_stream")(b"2")] == [b"well"]
    assert ends(breaker) == (2, 4, 0)


async def test_an_answer_of_a_working_service_is_not_asked_for_again(served: Served) -> None:
    """NOT_FOUND is no reason to ask again."""
    async with served.channel(interceptors(retry())) as channel:
        with pytest.raises(aio.AioRpcError):
            await channel.unary_unary("/s/aborts")(b"NOT_FOUND")
    assert served.service.calls["aborts"] == 1


async def test_a_call_may_be_forbidden_to_be_made_again(served: Served) -> None:
    """`idempotent` says which methods may be called twice."""
    safe = interceptors(retry(), idempotent=lambda call: method(call) != "/s/aborts")
    async with served.channel(safe) as channel:
        with pytest.raises(aio.AioRpcError) as caught:
            await channel.unary_unary("/s/aborts")(b"UNAVAILABLE")
        assert await channel.unary_unary("/s/recovers")(b"1") == b"well"
    assert served.service.calls["aborts"] == 1
    assert caught.value.resilio.stop_reason == "not_replayable"


async def test_what_streams_requests_is_made_once(served: Served) -> None:
    """An iterator of messages is gone once used; the gates of the policy guard the call all the same."""
    inner = resilio.bulkhead(5)
    async with served.channel(interceptors(resilio.pipeline(retry(), inner))) as channel:
        assert await channel.stream_unary("/s/joins")(several(b"a")) == b"a"
        with pytest.raises(aio.AioRpcError):
            await channel.stream_unary("/s/nothing")(several(b"a"))
    assert served.service.calls["nothing"] == 1
    # The end comes while the client still writes: now and then grpcio calls it INTERNAL before it knows better.
    await served.until(lambda: inner.snapshot().inflight == 0)
    assert ends(inner) == (2, 0, 0)


class Written:
    """A call whose message could not be written, and whose status its server says some time later, or never."""

    def __init__(self, later: Any) -> None:
        self.status, self.said = Code.INTERNAL, "Internal error from Core"
        if later is not None:
            asyncio.get_running_loop().call_later(0.05, self.becomes, later)

    def becomes(self, status: Any) -> None:
        """The server's own status is here."""
        self.status, self.said = status, "its own"

    async def code(self) -> Any:
        """Return the status."""
        return self.status

    async def details(self) -> str:
        """Return its text."""
        return self.said

    async def initial_metadata(self) -> Any:
        """Return none."""
        return aio.Metadata()

    trailing_metadata = initial_metadata

    async def debug_error_string(self) -> str:
        """Return nothing."""
        return ""

    def cancelled(self) -> bool:
        """Nobody has."""
        return False


@pytest.mark.parametrize(
    ("later", "expected"), [(Code.UNIMPLEMENTED, (1, 0, 0)), (Code.UNAVAILABLE, (0, 1, 0)), (None, (0, 1, 0))]
)
def test_a_status_that_grpcio_takes_back_is_not_what_a_stream_ends_with(later: Any, expected: Any) -> None:
    """Of a call that its server ends early the server's status counts, which comes after grpcio's own."""
    policy = resilio.bulkhead(1)

    async def scenario() -> None:
        lease = StreamLease("a call")
        lease.hold(policy.acquire())
        _Over(lease, Guarded(GuardedCall(policy, hand_over), guarded.FAILING, True), False)(Written(later))
        await asyncio.sleep(2)

    with virtual_time() as vt:
        vt.run(scenario)
    assert ends(policy) == expected


class HeldByGrpc:
    """What grpcio has of a call with interceptors: it cancels the call that is below it when it is collected."""

    def __init__(self, call: Any) -> None:
        self.call = call

    def __del__(self) -> None:
        self.call.cancel()


@pytest.mark.parametrize(("over", "expected"), [(True, (1, 0, 0, 0)), (False, (0, 0, 1, 1))])
async def test_a_call_that_is_over_is_not_abandoned_when_it_is_collected(over: bool, expected: Any) -> None:
    """While the server's own status is looked for, the caller who has had it lets go of the call."""

    class Below(Written):
        def add_done_callback(self, _: Any) -> None: ...

        def done(self) -> bool:
            return over

        def cancel(self) -> bool:
            return not over

    policy = resilio.bulkhead(1)
    below, lease = Below(Code.UNIMPLEMENTED), StreamLease("a call")
    lease.hold(policy.acquire())
    if over:
        _Over(lease, Guarded(GuardedCall(policy, hand_over), guarded.FAILING, True), False)(below)
    HeldByGrpc(StreamUnary(below, lease))
    while policy.snapshot().inflight:  # noqa: ASYNC110 - a lease tells nobody
        await asyncio.sleep(0.01)
    assert (*ends(policy), policy.snapshot().abandoned) == expected


@pytest.mark.parametrize(
    ("pushback", "calls", "reason"), [("-1", 1, "not_retryable"), ("70000", 1, "retry_after"), ("1", 3, "attempts")]
)
async def test_a_servers_pushback_is_heeded(served: Served, pushback: str, calls: int, reason: str) -> None:
    """A negative pushback forbids another attempt, a long one is not waited for, a short one is."""
    async with served.channel(interceptors(retry())) as channel:
        with pytest.raises(aio.AioRpcError) as caught:
            await channel.unary_unary("/s/aborts")(f"RESOURCE_EXHAUSTED:{pushback}".encode())
    assert (served.service.calls["aborts"], caught.value.resilio.stop_reason) == (calls, reason)


async def test_a_hedge_is_another_call(served: Served) -> None:
    """The first call hangs, the hedge answers, the loser is cancelled and its permit back."""
    inner = resilio.bulkhead(10)
    policy = resilio.pipeline(resilio.hedge(idempotent=True, after=0.05), inner)

    async def odd_hangs(request: bytes, context: Any) -> bytes:
        if served.service.calls["odd"] > 20 and served.service.calls["odd"] % 2:
            await served.service.hangs(request, context)
        return request

    served.service.methods["odd"] = grpc.unary_unary_rpc_method_handler(odd_hangs)
    async with served.channel(interceptors(policy)) as channel:
        for _ in range(21):
            assert await channel.unary_unary("/s/odd")(b"a") == b"a"
        await served.until(lambda: served.service.left["hangs"] == 1)
    assert served.service.calls["odd"] == 22
    assert ends(inner) == (21, 0, 1)


async def test_a_hedge_of_a_stream_and_of_what_may_not_be_repeated(served: Served) -> None:
    """Streams that are answered by streams are not hedged when they must not be made twice."""
    policy = resilio.pipeline(resilio.hedge(idempotent=True, after=0.0), resilio.bulkhead(10))
    async with served.channel(interceptors(policy, idempotent=False)) as channel:
        for _ in range(25):
            assert await _read(channel.unary_stream("/s/numbers")(b"1")) == [b"0"]
    assert served.service.calls["numbers"] == 25


async def test_a_late_loser_of_streams_is_cancelled(served: Served) -> None:
    """Both copies have begun to answer: the one that nobody sees is cancelled."""
    inner = resilio.bulkhead(10)
    policy = resilio.pipeline(resilio.hedge(idempotent=True, after=0.0), inner)
    async with served.channel(interceptors(policy)) as channel:
        for _ in range(20):
            await channel.unary_unary("/s/echo")(b"a")
        for _ in range(5):
            stream = channel.unary_stream("/s/hangs_stream")(b"")
            assert await stream.read() == b"first"
            await served.until(lambda: inner.snapshot().inflight == 1)
            stream.cancel()
    assert ends(inner)[0] == 20


async def test_a_fallback_gives_a_message(served: Served) -> None:
    """What a fallback returns is the answer, of a call that went well."""
    policy = resilio.fallback(default=b"instead", on=preset.failing)
    async with served.channel(interceptors(policy)) as channel:
        assert await channel.unary_unary("/s/aborts")(b"UNAVAILABLE") == b"instead"


async def test_the_standard_stack(served: Served) -> None:
    """`standard(on=preset)` around a channel: calls that are not idempotent are repeated only if nothing was done."""
    policy = resilio.standard("grpc-standard", on=preset, backoff=0.0)
    async with served.channel(interceptors(policy)) as channel:
        with pytest.raises(aio.AioRpcError):
            await channel.unary_unary("/s/aborts")(b"UNAVAILABLE")
        assert served.service.calls["aborts"] == 1
        with pytest.raises(aio.AioRpcError):
            await channel.unary_unary("/s/aborts")(b"RESOURCE_EXHAUSTED:1")
        assert served.service.calls["aborts"] == 1 + 3
    assert all(part.snapshot().inflight == 0 for part in policy.policies)


async def test_a_breaker_for_each_method(served: Served) -> None:
    """One method that fails does not shut out another."""
    policy = resilio.keyed(lambda: resilio.circuit_breaker(consecutive=1), key=method)
    async with served.channel(interceptors(policy)) as channel:
        with pytest.raises(aio.AioRpcError):
            await channel.unary_unary("/s/aborts")(b"UNAVAILABLE")
        with pytest.raises(resilio.CircuitOpenError):
            await channel.unary_unary("/s/aborts")(b"UNAVAILABLE")
        assert await channel.unary_unary("/s/echo")(b"a") == b"a"
    assert sorted(policy) == ["/s/aborts", "/s/echo"]


async def test_another_interceptor_may_use_the_call(served: Served, breaker: Any) -> None:
    """What an interceptor further out is given is a call like grpcio's own, for all that can be asked of one."""
    seen: dict[str, Any] = {}

    class OuterBoth(aio.StreamStreamClientInterceptor):
        async def intercept_stream_stream(self, continuation: Any, details: Any, requests: Any) -> Any:
            call = seen["both"] = await continuation(details, requests)
            return call

    class OuterJoined(aio.StreamUnaryClientInterceptor):
        async def intercept_stream_unary(self, continuation: Any, details: Any, requests: Any) -> Any:
            call = seen["joined"] = await continuation(details, requests)
            return call

    told: list[Any] = []
    async with served.channel([OuterBoth(), OuterJoined(), *interceptors(breaker)]) as channel:
        both = channel.stream_stream("/s/echoes")(timeout=20.0)
        await both.write(b"a")
        assert await both.read() == b"a"
        call = seen["both"]
        assert isinstance(call, aio.StreamStreamCall)
        assert 0 < call.time_remaining() <= 20.0
        assert not call.done()
        assert not call.cancelled()
        assert "object" in repr(call)
        assert not call._done_writing_flag
        with pytest.raises(AttributeError):
            call.__no_such_thing__
        with pytest.raises(aio.UsageError):
            await call.write(b"a")
        with pytest.raises(aio.UsageError):
            await call.done_writing()
        await call.wait_for_connection()
        call.add_done_callback(told.append)
        await both.done_writing()
        assert await read(both) is aio.EOF
        assert await call.code() is Code.OK
        assert pairs(await call.initial_metadata()) == pairs(await call.trailing_metadata()) == {}
        assert await call.details() == ""
        assert told == [call]
        call.add_done_callback(told.append)
        assert told == [call, call]
        assert not call.cancel()
        joined = channel.stream_unary("/s/joins")(several(b"a"))
        assert await joined == b"a"
        assert await seen["joined"] == b"a"
        assert isinstance(seen["joined"], aio.StreamUnaryCall)
    assert ends(breaker) == (2, 0, 0)


async def test_a_call_may_be_read_without_an_interceptor_around(served: Served, breaker: Any) -> None:
    """`read` of the call itself notes the first message."""
    guard = interceptors(breaker)[1]

    async with served.channel() as channel:

        async def continuation(details: Any, request: Any) -> Any:
            return channel.unary_stream(details.method)(request, timeout=details.timeout)

        details = aio.ClientCallDetails("/s/numbers", 5.0, None, None, None)
        call = await guard.intercept_unary_stream(continuation, details, b"2")
        assert [await call.read(), await call.read(), await call.read()] == [b"0", b"1", aio.EOF]
        assert await call.code() is Code.OK
    assert ends(breaker) == (1, 0, 0)


@pytest.mark.untraced
async def test_a_stream_may_be_collected_in_another_thread(served: Served, breaker: Any) -> None:
    """The collector runs anywhere: the permit comes back, and the call is cancelled in its own loop."""
    async with served.channel(interceptors(breaker)) as channel:
        stream = channel.unary_stream("/s/hangs_stream")(b"")
        await stream.read()
        gc.disable()
        try:
            del stream
            await asyncio.to_thread(gc.collect)
        finally:
            gc.enable()
        assert breaker.snapshot().abandoned == 1
        await served.until(lambda: served.service.left["hangs"])
    assert ends(breaker) == (0, 0, 1)


async def test_a_call_that_is_not_over_has_not_ended_with_anything() -> None:
    """What would have to be waited for is not waited for."""

    class Under:
        async def code(self) -> Any:
            await asyncio.sleep(1)

        initial_metadata = trailing_metadata = details = debug_error_string = code

    error = ended_with(Under())
    assert error is not None
    assert error.code() is Code.UNKNOWN


@pytest.mark.untraced
def test_it_works_on_uvloop(breaker: Any) -> None:
    """The other event loop that people use: what ends, dies and is dropped gives its permit back."""
    uvloop = pytest.importorskip("uvloop", reason="uvloop is not installed")

    async def main() -> None:
        served = await serve()
        async with served.channel(interceptors(breaker)) as channel:
            assert await channel.unary_unary("/s/echo")(b"a") == b"a"
            with pytest.raises(aio.AioRpcError):
                await _read(channel.unary_stream("/s/dies")(b"INTERNAL"))
            stream = channel.unary_stream("/s/hangs_stream")(b"")
            await stream.read()
            del stream
            gc.collect()
            assert breaker.snapshot().abandoned == 1
        await served.server.stop(None)
        await asyncio.sleep(0.1)  # what grpcio has to say to this loop must find it open

    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        runner.run(main())
    assert ends(breaker) == (1, 1, 1)


def test_options_are_checked() -> None:
    """Each wrong option is named with its value."""
    policy = resilio.bulkhead(1)
    with pytest.raises(TypeError, match="policy must be a policy"):
        interceptors(object())  # type: ignore[arg-type]
    with pytest.raises(TypeError, match="give `total`"):
        interceptors(resilio.pipeline(policy, resilio.timeout(idle=1.0)))
    with pytest.raises(TypeError, match="idempotent must be True, False or a function"):
        interceptors(policy, idempotent="echo")  # type: ignore[arg-type]
    for wrong in ("UNAVAILABLE", 14, [14]):
        with pytest.raises(TypeError, match=r"failing must be members of grpc\.StatusCode"):
            interceptors(policy, failing=wrong)  # type: ignore[arg-type]


# ---- one call as its user sees it ------------------------------------------------------------------------------------


async def test_a_call_is_asked_about_once(served: Served, breaker: Any) -> None:
    """What must wait, is rejected, is judged by its answer, or passes two policies, asks each gate once."""
    full, more = resilio.bulkhead(1, max_queued=1, max_wait=60.0), resilio.bulkhead(5)
    strict = resilio.circuit_breaker(failed_if=lambda answer: answer == b"bad")
    async with served.channel(interceptors(breaker)) as channel:
        breaker.force_open()
        with pytest.raises(resilio.CircuitOpenError):
            await channel.unary_unary("/s/echo")(b"a")
        assert breaker.snapshot().rejected == 1
    async with served.channel(interceptors(full)) as channel:
        first, second = (channel.unary_unary("/s/echo")(b"a") for _ in range(2))
        assert (await first, await second) == (b"a", b"a")
        assert (full.snapshot().calls, full.snapshot().rejected) == (2, 0)
    async with served.channel(interceptors(strict)) as channel:
        assert await channel.unary_unary("/s/echo")(b"bad") == b"bad"
    async with served.channel([*interceptors(more), *interceptors(more)]) as channel:
        assert await channel.unary_unary("/s/echo")(b"a") == b"a"
    assert (ends(strict), ends(more), ends(full)) == ((0, 1, 0), (2, 0, 0), (2, 0, 0))


async def test_a_call_that_waits_may_be_given_up(served: Served) -> None:
    """Cancelled in the queue, it leaves it; nothing was sent."""
    policy = resilio.bulkhead(1, max_queued=5, max_wait=60.0)
    held = policy.try_acquire()
    async with served.channel(interceptors(policy)) as channel:
        echo = channel.unary_unary("/s/echo")
        call, task = echo(b"a"), asyncio.ensure_future(echo(b"a"))
        await asyncio.sleep(0)  # a task cancelled before it began would leave its call waiting, with nobody to await it
        await served.until(lambda: policy.snapshot().queued == 2)
        call.cancel()
        task.cancel()
        for waiting in (call, task):
            with pytest.raises(asyncio.CancelledError):
                await waiting
        await served.until(lambda: policy.snapshot().queued == 0)
        held.success()
        dropped = echo(b"b")
        assert await dropped == b"b"
    assert ends(policy) == (2, 0, 0)
    assert served.service.calls["echo"] == 1


async def test_a_call_that_nobody_awaits_ends_its_permit(served: Served, breaker: Any) -> None:
    """It is over when it is over."""
    async with served.channel(interceptors(breaker)) as channel:
        calls = [channel.unary_unary("/s/echo")(b"a"), channel.unary_unary("/s/aborts")(b"INTERNAL")]
        await served.until(lambda: all(call.done() for call in calls))
        await calls[0].code()
    assert ends(breaker) == (1, 1, 0)


async def test_keys_and_costs_see_a_call_as_it_is_made(served: Served) -> None:
    """Its method, its message, and the details that the interceptors would have seen."""
    seen: list[Any] = []

    def cost(call: Any) -> float:
        seen.append((call.method, call.request, call.details.timeout, list(call.details.metadata or ())))
        return 1.0

    policy = resilio.rate_limit("100/s", cost=cost)
    async with served.channel(interceptors(policy)) as channel:
        await channel.unary_unary("/s/echo")(b"a", timeout=5.0, metadata=(("a", "b"),))
    assert seen == [("/s/echo", b"a", 5.0, [("a", "b")])]


async def test_a_channel_is_one(served: Served, breaker: Any) -> None:
    """State, readiness and close are those of the channel."""
    channel = served.channel(interceptors(breaker))
    assert isinstance(channel, aio.Channel)
    await channel.channel_ready()
    assert channel.get_state() is grpc.ChannelConnectivity.READY
    await channel.close()
    assert channel.get_state() is grpc.ChannelConnectivity.SHUTDOWN
