"""What a scrape of 500 policies takes: read from the native counters, written as text."""

from __future__ import annotations

from collections.abc import Callable
from statistics import quantiles
from time import thread_time_ns
from typing import Any

import resilio
from benchmarks.micro._results import Row, Skip, Table
from benchmarks.micro._work import fresh_name

__all__ = ["POLICIES", "policies", "scrape_table"]

POLICIES = 500
_CALLS = 20
_ABOUT = (
    f"Processor time of this thread for one scrape of {POLICIES} policies of seven kinds, each after {_CALLS} calls, "
    "with all metrics and histograms."
)


def scrape_table(rounds: int) -> Table:
    """
    Return the table of scrapes, in milliseconds.

    Args:
        rounds: Scrapes by each writer, in turns.
    """
    table = Table("scrape", "Scrape", _ABOUT)
    try:
        import prometheus_client

        from resilio.metrics.prometheus import ResilioCollector, generate_latest
    except ImportError as error:
        return Table(table.key, table.title, table.about, skips=(Skip("all of it", str(error)),))
    scraped = prometheus_client.CollectorRegistry()
    ResilioCollector(scraped, kept := policies(POLICIES))
    writers: dict[str, Callable[[], Any]] = {
        "resilio.metrics.prometheus.generate_latest": lambda: generate_latest(scraped),
        "prometheus_client.generate_latest, same registry": lambda: prometheus_client.generate_latest(scraped),
    }
    found: dict[str, list[float]] = {name: [] for name in writers}
    lines = generate_latest(scraped).count(b"\n")
    for _ in range(rounds):
        for name, write in writers.items():
            begin = thread_time_ns()
            write()
            found[name].append((thread_time_ns() - begin) / 1e6)
    del kept
    own, other = writers
    rows = (_row(own, found[own], f"{lines:,} lines", "scrape"), _row(other, found[other], "for comparison"))
    return Table(table.key, table.title, table.about, rows)


def policies(many: int) -> list[Any]:
    """Return so many policies of seven kinds that have seen some calls."""
    made: list[Any] = []
    while len(made) < many:
        made += [
            resilio.circuit_breaker(fresh_name()),
            resilio.bulkhead(10, max_queued=5, max_wait=1.0, name=fresh_name()),
            resilio.rate_limit("1000/s", name=fresh_name()),
            resilio.retry(on=OSError, name=fresh_name()),
            resilio.load_shed(name=fresh_name()),
            resilio.adaptive_limit(name=fresh_name()),
            resilio.fallback(default=None, on=OSError, name=fresh_name()),
        ]
    del made[many:]
    for policy in made:
        for _ in range(_CALLS):
            policy.try_call(int)
    return made


def _row(subject: str, values: list[float], note: str, target: str | None = None) -> Row:
    low, median, high = quantiles(values, n=4, method="inclusive") if len(values) > 1 else [values[0]] * 3
    return Row(subject, median, "ms", low, high, note=note, target=target)
