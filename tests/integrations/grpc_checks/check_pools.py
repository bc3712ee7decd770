"""Pools inside of gRPC, for grpc.aio and for threads: a channel an endpoint, and replicas in trouble."""

from __future__ import annotations

import asyncio
import time
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import suppress
from types import SimpleNamespace
from typing import Any

import grpc
import pytest
from grpc import aio
from servers.replica_grpc import GrpcReplica, grpc_replicas

from resilio import Endpoint, Pool, bulkhead, circuit_breaker, pipeline, pool, retry, timeout
from resilio.errors import BulkheadFullError
from resilio.integrations.grpc import channel, interceptors, preset, sync_channel

Two = tuple[GrpcReplica, GrpcReplica]
PATIENCE = 60.0
UNAVAILABLE = grpc.StatusCode.UNAVAILABLE.value[0]


class Aio:
    """A channel of grpc.aio, used from a test that waits."""

    def __init__(self, policy: Any, loop: asyncio.Runner, **options: Any) -> None:
        self._loop = loop
        self._channel = self.run(self._opened(policy, **options))

    async def _opened(self, policy: Any, **options: Any) -> Any:
        return channel(policy, **options)

    def run(self, coroutine: Any) -> Any:
        return self._loop.run(coroutine)

    def ask(self, method: str, message: bytes = b"", **options: Any) -> bytes:
        async def whole() -> bytes:
            answer: bytes = await self._channel.unary_unary(f"/s/{method}")(message, **options)
            return answer

        return self.run(whole())

    def messages(self, method: str, message: bytes) -> Iterator[bytes]:
        async def begun() -> Any:
            return aiter(self._channel.unary_stream(f"/s/{method}")(message))

        async def following(found: Any) -> Any:
            return await anext(found, None)

        found = self.run(begun())
        while (one := self.run(following(found))) is not None:
            yield one

    def join(self, *messages: bytes) -> bytes:
        async def parts() -> Any:
            for one in messages:
                yield one

        async def whole() -> bytes:
            answer: bytes = await self._channel.stream_unary("/s/joins")(parts())
            return answer

        return self.run(whole())

    def both(self, *messages: bytes) -> list[bytes]:
        async def parts() -> Any:
            for one in messages:
                yield one

        async def whole() -> list[bytes]:
            return [one async for one in self._channel.stream_stream("/s/echoes")(parts())]

        return self.run(whole())

    def close(self) -> None:
        self.run(self._channel.close())


class Threads:
    """A channel for threads."""

    def __init__(self, policy: Any, loop: asyncio.Runner, **options: Any) -> None:
        self._channel = sync_channel(policy, **options)

    def ask(self, method: str, message: bytes = b"", **options: Any) -> bytes:
        answer: bytes = self._channel.unary_unary(f"/s/{method}")(message, **options)
        return answer

    def messages(self, method: str, message: bytes) -> Iterator[bytes]:
        yield from self._channel.unary_stream(f"/s/{method}")(message)

    def join(self, *messages: bytes) -> bytes:
        answer: bytes = self._channel.stream_unary("/s/joins")(iter(messages))
        return answer

    def both(self, *messages: bytes) -> list[bytes]:
        return list(self._channel.stream_stream("/s/echoes")(iter(messages)))

    def close(self) -> None:
        self._channel.close()


@pytest.fixture(scope="session")
def _pair() -> Iterator[Two]:
    with grpc_replicas("a", "b") as found:
        yield found


@pytest.fixture
def two(_pair: Two) -> Two:
    """The replicas, fresh."""
    for one in _pair:
        one.fresh()
    return _pair


@pytest.fixture(scope="session")
def loop() -> Iterator[asyncio.Runner]:
    """One event loop for all of grpc.aio."""
    with asyncio.Runner() as runner:
        yield runner


