"""Curves of a simulation: each stack over time, or over the swept key."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from resilio.simulation._chart import COLOURS, Chart, Line, Shade, svg
from resilio.simulation._results import Result
from resilio.simulation._scenario import Scenario

__all__ = ["picture"]

_GREY = "#888888"
_TIME = "simulated seconds"


def picture(results: Sequence[tuple[Any, Result]], sweep: str | None) -> str:
    """
    Return an SVG of the results, marked if they are partial.

    Args:
        results: Pairs of a value of the swept key and its result.

        sweep: The swept key; None if there is one result.
    """
    first = results[0][1]
    notes = [f"seed {first.seed}, deadline {first.scenario.deadline:g} s"]
    early = next((result.ended_early for _, result in results if not result.complete), None)
    if early is not None:
        notes.append(f"PARTIAL RESULT: {early}")
    charts = _over_time(first) if sweep is None else _over_values(results, sweep)
    return svg(first.scenario.title, notes, charts)


def _over_time(result: Result) -> list[Chart]:
    scenario = result.scenario
    shades = [Shade(each.at, each.end, type(each).__name__.lower()) for each in scenario.faults]
    quiet = [Shade(shade.begin, shade.end, "") for shade in shades]
    whole = (0.0, scenario.duration)
    waits = [
        Line(name, [(_middle(part, outcome.timeline), part["p99"]) for part in outcome.timeline], colour)
        for (name, outcome), colour in zip(result.items(), _colours(result), strict=True)
    ]
    return [
        Chart("tasks answered in time, a second", _TIME, _rates(result, "good"), shades, between=whole),
        Chart("attempts that the clients send, a second", _TIME, _rates(result, "attempts"), quiet, between=whole),
        Chart("how long answers take, p99", _TIME, waits, quiet, logarithmic=True, seconds=True, between=whole),
    ]


def _colours(result: Result) -> list[str]:
    return [COLOURS[number % len(COLOURS)] for number in range(len(result))]


def _width(timeline: Sequence[dict[str, Any]]) -> float:
    return float(timeline[1]["begin"] - timeline[0]["begin"]) if len(timeline) > 1 else 1.0


def _middle(part: dict[str, Any], timeline: Sequence[dict[str, Any]]) -> float:
    return float(part["begin"]) + _width(timeline) / 2


def _rates(result: Result, key: str) -> list[Line]:
    longest = max(result.values(), key=lambda outcome: len(outcome.timeline))
    return [
        Line("tasks offered", _rate(longest.timeline, "offered"), _GREY, dashed=True),
        *(
            Line(name, _rate(outcome.timeline, key), colour)
            for (name, outcome), colour in zip(result.items(), _colours(result), strict=True)
        ),
    ]


def _rate(timeline: Sequence[dict[str, Any]], key: str) -> list[tuple[float, float | None]]:
    width = _width(timeline)
    return [(_middle(part, timeline), part[key] / width) for part in timeline]


def _over_values(results: Sequence[tuple[Any, Result]], sweep: str) -> list[Chart]:
    names = list(results[0][1])
    places = _places([value for value, _ in results])

    def lines(figure: str) -> list[Line]:
        return [
            Line(
                name,
                [(x, getattr(r[name], figure)) for x, (_, r) in zip(places, results, strict=True) if name in r],
                COLOURS[number % len(COLOURS)],
            )
            for number, name in enumerate(names)
        ]

    offered = [(x, _offered(result.scenario, result)) for x, (_, result) in zip(places, results, strict=True)]
    good = [Line("tasks offered", offered, _GREY, dashed=True), *lines("goodput")]
    charts = [
        Chart("tasks answered in time, a second", sweep, good),
        Chart("how long answers take, p99", sweep, lines("p99"), logarithmic=True, seconds=True),
    ]
    attempts = lines("amplification")
    if any(y not in (None, 1.0) for line in attempts for _, y in line.points):
        charts.append(Chart("attempts for each call", sweep, attempts))
    return charts


def _offered(scenario: Scenario, result: Result) -> float | None:
    outcome = next(iter(result.values()), None)
    counted = 0.0 if outcome is None else outcome.elapsed - scenario.warmup
    return None if outcome is None or counted <= 0 else outcome.offered / counted


def _places(values: Sequence[Any]) -> list[float]:
    """Return the positions of values on the axis: the values if all are numbers, else their indexes."""
    if all(isinstance(value, (int, float)) and not isinstance(value, bool) for value in values):
        return [float(value) for value in values]
    return [float(number) for number in range(len(values))]
