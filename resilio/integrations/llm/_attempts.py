"""The functions that policies guard: one attempt, read as a whole or in pieces, for async and sync clients."""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterator
from typing import TYPE_CHECKING, Any

from resilio._native.core import phase
from resilio.integrations.llm._incoming import AsyncIncoming, Incoming
from resilio.integrations.llm._sync_clocks import SyncClocks

if TYPE_CHECKING:
    from resilio.integrations.llm._call import ModelCall
    from resilio.integrations.llm._exchange import Exchange

__all__ = ["answer", "answer_sync", "events", "events_sync"]


async def _open(call: ModelCall) -> Any:
    exchange: Exchange = call.exchange
    try:
        response = exchange.has_come(await exchange.inner.handle_async_request(exchange.begin()))
        if response.status_code >= 400:
            await _read(response)
    except exchange.guard.http.HTTPError as error:
        exchange.fail(error)
    exchange.reject_status(call, response)
    return response


async def _read(response: Any) -> None:
    phase("body")
    try:
        await response.aread()
    finally:
        await response.aclose()


async def answer(call: ModelCall) -> Any:
    """Return the response with its body read, or raise the error in it."""
    exchange: Exchange = call.exchange
    response = await _open(call)
    try:
        await _read(response)
    except exchange.guard.http.HTTPError as error:
        exchange.fail(error)
    return exchange.judge(call, response)


async def events(call: ModelCall) -> AsyncIterator[bytes]:
    """Yield the pieces of an answer that change it; the first one contains the first visible part."""
    exchange: Exchange = call.exchange
    incoming = exchange.incoming = AsyncIncoming(call, await _open(call))
    try:
        async for chunk in incoming.chunks():
            if incoming.feed(chunk):
                break
            if incoming.moved:
                yield incoming.take()
            incoming.check()
        else:
            incoming.end()
        incoming.leave()
    except exchange.guard.http.HTTPError as error:
        exchange.fail(error)
    finally:
        if not incoming.over:
            await incoming.aclose()


def _open_sync(call: ModelCall, clocks: SyncClocks) -> Any:
    exchange: Exchange = call.exchange
    try:
        request = exchange.begin()
        clocks.narrow(request, body=False)
        with clocks.step():
            response = exchange.has_come(exchange.inner.handle_request(request))
        clocks.narrow(request, body=True)
        if response.status_code >= 400:
            _read_sync(response)
    except exchange.guard.http.HTTPError as error:
        clocks.check()
        exchange.fail(error)
    exchange.reject_status(call, response)
    return response


def _read_sync(response: Any) -> None:
    phase("body")
    try:
        response.read()
    finally:
        response.close()


def answer_sync(call: ModelCall) -> Any:
    """Return the response with its body read, or raise the error in it; see :func:`answer`."""
    exchange: Exchange = call.exchange
    response = _open_sync(call, SyncClocks(None))
    try:
        _read_sync(response)
    except exchange.guard.http.HTTPError as error:
        exchange.fail(error)
    return exchange.judge(call, response)


def events_sync(call: ModelCall) -> Iterator[bytes]:
    """Yield the pieces of an answer that change it; see :func:`events`."""
    exchange: Exchange = call.exchange
    clocks = SyncClocks(exchange.guard.clocks)
    incoming = exchange.incoming = Incoming(call, _open_sync(call, clocks))
    try:
        for chunk in clocks.each(incoming.chunks()):
            whole = incoming.feed(chunk)
            clocks.saw(incoming.moved)
            if whole:
                break
            if incoming.moved:
                yield incoming.take()
                clocks.resume()
            incoming.check()
        else:
            incoming.end()
        incoming.leave()
    except exchange.guard.http.HTTPError as error:
        clocks.check()
        exchange.fail(error)
    finally:
        if not incoming.over:
            incoming.close()
