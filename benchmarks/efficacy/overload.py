"""
`python -m benchmarks.efficacy.overload`: R11, what a server serves in time when it is offered more than it can serve.

Workers, a queue before them, calls that come as they like and whose callers wait for ten mean times of service. What is
served in time, as a share of what the workers can serve, is the goodput; it should be min(load, 1), with latencies
about as without overload. Ours are the real policies on virtual time, in the loop of events that also runs the
baselines; all meet the same calls.

    Musts, with one set of defaults, in every cell: at least 0.98 of the best of the baselines; at least 0.95 of
    min(load, 1); from a load of 1.2 on a p99 of at most 1.5 times that of the same workers, unguarded, at 0.7; and
    0.95 again within 2 s (200 mean times of service) of the end of a step in which all work takes ten times as long.
"""

from __future__ import annotations

import argparse
import math
from collections.abc import Callable, Iterator, Sequence

from benchmarks.efficacy import _results
from benchmarks.efficacy._baselines import BASELINES
from benchmarks.efficacy._cells import (
    BACK,
    FROM,
    GRID,
    SLOWER,
    Cell,
    Make,
    Reference,
    Verdict,
    drawn,
    judged,
    reference,
    returned,
)
from benchmarks.efficacy._guarded import Queueing, Rejecting, on_virtual_time
from resilio import adaptive_limit, load_shed

__all__ = [
    "HEADER",
    "OURS",
    "RANDOM_HEADER",
    "STEP_CELLS",
    "STEP_HEADER",
    "backs",
    "compared",
    "main",
    "random_table",
    "step_table",
    "summary",
    "table",
]

Seen = tuple[Reference, dict[str, Verdict]]


def compared(cell: Cell, calls: int, seed: int) -> Seen:
    """Run the baselines and ours in a cell; the arguments are those of `figures`."""
    with on_virtual_time():
        ours = {name: judged(make(cell.workers), cell, calls, seed) for name, make in OURS.items()}
    return reference(cell, calls, seed), ours


def backs(cell: Cell, seed: int) -> dict[str, float]:
    """Return when each of ours is back after a slow step, in means; the arguments are those of `returned`."""
    with on_virtual_time():
        return {name: returned(make(cell.workers), cell, seed, steps=STEPS) for name, make in OURS.items()}


OURS: dict[str, Callable[[int], Make]] = {
    "adaptive_limit()": lambda _: lambda _: Rejecting(adaptive_limit()),
    "load_shed()": lambda _: lambda _: Queueing(load_shed(), deadlines=True),
    "load_shed(max_concurrent=c)": lambda c: lambda _: Queueing(load_shed(max_concurrent=c), deadlines=True),
}
"""What makes each, for a number of workers and then, as for the baselines, for a mean time."""


HEADER = ("cell", *BASELINES, "p99 at most", *OURS)


def table(calls: int, seed: int = 1, cells: Sequence[Cell] = GRID) -> Iterator[tuple[str, ...]]:
    """
    Yield the rows under `HEADER`: goodput, and in brackets the p99 in means; what was missed in capitals.

    Args:
        calls: As for `figures`.

        seed: Of the calls.

        cells: One row for each.
    """
    seen = _results.spread(compared, [(cell, calls, seed) for cell in cells])
    for cell, (base, ours) in zip(cells, seen, strict=True):
        best = base.best
        theirs = (f"{one.goodput:.3f}" + ("*" if name == best else "") for name, one in base.figures.items())
        limit = f"{SLOWER * base.p99:.1f}" if cell.load >= FROM else "-"
        yield str(cell), *theirs, limit, *(_written(verdict) for verdict in ours.values())


def _written(verdict: Verdict) -> str:
    missed = f" {verdict.missed}" if verdict.missed else ""
    return f"{verdict.figures.goodput:.3f} ({verdict.figures.p99:.1f}){missed}"


def summary(rows: Sequence[Sequence[str]]) -> str:
    """Return in which of the rows of `table` each of ours missed a must, and why some of them cannot be met."""
    lines = []
    for number, name in enumerate(OURS, len(HEADER) - len(OURS)):
        missed = [row[0] for row in rows if set("BFP") & set(row[number].replace("(F)", ""))]
        lines.append(f"- {name}: {len(missed)} of {len(rows)}" + (f" ({'; '.join(missed)})" if missed else ""))
    return "\n".join(["", "", "Cells with a must missed:", "", *lines, "", _WHY])


STEP_CELLS = tuple(Cell(c, cv, load) for c in (4, 10, 50) for cv in (1.0, 2.0) for load in (0.9, 1.2))
STEPS = 5  # runs
STEP_HEADER = ("cell", "at most", *OURS)


def step_table(seed: int = 1, cells: Sequence[Cell] = STEP_CELLS) -> Iterator[tuple[str, ...]]:
    """Yield the rows under `STEP_HEADER`, in seconds; the arguments are those of `table`."""
    for cell, ours in zip(cells, _results.spread(backs, [(cell, seed) for cell in cells]), strict=True):
        found = ("never" if math.isinf(means) else f"{means * cell.mean:.1f}" for means in ours.values())
        yield str(cell), f"{BACK * cell.mean:g}", *found


