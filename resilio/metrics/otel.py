"""
OpenTelemetry, through its API alone: without an SDK set up by the application, nothing here has any effect.

    resilio.metrics.otel.instrument()    observable instruments, read at each collection: nothing is pushed.
    resilio.metrics.otel.span_events()   attempts, rejections, copies and state changes, as events on the caller's span.
    @resilio.metrics.otel.traced         a span for each call of a function, or for each attempt inside a retry.

Observable instruments cannot be histograms. Latencies are therefore `resilio.call_duration.count` and `.sum`, gauges of
quantiles over the time since the previous collection, and on request counters of the buckets. A cumulative quantile
would forget nothing: after a day it moves no more.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any, TypeVar, overload

from resilio import events
from resilio._options.validators import fraction
from resilio._policy.base import Policy
from resilio._support.extras import missing
from resilio.metrics._book import MOST_NAMES, Book
from resilio.metrics._buckets import Bounds, Chooser, bounds_of

try:
    from opentelemetry import metrics, trace

    from resilio.metrics._otel_metrics import FINE, Instruments
    from resilio.metrics._otel_spans import KINDS, add_event, current_span, spanned
except ImportError as _error:
    raise missing("resilio.metrics.otel", "otel", _error) from _error

__all__ = ["instrument", "span_events", "traced"]

F = TypeVar("F", bound=Callable[..., Any])
SCOPE = "resilio"


def instrument(
    meter_provider: metrics.MeterProvider | None = None,
    *,
    policies: Iterable[Policy[Any]] | None = None,
    quantiles: Iterable[float] = (0.5, 0.95, 0.99),
    buckets: Bounds | None = None,
    max_names: int = MOST_NAMES,
) -> Callable[[], None]:
    """
    Create the instruments `resilio.*` of a meter; return a function that stops their observations.

    Args:
        meter_provider: Provider of the meter; None: the global one.

        policies: Policies to show; None: every policy, those made later included.

        quantiles: Quantiles of the latencies since the previous collection, within 10 %, as gauges; empty: no gauges.

        buckets: Upper bounds of latency counters in seconds, or a preset's name; None: no such counters.

        max_names: Maximum number of pairs of kind and name, >= 1; policies beyond are summed as "other".

    Raises:
        TypeError, ValueError: A quantile that is no number between 0 and 1, bounds that do not ascend, or `max_names`
            below 1.
    """
    if max_names < 1:
        raise ValueError(f"max_names must be at least 1, not {max_names!r}")
    asked = tuple(fraction("quantiles", q) for q in quantiles)
    bounds = () if buckets is None else bounds_of(buckets)
    book = Book(policies, Chooser(sorted({*FINE, *bounds[:-1]})), max_names)
    meter = metrics.get_meter(SCOPE, meter_provider=meter_provider)
    return Instruments(meter, book, asked, bounds).stop


def span_events(*, policy: Policy[Any] | None = None, kinds: Iterable[type] = KINDS) -> Callable[[], None]:
    """
    Add events of policies to the span that is current where they occur; return a function that stops it.

    Only recording spans get events. The cost is a few microseconds for each rejection, failed attempt and copy, and
    nothing for a call that succeeds at once.

    Args:
        policy: The policy to listen to; None: all policies.

        kinds: Classes of events; see :mod:`resilio.events`.

    Raises:
        TypeError: `kinds` holds anything but events, or `policy` is no policy.
    """
    return events.subscribe(add_event, policy=policy, kinds=kinds, capture=current_span)


@overload
def traced(fn: F, /) -> F: ...
@overload
def traced(
    fn: None = None, /, *, name: str | None = None, tracer_provider: trace.TracerProvider | None = None
) -> Callable[[F], F]: ...
def traced(
    fn: Callable[..., Any] | None = None,
    /,
    *,
    name: str | None = None,
    tracer_provider: trace.TracerProvider | None = None,
) -> Any:
    """
    Return `fn` with a span around each call: inside a retry one for each attempt, outside one for the whole call.

    The span of an attempt has its number (`http.request.resend_count`). A failed one has the type of the exception
    (`error.type`) and the reason of a rejection (`resilio.reason`), but never the text of an exception.

    Args:
        fn: A function or an async function, guarded or not.

        name: Name of the spans; None: the function's.

        tracer_provider: Provider of the tracer; None: the global one.

    Raises:
        TypeError: `fn` is a generator.
    """
    tracer = trace.get_tracer(SCOPE, tracer_provider=tracer_provider)
    if fn is None:
        return lambda function: spanned(function, name, tracer)
    return spanned(fn, name, tracer)
