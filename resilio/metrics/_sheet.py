"""
Numbers of one moment, and how those of several policies or processes become one.

A sheet is plain data: samples by instrument and label values. It goes through JSON and back, which is how worker
processes tell each other.
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
    A classic histogram: how many are at or below each bound.

    Attributes:
        bounds: In seconds, ascending, infinity last.

        counts: Cumulative.

        total: The sum of all, in seconds.
    """

    bounds: tuple[float, ...]
    counts: list[int]
    total: float

    def plus(self, other: Buckets, sign: int = 1) -> Buckets:
        """Return both together; with other bounds there is no sum, and what was added last stands alone."""
        if self.bounds != other.bounds:
            return other if sign > 0 else self
        counts = [mine + sign * theirs for mine, theirs in zip(self.counts, other.counts, strict=True)]
        return Buckets(self.bounds, counts, self.total + sign * other.total)


@attrs.define
class Sheet:
    """
    The samples of one moment.

    Attributes:
        counters: What only grows, by instrument and labels.

        gauges: What is so now.

        durations: The latencies, by kind and policy.
    """

    counters: dict[Key, float] = attrs.field(factory=dict)
    gauges: dict[Key, float] = attrs.field(factory=dict)
    durations: dict[Labels, Buckets] = attrs.field(factory=dict)

    def count(self, name: str, value: float, *labels: str) -> None:
        """Note a counter, on top of what there is of it."""
        key = (name, labels)
        self.counters[key] = self.counters.get(key, 0) + value

    def gauge(self, name: str, value: float, *labels: str) -> None:
        """Note a gauge, merged with what there is of it."""
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
        """Add what only grows of another sheet, or take it off."""
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
        """Return the same under another policy's name: where there are too many names."""
        made = Sheet()
        for (name, labels), value in self.counters.items():
            made.count(name, value, *_with(name, labels, policy))
        for (name, labels), value in self.gauges.items():
            made.gauge(name, value, *_with(name, labels, policy))
        for labels, buckets in self.durations.items():
            made.add_totals(Sheet(durations={(labels[0], policy): buckets}))
        return made

    def dump(self) -> dict[str, Any]:
        """Return it as lists for JSON: by instrument, rows of label values and what they have."""
        return {
            "counters": _rows(self.counters),
            "gauges": _rows(self.gauges),
            "durations": [[*labels, one.bounds[:-1], one.counts, one.total] for labels, one in self.durations.items()],
        }

    @classmethod
    def load(cls, data: Mapping[str, Any]) -> Sheet:
        """
        Return what :meth:`dump` made the lists of.

        Raises:
                ArithmeticError, AttributeError, LookupError, TypeError, ValueError: It was not made so.
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
    """The samples of rows that somebody else may have written."""
    found: dict[Key, float] = {}
    for name, of_one in rows.items():
        width = len(CATALOGUE[name].labels) + 1
        if not all(len(row) == width and isinstance(row[-1], (int, float)) for row in of_one):
            raise ValueError(f"a row of {name} has {width - 1} labels and a number")
        found |= {(name, tuple(map(_label, row[:-1]))): _number(row[-1]) for row in of_one}
    return found


def _number(value: Any) -> float:
    """Return a number that a page of metrics can show."""
    if type(value) not in (int, float) or not math.isfinite(value):
        raise ValueError(f"not a number that can be shown: {value!r:.80}")
    number: float = value
    return number


def _label(value: Any) -> str:
    """Return a label that a page of metrics can show: JSON can spell what UTF-8 cannot."""
    text = str(value)
    text.encode()
    return text


def _merged(name: str, known: float, value: float) -> float:
    how = CATALOGUE[name].merge
    return known + value if how == "sum" else max(known, value) if how == "max" else min(known, value)


def _with(name: str, labels: Labels, policy: str) -> Labels:
    return (labels[0], policy, *labels[2:]) if CATALOGUE[name].labels[:2] == OWN else labels