@pytest.fixture(params=[Aio, Threads], ids=lambda kind: kind.__name__)
def caller(request: pytest.FixtureRequest, loop: asyncio.Runner) -> Iterator[Any]:
    """Each kind of channel: a function of a policy."""
    opened: list[Any] = []

    def opening(policy: Any, **options: Any) -> Any:
        opened.append(request.param(policy, loop, **options))
        return opened[-1]

    yield opening
    for one in opened:
        one.close()


one_kind = pytest.mark.parametrize("caller", [Aio], indirect=True, ids=["Aio"])
"""For a scene that is the pool's: a channel that lost its server is asked for by other tests of each kind."""


@pytest.fixture
def search(two: Two) -> Pool:
    """A pool of both."""
    endpoints = [Endpoint(one.url, name=one.name) for one in two]
    return pool("search", *endpoints, each=lambda e: circuit_breaker(consecutive=3, open_for=0.05, max_open_for=0.2))


def ordered(two: Two, **options: Any) -> Pool:
    """A pool that asks the first one first."""
    return pool("search", *(Endpoint(one.url, name=one.name, level=at) for at, one in enumerate(two)), **options)


def elsewhere(search: Pool, *inside: Any) -> Any:
    return pipeline(retry(on=preset.momentary, attempts=2, backoff=0.0, budget=None), search, *inside)


def answered(client: Any, times: int) -> Counter[str]:
    return Counter(client.ask("who").decode() for _ in range(times))


def until(true: Callable[[], object]) -> None:
    latest = time.monotonic() + PATIENCE
    while not true():
        assert time.monotonic() < latest, "it never came"


def row(search: Pool, name: str) -> Any:
    return search[name].snapshot()


# ---- servers in trouble ----------------------------------------------------------------------------------------------


def test_no_call_fails_when_a_server_is_killed(caller: Any, search: Pool, two: Two) -> None:
    """A replica dies between two calls: one retry, elsewhere, and no caller hears of it."""
    client = caller(elsewhere(search))
    assert set(answered(client, 20)) == {"a", "b"}
    latest = client.ask("who").decode()
    dead, other = sorted(two, key=lambda one: one.name != latest)
    dead.kill()
    until(lambda: answered(client, 1) == {other.name: 1} and row(search, dead.name).failures >= 1)
    assert answered(client, 30) == {other.name: 30}


@one_kind
def test_a_server_that_is_back_gets_calls_again(caller: Any, search: Pool, two: Two) -> None:
    """Its channel connects again within a second, and a probe finds it."""
    client = caller(elsewhere(search))
    two[0].kill()
    until(lambda: answered(client, 1) and row(search, "a").failures >= 1)
    two[0].start()
    search.drain("b")  # a pool without a need tries it again after seconds: `test_http.py` has that

    def found() -> bool:
        with suppress(grpc.RpcError):
            return answered(client, 1)["a"] > 0
        return False

    until(found)


@one_kind
def test_calls_leave_a_server_that_hangs(caller: Any, search: Pool, two: Two) -> None:
    """A replica that is stopped says nothing: calls time out there, and go elsewhere."""
    client = caller(elsewhere(search, timeout(1.5)))
    answered(client, 4)
    two[0].pause()
    until(lambda: answered(client, 1) == {"b": 1} and row(search, "a").failures >= 1)
    two[0].resume()
    search.drain("b")
    until(lambda: answered(client, 1)["a"])


@one_kind
def test_calls_move_away_from_a_slow_server(caller: Any, search: Pool, two: Two) -> None:
    """A replica that is slow, but well, gets few calls, without a failure or a breaker."""
    two[0].slow(0.3)
    client = caller(search)
    assert answered(client, 30)["a"] <= 6
    assert row(search, "a").failures == 0


def test_a_retry_goes_elsewhere(caller: Any, search: Pool, two: Two) -> None:
    """A replica that answers UNAVAILABLE is asked once by a call at most."""
    two[0].fail(UNAVAILABLE)
    client = caller(elsewhere(search))
    assert answered(client, 20) == {"b": 20}
    assert 1 <= len(two[0].seen) <= 20
    assert len(two[1].seen) == 20


