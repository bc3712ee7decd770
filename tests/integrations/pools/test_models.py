"""Pools of model providers: each endpoint has a client of the SDK, with its address, credentials and model names."""

from __future__ import annotations

import asyncio
import json
import time
from collections.abc import Callable, Iterator
from typing import Any

import pytest
from servers.models import OpenAI
from servers.replica import Replica
from servers.sdks import SDKS, Sdk

from resilio import (
    CircuitOpenError,
    Endpoint,
    Pool,
    circuit_breaker,
    pipeline,
    pool,
    presets,
    rate_limit,
    retry,
    timeout,
)
from resilio.integrations.llm import partial_of, rejection_of, token_rate

PATIENCE = 60.0
Two = tuple[Replica, Replica]


@pytest.fixture(params=SDKS, ids=repr)
def sdk(request: pytest.FixtureRequest) -> Sdk:
    """An SDK in one wire format."""
    found: Sdk = request.param
    pytest.importorskip(found.wire.name)
    if found.name == "openai-responses":
        pytest.importorskip("openai.resources.responses", reason="this openai has no responses")
    return found


class Client:
    """A guarded client, async or not, used in one way."""

    def __init__(self, sdk: Sdk, two: Two, is_async: bool) -> None:
        self.sdk = sdk
        self.is_async = is_async
        self.two = two
        self._runner = asyncio.Runner()
        self._clients: list[Any] = []

    def bare(self, server: Any, **options: Any) -> Any:
        """A client of one replica."""
        self._clients.append(self.sdk.bare(server, is_async=self.is_async, **options))
        return self._clients[-1]

    def endpoints(self, **labels: Any) -> list[Endpoint]:
        """Return an endpoint for each replica; the first one is asked first."""
        return [
            Endpoint(
                one.url, name=one.name, level=at, use=self.bare(one).with_options(api_key=f"key-{one.name}"), **labels
            )
            for at, one in enumerate(self.two)
        ]

    def guarded(self, policy: Any, **options: Any) -> Any:
        """The client that a caller's code has; its own address leads nowhere."""
        return self.sdk.llm.guard(self.bare(_NOWHERE), policy, **options)

    def run(self, answer: Any) -> Any:
        return self._runner.run(_awaited(answer)) if self.is_async else answer

    def ask(self, client: Any, **more: Any) -> str:
        """Ask for a whole answer, and return its text."""
        return self.sdk.text(self.run(self.sdk.ask(client, **more)))

    def texts(self, client: Any) -> Iterator[str]:
        """Ask for a stream, and yield what its events add."""
        stream = self.run(self.sdk.stream(client))
        if not self.is_async:
            yield from filter(None, map(self.sdk.said, stream))
            return
        events = aiter(stream)
        while (event := self.run(anext(events, None))) is not None:
            if text := self.sdk.said(event):
                yield text

    def script(self, at: int, *behaviours: Any) -> None:
        """Have a replica answer so."""
        self.two[at].script(type(self.sdk.wire).__name__, *behaviours)

    def close(self) -> None:
        for client in self._clients:
            self.run(client.close())
        self._runner.close()


def one_client(function: Any) -> Any:
    """For a scene that is the pool's: what each SDK does in it, other tests ask by a request or two."""
    sdk = pytest.mark.parametrize("sdk", SDKS[:1], indirect=True, ids=repr)
    return sdk(pytest.mark.parametrize("client", [True], indirect=True, ids=["async"])(function))


class _NOWHERE:
    url = "http://nowhere.invalid"


async def _awaited(answer: Any) -> Any:
    return await answer if hasattr(answer, "__await__") else answer


@pytest.fixture(params=[True, False], ids=["async", "sync"])
def client(request: pytest.FixtureRequest, sdk: Sdk, two: Two) -> Iterator[Client]:
    """Clients of one SDK, over replicas that answer."""
    made = Client(sdk, two, request.param)
    for at, one in enumerate(two):
        made.script(at, ("answers", [one.name], {}))
    yield made
    made.close()


def chat(client: Client, **options: Any) -> Pool:
    """A pool of providers; the first one is asked first."""
    each = options.pop("each", lambda e: circuit_breaker(consecutive=3, open_for=0.05, max_open_for=0.2))
    return pool("chat", *client.endpoints(**options), each=each)


