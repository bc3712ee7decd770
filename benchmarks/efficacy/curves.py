"""
`python -m benchmarks.efficacy.curves`: the pictures of the pages on adaptive limits and load shedding.

They are drawn of the runs that the tables R9 and R11 are made of, by the simulator's own writer of charts, into
`docs/_static`.
"""

from __future__ import annotations

import argparse
from collections.abc import Callable, Mapping, Sequence
from functools import lru_cache
from pathlib import Path

from benchmarks.efficacy._baselines import BASELINES
from benchmarks.efficacy._cells import LOADS, WARM, Cell, Figures, Make, figures, served
from benchmarks.efficacy._guarded import on_virtual_time
from benchmarks.efficacy._queueing import Step
from benchmarks.efficacy.metastable import CAPACITY, osdi_scenario, stack
from benchmarks.efficacy.overload import OURS
from resilio.simulation import Stack, simulate
from resilio.simulation._chart import COLOURS, Chart, Line, Shade, svg

__all__ = ["PICTURES", "main"]

_OURS, _THEIRS = COLOURS[0], (COLOURS[1], COLOURS[4], COLOURS[3], COLOURS[7])
_GREY = "#888888"
_LOAD = "offered load"
_LIMITS = ("Gradient2", "Vegas", "limit = c")
_QUEUES = ("FIFO unbounded", "drop expired", "CoDel-FB")


def _makes(names: Sequence[str], ours: str, cell: Cell) -> dict[str, tuple[Make, str]]:
    found = {name: (BASELINES[name], colour) for name, colour in zip(names, _THEIRS, strict=False)}
    return {**found, ours: (OURS[ours](cell.workers), _OURS)}


@lru_cache(256)
def _figures(name: str, cell: Cell, calls: int) -> Figures:
    make = OURS[name](cell.workers) if name in OURS else BASELINES[name]
    return figures(make, cell, calls, 1)


def _goodput(names: Sequence[str], ours: str, workers: int, cv: float, calls: int) -> Chart:
    law = "exponential" if cv == 1 else f"lognormal, CV {cv:g}"
    ideal = Line("all that can be", [(load, min(load, 1.0)) for load in (*LOADS[:4], LOADS[-1])], _GREY, dashed=True)
    lines = [
        Line(name, [(load, _figures(name, Cell(workers, cv, load), calls).goodput) for load in LOADS], colour)
        for name, (_, colour) in _makes(names, ours, Cell(workers, cv, 1.0)).items()
    ]
    return Chart(f"served in time, as a share of the capacity: {workers} workers, {law}", _LOAD, [ideal, *lines])


def _waits(names: Sequence[str], ours: str, workers: int, cv: float, calls: int) -> Chart:
    normal = _figures("FIFO unbounded", Cell(workers, cv, 0.7), calls).p99 * 0.01
    limit = Line(
        "1.5 times that at load 0.7", [(load, 1.5 * normal) for load in (LOADS[0], LOADS[-1])], _GREY, dashed=True
    )
    lines = [
        Line(name, [(load, _figures(name, Cell(workers, cv, load), calls).p99 * 0.01) for load in LOADS], colour)
        for name, (_, colour) in _makes(names, ours, Cell(workers, cv, 1.0)).items()
    ]
    law = "exponential" if cv == 1 else f"lognormal, CV {cv:g}"
    title = f"p99 of what is served: {workers} workers, {law}, 10 ms on average"
    return Chart(title, _LOAD, [limit, *lines], logarithmic=True, seconds=True)


def _step(names: Sequence[str], ours: str, load: float, runs: int) -> Chart:
    """Draw what is served in time around a slow step, an average over runs."""
    cell = Cell(10, 1.0, load)
    begin, slot = WARM * cell.mean, 0.25
    step = Step(begin, begin + 3.0, 10.0)
    times = [begin - 2.0 + slot * number for number in range(36)]
    lines = []
    for name, (make, colour) in _makes(names, ours, cell).items():
        results = [served(make(cell.mean), cell.plan(begin + 8.0, seed, step)) for seed in range(1, runs + 1)]
        rates = [sum(run.goodput(at, at + slot) for run in results) / runs for at in times]
        lines.append(Line(name, [(at - begin + slot / 2, rate) for at, rate in zip(times, rates, strict=True)], colour))
    title = f"served in time at a load of {load:g}: 10 workers, all work ten times slower for 3 s"
    return Chart(title, "seconds", lines, [Shade(0.0, 3.0, "ten times slower")], between=(-2.0, 7.0))


