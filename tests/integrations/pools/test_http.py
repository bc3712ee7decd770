"""Pools inside of httpx, httpx2, aiohttp and requests: a server in trouble is left, and found again."""

from __future__ import annotations

import json
import time
from collections import Counter
from collections.abc import Callable
from typing import Any

import pytest
from integrations.pools.callers import one_client
from servers.replica import Replica

from resilio import Endpoint, Pool, bulkhead, circuit_breaker, pipeline, pool, retry, standard, timeout
from resilio.testing import VirtualTime

PATIENCE = 60.0


def elsewhere(search: Pool, *inside: Any) -> Any:
    """Return the pool under one retry."""
    return pipeline(retry(on="http", attempts=2, backoff=0.0, budget=None), search, *inside)


def answered(client: Any, times: int) -> Counter[str]:
    """Return how many calls each replica has answered."""
    found: Counter[str] = Counter()
    for _ in range(times):
        answer = client.get("/who")
        assert answer.status == 200
        found[answer.text] += 1
    return found


def until(true: Callable[[], object]) -> None:
    """Repeat something until it is so."""
    latest = time.monotonic() + PATIENCE
    while not true():
        assert time.monotonic() < latest, "it never came"


def row(search: Pool, name: str) -> Any:
    """Return the counters of an endpoint's own policy."""
    return search[name].snapshot()


# ---- servers in trouble ----------------------------------------------------------------------------------------------


@one_client
def test_no_call_fails_when_a_server_is_killed(caller: Any, search: Pool, two: tuple[Replica, ...]) -> None:
    """A replica dies between two calls: one retry, elsewhere, and no caller hears of it."""
    client = caller(elsewhere(search))
    assert set(answered(client, 20)) == {"a", "b"}
    latest = client.get("/who").text
    dead, other = sorted(two, key=lambda one: one.name != latest)
    dead.kill()
    until(lambda: answered(client, 1) == {other.name: 1} and row(search, dead.name).failures >= 1)
    assert answered(client, 30) == {other.name: 30}


@one_client
@pytest.mark.real(1.5)
def test_a_standard_stack_takes_the_servers(caller: Any, two: tuple[Replica, ...]) -> None:
    """Callers name the stack; a server that is killed is left by the stack's retry."""
    client = caller(standard("search", on="http", pool=[one.url for one in two], budget=None))
    assert set(answered(client, 20)) == {"a", "b"}
    two[0].kill()
    assert answered(client, 20)["b"] >= 19  # the connection that was open may answer once more


@one_client
def test_a_server_that_is_back_gets_calls_again(
    caller: Any, search: Pool, two: tuple[Replica, ...], vt: VirtualTime
) -> None:
    """After its breaker has opened, a replica that was started again is found by a probe."""
    client = caller(elsewhere(search))
    two[0].kill()
    until(lambda: answered(client, 1) and row(search, "a").failures >= 1)
    two[0].start()

    def found() -> bool:
        vt.advance(0.5)
        return answered(client, 1)["a"] > 0

    until(found)


@one_client
@pytest.mark.real(2.0)
def test_calls_leave_a_server_that_hangs(caller: Any, search: Pool, two: tuple[Replica, ...]) -> None:
    """A replica that is stopped accepts connections and says nothing: calls time out there, and go elsewhere."""
    client = caller(elsewhere(search, timeout(1.5)))
    answered(client, 2)
    two[0].pause()
    until(lambda: answered(client, 1) == {"b": 1} and row(search, "a").failures >= 1)
    before = row(search, "a").calls
    assert answered(client, 10) == {"b": 10}
    assert row(search, "a").calls - before <= 5
    two[0].resume()
    search.drain("b")
    until(lambda: answered(client, 1)["a"])


@one_client
def test_calls_move_away_from_a_slow_server(caller: Any, search: Pool, two: tuple[Replica, ...]) -> None:
    """A replica that is slow, but well, gets few calls, without a failure or a breaker."""
    two[0].slow(0.3)
    client = caller(search)
    assert answered(client, 30)["a"] <= 6
    assert row(search, "a").failures == 0


@one_client
def test_a_retry_goes_elsewhere(caller: Any, search: Pool, two: tuple[Replica, ...]) -> None:
    """A replica that answers 503 is asked once by a call at most; its retry is answered by the other."""
    two[0].fail(503)
    client = caller(elsewhere(search))
    assert answered(client, 20) == {"b": 20}
    assert 1 <= len(two[0].seen) <= 20
    assert len(two[1].seen) == 20


@pytest.mark.parametrize("status", [404, 429])
def test_an_answer_that_serves_nothing_draws_no_calls(
    status: int, caller: Any, search: Pool, two: tuple[Replica, ...]
) -> None:
    """One of three that answered 429 with Retry-After got 675 of 1,000 calls, and one of two with 404 nearly all."""
    two[0].fail(status, retry_after=30 if status == 429 else 0)
    two[1].slow(0.003)
    client = caller(search)
    for _ in range(60):
        client.get("/who")
    refused = len(two[0].seen)
    assert refused <= 60 * 0.55 if status == 404 else refused == 1
    assert row(search, "a").failures == 0


