"""Which of the musts a stack of the library meets in a cell."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass

from benchmarks.efficacy.untuned._baselines import PEERS
from benchmarks.efficacy.untuned._cell import Cell
from benchmarks.efficacy.untuned._fronts import SEVEN
from benchmarks.efficacy.untuned._run import Figures
from benchmarks.efficacy.untuned._stacks import judged_in

__all__ = ["MUSTS", "Seen", "Verdict", "verdicts"]

MUSTS = {
    "N": "`standard` answers less than 0.98 of the better of nothing and naive",
    "P": "`standard` answers less than 0.9 of the best default of a peer",
    "H": "harm: where there is overload, it sends more than 1.1 x the calls",
    "S": "`load_shed()` answers less than 0.97 of nothing, where there is no overload",
    "B": "`load_shed()` answers less than 0.95 of the best of nothing and seven baselines, where there is overload",
    "T": "the p99 with `hedge()` is above 1.05 x that of nothing",
}
"""By letter, what is missed."""
_HARM, _SERVES = 1.1, 0.01
Seen = Mapping[str, Figures]


@dataclass(frozen=True)
class Verdict:
    """
    What came of one stack of the library.

    Attributes:
        subject: The stack.

        over_simple: Its answers by those of the better of nothing and naive; None: they have none.

        over_peers: The same by those of the best peer, or baseline.

        best: The name of that one.

        missed: Letters of `MUSTS`.
    """

    subject: str
    over_simple: float | None
    over_peers: float | None
    best: str
    missed: str

    @property
    def worst(self) -> float:
        """The lower of the two, 1 where neither is known."""
        return min([one for one in (self.over_simple, self.over_peers) if one is not None], default=1.0)


def verdicts(cell: Cell, seen: Seen) -> list[Verdict]:
    """
    Judge the stacks of the library that a cell is about.

    Args:
        cell: Which one.

        seen: What came of each stack.
    """
    judges = {"standard": _standard, "load_shed()": _load_shed, "hedge()": _hedge}
    return [judges[subject](cell, seen) for subject in judged_in(cell)]


def _best(cell: Cell, seen: Seen, names: Iterable[str]) -> str:
    """Return the best that does no harm; nothing does none."""
    harmless = [name for name in names if not cell.overloaded or seen[name].sent <= _HARM]
    return max(harmless or ["nothing"], key=lambda name: seen[name].answered)


def _over(ours: float, theirs: float) -> float | None:
    """Return ours by theirs, None where theirs is next to nothing: the dependency is not well enough to serve it."""
    return ours / theirs if theirs >= _SERVES else None


def _below(ratio: float | None, must: float) -> bool:
    return ratio is not None and ratio < must


def _standard(cell: Cell, seen: Seen) -> Verdict:
    ours = seen["standard"]
    simple, peer = _best(cell, seen, ("nothing", "naive")), _best(cell, seen, PEERS)
    over_simple, over_peers = (_over(ours.answered, seen[name].answered) for name in (simple, peer))
    missed = "N" * _below(over_simple, 0.98) + "P" * _below(over_peers, 0.9)
    missed += "H" * (cell.overloaded and ours.sent > _HARM)
    return Verdict("standard", over_simple, over_peers, peer, missed)


def _load_shed(cell: Cell, seen: Seen) -> Verdict:
    ours = seen["load_shed()"].answered
    over_nothing = _over(ours, seen["nothing"].answered)
    if not cell.overloaded:
        return Verdict("load_shed()", over_nothing, None, "nothing", "S" * _below(over_nothing, 0.97))
    best = max(("nothing", *SEVEN), key=lambda name: seen[name].answered)
    over_best = _over(ours, seen[best].answered)
    return Verdict("load_shed()", over_nothing, over_best, best, "B" * _below(over_best, 0.95))


def _hedge(cell: Cell, seen: Seen) -> Verdict:  # noqa: ARG001
    without, ours = seen["nothing"].p99, seen["hedge()"].p99
    ratio = _over(without, ours)
    return Verdict("hedge()", ratio, None, "nothing", "T" * (ours > 1.05 * without))
