"""prometheus-client: what most services record latencies with."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from prometheus_client import CollectorRegistry, Histogram

DISTRIBUTION = "prometheus-client"
NOTES = {"histogram_record": "its 15 default buckets"}
ABSENT = {"histogram_quantile": "has no quantiles: the server estimates them from the buckets"}


def histogram_record(seconds: Sequence[float]) -> tuple[Any, Sequence[Any]]:
    return Histogram("latency_seconds", "Latency.", registry=CollectorRegistry()).observe, seconds
