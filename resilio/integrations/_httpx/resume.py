"""
Bodies that go on elsewhere: where the caller chose it, a download that broke off is continued from its last byte.

A range request asks for the rest, on the condition that the representation is the same one (`If-Range` with a strong
ETag). It goes through the policy as a request of its own. What is not certainly the rest is not shown: the reader then
gets the error that broke the body.
"""

from __future__ import annotations

import re
from collections.abc import AsyncIterator, Iterator
from functools import cache
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from types import ModuleType

    from resilio.integrations._httpx.common import Client

__all__ = ["resumable"]

_OK, _PARTIAL = 200, 206
_RANGE = re.compile(r"bytes (\d+)-")


def resumable(client: Client, transport: Any, request: Any, response: Any, *, is_async: bool) -> None:
    """
    Make the body of a response one that is continued by range requests, if it can be.

    It can be if a GET without a range was answered with 200 and a strong ETag.

    Args:
        client: The client of the request.

        transport: The guarded transport, which sends range requests.

        request: The request as its caller made it.

        response: The answer, its body under guard.

        is_async: Whether the transport is.
    """
    tag = response.headers.get("etag", "W/")
    if request.method != "GET" or response.status_code != _OK or tag.startswith("W/") or "range" in request.headers:
        return
    kind = _kinds(client.module)[is_async]
    response.stream = kind(client.module, transport, request, response, tag)


class _Resumable:
    """A body with its place in the representation."""

    def __init__(self, module: ModuleType, transport: Any, request: Any, response: Any, tag: str) -> None:
        self._module: Any = module
        self._transport = transport
        self._request = request
        self._body = response.stream
        self._tag = tag
        self._received = 0
        self._resumed_at = 0

    def _rest(self, error: Exception) -> Any:
        """Return the request for the rest; raise the error if nothing came since the last one."""
        if self._received == self._resumed_at:
            raise error
        self._resumed_at = self._received
        headers = self._request.headers.copy()
        headers["range"], headers["if-range"] = f"bytes={self._received}-", self._tag
        extensions = dict(self._request.extensions)
        return self._module.Request("GET", self._request.url, headers=headers, extensions=extensions)

    def _is_rest(self, response: Any) -> bool:
        """Return True for an answer that goes on where the body broke off."""
        found = _RANGE.match(response.headers.get("content-range", ""))
        same = response.headers.get("etag") == self._tag
        return response.status_code == _PARTIAL and same and found is not None and int(found[1]) == self._received


class _Body(_Resumable):
    """For threads."""

    def __iter__(self) -> Iterator[bytes]:
        while True:
            try:
                for part in self._body:
                    self._received += len(part)
                    yield part
                return
            except self._module.TransportError as error:
                self._go_on(error)

    def _go_on(self, error: Exception) -> None:
        request = self._rest(error)
        try:
            response = self._transport.handle_request(request)
        except self._module.TransportError as again:
            raise error from again
        self._body.close()
        self._body = response.stream
        if not self._is_rest(response):
            self._body.close()
            raise error

    def close(self) -> None:
        """Close the answer that is read now."""
        self._body.close()


class _AsyncBody(_Resumable):
    """For event loops."""

    async def __aiter__(self) -> AsyncIterator[bytes]:
        while True:
            try:
                async for part in self._body:
                    self._received += len(part)
                    yield part
                return
            except self._module.TransportError as error:
                await self._go_on(error)

    async def _go_on(self, error: Exception) -> None:
        request = self._rest(error)
        try:
            response = await self._transport.handle_async_request(request)
        except self._module.TransportError as again:
            raise error from again
        await self._body.aclose()
        self._body = response.stream
        if not self._is_rest(response):
            await self._body.aclose()
            raise error

    async def aclose(self) -> None:
        """Close the answer that is read now."""
        await self._body.aclose()


@cache
def _kinds(module: ModuleType) -> tuple[type[Any], type[Any]]:
    """Return both kinds of bodies, as streams of the client's own classes."""
    found: Any = module
    sync = type("ResumableBody", (_Body, found.SyncByteStream), {})
    return sync, type("ResumableAsyncBody", (_AsyncBody, found.AsyncByteStream), {})
