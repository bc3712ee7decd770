"""
Numbers of one moment, and how to merge those of several policies or processes.

A sheet is plain data: samples by instrument and label values. Worker processes exchange sheets as JSON.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

import attrs

from resilio.metrics._catalogue import CATALOGUE, OWN

__all__ = ["Buckets", "Key", "Labels", "Sheet"]

Labels = tuple[str, ...]
Key = tuple[str, Labels]
"""An instrument's name and the values of its labels."""


@attrs.define
class Buckets:
    """
    A classic histogram: the number of latencies at or below each bound.

    Attributes:
        bounds: In seconds, ascending, infinity last.

        counts: Cumulative counts, one for each bound.

        total: Sum of all latencies, in seconds.
    """

    bounds: tuple[float, ...]
    counts: list[int]
    total: float

    def plus(self, other: Buckets, sign: int = 1) -> Buckets:
        """Return the sum, or with sign -1 the difference; if the bounds differ, the newer histogram alone."""
        if self.bounds != other.bounds:
            return other if sign > 0 else self
        counts = [mine + sign * theirs for mine, theirs in zip(self.counts, other.counts, strict=True)]
        return Buckets(self.bounds, counts, self.total + sign * other.total)


@attrs.define
class Sheet:
    """
    The samples of one moment.

    Attributes:
        counters: Values that only grow, by instrument and labels.

        gauges: Current values, by instrument and labels.

        durations: Latencies, by kind and policy.
    """

    counters: dict[Key, float] = attrs.field(factory=dict)
    gauges: dict[Key, float] = attrs.field(factory=dict)
    durations: dict[Labels, Buckets] = attrs.field(factory=dict)

    def count(self, name: str, value: float, *labels: str) -> None:
        """Add to a counter."""
        key = (name, labels)
        self.counters[key] = self.counters.get(key, 0) + value

    def gauge(self, name: str, value: float, *labels: str) -> None:
        """Set a gauge, merged with its present value."""
        key = (name, labels)
        known = self.gauges.get(key)
        self.gauges[key] = value if known is None else _merged(name, known, value)

    def add(self, other: Sheet) -> None:
        """Add all of another sheet."""
        self.add_totals(other)
        if self.gauges.keys().isdisjoint(other.gauges):
            self.gauges.update(other.gauges)
            return
        for (name, labels), value in other.gauges.items():
            self.gauge(name, value, *labels)

    def add_totals(self, other: Sheet, sign: int = 1) -> None:
        """Add the counters and durations of another sheet, or subtract them."""
        counters = self.counters
        if sign > 0 and counters.keys().isdisjoint(other.counters):  # most policies have a name of their own
            counters.update(other.counters)
        else:
            for key, value in other.counters.items():
                counters[key] = counters.get(key, 0) + sign * value
        for labels, buckets in other.durations.items():
            known = self.durations.get(labels)
            self.durations[labels] = buckets if known is None else known.plus(buckets, sign)

    def renamed(self, policy: str) -> Sheet:
        """Return the same numbers under another policy's name, such as "other"."""
        made = Sheet()
        for (name, labels), value in self.counters.items():
            made.count(name, value, *_with(name, labels, policy))
        for (name, labels), value in self.gauges.items():
            made.gauge(name, value, *_with(name, labels, policy))
        for labels, buckets in self.durations.items():
            made.add_totals(Sheet(durations={(labels[0], policy): buckets}))
        return made

    def dump(self) -> dict[str, Any]:
        """Return it as lists for JSON: by instrument, rows of label values and a number."""
        return {
            "counters": _rows(self.counters),
            "gauges": _rows(self.gauges),
            "durations": [[*labels, one.bounds[:-1], one.counts, one.total] for labels, one in self.durations.items()],
        }

    @classmethod
    def load(cls, data: Mapping[str, Any]) -> Sheet:
        """
        Return the sheet that :meth:`dump` wrote.

        Raises:
                ArithmeticError, AttributeError, LookupError, TypeError, ValueError: The data has another form.
        """
        sheet = cls(_samples(data["counters"]), _samples(data["gauges"]))
        for kind, policy, bounds, counts, total in data["durations"]:
            known = (*map(_number, bounds), float("inf"))
            if len(known) != len(counts):
                raise ValueError("a histogram has as many counts as bounds")
            read = Buckets(known, [int(_number(count)) for count in counts], _number(total))
            sheet.durations[_label(kind), _label(policy)] = read
        return sheet


def _rows(samples: Mapping[Key, float]) -> dict[str, list[list[Any]]]:
    rows: dict[str, list[list[Any]]] = {}
    for (name, labels), value in samples.items():
        rows.setdefault(name, []).append([*labels, value])
    return rows


def _samples(rows: Mapping[str, list[list[Any]]]) -> dict[Key, float]:
    """Return the samples of rows, checked, since another program may have written them."""
    found: dict[Key, float] = {}
    for name, of_one in rows.items():
        width = len(CATALOGUE[name].labels) + 1
        if not all(len(row) == width and isinstance(row[-1], (int, float)) for row in of_one):
            raise ValueError(f"a row of {name} has {width - 1} labels and a number")
        found |= {(name, tuple(map(_label, row[:-1]))): _number(row[-1]) for row in of_one}
    return found


def _number(value: Any) -> float:
    """Return a finite number, or raise ValueError."""
    if type(value) not in (int, float) or not math.isfinite(value):
        raise ValueError(f"not a number that can be shown: {value!r:.80}")
    number: float = value
    return number


def _label(value: Any) -> str:
    """Return a label that UTF-8 can encode, or raise ValueError: JSON can contain lone surrogates."""
    text = str(value)
    text.encode()
    return text


def _merged(name: str, known: float, value: float) -> float:
    how = CATALOGUE[name].merge
    return known + value if how == "sum" else max(known, value) if how == "max" else min(known, value)


def _with(name: str, labels: Labels, policy: str) -> Labels:
    return (labels[0], policy, *labels[2:]) if CATALOGUE[name].labels[:2] == OWN else labels
