"""The HTTP clients that have pools, used in one way: `caller.get("/who")` returns when the answer is whole."""

from __future__ import annotations

import asyncio
import importlib
import importlib.util
from base64 import b64encode
from collections.abc import AsyncIterator, Iterator
from typing import Any, NamedTuple, Self

import pytest

__all__ = ["CALLERS", "POOL", "Answer", "Caller", "one_client"]

POOL = "http://search"
"""The origin of the pool `search`, as its callers name it."""


class Answer(NamedTuple):
    """What a caller gets."""

    status: int
    text: str
    url: str
    endpoint: Any
    """The endpoint that has answered; None past the pool."""


class Caller:
    """A client whose requests go through a policy; leave it as a context manager."""

    needs: str
    is_async = False

    def __init__(self, policy: Any, **options: Any) -> None:
        pytest.importorskip(self.needs)
        self.client = self.open(policy, options.pop("verify", True), **options)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.client.close()

    def open(self, policy: Any, verify: Any, **options: Any) -> Any:
        raise NotImplementedError

    def ask(self, method: str, url: str, **options: Any) -> Answer:
        """Send a request, redirects followed, and read the whole answer."""
        raise NotImplementedError

    def get(self, path: str, **options: Any) -> Answer:
        """Get something of the pool, or of elsewhere."""
        return self.ask("GET", POOL + path if path.startswith("/") else path, **options)

    def post(self, path: str, **options: Any) -> Answer:
        """Send something to the pool."""
        return self.ask("POST", POOL + path, **options)

    def parts(self, path: str) -> Iterator[bytes]:
        """Yield the parts of an answer as they come."""
        raise NotImplementedError

    def body(self, *parts: bytes) -> Any:
        """Return a body that can be read once."""
        return iter(parts)


class _Httpx(Caller):
    kind = "Client"
    transport = "Transport"

    def open(self, policy: Any, verify: Any, **options: Any) -> Any:
        module = importlib.import_module(self.needs)
        ours = importlib.import_module("resilio.integrations.httpx")
        inner = getattr(module, "AsyncHTTPTransport" if self.is_async else "HTTPTransport")(verify=verify)
        transport = getattr(ours, self.transport)(policy, inner, **options)
        return getattr(module, self.kind)(transport=transport, follow_redirects=True, timeout=60.0)

    def ask(self, method: str, url: str, **options: Any) -> Answer:
        return self.answer(self.client.request(method, url, **options))

    def answer(self, response: Any) -> Answer:
        endpoint_of = importlib.import_module("resilio.integrations.httpx").endpoint_of
        return Answer(response.status_code, response.text, str(response.url), endpoint_of(response))

    def parts(self, path: str) -> Iterator[bytes]:
        with self.client.stream("GET", POOL + path) as response:
            yield from response.iter_raw()


class _Async:
    """The side of an async client: a loop that runs whenever the test waits."""

    is_async = True

    def __init__(self, policy: Any, **options: Any) -> None:
        self.runner = asyncio.Runner()
        try:
            super().__init__(policy, **options)
        except BaseException:
            self.runner.close()
            raise

    def run(self, coroutine: Any) -> Any:
        """Wait for it."""
        return self.runner.run(coroutine)

    def __exit__(self, *_: object) -> None:
        self.run(self.close())
        self.runner.close()

    async def close(self) -> None:
        await self.client.aclose()

    def parts(self, path: str) -> Iterator[bytes]:
        parts = self.stream(path)
        try:
            while (part := self.run(anext(parts, None))) is not None:
                yield part
        finally:
            self.run(parts.aclose())

    def stream(self, path: str) -> AsyncIterator[bytes]:
        raise NotImplementedError

    def body(self, *parts: bytes) -> Any:
        async def once() -> AsyncIterator[bytes]:
            for part in parts:
                yield part

        return once()


class _AsyncHttpx(_Async, _Httpx):
    kind = "AsyncClient"
    transport = "AsyncTransport"

    def ask(self, method: str, url: str, **options: Any) -> Answer:
        async def whole() -> Answer:
            return self.answer(await self.client.request(method, url, **options))

        return self.run(whole())

    async def stream(self, path: str) -> AsyncIterator[bytes]:
        async with self.client.stream("GET", POOL + path) as response:
            async for part in response.aiter_raw():
                yield part


class Httpx(_Httpx):
    """httpx in threads."""

    needs = "httpx"


class AsyncHttpx(_AsyncHttpx):
    """httpx on asyncio."""

    needs = "httpx"


class Httpx2(_Httpx):
    """httpx2 in threads."""

    needs = "httpx2"


class AsyncHttpx2(_AsyncHttpx):
    """httpx2 on asyncio."""

    needs = "httpx2"


class Requests(Caller):
    """requests."""

    needs = "requests"

    def open(self, policy: Any, verify: Any, **options: Any) -> Any:
        requests = importlib.import_module("requests")
        session = requests.Session()
        session.trust_env = False
        session.verify = verify if isinstance(verify, bool) else str(verify)
        adapter = importlib.import_module("resilio.integrations.requests").Adapter(policy, **options)
        for scheme in ("http://", "https://"):
            session.mount(scheme, adapter)
        return session

    def ask(self, method: str, url: str, **options: Any) -> Answer:
        options["data"] = options.pop("content", None)
        response = self.client.request(method, url, timeout=60.0, **options)
        endpoint_of = importlib.import_module("resilio.integrations.requests").endpoint_of
        return Answer(response.status_code, response.text, response.url, endpoint_of(response))

    def parts(self, path: str) -> Iterator[bytes]:
        with self.client.get(POOL + path, stream=True, timeout=60.0) as response:
            yield from response.iter_content(None)


class Aiohttp(_Async, Caller):
    """aiohttp."""

    needs = "aiohttp"

    def __init__(self, policy: Any, **options: Any) -> None:
        pytest.importorskip("aiohttp", minversion="3.12")
        super().__init__(policy, **options)

    def open(self, policy: Any, verify: Any, **options: Any) -> Any:
        return self.run(self._opened(policy, verify, **options))

    async def _opened(self, policy: Any, verify: Any, **options: Any) -> Any:
        aiohttp = importlib.import_module("aiohttp")
        middleware = importlib.import_module("resilio.integrations.aiohttp").middleware(policy, **options)
        connector = aiohttp.TCPConnector(ssl=verify, resolver=aiohttp.ThreadedResolver())
        return aiohttp.ClientSession(
            connector=connector, middlewares=(middleware,), cookie_jar=aiohttp.CookieJar(unsafe=True)
        )

    async def close(self) -> None:
        await self.client.close()

    def ask(self, method: str, url: str, **options: Any) -> Answer:
        async def whole() -> Answer:
            if auth := options.pop("auth", None):
                options["headers"] = {"Authorization": "Basic " + b64encode(":".join(auth).encode()).decode()}
            options["data"] = options.pop("content", None)
            async with self.client.request(method, url, **options) as response:
                text = await response.text()
                endpoint_of = importlib.import_module("resilio.integrations.aiohttp").endpoint_of
                return Answer(response.status, text, str(response.url), endpoint_of(response))

        return self.run(whole())

    async def stream(self, path: str) -> AsyncIterator[bytes]:
        async with self.client.get(POOL + path) as response:
            async for part in response.content.iter_any():
                yield part


CALLERS = (AsyncHttpx, AsyncHttpx2, Httpx, Httpx2, Aiohttp, Requests)

one_client = pytest.mark.parametrize("caller", [AsyncHttpx2], indirect=True, ids=["AsyncHttpx2"])
"""For a scene that is the pool's: what a client does in it, other tests ask of each, by a request or two."""
