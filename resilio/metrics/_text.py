"""
Fast writer of sheets as Prometheus text: the constant part of a line, its name and labels, is cached.

`prometheus_client` escapes and sorts every label of every line anew, ten microseconds a line; 500 policies have about
20,000 lines.
"""

from __future__ import annotations

import math

from resilio.metrics._catalogue import CATALOGUE, DURATION, Instrument
from resilio.metrics._sheet import Buckets, Key, Labels
from resilio.metrics._turns import take_turns

__all__ = ["Writer"]

MOST_KEPT = 500_000


class Writer:
    """Writer of families as text, with a cache of the beginnings of lines."""

    def __init__(self) -> None:
        """Start with an empty cache."""
        self._begins: dict[Key, str] = {}
        self._buckets: dict[tuple[Labels, tuple[float, ...]], list[str]] = {}

    def family(self, instrument: Instrument, samples: list[tuple[Key, float]]) -> str:
        """Return the lines of a counter or a gauge, HELP and TYPE first."""
        begins = self._begins
        lines = [head(instrument)]
        for key, value in samples:
            begin = begins.get(key)
            if begin is None:
                begin = self._begin(key)
            lines.append(f"{begin}{value if type(value) is int else number(value)}\n")
        return "".join(lines)

    def durations(self, samples: dict[Labels, Buckets]) -> str:
        """Return the lines of the duration histogram."""
        lines = [head(DURATION)]
        for at, (labels, buckets) in enumerate(samples.items()):
            take_turns(at)
            begins = self._buckets.get((labels, buckets.bounds))
            if begins is None:
                begins = self._bucket_begins(labels, buckets.bounds)
            values = [*map(str, buckets.counts), str(buckets.counts[-1]), number(buckets.total)]
            lines += [f"{begin}{value}\n" for begin, value in zip(begins, values, strict=True)]
        return "".join(lines)

    def _begin(self, key: Key) -> str:
        if len(self._begins) >= MOST_KEPT:
            self._begins.clear()
        instrument = CATALOGUE[key[0]]
        begin = f"{full_name(instrument)}{_labels(instrument.labels, key[1])} "
        self._begins[key] = begin
        return begin

    def _bucket_begins(self, labels: Labels, bounds: tuple[float, ...]) -> list[str]:
        if len(self._buckets) >= MOST_KEPT:
            self._buckets.clear()
        name, names = DURATION.prometheus, DURATION.labels
        begins = [f"{name}_bucket{_labels((*names, 'le'), (*labels, bound_name(bound)))} " for bound in bounds]
        begins += [f"{name}_{part}{_labels(names, labels)} " for part in ("count", "sum")]
        self._buckets[labels, bounds] = begins
        return begins


def full_name(instrument: Instrument) -> str:
    """Return the name of its samples; a counter's ends in `_total`."""
    return instrument.prometheus + ("_total" if instrument.type == "counter" else "")


def head(instrument: Instrument) -> str:
    """Return the HELP and TYPE lines of a family."""
    name = full_name(instrument)
    return f"# HELP {name} {instrument.text}\n# TYPE {name} {instrument.type}\n"


def bound_name(bound: float) -> str:
    """Return the value of the label `le`."""
    return "+Inf" if bound == math.inf else repr(bound)


def number(value: float) -> str:
    """Return a value as the text format spells it."""
    if math.isfinite(value):
        return repr(value)
    return "NaN" if math.isnan(value) else "+Inf" if value > 0 else "-Inf"


def _labels(names: Labels, values: Labels) -> str:
    if not names:
        return ""
    pairs = ",".join(f'{name}="{_escaped(value)}"' for name, value in zip(names, values, strict=True))
    return "{" + pairs + "}"


def _escaped(value: str) -> str:
    escaped = value.replace("\\", r"\\").replace("\n", r"\n").replace('"', r"\"")
    return escaped.encode("utf-8", "replace").decode()  # a lone surrogate must not fail every scrape
