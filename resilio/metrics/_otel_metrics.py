"""Observable instruments of OpenTelemetry: each collection reads the policies once for all of them."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from functools import partial
from threading import Lock
from typing import Any

from opentelemetry.metrics import CallbackOptions, Meter, Observation

from resilio.metrics import _trouble
from resilio.metrics._book import Book
from resilio.metrics._catalogue import CATALOGUE, DURATION, Instrument
from resilio.metrics._fork import after_fork
from resilio.metrics._sheet import Buckets, Labels, Sheet

__all__ = ["FINE", "Instruments", "quantile"]

FINE = tuple(1e-6 * 1.1**step for step in range(230))
"""Bounds from 1 us to 50 min, 10 % apart, from which quantiles are computed."""

ATTRIBUTES = {"kind": "resilio.policy.kind", "policy": "resilio.policy.name"}
Observe = Callable[[CallbackOptions], Iterable[Observation]]


class _Reading:
    """A sheet, grouped by instrument."""

    def __init__(self, sheet: Sheet) -> None:
        self.durations = sheet.durations
        self.samples: dict[str, list[tuple[Labels, float]]] = {}
        for (name, labels), value in (*sheet.counters.items(), *sheet.gauges.items()):
            self.samples.setdefault(name, []).append((labels, value))


class Instruments:
    """
    The instruments of a meter. OpenTelemetry cannot unregister them: once stopped, they observe nothing.

    Args:
        meter: The meter.

        book: Reads the policies, with bounds that contain `FINE` and `bounds`.

        quantiles: Quantiles of the latencies since the previous collection, as gauges.

        bounds: Bounds of cumulative buckets, as counters; empty: no such counters.
    """

    def __init__(self, meter: Meter, book: Book, quantiles: Sequence[float], bounds: Sequence[float]) -> None:
        """Create all instruments; nothing is read before a collection."""
        self._book = book
        self._quantiles = tuple(quantiles)
        self._bounds = tuple(bounds)
        self._reading: _Reading | None = None
        self._asked: set[str] = set()
        self._before: dict[Labels, Buckets] = {}
        self._lock = Lock()
        self._stopped = False
        after_fork(self)
        for instrument in CATALOGUE.values():
            self._create(meter, instrument)

    def stop(self) -> None:
        """Stop observing."""
        self._stopped = True

    def forked(self) -> None:
        """Renew the lock in a forked child, where a thread of the parent may have held it."""
        self._lock = Lock()

    def _create(self, meter: Meter, instrument: Instrument) -> None:
        make = meter.create_observable_up_down_counter
        if instrument is DURATION:
            self._create_durations(meter)
            return
        if instrument.type == "counter":
            make = meter.create_observable_counter  # type: ignore[assignment]
        elif instrument.merge != "sum":
            make = meter.create_observable_gauge  # type: ignore[assignment]
        observe = self._safely(instrument.name, partial(self._samples, instrument))
        make(instrument.otel, [observe], instrument.unit, instrument.text)

    def _create_durations(self, meter: Meter) -> None:
        name, text = DURATION.otel, DURATION.text
        totals = {"count": ("{call}", 0), "sum": ("s", 1)}
        for part, (unit, which) in totals.items():
            observe = self._safely(part, partial(self._totals, which))
            meter.create_observable_counter(f"{name}.{part}", [observe], unit, f"{text}: {part}")
        if self._quantiles:
            observe = self._safely("quantile", self._observed_quantiles)
            meter.create_observable_gauge(f"{name}.quantile", [observe], "s", f"{text} since the collection before")
        if self._bounds:
            observe = self._safely("bucket", self._buckets)
            meter.create_observable_counter(f"{name}.bucket", [observe], "{call}", f"{text}: at or below a bound")

    def _safely(self, name: str, samples: Callable[[_Reading], Iterator[Observation]]) -> Observe:
        """Return an instrument's callback; an error loses its observations alone, and is counted."""

        def observe(options: CallbackOptions) -> list[Observation]:  # noqa: ARG001
            if self._stopped:
                return []
            try:
                return list(samples(self._read(name)))
            except Exception as error:  # noqa: BLE001 - the other instruments are still observed
                _trouble.happened("reading the numbers for OpenTelemetry", error)
                return []

        return observe

    def _read(self, name: str) -> _Reading:
        """Return a reading shared by all instruments; an instrument's second request begins the next collection."""
        with self._lock:
            if self._reading is None or name in self._asked:
                self._reading = _Reading(self._book.read())
                self._asked = set()
            self._asked.add(name)
            return self._reading

    def _samples(self, instrument: Instrument, reading: _Reading) -> Iterator[Observation]:
        for labels, value in reading.samples.get(instrument.name, ()):
            yield Observation(value, attributes(instrument.labels, labels))

    def _totals(self, which: int, reading: _Reading) -> Iterator[Observation]:
        for labels, buckets in reading.durations.items():
            yield Observation((buckets.counts[-1], buckets.total)[which], attributes(DURATION.labels, labels))

    def _observed_quantiles(self, reading: _Reading) -> Iterator[Observation]:
        before, self._before = self._before, reading.durations
        for labels, buckets in reading.durations.items():
            known = before.get(labels)
            recent = buckets if known is None else buckets.plus(known, -1)
            for q in self._quantiles if recent.counts[-1] > 0 else ():
                yield Observation(quantile(recent, q), attributes(DURATION.labels, labels, quantile=q))

    def _buckets(self, reading: _Reading) -> Iterator[Observation]:
        for labels, buckets in reading.durations.items():
            counts = dict(zip(buckets.bounds, buckets.counts, strict=True))
            for bound in self._bounds:
                yield Observation(counts[bound], attributes(DURATION.labels, labels, le=bound))


def quantile(buckets: Buckets, q: float) -> float:
    """
    Return a quantile in seconds, interpolated linearly between the bounds around it.

    Args:
        buckets: A histogram of at least one latency.

        q: From 0 to 1.
    """
    rank, low, below = q * buckets.counts[-1], 0.0, 0
    for bound, count in zip(buckets.bounds[:-1], buckets.counts, strict=False):
        if count >= rank and count > below:
            return low + (bound - low) * max(0.0, rank - below) / (count - below)
        low, below = bound, count
    return low


def attributes(names: Sequence[str], values: Labels, **more: float) -> dict[str, Any]:
    """Return labels as attributes in the namespace `resilio`."""
    named: dict[str, Any] = {
        ATTRIBUTES.get(name, f"resilio.{name}"): value for name, value in zip(names, values, strict=True)
    }
    return named | {f"resilio.{name}": value for name, value in more.items()}
