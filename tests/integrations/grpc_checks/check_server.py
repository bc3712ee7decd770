"""The interceptor of grpc.aio's server: what is admitted, what is rejected, and how it ends."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import grpc
import pytest
from grpc import aio
from servers.grpc_service import Code, Served, Service, ends, pairs, serve

import resilio
from resilio.integrations._shared.headers import ignored_headers
from resilio.integrations.grpc import Incoming, method, server_interceptor

pytestmark = pytest.mark.anyio


@pytest.fixture
async def started(anyio_backend: str) -> AsyncIterator[Any]:
    """Start servers with interceptors; they are stopped in the end."""
    running: list[Served] = []

    async def start(*interceptors: Any, service: Service | None = None) -> Served:
        running.append(await serve(*interceptors, service=service))
        return running[-1]

    yield start
    for served in running:
        await served.server.stop(None)


async def collect(call: Any) -> list[bytes]:
    """All messages."""
    return [message async for message in call]


async def test_all_kinds_are_served(started: Any, breaker: Any) -> None:
    """Each kind of method answers as without the interceptor, and is one success."""
    served = await started(server_interceptor(breaker))

    async def several() -> AsyncIterator[bytes]:
        yield b"a"
        yield b"b"

    async with served.channel() as channel:
        assert await channel.unary_unary("/s/echo")(b"a") == b"a"
        assert await collect(channel.unary_stream("/s/numbers")(b"2")) == [b"0", b"1"]
        assert await channel.stream_unary("/s/joins")(several()) == b"ab"
        assert await collect(channel.stream_stream("/s/echoes")(several())) == [b"a", b"b"]
        with pytest.raises(aio.AioRpcError) as caught:
            await channel.unary_unary("/s/nothing")(b"")
    assert caught.value.code() is Code.UNIMPLEMENTED
    assert ends(breaker) == (4, 0, 0)


async def test_functions_in_threads_and_written_streams_are_served(started: Any, breaker: Any) -> None:
    """Plain functions and generators run in grpcio's threads, coroutines may write their stream."""

    def plain(request: bytes, context: Any) -> bytes:
        return request

    def several(request: bytes, context: Any) -> Iterator[bytes]:
        yield request
        yield request

    def broken(request: bytes, context: Any) -> Iterator[bytes]:
        yield request
        raise KeyError("broken")

    async def written(request: bytes, context: Any) -> None:
        await context.write(request)
        await context.write(request)

    class Called:
        async def __call__(self, request: bytes, context: Any) -> bytes:
            return request

    service = Service()
    service.methods |= {
        "plain": grpc.unary_unary_rpc_method_handler(plain),
        "several": grpc.unary_stream_rpc_method_handler(several),
        "broken": grpc.unary_stream_rpc_method_handler(broken),
        "written": grpc.unary_stream_rpc_method_handler(written),
        "called": grpc.unary_unary_rpc_method_handler(Called().__call__),
    }
    threads = ThreadPoolExecutor(2)
    try:
        server = aio.server(threads, interceptors=(server_interceptor(breaker),))
        server.add_generic_rpc_handlers((service,))
        served = Served(service, server, server.add_insecure_port("127.0.0.1:0"))
        await server.start()
        async with served.channel() as channel:
            assert await channel.unary_unary("/s/plain")(b"a") == b"a"
            assert await channel.unary_unary("/s/called")(b"a") == b"a"
            assert await collect(channel.unary_stream("/s/several")(b"a")) == [b"a", b"a"]
            assert await collect(channel.unary_stream("/s/written")(b"a")) == [b"a", b"a"]
            with pytest.raises(aio.AioRpcError):
                await collect(channel.unary_stream("/s/broken")(b"a"))
            assert ends(breaker) == (4, 1, 0)
            breaker.force_open()
            for call in (channel.unary_unary("/s/plain")(b"a"), collect(channel.unary_stream("/s/several")(b"a"))):
                with pytest.raises(aio.AioRpcError) as caught:
                    await call
                assert caught.value.code() is Code.UNAVAILABLE
        await server.stop(None)
    finally:
        await asyncio.to_thread(threads.shutdown)  # not here: a handler's thread may wait for this loop


