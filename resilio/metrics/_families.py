"""Sheets as families of prometheus_client, whose samples are made only if another writer than ours reads them."""

from __future__ import annotations

from collections.abc import Iterator
from functools import cached_property
from typing import Any

from prometheus_client.metrics_core import Metric
from prometheus_client.samples import Sample

from resilio.metrics._catalogue import CATALOGUE, DURATION, Instrument
from resilio.metrics._sheet import Buckets, Key, Labels, Sheet
from resilio.metrics._text import Writer, bound_name, full_name

__all__ = ["Family", "families"]


class Family(Metric):
    """A metric family that renders its own text."""

    def __init__(self, instrument: Instrument, writer: Writer) -> None:
        """Start without samples."""
        super().__init__(instrument.prometheus, instrument.text, instrument.type)
        self._instrument = instrument
        self._writer = writer
        self._values: list[tuple[Key, float]] = []
        self._durations: dict[Labels, Buckets] = {}
        del self.samples  # so that the property of that name is used

    @cached_property
    def samples(self) -> list[Any]:  # type: ignore[override]
        """Samples in prometheus_client's form."""
        if self._instrument is DURATION:
            return [sample for labels, buckets in self._durations.items() for sample in _histogram(labels, buckets)]
        name, names = full_name(self._instrument), self._instrument.labels
        return [
            Sample(name, dict(zip(names, _clean(labels), strict=True)), value) for (_, labels), value in self._values
        ]

    def text(self) -> str:
        """Return the family in the text format."""
        if self._instrument is DURATION:
            return self._writer.durations(self._durations)
        return self._writer.family(self._instrument, self._values)


def families(sheet: Sheet, writer: Writer) -> Iterator[Family]:
    """Yield every family of the catalogue, with the sheet's samples."""
    made = {name: Family(instrument, writer) for name, instrument in CATALOGUE.items()}
    for samples in (sheet.counters, sheet.gauges):
        for sample in samples.items():
            made[sample[0][0]]._values.append(sample)
    made[DURATION.name]._durations = sheet.durations
    yield from made.values()


def _clean(labels: Labels) -> Iterator[str]:
    """Yield label values that UTF-8 can encode: a lone surrogate must not fail every scrape."""
    return (label if label.isascii() else label.encode("utf-8", "replace").decode() for label in labels)


def _histogram(labels: Labels, buckets: Buckets) -> Iterator[Sample]:
    name, own = DURATION.prometheus, dict(zip(DURATION.labels, _clean(labels), strict=True))
    for bound, count in zip(buckets.bounds, buckets.counts, strict=True):
        yield Sample(f"{name}_bucket", own | {"le": bound_name(bound)}, count)
    yield Sample(f"{name}_count", own, buckets.counts[-1])
    yield Sample(f"{name}_sum", own, buckets.total)