def test_a_retry_is_served_where_no_limit_is(caller: Any, search: Pool, two: tuple[Replica, ...]) -> None:
    """The limited replica is asked once, and no caller hears of it."""
    two[0].fail(429, retry_after=30)
    assert answered(caller(elsewhere(search)), 30) == {"b": 30}
    assert len(two[0].seen) <= 1


def test_a_refusal_is_no_attempt(caller: Any, two: tuple[Replica, ...]) -> None:
    """An endpoint with a full bulkhead is passed over, without a retry; when all are full, the call is rejected."""
    few = pool("search", *(Endpoint(one.url, name=one.name) for one in two), each=lambda e: bulkhead(1))
    client = caller(few)
    first, second = client.parts("/drip?n=0"), client.parts("/drip?n=0")
    assert next(first)
    assert next(second)
    assert {len(one.seen) for one in two} == {1}
    with pytest.raises(Exception, match="bulkhead") as caught:
        client.get("/who")
    assert caught.value.called is False  # type: ignore[attr-defined]
    first.close()
    assert client.get("/who").status == 200
    second.close()
    assert [row(few, name).inflight for name in "ab"] == [0, 0]


# ---- where a request goes --------------------------------------------------------------------------------------------


def test_a_request_is_the_endpoints(caller: Any, two: tuple[Replica, ...]) -> None:
    """Scheme, host and port are rewritten, `Host` is the endpoint's, its base path is joined, the query stays."""
    base = pool("search", Endpoint(two[0].url + "/echo/v1/", name="a"))
    answer = caller(base).get("/items?q=a%20b&n=1")
    said = json.loads(answer.text)
    assert said["target"] == "/echo/v1/items?q=a%20b&n=1"
    assert said["headers"]["host"] == two[0].host
    assert answer.url == "http://search/items?q=a%20b&n=1"
    assert answer.endpoint.name == "a"


def test_an_address_without_a_scheme_takes_that_of_the_request(caller: Any, two: tuple[Replica, ...]) -> None:
    """`Endpoint("10.0.0.7:80")`, as resolvers make them; a label is the name that the server goes by."""
    named = pool("search", Endpoint(two[0].host, host="search.internal"))
    said = json.loads(caller(named).get("/echo").text)
    assert said["headers"]["host"] == f"search.internal:{two[0].port}"


def test_a_request_to_another_host_goes_there(caller: Any, search: Pool, two: tuple[Replica, ...]) -> None:
    """What is not for the pool is not rewritten: its credentials reach no endpoint."""
    answer = caller(search).get(two[1].url + "/who")
    assert (answer.text, answer.endpoint) == ("b", None)
    assert two[0].seen == []
    assert sum(row(search, name).calls for name in "ab") == 0


def test_the_pool_may_have_another_url(caller: Any, search: Pool) -> None:
    """`origin=` is the URL that callers have in their code already."""
    client = caller(search, origin="https://api.example.com")
    assert client.get("https://api.example.com/who").endpoint is not None
    assert client.get("/who").endpoint is not None


@pytest.mark.parametrize("target", ["ftp://a.internal", "http://a.internal:99999", "http://a.internal/?q=1", "http://"])
def test_a_target_that_is_no_address_is_rejected(caller: Any, target: str) -> None:
    """The error names the target, when the client is made."""
    with pytest.raises(ValueError, match="target must be"):
        caller(pool("search", Endpoint(target)))


def test_an_origin_without_a_pool_is_rejected(caller: Any) -> None:
    """It would do nothing."""
    with pytest.raises(ValueError, match="origin="):
        caller(circuit_breaker(), origin="https://api.example.com")


# ---- what must not leak ----------------------------------------------------------------------------------------------


def test_a_redirect_to_the_endpoint_itself_is_one_to_the_pool(
    caller: Any, search: Pool, two: tuple[Replica, ...]
) -> None:
    """A server redirects to its own address: the client follows to the pool, with credentials, to any endpoint."""
    search.drain("b")
    client = caller(search)
    answer = client.get(f"/redirect?to={two[0].url}/echo", auth=("me", "secret"))
    said = json.loads(answer.text)
    assert "authorization" in said["headers"]
    assert (said["headers"]["host"], answer.url) == (two[0].host, "http://search/echo")


def test_a_redirect_to_another_endpoint_takes_no_credentials_along(caller: Any, two: tuple[Replica, ...]) -> None:
    """It goes where it says, as one to any other host: without what was meant for the pool."""
    one = pool("search", Endpoint(two[0].url, name="a"))
    client = caller(one)
    client.get("/who?cookie=c%3D1")
    answer = client.get(f"/redirect?to={two[1].url}/echo", auth=("me", "secret"))
    said = json.loads(answer.text)
    assert said["headers"]["host"] == two[1].host
    assert not {"authorization", "cookie"} & set(said["headers"])
    assert answer.url == two[1].url + "/echo"
    asked = two[0].seen[-1]["headers"]
    assert asked["cookie"] == "c=1"
    assert "authorization" in asked


