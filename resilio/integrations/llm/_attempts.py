"""
The functions that policies guard: one attempt, read as a whole or in pieces, for async and sync clients.

An answer in pieces is a generator, so its retries, clocks and permits are those of guarded generators. Only an answer
that is read as a whole may be hedged.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterator
from typing import TYPE_CHECKING, Any

from resilio._native.core import phase
from resilio.integrations.llm._bill import AttemptBill
from resilio.integrations.llm._incoming import AsyncIncoming, Incoming
from resilio.integrations.llm._sync_clocks import SyncClocks

if TYPE_CHECKING:
    from resilio._policies.pool.endpoint import Endpoint
    from resilio.integrations.llm._call import ModelCall
    from resilio.integrations.llm._exchange import Exchange

__all__ = ["answer", "answer_sync", "events", "events_sync"]


async def _open(call: ModelCall, endpoint: Endpoint | None, bill: AttemptBill) -> Any:
    exchange: Exchange = call.exchange
    exchange.endpoint = endpoint
    try:
        response = exchange.has_come(await _sent(exchange, endpoint))
        if response.status_code >= 400:
            await _read(response)
    except exchange.guard.http.HTTPError as error:
        exchange.fail(error)
    exchange.reject_status(call, response, bill)
    return response


async def _sent(exchange: Exchange, endpoint: Endpoint | None) -> Any:
    providers = exchange.guard.providers
    if providers is None:
        return await exchange.inner.handle_async_request(exchange.begin())
    return await providers.send(exchange, endpoint)


async def _read(response: Any) -> None:
    phase("body")
    try:
        await response.aread()
    finally:
        await response.aclose()


async def answer(call: ModelCall, endpoint: Endpoint | None = None) -> Any:
    """Return the response with its body read, or raise the error in it."""
    exchange: Exchange = call.exchange
    with AttemptBill(call, endpoint) as bill:
        response = await _open(call, endpoint, bill)
        try:
            await _read(response)
        except exchange.guard.http.HTTPError as error:
            exchange.fail(error)
        return exchange.judge(call, response, bill)


async def events(call: ModelCall, endpoint: Endpoint | None = None) -> AsyncIterator[bytes]:
    """
    Yield the pieces of an answer that change it; the first one contains the first visible part.

    With `resume="restart"` nothing is yielded: the whole answer is left for the SDK, once it is here.
    """
    exchange: Exchange = call.exchange
    held = exchange.guard.restarts
    with AttemptBill(call, endpoint) as bill:
        incoming = exchange.incoming = AsyncIncoming(call, await _open(call, endpoint, bill), bill)
        try:
            async for chunk in incoming.chunks():
                if incoming.feed(chunk):
                    break
                if incoming.moved and not held:
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


def _open_sync(call: ModelCall, clocks: SyncClocks, endpoint: Endpoint | None, bill: AttemptBill) -> Any:
    exchange: Exchange = call.exchange
    exchange.endpoint = endpoint
    try:
        request = exchange.begin()
        clocks.narrow(request, body=False)
        response = clocks.run(_answered_sync, exchange, request, endpoint)
        clocks.narrow(request, body=True)
        if response.status_code >= 400:
            _read_sync(response)
    except exchange.guard.http.HTTPError as error:
        clocks.check()
        exchange.fail(error)
    exchange.reject_status(call, response, bill)
    return response


def _answered_sync(exchange: Exchange, request: Any, endpoint: Endpoint | None) -> Any:
    providers = exchange.guard.providers
    if providers is None:
        return exchange.has_come(exchange.inner.handle_request(request))
    return exchange.has_come(providers.send_sync(exchange, endpoint))


def _read_sync(response: Any) -> None:
    phase("body")
    try:
        response.read()
    finally:
        response.close()


def answer_sync(call: ModelCall, endpoint: Endpoint | None = None) -> Any:
    """Return the response with its body read, or raise the error in it; see :func:`answer`."""
    exchange: Exchange = call.exchange
    with AttemptBill(call, endpoint) as bill:
        response = _open_sync(call, SyncClocks(None), endpoint, bill)
        try:
            _read_sync(response)
        except exchange.guard.http.HTTPError as error:
            exchange.fail(error)
        return exchange.judge(call, response, bill)


def events_sync(call: ModelCall, endpoint: Endpoint | None = None) -> Iterator[bytes]:
    """Yield the pieces of an answer that change it; see :func:`events`."""
    exchange: Exchange = call.exchange
    clocks, held = SyncClocks(exchange.guard.clocks), exchange.guard.restarts
    with AttemptBill(call, endpoint) as bill:
        incoming = exchange.incoming = Incoming(call, _open_sync(call, clocks, endpoint, bill), bill)
        try:
            for chunk in clocks.each(incoming.chunks()):
                whole = incoming.feed(chunk)
                clocks.saw(incoming.moved)
                if whole:
                    break
                if incoming.moved and not held:
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