@pytest.mark.parametrize(
    "code", [grpc.StatusCode.NOT_FOUND, grpc.StatusCode.PERMISSION_DENIED], ids=lambda one: one.name
)
def test_a_status_that_blames_the_request_is_no_sample(caller: Any, two: Two, code: Any) -> None:
    """As with HTTP's 4xx: an endpoint that answers NOT_FOUND at once was the quickest of all, and got all calls."""
    search = pool("search", *(Endpoint(one.url, name=one.name) for one in two))
    two[0].fail(code.value[0])
    client = caller(search)
    for _ in range(12):
        with suppress(grpc.RpcError):
            client.ask("who")
        with suppress(grpc.RpcError):
            list(client.messages("whos", b"1"))
    until(lambda: search.snapshot().inflight == 0)
    found = next(one for one in search.snapshot().endpoints if one.name == "a")
    assert (found.successes, found.failures) == (0, 0)
    assert 1 <= len(two[0].seen) <= 16
    assert row(search, "a").failures == 0


def test_a_stream_is_begun_elsewhere_before_its_first_message(caller: Any, two: Two) -> None:
    """Nothing was received yet, so a retry may begin it at the other endpoint."""
    two[0].fail(UNAVAILABLE)
    client = caller(elsewhere(ordered(two)))
    assert list(client.messages("whos", b"2")) == [b"b", b"b"]


# ---- streams ---------------------------------------------------------------------------------------------------------


def test_a_stream_keeps_its_endpoint_and_its_permit_to_the_end(caller: Any, search: Pool, two: Two) -> None:
    """The endpoint is in flight until the last message, whatever happens to the pool meanwhile."""
    client = caller(elsewhere(search))
    messages = client.messages("whos", b"5")
    name = next(messages).decode()
    assert row(search, name).inflight == 1
    search.drain(name)
    assert answered(client, 5)[name] == 0
    assert list(messages) == [name.encode()] * 4
    until(lambda: row(search, name).inflight == 0)


def test_a_stream_that_breaks_is_an_error_and_is_not_begun_again(caller: Any, search: Pool, two: Two) -> None:
    """After the first message nothing is repeated: the reader gets the status, the endpoint a failure."""
    client = caller(elsewhere(search))
    messages = client.messages("whos", b"0")
    name = next(messages).decode()
    broken = next(one for one in two if one.name == name)
    broken.kill()
    with pytest.raises(grpc.RpcError) as caught:
        list(messages)
    assert caught.value.code() is grpc.StatusCode.UNAVAILABLE
    until(lambda: (row(search, broken.name).inflight, row(search, broken.name).failures) == (0, 1))


def test_streamed_requests_are_sent_once(caller: Any, two: Two) -> None:
    """Messages that were sent cannot be sent again: one attempt, at one endpoint."""
    client = caller(elsewhere(ordered(two)))
    assert client.join(b"a", b"b") == b"ab"
    assert client.both(b"a", b"b") == [b"a", b"b"]
    two[0].kill()
    with pytest.raises(grpc.RpcError):
        client.join(b"a", b"b")
    assert two[1].seen == []


def test_a_refusal_is_no_attempt(caller: Any, two: Two) -> None:
    """An endpoint with a full bulkhead is passed over; when all are full, the call is rejected."""
    client = caller(ordered(two, each=lambda e: bulkhead(1)))
    first, second = client.messages("whos", b"0"), client.messages("whos", b"0")
    assert [next(first), next(second)] == [b"a", b"b"]
    with pytest.raises(BulkheadFullError) as caught:
        client.ask("who")
    assert isinstance(caught.value, grpc.RpcError)


# ---- channels --------------------------------------------------------------------------------------------------------


