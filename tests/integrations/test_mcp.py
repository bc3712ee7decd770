"""Tools over MCP under guard, at both ends, with the real SDK: in memory, over stdio and over streamable HTTP."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import anyio
import pytest

from resilio import (
    DeadlineExceededError,
    Endpoint,
    RateLimitedError,
    RejectedError,
    bulkhead,
    circuit_breaker,
    deadline,
    hedge,
    keyed,
    load_shed,
    pool,
    rate_limit,
    registry,
    retry,
    standard,
    timeout,
)
from resilio.integrations.asgi import ignored_headers
from resilio.testing import VirtualTime, assert_no_leaks

mcp = pytest.importorskip("mcp")

from docs.pages import ROOT, snippets_of  # noqa: E402
from docs.test_docs_snippets import _execute  # noqa: E402
from servers.mcp_tools import FIRST, client, data, failed, make, told  # noqa: E402 - it imports mcp

from resilio.integrations.mcp import guard, guard_server, tool_of  # noqa: E402

WAYS = [
    pytest.param("memory"),
    pytest.param("stdio", marks=pytest.mark.real(3.0)),
    pytest.param("http", marks=pytest.mark.real(1.2)),
]
PAGE = ROOT / "docs" / "how-to" / "mcp.md"
BACKENDS = ["asyncio", "trio"]
over_each_way = pytest.mark.parametrize("way", WAYS)
on_each_backend = pytest.mark.parametrize("backend", BACKENDS)
URGENT = {"x-priority": "critical", "x-request-timeout": "0.2"}


@pytest.fixture(autouse=True)
def _alone() -> Iterator[None]:
    registry.clear()
    yield
    registry.clear()


# ---- the client ------------------------------------------------------------------------------------------------------


@over_each_way
@pytest.mark.anyio
@pytest.mark.parametrize("anyio_backend", ["asyncio"])
async def test_a_tool_fails_is_repeated_by_its_hint_and_ends_at_the_deadline(way: str) -> None:
    """A failed result was a success; without a hint a call is sent once; the server's async tool is cancelled."""
    stack = standard("tools", on="mcp", timeout=10, backoff=0.001)
    async with client(way, stack) as opened:
        assert failed(await opened.call_tool("fail_safely", {}))
        assert await told(opened) == ["fail_safely"] * 3
        assert failed(await opened.call_tool("fail", {}))
        assert await told(opened) == ["fail"]
        for enforced in (True, False):
            with pytest.raises(DeadlineExceededError):
                if enforced:
                    async with deadline(0.2):
                        await opened.call_tool("write", {"seconds": 30.0})
                else:
                    with deadline(0.2):  # nothing interrupts this one but the read timeout
                        await opened.call_tool("write", {"seconds": 30.0})
            await anyio.sleep(0.1)
            assert await told(opened) == ["write", "cancelled"]
    assert stack.snapshot().inflight == 0
    assert_no_leaks(*stack.policies)


@over_each_way
@pytest.mark.anyio
@pytest.mark.parametrize("anyio_backend", ["asyncio"])
async def test_a_rejection_leaves_the_block_of_a_client_as_it_is(way: str) -> None:
    """The task groups of the SDK wrapped it in ExceptionGroups, which no `except RejectedError` catches."""
    with pytest.raises(RateLimitedError) as found:
        async with client(way, rate_limit("1/h")) as opened:
            await opened.call_tool("ambient", {})
            await opened.call_tool("ambient", {})
    assert found.value.retry_after is not None


@pytest.mark.real(1.5)
@pytest.mark.anyio
@pytest.mark.parametrize("anyio_backend", ["asyncio"])
async def test_a_server_that_is_gone_opens_the_breaker() -> None:
    """The error of a lost connection has a code of its own, or is one of anyio's streams."""
    breaker = circuit_breaker(on="mcp", consecutive=1)
    with pytest.raises(RejectedError):
        async with client("stdio", breaker) as opened:
            with pytest.raises(Exception) as found:
                await opened.call_tool("leave", {})
            assert not isinstance(found.value, RejectedError)
            assert breaker.snapshot().failures == 1
            await opened.call_tool("ambient", {})


