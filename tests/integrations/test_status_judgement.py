"""What the status of an answer says to policies that were not told otherwise, in every client over HTTP."""

from __future__ import annotations

import importlib
from collections.abc import Callable
from types import SimpleNamespace
from typing import Any

import anyio
import pytest
from servers.misbehaving import Exchange, Misbehaving

from resilio import (
    adaptive_limit,
    bulkhead,
    circuit_breaker,
    hedge,
    keyed,
    load_shed,
    pipeline,
    rate_limit,
    retry,
    standard,
    timeout,
)
from resilio.errors import CircuitOpenError

Send = Callable[..., list[Any]]
Kinds = pytest.mark.parametrize(
    "kind",
    [
        *(f"{module} {way}" for module in ("httpx", "httpx2") for way in ("asyncio", "trio", "threads")),
        *(f"{module} guard_client asyncio" for module in ("httpx", "httpx2")),
        "requests",
        "aiohttp",
    ],
)
"""Each client in each way: what a status says to it."""
Families = pytest.mark.parametrize("kind", ["httpx2 asyncio", "requests", "aiohttp"])
"""One client for each of our ways to guard one: for what policies do with it."""
One = pytest.mark.parametrize("kind", ["httpx2 asyncio"])
"""For what a policy does by itself, once it knows."""


def send(kind: str, policy: Any, urls: list[str], method: str = "GET", **options: Any) -> list[Any]:
    """Send requests one after the other, each body read to its end: what was answered, or what was raised."""
    module, *words = kind.split()
    needed = pytest.importorskip(module, reason=f"{module} is not installed")
    guard = importlib.import_module(f"resilio.integrations.{'httpx' if module == 'httpx2' else module}")
    if module == "requests":
        return _requests(needed, guard, policy, urls, method, options)
    if module == "aiohttp":
        return anyio.run(_aiohttp, needed, guard, policy, urls, method, options)
    way = words[-1]
    made = _httpx(needed, guard, policy, way == "threads", "guard_client" in words, options)
    if way == "threads":
        with made:
            return [_outcome(lambda url=url: made.request(method, url).status_code) for url in urls]
    return anyio.run(_ahttpx, made, urls, method, backend=way)


def _outcome(ask: Callable[[], int]) -> Any:
    try:
        return ask()
    except Exception as error:
        return type(error).__name__


def _httpx(module: Any, guard: Any, policy: Any, sync: bool, in_place: bool, options: Any) -> Any:
    client = module.Client if sync else module.AsyncClient
    if in_place:
        return guard.guard_client(client(trust_env=False), policy, **options)
    transport = guard.Transport if sync else guard.AsyncTransport
    return client(transport=transport(policy, client=module, **options))


async def _ahttpx(client: Any, urls: list[str], method: str) -> list[Any]:
    async def ask(url: str) -> Any:
        try:
            return (await client.request(method, url)).status_code
        except Exception as error:
            return type(error).__name__

    async with client:
        return [await ask(url) for url in urls]


def _requests(requests: Any, guard: Any, policy: Any, urls: list[str], method: str, options: Any) -> list[Any]:
    with requests.Session() as session:
        session.trust_env = False
        session.mount("http://", guard.Adapter(policy, **options))
        return [_outcome(lambda url=url: session.request(method, url).status_code) for url in urls]


async def _aiohttp(aiohttp: Any, guard: Any, policy: Any, urls: list[str], method: str, options: Any) -> list[Any]:
    async def ask(session: Any, url: str) -> Any:
        try:
            async with session.request(method, url) as response:
                await response.read()
                return response.status
        except Exception as error:
            return type(error).__name__

    async with aiohttp.ClientSession(middlewares=(guard.middleware(policy, **options),)) as session:
        return [await ask(session, url) for url in urls]


def counted(policy: Any) -> tuple[int, int, int]:
    """Successes, failures and what said nothing; nothing is held."""
    shown = policy.snapshot()
    assert shown.inflight == 0
    return shown.successes, shown.failures, shown.ignored


