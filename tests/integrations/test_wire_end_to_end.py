"""A deadline from a client to a server, and on to the server that this one calls: each hop has less time, none more."""

from __future__ import annotations

from typing import Any

import pytest
from serving.sockets import asgi_server

from resilio import DeadlineExceededError, bulkhead, circuit_breaker, deadline, load_shed, remaining
from resilio.integrations.asgi import Middleware

httpx2 = pytest.importorskip("httpx2", reason="httpx2 is not installed")
pytest.importorskip("resilio.integrations.httpx", reason="the transports are not there")
uvicorn = pytest.importorskip("uvicorn", reason="uvicorn is not installed")

MINE = "127.0.0.0/8"


def answering(make: Any) -> Any:
    """Return an app whose body `make()` gives."""

    async def app(scope: Any, receive: Any, send: Any) -> None:
        body = str(await make()).encode()
        headers = [(b"content-length", str(len(body)).encode())]
        await send({"type": "http.response.start", "status": 200, "headers": headers})
        await send({"type": "http.response.body", "body": body})

    return app


def client(url: str, *, sends: bool | str = True) -> Any:
    from resilio.integrations.httpx import AsyncTransport

    return httpx2.AsyncClient(
        transport=AsyncTransport(circuit_breaker(), client=httpx2, send_deadline=sends), base_url=url, timeout=30.0
    )


@pytest.mark.anyio
@pytest.mark.parametrize("name", ["x-request-timeout", "x-budget-ms"])
async def test_each_hop_has_less_time_than_the_one_before(name) -> None:
    """What the client has left bounds the first server's app, and its own call the second server's."""
    seen: list[float] = []

    async def last() -> float | None:
        return remaining()

    with asgi_server("uvicorn", Middleware(answering(last), load_shed(), trust=MINE, deadline_header=name)) as second:

        async def between() -> str:
            left = remaining()
            assert left is not None
            seen.append(left)
            async with client(f"http://127.0.0.1:{second}", sends=name) as inner:
                return (await inner.get("/")).text

        app = Middleware(answering(between), load_shed(), trust=MINE, deadline_header=name)
        with asgi_server("uvicorn", app) as first:
            async with client(f"http://127.0.0.1:{first}", sends=name) as outer, deadline(20.0):
                seen.append(float((await outer.get("/")).text))
    assert 20.0 >= seen[0] > seen[1] > 0.0


@pytest.mark.anyio
async def test_without_trust_nobody_shortens_anything() -> None:
    """A server that does not know its caller gives its app all the time there is."""

    async def left() -> float | None:
        return remaining()

    with asgi_server("uvicorn", Middleware(answering(left), load_shed())) as port:
        async with client(f"http://127.0.0.1:{port}") as outer, deadline(20.0):
            assert (await outer.get("/")).text == "None"


@pytest.mark.anyio
async def test_a_server_that_is_already_late_rejects_before_any_work() -> None:
    """What waits in the queue until its caller has given up is never begun, and the metrics say so."""
    gate = bulkhead(1, max_queued=5, max_wait=60.0)
    permit = gate.try_acquire()

    async def never() -> None:
        raise AssertionError("the app was called")

    with asgi_server("uvicorn", Middleware(answering(never), gate, trust=MINE)) as port:
        async with httpx2.AsyncClient(base_url=f"http://127.0.0.1:{port}", timeout=30.0) as outer:
            answers = [await outer.get("/", headers={"x-request-timeout": left}) for left in ("0", "0.05")]
    permit.success()
    assert [answer.status_code for answer in answers] == [504, 504]
    assert gate.gates[0].rejections()["deadline"] == 2
    assert (gate.snapshot().rejected, gate.snapshot().queued) == (2, 0)


@pytest.mark.anyio
async def test_a_client_whose_time_is_up_asks_nobody() -> None:
    """The first hop that is late ends the chain: nothing is sent."""
    calls: list[int] = []

    async def count() -> None:
        calls.append(1)

    with asgi_server("uvicorn", Middleware(answering(count), load_shed(), trust=MINE)) as port:
        async with client(f"http://127.0.0.1:{port}") as outer:
            with pytest.raises(DeadlineExceededError), deadline(0):
                await outer.get("/")
    assert calls == []
