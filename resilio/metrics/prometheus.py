"""
Prometheus: collectors that read the native counters and histograms at each scrape. Calls push nothing.

    ResilioCollector()          registers with prometheus_client's default registry; all policies are shown
    generate_latest()           the text of a registry, as prometheus_client's but ten times as fast
    make_asgi_app()             serves it; make_wsgi_app() too

If several processes serve one port, each scrape reaches another of them: call `resilio.metrics.multiprocess.start()` in
each and register a :class:`MultiprocessCollector`.

Every metric has the labels `kind` ("circuit_breaker") and `policy` (its name). All other labels have closed sets of
values: see `docs/how-to/observability/prometheus.md`. A name is one given in the code, the name of the function for a
policy without one, or "unnamed" if that is a lambda or a local function. Policies with the same kind and name are
summed.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Iterable, Iterator
from pathlib import Path
from typing import Any

from resilio._policy.base import Policy
from resilio._support.extras import missing
from resilio.metrics._book import MOST_NAMES, Book
from resilio.metrics._buckets import BUCKETS, PRESETS, Choice, Chooser
from resilio.metrics._sheet import Sheet
from resilio.metrics._text import Writer
from resilio.metrics._turns import take_turns

try:
    import prometheus_client
    from prometheus_client import REGISTRY, Metric
    from prometheus_client.registry import Collector, CollectorRegistry

    from resilio.metrics._families import Family, families
except ImportError as _error:
    raise missing("resilio.metrics.prometheus", "prometheus", _error) from _error

__all__ = [
    "BUCKETS",
    "PRESETS",
    "MultiprocessCollector",
    "ResilioCollector",
    "generate_latest",
    "make_asgi_app",
    "make_wsgi_app",
]

CONTENT_TYPE = "text/plain; version=0.0.4; charset=utf-8"
_ALLOWED = "GET, HEAD"
Send = Callable[[dict[str, Any]], Awaitable[None]]


class _Collector(Collector):
    """Base of the collectors; a subclass implements `_read`."""

    def __init__(self, registry: CollectorRegistry | None) -> None:
        self._writer = Writer()
        (REGISTRY if registry is None else registry).register(self)

    def _read(self) -> Sheet:
        raise NotImplementedError

    def describe(self) -> Iterator[Metric]:
        """Yield the metrics without samples, which is all that registering needs."""
        yield from families(Sheet(), self._writer)

    def collect(self) -> Iterator[Metric]:
        """Yield the current metrics."""
        yield from families(self._read(), self._writer)


class ResilioCollector(_Collector):
    """
    Collector of this process's policies, which registers itself and reads them at each scrape.

    Totals never decrease: those of a policy are kept after it is garbage collected.
    """

    def __init__(
        self,
        registry: CollectorRegistry | None = None,
        policies: Iterable[Policy[Any]] | None = None,
        *,
        buckets: Choice = BUCKETS,
        max_names: int = MOST_NAMES,
    ) -> None:
        """
        Register with a registry of prometheus_client.

        Args:
            registry: Where to register; None: the default one. One collector for each registry.

            policies: Policies to show; None: every policy, those made later included.

            buckets: Upper bounds of the duration histogram in seconds, ascending, > 0; or "http", "model", "database"
                of `PRESETS`; or a mapping of either by the policy's name or kind, "default" for all others.

            max_names: Maximum number of pairs of kind and name, >= 1; policies beyond are summed as "other".

        Raises:
            ValueError: The registry has such a collector already, `buckets` do not ascend, or `max_names` is below 1.
        """
        if max_names < 1:
            raise ValueError(f"max_names must be at least 1, not {max_names!r}")
        self._book = Book(policies, Chooser(buckets), max_names)
        super().__init__(registry)

    def _read(self) -> Sheet:
        return self._book.read()


class MultiprocessCollector(_Collector):
    """
    Collector of the sums over all processes that share a directory, ended ones included.

    It may be made anew for each scrape, in any of these processes or in another one.
    """

    def __init__(self, registry: CollectorRegistry | None = None, directory: str | Path | None = None) -> None:
        """
        Register with a registry of prometheus_client.

        Args:
            registry: Where to register; None: the default one.

            directory: The directory given to `resilio.metrics.multiprocess.start()`; None: its default.

        Raises:
            ValueError: The registry has such a collector already, or there is no directory.
        """
        from resilio.metrics.multiprocess import read, where

        self._directory, self._read_directory = where(directory), read
        super().__init__(registry)

    def _read(self) -> Sheet:
        return self._read_directory(self._directory)


def generate_latest(registry: Any = REGISTRY) -> bytes:
    """
    Return all metrics of a registry in the text format; prometheus_client writes those of other libraries.

    Args:
        registry: A registry of prometheus_client.
    """
    ours: list[str] = []
    others: list[Metric] = []
    for metric in registry.collect():
        if isinstance(metric, Family):
            take_turns(0)
            ours.append(metric.text())
        else:
            others.append(metric)
    written: bytes = prometheus_client.generate_latest(_Given(others)) if others else b""
    return written + "".join(ours).encode()


class _Given(Collector):
    """Collector of given metrics."""

    def __init__(self, metrics: list[Metric]) -> None:
        self._metrics = metrics

    def collect(self) -> list[Metric]:
        return self._metrics


def make_asgi_app(registry: Any = REGISTRY) -> Callable[[Any, Any, Send], Awaitable[None]]:
    """
    Return an ASGI application that answers GET with the metrics, to mount at /metrics.

    It reads in a thread of its own, so that it responds even while the app's handlers occupy all worker threads.

    Args:
        registry: A registry of prometheus_client.
    """
    from anyio import CapacityLimiter, to_thread
    from anyio.lowlevel import RunVar

    turn: RunVar[CapacityLimiter] = RunVar("resilio_metrics_turn")

    async def read() -> bytes:
        try:
            limiter = turn.get()
        except LookupError:
            turn.set(limiter := CapacityLimiter(1))
        return await to_thread.run_sync(generate_latest, registry, limiter=limiter)

    async def metrics(scope: Any, receive: Any, send: Send) -> None:  # noqa: ARG001
        if scope["type"] != "http":
            return
        good = scope["method"] in {"GET", "HEAD"}
        status, body = 405, b""
        if good:
            status, body = 200, await read()
        headers = [(b"content-type", CONTENT_TYPE.encode()), (b"content-length", str(len(body)).encode())]
        if not good:
            headers.append((b"allow", _ALLOWED.encode()))
        await send({"type": "http.response.start", "status": status, "headers": headers})
        await send({"type": "http.response.body", "body": b"" if scope["method"] == "HEAD" else body})

    return metrics


def make_wsgi_app(registry: Any = REGISTRY) -> Callable[[dict[str, Any], Callable[..., Any]], Iterable[bytes]]:
    """
    Return a WSGI application that answers GET with the metrics.

    Args:
        registry: A registry of prometheus_client.
    """

    def metrics(environ: dict[str, Any], start_response: Callable[..., Any]) -> Iterable[bytes]:
        method = environ["REQUEST_METHOD"]
        good = method in {"GET", "HEAD"}
        body = generate_latest(registry) if good else b""
        headers = [("Content-Type", CONTENT_TYPE), ("Content-Length", str(len(body)))]
        if not good:
            headers.append(("Allow", _ALLOWED))
        start_response("200 OK" if good else "405 Method Not Allowed", headers)
        return [] if method == "HEAD" else [body]

    return metrics
