"""The services: who is asked, how often, and what their callers are told."""

from __future__ import annotations

import asyncio

import pytest

pytest.importorskip("httpx2")

import httpx2

from examples.demo._acts import acts
from examples.demo._service import Catalog, Orders, Search, Shop, service_of

pytestmark = pytest.mark.anyio
PORTS = {"recommendations": 1, "checkout": 2}


@pytest.fixture
def anyio_backend() -> str:
    return "asyncio"


class Network:
    """Answers what it is told to, and writes down what it was asked."""

    def __init__(self, answer):
        self.asked = []
        self._answer = answer
        self.client = httpx2.AsyncClient(transport=httpx2.MockTransport(self._handle), timeout=1.0)

    async def _handle(self, request):
        self.asked.append((request.url.port, request.url.path[1:]))
        answer = self._answer(request)
        answer = await answer if asyncio.iscoroutine(answer) else answer
        if isinstance(answer, Exception):
            raise answer
        return httpx2.Response(answer)


@pytest.mark.parametrize(
    ("answer", "outcome"),
    [
        (200, "ok"),
        (503, "unavailable"),
        (httpx2.PoolTimeout("x"), "no connection"),
        (httpx2.ReadTimeout("x"), "timeout"),
        (httpx2.ReadError("x"), "broken"),
    ],
)
@pytest.mark.parametrize("act", acts(quick=True), ids=lambda act: act.name)
async def test_callers_are_told_what_happened(act, answer, outcome):
    """Each way in which a call can end has a name."""
    network = Network(lambda _: answer)
    ports = {name: number for number, name in enumerate(act.sites, 1)}
    service = service_of(act, network.client, ports, guarded=False, retries=0)
    assert await service.handle(act.flaky, f"{act.flaky}-0") == outcome


async def test_shop_tries_again_at_once():
    """One retry of a failed call, of another identity; the bare shop has nothing that stops it."""
    network = Network(lambda request: 503 if request.url.path.endswith("-0") else 200)
    assert await Shop(network.client, PORTS, guarded=False, retries=1).handle("checkout", "checkout-7") == "ok"
    assert network.asked == [(2, "checkout-7-0"), (2, "checkout-7-1")]


async def test_guarded_shop_rejects_what_fails_and_nothing_else():
    """After ten failures recommendations are rejected without a call; the checkout goes on."""
    network = Network(lambda request: 503 if request.url.port == 1 else 200)
    shop = Shop(network.client, PORTS, guarded=True, retries=0)
    assert [await shop.handle("recommendations", f"r-{n}") for n in range(12)] == ["unavailable"] * 10 + [
        "rejected"
    ] * 2
    assert await shop.handle("checkout", "c-1") == "ok"
    assert len(network.asked) == 11


async def test_guarded_shop_gives_up_the_retry_that_the_breaker_rejects():
    """A call that was made and whose retry was rejected has failed, and was not rejected."""
    network = Network(lambda _: 503)
    shop = Shop(network.client, PORTS, guarded=True, retries=3)
    outcomes = [await shop.handle("recommendations", f"r-{n}") for n in range(4)]
    assert outcomes == ["unavailable"] * 3 + ["rejected"]
    assert len(network.asked) == 10


async def test_search_asks_the_replicas_in_turns():
    """Bare: a call for each request, and the turn is the request's own."""
    network = Network(lambda _: 200)
    search = Search(network.client, {"a": 1, "b": 2, "c": 3}, guarded=False)
    for number in range(4):
        await search.handle("search", f"search-{number}")
    assert network.asked == [(1, "search-0-0"), (2, "search-1-0"), (3, "search-2-0"), (1, "search-3-0")]


async def test_guarded_search_asks_the_next_replica_where_one_pauses():
    """Once it knows how long a call takes, one that takes long is asked of the next replica, whose answer is taken."""

    async def pause(request):
        if request.url.path == "/search-99-0":
            await asyncio.sleep(60)
        return 200

    network = Network(pause)
    search = Search(network.client, {"a": 1, "b": 2, "c": 3}, guarded=True)
    for number in range(99):
        await search.handle("search", f"search-{number}")
    assert await search.handle("search", "search-99") == "ok"
    assert network.asked[-2:] == [(1, "search-99-0"), (2, "search-99-1")]


REGIONS = {"eu-1 1": 1, "eu-1 2": 2, "us-1 1": 3, "us-1 2": 4}


async def test_the_bare_catalog_asks_the_replicas_in_turns():
    """In turns, and the next one where that fails."""
    network = Network(lambda request: 503 if request.url.port == 2 else 200)
    catalog = Catalog(network.client, REGIONS, guarded=False)
    assert [await catalog.handle("catalog", f"catalog-{n}") for n in range(4)] == ["ok"] * 4
    assert [port for port, _ in network.asked] == [1, 2, 3, 3, 4]


async def test_the_guarded_catalog_stays_in_its_region_until_that_is_gone():
    """All calls stay at home while it is well; where it fails, each is served by the other region."""
    lost = set()
    network = Network(lambda request: 503 if request.url.port in lost else 200)
    catalog = Catalog(network.client, REGIONS, guarded=True)
    assert {await catalog.handle("catalog", f"catalog-{n}") for n in range(20)} == {"ok"}
    assert {port for port, _ in network.asked} == {1, 2}
    lost.update((1, 2))
    network.asked.clear()
    assert {await catalog.handle("catalog", f"catalog-{n}") for n in range(20)} == {"ok"}
    assert sum(port in lost for port, _ in network.asked) <= 10 + 2  # until both breakers are open, and their probes


async def hang(_):
    await asyncio.sleep(60)


@pytest.mark.parametrize(("guarded", "most"), [(False, 60), (True, 14)])
async def test_orders_are_tried_again_but_guarded_within_limits(guarded, most):
    """Twenty orders while nothing is answered: bare three calls each, guarded until the breaker opens."""
    network = Network(hang)
    orders = Orders(network.client, 1, guarded=guarded, patience=0.005)
    outcomes = [await orders.handle("orders", f"orders-{n}") for n in range(20)]
    assert set(outcomes) == ({"timeout", "rejected"} if guarded else {"timeout"})
    assert len(network.asked) == 60 if not guarded else 10 <= len(network.asked) <= most


@pytest.mark.parametrize("guarded", [False, True])
async def test_an_order_is_saved_by_its_second_attempt(guarded):
    """What fails for a moment is tried again."""
    answers = iter([503, 200])
    network = Network(lambda _: next(answers))
    assert await Orders(network.client, 1, guarded=guarded, patience=1.0).handle("orders", "orders-0") == "ok"
    assert len(network.asked) == 2
