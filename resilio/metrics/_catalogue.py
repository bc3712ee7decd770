"""
Catalogue of all exported numbers: name, meaning, labels, and how policies of one name are merged.

`resilio.metrics.prometheus` and `resilio.metrics.otel` both read this list, so both export the same numbers.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Literal

import attrs

__all__ = ["CATALOGUE", "DURATION", "Instrument"]

OWN = ("kind", "policy")
Merge = Literal["sum", "max", "min"]


@attrs.frozen
class Instrument:
    """
    One number of every policy.

    Attributes:
        name: Name of the Prometheus metric, without the prefix and without `_total`.

        type: "counter", "gauge" or "histogram".

        text: Meaning, in one line.

        labels: Names of the labels, in the order of their values.

        unit: Unit, as OpenTelemetry spells it.

        merge: How to merge gauges of policies with one kind and name, and of several processes.
    """

    name: str
    type: Literal["counter", "gauge", "histogram"]
    text: str
    labels: tuple[str, ...]
    unit: str
    merge: Merge = "sum"

    @property
    def prometheus(self) -> str:
        """Name of the Prometheus family, without `_total`."""
        return f"resilio_{self.name}"

    @property
    def otel(self) -> str:
        """Name of the OpenTelemetry instrument, which does not contain the unit."""
        return f"resilio.{self.name.removesuffix('_seconds')}"


def _counter(name: str, text: str, *labels: str, unit: str = "1", own: Iterable[str] = OWN) -> Instrument:
    return Instrument(name, "counter", text, (*own, *labels), unit)


def _gauge(name: str, text: str, *labels: str, unit: str = "1", merge: Merge = "sum") -> Instrument:
    return Instrument(name, "gauge", text, (*OWN, *labels), unit, merge)


DURATION = Instrument("call_duration_seconds", "histogram", "Latency of successes and failures", OWN, "s")

_ALL = (
    _gauge("policies", "Policies of this kind and name", unit="{policy}"),
    _counter("calls", "Calls by how they ended", "outcome", unit="{call}"),
    _counter("rejected", "Calls rejected, by reason", "reason", unit="{call}"),
    _counter("would_reject", "Calls that enforcement would have rejected", unit="{call}"),
    _counter("would_wait", "Calls that enforcement would have queued", unit="{call}"),
    _counter("abandoned", "Streams and bodies that were dropped unread", unit="{call}"),
    _counter("refused", "Calls that a server refused and did nothing for, as by a 429", unit="{call}"),
    _counter("call_seconds", "Time of calls by where it went", "segment", unit="s"),
    _counter("waited_seconds", "Time that calls have waited to be admitted", unit="s"),
    _gauge("inflight", "Calls admitted and not yet ended", unit="{call}"),
    _gauge("queued", "Calls that wait to be admitted", unit="{call}"),
    _gauge("queue_limit", "Calls that may wait", unit="{call}"),
    _gauge("limit", "What inflight is held under", unit="{call}"),
    _gauge("permits_used", "Permits taken: the weights of the calls that hold some", unit="{permit}"),
    _gauge("state", "Policies in this state", "state", unit="{policy}"),
    _counter("state_changes", "Changes of state, by the new one", "state", unit="{change}"),
    _gauge("window_calls", "Outcomes in a breaker's window", unit="{call}"),
    _gauge("window_failures", "Failures in a breaker's window", unit="{call}"),
    _gauge("window_slow", "Slow calls in a breaker's window", unit="{call}"),
    _gauge("consecutive_failures", "Failures since the last success", unit="{call}", merge="max"),
    _gauge("admitted_share", "Of the calls made now, those that a breaker lets pass", merge="min"),
    _gauge("retry_after_seconds", "Until an open breaker lets a probe pass", unit="s", merge="max"),
    _gauge("open_seconds", "The present or last open time before jitter; 0 if it never opened", unit="s", merge="max"),
    _gauge("probes", "Probes under way", unit="{call}"),
    _gauge("overdue", "Calls under way for so long that they count as failures", unit="{call}"),
    _counter("probes_lapsed", "Probes that did not end within their lease", unit="{call}"),
    _counter("stale_results", "Results dropped because the state had changed since", unit="{call}"),
    _gauge("tokens", "Tokens there now; below zero: a debt", "unit", unit="{token}"),
    _counter("cost", "What calls have cost, by what it was for", "model", "part", "unit", unit="{money}"),
    _gauge("spend_limit", "The money of a period, or the burst", "unit", unit="{money}", merge="max"),
    _gauge("spend_used", "What is spent of it, reservations included", "unit", unit="{money}"),
    _gauge("spend_reserved", "What calls in flight have reserved", "unit", unit="{money}"),
    _gauge("spend_at_risk", "By how much they can still cost more; infinity: unknown", "unit", unit="{money}"),
    _gauge("spend_resets_seconds", "Until the next period, in whole minutes", unit="s", merge="max"),
    _gauge("learned_limit", "The limit that was learned", unit="{call}"),
    _gauge("baseline_seconds", "What a call takes where none waits", unit="s", merge="max"),
    _gauge("passing", "Calls under way that enforcement would have rejected", unit="{call}"),
    _counter(
        "rejected_by_priority",
        "Calls that a load shedder rejected, by their priority",
        "priority",
        "reason",
        unit="{call}",
    ),
    _gauge("rejected_share", "Of the last 500 or so arrivals, those rejected", merge="max"),
    _gauge("service_seconds", "How long a call holds its permit", "statistic", unit="s", merge="max"),
    _counter("retries", "Attempts after the first", unit="{attempt}"),
    _counter("retry_stopped", "Failed calls that were not tried again, by the reason", "reason", unit="{call}"),
    _gauge("retry_budget", "Tokens that pay for retries now", unit="{token}"),
    _gauge("retry_budget_limit", "The most that a budget can save", unit="{token}"),
    _counter("retry_budget_events", "What went into and out of a budget", "event", unit="{event}"),
    _counter("hedges", "Copies started", unit="{attempt}"),
    _counter("hedge_wins", "Copies whose result was the call's", unit="{attempt}"),
    _counter("hedges_rejected", "Copies that a budget or a gate rejected", unit="{attempt}"),
    _counter("hedges_due", "What became of copies that were due", "answer", unit="{attempt}"),
    _gauge("hedge_delay_seconds", "What the primary is given now", unit="s", merge="max"),
    _counter("timeouts", "Calls whose time was up, by the clock", "clock", unit="{call}"),
    _gauge("timeout_seconds", "What a call is given now", unit="s", merge="max"),
    _gauge("timeout_threads", "Threads at work for calls whose time was up", unit="{thread}"),
    _counter("fallbacks", "What a fallback did when the primary had failed", "result", unit="{call}"),
    _counter("fallback_targets", "Calls of a fallback's targets", "target", "outcome", unit="{call}"),
    _gauge("fallback_resting", "Targets that are tried last, because they failed of late", "target", unit="{target}"),
    _gauge("endpoint_state", "Endpoints of a pool in this state", "endpoint", "state", unit="{endpoint}"),
    _counter("endpoint_calls", "Calls that a pool sent to an endpoint", "endpoint", "outcome", unit="{call}"),
    _gauge("endpoint_inflight", "Calls under way at an endpoint", "endpoint", unit="{call}"),
    _gauge("endpoint_share", "Of the calls for an endpoint, those that its breaker lets pass", "endpoint", merge="min"),
    _gauge("endpoint_latency_seconds", "Peak average of an endpoint's latency", "endpoint", unit="s", merge="max"),
    _gauge(
        "endpoint_price_seconds", "Price of one more call: the lower one is taken", "endpoint", unit="s", merge="max"
    ),
    _counter("affinity_calls", "Calls with a key that a pool sent to its own or another endpoint", "to", unit="{call}"),
    _gauge("level_share", "Share of a pool's calls that this level gets", "level", merge="max"),
    _gauge("shared_peers", "Processes of the host that share it and live", unit="{process}", merge="max"),
    _gauge("shared_degraded", "1 if it is not shared for now, by the reason", "reason", merge="max"),
    _gauge("shared_state", "1: the state of all processes of the host", "state", merge="max"),
    _gauge("shared_window_calls", "Outcomes in a breaker's windows, of all", unit="{call}", merge="max"),
    _gauge("shared_window_failures", "Failures in them, of all", unit="{call}", merge="max"),
    _gauge("shared_limit", "What their calls together are held under", unit="{call}", merge="max"),
    _gauge("shared_learned_limit", "The limit that they have learned", unit="{call}", merge="max"),
    _gauge("shared_permits_used", "Permits taken by all of them", unit="{permit}", merge="max"),
    _gauge("shared_tokens", "Tokens there now for all of them", "unit", unit="{token}", merge="max"),
    _gauge("shared_age_seconds", "Whole seconds since the latest answer of a fleet's store", unit="s", merge="max"),
    _gauge("shared_outstanding", "Tokens or permits here on lease from a fleet, unspent", merge="max"),
    _gauge("shared_regime", "1: how a limit or a bulkhead takes from its fleet", "regime", merge="max"),
    _counter("shared_trips", "Exchanges with a fleet's store, of its courier", unit="{exchange}"),
    _counter("shared_trips_lost", "Exchanges that had no answer", unit="{exchange}"),
    _gauge("keys", "Keys that a keyed policy has policies for", unit="{key}"),
    _gauge("keys_limit", "Keys that it may have", unit="{key}"),
    _counter("keys_evicted", "Keys forgotten because their policy was as new", unit="{key}"),
    _counter("keys_overflowed", "Look-ups for which there was no room", unit="{call}"),
    _counter("keyless", "Calls that had no key", unit="{call}"),
    _counter("function_errors", "Exceptions of functions given as options", "function", unit="{error}"),
    _counter("changes_lost", "State changes that were not reported: too many at once", unit="{change}"),
    _counter("listener_errors", "Exceptions that event listeners have raised", unit="{error}", own=()),
    _counter("ignored_headers", "Headers of strangers that made no sense", "header", "reason", unit="{header}", own=()),
    _counter("exporter_errors", "Failures of exporters, the file system's included", unit="{error}", own=()),
    Instrument("disabled", "gauge", "1 if calls run without policies: RESILIO_DISABLED is set", (), "1", "max"),
    DURATION,
)

CATALOGUE: dict[str, Instrument] = {one.name: one for one in _ALL}
"""All instruments by name, in the order in which they are exported."""