def test_a_redirect_out_of_a_base_path_goes_to_the_server_itself(caller: Any, two: tuple[Replica, ...]) -> None:
    """A path outside of the endpoint's base is none of the pool."""
    base = pool("search", Endpoint(two[0].url + "/redirect", name="a"))
    answer = caller(base).get("/x?to=/echo")
    assert answer.url == two[0].url + "/echo"
    answer = caller(base).get("/x?to=/redirect/y")
    assert [one["target"] for one in two[0].seen][-3:] == ["/redirect/x?to=/redirect/y", "/redirect/y", "/ok"]
    assert answer.url == two[0].url + "/ok"


def test_credentials_of_an_endpoint_reach_no_other(caller: Any, two: tuple[Replica, ...]) -> None:
    """User and password in a target are for that endpoint alone, also when its call is retried elsewhere."""
    two[0].fail(503)
    known = pool(
        "search",
        Endpoint(f"http://me:secret@{two[0].host}", name="a", level=0),
        Endpoint(two[1].url, name="b", level=1),
    )
    answer = caller(elsewhere(known)).get("/who")
    assert answer.text == "b"
    assert two[0].seen[0]["headers"]["authorization"].startswith("Basic ")
    assert "authorization" not in two[1].seen[0]["headers"]


# ---- bodies ----------------------------------------------------------------------------------------------------------


def test_a_stream_keeps_its_endpoint_and_its_permit_to_the_end(
    caller: Any, search: Pool, two: tuple[Replica, ...]
) -> None:
    """The endpoint is in flight until the last byte, whatever happens to the pool meanwhile."""
    client = caller(elsewhere(search))
    parts = client.parts("/halves")
    assert next(parts) == b"x"
    busy = [name for name in "ab" if row(search, name).inflight]
    assert len(busy) == 1
    search.drain(busy[0])
    assert answered(client, 5)[busy[0]] == 0
    assert row(search, busy[0]).inflight == 1
    for one in two:
        one.go_on()
    assert b"".join(parts) == b"x"
    assert row(search, busy[0]).inflight == 0
    assert sum(len(one.seen) for one in two) == 6


def test_a_stream_that_breaks_is_an_error_and_is_not_sent_again(
    caller: Any, search: Pool, two: tuple[Replica, ...]
) -> None:
    """After the first byte nothing is repeated unless the caller chooses how: the reader gets the client's error."""
    client = caller(elsewhere(search))
    parts = client.parts("/die-mid-body?sent=10")
    with pytest.raises(Exception) as caught:
        list(parts)
    assert type(caught.value).__module__.partition(".")[0] in ("aiohttp", "httpx", "httpx2", "requests")
    assert sum(len(one.seen) for one in two) == 1
    assert [row(search, name).inflight for name in "ab"] == [0, 0]
    assert sum(row(search, name).failures for name in "ab") == 1


def test_a_body_of_bytes_is_sent_again_elsewhere(caller: Any, two: tuple[Replica, ...], nowhere: int) -> None:
    """A server that is not there has processed nothing: the whole body goes to the next one."""
    gone = Endpoint(f"http://127.0.0.1:{nowhere}", name="gone", level=0)
    ordered = pool("search", gone, Endpoint(two[1].url, name="b", level=1))
    said = json.loads(caller(elsewhere(ordered)).post("/echo", content=b"booking").text)
    assert (said["body"], said["headers"]["host"]) == ("booking", two[1].host)
    assert (row(ordered, "gone").failures, row(ordered, "b").successes) == (1, 1)


def test_a_body_that_can_be_read_once_is_sent_once(caller: Any, two: tuple[Replica, ...]) -> None:
    """A generator is not repeated, and its rest reaches no other endpoint."""
    ordered = pool("search", *(Endpoint(one.url, name=one.name, level=level) for level, one in enumerate(two)))
    client = caller(elsewhere(ordered), idempotent=True)
    two[0].fail(503)
    answer = client.post("/echo", content=client.body(b"book", b"ing"))
    assert answer.status == 503
    assert [one["body"] for one in two[0].seen] == ["booking"]
    assert two[1].seen == []


def test_a_request_that_is_not_idempotent_is_sent_once(caller: Any, two: tuple[Replica, ...]) -> None:
    """Its server may have processed it; another one must not do so again."""
    ordered = pool("search", *(Endpoint(one.url, name=one.name, level=level) for level, one in enumerate(two)))
    two[0].fail(503)
    client = caller(elsewhere(ordered))
    assert client.post("/echo", content=b"booking").status == 503
    assert two[1].seen == []
    assert client.post("/echo", content=b"booking", headers={"Idempotency-Key": "1"}).status == 200
