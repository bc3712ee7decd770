"""Client of another process's live page: follows its stream, reconnects by itself, and keeps the received state."""

from __future__ import annotations

import contextlib
import http.client
import itertools
import json
import socket
import threading
from collections import deque
from collections.abc import Iterable, Iterator
from contextlib import suppress
from typing import Any
from urllib.parse import urlsplit

from resilio._support.after_fork import free_lock
from resilio.live._http import check_sendable
from resilio.live._journal import KEPT
from resilio.live._sampler import Tick

__all__ = ["CONNECTING", "Remote", "events_in", "picture"]

CONNECTING = "connecting"
"""The message of a source whose first connection is being made."""

_SILENCE = 20.0  # seconds without a byte after which the connection is dead: a comment comes every five
_PAUSE = 1.0  # seconds between two attempts to connect
_MOST_ANSWER = 10_000_000


def events_in(lines: Iterable[bytes]) -> Iterator[tuple[str, Any]]:
    """Yield name and data of each server-sent event in a stream of lines; data that is not JSON is skipped."""
    name, data = "message", b""
    for line in lines:
        field, _, value = line.rstrip(b"\r\n").partition(b": ")
        if field == b"event":
            name = value.decode("utf-8", "replace")
        elif field == b"data":
            data += value
        elif not field and data:
            with contextlib.suppress(ValueError, RecursionError):
                yield name, json.loads(data)
            name, data = "message", b""


class Remote:
    """
    Policies of another process, as a source for viewers of this one.

    Args:
        url: Address of its page: http://host:port/resilio.

        token: Its read token; None: it requires none.

    Raises:
        ValueError: `url` is no http or https address, or the token cannot be sent in a header.
    """

    def __init__(self, url: str, token: str | None = None) -> None:
        parts = urlsplit(url)
        if parts.scheme not in ("http", "https") or not parts.hostname:
            raise ValueError(f"the address must be like http://host:port/resilio, not {url!r}")
        _ = parts.port  # raises ValueError if it is invalid
        check_sendable("the read token", token or "")
        self._parts = parts
        self._path = parts.path.rstrip("/") + "/"
        self._headers = {"authorization": f"Bearer {token}"} if token else {}
        self._lock = threading.Lock()
        free_lock(self, "_lock")
        self._stop: threading.Event | None = None
        self._sock: socket.socket | None = None
        self._problem: str | None = CONNECTING
        self._ids = itertools.count(1)  # of events: the other process's ids restart with it, these do not
        self._forget()

    def _forget(self) -> None:
        self._last = 0  # id of the latest event, in the watched process
        self._about: dict[str, Any] = {}
        self._policies: dict[int, dict[str, Any]] = {}
        self._events: deque[dict[str, Any]] = deque(maxlen=KEPT)
        self._changed: dict[int, dict[str, Any]] = {}
        self._removed: list[int] = []
        self._new_events: list[dict[str, Any]] = []

    # ---- the interface of a source

    def read(self) -> Tick:
        """
        Return the changes received since the last call.

        Raises:
            ConnectionError: There is no connection; the thread keeps trying.
        """
        if self._stop is None:
            self._stop = threading.Event()
            threading.Thread(target=self._follow, args=(self._stop,), name="resilio-feed", daemon=True).start()
        with self._lock:
            if self._problem is not None:
                raise ConnectionError(self._problem)
            tick = Tick([{"id": key, **news} for key, news in self._changed.items()], self._removed, self._new_events)
            self._changed, self._removed, self._new_events = {}, [], []
            return tick

    def snapshot(self) -> dict[str, Any]:
        """Return the full state as last received."""
        with self._lock:
            about = {name: self._about[name] for name in ("process",) if name in self._about}
            policies = [{"id": key, **fields} for key, fields in self._policies.items()]
            return {**about, "policies": policies, "events": list(self._events)}

    def rest(self) -> None:
        """Close the connection."""
        stop, self._stop = self._stop, None
        if stop is not None:
            stop.set()
        with self._lock:
            sock, self._sock = self._sock, None
            self._problem = CONNECTING
            self._forget()
        if sock is not None:
            with suppress(OSError):  # it was closed already
                sock.shutdown(socket.SHUT_RDWR)  # wakes the thread that reads

    def get(self, page: str) -> tuple[int, bytes]:
        """Return status and body of one of its other pages; blocks this thread."""
        connection = self._connect()
        try:
            connection.request("GET", self._path + page, headers=self._headers)
            response = connection.getresponse()
            return response.status, response.read(_MOST_ANSWER)
        finally:
            connection.close()

    # ---- the thread that follows the stream

    def _connect(self) -> http.client.HTTPConnection:
        secure = self._parts.scheme == "https"
        kind = http.client.HTTPSConnection if secure else http.client.HTTPConnection
        return kind(self._parts.hostname or "", self._parts.port, timeout=_SILENCE)

    def _follow(self, stop: threading.Event) -> None:
        while not stop.is_set():
            try:
                self._listen(stop)
                problem = "the connection was closed"
            except Exception as error:  # noqa: BLE001 - no response of the server may end this thread
                problem = str(error) or type(error).__name__
            with self._lock:
                self._problem = problem if stop is self._stop else self._problem
            stop.wait(_PAUSE)

    def _listen(self, stop: threading.Event) -> None:
        connection = self._connect()
        try:
            connection.connect()
            with self._lock:
                self._sock = connection.sock if stop is self._stop else None
            if stop.is_set():
                return
            connection.request("GET", self._path + "stream", headers={**self._headers, "accept": "text/event-stream"})
            response = connection.getresponse()
            if response.status != 200:
                raise ConnectionError(f"{response.status} {response.reason}")
            for name, data in events_in(response):
                with self._lock:
                    if stop is not self._stop:  # `rest` has forgotten the state meanwhile
                        return
                    self._apply(name, data)
                    self._problem = None
        finally:
            connection.close()

    def _apply(self, name: str, data: dict[str, Any]) -> None:
        if name == "snapshot":
            same = data["boot"] == self._about.get("boot")
            self._about = {key: value for key, value in data.items() if key not in ("policies", "events")}
            self._last = self._last if same else 0
            stays = {policy["id"] for policy in data["policies"]} if same else set()
            self._take(data["policies"], list(self._policies.keys() - stays), data["events"])
        elif name == "delta":
            self._take(data["changed"], data["removed"], data["events"])

    def _take(self, changed: list[dict[str, Any]], removed: list[int], events: list[dict[str, Any]]) -> None:
        for ident in removed:
            self._policies.pop(ident, None)
            self._changed.pop(ident, None)
        self._removed += removed
        for news in changed:
            fields = {key: value for key, value in news.items() if key != "id"}
            self._policies.setdefault(news["id"], {}).update(fields)
            self._changed.setdefault(news["id"], {}).update(fields)
        fresh = [{**event, "id": next(self._ids)} for event in events if event["id"] > self._last]
        self._last = max([self._last, *(event["id"] for event in events)])
        self._events.extend(fresh)
        self._new_events += fresh


def picture(source: Any) -> dict[str, Any]:
    """Read a source once more and return its full state."""
    source.read()
    everything: dict[str, Any] = source.snapshot()
    return everything
