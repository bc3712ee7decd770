"""hdrhistogram: HdrHistogram with its counts in ctypes; two significant digits are about resilio's accuracy."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

from hdrh.histogram import HdrHistogram

DISTRIBUTION = "hdrhistogram"
NOTES = dict.fromkeys(("histogram_record", "histogram_quantile"), "microseconds as int, up to an hour, two digits")


def _histogram() -> Any:
    return HdrHistogram(1, 3_600_000_000, 2)


def _microseconds(seconds: Sequence[float]) -> list[int]:
    return [max(1, round(value * 1e6)) for value in seconds]


def histogram_record(seconds: Sequence[float]) -> tuple[Any, Sequence[Any]]:
    return _histogram().record_value, _microseconds(seconds)


def filler(seconds: Sequence[float]) -> Callable[[float], float]:
    histogram = _histogram()
    for value in _microseconds(seconds):
        histogram.record_value(value)
    return lambda quantile: float(histogram.get_value_at_percentile(100 * quantile)) / 1e6