def statuses(server: Misbehaving, *codes: int) -> list[str]:
    """Addresses that answer so."""
    return [f"{server.url}/status/{code}" for code in codes]


# ---- what is a failure -----------------------------------------------------------------------------------------------


@One
@pytest.mark.parametrize("status", [500, 501, 503])
def test_a_breaker_without_options_opens_after_errors_of_the_server(
    kind: str, server: Misbehaving, status: int
) -> None:
    """`AsyncTransport(circuit_breaker(...))`, as the README has it, stayed closed over fifty answers 500."""
    breaker = circuit_breaker()
    answers = send(kind, breaker, statuses(server, *[status] * 12))
    assert answers == [status] * 10 + ["CircuitOpenError"] * 2
    assert (breaker.state, server.total) == ("open", 10)


@One
@pytest.mark.parametrize("status", [404, 429])
def test_a_breaker_stays_closed_over_mistakes_of_the_caller(kind: str, server: Misbehaving, status: int) -> None:
    """A 404 is an answer, a 429 a refusal; the README's other form, which raises for them, opened after ten."""
    breaker = circuit_breaker()
    assert send(kind, breaker, statuses(server, *[status] * 12)) == [status] * 12
    assert breaker.state == "closed"
    assert counted(breaker) == ((12, 0, 0) if status == 404 else (0, 0, 12))


@Kinds
def test_every_policy_counts_by_the_same_judgement(kind: str, server: Misbehaving) -> None:
    """Counters of stages that judge nothing themselves tell what the breaker beside them tells."""
    parts = [rate_limit("1000/s", burst=100), circuit_breaker(), bulkhead(9), load_shed(), timeout(5.0, thread=True)]
    parts = parts[:4] if kind.endswith(("threads", "requests")) else parts
    whole = pipeline(*parts)
    send(kind, whole, statuses(server, 200, 404, 500, 429, 503))
    assert {part.kind: counted(part) for part in (*parts, whole)} == {part.kind: (2, 2, 1) for part in (*parts, whole)}


@Families
def test_a_limit_that_learns_shrinks_by_429_and_503_alone(kind: str, server: Misbehaving) -> None:
    """They are drops, a 429 as a refusal; a quick 500 or 404 is no sample of what a call takes, and teaches nothing."""
    limit = adaptive_limit()
    send(kind, limit, statuses(server, 200, 404, 500, 429, 503, 504))
    assert counted(limit) == (1, 2, 3)
    assert limit.snapshot().refused == 1


@Families
def test_a_policy_that_was_given_a_rule_keeps_it(kind: str, server: Misbehaving) -> None:
    """`on` and `failed_if` of a policy go before what the client says, for that policy alone."""
    strict = circuit_breaker(failed_if=_is_404)
    narrow = circuit_breaker(on=ConnectionError)
    usual = circuit_breaker()
    send(kind, pipeline(usual, strict, narrow), statuses(server, 404, 500))
    assert (counted(strict), counted(narrow), counted(usual)) == ((1, 1, 0), (2, 0, 0), (1, 1, 0))


def _is_404(answer: Any) -> bool:
    return 404 in (getattr(answer, "status_code", None), getattr(answer, "status", None))


@Families
def test_one_policy_guards_a_client_and_a_function_each_by_its_own_rule(kind: str, server: Misbehaving) -> None:
    """The judgement belongs to the client's pipeline: a function that returns the same answer has succeeded."""
    breaker = circuit_breaker(consecutive=None, min_calls=100)

    @breaker
    def guarded() -> SimpleNamespace:
        return SimpleNamespace(status=500, status_code=500)

    send(kind, breaker, statuses(server, 500))
    guarded()
    send(kind, breaker, statuses(server, 503))
    assert counted(breaker) == (1, 2, 0)
    assert breaker._gate.judge_value is None


