"""Slices of load that take turns, bare and guarded, and what they say: shared by all that is measured over sockets."""

from __future__ import annotations

import random
import statistics
from collections.abc import Mapping, Sequence
from typing import NamedTuple, TypeAlias

from resilio.bench._results import Row

__all__ = ["Pairs", "Slice", "lost", "rows"]

RESAMPLES = 2000


class Slice(NamedTuple):
    """What one slice has measured: requests in a second, and microseconds of processor time for each."""

    per_second: float
    cpu_us: float


Pairs: TypeAlias = Sequence[tuple[Slice, Slice]]
"""Neighbouring slices: the bare one, the guarded one."""


def lost(ratios: Sequence[float]) -> str:
    """What is lost by the median ratio, in per cent, with its limits."""
    median, low, high = (100 * (ratio - 1) for ratio in _limits(ratios))
    return f"{median:+.2f} % ({low:+.2f} to {high:+.2f})"


def rows(subject: str, guarded: Mapping[str, Pairs], target: str | None = None) -> list[Row]:
    """
    Return the rows of the report for one client or server: the bare rate, and what each guard takes of it.

    Args:
        subject: What was measured.

        guarded: Pairs of slices by guard.

        target: What the first of them is held against.
    """
    bare = statistics.median(bare.per_second for pairs in guarded.values() for bare, _ in pairs)
    made = [Row(f"{subject}, bare", bare, "requests/s")]
    for guard, pairs in guarded.items():
        median, low, high = (
            100 * (1 - ratio) for ratio in _limits([two.per_second / one.per_second for one, two in pairs])
        )
        made.append(Row(f"{subject}, {guard}", median, "%", high, low, target=target))
        target = None
    return made


def _limits(ratios: Sequence[float]) -> tuple[float, float, float]:
    """Return the median, and the limits of 95 % from resampling it."""
    draw = random.Random(1)
    medians = sorted(statistics.median(draw.choices(ratios, k=len(ratios))) for _ in range(RESAMPLES))
    return statistics.median(ratios), medians[int(0.025 * RESAMPLES)], medians[int(0.975 * RESAMPLES)]
