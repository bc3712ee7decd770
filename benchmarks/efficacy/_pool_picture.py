"""The picture of `pools`: what callers see of one endpoint of twelve that fails at once, and of one that is slow."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from benchmarks.efficacy._pool_runs import BEGIN, END, FAULTS, OVER, WAYS, Call, calls_of
from resilio.simulation._chart import COLOURS, Chart, Line, Shade, svg

__all__ = ["NAME", "drawn"]

NAME = "law-pool.svg"
STEP = 0.5
FROM, UNTIL = BEGIN - 3.0, END - 5.0
_COLOURS = dict(zip(("pool", "round robin", "least in flight", "peak EWMA (Finagle)", "Envoy"), COLOURS, strict=False))
Figure = Callable[[Sequence[Call]], float | None]


def drawn(seed: int = 1) -> str:
    """Return the picture as SVG."""
    charts = [
        _chart("failed calls in %: one fails at once, after 2 ms", "fails at once", _failed, seed),
        _chart("p99 of all calls: one is ten times as slow", "10 x slow", _p99, seed, seconds=True),
    ]
    title = "One endpoint of twelve is in trouble, at 60 % of their capacity"
    return svg(title, ["without retries; a timeout after 1 s; ten clients, 2880 calls a second"], charts)


def _chart(title: str, fault: str, figure: Figure, seed: int, *, seconds: bool = False) -> Chart:
    lines = [
        Line(name, _points(calls_of(WAYS[name], seed, load=0.6, faults=[FAULTS[fault]]), figure), colour)
        for name, colour in reversed(_COLOURS.items())
        if name in WAYS
    ]
    shades = [Shade(BEGIN, OVER, "the fault")]
    return Chart(title, "simulated seconds", lines, shades, logarithmic=seconds, seconds=seconds, between=(FROM, UNTIL))


def _points(calls: Sequence[Call], figure: Figure) -> list[tuple[float, float | None]]:
    steps: list[list[Call]] = [[] for _ in range(int(END / STEP) + 1)]
    for call in calls:
        steps[int(call.begin / STEP)].append(call)
    return [(number * STEP, figure(step)) for number, step in enumerate(steps) if FROM <= number * STEP <= UNTIL]


def _failed(calls: Sequence[Call]) -> float | None:
    return 100.0 * sum(not call.good for call in calls) / len(calls) if calls else None


def _p99(calls: Sequence[Call]) -> float | None:
    return sorted(call.seconds for call in calls)[int(0.99 * len(calls))] if calls else None
