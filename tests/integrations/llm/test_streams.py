"""Streams through the real SDKs over real sockets: permits to the last event, clocks, errors in the middle, ends."""

from __future__ import annotations

import asyncio
import gc
import gzip
import logging
import warnings
from collections.abc import Callable
from contextlib import nullcontext, suppress
from typing import Any

import anyio
import pytest
from anyio.lowlevel import checkpoint
from servers.misbehaving import Misbehaving
from servers.models import Responses, answers, fails, hangs, provide, streams
from servers.sdks import Sdk, one_sdk

from resilio import (
    CallTimeoutError,
    DeadlineExceededError,
    bulkhead,
    circuit_breaker,
    constant,
    deadline,
    hedge,
    pipeline,
    policy_of,
    presets,
    rate_limit,
    retry,
    standard,
    timeout,
)
from resilio.integrations.llm import ModelCall, guard_of, meaning_of, partial_of, rejection_of, token_rate, trail_of
from resilio.integrations.llm._exchange import Exchange
from resilio.testing import assert_no_leaks

pytestmark = [
    pytest.mark.anyio,
    # The SDKs and httpx2 leave generators of their own unfinished, which trio warns of.
    pytest.mark.filterwarnings("ignore:Async generator '(openai|anthropic|httpx2?|httpcore2?)[.]:ResourceWarning"),
]


def quickly(attempts: int = 3) -> Any:
    """A retry that does not wait."""
    return retry(on=presets.model.momentary, attempts=attempts, backoff=constant(0.001), budget=None)


def judging(**options: Any) -> Any:
    """A breaker that judges as `standard(on="model")` does."""
    return circuit_breaker(on=presets.model.failing, **options)


async def read(sdk: Sdk, stream: Any, into: list[str] | None = None) -> str:
    """Read a stream to its end."""
    texts: list[str] = [] if into is None else into
    async for event in stream:
        texts.append(sdk.said(event))  # noqa: PERF401 - what came before an error is looked at
    return "".join(texts)


async def collected(policy: Any) -> None:
    """Collect until nothing is held: the loop closes what was left behind, a few turns later."""
    for turn in range(1000):
        if turn % 100 == 0:  # each takes long, with an SDK in memory
            gc.collect()
        await checkpoint()
        if not policy.snapshot().inflight:
            return


async def test_ls01_permit_lasts_to_the_last_event(sdk: Sdk, server: Misbehaving) -> None:
    """LS-01: the permit of a stream is held while it is read, and goes back with its last event."""
    provide(server, sdk.wire, streams("a", "ping", "b", "c"))
    one = bulkhead(1)
    async with sdk.client(server, one) as client:
        stream = await sdk.stream(client)
        assert one.snapshot().inflight == 1
        with pytest.raises(sdk.module.APIStatusError) as caught:
            await sdk.ask(client)
        assert rejection_of(caught.value).reason == "full"
        assert await read(sdk, stream) == "abc"
        assert one.snapshot().inflight == 0
        assert await read(sdk, await sdk.stream(client)) == "abc"
    assert one.snapshot().successes == 2
    assert server.open <= 1


async def test_a_stream_takes_one_permit_of_a_stack_of_decorators(sdk: Sdk, server: Misbehaving) -> None:
    """Of what guards another function too, all but the hedge guards a stream; its outermost policy does so once."""
    provide(server, sdk.wire, streams("a", "b"))
    one = bulkhead(1)

    @one
    @hedge(idempotent=True)
    async def another() -> None: ...

    async with sdk.client(server, policy_of(another)) as client:
        assert await read(sdk, await sdk.stream(client)) == "ab"
    assert (one.snapshot().successes, one.snapshot().inflight) == (1, 0)


def test_sync_stream_holds_its_permit(sdk: Sdk, server: Misbehaving) -> None:
    """So it is for threads."""
    provide(server, sdk.wire, streams("a", "b"))
    one = bulkhead(1)
    with sdk.sync_client(server, one) as client:
        stream = sdk.stream(client)
        assert one.snapshot().inflight == 1
        assert "".join(map(sdk.said, stream)) == "ab"
        assert one.snapshot().inflight == 0
    assert one.snapshot().successes == 1


