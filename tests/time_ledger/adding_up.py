"""What storms of the ledger share: each call's segments are told where it was made, checked, and added up."""

from __future__ import annotations

import os
import secrets
from collections import Counter
from collections.abc import Callable
from contextvars import ContextVar
from typing import Any

import attrs
import pytest

from resilio import PipelineWarning, Segments
from resilio._native import core
from resilio._time_ledger import slow_calls
from storm.world import Plan

__all__ = ["MICROSECOND", "SILENCED", "Book", "Count", "Tell", "check_counted", "storm", "told"]

MICROSECOND = 1e-6
SILENCED = pytest.mark.filterwarnings(f"ignore::{PipelineWarning.__module__}.{PipelineWarning.__name__}")

told: ContextVar[list[Segments] | None] = ContextVar("told", default=None)


class Tell(slow_calls.SlowCalls):
    """Tells every call's ledger where the call was made."""

    def __init__(self) -> None:
        super().__init__(0.0, None, 1, 30)

    def hear(self, gate: core.Gate, segments: Segments, error: BaseException | None) -> None:
        box = told.get()
        if box is not None:
            box.append(segments)


@attrs.define
class Count:
    """What was seen of the calls of a world."""

    ends: Counter[str] = attrs.field(factory=Counter)
    walls: float = 0.0
    segments: Counter[str] = attrs.field(factory=Counter)


class Book:
    """Checks the calls of a world as they end, and keeps what was wrong until the world is over."""

    def __init__(self) -> None:
        self.count = Count()
        self.wrong: list[Exception] = []

    def close(self) -> None:
        """Raise the first that was wrong."""
        if self.wrong:
            raise self.wrong[0]

    def enter(self, plan: Plan, box: list[Segments], error: BaseException | None, wall: float) -> None:
        """
        Check one call.

        Args:
            plan: Which.

            box: What was told of it: nothing if it was rejected at once, or ended in a finaliser.

            error: What it has raised.

            wall: How long it took.
        """
        try:
            self._check(plan, box, error, wall)
        except Exception as wrong:
            self.wrong.append(wrong)

    def _check(self, plan: Plan, box: list[Segments], error: BaseException | None, wall: float) -> None:
        found = list(box)
        if error is not None:
            found.append(error.resilio_segments)  # type: ignore[attr-defined]
        assert error is not None or box or wall == 0.0, f"nobody told of a call of {wall} s: {plan}"
        assert len(box) <= 1, f"{len(box)} have told of one call: {plan}"
        for segments in found:
            assert abs(segments.total - wall) <= MICROSECOND, f"{segments!r} in {wall!r} s: {plan}"
        for segments in found[:1]:
            self.count.segments.update({name: 1 for name, value in segments.asdict().items() if value})
        self.count.walls += found[0].total if found else 0.0
        self.count.ends[type(error).__name__] += 1


def check_counted(policies: list[Any], count: Count, calls: int) -> None:
    """Assert that all policies together have counted what the calls have taken, each call once."""
    counted = Counter[str]()
    for gate in {id(gate): gate for policy in policies for gate in policy.gates}.values():
        counted.update(gate.seconds())
    assert counted.pop("wasted") >= 0.0
    assert sum(counted.values()) == pytest.approx(count.walls, abs=calls * MICROSECOND)


def storm(label: str, calls: int, per_world: int, run: Callable[[int], Count]) -> Count:
    """
    Run worlds until there were so many calls; return what was seen of all. RESILIO_SEED replays from one world on.

    Args:
        label: For people.

        calls: At least.

        per_world: How many `run` makes.

        run: Runs the world of a seed.
    """
    seed = int(os.environ.get("RESILIO_SEED") or secrets.randbits(32))
    total = Count()
    for at in range(-(-calls // per_world)):
        try:
            count = run(seed + at)
        except BaseException as error:
            error.add_note(f"replay this world with RESILIO_SEED={seed + at}")
            raise
        total.ends.update(count.ends)
        total.segments.update(count.segments)
    print(f"{label}: {dict(total.ends)} {dict(total.segments)}")
    return total
