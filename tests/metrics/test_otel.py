"""OpenTelemetry by its API, tried with the real SDK: instruments, span events, spans, and exporters that are dead."""

from __future__ import annotations

import asyncio
import subprocess
import sys
import textwrap
import threading
from collections.abc import Iterator
from typing import Any

import anyio
import pytest
from measured import measured

import resilio
from resilio import RetryBudget, bulkhead, circuit_breaker, events, registry, retry
from resilio.metrics import _trouble

pytest.importorskip("opentelemetry.sdk", reason="opentelemetry-sdk is not installed")

from opentelemetry.sdk.metrics import MeterProvider
from opentelemetry.sdk.metrics.export import (
    InMemoryMetricReader,
    MetricExporter,
    MetricExportResult,
    PeriodicExportingMetricReader,
)
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.export import SimpleSpanProcessor
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter
from opentelemetry.trace import StatusCode

from resilio.metrics import otel
from resilio.metrics._catalogue import CATALOGUE

pytestmark = pytest.mark.usefixtures("_nobody_else")


def boom(text: str = "a secret") -> None:
    raise OSError(text)


@pytest.fixture
def _nobody_else() -> Iterator[None]:
    registry.clear()
    yield
    registry.clear()


class Collected:
    """A meter provider whose readings are asked for one at a time."""

    def __init__(self, **options: Any) -> None:
        self.reader = InMemoryMetricReader()
        self.provider = MeterProvider([self.reader])
        self.stop = otel.instrument(self.provider, **options)

    def points(self) -> dict[str, list[Any]]:
        data = self.reader.get_metrics_data()
        metrics = [] if data is None else data.resource_metrics[0].scope_metrics[0].metrics
        self.metrics = {one.name: one for one in metrics}
        return {one.name: list(one.data.data_points) for one in metrics}

    def __call__(self, name: str, **labels: Any) -> Any:
        wanted = {f"resilio.{key.replace('_', '.', 1)}": value for key, value in labels.items()}
        found = [one.value for one in self.points().get(name, ()) if wanted.items() <= dict(one.attributes).items()]
        return found[0] if len(found) == 1 else found


@pytest.fixture
def collected() -> Iterator[Collected]:
    """A provider with our instruments."""
    made = Collected()
    yield made
    made.stop()
    made.provider.shutdown()


class Traced:
    """A tracer and what it has recorded."""

    def __init__(self) -> None:
        self.exporter = InMemorySpanExporter()
        self.provider = TracerProvider(shutdown_on_exit=False)
        self.provider.add_span_processor(SimpleSpanProcessor(self.exporter))
        self.tracer = self.provider.get_tracer("test")

    def spans(self) -> list[Any]:
        return list(self.exporter.get_finished_spans())

    def events(self, span: int = -1) -> list[tuple[str, dict[str, Any]]]:
        return [(event.name, dict(event.attributes)) for event in self.spans()[span].events]


@pytest.fixture
def traced() -> Iterator[Traced]:
    """A tracer of its own, and span events of all policies."""
    made, stop = Traced(), otel.span_events()
    yield made
    stop()


# ---- instruments -----------------------------------------------------------------------------------------------------


def test_instruments_are_fed_from_the_native_counters(collected: Collected) -> None:
    """Nothing is pushed: a collection reads what there is, with units and closed attributes."""
    policy = circuit_breaker("payments", consecutive=3)
    policy.call(int)
    for _ in range(5):
        policy.try_call(boom)
    assert collected("resilio.calls", policy_name="payments", outcome="success") == 1
    assert collected("resilio.calls", policy_name="payments", outcome="failure") == 3
    assert collected("resilio.rejected", policy_name="payments", reason="open") == 2
    assert collected("resilio.state", policy_name="payments", state="open") == 1
    assert collected("resilio.call_duration.count", policy_name="payments") == 4
    assert collected.metrics["resilio.calls"].unit == "{call}"
    assert collected.metrics["resilio.calls"].data.is_monotonic
    assert not collected.metrics["resilio.inflight"].data.is_monotonic
    assert all("secret" not in str(points) for points in collected.points().values())


def test_every_number_of_the_catalogue_has_an_instrument(collected: Collected, monkeypatch: Any) -> None:
    """And none has another name: what Prometheus shows, OpenTelemetry shows."""
    created = []

    class Meter:
        def __getattr__(self, name: str) -> Any:
            return lambda title, *_: created.append(title)

    from resilio.metrics._otel_metrics import Instruments

    Instruments(Meter(), None, (0.5,), (1.0,))  # type: ignore[arg-type]
    durations = {f"resilio.call_duration.{part}" for part in ("count", "sum", "quantile", "bucket")}
    assert set(created) == {one.otel for one in CATALOGUE.values() if one.type != "histogram"} | durations
    assert len(created) == len(set(created))


