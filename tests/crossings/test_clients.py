"""Policy x client, over loopback: what is held, counted and told holds on the wire too."""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import pytest
from crossings.clients import CLIENTS, ELSEWHERE, integrations
from crossings.recipes import READY, REJECTING, Part, Way
from crossings.stacks import snapshots
from servers.misbehaving import Exchange, Misbehaving

from resilio import Endpoint, deadline, fallback, pipeline, pool, rate_limit
from resilio.testing import assert_no_leaks

pytestmark = pytest.mark.filterwarnings("ignore::resilio.PipelineWarning")

TOLD = "30"
"""Seconds of a Retry-After: longer than any call here may take."""
TIME = 5.0
ANSWERS: dict[str, tuple[int, dict[str, str]] | None] = {
    "200": (200, {}),
    "404": (404, {}),
    "429": (429, {}),
    "429 for 30 s": (429, {"retry-after": TOLD}),
    "503 for 30 s": (503, {"retry-after": TOLD}),
    "500": (500, {}),
    "lost": None,
}
UNSERVED = [name for name in ANSWERS if name != "200"]
TELLING = ("429 for 30 s", "503 for 30 s")
FAILING = ("500", "429", "lost")
CALLS, SIZE, MORE = 40, 3, 0.05
READY_KINDS = [kind for kind in READY if kind not in ("fallback", "pool")]
"""A default is no response of a client: fallbacks, like pools, have a test of their own."""
FULL_KINDS = [kind for kind in REJECTING if kind not in ("load_shed", "pool")]
"""A shedder lets callers wait for a second before it rejects, which is crossed in virtual time."""
KINDS = [*((kind, True) for kind in READY_KINDS), *((kind, False) for kind in FULL_KINDS)]
PAIRS = [
    pytest.param(name, kind, ready, id=f"{name}-{kind}-{'ready' if ready else 'rejecting'}")
    for name, client in CLIENTS.items()
    for kind, ready in KINDS
    if not (client.in_threads and kind == "hedge")
]


class Scripted:
    """A route of a server, which gives one answer after the other; the last one stays."""

    def __init__(self, server: Misbehaving) -> None:
        self.server = server
        self.script = ["200"]
        server.routes["/scripted"] = self.answer

    async def answer(self, exchange: Exchange) -> None:
        """Answer a request."""
        answer = ANSWERS[self.script.pop(0) if len(self.script) > 1 else self.script[0]]
        if answer is None:
            exchange.cut()
            return
        status, headers = answer
        lines = [
            f"HTTP/1.1 {status} Any",
            "content-length: 2",
            *(f"{name}: {value}" for name, value in headers.items()),
        ]
        await exchange.raw("\r\n".join([*lines, "", "{}"]).encode())  # in one piece, which no client waits for

    @property
    def requests(self) -> int:
        return self.server.requests["/scripted"]


@pytest.fixture(scope="module")
def replicas() -> Iterator[list[Misbehaving]]:
    """Three servers."""
    with ExitStack() as running:
        yield [running.enter_context(Misbehaving()) for _ in range(SIZE)]


async def ask(client: Any, path: str = "/scripted") -> None:
    """Ask once, and take what comes."""
    wrong = (AssertionError, AttributeError, LookupError, TypeError, ValueError)
    try:
        async with deadline(TIME):
            await client(path)
    except wrong:
        raise
    except Exception:
        pass


