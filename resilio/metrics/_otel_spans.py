"""Events of policies on the caller's span, and a span around a function."""

from __future__ import annotations

import functools
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

from opentelemetry import trace
from opentelemetry.trace import Span, Status, StatusCode, Tracer

import resilio
from resilio import events
from resilio._policy.decorate import kind_of
from resilio.errors import RejectedError

__all__ = ["KINDS", "add_event", "current_span", "spanned"]

KINDS = (
    events.StateChanged,
    events.Rejected,
    events.Retried,
    events.GaveUp,
    events.HedgeStarted,
    events.HedgeWon,
)
"""Events that become span events by default: none for a call that succeeds at once."""

NAMES = {
    events.StateChanged: "resilio.state_changed",
    events.Rejected: "resilio.rejected",
    events.Settled: "resilio.settled",
    events.Retried: "resilio.retried",
    events.GaveUp: "resilio.gave_up",
    events.HedgeStarted: "resilio.hedge_started",
    events.HedgeWon: "resilio.hedge_won",
    events.LimitChanged: "resilio.limit_changed",
    events.SharingChanged: "resilio.sharing_changed",
}
FIELDS = (
    "old",
    "new",
    "reason",
    "measured",
    "limit",
    "retry_after",
    "scope",
    "outcome",
    "seconds",
    "attempt",
    "delay",
    "number",
)


def current_span() -> Span | None:
    """Return the caller's span if it is recorded, else None."""
    span = trace.get_current_span()
    return span if span.is_recording() else None


def add_event(event: Any, span: Span | None) -> None:
    """Add an event to a span; no key, no argument and no text of an exception becomes an attribute."""
    if span is None or not span.is_recording():  # it may have ended meanwhile
        return
    attributes: dict[str, Any] = {"resilio.policy.kind": event.kind, "resilio.policy.name": event.name or "unnamed"}
    for field in FIELDS:
        value = getattr(event, field, None)
        if value is not None:
            attributes[f"resilio.{field}"] = value
    error = getattr(event, "error", None)
    if error is not None:
        attributes["error.type"] = error.partition("(")[0].partition(":")[0]
    span.add_event(NAMES[type(event)], attributes)


def spanned(fn: Callable[..., Any], name: str | None, tracer: Tracer) -> Callable[..., Any]:
    """
    Return `fn` with a span around each call.

    Raises:
        TypeError: `fn` is a generator: its body alternates with its consumer, whose spans would become its children.
    """
    kind, title = kind_of(fn), name or str(getattr(fn, "__qualname__", "call"))
    if kind in {"generator", "async_generator"}:
        raise TypeError(f"traced cannot follow {fn!r}, which gives items. Trace the call that opens the stream")
    if kind == "coroutine":

        @functools.wraps(fn)
        async def traced_later(*args: Any, **kwargs: Any) -> Any:
            with _span(title, tracer):
                return await fn(*args, **kwargs)

        return traced_later

    @functools.wraps(fn)
    def traced(*args: Any, **kwargs: Any) -> Any:
        with _span(title, tracer):
            return fn(*args, **kwargs)

    return traced


@contextmanager
def _span(title: str, tracer: Tracer) -> Iterator[None]:
    with tracer.start_as_current_span(title, record_exception=False, set_status_on_exception=False) as span:
        if span.is_recording():
            _number(span)
        try:
            yield
        except Exception as error:
            if span.is_recording():
                _blame(span, error)
            raise


def _number(span: Span) -> None:
    """Set the number of the attempt and of the copy on a span inside a guarded call."""
    call = resilio.current()
    if call is None:
        return
    if call.attempt > 1:
        span.set_attribute("http.request.resend_count", call.attempt - 1)
    if call.hedge:
        span.set_attribute("resilio.hedge", call.hedge)


def _blame(span: Span, error: Exception) -> None:
    """Set the type of the error on its span, and not its text, which may be confidential."""
    span.set_status(Status(StatusCode.ERROR))
    cls = type(error)
    inside = cls.__module__ in {"builtins", "resilio.errors"}
    span.set_attribute("error.type", cls.__qualname__ if inside else f"{cls.__module__}.{cls.__qualname__}")
    if isinstance(error, RejectedError):
        span.set_attribute("resilio.policy.kind", error.policy)
        span.set_attribute("resilio.reason", error.reason)
    segments = getattr(error, "resilio_segments", None)
    if segments is not None:
        span.set_attribute("resilio.segments", str(segments))