async def test_whole_stream_in_one_piece(sdk: Sdk, server: Misbehaving) -> None:
    """A stream whose bytes come at once, compressed or not, is one call that succeeded."""
    provide(server, sdk.wire, streams("a", "b", at_once=True, end="whole"))
    breaker = judging()
    async with sdk.client(server, breaker) as client:
        assert await read(sdk, await sdk.stream(client)) == "ab"
    assert breaker.snapshot().successes == 1
    assert_no_leaks(breaker)


@pytest.mark.parametrize("pieces", [1, 7])
async def test_compressed_stream(sdk: Sdk, server: Misbehaving, pieces: int) -> None:
    """A stream that is compressed is decoded once: its events are seen, its usage settles, the SDK reads it."""
    parts = [*sdk.wire.opening((40, 1)), sdk.wire.delta("a"), sdk.wire.delta("b"), *sdk.wire.closing((40, 60))]
    body = gzip.compress(b"".join(parts))

    async def compressed(exchange: Any, wire: Any) -> None:
        del wire
        await exchange.head(headers={"content-type": "text/event-stream", "content-encoding": "gzip"})
        size = len(body) // pieces + 1
        for at in range(0, len(body), size):
            await exchange.chunk(body[at : at + size])
        await exchange.chunk(b"")

    provide(server, sdk.wire, compressed)
    limit, breaker = rate_limit(token_rate("1/h", burst=10_000)), judging()
    async with sdk.client(server, pipeline(limit, breaker)) as client:
        assert await read(sdk, await sdk.stream(client)) == "ab"
        assert await read(sdk, await sdk.stream(client)) == "ab"
    assert server.connections == 1
    assert breaker.snapshot().successes == 2
    assert limit.available["tokens"] == pytest.approx(9_800, abs=1)


def test_compressed_sync_stream(sdk: Sdk, server: Misbehaving) -> None:
    """So it is for threads."""
    parts = [*sdk.wire.opening((40, 1)), sdk.wire.delta("a"), *sdk.wire.closing((40, 60))]
    body = gzip.compress(b"".join(parts))

    async def compressed(exchange: Any, wire: Any) -> None:
        del wire
        await exchange.answer(body, headers={"content-type": "text/event-stream", "content-encoding": "gzip"})

    provide(server, sdk.wire, compressed)
    breaker = judging()
    with sdk.sync_client(server, breaker) as client:
        assert "".join(map(sdk.said, sdk.stream(client))) == "a"
    assert breaker.snapshot().successes == 1


async def test_connection_is_used_again_after_a_stream(sdk: Sdk, server: Misbehaving) -> None:
    """What comes after the end of an answer is read, so that its connection can be used again."""
    provide(server, sdk.wire, streams("a"), streams("b"), answers("c"))
    async with sdk.client(server, judging()) as client:
        assert await read(sdk, await sdk.stream(client)) == "a"
        assert await read(sdk, await sdk.stream(client)) == "b"
        assert sdk.text(await sdk.ask(client)) == "c"
    assert server.connections == 1


async def test_error_before_the_first_delta_is_retried(sdk: Sdk, server: Misbehaving) -> None:
    """A stream that breaks before its caller has seen anything is begun again, and nothing is seen twice."""
    provide(
        server,
        sdk.wire,
        streams(before=("ping", "die")),
        streams(before=("error",), error=("overloaded_error", "server_overloaded")),
        streams("a", "b"),
    )
    breaker = judging()
    async with sdk.client(server, pipeline(quickly(), breaker)) as client:
        events: list[str] = []
        assert await read(sdk, await sdk.stream(client), events) == "ab"
    assert server.total == 3
    assert breaker.snapshot().failures == 2
    assert breaker.snapshot().successes == 1