@pytest.mark.parametrize(("name", "kind", "ready"), PAIRS)
def test_each_promise_holds_in_each_client(replicas: list[Misbehaving], name: str, kind: str, ready: bool) -> None:
    """Tokens are taken for calls that go out alone, every end is counted, and what is told is heeded."""
    client, scripted = CLIENTS[name], Scripted(replicas[0])
    if not client.is_installed:
        pytest.skip(f"{client.library} is not installed")
    part = Part(READY[kind](Way(threads=False, stream=client.in_threads))) if ready else REJECTING[kind]()
    policy = part.policy
    limit = rate_limit("1000/day")
    stack, reached = pipeline(limit, policy), 0

    async def play() -> None:
        nonlocal reached
        async with client.open(stack, replicas[0].url) as opened:
            for answer in ANSWERS:
                before, scripted.script = scripted.requests, [answer, "200"]
                await ask(opened)
                reached += scripted.requests > before
                assert answer not in TELLING or scripted.requests - before <= 1, f"asked again after {answer}"

    asyncio.run(play())
    part.let_in()
    assert ready is (reached > 0)
    for one in snapshots(stack.snapshot()):
        ends = one.successes + one.failures + one.ignored + one.rejected + one.cancelled
        assert (one.inflight, one.queued, one.calls) == (0, 0, ends), one
    seen = limit.snapshot()
    assert (seen.calls, seen.calls - seen.cancelled) == (len(ANSWERS), reached), seen
    assert limit.available["requests"] == pytest.approx(1000 - reached, abs=0.2)
    assert_no_leaks(limit, policy)


@pytest.mark.parametrize("bad", UNSERVED)
@pytest.mark.parametrize("name", CLIENTS)
def test_a_pool_in_a_client_leaves_what_serves_nothing(replicas: list[Misbehaving], name: str, bad: str) -> None:
    """Of 1,000 calls 675 went to the limited one of three, in httpx, aiohttp and requests alike."""
    client = CLIENTS[name]
    if not client.is_installed:
        pytest.skip(f"{client.library} is not installed")
    scripts = [Scripted(server) for server in replicas]
    scripts[0].script = [bad]
    ends = [Endpoint(server.url, name=end) for server, end in zip(replicas, "abc", strict=True)]
    before = [script.requests for script in scripts]

    async def play() -> None:
        async with client.open(pool("replicas", *ends, on="http"), "http://replicas") as opened:
            for _ in range(CALLS):
                await ask(opened)

    asyncio.run(play())
    got = Counter({end.name: script.requests - was for end, script, was in zip(ends, scripts, before, strict=True)})
    assert got["a"] <= got.total() * (1 / SIZE + MORE), got
    assert bad not in TELLING or got["a"] <= 1, got
    assert got.total() >= CALLS


@pytest.mark.parametrize("place", [None, 0, 1], ids=["alone", "around a retry", "inside a retry"])
@pytest.mark.parametrize("name", [name for name, client in CLIENTS.items() if client.answered])
def test_a_fallback_answers_in_a_client(replicas: list[Misbehaving], name: str, place: int | None) -> None:
    """What it answers is an answer: no retry repeats it, and each part counts and gives back as for one of a server."""
    client, scripted = CLIENTS[name], Scripted(replicas[0])
    if not client.is_installed:
        pytest.skip(f"{client.library} is not installed")
    second = fallback(client.target(), on="http")
    limit = rate_limit("1000/day")
    parts = [second] if place is None else [READY["retry"](Way(threads=client.in_threads))]
    if place is not None:
        parts.insert(place, second)
    stack, statuses = pipeline(limit, *parts), []
    before = scripted.requests

    async def play() -> None:
        async with client.open(stack, replicas[0].url) as opened:
            for answer in FAILING:
                scripted.script = [answer]
                statuses.append(await opened("/scripted"))

    asyncio.run(play())
    assert statuses == [200] * len(FAILING)
    attempts = 3 if place == 0 and not client.in_threads else 1  # in the thread of a loop a retry does not wait
    assert scripted.requests - before == len(FAILING) * attempts
    for one in snapshots(stack.snapshot()):
        assert (one.inflight, one.queued) == (0, 0), one
    assert (second.snapshot().successes, limit.snapshot().successes) == (len(FAILING), len(FAILING))
    assert_no_leaks(limit, second)


def test_each_integration_is_crossed() -> None:
    """A new one joins, or names the tests that cross it against a server of its own."""
    crossed = {name.partition(" ")[0] for name in CLIENTS} - {"httpx2"}
    assert crossed | set(ELSEWHERE) == integrations()
    here = Path(__file__).parents[1] / "integrations"
    assert all((here / name).exists() for name in ELSEWHERE.values())