@Families
def test_options_changed_later_hold_for_clients_too(kind: str, server: Misbehaving) -> None:
    """`reconfigure` gives a policy a rule of its own, or takes it back: the client's holds as long as there is none."""
    breaker = circuit_breaker(consecutive=None, min_calls=100)
    send(kind, breaker, statuses(server, 500))
    breaker.reconfigure(failed_if=_is_404)
    send(kind, breaker, statuses(server, 500, 404))
    breaker.reconfigure(failed_if=None)
    send(kind, breaker, statuses(server, 500, 404))
    assert counted(breaker) == (2, 3, 0)


@Families
def test_each_key_judges_by_status_and_keeps_its_own_rule(kind: str, server: Misbehaving) -> None:
    """A policy of each host is made when the host is first called: after the client's pipeline."""
    hosts = keyed(lambda: circuit_breaker(consecutive=2), key=lambda request: str(request.url))
    answers = send(kind, hosts, statuses(server, 500, 500, 500, 404, 404, 404))
    assert answers == [500, 500, "CircuitOpenError", 404, 404, 404]


# ---- what is tried again ---------------------------------------------------------------------------------------------


@Kinds
@pytest.mark.parametrize("status", [429, 503])
def test_a_retry_by_preset_tries_again_what_may_be_over(kind: str, server: Misbehaving, status: int) -> None:
    """The method is known here: a GET is sent again after a 503, which around a function might be a payment."""
    policy = retry(on="http", backoff=0.0, budget=None)
    assert send(kind, policy, [f"{server.url}/status/{status}?times=2"]) == [200]
    assert server.total == 3


@Kinds
def test_a_retry_by_preset_sends_no_payment_twice(kind: str, server: Misbehaving) -> None:
    """A POST that a server has answered with 503 may have been done; 429 says that it was not."""
    policy = retry(on="http", backoff=0.0, budget=None)
    assert send(kind, policy, statuses(server, 503), "POST") == [503]
    assert server.total == 1
    assert send(kind, policy, [f"{server.url}/status/429?times=1"], "POST") == [200]
    assert server.total == 3


@Kinds
def test_a_stack_that_is_not_idempotent_goes_by_the_method(kind: str, server: Misbehaving) -> None:
    """In a client `standard` knows which requests may be sent twice, and sends no other twice."""
    stack = standard(f"by method {kind}", on="http", backoff=0.0)
    assert send(kind, stack, [f"{server.url}/status/503?times=1"]) == [200]
    assert send(kind, stack, [f"{server.url}/status/500?times=1"], "POST") == [500]


@Families
def test_what_fails_pays_nothing_into_the_budget(kind: str, server: Misbehaving) -> None:
    """A retry of lost connections let each 503 pay for retries, as if it were a success."""
    policy = retry(on=ConnectionError, backoff=0.0)
    send(kind, policy, statuses(server, 503, 500, 429, 404, 200))
    assert policy.budget is not None
    assert policy.budget._status()["deposits"] == 2
    assert counted(policy) == (2, 0, 3)


@pytest.mark.parametrize("kind", ["httpx2 asyncio", "httpx2 trio"])  # the backend makes the copy
def test_a_hedge_goes_by_the_status_too(kind: str, server: Misbehaving) -> None:
    """A 503 won the race, and a 404 was copied at once: of both the status tells whether a copy may do better."""
    policy = hedge(idempotent=True, after=30.0, max_extra=1.0)
    known = [server.url + "/ok"] * 60  # before that no copy is made at all
    answers = send(kind, policy, [*known, f"{server.url}/status/503?times=1", *statuses(server, 404, 429)])
    if policy.snapshot().due["saturated"]:
        pytest.skip("the machine got slow in between: a hedge that sees that makes no copy")
    assert answers[60:] == [200, 404, 429]
    assert server.total == 65  # the copy of the 429 is refused too
    assert policy.snapshot().hedge_wins == 1


