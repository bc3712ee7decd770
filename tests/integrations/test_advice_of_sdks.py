"""Clients without an integration, and bare responses: the time that a server names is kept."""

from __future__ import annotations

import json
from typing import Any

import pytest
from servers.misbehaving import Exchange, Misbehaving

from resilio import retry, trail_of
from resilio._failures.retry_after import retry_after_of
from resilio.testing import VirtualTime

BUSY = {
    "error": {
        "code": 429,
        "message": "You exceeded your current quota.",
        "status": "RESOURCE_EXHAUSTED",
        "details": [{"@type": "type.googleapis.com/google.rpc.RetryInfo", "retryDelay": "1.200s"}],
    }
}
ANSWER = {"candidates": [{"content": {"role": "model", "parts": [{"text": "hello"}]}, "finishReason": "STOP"}]}
JSON = {"content-type": "application/json"}
AMZ_JSON = {"content-type": "application/x-amz-json-1.0"}


class Once:
    """A route whose first answer is a refusal with a time to come back, and which notes the virtual time of each."""

    def __init__(self, vt: VirtualTime, refusal: tuple[object, int, dict[str, str]], answer: object) -> None:
        self.vt = vt
        self.refusal = refusal
        self.answer = answer
        self.times: list[float] = []

    async def __call__(self, exchange: Exchange) -> None:
        self.times.append(self.vt.now)
        body, status, headers = self.refusal if len(self.times) == 1 else (self.answer, 200, JSON)
        await exchange.answer(json.dumps(body).encode(), status, headers)


def dynamodb(server: Misbehaving) -> Any:
    """A client of boto3 without retries of its own."""
    boto3 = pytest.importorskip("boto3", reason="boto3 is not installed")
    config = pytest.importorskip("botocore.config").Config(retries={"total_max_attempts": 1, "mode": "standard"})
    keys = {"aws_access_key_id": "none", "aws_secret_access_key": "none"}
    return boto3.client("dynamodb", region_name="eu-central-1", endpoint_url=server.url, config=config, **keys)


def throttled(milliseconds: int) -> tuple[object, int, dict[str, str]]:
    """What DynamoDB answers with too many requests."""
    body = {"__type": "com.amazonaws.dynamodb.v20120810#ThrottlingException", "message": "Rate exceeded"}
    return body, 400, AMZ_JSON | {"x-amz-retry-after": str(milliseconds)}


@pytest.mark.once
def test_aws_is_asked_again_when_it_says(server: Misbehaving, vt: VirtualTime) -> None:
    """With `x-amz-retry-after: 1200` a retry came after 0.11 s; boto3's own waits 1.22 s."""
    client = dynamodb(server)
    server.routes["/"] = route = Once(vt, throttled(1200), {"TableNames": ["orders"]})
    assert retry(on="http", backoff=0.01, budget=None).call(client.list_tables)["TableNames"] == ["orders"]
    assert route.times[1] - route.times[0] >= 1.2


@pytest.mark.once
def test_a_day_of_aws_is_an_error_with_the_reason(server: Misbehaving, vt: VirtualTime) -> None:
    """boto3 cuts such a wait to five seconds without a word."""
    client = dynamodb(server)
    server.routes["/"] = route = Once(vt, throttled(86_400_000), {})
    with pytest.raises(Exception, match="ThrottlingException") as caught:
        retry(on="http", budget=None).call(client.list_tables)
    trail = trail_of(caught.value)
    assert trail is not None
    assert (trail.stop_reason, trail.asked_by) == ("retry_after", "header x-amz-retry-after")
    assert (trail.retry_after, trail.allowed, len(route.times)) == (86_400.0, 60.0, 1)


@pytest.mark.real(1.0)
@pytest.mark.once
@pytest.mark.filterwarnings("ignore:Inheritance class:DeprecationWarning")  # of google-genai over aiohttp
@pytest.mark.parametrize("mode", ["sync", "async"])
def test_google_is_asked_again_when_it_says(server: Misbehaving, vt: VirtualTime, mode: str) -> None:
    """A RetryInfo of 2 s in the body of a 429: the retry came after 0.06 s."""
    genai = pytest.importorskip("google.genai", reason="google-genai is not installed")
    client = genai.Client(api_key="none", http_options=genai.types.HttpOptions(base_url=server.url))
    server.routes["/"] = route = Once(vt, (BUSY, 429, JSON), ANSWER)
    policy = retry(on="model", backoff=0.01, budget=None)

    async def ask() -> Any:
        async with client.aio as aio:
            return await policy.acall(aio.models.generate_content, model="gemini", contents="hi")

    with client:
        sync = mode == "sync"
        answer = policy.call(client.models.generate_content, model="gemini", contents="hi") if sync else vt.run(ask)
        assert answer.text == "hello"
    assert route.times[1] - route.times[0] >= 1.2


@pytest.mark.parametrize("library", ["requests", "httpx"])
def test_a_body_counts_once_it_is_read(server: Misbehaving, vt: VirtualTime, library: str) -> None:
    """A streamed answer is left as it is: reading it for its advice would wait for the server, and take it away."""
    client = pytest.importorskip(library)
    server.routes["/"] = Once(vt, (BUSY, 429, JSON), ANSWER)
    assert retry_after_of(client.get(server.url)) == 1.2
    server.routes["/"] = Once(vt, (BUSY, 429, JSON), ANSWER)
    with streamed(client, server.url) as response:
        assert retry_after_of(response) is None
        assert b"RetryInfo" in (response.content if library == "requests" else response.read())
        assert retry_after_of(response) == 1.2


def streamed(client: Any, url: str) -> Any:
    """An answer whose body is not read yet."""
    return client.get(url, stream=True) if client.__name__ == "requests" else client.stream("GET", url)
