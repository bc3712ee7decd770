"""
Probes: short calls of the pool itself, which find out whether an ejected endpoint is well again.

Why: without them the first caller after the breaker's open time is the probe, and pays for it if the endpoint still is
down. A probe takes a permit of the endpoint's breaker, which lets it pass when its open time is over, and learns from
it. Endpoints that are not ejected are never probed: their calls show how they are.
"""

from __future__ import annotations

import asyncio
import inspect
import socket
import ssl
import threading
from collections.abc import Awaitable, Callable
from contextlib import closing, suppress
from http.client import HTTPConnection
from typing import TYPE_CHECKING, Any, Protocol
from urllib.parse import urlsplit

import attrs

from resilio._events import log
from resilio._native.core import Permit
from resilio._options.validators import reject, seconds
from resilio._policies.pool.endpoint import Endpoint
from resilio._policies.pool.rounds import Rounds, jittered

if TYPE_CHECKING:
    from resilio._policy.base import Policy
    from resilio._policy.types import Time

__all__ = ["HttpProbe", "Probe", "Probing", "probe_http"]

EVERY = 1.0
LIMIT = 1.0

Probe = Callable[[Endpoint], "bool | Awaitable[bool]"]


class _Pool(Protocol):
    """A pool, as its probes need it."""

    @property
    def name(self) -> str | None:
        """Its name."""

    def _ejected(self) -> list[tuple[Endpoint, float]]:
        """Return the ejected endpoints, each with the seconds until its breaker admits a probe."""
        ...

    def _breakers(self, name: str, /) -> list[Policy[Any]]:
        """Return the circuit breakers of an endpoint; none if it has been removed."""
        ...

    def _probed(self, name: str, /, *, well: bool) -> None:
        """Take over what the breakers of an endpoint have learned from a probe."""
        ...


class _UnwellError(Exception):
    """The exception with which a breaker learns that a probe answered no."""


@attrs.frozen(kw_only=True)
class HttpProbe:
    """
    A probe by HTTP, for the option `probe` of a pool; see :func:`probe_http`, which makes one.

    Attributes:
        path: The path to request.

        every: Seconds between two probes of an endpoint.

        timeout: Seconds that each step of a probe may take.

        context: How certificates are checked; None: as the system does.
    """

    path: str
    every: float
    timeout: float
    context: ssl.SSLContext | None = None

    def __call__(self, endpoint: Endpoint) -> bool:
        """
        Return True if the endpoint answers with a status from 200 to 299.

        Raises:
            OSError: It cannot be reached, or the time is over.

            ValueError: Its target names no host and port.
        """
        target = endpoint.target if "://" in endpoint.target else f"//{endpoint.target}"
        parts = urlsplit(target)
        if parts.hostname is None or (parts.port is None and not parts.scheme):
            raise ValueError(f"target must be a URL or host:port to be probed by HTTP, not {endpoint.target!r}")
        encrypted = parts.scheme == "https" or (not parts.scheme and parts.port == 443)
        where = (parts.hostname, parts.port or (443 if encrypted else 80))
        name = str(endpoint.labels.get("host", parts.hostname))
        context = (self.context or ssl.create_default_context()) if encrypted else None
        with closing(_Connection(where, name, self.timeout, context)) as connection:
            connection.request("GET", self.path, headers={"User-Agent": "resilio", "Connection": "close"})
            return 200 <= connection.getresponse().status <= 299


class _Connection(HTTPConnection):
    """A connection to an address, with another name for Host and for the certificate."""

    def __init__(self, where: tuple[str, int], name: str, timeout: float, context: ssl.SSLContext | None) -> None:
        super().__init__(name, where[1], timeout=timeout)
        self.default_port = 80 if context is None else 443
        self._where = where
        self._context = context

    def connect(self) -> None:
        self.sock = socket.create_connection(self._where, self.timeout)
        if self._context is not None:
            self.sock = self._context.wrap_socket(self.sock, server_hostname=self.host)


