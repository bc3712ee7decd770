"""
The stream that Hystrix dashboards and Turbine read: one JSON object for each policy and reading.

Counts are those of the last ten seconds. `latencyTotal` is `latencyExecute`: the wait for a permit is not in it.
Source: the fields of hystrix-metrics-event-stream (SerialHystrixDashboardData).
"""

from __future__ import annotations

import time
import weakref
from collections import deque
from typing import TYPE_CHECKING, Any

from resilio.live._hub import encode
from resilio.live._sampler import pause

if TYPE_CHECKING:
    from collections.abc import Iterable

    from resilio._policy import Policy
    from resilio.live._rows import Row
    from resilio.live._sampler import Sampler

__all__ = ["Hystrix"]

WINDOW = 10.0
"""Seconds that counts are of."""

_PERCENTILES = ("0", "25", "50", "75", "90", "95", "99", "99.5", "100")
_COUNTED = ("successes", "failures", "rejected", "ignored")
_OPEN = frozenset({"open", "half_open", "forced_open"})
_NEVER = dict.fromkeys(
    (
        "rollingCountCollapsedRequests",
        "rollingCountEmit",
        "rollingCountFallbackEmit",
        "rollingCountFallbackFailure",
        "rollingCountFallbackMissing",
        "rollingCountFallbackRejection",
        "rollingCountFallbackSuccess",
        "rollingCountResponsesFromCache",
        "rollingCountThreadPoolRejected",
        "rollingCountTimeout",
    ),
    0,
)
"""Counted by Hystrix and not by us, or as something else: a timeout is a failure."""


class Hystrix:
    """
    Gives the frames of one reading.

    Args:
        sampler: Has read.

        interval: Seconds between two readings.
    """

    def __init__(self, sampler: Sampler, interval: float) -> None:
        self._sampler = sampler
        self._length = max(2, round(WINDOW / interval) + 1)
        self._seen: weakref.WeakKeyDictionary[Policy[Any], deque[tuple[int, ...]]] = weakref.WeakKeyDictionary()

    def __call__(self) -> bytes:
        """Return the frames of all policies, as last read."""
        now_ms = round(1000 * time.time())  # wall clock: dashboards show it
        found, shared = [], _shared(self._sampler.rows)
        for number, row in enumerate(self._sampler.rows, 1):
            policy = row.policy
            if policy is not None and "calls" in row.fields:
                found.append(b"data: " + encode(self._command(row, policy, shared, now_ms)) + b"\n\n")
            pause(number)
        return b"".join(found)

    def _command(self, row: Row, policy: Policy[Any], shared: frozenset[str], now_ms: int) -> dict[str, Any]:
        fields = row.fields
        successes, failures, rejected, ignored = self._rolling(policy, fields)
        total, bad = successes + failures + rejected, failures + rejected
        shorted = policy.kind == "circuit_breaker"
        return {
            "type": "HystrixCommand",
            "name": f"{policy.kind}:{fields['name']}" if fields["name"] in shared else fields["name"],
            "group": policy.kind,
            "currentTime": now_ms,
            "isCircuitBreakerOpen": fields["state"] in _OPEN if isinstance(fields["state"], str) else False,
            "errorPercentage": round(100 * bad / total) if total else 0,
            "errorCount": bad,
            "requestCount": total,
            "rollingCountBadRequests": ignored,
            "rollingCountExceptionsThrown": failures,
            "rollingCountFailure": failures,
            "rollingCountSuccess": successes,
            "rollingCountShortCircuited": rejected if shorted else 0,
            "rollingCountSemaphoreRejected": 0 if shorted else rejected,
            **_NEVER,
            "currentConcurrentExecutionCount": fields["inflight"],
            "rollingMaxConcurrentExecutionCount": fields["inflight"],
            **_latencies(row),
            **_properties(policy, fields),
            "reportingHosts": 1,
            "threadPool": policy.kind,
        }

    def _rolling(self, policy: Policy[Any], fields: dict[str, Any]) -> tuple[int, ...]:
        """What was counted in the window, or since we began to look."""
        seen = self._seen.setdefault(policy, deque(maxlen=self._length))
        seen.append(tuple(fields[name] for name in _COUNTED))
        return tuple(now - before for now, before in zip(seen[-1], seen[0], strict=True))


def _shared(rows: Iterable[Row]) -> frozenset[str]:
    """Return the names that policies of several kinds have: a dashboard would take those for one command."""
    kinds: dict[str, set[str]] = {}
    for row in rows:
        policy = row.policy
        if policy is not None and policy._given is not None:
            kinds.setdefault(policy._given, set()).add(policy.kind)
    return frozenset(name for name, those in kinds.items() if len(those) > 1)


def _latencies(row: Row) -> dict[str, Any]:
    """Of the last interval, in whole milliseconds; zeros if nothing ended in it."""
    latency = row.latency
    some = latency is not None and latency.count > 0
    shares = [float(name) / 100 for name in _PERCENTILES]
    values = latency.quantiles(shares) if latency is not None and some else [0.0] * len(shares)
    each = {name: round(1000 * value) for name, value in zip(_PERCENTILES, values, strict=True)}
    mean = round(1000 * latency.mean) if latency is not None and some else 0
    return {
        "latencyExecute_mean": mean,
        "latencyExecute": each,
        "latencyTotal_mean": mean,
        "latencyTotal": each,
    }


def _properties(policy: Policy[Any], fields: dict[str, Any]) -> dict[str, Any]:
    config, state = policy.config, fields["state"]
    rate = getattr(config, "failure_rate", 0.0)
    values = {
        "circuitBreakerRequestVolumeThreshold": getattr(config, "min_calls", 0),
        "circuitBreakerSleepWindowInMilliseconds": round(1000 * getattr(config, "open_for", 0)),
        "circuitBreakerErrorThresholdPercentage": 100 if rate is None else round(100 * rate),
        "circuitBreakerForceOpen": state == "forced_open",
        "circuitBreakerForceClosed": state == "forced_closed",
        "circuitBreakerEnabled": state != "disabled",
        "executionIsolationStrategy": "SEMAPHORE",
        "executionIsolationThreadTimeoutInMilliseconds": 0,
        "executionTimeoutInMilliseconds": 0,
        "executionIsolationThreadInterruptOnTimeout": False,
        "executionIsolationThreadPoolKeyOverride": None,
        "executionIsolationSemaphoreMaxConcurrentRequests": fields["limit"] or 0,
        "fallbackIsolationSemaphoreMaxConcurrentRequests": 0,
        "metricsRollingStatisticalWindowInMilliseconds": round(1000 * WINDOW),
        "requestCacheEnabled": False,
        "requestLogEnabled": False,
    }
    return {f"propertyValue_{name}": value for name, value in values.items()}
