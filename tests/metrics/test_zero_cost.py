"""Metrics cost calls nothing: the same Python runs for a call, whoever may look at it later."""

from __future__ import annotations

import sys
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from resilio import adaptive_limit, bulkhead, circuit_breaker, load_shed, pipeline, rate_limit, registry, retry
from resilio._events import subscriptions
from resilio.events import StateChanged
from resilio.metrics import logging as resilio_logging


def boom() -> None:
    raise OSError


def seen(call: Callable[[], Any]) -> list[tuple[str, str]]:
    """Every function, of Python and of C, that runs for a call."""
    ran: list[tuple[str, str]] = []

    def note(frame: Any, event: str, called: Any) -> None:
        ran.append((event, frame.f_code.co_qualname if "c_" not in event else called.__qualname__))

    sys.setprofile(note)
    try:
        call()
    finally:
        sys.setprofile(None)
    return ran


@pytest.fixture
def _exported(tmp_path: Path) -> Iterator[None]:
    """Every exporter there is, at once."""
    prometheus_client = pytest.importorskip("prometheus_client")
    pytest.importorskip("opentelemetry.sdk", reason="opentelemetry-sdk is not installed")
    from opentelemetry.sdk.metrics import MeterProvider
    from opentelemetry.sdk.metrics.export import InMemoryMetricReader

    from resilio.metrics import multiprocess, otel
    from resilio.metrics.prometheus import ResilioCollector, generate_latest

    scraped, reader = prometheus_client.CollectorRegistry(), InMemoryMetricReader()
    ResilioCollector(scraped)
    provider = MeterProvider([reader])
    ends = [otel.instrument(provider), resilio_logging.summaries(every=3600)]
    ends += [multiprocess.start(tmp_path, interval=3600).stop, provider.shutdown]
    generate_latest(scraped)
    reader.get_metrics_data()
    yield
    for end in ends:
        end()
    multiprocess._workers.clear()


@pytest.mark.untraced
def test_the_same_code_runs_for_a_call_with_all_exporters_on(request: Any) -> None:
    """Success, failure and all gates: not one function more, and nothing listens to calls."""
    policies = (
        retry(on=KeyError, budget=None, name="again"),
        rate_limit("1000/s", name="rate"),
        circuit_breaker("breaker", consecutive=1000),
        bulkhead(10, name="pool"),
        adaptive_limit(name="limit"),
        load_shed(name="shed"),
    )
    whole = pipeline(*policies, name="whole")
    guarded = whole(lambda: 1)
    calls = (guarded, lambda: whole.try_call(boom))
    for call in calls * 3:
        call()
    before, listeners = [seen(call) for call in calls], set(subscriptions.current())
    request.getfixturevalue("_exported")
    for call in calls * 3:
        call()
    assert [seen(call) for call in calls] == before
    added = set(subscriptions.current()) - listeners
    assert {kind for one in added for kind in one.kinds} <= {StateChanged}
    _says_nothing_of_a_call_that_goes_well(guarded, before[0])
    registry.clear()


def _says_nothing_of_a_call_that_goes_well(call: Callable[[], Any], before: list[tuple[str, str]]) -> None:
    from resilio.metrics import otel

    stop = otel.span_events()
    assert seen(call) == before
    stop()


def test_a_collector_has_no_thread() -> None:
    """It does nothing until it is asked."""
    prometheus_client = pytest.importorskip("prometheus_client")
    from resilio.metrics.prometheus import ResilioCollector

    before = threading.active_count()
    ResilioCollector(prometheus_client.CollectorRegistry())
    assert threading.active_count() == before