RANDOM_HEADER = ("", "cells", "all musts met", "B", "F", "P", "worst of best", "lower decile of best")


def random_table(number: int, calls: int, seed: int) -> tuple[list[tuple[str, ...]], list[str]]:
    """
    Return the rows under `RANDOM_HEADER`, and a line for each cell in which one of ours missed a must.

    Args:
        number: Cells to draw.

        calls: As for `figures`.

        seed: Of the cells and the calls.
    """
    cells = tuple(drawn(number, seed))
    seen: list[Seen] = _results.spread(compared, [(cell, calls, seed) for cell in cells])
    rows = []
    for name in OURS:
        verdicts = [ours[name] for _, ours in seen]
        missed = [verdict.missed.replace("(F)", "") for verdict in verdicts]
        shares = sorted(verdict.of_best for verdict in verdicts)
        counts = (f"{sum(letter in each for each in missed)}" for letter in "BFP")
        met = f"{missed.count('')}"
        rows.append((name, f"{number}", met, *counts, f"{shares[0]:.3f}", f"{shares[number // 10]:.3f}"))
    found = ((cell, *pair) for cell, pair in zip(cells, seen, strict=True))
    lines = [_line(*each) for each in found if any(one.missed not in ("", "(F)") for one in each[2].values())]
    return rows, lines


def _line(cell: Cell, base: Reference, ours: dict[str, Verdict]) -> str:
    best = f"{base.best} {base.figures[base.best].goodput:.3f}, p99 at most {SLOWER * base.p99:.1f}"
    seen = "; ".join(f"{name} {_written(found)}" for name, found in ours.items())
    return f"{cell} patience {cell.patience:.0f} mean {cell.mean:.2g} s: {best}; {seen}"


def main(arguments: Sequence[str] | None = None) -> None:
    """Print the tables."""
    parser = _results.command("What a server serves in time when it is offered too much.")
    parser.add_argument("--calls", type=int, default=50_000, help="calls that are measured in each cell (50,000)")
    parser.add_argument("--random", type=int, metavar="N", help="draw N cells instead of those of the table")
    parser.add_argument("--seed", type=int, default=1, help="of the calls and the cells drawn (1)")
    options = parser.parse_args(arguments)
    for title, text in _sections(options):
        _results.show(title, text, recorded=options.record)


def _sections(options: argparse.Namespace) -> Iterator[tuple[str, str]]:
    if options.random:
        rows, lines = random_table(options.random, options.calls, options.seed)
        about = f"{_ABOUT_RANDOM} The seed of this run is {options.seed}."
        missed = "\n".join(["", "", "Cells in which one of them missed:", "", *(f"- {line}" for line in lines)])
        yield "R11 random cells", _results.section(about, RANDOM_HEADER, rows) + (missed if lines else "")
        return
    rows = list(table(options.calls, options.seed))
    yield "R11 goodput curve", _results.section(_ABOUT, HEADER, rows) + summary(rows)
    yield "R11 slow step", _results.section(_ABOUT_STEP, STEP_HEADER, step_table(options.seed))


_ABOUT = (
    "Goodput: calls answered within 10 mean times of service, as a share of what the workers can serve. c workers, "
    "Poisson arrivals, all baselines and ours meet the same calls; 5 s (500 means of 10 ms) of warm-up are not "
    "measured. The baselines' constants in seconds suit the mean of 10 ms. Ours, with their defaults: in brackets the "
    "p99 of what was served, in means. load_shed knows the callers' deadlines; adaptive_limit hears of a late answer "
    "as a timeout. * is the best baseline. Must: 0.98 of it (else B), 0.95 of min(load, 1) (else F, in brackets where "
    "no baseline has it either), from a load of 1.2 on a p99 of at most 1.5 times that of the unguarded workers at 0.7 "
    "(else P)."
)
_WHY = (
    "With a CV of 2 one call in 140 works for longer than its caller waits, at any load, and an eighth of the work is "
    "for them: near a load of 1 four or ten workers hardly have 0.95 in time; the best order of a queue that does not "
    "know the sizes has 0.92 to 0.96 of what is possible. There a limit, behind which calls wait in the order of "
    "arrival, is up to 5 % below the best queue."
)
_ABOUT_STEP = (
    "Seconds from the end of a step of 3 s, in which all work takes ten times as long, to the first half second in "
    "which 0.95 of the goodput before the step is reached, over five runs. Must: 2 s."
)
_ABOUT_RANDOM = (
    "Cells that nobody tuned to, drawn evenly by the logarithm: 1 to 200 workers, mean times of service from 0.1 ms "
    "to 30 s, CV 0.3 to 4 (lognormal), load 0.3 to 4, patience of 5 to 20 means. The musts and letters are those of "
    "the goodput curve; a cell counts under each letter that it missed; the last two columns are goodput by that of "
    "the best baseline."
)

if __name__ == "__main__":
    main()