def test_one_collection_reads_the_policies_once(collected: Collected, monkeypatch: Any) -> None:
    """Sixty instruments ask, one of them reads; the next collection reads anew."""
    from resilio.metrics._book import Book

    reads, read = [], Book.read
    monkeypatch.setattr(Book, "read", lambda book: (reads.append(book), read(book))[1])
    circuit_breaker("payments")
    for turn in (1, 2, 3):
        collected.points()
        assert len(reads) == turn


def test_quantiles_are_those_since_the_collection_before(collected: Collected, vt: Any) -> None:
    """A slow minute is seen in its minute and not in the hours after; without calls there is no observation."""
    policy = circuit_breaker("payments")

    def took(seconds: float) -> None:
        with policy:
            vt.advance(seconds)

    name = "resilio.call_duration.quantile"
    for _ in range(100):
        took(0.010)
    assert collected(name, policy_name="payments", quantile=0.5) == pytest.approx(0.010, rel=0.1)
    for _ in range(10):
        took(2.0)
    assert collected(name, policy_name="payments", quantile=0.99) == pytest.approx(2.0, rel=0.1)
    assert collected(name, policy_name="payments", quantile=0.5) == []
    assert collected("resilio.call_duration.sum", policy_name="payments") == pytest.approx(21.0)


def test_buckets_are_counters_where_they_are_asked_for(vt: Any) -> None:
    """Cumulative, at the bounds asked for and infinity."""
    collected, policy = Collected(buckets=(0.1, 1.0), quantiles=()), circuit_breaker("payments")
    for seconds in (0.05, 0.5, 5.0):
        with policy:
            vt.advance(seconds)
    points = collected.points()
    found = {dict(one.attributes)["resilio.le"]: one.value for one in points["resilio.call_duration.bucket"]}
    assert found == {0.1: 1, 1.0: 2, float("inf"): 3}
    assert "resilio.call_duration.quantile" not in points
    collected.stop()
    assert "resilio.calls" not in collected.points()


def test_the_options_are_checked() -> None:
    """Each with its name in the message."""
    provider = MeterProvider()
    with pytest.raises(ValueError, match="quantiles"):
        otel.instrument(provider, quantiles=(1.5,))
    with pytest.raises(ValueError, match="buckets"):
        otel.instrument(provider, buckets="no such preset")
    with pytest.raises(ValueError, match="max_names"):
        otel.instrument(provider, max_names=0)


def test_a_reading_that_fails_costs_nothing_but_itself(collected: Collected, monkeypatch: Any) -> None:
    """It is counted, and the collection after it has all numbers."""
    from resilio.metrics._book import Book

    circuit_breaker("payments").call(int)
    before = _trouble.errors()
    with monkeypatch.context() as patched:
        patched.setattr(Book, "read", lambda book: 1 / 0)
        assert collected("resilio.calls", policy_name="payments", outcome="success") == []
    assert _trouble.errors() > before
    assert collected("resilio.calls", policy_name="payments", outcome="success") == 1


class DeadExporter(MetricExporter):
    """Raises, or never returns until it is shut down."""

    def __init__(self, hangs: bool) -> None:
        super().__init__()
        self.hangs = hangs
        self.tried = threading.Event()
        self.released = threading.Event()

    def export(self, *args: Any, **kwargs: Any) -> MetricExportResult:
        self.tried.set()
        if self.hangs:
            self.released.wait()
            return MetricExportResult.FAILURE
        raise ConnectionRefusedError("nobody listens")

    def force_flush(self, timeout_millis: float = 10_000) -> bool:
        return False

    def shutdown(self, timeout_millis: float = 30_000, **kwargs: Any) -> None:
        self.released.set()