async def test_an_upstream_that_takes_too_long_is_a_deadline_exceeded(started: Any) -> None:
    """A guarded call of a handler that timed out was UNKNOWN, with a traceback in the server's log."""
    service = Service()

    async def late(request: bytes, context: Any) -> bytes:
        raise resilio.CallTimeoutError("total", 0.02, "upstream")

    service.methods["late"] = grpc.unary_unary_rpc_method_handler(late)
    policy = resilio.circuit_breaker()
    served = await started(server_interceptor(policy), service=service)
    async with served.channel() as channel:
        with pytest.raises(aio.AioRpcError) as caught:
            await channel.unary_unary("/s/late")(b"a")
    assert caught.value.code() is Code.DEADLINE_EXCEEDED
    assert ends(policy)[1] == 1


async def test_ls01_a_permit_is_held_until_the_call_is_over(started: Any) -> None:
    """LS-01: a stream that is being sent counts; what does not fit is rejected before its handler runs."""
    policy = resilio.bulkhead(1)
    served = await started(server_interceptor(policy))
    async with served.channel() as channel:
        stream = channel.unary_stream("/s/hangs_stream")(b"")
        assert await stream.read() == b"first"
        assert policy.snapshot().inflight == 1
        with pytest.raises(aio.AioRpcError) as caught:
            await channel.unary_unary("/s/echo")(b"a")
        stream.cancel()
        await served.until(lambda: not policy.snapshot().inflight)
    assert caught.value.code() is Code.RESOURCE_EXHAUSTED
    assert 1000 <= int(pairs(caught.value.trailing_metadata())["grpc-retry-pushback-ms"]) <= 1500
    assert served.service.remaining == []
    assert ends(policy) == (0, 0, 1)


async def test_rejections_have_a_status_and_a_pushback(started: Any) -> None:
    """An open breaker and a pipeline that drains are UNAVAILABLE; when to come back is spread."""
    policy = resilio.circuit_breaker(consecutive=1, open_for=2.0)
    served = await started(server_interceptor(policy))
    pushbacks = set()
    async with served.channel() as channel:
        with pytest.raises(aio.AioRpcError):
            await channel.unary_unary("/s/aborts")(b"INTERNAL")
        for _ in range(10):
            with pytest.raises(aio.AioRpcError) as caught:
                await channel.unary_unary("/s/echo")(b"a")
            assert caught.value.code() is Code.UNAVAILABLE
            pushbacks.add(pairs(caught.value.trailing_metadata())["grpc-retry-pushback-ms"])
    assert len(pushbacks) > 1
    assert all(0 < int(pushback) <= 3000 for pushback in pushbacks)
    draining = resilio.pipeline(resilio.bulkhead(5))
    assert await draining.adrain(1.0)
    served = await started(server_interceptor(draining))
    async with served.channel() as channel:
        with pytest.raises(aio.AioRpcError) as caught:
            await channel.unary_unary("/s/echo")(b"a")
    assert caught.value.code() is Code.UNAVAILABLE


async def test_statuses_and_exceptions_are_outcomes(started: Any, breaker: Any) -> None:
    """What a handler aborts with, sets or raises: INTERNAL is a failure, NOT_FOUND is none."""

    async def sets(request: bytes, context: Any) -> bytes:
        context.set_code(Code[request.decode()])
        return b""

    async def raises(request: bytes, context: Any) -> bytes:
        raise KeyError("broken")

    async def rejected(request: bytes, context: Any) -> bytes:
        raise resilio.RateLimitedError("rate_limit", "further in", "rate", retry_after=3.0)

    service = Service()
    service.methods |= {
        name: grpc.unary_unary_rpc_method_handler(function)
        for name, function in {"sets": sets, "raises": raises, "rejected": rejected}.items()
    }
    served = await started(server_interceptor(breaker), service=service)
    codes = []
    async with served.channel() as channel:
        for name, request in (
            ("aborts", b"NOT_FOUND"),
            ("aborts", b"INTERNAL"),
            ("sets", b"NOT_FOUND"),
            ("sets", b"INTERNAL"),
            ("raises", b""),
            ("rejected", b""),
        ):
            with pytest.raises(aio.AioRpcError) as caught:
                await channel.unary_unary(f"/s/{name}")(request)
            codes.append(caught.value.code().name)
    assert codes == ["NOT_FOUND", "INTERNAL", "NOT_FOUND", "INTERNAL", "UNKNOWN", "RESOURCE_EXHAUSTED"]
    assert ends(breaker) == (2, 3, 1)  # a rejection further in says nothing about this service