def elsewhere(models: Any, *inside: Any) -> Any:
    return pipeline(retry(on=presets.model.momentary, attempts=2, backoff=0.0, budget=None), models, *inside)


def row(models: Pool, name: str) -> Any:
    return models[name].snapshot()


def until(true: Callable[[], object]) -> None:
    latest = time.monotonic() + PATIENCE
    while not true():
        assert time.monotonic() < latest, "it never came"


def test_a_call_is_made_by_the_endpoints_client(client: Client, two: Two) -> None:
    """Address and credentials are those of the endpoint's client; the model has the name that it has there."""
    guarded = client.guarded(chat(client, model="deployed"))
    assert client.ask(guarded) == "a"
    asked = two[0].seen[-1]
    assert asked["target"].endswith(client.sdk.wire.path)
    assert asked["headers"]["host"] == two[0].host
    assert "key-a" in (asked["headers"].get("authorization", "") + asked["headers"].get("x-api-key", ""))
    assert json.loads(asked["body"])["model"] == "deployed"


def test_a_model_may_have_a_name_for_each_that_callers_use(client: Client, two: Two) -> None:
    """A mapping of names; a name that it does not have stays."""
    guarded = client.guarded(chat(client, model={"large": "dear-1"}))
    for given, sent in (("large", "dear-1"), ("small", "small")):
        client.ask(guarded, model=given)
        assert json.loads(two[0].seen[-1]["body"])["model"] == sent


def test_what_the_caller_says_for_a_call_goes_along(client: Client, two: Two) -> None:
    """Headers and query of one call reach the endpoint; what is the guarded client's own does not."""
    guarded = client.guarded(chat(client))
    client.ask(guarded, extra_headers={"x-mine": "1"}, extra_query={"q": "2"})
    asked = two[0].seen[-1]
    assert asked["headers"]["x-mine"] == "1"
    assert asked["target"].endswith("?q=2")
    assert asked["headers"].get("authorization") != "Bearer key"


@one_client
def test_no_call_fails_when_a_provider_is_killed(client: Client, two: Two) -> None:
    """One retry, with the next provider, and no caller hears of it; the first one is found again."""
    models = chat(client)
    guarded = client.guarded(elsewhere(models))
    assert client.ask(guarded) == "a"
    two[0].kill()
    assert [client.ask(guarded) for _ in range(5)] == ["b"] * 5
    assert row(models, "a").failures >= 1
    two[0].start()
    client.script(0, ("answers", ["a"], {}))
    until(lambda: client.ask(guarded) == "a")


@one_client
@pytest.mark.real(2.0)
def test_a_provider_that_hangs_is_left(client: Client, two: Two) -> None:
    """A stopped replica says nothing: the call times out there, and is answered by the next."""
    models = chat(client)
    guarded = client.guarded(elsewhere(models, timeout(1.5)))
    two[0].pause()
    assert client.ask(guarded) == "b"
    assert row(models, "a").failures == 1
    two[0].resume()


def test_an_error_of_the_provider_is_that_of_the_sdk(client: Client, two: Two) -> None:
    """A 400 is the caller's mistake: no retry, no failure of the endpoint, and the SDK's own exception."""
    models = chat(client)
    client.script(0, ("fails", [400, "invalid_request_error"], {}))
    with pytest.raises(client.sdk.module.BadRequestError):
        client.ask(client.guarded(elsewhere(models)))
    assert two[1].seen == []


def test_a_used_up_quota_is_no_attempt(client: Client, two: Two) -> None:
    """A limit in tokens for each endpoint: the next one is called when the first one's is used up."""

    def limits(endpoint: Endpoint) -> Any:
        return rate_limit(token_rate("20/h"))

    for at in (0, 1):
        client.script(at, ("answers", [two[at].name], {"tokens": [12, 8]}))
    models = chat(client, each=limits)
    guarded = client.guarded(models)
    assert [client.ask(guarded), client.ask(guarded)] == ["a", "b"]
    with pytest.raises(client.sdk.module.RateLimitError) as caught:
        client.ask(guarded)
    assert rejection_of(caught.value) is not None
    assert [len(one.seen) for one in two] == [1, 1]