async def test_error_before_the_first_delta_is_a_typed_error(sdk: Sdk, server: Misbehaving) -> None:
    """If nobody retries, an error at the beginning of a 200 has the status that it should have had."""
    if isinstance(sdk.wire, Responses):
        pytest.skip("the SDK does not raise what Responses say in an event of their own")
    provide(server, sdk.wire, streams(before=("error",), error=("overloaded_error", "slow_down")))
    async with sdk.client(server, quickly(2)) as client:
        with pytest.raises(sdk.module.APIStatusError) as caught:
            await sdk.stream(client)
    assert caught.value.status_code in (503, 529)
    assert meaning_of(caught.value) == "overloaded"
    assert trail_of(caught.value).stop_reason == "attempts"
    assert not partial_of(caught.value)


async def test_error_in_the_middle_is_a_failure_and_final(sdk: Sdk, server: Misbehaving) -> None:
    """After the first delta nothing is retried: the SDK raises its own error, the breaker has a failure."""
    provide(server, sdk.wire, streams("a", "b", end="error", error=("overloaded_error", "server_error")))
    breaker = judging()
    seen: list[str] = []
    async with sdk.client(server, pipeline(quickly(), breaker)) as client:
        stream = await sdk.stream(client)
        if isinstance(sdk.wire, Responses):  # an event, which the SDK does not raise
            await read(sdk, stream, seen)
        else:
            with pytest.raises(sdk.module.APIError) as caught:
                await read(sdk, stream, seen)
            assert partial_of(caught.value)
            assert meaning_of(caught.value) in ("failed", "overloaded")
            assert presets.model.failing(caught.value) is True
    assert "".join(seen) == "ab"
    assert server.total == 1
    assert breaker.snapshot().failures == 1
    assert_no_leaks(breaker)


async def test_death_in_the_middle_is_a_connection_error(sdk: Sdk, server: Misbehaving) -> None:
    """A connection that dies in the middle is a failure, raised after all that had come."""
    provide(server, sdk.wire, streams("a", "b", end="die"))
    breaker = judging()
    seen: list[str] = []
    async with sdk.client(server, pipeline(quickly(), breaker)) as client:
        stream = await sdk.stream(client)
        with pytest.raises(Exception, match=r"peer closed|Connection error") as caught:
            await read(sdk, stream, seen)
    assert partial_of(caught.value)
    assert "".join(seen) == "ab"
    assert breaker.snapshot().failures == 1


async def test_half_an_answer_is_not_taken_as_whole(sdk: Sdk, server: Misbehaving) -> None:
    """A body that ends well before its answer does is an error, and a failure."""
    provide(server, sdk.wire, streams("a", "b", end="close"))
    breaker = judging()
    seen: list[str] = []
    async with sdk.client(server, breaker) as client:
        stream = await sdk.stream(client)
        with pytest.raises(Exception, match=r"before the answer was whole|Connection error"):
            await read(sdk, stream, seen)
    assert "".join(seen) == "ab"
    assert breaker.snapshot().failures == 1


async def test_half_an_answer_may_be_allowed(sdk: Sdk, server: Misbehaving) -> None:
    """`whole_answers=False` lets it end, as the bare SDK does."""
    provide(server, sdk.wire, streams("a", end="close"))
    breaker = judging()
    async with sdk.client(server, breaker, whole_answers=False) as client:
        assert await read(sdk, await sdk.stream(client)) == "a"
    assert breaker.snapshot().successes == 1


async def test_first_clock_ignores_pings(sdk: Sdk, server: Misbehaving) -> None:
    """A stream that only pings has no first token: the clock says "first", in the SDK's own timeout."""
    provide(server, sdk.wire, streams(before=("pings",)))
    clocks = timeout(first=0.1, idle=5.0)
    async with sdk.client(server, clocks) as client:
        with pytest.raises(sdk.module.APITimeoutError) as caught:
            await sdk.stream(client.with_options(max_retries=0))
    assert caught.value.__cause__.clock == "first"
    assert_no_leaks(clocks)


async def test_idle_clock_ignores_pings(sdk: Sdk, server: Misbehaving) -> None:
    """A stream that stalls in the middle, pinging, is cut by the idle clock; what had come was seen."""
    provide(server, sdk.wire, streams("a", end="pings"))
    clocks = timeout(first=5.0, idle=0.1)
    seen: list[str] = []
    async with sdk.client(server, clocks) as client:
        stream = await sdk.stream(client)
        with pytest.raises(Exception, match=r"idle|no further item|timed out") as caught:
            await read(sdk, stream, seen)
    clock = next(error.clock for error in (caught.value, caught.value.__cause__) if hasattr(error, "clock"))
    assert clock == "idle"
    assert isinstance(caught.value, (sdk.http.TimeoutException, sdk.module.APITimeoutError))
    assert "".join(seen) == "a"
    assert partial_of(caught.value)
    assert_no_leaks(clocks)