async def test_the_clients_deadline_is_ambient(started: Any) -> None:
    """The handler knows how much time is left, also through a cap; a queue does not hold what cannot be served."""
    seen: list[float | None] = []

    async def looks(request: bytes, context: Any) -> bytes:
        seen.append(resilio.remaining())
        return b""

    service = Service()
    service.methods["looks"] = grpc.unary_unary_rpc_method_handler(looks)
    plain = await started(server_interceptor(resilio.bulkhead(5)), service=service)
    capped = await started(server_interceptor(resilio.bulkhead(5), max_deadline=2.0), service=service)
    for served in (plain, capped):
        async with served.channel() as channel:
            await channel.unary_unary("/s/looks")(b"")
            await channel.unary_unary("/s/looks")(b"", timeout=1.0)
            await channel.unary_unary("/s/looks")(b"", timeout=9.0)
    assert seen[0] is None
    assert [round(value or 0) for value in seen[1:]] == [1, 9, 2, 1, 2]


async def test_a_call_that_waits_longer_than_its_deadline_is_not_served(started: Any) -> None:
    """A queue gives up with the client, and the handler never runs."""
    policy = resilio.bulkhead(1, max_queued=5, max_wait=30.0)
    served = await started(server_interceptor(policy))
    async with served.channel() as channel:
        stream = channel.unary_stream("/s/hangs_stream")(b"")
        await stream.read()
        with pytest.raises(aio.AioRpcError) as caught:
            await channel.unary_unary("/s/echo")(b"a", timeout=0.05)
        assert caught.value.code() is Code.DEADLINE_EXCEEDED
        waiting = channel.unary_unary("/s/echo")(b"a")
        await served.until(lambda: policy.snapshot().queued == 1)
        waiting.cancel()
        await served.until(lambda: policy.snapshot().queued == 0)
        stream.cancel()
    assert served.service.remaining == []
    await served.until(lambda: not policy.snapshot().inflight)


async def test_priorities_count_where_they_are_trusted(started: Any) -> None:
    """LS-03: a stranger's priority is ignored and counted; a trusted one is ambient; rubbish is ignored and counted."""
    seen: list[str] = []

    async def looks(request: bytes, context: Any) -> bytes:
        seen.append(resilio.current_priority())
        return b""

    service = Service()
    service.methods["looks"] = grpc.unary_unary_rpc_method_handler(looks)
    before = ignored_headers()
    options = {"priority_header": "X-Priority"}
    policy = resilio.bulkhead(5)
    for trust in (False, "10.0.0.0/8", "127.0.0.0/8", True, lambda context: context.peer().startswith("ipv4:")):
        served = await started(server_interceptor(policy, trust=trust, **options), service=service)
        async with served.channel() as channel:
            for metadata in ((("x-priority", "critical"),), (("x-priority", "no such"),), ()):
                await channel.unary_unary("/s/looks")(b"", metadata=metadata)
    assert seen == ["standard"] * 6 + ["critical", "standard", "standard"] * 3
    after = ignored_headers()
    assert after["priority", "untrusted"] - before.get(("priority", "untrusted"), 0) == 4
    assert after["priority", "malformed"] - before.get(("priority", "malformed"), 0) == 3


