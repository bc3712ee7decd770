"""A provider's answers of any form through the real SDKs over real sockets: a guard adds no error of its own."""

from __future__ import annotations

from typing import Any

import pytest
from servers.misbehaving import Exchange, Misbehaving
from servers.models import Behaviour, Wire, answers, provide
from servers.sdks import Sdk

from resilio import rate_limit
from resilio.integrations.llm import meaning_of

pytestmark = [
    pytest.mark.anyio,
    # The SDKs and httpx2 leave generators of their own unfinished, which trio warns of.
    pytest.mark.filterwarnings("ignore:Async generator '(openai|anthropic|httpx2?|httpcore2?)[.]:ResourceWarning"),
]


@pytest.mark.parametrize(
    "date", ["Tue, 14 Nov 99999999999999999999 22:13:20 GMT", "Tue, 14 Nov 2023 22:13:20 +9999999999999", "soon", ""]
)
async def test_a_date_out_of_range_spoils_no_answer(sdk: Sdk, server: Misbehaving, date: str) -> None:
    """A year of twenty digits in `date` raised OverflowError: a good answer became an APIConnectionError."""
    reset = {"anthropic_ratelimit_requests_reset": "2023-11-14T22:20:50Z", "x_ratelimit_reset_requests": "1_0s"}
    provide(server, sdk.wire, answers("hello", date=date, **reset))
    async with sdk.client(server, rate_limit("1000/s")) as client:
        assert sdk.text(await sdk.ask(client)) == "hello"


def streaming(*data: bytes) -> Behaviour:
    """Give a stream with some events in the middle of a good answer."""

    async def behave(exchange: Exchange, wire: Wire) -> None:
        await exchange.head(headers={"content-type": "text/event-stream"})
        for piece in (*wire.opening((7, 5)), *data, wire.delta("end"), *wire.closing((7, 5)), b""):
            await exchange.chunk(piece)

    return behave


async def heard(client: Any, sdk: Sdk) -> Exception | None:
    """How a stream has ended."""
    try:
        async for _ in await sdk.stream(client):
            pass
    except Exception as error:
        return error
    return None


@pytest.mark.parametrize(
    "data",
    [
        b'data: {"choices": 5}\n\n',
        b'data: {"choices": {"a": 1}}\n\n',
        b'data: {"choices": [5, null, {"delta": 5}]}\n\n',
        b'data: {"usage": 5, "type": 5, "message": [], "response": true}\n\n',
        b'event: ping\ndata: {"error": null}\n\n',
        b"data: \xff\xfe{\n\n",
    ],
)
async def test_events_of_any_form_end_a_stream_as_they_do_without_a_guard(
    sdk: Sdk, server: Misbehaving, data: bytes
) -> None:
    """An event whose `choices` was no list raised TypeError out of the guarded SDK, where the SDK itself reads on."""
    provide(server, sdk.wire, streaming(data))
    async with sdk.bare(server, max_retries=0) as client:
        plain = await heard(client, sdk)
    async with sdk.client(server, rate_limit("1000/s")) as client:
        assert type(await heard(client.with_options(max_retries=0), sdk)) is type(plain)


@pytest.mark.parametrize("said", [b"NaN", b"Infinity", b'"\\ud800"', b'{"body": ' * 900 + b"1" + b"}" * 900])
async def test_an_error_that_cannot_be_written_again_is_that_error(sdk: Sdk, server: Misbehaving, said: bytes) -> None:
    """An error in a stream with `NaN` or half a surrogate in it was raised as ValueError by what copied it."""
    error = (
        b'{"type": "error", "error": {"type": "overloaded_error", "code": "overloaded_error", "message": '
        + said
        + b"}}"
    )
    provide(server, sdk.wire, streaming(b"event: error\ndata: " + error + b"\n\n"))
    async with sdk.client(server, rate_limit("1000/s")) as client:
        raised = await heard(client.with_options(max_retries=0), sdk)
    assert isinstance(raised, sdk.module.APIError), raised
    assert meaning_of(raised) in ("overloaded", "failed")