@on_each_backend
def test_only_tools_with_a_hint_are_hedged(vt: VirtualTime, backend: str) -> None:
    """The hints are those of the listing, which the first call makes; then copies of a reading tool are sent."""
    policy = hedge(idempotent=True, after=0.5, max_extra=1.0)

    async def play() -> tuple[list[str], list[str]]:
        async with client("memory", policy) as opened:
            for _ in range(30):  # a hedge measures calls before it sends copies
                await opened.call_tool("read", {"seconds": 0.1})
            await told(opened)
            await opened.call_tool("read", {"seconds": 1.0})
            reading = await told(opened)
            await opened.call_tool("write", {"seconds": 1.0})
            return reading, await told(opened)

    reading, writing = vt.run(play, backend=backend)
    assert (reading.count("read"), writing.count("write")) == (2, 1)


@on_each_backend
@pytest.mark.parametrize(
    ("idempotent", "calls"), [(None, 1), (True, 3), (False, 1), (lambda call: call.arguments == {}, 3)]
)
def test_the_caller_may_know_better_than_a_hint(vt: VirtualTime, backend: str, idempotent: Any, calls: int) -> None:
    """A server may have no hints, or hints that are not believed."""

    async def play() -> int:
        policy = retry(on="mcp", attempts=3, backoff=0.01, budget=None)
        async with client("memory", policy, idempotent=idempotent) as opened:
            await opened.call_tool("fail", {})
            return len(await told(opened))

    assert vt.run(play, backend=backend) == calls


# ---- the server ------------------------------------------------------------------------------------------------------


@over_each_way
@pytest.mark.anyio
@pytest.mark.parametrize("anyio_backend", ["asyncio"])
async def test_a_rejection_is_a_result_that_models_read_and_programs_use(way: str) -> None:
    """It has the reason and a time, is a refusal to the client's policies, and other tools are served."""
    server = make()
    guard_server(server, rate_limit("1/h"), tools=("write",))
    breaker = circuit_breaker(on="mcp")
    async with client(way, breaker, server, "reject") as opened:
        assert data(await opened.call_tool("write", {"seconds": 0.0})) == {"waited": 0.0}
        rejected = await opened.call_tool("write", {"seconds": 0.0})
        assert await told(opened) == ["write"]
    assert failed(rejected)
    assert data(rejected)["reason"] == "rate"
    assert data(rejected)["retry_after"] >= 3600
    assert "cannot be called now (rate)" in rejected.content[0].text
    assert (breaker.snapshot().refused, breaker.snapshot().failures) == (1, 0)


@on_each_backend
def test_a_call_that_was_rejected_there_comes_again_in_time(vt: VirtualTime, backend: str) -> None:
    """Nothing was done, so no hint is needed, and it comes no earlier than the server has said."""
    server = make()
    guard_server(server, rate_limit("6/min", burst=1, max_wait=0))
    policy = retry(on="mcp", backoff=0.01, budget=None, max_retry_after=60)

    async def play() -> tuple[bool, float]:
        async with client("memory", policy, server) as opened:
            await opened.call_tool("write", {"seconds": 0.0})
            begun = vt.now
            return failed(await opened.call_tool("write", {"seconds": 0.0})), vt.now - begun

    again, after = vt.run(play, backend=backend)
    assert not again
    assert after >= 10


@on_each_backend
def test_schemas_of_tools_stay_as_they_are(vt: VirtualTime, backend: str) -> None:
    """A wrapper around a tool would lose them, or have its results checked by them."""

    async def schemas(server: Any) -> list[Any]:
        async with client("memory", bulkhead(9), server) as opened:
            return [tool.model_dump(exclude={"meta"}) for tool in (await opened.list_tools()).tools]

    guarded = make()
    guard_server(guarded)
    assert vt.run(schemas, guarded, backend=backend) == vt.run(schemas, make(), backend=backend)


@on_each_backend
@pytest.mark.parametrize("trust", [True, False, lambda context: context.request is None])
def test_deadline_and_priority_of_a_trusted_caller_are_ambient(vt: VirtualTime, backend: str, trust: Any) -> None:
    """They come in the request's `_meta`; those of others are ignored, and counted."""
    server, before = make(), ignored_headers().get(("deadline", "untrusted"), 0)
    guard_server(server, bulkhead(9), trust=trust, priority_header="x-priority", max_deadline=60)

    async def play() -> tuple[Any, Any, list[str]]:
        async with client("memory", bulkhead(9), server) as opened:
            seen = data(await opened.call_tool("ambient", {}, meta=URGENT))
            late = await opened.call_tool("write", {"seconds": 0.5}, meta=URGENT)
            return seen, data(late), await told(opened)

    seen, late, noted = vt.run(play, backend=backend)
    ignored = ignored_headers().get(("deadline", "untrusted"), 0) - before
    if trust is False:
        assert (seen, ignored, noted) == ({"priority": "standard", "left": "None"}, 2, ["write"])
        assert late == {"waited": 0.5}
        return
    assert (seen["priority"], ignored, noted) == ("critical", 0, ["write", "cancelled"])
    assert float(seen["left"]) == pytest.approx(0.2, abs=0.01)
    assert late == {"reason": "deadline", "retry_after": None}