@pytest.mark.filterwarnings("ignore::pytest.PytestUnhandledThreadExceptionWarning")
@pytest.mark.parametrize("hangs", [False, True])
def test_a_dead_exporter_delays_no_call(hangs: bool) -> None:
    """It raises, or hangs in its own thread with all numbers read; calls go on as if there were none."""
    exporter = DeadExporter(hangs)
    provider = MeterProvider(
        [PeriodicExportingMetricReader(exporter, export_interval_millis=1)], shutdown_on_exit=False
    )
    stop = otel.instrument(provider)
    policy, pool = circuit_breaker("payments"), bulkhead(1, name="pool")
    assert exporter.tried.wait(30)
    for _ in range(1000):
        assert policy.call(int) == 0
        assert pool.call(int) == 0
    assert not exporter.released.is_set()  # it hangs to this moment, and a thousand calls are through
    assert (policy.snapshot().successes, pool.snapshot().inflight) == (1000, 0)
    exporter.released.set()
    provider.shutdown()
    stop()


# ---- events on spans -------------------------------------------------------------------------------------------------


def test_rejections_and_state_changes_are_events_of_the_callers_span(traced: Traced) -> None:
    """On the span that was current where it happened, with closed attributes; a call that goes well says nothing."""
    policy = circuit_breaker("payments", consecutive=2)
    with traced.tracer.start_as_current_span("well"):
        policy.call(int)
    assert traced.events() == []
    with traced.tracer.start_as_current_span("ill"):
        for _ in range(3):
            policy.try_call(boom)
    own = {"resilio.policy.kind": "circuit_breaker", "resilio.policy.name": "payments"}
    (changed, about), (rejected, why) = traced.events()
    assert (changed, rejected) == ("resilio.state_changed", "resilio.rejected")
    assert about == own | {"resilio.old": "closed", "resilio.new": "open", "resilio.reason": "consecutive"}
    assert why["resilio.reason"] == "open"
    assert why["resilio.retry_after"] > 0


def test_attempts_and_copies_are_events(traced: Traced, vt: Any) -> None:
    """Which attempt failed, with what kind of error and no text, and what a hedge did."""
    budget = RetryBudget("paying", initial=5)
    policy = retry(on=OSError, attempts=2, backoff=0.0, budget=budget, name="again")
    with traced.tracer.start_as_current_span("call"):
        policy.try_call(boom, "a secret")
    names = [name for name, _ in traced.events()]
    assert names == ["resilio.retried", "resilio.gave_up"]
    assert [about["error.type"] for _, about in traced.events()] == ["OSError"] * 2
    assert "secret" not in str(traced.events())

    @measured(name="copied")
    async def call() -> None:
        await anyio.sleep(0.01 if resilio.current().hedge else 1.0)

    async def main() -> None:
        with traced.tracer.start_as_current_span("hedged"):
            await call()

    vt.run(main)
    assert [name for name, _ in traced.events()] == ["resilio.hedge_started", "resilio.hedge_won"]


def test_an_event_is_told_on_the_span_it_comes_from_whoever_delivers_it(traced: Traced) -> None:
    """While one thread delivers, another rejects a call: the first delivers that too, and the span is the second's."""
    inside, go_on, delivered, by = threading.Event(), threading.Event(), threading.Event(), []
    pool = bulkhead(1, name="pool")

    def hold(event: Any) -> None:
        by.append(threading.current_thread().name)
        if not inside.is_set():
            inside.set()
            go_on.wait(30)
        if len(by) == 2:
            delivered.set()

    stop = events.subscribe(hold, policy=pool, kinds=(events.Rejected,))

    def rejected(name: str) -> None:
        with traced.tracer.start_as_current_span(name):
            pool.try_call(int)
            go_on.set()
            delivered.wait(30)

    with pool:
        first = threading.Thread(target=rejected, args=("first",), name="first")
        first.start()
        assert inside.wait(30)
        second = threading.Thread(target=rejected, args=("second",), name="second")
        second.start()
        second.join()
        first.join()
    stop()
    assert by == ["first", "first"]  # it has delivered both
    told = {span.name: [event.name for event in span.events] for span in traced.spans()}
    assert told == {"first": ["resilio.rejected"], "second": ["resilio.rejected"]}


def test_only_a_span_that_is_recorded_is_told(traced: Traced) -> None:
    """Without a span, and on one that has ended, nothing happens and nothing is wrong."""
    before = events.listener_errors()
    pool = bulkhead(1, name="pool")
    with pool:
        pool.try_call(int)
    span = traced.tracer.start_span("over")
    span.end()
    from resilio.metrics._otel_spans import add_event

    add_event(
        events.Rejected(kind="x", name=None, reason="y", measured=None, limit=None, retry_after=None, at_ns=0), span
    )
    assert events.listener_errors() == before
    assert span.events == ()


