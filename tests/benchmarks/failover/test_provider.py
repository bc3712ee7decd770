"""The scripted provider: each fault reaches the client as a real one would."""

from __future__ import annotations

import json

import anyio
import pytest

from benchmarks.failover._faults import HEALTHY, Reply, always, once, until
from benchmarks.failover._provider import Provider
from benchmarks.failover._wire import ANSWER, WIRES

pytestmark = pytest.mark.anyio
httpx2 = pytest.importorskip("httpx2")

USER = [{"role": "user", "content": "Name sixty tokens."}]
FORMATS = [(wire, stream) for wire in WIRES for stream in (False, True)]


class Asking:
    """A provider with one endpoint, and a client without opinions."""

    def __init__(self, provider, client):
        self.provider = provider
        self.client = client

    async def ask(self, wire="openai", *, stream=True, messages=USER, read=30.0):
        body = {"model": "m", "messages": messages, "stream": stream}
        url = f"{self.provider.url('a')}{WIRES[wire].path}"
        return await self.client.post(url, json=body, timeout=httpx2.Timeout(5.0, read=read))

    @property
    def requests(self):
        return self.provider.requests


@pytest.fixture
def asking(vt):
    """Makes an `Asking` of a script, as an async context manager; `vt` is the time that all of it waits in."""
    from contextlib import asynccontextmanager

    @asynccontextmanager
    async def make(script):
        provider = Provider({"a": script})
        async with provider.serving(), httpx2.AsyncClient() as client:
            yield Asking(provider, client)

    return make


def text_of(wire, stream, body):
    """The text of an answer, read as plainly as can be."""
    if not stream:
        data = json.loads(body)
        return data["choices"][0]["message"]["content"] if wire == "openai" else data["content"][0]["text"]
    events = [json.loads(line[6:]) for line in body.splitlines() if line.startswith("data: {")]
    if wire == "openai":
        return "".join(choice["delta"].get("content", "") for event in events for choice in event["choices"])
    return "".join(event["delta"]["text"] for event in events if event["type"] == "content_block_delta")


@pytest.mark.parametrize(("wire", "stream"), FORMATS)
async def test_a_healthy_provider_gives_the_whole_answer(asking, wire, stream):
    """Sixty tokens in both formats, whole and streamed."""
    async with asking(always(HEALTHY)) as found:
        answer = await found.ask(wire, stream=stream)
    assert text_of(wire, stream, answer.text) == ANSWER
    assert len(ANSWER.split()) == 60


@pytest.mark.parametrize(("wire", "stream"), FORMATS)
async def test_an_answer_breaks_off_where_the_script_ends_it(asking, wire, stream):
    """The connection closes inside the body, and the client sees that it did."""
    async with asking(always(Reply(tokens=40))) as found:
        with pytest.raises(httpx2.RemoteProtocolError):
            await found.ask(wire, stream=stream)


@pytest.mark.parametrize(("wire", "stream"), FORMATS)
async def test_garbage_is_no_json(asking, wire, stream):
    """An event, or the body of a whole answer, cannot be parsed; all else comes."""
    async with asking(always(Reply(garbage=10))) as found:
        answer = await found.ask(wire, stream=stream)
    assert answer.status_code == 200
    with pytest.raises(json.JSONDecodeError):
        text_of(wire, stream, answer.text)


async def test_a_reset_comes_before_the_status_and_only_once(asking):
    """The first request is reset; the next one finds all well."""
    async with asking(once(Reply(0))) as found:
        with pytest.raises(httpx2.ReadError):
            await found.ask()
        assert (await found.ask()).status_code == 200


async def test_an_error_has_its_code_and_retry_after(asking):
    """Each format has its place for the code."""
    async with asking(always(Reply(429, "rate_limit_exceeded", retry_after=2.0))) as found:
        openai, anthropic = await found.ask("openai"), await found.ask("anthropic")
    assert openai.status_code == anthropic.status_code == 429
    assert openai.headers["retry-after"] == "2"
    assert openai.json()["error"]["code"] == "rate_limit_exceeded"
    assert anthropic.json()["error"]["details"]["error_code"] == "rate_limit_exceeded"


async def test_a_client_that_leaves_a_silent_provider_is_seen(asking, vt):
    """The script is silent for two minutes, the client waits for five seconds; the provider notes that it left."""
    async with asking(always(Reply(silence=120.0))) as found:
        with pytest.raises(httpx2.ReadTimeout):
            await found.ask(read=5.0)
        await anyio.sleep(1.0)
        assert [request.left for request in found.requests] == [True]
    assert vt.now == pytest.approx(6.0, abs=0.1)


async def test_first_token_and_stall_take_the_time_of_the_script(asking, vt):
    """The first token comes after 20 s; the stream stalls for 30 s, then it is closed."""
    async with asking(always(Reply(first=20.0, tokens=3, stall=30.0))) as found:
        with pytest.raises(httpx2.RemoteProtocolError):
            await found.ask(read=60.0)
    assert vt.now == pytest.approx(50.0, abs=0.5)


async def test_an_outage_ends_as_scripted(asking):
    """503 for a minute, then 200."""
    async with asking(until(60.0, Reply(503))) as found:
        assert (await found.ask()).status_code == 503
        await anyio.sleep(60.0)
        assert (await found.ask()).status_code == 200


async def test_healing_ends_all_faults(asking):
    """After a scenario the same provider serves."""
    async with asking(always(Reply(503))) as found:
        found.provider.heal()
        assert (await found.ask()).status_code == 200


async def test_a_prefilled_answer_is_rejected_by_its_own_code(asking):
    """A conversation that ends with the assistant is rejected where the script wants it, and the request is noted."""
    async with asking(always(Reply(prefill=False))) as found:
        assert (await found.ask()).status_code == 200
        answer = await found.ask(messages=[*USER, {"role": "assistant", "content": "token0"}])
    assert answer.status_code == 400
    assert found.requests[-1].reply.code == "invalid_prefill"


async def test_the_last_event_can_be_missing(asking):
    """The body ends well, without the event that ends an answer."""
    async with asking(always(Reply(ended=False))) as found:
        assert "[DONE]" not in (await found.ask("openai")).text
        assert "message_stop" not in (await found.ask("anthropic")).text
