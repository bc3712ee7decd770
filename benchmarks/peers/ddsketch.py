"""ddsketch: a sketch with a relative error that one chooses; 0.8 % here, as resilio's."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

from ddsketch import DDSketch

DISTRIBUTION = "ddsketch"
NOTES = dict.fromkeys(("histogram_record", "histogram_quantile"), "relative accuracy set to 0.8 %")


def histogram_record(seconds: Sequence[float]) -> tuple[Any, Sequence[Any]]:
    return DDSketch(0.008).add, seconds


def filler(seconds: Sequence[float]) -> Callable[[float], float]:
    sketch = DDSketch(0.008)
    for value in seconds:
        sketch.add(value)
    answer: Callable[[float], float] = sketch.get_quantile_value
    return answer