async def test_rl06_usage_of_a_stream_settles(sdk: Sdk, server: Misbehaving) -> None:
    """RL-06: the usage in the last events corrects what was reserved."""
    provide(server, sdk.wire, streams("a", "b", tokens=(40, 60)))
    limit = rate_limit(token_rate("1/h", burst=10_000))
    async with sdk.client(server, limit) as client:
        await read(sdk, await sdk.stream(client))
    assert limit.available["tokens"] == pytest.approx(9_900, abs=1)


async def test_rl06_stream_that_is_left_keeps_its_reservation(sdk: Sdk, server: Misbehaving) -> None:
    """RL-06: a stream that its caller leaves has cost what was reserved: the provider charges for it."""
    provide(server, sdk.wire, streams("a", "b", end="hang"))
    limit = rate_limit(token_rate("1/h", unit="output_tokens", burst=1000))
    async with sdk.client(server, limit) as client:
        stream = await sdk.stream(client)
        await stream.close()
    reserved = 64 if sdk.wire.name == "anthropic" else 256
    assert limit.available["output_tokens"] == pytest.approx(1000 - reserved, abs=1)
    assert_no_leaks(limit)


async def test_rejected_stream(sdk: Sdk, server: Misbehaving) -> None:
    """A rejection of a stream is the SDK's error where the stream is asked for."""
    breaker = circuit_breaker()
    breaker.force_open()
    async with sdk.client(server, breaker) as client:
        with pytest.raises(sdk.module.APIStatusError) as caught:
            await sdk.stream(client)
    assert rejection_of(caught.value).reason == "forced_open"
    assert server.total == 0


async def test_status_instead_of_a_stream(sdk: Sdk, server: Misbehaving) -> None:
    """A stream that is answered with a status is retried, and in the end the SDK's error."""
    provide(server, sdk.wire, fails(503), fails(400, "invalid_request_error"))
    async with sdk.client(server, quickly()) as client:
        with pytest.raises(sdk.module.BadRequestError):
            await sdk.stream(client)
    assert server.total == 2


async def test_closing_says_nothing(sdk: Sdk, server: Misbehaving) -> None:
    """A stream that its caller closes early is no outcome, and nothing is held after it."""
    provide(server, sdk.wire, streams("a", "b", end="hang"))
    breaker = judging()
    async with sdk.client(server, breaker) as client:
        async with await sdk.stream(client) as stream:
            async for _ in stream:
                break
        assert breaker.snapshot().inflight == 0
    assert breaker.snapshot().ignored == 1
    assert breaker.snapshot().failures == 0


async def test_cancelled_stream_holds_nothing(sdk: Sdk, server: Misbehaving) -> None:
    """A task that is cancelled while it waits for an event gives its permit back."""
    provide(server, sdk.wire, streams("a", end="hang"))
    one = bulkhead(1)
    async with sdk.client(server, one) as client:
        with anyio.CancelScope() as scope:
            async with await sdk.stream(client) as stream:
                async for event in stream:
                    if sdk.said(event):  # from then on it waits
                        scope.deadline = anyio.current_time() + 0.05
        assert scope.cancelled_caught
        assert one.snapshot().inflight == 0
    server.until(lambda: server.left.total() == 1)


