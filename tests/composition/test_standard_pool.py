"""The recommended stack with several servers: order, breakers, how functions and clients get their endpoint, copies."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest

import resilio
from resilio import Endpoint, NoEndpointError, bulkhead, circuit_breaker, fallback, override, pool, standard

URLS = ["https://a.internal", "https://b.internal"]


def several(name: str = "several", **options: Any) -> resilio.Standard:
    """Return a stack of two servers, "a" and "b"."""
    servers = [Endpoint(url, name=url[8]) for url in URLS]
    return standard(name, **{"on": "http", "pool": servers, **options})


def pool_in(stack: resilio.Standard) -> Any:
    """Return the stack's pool."""
    return next(part for part in stack.policies if part.kind == "pool")


def find(text: str, *, endpoint: Endpoint = Endpoint.CHOSEN) -> str:
    """Return what was found and where; "a" refuses the connection."""
    if endpoint.name == "a":
        raise ConnectionRefusedError(endpoint.target)
    return f"{endpoint.name}: {text}"


async def afind(text: str, *, endpoint: Endpoint = Endpoint.CHOSEN) -> str:
    """Return the same, in a coroutine."""
    return find(text, endpoint=endpoint)


def test_retry_and_limits_are_around_the_pool_and_no_order_is_warned_of() -> None:
    """A limit inside would count as a server's; one breaker around would open for all of them."""
    rest = fallback(on=Exception, default=None)
    stack = several("whole of several", idempotent=True, rates="100/s", fallback=rest)
    kinds = [part.kind for part in stack.policies]
    assert kinds == ["fallback", "deadline", "retry", "hedge", "rate_limit", "bulkhead", "pool", "timeout"]
    assert stack.explain().warnings == ()
    assert "level 0: a, b; each: circuit_breaker" in str(stack.explain()).replace("\n      ", " ")


def test_each_server_has_a_breaker_with_the_options_of_the_stack() -> None:
    """Named after the stack, with its rule of failures, its scope and its share of enforcement."""
    stack = several("each of several", enforce=0.5)
    breaker = pool_in(stack)["b"]
    assert (breaker.name, breaker.config.on, breaker.config.enforce, breaker.config.consecutive) == (
        "each of several.circuit_breaker.b",
        stack.config.on,
        0.5,
        5,
    )
    assert pool_in(stack).name == "each of several.pool"
    shared = several("host of several", scope="host")
    assert {part.config.scope for part in [pool_in(shared)["a"], pool_in(shared)["b"]]} == {"host"}
    several("moved of several").reconfigure(scope="host")
    assert pool_in(several("moved of several"))["a"].config.scope == "host"


def test_the_same_servers_give_the_same_stack() -> None:
    """URLs, endpoints and a pool are compared as options are."""
    mine = pool("mine of same", Endpoint("a"))
    for given in (URLS, [Endpoint("a"), Endpoint("b")], mine):
        name = f"same {given}"[:40]
        assert standard(name, on="http", pool=given) is standard(name, on="http", pool=given)
        with pytest.raises(ValueError, match="pool"):
            standard(name, on="http", pool=["https://c.internal"])
    assert pool_in(standard("given", on="http", pool=mine)) is mine


@pytest.mark.parametrize("guarded", [find, afind])
def test_a_function_gets_its_endpoint_and_a_retry_goes_elsewhere(guarded: Any, vt: Any) -> None:
    """No caller sees that one of two servers refuses connections; after five failures it gets no calls."""
    stack = several(f"called {guarded.__name__}", backoff=0.01)
    call = stack(guarded)

    def once() -> str:
        return call("x") if guarded is find else asyncio.run(call("x"))

    assert {once() for _ in range(60)} == {"b: x"}
    seen = pool_in(stack).snapshot()["a"]
    assert seen.failures <= 5
    assert stack.call(lambda: resilio.current().endpoint.name) in "ab"


def test_a_copy_has_other_servers_and_breakers_of_its_own() -> None:
    """`override` changes the pool's endpoints, its options, or puts another pool in its place."""
    stack = several("copied", on="http")
    other = override(stack, pool=["https://c.internal"], attempts=5)
    assert [one.target for one in pool_in(other).endpoints] == ["https://c.internal"]
    assert other.policies[0] is stack.policies[0]
    loaded = override(stack, pool={"balance": "inflight"})
    assert pool_in(loaded).config.balance == "inflight"
    assert pool_in(loaded).config.on == pool_in(stack).config.on
    assert pool_in(loaded)["a"] is not pool_in(stack)["a"]
    limited = pool("limited", Endpoint("q"), each=lambda _: bulkhead(3))
    assert pool_in(override(stack, pool=limited)) is limited
    plain = pool(None, Endpoint("a"), each=lambda _: circuit_breaker())
    assert [one.name for one in override(plain, endpoints=URLS).endpoints] == URLS
    with pytest.raises(TypeError, match="pool must be a policy of this kind"):
        override(stack, pool=bulkhead(3))


@pytest.mark.parametrize("given", [[], "https://a.internal", 3, [3], [Endpoint("a"), Endpoint("a")], bulkhead(3)])
def test_what_is_no_pool_is_named(given: Any) -> None:
    """A single URL is a mistake, too: it would be a pool of letters."""
    with pytest.raises((TypeError, ValueError), match=r"^pool must (be|have)"):
        standard("bad pool", on="http", pool=given)


def test_a_stack_whose_servers_are_drained_rejects() -> None:
    """As a pool does."""
    stack = several("drained")
    pool_in(stack).drain("a")
    pool_in(stack).drain("b")
    with pytest.raises(NoEndpointError):
        stack(find)("x")