def test_a_policys_events_alone(traced: Traced) -> None:
    """For who wants to see one dependency only; the end of each call if that is asked for."""
    seen, other = circuit_breaker("seen"), circuit_breaker("other")
    made, stop = Traced(), otel.span_events(policy=seen, kinds=(events.Settled,))
    with made.tracer.start_as_current_span("call"):
        seen.call(int)
        other.call(int)
    stop()
    ((name, about),) = made.events()
    assert (name, about["resilio.outcome"]) == ("resilio.settled", "success")


# ---- spans -----------------------------------------------------------------------------------------------------------


def test_a_span_of_each_attempt_says_which_it_is(traced: Traced) -> None:
    """Inside of a retry it is the attempt's, outside of it the call's, and theirs are its children."""
    outcomes = iter([OSError("a secret"), OSError("a secret"), None])

    @otel.traced(name="call", tracer_provider=traced.provider)
    @retry(on=OSError, attempts=3, backoff=0.0, budget=None, name="again")
    @otel.traced(tracer_provider=traced.provider)
    def attempt() -> str:
        error = next(outcomes)
        if error is not None:
            raise error
        return "done"

    assert attempt() == "done"
    spans = traced.spans()
    assert [span.attributes.get("http.request.resend_count") for span in spans] == [None, 1, 2, None]
    assert [span.attributes.get("error.type") for span in spans] == ["OSError", "OSError", None, None]
    assert spans[0].status.status_code is StatusCode.ERROR
    assert {span.parent.span_id for span in spans[:3]} == {spans[3].context.span_id}
    assert spans[3].name == "call"
    assert spans[0].name.endswith("attempt")
    assert "a secret" not in str([span.to_json() for span in spans])
    assert [event.name for event in spans[3].events] == ["resilio.retried"] * 2


def test_a_span_of_a_rejected_call_says_why(traced: Traced) -> None:
    """Async functions too; the guarded function stays one."""
    pool = bulkhead(1, name="pool")

    @otel.traced(tracer_provider=traced.provider)
    @pool
    async def call() -> int:
        return 1

    assert asyncio.iscoroutinefunction(call) or call.__name__ == "call"
    with pool, pytest.raises(resilio.BulkheadFullError):
        asyncio.run(call())
    about = traced.spans()[-1].attributes
    assert about["error.type"] == "BulkheadFullError"
    assert (about["resilio.policy.kind"], about["resilio.reason"]) == ("bulkhead", "full")
    assert asyncio.run(call()) == 1


def test_a_span_that_is_not_recorded_costs_no_attributes() -> None:
    """Without an SDK, or sampled out, the function runs and raises as ever."""

    @otel.traced
    def call(fail: bool) -> int:
        if fail:
            raise OSError
        return 1

    assert call(False) == 1
    with pytest.raises(OSError):
        call(True)


def test_a_foreign_error_is_named_with_its_module(traced: Traced) -> None:
    """So that two classes of one name are told apart, and a copy of a hedge is known as one."""
    import json

    @otel.traced(tracer_provider=traced.provider)
    def call() -> None:
        json.loads("[")

    with pytest.raises(json.JSONDecodeError):
        call()
    assert traced.spans()[-1].attributes["error.type"] == "json.decoder.JSONDecodeError"


def test_the_span_of_a_copy_says_so(traced: Traced, vt: Any) -> None:
    """Which copy of the call it is."""

    @measured(name="copied again")
    @otel.traced(tracer_provider=traced.provider)
    async def call() -> None:
        await anyio.sleep(0.01 if resilio.current().hedge else 1.0)

    vt.run(call)
    assert {span.attributes.get("resilio.hedge") for span in traced.spans()} == {None, 1}


def test_a_generator_is_rejected() -> None:
    """A span around its body would be current in its consumer's."""

    def items() -> Iterator[int]:
        yield 1

    with pytest.raises(TypeError, match="gives items"):
        otel.traced(items)


def test_opentelemetry_is_imported_when_it_is_used() -> None:
    """Not by `import resilio`; without the extra one clear error names it."""
    script = """
        import sys, resilio
        print("opentelemetry" in sys.modules)
        sys.modules["opentelemetry"] = None
        try:
            import resilio.metrics.otel
        except ImportError as error:
            print(error)
    """
    done = subprocess.run([sys.executable, "-c", textwrap.dedent(script)], check=True, capture_output=True, text=True)
    assert done.stdout.splitlines() == [
        "False",
        "resilio.metrics.otel needs opentelemetry-api: pip install 'resilio-sdk[otel]'",
    ]
