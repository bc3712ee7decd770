"""A model call's ledger says when it connected, when it waited for the answer, and when the answer came."""

from __future__ import annotations

from typing import Any

import pytest
from servers.misbehaving import Misbehaving
from servers.models import answers, fails, provide, streams
from servers.sdks import Sdk

from resilio import bulkhead, constant, pipeline, presets, retry, timeout
from resilio.integrations.llm import segments_of

pytestmark = [
    pytest.mark.anyio,
    # The SDKs and httpx2 leave generators of their own unfinished, which trio warns of.
    pytest.mark.filterwarnings("ignore:Async generator '(openai|anthropic|httpx2?|httpcore2?)[.]:ResourceWarning"),
]

PHASES = {"connect", "first_byte", "body"}


def guarding() -> Any:
    """A policy whose outermost stage tells the time of whole answers and streams alike."""
    tries = retry(on=presets.model.momentary, attempts=2, backoff=constant(0.001), budget=None)
    return pipeline(tries, bulkhead(9), timeout(first=9.0))


def spent(policy: Any) -> set[str]:
    """Return what calls have spent time on so far."""
    gates = {id(gate): gate for gate in policy.gates}.values()
    return {name for gate in gates for name, value in gate.seconds().items() if value} - {"own"}


async def test_whole_answers_tell_their_phases(sdk: Sdk, server: Misbehaving) -> None:
    """The first one connects; one that finds the connection open does not."""
    provide(server, sdk.wire, answers("hello"))
    first, second = guarding(), guarding()
    async with sdk.client(server, first) as client:
        await sdk.ask(client)
        assert spent(first) >= PHASES
        bare = sdk.bare(server, http_client=None)
        async with sdk.llm.guard(bare, second) as other:
            await sdk.ask(other)
            once = second.call_seconds["connect"]
            await sdk.ask(other)
            assert second.call_seconds["connect"] == once > 0.0


def test_sync_clients_tell_the_same(sdk: Sdk, server: Misbehaving) -> None:
    """In threads, whole and streamed."""
    provide(server, sdk.wire, answers("hello"), streams("a", "b"))
    policy = guarding()
    with sdk.sync_client(server, policy) as client:
        sdk.ask(client)
        assert spent(policy) >= PHASES
        body = policy.call_seconds["body"]
        assert "".join(map(sdk.said, sdk.stream(client))) == "ab"
        assert policy.call_seconds["body"] > body


async def test_streams_tell_their_phases(sdk: Sdk, server: Misbehaving) -> None:
    """What is before the first visible piece is its first byte, connecting apart; the rest is its body."""
    provide(server, sdk.wire, streams("a", "b"))
    policy = guarding()
    async with sdk.client(server, policy) as client:
        assert [sdk.said(event) async for event in await sdk.stream(client) if sdk.said(event)] == ["a", "b"]
    assert spent(policy) >= PHASES


@pytest.mark.parametrize("streamed", [False, True])
async def test_an_exception_of_the_sdk_tells_where_its_time_went(sdk: Sdk, server: Misbehaving, streamed: bool) -> None:
    """Both attempts, the sleep between them and their phases are found on it."""
    provide(server, sdk.wire, fails(503))
    async with sdk.client(server, guarding()) as client:
        with pytest.raises(sdk.module.APIStatusError) as caught:
            await sdk.ask(client, stream=streamed)
    segments = segments_of(caught.value)
    assert segments is not None
    told = [(name, attempt) for name, attempt, _ in segments.trail]
    assert {("connect", 1), ("first_byte", 1), ("body", 1), ("first_byte", 2), ("body", 2)} <= set(told)
    assert segments.retry_sleep > 0.0
    assert segments_of(ValueError()) is None
