"""
The live page as a pure ASGI app: files, and a stream of server-sent events.

    GET  .               the page                     GET  stream          a snapshot, then what changes
    GET  snapshot        everything once, as JSON     GET  policy?id=7     one policy in full
    POST operate         force open, close, reset
"""

from __future__ import annotations

import os
import secrets
import signal
import sys
from abc import ABC, abstractmethod
from collections.abc import Awaitable, Callable, Iterable
from functools import partial
from typing import Any

import anyio
from anyio import to_thread
from anyio.lowlevel import RunVar

from resilio import _backends
from resilio._options.validators import seconds
from resilio._policy.base import Policy
from resilio._policy.types import Time
from resilio.live import _files
from resilio.live._details import details_of
from resilio.live._http import (
    HEADERS,
    Answer,
    Receive,
    Rejected,
    Request,
    Scope,
    Send,
    Tokens,
    is_loopback,
    no_cross_site,
    read_json,
)
from resilio.live._hub import Hub, Viewer, encode
from resilio.live._journal import Journal
from resilio.live._operations import operate
from resilio.live._sampler import Sampler

__all__ = ["Live", "live"]

_turn: RunVar[anyio.CapacityLimiter | None] = RunVar("resilio_live_turn")
_HEARTBEAT = 5  # wake-ups without a frame until a comment shows that the connection is alive
_STREAM_HEADERS = ((b"content-type", b"text/event-stream; charset=utf-8"), (b"x-accel-buffering", b"no"))


class Live(ABC):
    """
    The ASGI app of the page; made by :func:`live`.

    It works under any path, with any ASGI server, on asyncio and trio, and needs no lifespan.
    """

    def __init__(self, hub: Hub, tokens: Tokens, *, hosts: Iterable[str] | None, most: int) -> None:
        """
        Serve a hub's viewers.

        Args:
            hub: Reads the policies for all viewers.

            tokens: Tokens for reading and for operating.

            hosts: Names accepted in the Host header beside those of this machine alone; None: any name.

            most: Maximum number of concurrent viewers.
        """
        self.hub = hub
        self._tokens = tokens
        self._hosts = None if hosts is None else frozenset(host.lower().strip("[]") for host in hosts)
        self._most = most
        self._stopped = False

    def stop(self) -> None:
        """End all streams, present and future: a server waits for its responses to end before it stops."""
        self._stopped = True
        self.hub.wake()

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer one request."""
        if scope["type"] == "lifespan":
            await _lifespan(receive, send)
        elif scope["type"] == "websocket":
            await send({"type": "websocket.close", "code": 1000})
        else:
            await self._respond(Request(scope, receive), send)

    async def _respond(self, request: Request, send: Send) -> None:
        try:
            self._check_host(request)
            answer = await self._answer(request, send)
        except Rejected as error:
            answer = Answer.of(error)
        if answer is not None:
            await answer.send(send, head=request.method == "HEAD")

    def listens_on(self, host: str) -> None:
        """
        Accept few names in the Host header if the server listens on this machine alone.

        Any web page can let a name of its own mean 127.0.0.1, and its scripts would read this page under that name.
        """
        if is_loopback(host):
            self._hosts = (self._hosts or frozenset()) | {host.lower()}

    def _check_host(self, request: Request) -> None:
        host = request.host
        if self._hosts is not None and host not in self._hosts and not is_loopback(host):
            raise Rejected(421, "this page is not served under that host name: live(hosts=[...]) names those accepted")

    async def _answer(self, request: Request, send: Send) -> Answer | None:
        page = request.page
        if page == "operate":
            return await self._operate(request)
        if request.rest == "" or page not in _files.names() | {"stream", "snapshot", "policy"}:
            return _elsewhere(request)
        if request.method not in ("GET", "HEAD"):
            raise Rejected(405, "only GET", [(b"allow", b"GET, HEAD")])
        if page in _files.names():
            return _files.answer(request)
        self._tokens.check_read(request)
        if page == "stream":
            return await self._stream(request, send)
        return Answer(await self._data(request))

    # ---- dynamic responses

    @abstractmethod
    async def _data(self, request: Request) -> bytes:
        """Return the snapshot, or one policy in full."""

    @abstractmethod
    async def _operate(self, request: Request) -> Answer:
        """Carry out an operator's request."""

    async def _stream(self, request: Request, send: Send) -> Answer | None:
        if len(self.hub) >= self._most:
            raise Rejected(503, f"{self._most} are watching, which is the most", [(b"retry-after", b"5")])
        if request.method == "HEAD":
            return Answer(b"", "text/event-stream; charset=utf-8")
        viewer = self.hub.join(request.header("last-event-id"))
        try:
            await send(
                {"type": "http.response.start", "status": 200, "headers": [*_STREAM_HEADERS, *HEADERS]},
            )
            await _until_gone(request.receive, lambda: self._feed(viewer, send))
        finally:
            self.hub.leave(viewer)
        return None

    async def _feed(self, viewer: Viewer, send: Send) -> None:
        """Send frames until the server begins to stop, since it would wait for this response to end."""
        silent = 0
        while not (self._stopped or _stopping()):
            frames = viewer.take()
            silent = 0 if frames else silent + 1
            if silent == _HEARTBEAT:
                frames, silent = [b":\n\n"], 0
            for data in frames:
                await send({"type": "http.response.body", "body": data, "more_body": True})
            await _backends.park(viewer, 1.0)
        await send({"type": "http.response.body", "body": b""})