# ---- when to come back -----------------------------------------------------------------------------------------------


@Families
@pytest.mark.parametrize("said", ["retry-after=30", "retry-after-ms=30000", "retry-after=@30"])
def test_a_breaker_stays_open_as_long_as_an_answer_asks(kind: str, server: Misbehaving, said: str) -> None:
    """Retry-After came to the breaker only by way of an exception, which no transport raises."""
    breaker = circuit_breaker(consecutive=1)
    answers = send(kind, breaker, [f"{server.url}/status/500?{said}", server.url + "/ok"])
    assert answers == [500, "CircuitOpenError"]
    left = breaker.snapshot().retry_after
    assert left is not None
    assert 5 < left <= 60


@Families
@pytest.mark.parametrize("status", [429, 503])
def test_a_retry_waits_as_long_as_an_answer_asks(kind: str, server: Misbehaving, status: int) -> None:
    """Of both the wait is kept: one that is longer than the policy allows ends the attempts."""
    policy = retry(on="http", backoff=0.0, max_retry_after=1.0, budget=None)
    assert send(kind, policy, [f"{server.url}/status/{status}?retry-after=30"]) == [status]
    assert policy.snapshot().stopped["retry_after"] == 1


def test_an_answer_that_has_failed_is_collected_as_soon_as_it_is_dropped(server: Misbehaving) -> None:
    """What a breaker keeps of an answer until its body has ended is the time that it asks for, and not the answer."""
    httpx2 = pytest.importorskip("httpx2", reason="httpx2 is not installed")
    guard = importlib.import_module("resilio.integrations.httpx")
    breaker = circuit_breaker(consecutive=1)
    with httpx2.Client(transport=guard.Transport(breaker, client=httpx2)) as client:
        response = client.send(client.build_request("GET", server.url + "/status/500?retry-after=30"), stream=True)
        assert breaker.snapshot().inflight == 1
        del response
        assert breaker.snapshot().inflight == 0
        with pytest.raises(CircuitOpenError):
            client.get(server.url + "/ok")
        assert (breaker.snapshot().retry_after or 0) > 5


# ---- around functions ------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("module", ["httpx", "httpx2", "requests"])
def test_the_readmes_function_stays_closed_over_404_and_opens_over_500(server: Misbehaving, module: str) -> None:
    """`raise_for_status` in a function under a breaker: ten 404s opened it for everybody."""
    client = pytest.importorskip(module, reason=f"{module} is not installed")
    breaker = circuit_breaker(on="http")

    @breaker
    def fetch(status: int) -> str:
        response = client.get(f"{server.url}/status/{status}")
        response.raise_for_status()
        return str(response.text)

    def seen(status: int) -> str:
        with pytest.raises(Exception) as caught:
            fetch(status)
        return type(caught.value).__name__

    assert {seen(404) for _ in range(20)} == {seen(429)}
    assert breaker.state == "closed"
    assert [seen(500) for _ in range(11)][-1] == "CircuitOpenError"


@pytest.mark.anyio
@pytest.mark.parametrize("anyio_backend", ["asyncio"])
async def test_aiohttps_bodies_are_judged_by_their_heads_however_they_end(server: Misbehaving) -> None:
    """A 500 whose body the caller leaves unread is a failure all the same, a 404 is an answer, a 200 says nothing."""
    aiohttp = pytest.importorskip("aiohttp", reason="aiohttp is not installed")
    guard = importlib.import_module("resilio.integrations.aiohttp")

    async def long(exchange: Exchange) -> None:
        await exchange.answer(b"x" * 900_000, int(exchange.query["status"]))

    server.routes["/long"] = long
    breaker = circuit_breaker()
    async with aiohttp.ClientSession(middlewares=(guard.middleware(breaker),)) as session:
        for status in (200, 500, 404):
            async with session.get(f"{server.url}/long?status={status}") as response:
                assert response.status == status
    assert counted(breaker) == (1, 1, 1)