@pytest.mark.parametrize("begun", [True, False], ids=["broken off", "never iterated"])
async def test_abandoned_stream_is_counted(
    sdk: Sdk, server: Misbehaving, begun: bool, caplog: pytest.LogCaptureFixture, request: pytest.FixtureRequest
) -> None:
    """A stream that is dropped gives its permit back when it is collected, is counted, and logged once."""
    provide(server, sdk.wire, streams("a", "b", end="hang"))
    one = bulkhead(2, name=request.node.name)
    async with sdk.client(server, one) as client:
        guard = guard_of(client)
        assert guard is not None
        with caplog.at_level(logging.WARNING, "resilio"):
            for _ in range(2):
                stream = await sdk.stream(client)
                if begun:
                    async for _ in stream:
                        break
                del stream
                await collected(one)
        server.until(lambda: server.left.total() == 2)
        assert one.snapshot().inflight == 0
    if not begun:  # else the SDK's own generator, when it is collected, closes the stream
        assert guard.abandoned == 2
        assert one.snapshot().abandoned == 2
        assert len([line for line in caplog.records if "dropped before" in line.message]) == 1
    assert_no_leaks(one)


def test_abandoned_sync_stream(sdk: Sdk, server: Misbehaving) -> None:
    """For threads the permit is back as soon as nobody has the stream."""
    provide(server, sdk.wire, streams("a", "b", end="hang"))
    one = bulkhead(1)
    with sdk.sync_client(server, one) as client:
        stream = sdk.stream(client)
        next(iter(stream))
        del stream
        gc.collect()
        assert one.snapshot().inflight == 0
        stream = sdk.stream(client)
        del stream
        gc.collect()
        assert one.snapshot().inflight == 0
        guard = guard_of(client)
        assert guard is not None
        assert guard.abandoned >= 1
        assert one.snapshot().abandoned == guard.abandoned


def test_sync_errors_are_the_same(sdk: Sdk, server: Misbehaving) -> None:
    """Retries, errors in the middle and ends are for threads what they are for tasks."""
    provide(
        server, sdk.wire, streams(before=("die",)), streams("a"), streams("b", end="close"), streams("c", end="die")
    )
    breaker = judging()
    with sdk.sync_client(server, pipeline(quickly(), breaker)) as client:
        assert "".join(map(sdk.said, sdk.stream(client))) == "a"
        for text in ("b", "c"):
            seen: list[str] = []
            with pytest.raises(Exception, match=r"whole|Connection|closed"):
                for event in sdk.stream(client):
                    seen.append(sdk.said(event))  # noqa: PERF401 - what came before an error is looked at
            assert "".join(seen) == text
    assert breaker.snapshot().failures == 3
    assert breaker.snapshot().successes == 1


async def test_standard_guards_streams(sdk: Sdk, server: Misbehaving) -> None:
    """The recommended stack takes streams as they are, without what cannot guard them."""
    provide(server, sdk.wire, fails(503, retry_after_ms="1"), streams("a"))
    policy = standard(f"{sdk.name}-streams", on="model", idempotent=True)
    async with sdk.client(server, policy) as client:
        assert await read(sdk, await sdk.stream(client)) == "a"
    assert policy.snapshot().successes == 1
    assert_no_leaks(policy)


async def test_stream_helpers_of_the_sdk(sdk: Sdk, server: Misbehaving) -> None:
    """The SDK's own helpers for streams, and its raw responses, work on a guarded client."""
    provide(server, sdk.wire, streams("a", "b"))
    async with sdk.client(server, judging()) as client:
        if sdk.wire.name == "anthropic":
            said = {"max_tokens": 9, "model": "m", "messages": [{"role": "user", "content": "x"}]}
            async with client.messages.stream(**said) as stream:
                assert await stream.get_final_text() == "ab"
        with suppress(AttributeError):
            raw = client.messages if sdk.wire.name == "anthropic" else client.chat.completions
            assert raw.with_raw_response is not None


async def left_to_the_collector(sdk: Sdk, client: Any, is_left: Callable[[Any], bool]) -> list[Any]:
    """Ask for three answers, and return what there still is of them once they are over."""
    gc.collect()
    gc.disable()
    try:
        assert sdk.text(await sdk.ask(client)) == "a"
        assert await read(sdk, await sdk.stream(client)) == "ab"
        assert await read(sdk, await sdk.stream(client)) == "c"
        for _ in range(10):  # the loop closes the generators of an SDK that leaves them at [DONE]
            await checkpoint()
        return [one for one in gc.get_objects() if is_left(one)]
    finally:
        gc.enable()


