"""Pools inside of clients: hedges, disabled policies, base URLs, trio, and what is logged."""

from __future__ import annotations

import asyncio
import logging
import pickle
from typing import Any

import pytest
from integrations.pools.callers import Aiohttp, AsyncHttpx2
from servers.replica import Replica

from resilio import Endpoint, Pool, hedge, pipeline, pool, retry
from resilio.testing import disabled

Two = tuple[Replica, Replica]


@pytest.mark.parametrize("kind", [AsyncHttpx2, Aiohttp])
def test_a_hedge_goes_elsewhere(kind: Any, two: Two) -> None:
    """The copy of a request that waits at a slow endpoint is answered by the other one."""
    ordered = pool("search", *(Endpoint(one.url, name=one.name, level=at) for at, one in enumerate(two)))
    with kind(pipeline(hedge(idempotent=True, after=0.2, max_extra=1.0), ordered)) as client:
        for _ in range(30):  # none fires before the latency is known
            client.get("/who")
        two[0].slow(30.0)
        assert client.get("/who").text == "b"
        assert two[0].seen[-1]["target"] == two[1].seen[-1]["target"] == "/who"
    assert ordered["b"].snapshot().inflight == 0


def test_disabled_policies_leave_a_request_an_endpoint(caller: Any, search: Pool) -> None:
    """Without policies nothing chooses, and no request may go to the pool's name."""
    client = caller(search)
    with disabled():
        assert client.get("/who").endpoint is not None


def test_the_first_request_past_the_pool_is_logged(
    caller: Any, search: Pool, two: Two, caplog: pytest.LogCaptureFixture
) -> None:
    """It may be a mistake in the URL; once the pool has been called it is not."""
    with caplog.at_level(logging.WARNING, logger="resilio"):
        client = caller(search)
        client.get(two[0].url + "/who")
        client.get(two[0].url + "/who")
    assert [record.message.partition(";")[0] for record in caplog.records] == ["pool search serves https://search"]
    caplog.clear()
    with caplog.at_level(logging.WARNING, logger="resilio"):
        client = caller(search)
        client.get("/who")
        client.get(two[0].url + "/who")
    assert caplog.records == []


@pytest.mark.parametrize("name", ["httpx", "httpx2"])
def test_a_pool_serves_the_base_url_of_a_guarded_client(name: str, search: Pool, two: Two) -> None:
    """`guard_client` knows the URL that the client's callers use; its path is a part of the requests."""
    module = pytest.importorskip(name)
    from resilio.integrations.httpx import endpoint_of, guard_client

    with guard_client(module.Client(base_url="https://api.example.com/v1", trust_env=False), search) as client:
        answer = client.get("/who")
    assert (answer.status_code, endpoint_of(answer) is not None) == (404, True)
    assert sorted(target for one in two for target in (asked["target"] for asked in one.seen)) == ["/v1/who"]


@pytest.mark.parametrize("backend", ["asyncio", "trio"])
def test_httpx_has_pools_on_trio_too(backend: str, search: Pool, two: Two) -> None:
    """The same transport, in either event loop."""
    httpx2 = pytest.importorskip("httpx2")
    from resilio.integrations.httpx import AsyncTransport

    two[0].fail(503)
    stack = pipeline(retry(on="http", attempts=2, backoff=0.0, budget=None), search)

    async def scene() -> None:
        async with httpx2.AsyncClient(transport=AsyncTransport(stack, client=httpx2)) as client:
            for _ in range(5):
                assert (await client.get("http://search/who")).text == "b"

    if backend == "asyncio":
        asyncio.run(scene())
    else:
        pytest.importorskip("trio").run(scene)


def test_an_adapter_is_copied_with_its_pool(search: Pool) -> None:
    """Sessions are copied and sent to other processes; the pool is found again by its name."""
    requests = pytest.importorskip("requests")
    from resilio.integrations.requests import Adapter, endpoint_of

    adapter = pickle.loads(pickle.dumps(Adapter(search, origin="https://api.example.com")))
    assert adapter.policy is search
    with requests.Session() as session:
        session.trust_env = False
        session.mount("https://", adapter)
        answer = session.get("https://api.example.com/who", timeout=60.0)
    assert endpoint_of(answer) is not None