async def test_ls05_health_checks_are_exempt(started: Any) -> None:
    """LS-05: whether the server lives is answered whatever the policy says; which methods are, can be said."""
    service = Service()
    policy = resilio.circuit_breaker()
    policy.force_open()

    async def ask(served: Served, name: str) -> Any:
        async with served.channel() as channel:
            try:
                return await channel.unary_unary(name)(b"a")
            except aio.AioRpcError as error:
                return error.code()

    service.methods["Check"] = service.methods["echo"]
    health, echo = "/grpc.health.v1.Health/Check", "/s/echo"
    usual = await started(server_interceptor(policy), service=service)
    named = await started(server_interceptor(policy, exempt=("/s/",)), service=service)
    told = await started(server_interceptor(policy, exempt=lambda name: name == echo), service=service)
    assert [await ask(usual, health), await ask(usual, echo)] == [b"a", Code.UNAVAILABLE]
    assert [await ask(named, health), await ask(named, echo)] == [b"a", b"a"]  # added to the defaults
    none = await started(server_interceptor(policy, exempt=None), service=service)
    assert [await ask(none, health), await ask(none, echo)] == [Code.UNAVAILABLE, Code.UNAVAILABLE]
    assert [await ask(told, health), await ask(told, echo)] == [Code.UNAVAILABLE, b"a"]


async def test_policies_see_the_call(started: Any) -> None:
    """Keys and weights are functions of the method and the context."""
    policy = resilio.keyed(lambda: resilio.bulkhead(5), key=method)
    served = await started(server_interceptor(policy))
    async with served.channel() as channel:
        await channel.unary_unary("/s/echo")(b"a")
        await collect(channel.unary_stream("/s/numbers")(b"1"))
    assert sorted(policy) == ["/s/echo", "/s/numbers"]
    shown = Incoming("/s/echo", None)
    assert (shown.method, shown.context) == ("/s/echo", None)


async def test_a_client_that_leaves_says_nothing(started: Any, breaker: Any) -> None:
    """A call cancelled by its client is neither success nor failure, and its permit is back."""
    served = await started(server_interceptor(breaker))
    async with served.channel() as channel:
        call = channel.unary_unary("/s/hangs")(b"")
        await served.until(lambda: breaker.snapshot().inflight)
        call.cancel()
        await served.until(lambda: not breaker.snapshot().inflight)
    assert ends(breaker) == (0, 0, 1)


async def test_the_default_learns_what_the_server_can_do(started: Any) -> None:
    """Without a policy it is a load shedder."""
    interceptor = server_interceptor()
    assert interceptor.policy.kind == "load_shed"
    served = await started(interceptor)
    async with served.channel() as channel:
        echo = channel.unary_unary("/s/echo")
        assert await asyncio.gather(*(echo(b"a") for _ in range(50))) == [b"a"] * 50
    assert ends(interceptor.policy) == (50, 0, 0)


def test_options_are_checked() -> None:
    """Each wrong option is named with its value, and what would run a call again is rejected."""
    policy = resilio.bulkhead(1)
    with pytest.raises(TypeError, match="policy must only admit or reject"):
        server_interceptor(resilio.retry(on=Exception))
    with pytest.raises(TypeError, match="policy must be a policy"):
        server_interceptor(lambda: None)  # type: ignore[arg-type]
    with pytest.raises(TypeError, match="exempt must be beginnings"):
        server_interceptor(policy, exempt="health")
    with pytest.raises(TypeError, match="exempt must be beginnings"):
        server_interceptor(policy, exempt=(b"/s/",))  # type: ignore[arg-type]
    with pytest.raises(ValueError, match="max_deadline"):
        server_interceptor(policy, max_deadline=-1.0)
    with pytest.raises(ValueError, match="priority_header"):
        server_interceptor(policy, priority_header="two words")
    with pytest.raises(ValueError, match="trust must be"):
        server_interceptor(policy, trust="nowhere")


def test_a_misspelt_option_is_suggested() -> None:
    """The options were those of the middlewares, declared again: a misspelt one had Python's own error."""
    with pytest.raises(TypeError, match="did you mean 'priority_header'"):
        server_interceptor(resilio.bulkhead(1), priority_headr="x-priority")  # type: ignore[call-arg]
