"""
The service that has the dependencies: one client, one connection pool, two kinds of request.

The bare and the guarded service are the same code. The guarded one puts two decorators on the function that calls the
flaky dependency, and nothing else.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping

import httpx2

from resilio import RejectedError, bulkhead, circuit_breaker

__all__ = ["PATIENCE", "POOL", "TIMEOUT", "Shop", "guarded"]

TIMEOUT = 1.0  # seconds to connect, to write, to read, and to get a connection, each
POOL = 50  # connections for all calls of the service; while all is well some seven are busy
PATIENCE = 1.0  # seconds after which the caller of the service has no use for an answer
BULKHEAD = 20  # of those connections that the flaky dependency may hold

Fetch = Callable[[str], Awaitable[httpx2.Response]]


def guarded(fetch: Fetch) -> Fetch:
    """Put resilio's breaker, with its defaults, and a bulkhead in front of a call: the whole difference of the runs."""
    return circuit_breaker()(bulkhead(BULKHEAD)(fetch))


class Shop:
    """
    A service with a page of recommendations (the flaky dependency) and a checkout (the healthy one).

    Args:
        client: That all its calls share.

        ports: Where the dependencies are, on 127.0.0.1.

        guard: Wraps the call of the flaky dependency; None is the bare service.

        retries: How often a failed call is tried again, at once, >= 0.
    """

    def __init__(
        self,
        client: httpx2.AsyncClient,
        ports: Mapping[str, int],
        guard: Callable[[Fetch], Fetch] | None = None,
        retries: int = 1,
    ) -> None:
        self._client = client
        self._ports = ports
        self._attempts = 1 + retries
        self._fetches: dict[str, Fetch] = dict.fromkeys(ports, self._fetch)
        if guard is not None:
            self._fetches["recommendations"] = guard(self._fetch)

    async def _fetch(self, url: str) -> httpx2.Response:
        response = await self._client.get(url)
        response.raise_for_status()
        return response

    async def handle(self, dependency: str, request: str) -> str:
        """
        Serve one request: call the dependency, and again at once if that fails.

        Args:
            dependency: Which it needs.

            request: Its identity.

        Returns:
            The outcome: "ok", "refused" by resilio, "no connection" in the pool, "timeout", "unavailable" (the
            dependency said 503) or "broken" (the connection was).
        """
        outcome = "broken"
        for attempt in range(self._attempts):
            url = f"http://127.0.0.1:{self._ports[dependency]}/{request}-{attempt}"
            try:
                await self._fetches[dependency](url)
            except RejectedError:
                return "refused" if attempt == 0 else outcome
            except httpx2.HTTPError as error:
                outcome = _outcome(error)
            else:
                return "ok"
        return outcome


def _outcome(error: httpx2.HTTPError) -> str:
    if isinstance(error, httpx2.PoolTimeout):
        return "no connection"
    if isinstance(error, httpx2.TimeoutException):
        return "timeout"
    return "unavailable" if isinstance(error, httpx2.HTTPStatusError) else "broken"