async def test_what_is_over_needs_no_collector(sdk: Sdk, server: Misbehaving) -> None:
    """
    A call that has ended well, and its request with it, is gone at once: nothing of it leads back to where it began.

    As a circle each call left thirty objects to the collector, and its request's body until that came.
    """
    said = (answers("a"), streams("a", "b"), streams("c", at_once=True))
    provide(server, sdk.wire, *said)
    async with sdk.bare(server) as bare:
        if await left_to_the_collector(sdk, bare, lambda one: type(one).__name__ == "Response"):
            pytest.skip("this version of the SDK leaves its own responses to the collector, and what they hold")
    provide(server, sdk.wire, *said)
    async with sdk.client(server, pipeline(bulkhead(1), timeout(first=9.0))) as client:
        assert await left_to_the_collector(sdk, client, lambda one: issubclass(type(one), (Exchange, ModelCall))) == []


def test_stream_left_behind_by_its_loop(sdk: Sdk, server: Misbehaving) -> None:
    """A stream that outlives its event loop holds nothing once it is collected."""
    provide(server, sdk.wire, streams("a", end="hang"))
    one = bulkhead(1)

    async def main() -> Any:
        return await sdk.stream(sdk.llm.guard(sdk.bare(server), one))

    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ResourceWarning)  # its socket is left behind as well
        left = [asyncio.run(main())]
        left.clear()
        gc.collect()
    assert_no_leaks(one)


async def test_event_that_the_sdk_does_not_raise(sdk: Sdk, server: Misbehaving) -> None:
    """A response that failed before anything was visible is retried, and in the end given as it came."""
    if not isinstance(sdk.wire, Responses):
        pytest.skip("only Responses say so in an event of their own")
    provide(server, sdk.wire, streams(before=("error",), error=("failed", "server_error")))
    breaker = judging()
    async with sdk.client(server, pipeline(quickly(2), breaker)) as client:
        kinds = [event.type async for event in await sdk.stream(client)]
    assert kinds == ["response.created", "response.failed"]
    assert breaker.snapshot().failures == server.total == 2


async def half(exchange: Any, wire: Any) -> None:
    """Break off in the body, of an answer and of an error in turn."""
    del wire
    status = 200 if len(exchange.server.seen) % 2 else 503
    await exchange.head(status, {"content-length": "100", "content-type": "application/json"})
    await exchange.raw(b'{"id": ')
    exchange.cut()


async def test_bodies_that_break_off(sdk: Sdk, server: Misbehaving) -> None:
    """A whole answer, and an error's body, that break off are connection errors, retried like those."""
    provide(server, sdk.wire, half)
    async with sdk.client(server, quickly(2)) as client:
        with pytest.raises(sdk.module.APIConnectionError):
            await sdk.ask(client)
    assert server.total == 2


def test_sync_bodies_that_break_off(sdk: Sdk, server: Misbehaving) -> None:
    """So it is for threads."""
    provide(server, sdk.wire, half)
    with sdk.sync_client(server, quickly(2)) as client, pytest.raises(sdk.module.APIConnectionError):
        sdk.ask(client)
    assert server.total == 2


def test_sync_status_and_stream_in_one_piece(sdk: Sdk, server: Misbehaving) -> None:
    """The ways through the client for threads that the others do not take."""
    provide(server, sdk.wire, fails(503), streams("a", "b", at_once=True), streams("c", end="error"))
    with sdk.sync_client(server, quickly()) as client:
        with sdk.stream(client) as stream:
            assert "".join(map(sdk.said, stream)) == "ab"
        seen: list[str] = []
        with suppress(sdk.module.APIError):
            for event in sdk.stream(client):
                seen.append(sdk.said(event))  # noqa: PERF401 - what came before an error is looked at
        assert "".join(seen) == "c"