def _adaptive(calls: int) -> str:
    ours = "adaptive_limit()"
    charts = [_goodput(_LIMITS, ours, workers, 1.0, calls) for workers in (50, 4)]
    charts += [_waits(_LIMITS, ours, 4, 1.0, calls), _step((*_LIMITS[:2], "FIFO unbounded"), ours, 0.9, 10)]
    return svg("Limits that learn, with their defaults, before workers whose number they do not know", [_NOTE], charts)


def _shedding(calls: int) -> str:
    ours = "load_shed()"
    charts = [_goodput(_QUEUES, ours, 10, 1.0, calls), _waits(_QUEUES, ours, 10, 1.0, calls)]
    charts += [_goodput(_QUEUES, ours, 4, 2.0, calls), _step(_QUEUES, ours, 0.9, 10)]
    return svg("A server that is offered more than it can serve", [_NOTE], charts)


_NOTE = (
    "Callers wait for 100 ms. All meet the same calls; a load of 1 is what the workers can serve. Runs as of table R11."
)


def _metastable(calls: int) -> str:  # noqa: ARG001 - a run of the simulator has its own size
    stacks: Mapping[str, Stack] = {
        "naive clients": stack("naive", False, 3.0, 4),
        "naive clients, load_shed()": stack("naive", True, 3.0, 4),
        "retry > circuit_breaker > timeout, load_shed()": stack("resilio", True, 3.0, 4),
    }
    scenario = osdi_scenario(stacks, 0.75, 0.2, 10.0, watched=40.0, at=20.0)
    result, shades = simulate(scenario), [Shade(20.0, 30.0, "a fifth of the speed")]

    def lines(key: str) -> list[Line]:
        # Without the last slice, in which all is counted that comes after the end.
        return [
            Line(name, [(part["begin"] + width / 2, part[key] / width) for part in outcome.timeline[:-1]], colour)
            for (name, outcome), colour in zip(result.items(), (COLOURS[1], COLOURS[4], _OURS), strict=True)
        ]

    first = next(iter(result.values())).timeline
    width = first[1]["begin"] - first[0]["begin"]
    whole = (0.0, scenario.duration)
    charts = [
        Chart("calls answered, a second", "seconds", lines("good"), shades, between=whole),
        Chart("attempts that the clients send, a second", "seconds", lines("attempts"), shades, between=whole),
    ]
    note = f"{CAPACITY:.0f} requests/s on two workers, load 0.75; clients wait for 3 s, naive ones resend four times."
    return svg("A server that is slow for ten seconds, and clients that try again", [note], charts)


PICTURES: dict[str, Callable[[int], str]] = {
    "adaptive-limit.svg": _adaptive,
    "load-shedding.svg": _shedding,
    "metastable.svg": _metastable,
}
"""What draws each, of runs that measure so many calls."""


def main(arguments: Sequence[str] | None = None) -> None:
    """Draw them."""
    parser = argparse.ArgumentParser(description="Draw the pictures of the pages on overload.")
    parser.add_argument("--calls", type=int, default=30_000, help="calls that are measured for each point (30,000)")
    parser.add_argument("--to", type=Path, default=Path(__file__).parents[2] / "docs" / "_static", help="a directory")
    parser.add_argument("names", nargs="*", help=f"of {', '.join(PICTURES)}; all, if none is given")
    options = parser.parse_args(arguments)
    for name in options.names or PICTURES:
        if PICTURES[name] is _metastable:
            text = PICTURES[name](options.calls)
        else:
            with on_virtual_time():
                text = PICTURES[name](options.calls)
        (options.to / name).write_text(text, encoding="utf-8")
        print(options.to / name)


if __name__ == "__main__":
    main()