@on_each_backend
def test_the_deadline_of_a_client_arrives_in_the_tool(vt: VirtualTime, backend: str) -> None:
    """`send_deadline` and `trust` are the two ends; stdio and memory have no headers to carry it."""
    server = make()
    guard_server(server, trust=True, default_deadline=50)

    async def play() -> list[float]:
        async with client("memory", bulkhead(9), server, send_deadline=True) as opened:
            without = await opened.call_tool("ambient", {})
            async with deadline(5):
                return [float(data(each)["left"]) for each in (without, await opened.call_tool("ambient", {}))]

    assert vt.run(play, backend=backend) == pytest.approx([50, 5], abs=0.1)


@on_each_backend
def test_a_server_sheds_the_least_important_first(vt: VirtualTime, backend: str) -> None:
    """Calls of the background are rejected while those of users are served."""
    server, ends = make(), {"critical": [], "background": []}
    guard_server(server, load_shed(max_concurrent=1, target=0.1), trust=True, priority_header="x-priority")

    async def play() -> None:
        async with client("memory", bulkhead(99), server) as opened, anyio.create_task_group() as tasks:

            async def ask(level: str) -> None:
                result = await opened.call_tool("read", {"seconds": 0.5}, meta={"x-priority": level})
                ends[level].append(not failed(result))

            for _ in range(20):
                for level in ("background", "critical"):
                    tasks.start_soon(ask, level)
                await anyio.sleep(0.5)

    vt.run(play, backend=backend)
    assert sum(ends["critical"]) > 2 * sum(ends["background"]), ends


# ---- what it takes ---------------------------------------------------------------------------------------------------


@on_each_backend
def test_keys_are_functions_of_the_call(vt: VirtualTime, backend: str) -> None:
    """A breaker for each tool: one that fails leaves the others alone."""
    policy = keyed(lambda: circuit_breaker(on="mcp", consecutive=1), key=tool_of)

    async def play() -> None:
        async with client("memory", policy) as opened:
            await opened.call_tool("fail", {})
            with pytest.raises(RejectedError):
                await opened.call_tool("fail", {})
            assert not failed(await opened.call_tool("ambient", {}))

    vt.run(play, backend=backend)


@pytest.mark.skipif(FIRST, reason="the page is of version 2")
def test_the_guide_runs_as_it_stands(vt: VirtualTime) -> None:
    """From top to bottom, with both ends."""
    namespace: dict[str, Any] = {"__name__": "page"}
    for snippet in snippets_of(PAGE.read_text()):
        _execute(snippet, PAGE, namespace, vt.run)


def bare() -> Any:
    """Return a client that is not connected."""
    return mcp.ClientSession(None, None) if FIRST else mcp.Client(make())


def test_what_cannot_be_guarded_is_rejected() -> None:
    """With the parameter, the value and the fix."""
    with pytest.raises(TypeError, match="client must be a Client or a ClientSession of mcp, not "):
        guard(make(), bulkhead(9))
    once = guard(bare(), bulkhead(9))
    assert isinstance(once, mcp.ClientSession if FIRST else mcp.Client)
    with pytest.raises(ValueError, match="client must be a client that is not guarded yet"):
        guard(once, bulkhead(9))
    for wrong in (None, pool("many", Endpoint("http://a"), Endpoint("http://b")), timeout(first=1.0)):
        with pytest.raises(TypeError):
            guard(bare(), wrong)  # type: ignore[arg-type]
    with pytest.raises(TypeError, match="server must be a server of the SDK"):
        guard_server(object())
    with pytest.raises(TypeError, match="policy must only admit or reject"):
        guard_server(make(), retry(on="mcp"))
    with pytest.raises(TypeError, match="tools must be names of tools"):
        guard_server(make(), tools="write")
    if FIRST:
        from mcp.server.lowlevel import Server

        with pytest.raises(ValueError, match="guard it after that is registered"):
            guard_server(Server("empty"))