def test_a_stream_keeps_its_endpoint_and_its_permit_to_the_end(client: Client, two: Two) -> None:
    """In flight until its last event is read."""
    models = chat(client)
    client.script(0, ("streams", ["one", "two"], {}))
    texts = client.texts(client.guarded(elsewhere(models)))
    assert next(texts) == "one"
    assert [row(models, name).inflight for name in "ab"] == [1, 0]
    models.drain("a")
    assert list(texts) == ["two"]
    assert row(models, "a").inflight == 0
    assert two[1].seen == []


def test_a_stream_that_breaks_after_its_first_part_is_a_clear_error(client: Client, two: Two) -> None:
    """Nothing is repeated that the caller has seen: the SDK's error, which says that a part was shown."""
    models = chat(client)
    client.script(0, ("streams", ["one", "two"], {"end": "die"}))
    texts = client.texts(client.guarded(elsewhere(models)))
    assert next(texts) == "one"
    with pytest.raises(Exception) as caught:
        list(texts)
    assert partial_of(caught.value)
    assert two[1].seen == []
    assert (row(models, "a").inflight, row(models, "a").failures) == (0, 1)


def test_a_stream_that_breaks_before_its_first_part_is_begun_elsewhere(client: Client, two: Two) -> None:
    """The caller has seen nothing: a retry may begin it anew, with the next provider."""
    client.script(0, ("streams", [], {"before": ["ping", "die"]}))
    client.script(1, ("streams", ["whole"], {}))
    assert list(client.texts(client.guarded(elsewhere(chat(client))))) == ["whole"]


def test_a_broken_stream_is_restarted_where_the_caller_chose_it(client: Client, two: Two) -> None:
    """With `resume="restart"` an answer is shown once it is whole, and one that broke is begun anew elsewhere."""
    models = chat(client)
    client.script(0, ("streams", ["one", "two"], {"end": "die"}))
    client.script(1, ("streams", ["three", "four"], {}))
    guarded = client.guarded(elsewhere(models), resume="restart")
    assert list(client.texts(guarded)) == ["three", "four"]
    assert [row(models, name).failures for name in "ab"] == [1, 0]
    assert [len(one.seen) for one in two] == [1, 1]


def test_what_no_attempt_can_restart_is_a_clear_error(client: Client, two: Two) -> None:
    """All providers break off: the reader gets the SDK's error, and no part of an answer."""
    for at in (0, 1):
        client.script(at, ("streams", ["one"], {"end": "die"}))
    guarded = client.guarded(elsewhere(chat(client)), resume="restart")
    with pytest.raises(client.sdk.module.APIConnectionError) as caught:
        list(client.texts(guarded))
    assert not partial_of(caught.value)
    assert [len(one.seen) for one in two] == [1, 1]


def test_an_endpoint_without_a_client_is_rejected(client: Client) -> None:
    """When the client is guarded, by the endpoint's name."""
    with pytest.raises(TypeError, match="use of endpoint 'a' must be"):
        client.guarded(pool("chat", Endpoint("a")))
    with pytest.raises(ValueError, match="resume"):
        client.guarded(circuit_breaker(), resume="never")


@one_client
@pytest.mark.real(2.0)
def test_all_providers_refuse_with_the_soonest_retry_after(client: Client, two: Two) -> None:
    """Both breakers are open: the caller hears so in the SDK's terms. The last one opens once nothing seems to work."""
    for one in two:
        one.kill()
    models = chat(client, each=lambda e: circuit_breaker(consecutive=1, open_for=60.0, max_open_for=60.0))
    guarded = client.guarded(elsewhere(models))
    with pytest.raises(client.sdk.module.APIConnectionError):
        client.ask(guarded)
    for _ in range(40):
        with pytest.raises((client.sdk.module.APIConnectionError, client.sdk.module.APIStatusError)) as caught:
            client.ask(guarded)
    assert isinstance(caught.value, client.sdk.module.APIStatusError)
    assert isinstance(rejection_of(caught.value), CircuitOpenError)
    assert type(client.sdk.wire) is not OpenAI or caught.value.status_code == 503
