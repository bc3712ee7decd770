"""Storms of responses that end in every way there is: not one permit is left, and what is abandoned is counted."""

from __future__ import annotations

import gc
import random
import threading
import types
from collections import Counter
from typing import Any

import anyio
import pytest
from serving.memory import Request
from serving.sockets import Raw, asgi_server, until, wsgi_server

from resilio import adaptive_limit, bulkhead, circuit_breaker, load_shed, pipeline
from resilio.integrations import asgi, wsgi

SIZES = [600, pytest.param(20_000, marks=[pytest.mark.slow, pytest.mark.untraced])]


def line() -> Any:
    """Return a policy of gates of every kind, whose breaker never opens and whose limits hardly ever reject."""
    return pipeline(
        load_shed(max_concurrent=10_000),
        circuit_breaker(failure_rate=1.0, min_calls=200, consecutive=1_000_000),
        adaptive_limit(start=1000, floor=1000),
        bulkhead(10_000),
    )


def assert_nothing_is_held(policy: Any, calls: int, abandoned: int) -> None:
    gc.collect()
    assert policy.snapshot().calls == calls
    for part in (policy, *policy.policies):  # what is late at the door gets no further
        seen = part.snapshot()
        assert (seen.inflight, seen.queued, seen.abandoned) == (0, 0, abandoned)
        assert seen.successes + seen.failures + seen.ignored + seen.rejected + seen.cancelled == seen.calls


@types.coroutine
def _suspend() -> Any:
    yield None