@pytest.mark.parametrize(
    ("behaviour", "which", "said"),
    [
        (streams(before=("pings",)), "first", ""),
        (streams(before=("hang",)), "first", ""),
        (hangs, "first", ""),
        (streams("a", end="pings"), "idle", "a"),
        (streams("a", end="hang"), "idle", "a"),
    ],
    ids=["pings", "silence", "no headers", "pings in the middle", "silence in the middle"],
)
def test_sync_clocks(sdk: Sdk, server: Misbehaving, behaviour: Any, which: str, said: str) -> None:
    """A thread cannot be interrupted: clocks are looked at whenever something comes, and bound the client's reads."""
    provide(server, sdk.wire, behaviour)
    clocks = timeout(first=0.15, idle=0.1)
    seen: list[str] = []
    with sdk.sync_client(server, pipeline(judging(), clocks)) as client:
        with pytest.raises(Exception, match=r"first item|further item|timed out|interrupted") as caught:
            for event in sdk.stream(client.with_options(max_retries=0)):
                seen.append(sdk.said(event))  # noqa: PERF401 - what came before an error is looked at
        assert "".join(seen) == said
    errors = [caught.value, caught.value.__cause__]
    assert next(error.clock for error in errors if hasattr(error, "clock")) == which


@pytest.mark.parametrize("clocks", [timeout(first=0.5, idle=9.0), timeout(first=0.5)], ids=["both", "first"])
@one_sdk
@pytest.mark.real(1.5)
def test_the_sync_clock_of_the_headers_does_not_bound_the_body(sdk: Sdk, server: Misbehaving, clocks: Any) -> None:
    """The client's read timeout stayed that of the headers: a stream that pauses was cut after it, whatever `idle`."""

    async def pauses(exchange: Any, wire: Any) -> None:
        await exchange.head(headers={"content-type": "text/event-stream"})
        for piece in [*wire.opening((7, 5)), wire.delta("a")]:
            await exchange.chunk(piece)
        await asyncio.sleep(1.0)
        for piece in [wire.delta("b"), *wire.closing((7, 5)), b""]:
            await exchange.chunk(piece)

    provide(server, sdk.wire, pauses)
    with sdk.sync_client(server, clocks) as client:
        assert "".join(map(sdk.said, sdk.stream(client.with_options(max_retries=0)))) == "ab"


@pytest.mark.parametrize(
    ("behaviour", "ambient"),
    [(streams("a", end="pings"), False), (streams("a", end="hang"), True), (hangs, False), (hangs, True)],
    ids=["timeout of pings", "deadline of silence", "timeout of headers", "deadline of headers"],
)
def test_a_time_that_was_given_ends_a_thread(sdk: Sdk, server: Misbehaving, behaviour: Any, ambient: bool) -> None:
    """A timeout that was asked for was left out for threads without a word, and a deadline bounded no socket."""
    provide(server, sdk.wire, behaviour)
    breaker = judging()
    policy = breaker if ambient else pipeline(breaker, timeout(0.2))
    around = deadline(0.2) if ambient else nullcontext()
    raises = pytest.raises(Exception, match=r"timed out|interrupted|passed|within")
    with sdk.sync_client(server, policy) as client, raises as caught, around:
        list(sdk.stream(client.with_options(max_retries=0)))
    errors = [caught.value, caught.value.__cause__]
    assert any(isinstance(error, (CallTimeoutError, DeadlineExceededError)) for error in errors)
    assert breaker.snapshot().inflight == 0


def test_a_timeout_that_was_given_ends_a_whole_answer(sdk: Sdk, server: Misbehaving) -> None:
    """`standard(..., timeout=)` guards a client for threads, too."""
    provide(server, sdk.wire, hangs)
    policy = standard(f"{sdk.name}-hangs-sync", on="model", timeout=0.2, attempts=1)
    with sdk.sync_client(server, policy) as client, pytest.raises(sdk.module.APITimeoutError):
        sdk.ask(client.with_options(max_retries=0))
    assert_no_leaks(policy)


def test_sync_stream_in_time_is_left_alone(sdk: Sdk, server: Misbehaving) -> None:
    """Clocks that are not up change nothing, one alone neither."""
    provide(server, sdk.wire, streams("a", "ping", "b"))
    for clocks in (timeout(first=9.0, idle=9.0), timeout(first=9.0), timeout(idle=9.0)):
        with sdk.sync_client(server, clocks) as client:
            assert "".join(map(sdk.said, sdk.stream(client))) == "ab"
