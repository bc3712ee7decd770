"""
A comparison: subjects that do the same work, made, checked, measured in turns, and put into one table.

A subject that cannot be made, or that does not do the work, becomes a skip that says why. It never vanishes.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Sequence
from typing import Any, TypeAlias

import attrs

from benchmarks.micro._harness import Case, Effort, Figure, Series, added, measure, ratio
from benchmarks.micro._loops import Loop
from benchmarks.micro._results import Row, Skip, Table

__all__ = ["BASE", "WRAPPER", "Against", "Comparison", "Subject", "Unavailable", "compare"]

BASE = "bare"
WRAPPER = "empty wrapper"

Thing: TypeAlias = Any
"""What a subject makes and the comparison knows how to drive: a guarded function, a recorder, a bucket's method."""


class Unavailable(Exception):  # noqa: N818  (a reason, not a fault)
    """A subject cannot be measured here; the message says why."""


@attrs.frozen
class Subject:
    """
    One way to do the comparison's work.

    Attributes:
        name: What the table calls it.

        make: Makes the thing that the comparison drives. Raises `Unavailable` if there is none.

        clock: The clock that it reads while it works.

        note: What a reader must know to compare.

        target: Key of the target that its figure is held against, or None.
    """

    name: str
    make: Callable[[], Thing]
    clock: str = "-"
    note: str = ""
    target: str | None = None


@attrs.frozen
class Against:
    """
    A row of its own for how many times another subject's figure one subject's is.

    Attributes:
        subject, reference: Names of the two.

        target: Key of the target that the ratio is held against, or None.
    """

    subject: str
    reference: str
    target: str | None = None

    @property
    def name(self) -> str:
        """What the table calls the ratio."""
        return f"{self.subject} / {self.reference}"


@attrs.frozen
class Comparison:
    """
    The work that subjects are compared at.

    Attributes:
        key: Names the comparison, and the function of a peer's adapter that makes its subject.

        title, about: What the table says about itself.

        drive: Makes the timed loop around what a subject made.

        check: Raises if what a subject made does not do the work.

        base: The loop whose time is subtracted from everyone's.

        own: The library's own subjects.

        wrapper: Makes the empty wrapper, driven like a subject; its added time is the unit W. None: nanoseconds.

        against: Ratios of subjects' figures that the table shows as well.
    """

    key: str
    title: str
    about: str
    drive: Callable[[Thing], Loop]
    check: Callable[[Thing], Awaitable[None]]
    base: Callable[[], Loop]
    own: Sequence[Subject]
    wrapper: Callable[[], Thing] | None = None
    against: Sequence[Against] = ()


async def compare(comparison: Comparison, peers: Sequence[Subject | Skip], effort: Effort) -> Table:
    """Return the table of the library's own subjects and *peers*, all measured in turns."""
    cases = [Case(BASE, comparison.base())]
    if comparison.wrapper is not None:
        cases.append(Case(WRAPPER, comparison.drive(comparison.wrapper())))
    subjects: list[Subject] = []
    skips: list[Skip] = []
    for subject in [*comparison.own, *peers]:
        made = subject if isinstance(subject, Skip) else await _made(comparison, subject)
        if isinstance(made, Skip):
            skips.append(made)
        else:
            cases.append(made[1])
            subjects.append(made[0])
    series = await measure(cases, effort)
    ratios = [_against(wanted, subjects, series) for wanted in comparison.against]
    rows = [*_rows(comparison, subjects, series), *(row for row in ratios if isinstance(row, Row))]
    skips += [skip for skip in ratios if isinstance(skip, Skip)]
    return Table(comparison.key, comparison.title, comparison.about, tuple(rows), tuple(skips))


async def _made(comparison: Comparison, subject: Subject) -> tuple[Subject, Case] | Skip:
    """Make and check a subject; whatever goes wrong is the reason of a skip."""
    try:
        thing = subject.make()
        await comparison.check(thing)
        return subject, Case(subject.name, comparison.drive(thing))
    except Unavailable as reason:
        return Skip(subject.name, str(reason))
    except Exception as error:  # noqa: BLE001  (whatever it is, it is said)
        return Skip(subject.name, f"raised {type(error).__name__}: {error}")


def _rows(comparison: Comparison, subjects: Sequence[Subject], series: Series) -> tuple[Row, ...]:
    if comparison.wrapper is None:
        return tuple(_row(subject, added(series, subject.name, BASE)) for subject in subjects)
    unit = added(series, WRAPPER, BASE)
    rows = [_row(Subject(WRAPPER, lambda: None, note="the unit W"), unit, unit)]
    rows += [_row(subject, added(series, subject.name, BASE), unit) for subject in subjects]
    return tuple(rows)


def _against(wanted: Against, subjects: Sequence[Subject], series: Series) -> Row | Skip:
    measured = {subject.name: subject for subject in subjects}
    for name in (wanted.subject, wanted.reference):
        if name not in measured:
            return Skip(wanted.name, f"{name} was not measured")
    figure = ratio(added(series, wanted.subject, BASE), added(series, wanted.reference, BASE))
    clock = measured[wanted.subject].clock
    return Row(wanted.name, figure.value, "x", figure.low, figure.high, clock=clock, target=wanted.target)


def _row(subject: Subject, figure: Figure, unit: Figure | None = None) -> Row:
    shown = figure if unit is None else ratio(figure, unit)
    return Row(
        subject=subject.name,
        value=shown.value,
        unit="ns" if unit is None else "W",
        low=shown.low,
        high=shown.high,
        ns=None if unit is None else figure.value,
        clock=subject.clock,
        note=subject.note,
        target=subject.target,
    )