def probe_http(
    path: str, *, every: Time = EVERY, timeout: Time = LIMIT, context: ssl.SSLContext | None = None
) -> HttpProbe:
    """
    Return a probe that requests a path of each ejected endpoint: `pool(..., probe=probe_http("/health"))`.

    The endpoint is well if it answers with a status from 200 to 299. Host and the name in its certificate are those of
    its target, or its label `host`.

    Args:
        path: The path, beginning with "/".

        every: Seconds between two probes of an endpoint; at the soonest when its breaker admits one.

        timeout: Seconds that each step of a probe may take.

        context: How certificates are checked, for a certificate authority of one's own; None: as the system does.

    Raises:
        TypeError: A value of a wrong type.

        ValueError: A value out of range.
    """
    right = "a path that begins with '/', like '/health'"
    if not isinstance(path, str):
        reject("path", path, right, TypeError)
    if not path.startswith("/") or not path.isprintable() or " " in path:
        reject("path", path, right)
    if context is not None and not isinstance(context, ssl.SSLContext):
        reject("context", context, "an ssl.SSLContext or None", TypeError)
    return HttpProbe(path=path, every=seconds("every", every), timeout=seconds("timeout", timeout), context=context)


class Probing:
    """The probes of a pool's ejected endpoints, each in a thread of its own."""

    def __init__(self, pool: _Pool, probe: Probe) -> None:
        """Prepare to probe; `begin` starts."""
        self._pool = pool
        self._probe = probe
        self._every: float = getattr(probe, "every", EVERY)
        self._threads: dict[str, threading.Thread] = {}  # by endpoint; those of a parent process are not alive
        self.rounds = Rounds(self.round, f"resilio probes {pool.name}")

    def begin(self) -> None:
        """Probe in a thread from now on."""
        self.rounds.start()

    def round(self) -> float:
        """Start a probe of each ejected endpoint that is due, and return the seconds until the next round."""
        ejected = self._pool._ejected()
        self._threads = {name: thread for name, thread in self._threads.items() if thread.is_alive()}
        for endpoint, wait in ejected:
            if wait <= 0.0 and endpoint.name not in self._threads:
                self._start(endpoint)
        soonest = min((wait for _, wait in ejected if wait > 0.0), default=self._every)
        return min(jittered(self._every), soonest + 1e-3)

    def refresh(self) -> None:
        """Probe each ejected endpoint in this thread, one after the other."""
        for endpoint, _ in self._pool._ejected():
            self.probe(endpoint)

    def probe(self, endpoint: Endpoint) -> None:
        """Probe one endpoint, if its breakers admit that; they learn from it. Never raises."""
        permits = [breaker.try_acquire() for breaker in self._pool._breakers(endpoint.name)]
        admitted = bool(permits) and all(permits)
        error = self._answer(endpoint) if admitted else None
        for permit in permits:
            if isinstance(permit, Permit):
                _settle(permit, error, asked=admitted)
        if admitted:
            self._pool._probed(endpoint.name, well=error is None)

    def _start(self, endpoint: Endpoint) -> None:
        thread = threading.Thread(target=self.probe, args=(endpoint,), name=self.rounds.what, daemon=True)
        with suppress(RuntimeError):  # no thread can start, or the interpreter is ending
            thread.start()
            self._threads[endpoint.name] = thread

    def _answer(self, endpoint: Endpoint) -> Exception | None:
        """Return None if the endpoint is well, else why it is not."""
        try:
            answer = self._probe(endpoint)
            if inspect.isawaitable(answer):
                answer = asyncio.run(_awaited(answer))
        except Exception as error:  # noqa: BLE001 - whatever a probe raises: the endpoint is not well
            text, name = "%s: a probe of %r failed: %r", self._pool.name
            log.say(log.DEBUG, text, log.describe("pool", name), endpoint.name, error)
            return error
        return None if answer else _UnwellError(f"the probe of {endpoint.name!r} returned {answer!r}")


def _settle(permit: Permit, error: Exception | None, *, asked: bool) -> None:
    if not asked:
        permit.ignore()
    elif error is None:
        permit.success()
    else:
        permit.failure(error)


async def _awaited(answer: Awaitable[Any]) -> Any:
    return await answer
