"""Storms of streams through the transports and the adapter: afterwards nothing is held, and nothing is uncounted."""

from __future__ import annotations

import gc
import importlib
from collections import Counter
from contextlib import suppress
from functools import partial
from typing import Any

import anyio
import anyio.lowlevel
import pytest
from servers.misbehaving import Misbehaving

from resilio import bulkhead, circuit_breaker, pipeline, timeout
from resilio.integrations.httpx import AsyncTransport, Transport
from storm.streams import TACTICS, check, deal, storm, storm_in_threads

BATCH = 200
"""Streams for one client: what is abandoned keeps its connection until the client is closed."""

PATHS = {"cut": "/die-mid-body", "time_out": "/hang-mid-body", "cancel": "/hang-mid-body", "read": "/drip?n=2&every=0"}
LEFT = "/drip?n=0&every=0.01"

pytestmark = [
    # Clients complain of what this does to them: generators that nobody has closed, sockets that are collected.
    pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning"),
    pytest.mark.filterwarnings("ignore::ResourceWarning"),
    pytest.mark.untraced,  # frames that are traced keep what they hold
]


def only(name: str, names: list[str]) -> list[Any]:
    """One client by default, and the others in the slow storms: what ends a stream is ours."""
    return [pytest.param(one, marks=() if one == name else pytest.mark.slow) for one in names]


SIZES = [
    pytest.param(210, id="small"),
    pytest.param(1_000, id="larger", marks=pytest.mark.slow),
    pytest.param(20_000, id="whole", marks=pytest.mark.soak),
]


def guard(*, clocks: bool = True) -> Any:
    """A policy that learns nothing from faults, and would reject what is not given back."""
    parts = [circuit_breaker(on=()), bulkhead(100, max_queued=1000, max_wait=60.0)]
    return pipeline(*parts, timeout(first=30.0, idle=0.1)) if clocks else pipeline(*parts)


def imported(name: str) -> Any:
    """The client's module."""
    return pytest.importorskip(name, reason=f"{name} is not installed")


async def stream(http: Any, url: str, tactic: str) -> str | None:
    """One stream of httpx or httpx2, async."""
    request = http.build_request("GET", url + PATHS.get(tactic, LEFT), timeout=None)
    with suppress(importlib.import_module(type(http).__module__.partition(".")[0]).TransportError):
        response = await http.send(request, stream=True)
        if tactic == "abandon":
            return tactic
        if tactic == "drop":
            await anext(response.aiter_raw())
        elif tactic == "cancel":
            with anyio.move_on_after(0.01):
                await response.aread()
            await response.aclose()
        elif tactic == "break_off":
            async with response_closing(response):
                await anext(response.aiter_raw())
        else:
            try:
                await response.aread()
            finally:
                await response.aclose()
    return None


class response_closing:  # noqa: N801 - as contextlib's
    """Closes a response at the end of a block."""

    def __init__(self, response: Any) -> None:
        self.response = response

    async def __aenter__(self) -> Any:
        return self.response

    async def __aexit__(self, *error: object) -> None:
        await self.response.aclose()


@pytest.mark.anyio
@pytest.mark.parametrize("streams", SIZES)
@pytest.mark.parametrize("name", only("httpx2", ["httpx", "httpx2"]))
@pytest.mark.real(1.0)
async def test_no_permit_is_left_by_any_end_of_a_stream(name: str, streams: int, server: Misbehaving) -> None:
    """Streams that end in each way, many at once: zero permits are held, each abandonment is counted."""
    client, policy, tally = imported(name), guard(), Counter[str]()
    dealt = deal(streams, seed=streams)
    for start in range(0, streams, BATCH):
        limits = client.Limits(max_connections=None)
        transport = AsyncTransport(policy, client.AsyncHTTPTransport(limits=limits))
        async with client.AsyncClient(transport=transport) as http:
            tally += await storm(
                lambda tactic, http=http: stream(http, server.url, tactic), dealt[start : start + BATCH]
            )
            gc.collect()
            await anyio.lowlevel.checkpoint()  # generators that a loop closes for the collector
    await anyio.sleep(0.01)
    check(policy, tally)
    proved(server, tally)


def proved(server: Misbehaving, tally: Counter[str]) -> None:
    """The server has seen all of them, and has cut and hung what it should."""
    assert server.total == tally.total()
    assert server.cut["/die-mid-body"] == tally["cut"]
    server.until(lambda: server.left["/hang-mid-body"] == tally["time_out"] + tally["cancel"])


def stream_in_thread(http: Any, url: str, error: type[BaseException], tactic: str) -> str | None:
    """One stream of httpx or httpx2, or of requests, in a thread."""
    with suppress(error):
        response = opened(http, url + PATHS.get(tactic, LEFT), 0.05 if tactic == "time_out" else 60.0)
        parts = response.iter_raw() if hasattr(response, "iter_raw") else response.iter_content(10)
        if tactic == "abandon":
            return tactic
        next(parts)
        if tactic != "drop":
            try:
                if tactic != "break_off":
                    for _ in parts:
                        pass
            finally:
                response.close()
    return None


def opened(http: Any, url: str, patience: float) -> Any:
    """A response whose body has not been read."""
    if hasattr(http, "build_request"):
        return http.send(http.build_request("GET", url, timeout=patience), stream=True)
    return http.get(url, stream=True, timeout=patience)


def in_threads(name: str) -> tuple[str, ...]:
    """
    What can be done in threads, where nothing is cancelled.

    A stream of httpx that is dropped midway is a cycle; it is closed by the collector, which may run while the same
    thread holds the lock of httpcore's pool, and closing takes that lock: a bare client hangs then as well.
    """
    return tuple(tactic for tactic in TACTICS if tactic != "cancel" and (tactic != "drop" or name != "httpx"))


@pytest.mark.parametrize("streams", SIZES)
@pytest.mark.parametrize("name", only("requests", ["httpx", "httpx2", "requests"]))
def test_no_permit_is_left_in_threads(name: str, streams: int, server: Misbehaving) -> None:
    """The same in threads, where nothing is cancelled, and the client's own read timeout ends what hangs."""
    client, policy, tally = imported(name), guard(clocks=False), Counter[str]()
    dealt = deal(streams, streams, in_threads(name))
    for start in range(0, streams, BATCH):
        with session(client, policy) as http:
            error = client.RequestException if name == "requests" else client.TransportError
            strike = partial(stream_in_thread, http, server.url, error)
            tally += storm_in_threads(strike, dealt[start : start + BATCH])
            gc.collect()
    check(policy, tally)
    proved(server, tally)


def session(client: Any, policy: Any) -> Any:
    """A client, or session, under guard."""
    if client.__name__ != "requests":
        limits = client.Limits(max_connections=None)
        return client.Client(transport=Transport(policy, client.HTTPTransport(limits=limits)))
    made = client.Session()
    made.trust_env = False
    adapter = importlib.import_module("resilio.integrations.requests").Adapter
    made.mount("http://", adapter(policy, pool_maxsize=BATCH))
    return made