class AsgiStorm:
    """One request after another, each ended by chance; what is expected is counted."""

    WAYS = ("served", "fails", "raises", "cut", "leaves", "breaks", "cancelled", "dropped", "late")

    def __init__(self, seed: int) -> None:
        self.random = random.Random(seed)
        self.policy = line()
        self.app = asgi.Middleware(self.respond, self.policy, trust=True, server_timing=True)
        self.ways: Counter[str] = Counter()

    async def respond(self, scope: Any, receive: Any, send: Any) -> None:
        way, request = scope["way"], scope["request"]
        status = 500 if way == "fails" else 200
        if way == "late" and scope["parts"] == 0:
            await anyio.sleep_forever()
        await send({"type": "http.response.start", "status": status, "headers": []})
        for _ in range(scope["parts"]):
            await send({"type": "http.response.body", "body": b"part", "more_body": True})
        if way == "raises":
            raise ZeroDivisionError
        if way == "cut":
            return
        if way == "leaves":
            request.leave()
            while (await receive())["type"] != "http.disconnect":
                pass
            return
        if way == "breaks":
            request.broken = True
        if way == "dropped":
            await _suspend()
        if way in {"cancelled", "late"}:
            await anyio.sleep_forever()
        await send({"type": "http.response.body", "body": b"last"})

    def request(self, way: str) -> Request:
        request = Request(
            way=way,
            parts=self.random.randrange(way == "breaks", 3),
            headers={"x-request-timeout": "0.001"} if way == "late" else {},
        )
        request.scope["request"] = request
        return request

    async def one(self) -> None:
        way = self.random.choice(self.WAYS)
        self.ways[way] += 1
        request = self.request(way)
        if way == "dropped":
            call = request.to(self.app)
            call.send(None)
            return
        with anyio.CancelScope() as scope:
            if way == "cancelled":
                async with anyio.create_task_group() as group:
                    group.start_soon(request.to, self.app)
                    await anyio.lowlevel.checkpoint()
                    scope.cancel()
            try:
                await request.to(self.app)
            except (ZeroDivisionError, BrokenPipeError, TimeoutError):
                assert way in {"raises", "breaks", "late"}

    async def run(self, count: int) -> None:
        async def some(count: int) -> None:
            for _ in range(count):
                await self.one()

        async with anyio.create_task_group() as group:
            for _ in range(20):
                group.start_soon(some, count // 20)


@pytest.mark.anyio
@pytest.mark.parametrize("count", SIZES)
async def test_ls01_a_storm_over_asgi_leaves_no_permit(count) -> None:
    """LS-01: of requests that end in nine ways, twenty at a time, none holds anything when all are over."""
    seed = random.randrange(2**32)
    print("seed", seed)
    storm = AsgiStorm(seed)
    await storm.run(count)
    gc.collect()
    calls = storm.policy.snapshot().calls
    assert calls >= count
    assert min(storm.ways[way] for way in storm.WAYS) > 0
    assert_nothing_is_held(storm.policy, calls, storm.ways["dropped"])
    assert storm.policy.snapshot().successes == storm.ways["served"]


class WsgiStorm:
    """The same in threads, as a server calls."""

    WAYS = ("served", "fails", "raises", "closed", "dropped", "unread", "head", "written", "nothing")

    def __init__(self, seed: int) -> None:
        self.seed = seed
        self.policy = line()
        self.app = wsgi.Middleware(self.respond, self.policy)
        self.ways: Counter[str] = Counter()
        self.lock = threading.Lock()

    def respond(self, environ: Any, start_response: Any) -> Any:
        way = environ["way"]
        if way == "nothing":
            raise ZeroDivisionError
        write = start_response("500 Oh" if way == "fails" else "200 OK", [])
        if way == "written":
            write(b"part")
            return []
        return self.parts(way)

    def parts(self, way: str) -> Any:
        yield b"part"
        if way == "raises":
            raise ZeroDivisionError
        yield b"last"

    def one(self, way: str) -> None:
        body = self.app({"way": way, "REQUEST_METHOD": "HEAD" if way == "head" else "GET"}, lambda *args: len)
        if way == "unread":
            return  # dropped before it is begun
        parts = iter(body)
        if way in {"closed", "dropped"}:
            next(parts)
        elif way != "head":
            for _ in parts:
                pass
        if way != "dropped":
            body.close()

    def some(self, at: int, count: int) -> None:
        chance = random.Random(self.seed + at)
        for _ in range(count):
            way = chance.choice(self.WAYS)
            with self.lock:
                self.ways[way] += 1
            try:
                self.one(way)
            except ZeroDivisionError:
                assert way in {"raises", "nothing"}

    def run(self, count: int) -> None:
        threads = [threading.Thread(target=self.some, args=(at, count // 10)) for at in range(10)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()


@pytest.mark.parametrize("count", SIZES)
def test_ls01_a_storm_over_wsgi_leaves_no_permit(count) -> None:
    """LS-01: of requests that end in nine ways, in ten threads, none holds anything when all are over."""
    seed = random.randrange(2**32)
    print("seed", seed)
    storm = WsgiStorm(seed)
    storm.run(count)
    gc.collect()
    assert_nothing_is_held(storm.policy, count, storm.ways["dropped"] + storm.ways["unread"])
    assert storm.policy.snapshot().successes == storm.ways["served"] + storm.ways["head"] + storm.ways["written"]


class Dripping:
    """Serves without an end, over ASGI and over WSGI."""

    async def asgi(self, scope: Any, receive: Any, send: Any) -> None:
        async def listen() -> None:
            while (await receive())["type"] != "http.disconnect":
                pass
            group.cancel_scope.cancel()

        await send({"type": "http.response.start", "status": 200, "headers": []})
        async with anyio.create_task_group() as group:
            group.start_soon(listen)
            while True:
                await send({"type": "http.response.body", "body": b"drop" * 100, "more_body": True})
                await anyio.lowlevel.checkpoint()

    def wsgi(self, environ: Any, start_response: Any) -> Any:
        start_response("200 OK", [])
        while True:
            yield b"drop" * 100


def _break_off(port: int, count: int) -> None:
    for _ in range(count):
        with Raw(port, buffer=4096) as client:
            client.say("GET / HTTP/1.1\nHost: a\n\n")
            client.head()
            client.vanish()


@pytest.mark.parametrize("count", [100, pytest.param(20_000, marks=[pytest.mark.soak, pytest.mark.untraced])])
@pytest.mark.parametrize("kind", ["uvicorn", "hypercorn", "wsgiref"])
def test_ls01_clients_that_break_off_leave_no_permit(kind, count) -> None:
    """LS-01: over sockets, ten clients at a time that vanish in the middle of a stream, and nothing is held."""
    policy, app = line(), Dripping()
    serving: Any
    if kind == "wsgiref":
        serving = wsgi_server(wsgi.Middleware(app.wsgi, policy), kind=kind)
    else:
        serving = asgi_server(kind, asgi.Middleware(app.asgi, policy))
    with serving as port:
        threads = [threading.Thread(target=_break_off, args=(port, count // 10)) for _ in range(10)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        until(lambda: policy.snapshot().inflight == 0)
    assert_nothing_is_held(policy, count, 0)
    assert policy.snapshot().failures == 0
