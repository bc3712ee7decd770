"""How far a histogram's quantiles are from the exact ones, and how much memory it takes for them."""

from __future__ import annotations

import random
from collections.abc import Callable, Sequence
from math import ceil
from typing import TypeAlias

import resilio
from benchmarks.micro._results import Row

__all__ = ["ABOUT", "QUANTILES", "Filler", "error_row", "fill_own", "samples"]

QUANTILES = (0.5, 0.9, 0.99, 0.999, 0.9999)
ABOUT = (
    "The largest relative error of p50, p90, p99, p99.9 and p99.99 against the exact order statistics of 100,000 values"
)
Filler: TypeAlias = Callable[[Sequence[float]], Callable[[float], float]]
"""Records seconds, and returns the function that answers a quantile in seconds."""
_MANY = 100_000


def samples() -> dict[str, list[float]]:
    """Return latencies in seconds: of a service, of a cache before a database, of everything from 1 us to 100 s."""
    random_ = random.Random(11)
    return {
        "log-normal": [random_.lognormvariate(-3.9, 0.9) for _ in range(_MANY)],
        "two modes": [
            random_.gauss(0.0005, 0.00005) if random_.random() < 0.9 else random_.gauss(0.2, 0.02) for _ in range(_MANY)
        ],
        "log-uniform": [10 ** random_.uniform(-6, 2) for _ in range(_MANY)],
    }


def fill_own(seconds: Sequence[float]) -> Callable[[float], float]:
    """Fill the library's own histogram."""
    histogram = resilio.LatencyHistogram()
    for value in seconds:
        histogram.record(value)
    return lambda quantile: float(histogram.quantile(quantile))


def error_row(subject: str, fill: Filler, target: str | None = None) -> Row:
    """Return the row of the largest error that *fill*'s histogram makes, in per cent."""
    errors = {shape: _largest_error(fill(values), values) for shape, values in samples().items()}
    worst = max(errors, key=lambda shape: errors[shape])
    return Row(subject, 100 * errors[worst], "%", note=f"worst with {worst}", target=target)


def _largest_error(quantile: Callable[[float], float], values: Sequence[float]) -> float:
    ordered = sorted(values)
    exact = [ordered[ceil(q * len(ordered)) - 1] for q in QUANTILES]
    return max(abs(quantile(q) - value) / value for q, value in zip(QUANTILES, exact, strict=True))