class OwnLive(Live):
    """The page of this process's own policies."""

    def __init__(self, sampler: Sampler, hub: Hub, tokens: Tokens, **options: Any) -> None:
        """Serve the sampler's readings; `options` are those of :class:`Live`."""
        super().__init__(hub, tokens, **options)
        self._sampler = sampler

    async def _data(self, request: Request) -> bytes:
        return await _in_thread(self._snapshot if request.page == "snapshot" else partial(self._one, request))

    def _snapshot(self) -> bytes:
        self.hub.refresh()
        return encode({"boot": self.hub.boot, **self._sampler.snapshot()})

    def _one(self, request: Request) -> bytes:
        text = request.query.partition(b"id=")[2]
        policy = self._sampler.find(int(text)) if text.isdigit() and len(text) < 12 else None
        if policy is None:
            raise Rejected(404, "there is no such policy")
        return encode(details_of(policy, self._sampler.journal.tag))

    async def _operate(self, request: Request) -> Answer:
        if request.method != "POST":
            raise Rejected(405, "only POST", [(b"allow", b"POST")])
        no_cross_site(request)
        self._tokens.check_operate(request)
        asked = await read_json(request)
        return Answer(encode(operate(self._sampler, self.hub.boot, asked, request.client)))


def _elsewhere(request: Request) -> Answer:
    """Redirect the page's path without a trailing slash, so that its relative URLs resolve; 404 for any other path."""
    if request.rest == "" and request.method in ("GET", "HEAD"):
        last = request.path.rpartition("/")[2]
        return Answer(b"", "text/plain", 307, ((b"location", f"{last}/".encode("latin-1", "replace")),))
    raise Rejected(404, "there is no such page")


async def _until_gone(receive: Receive, work: Callable[[], Awaitable[None]]) -> None:
    """Run `work`, and cancel it when the client disconnects."""
    async with anyio.create_task_group() as group:

        async def watch() -> None:
            while (await receive())["type"] != "http.disconnect":
                pass
            group.cancel_scope.cancel()

        group.start_soon(watch)
        await work()
        group.cancel_scope.cancel()


async def _in_thread(work: Callable[[], bytes]) -> bytes:
    """Run slow work in a thread, one at a time, so that the app keeps the other worker threads."""
    turn = _turn.get(None)
    if turn is None:
        _turn.set(turn := anyio.CapacityLimiter(1))
    return await to_thread.run_sync(work, limiter=turn)


async def _lifespan(receive: Receive, send: Send) -> None:
    while True:
        kind = (await receive())["type"]
        await send({"type": f"{kind}.complete"})
        if kind == "lifespan.shutdown":
            return


def _stopping() -> bool:
    """Return True if uvicorn, or gunicorn around it, is stopping: it waits for all responses and signals none."""
    if "uvicorn" not in sys.modules:
        return False
    server = getattr(signal.getsignal(signal.SIGTERM), "__self__", None)
    return bool(getattr(server, "should_exit", False)) or getattr(server, "alive", True) is False


def live(
    policies: Callable[[], tuple[Policy[Any], ...]] | None = None,
    *,
    token: str | None = None,
    read_token: str | None = None,
    interval: Time = 1.0,
    show_keys: bool = False,
    hosts: Iterable[str] | None = None,
    max_viewers: int = 64,
) -> OwnLive:
    """
    Return the live page as an ASGI app, to mount under any path; read-only unless there is a token.

    Without viewers and requests, no policy is read.

    Args:
        policies: Returns the policies to show; None: every policy of this process, those made later included.

        token: Token required to force, reset and reconfigure; at least 16 characters. None: the value of
            RESILIO_LIVE_TOKEN. If neither is set, the page is read-only.

        read_token: Token required to view the page. None: the value of RESILIO_LIVE_READ_TOKEN. If neither is set, any
            client may view it.

        interval: Seconds between two readings, >= 0.1.

        show_keys: Whether keys of keyed policies (hosts, tenants) are shown in full. They come from arguments of calls,
            so by default each is shown as a short tag.

        hosts: Names accepted in the Host header, without a port, against DNS rebinding, beside localhost and the
            loopback addresses. None: only those if :func:`start` serves the page on one of them, else any name.

        max_viewers: Maximum number of concurrent viewers; further ones get 503.

    Raises:
        TypeError: `interval` is not a time.

        ValueError: A token that is too short or cannot be sent in a header, or a time out of range.
    """
    pause = seconds("interval", interval)
    if pause is None or pause < 0.1:
        raise ValueError(f"interval must be at least 0.1 seconds, not {interval!r}")
    tokens = Tokens(
        token if token is not None else os.environ.get("RESILIO_LIVE_TOKEN"),
        read_token if read_token is not None else os.environ.get("RESILIO_LIVE_READ_TOKEN"),
    )
    secret = secrets.token_bytes(16)
    sampler = Sampler(Journal(show_keys=show_keys, secret=secret), policies)
    boot = secrets.token_hex(4)
    hub = Hub(sampler, pause, boot, operations=tokens.operations)
    return OwnLive(sampler, hub, tokens, hosts=hosts, most=max_viewers)
