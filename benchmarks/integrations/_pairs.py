"""
Slices of load that take turns, bare and guarded, and what they say: shared by all that is measured over sockets.

What is lost is told by processor time: where client and server are processes of their own, the one that is measured
serves so many requests in a second of it. The same by the clock on the wall stands below; it has in it what the other
process, the kernel and the neighbours on the machine do. What is bare, and measured once more as if it were guarded,
says how far a figure can be believed.
"""

from __future__ import annotations

import random
import statistics
from collections.abc import Mapping, Sequence
from typing import NamedTuple, TypeAlias

from benchmarks.micro._results import Row

__all__ = ["AGAIN", "EMPTY", "Pairs", "Slice", "lost", "rows"]

AGAIN = "bare again"
"""What is bare on both sides: the control."""
EMPTY = "one that does nothing"
"""A middleware or an interceptor that only awaits what is inside: what the client or the server takes for its hook."""
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


def rows(
    subject: str,
    guarded: Mapping[str, Pairs],
    target: str | None = None,
    *,
    beside_empty: Mapping[str, str | None] | None = None,
) -> list[Row]:
    """
    Return the rows of the report for one client or server: the bare rate, and what each guard takes of it, in per cent.

    Args:
        subject: What was measured.

        guarded: Pairs of slices by guard.

        target: What the first of them is held against.

        beside_empty: Guards that are compared with `EMPTY` as well, on the wall, and what that is held against.
    """
    bare = statistics.median(bare.per_second for pairs in guarded.values() for bare, _ in pairs)
    made = [Row(f"{subject}, bare", bare, "requests/s")]
    for guard, pairs in guarded.items():
        by_cpu = [one.cpu_us / two.cpu_us for one, two in pairs]
        by_wall = [two.per_second / one.per_second for one, two in pairs]
        made.append(_row(f"{subject}, {guard}", by_cpu, None if guard == AGAIN else target))
        made.append(_row(f"{subject}, {guard}, on the wall", by_wall))
        target = target if guard == AGAIN else None
    for guard, limit in (beside_empty or {}).items():
        slices = zip(guarded[EMPTY], guarded[guard], strict=True)
        by_wall = [two.per_second / one.per_second for (_, one), (_, two) in slices]
        made.append(_row(f"{subject}, {guard}, beside {EMPTY}, on the wall", by_wall, limit))
    return made


def _row(subject: str, ratios: Sequence[float], target: str | None = None) -> Row:
    median, low, high = (100 * (1 - ratio) for ratio in _limits(ratios))
    return Row(subject, median, "%", high, low, target=target)


def _limits(ratios: Sequence[float]) -> tuple[float, float, float]:
    """Return the median, and the limits of 95 % from resampling it."""
    draw = random.Random(1)
    medians = sorted(statistics.median(draw.choices(ratios, k=len(ratios))) for _ in range(RESAMPLES))
    return statistics.median(ratios), medians[int(0.025 * RESAMPLES)], medians[int(0.975 * RESAMPLES)]