def test_an_endpoint_may_bring_its_channel(two: Two, loop: asyncio.Runner) -> None:
    """`use` is a channel with credentials and options of its own, which stays open."""

    async def scene() -> None:
        async with aio.insecure_channel(two[0].url) as own:
            async with channel(pool("search", Endpoint("a", use=own))) as made:
                assert await made.unary_unary("/s/who")(b"") == b"a"
            assert await own.unary_unary("/s/who")(b"") == b"a"

    loop.run(scene())


def test_two_stubs_of_one_method_keep_their_messages(search: Pool, loop: asyncio.Runner) -> None:
    """Functions that turn messages into bytes belong to the stub, and not to the method's name."""

    async def scene() -> None:
        async with channel(search) as made:
            plain = made.unary_unary("/s/echo")
            typed = made.unary_unary("/s/echo", str.encode, bytes.decode)
            assert [await plain(b"x"), await typed("x"), await plain(b"y")] == [b"x", "x", b"y"]

    loop.run(scene())


def test_a_channel_is_ready_when_one_endpoint_is(two: Two, loop: asyncio.Runner) -> None:
    """The state of the channel is the best one of its endpoints'."""
    two[0].kill()

    async def scene() -> None:
        async with channel(ordered(two)) as made:
            assert made.get_state() is grpc.ChannelConnectivity.IDLE
            await asyncio.wait_for(made.channel_ready(), PATIENCE)
            assert made.get_state() is grpc.ChannelConnectivity.READY

    loop.run(scene())
    with sync_channel(ordered(two)) as made:
        grpc.channel_ready_future(made).result(PATIENCE)


class Watched:
    """A channel that is ready as soon as its state has been looked at twice."""

    def __init__(self) -> None:
        self.looks = 0

    @property
    def state(self) -> grpc.ChannelConnectivity:
        return grpc.ChannelConnectivity.READY if self.looks >= 2 else grpc.ChannelConnectivity.CONNECTING

    def get_state(self, try_to_connect: bool = False) -> grpc.ChannelConnectivity:
        seen = self.state
        self.looks += 1
        return seen

    async def wait_for_state_change(self, last_observed_state: grpc.ChannelConnectivity) -> None:
        if self.state is last_observed_state:
            await asyncio.Event().wait()


class Opened(list[Watched]):
    """The channels of a pool, all of which are open."""

    pool = SimpleNamespace(endpoints=())

    def take(self) -> list[Watched]:
        return []


def test_a_channel_that_connects_while_it_is_looked_at_is_seen(two: Two, loop: asyncio.Runner) -> None:
    """A change between two looks was waited for from the state after it: until that of another endpoint changed."""

    async def scene() -> None:
        async with channel(ordered(two)) as made:
            made._channels = Opened([Watched()])
            await asyncio.wait_for(made.channel_ready(), PATIENCE)

    loop.run(scene())


def test_what_cannot_have_a_pool_says_so(search: Pool, two: Two) -> None:
    """Interceptors guard one channel; a channel to a pool needs one; futures need a thread."""
    with pytest.raises(TypeError, match=r"channel\(policy\)"):
        interceptors(search)
    with pytest.raises(TypeError, match="a pool, or a pipeline with one"):
        sync_channel(circuit_breaker())
    with pytest.raises(TypeError, match="would need a thread of its own"):
        sync_channel(search).unary_unary("/s/who").future(b"")
    with sync_channel(search, lambda endpoint: None) as made, pytest.raises(TypeError, match=r"grpc\.Channel"):
        made.unary_unary("/s/who")(b"")


def test_a_deadline_bounds_a_call_of_a_thread(two: Two) -> None:
    """A thread cannot be interrupted: the time left is the call's own."""
    two[0].slow(30.0)
    made = sync_channel(pipeline(timeout(0.2), pool("search", Endpoint(two[0].url))))
    with made, pytest.raises(grpc.RpcError) as caught:
        made.unary_unary("/s/who")(b"")
    assert caught.value.code() is grpc.StatusCode.DEADLINE_EXCEEDED
    assert type(caught.value).__name__ == "CallTimeoutError"
