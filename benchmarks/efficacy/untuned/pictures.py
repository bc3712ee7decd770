"""
`python -m benchmarks.efficacy.untuned.pictures`: each law in one of the cells, before and after, into `docs/_static`.

A line "before" is the former law's. Where options still give that law, it is run with them. The others are of the
library at commit 1e5c709, the last one before these laws, and stand in `before.json`: to make that file anew, copy this
package into a checkout of that commit, and run it there with `--measure before.json`.
"""

from __future__ import annotations

import argparse
import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from benchmarks.efficacy.untuned._runs import begin, processes
from benchmarks.efficacy.untuned._watched import Points, curve
from resilio.simulation._chart import COLOURS, Chart, Line, Shade, svg

__all__ = ["PICTURES", "Panel", "Picture", "drawn", "main", "measured"]

_HERE = Path(__file__).parent
_GREY, _NOW, _BEFORE = "#888888", COLOURS[0], COLOURS[1]
_INK = COLOURS[7]
_THEIRS = {"naive": COLOURS[3], "hedge, no cap": COLOURS[2]}
_NAMES = {"naive": "naive retries", "hedge, no cap": "no cap"}
_TIME = "simulated seconds"


@dataclass(frozen=True)
class Panel:
    """
    One chart of a picture.

    Attributes:
        title: Of its vertical axis, with the unit.

        cell: Of the run.

        quantity: That is drawn: see `curve`.

        slot: Seconds between two points.

        others: Stacks beside the library's.

        marks: Dashed lines for reference, by name.

        shade: What is wrong, and when.

        begin: Where the axis of time begins.

        until: Where it ends.

        logarithmic: Whether the vertical axis is.

        seconds: Whether the quantity is a time.
    """

    title: str
    cell: str
    quantity: str
    slot: float
    others: tuple[str, ...] = ()
    marks: Mapping[str, Points] | None = None
    shade: Shade | None = None
    begin: float = 0.0
    until: float = 60.0
    logarithmic: bool = False
    seconds: bool = False


@dataclass(frozen=True)
class Picture:
    """
    What shows one law.

    Attributes:
        title: Of the picture.

        notes: Lines below the title.

        ours: The stack of the library, one of `STACKS`.

        panels: From top to bottom.

        former: The stack with the former law; "": that of `before.json`; None: the law is as it was.
    """

    title: str
    notes: tuple[str, ...]
    ours: str
    panels: tuple[Panel, ...]
    former: str | None = ""


_BROWNOUT = Shade(20.0, 40.0, "40 % fail at once")
_GRAY = Shade(20.0, 50.0, "one of 8 replicas is ten times slow")
_SLOW = Shade(20.0, 60.0, "its dependency takes 2 s, not 20 ms")
_COLD = "cold: 1,000 workers, first 10 s"
_HERD = "herds: 1,000 clients are asked to come back in 1 s"
_RARE = "mixed costs: 0.1 % of the calls take 1 s, those"

PICTURES: dict[str, Picture] = {
    "law-breaker.svg": Picture(
        "The circuit breaker opens only where next to nothing works",
        (
            "standard(), as it comes: failures in a row by when calls began. Before: by when they ended, and open at a",
            "failure rate of a half.",
        ),
        "standard",
        (
            Panel(
                "calls answered, share of each batch: 100 calls at a time, 12 % of the attempts fail at once",
                "batches: 100 at a time, 12 % fail at once",
                "batches",
                1.0,
                ("nothing",),
                until=33.0,
            ),
            Panel(
                "calls of healthy tenants answered, share: 55 % of the calls are a broken tenant's",
                "tenants: 55 % of the calls are a broken tenant's: the others",
                "share",
                0.5,
                ("nothing",),
                until=40.0,
            ),
        ),
    ),
    "law-budget.svg": Picture(
        "The retry budget: a retry costs what its failed attempt cost the dependency",
        ("standard(), as it comes, 60 calls a second. Before: a token for each retry, whatever the failure was.",),
        "standard",
        (
            Panel(
                "calls answered, share",
                "budgets: brownout: 40 % fail for 20 s",
                "share",
                1.0,
                ("nothing", "naive"),
                shade=_BROWNOUT,
                until=50.0,
            ),
            Panel(
                "requests sent, a second",
                "budgets: brownout: 40 % fail for 20 s",
                "requests",
                1.0,
                ("nothing", "naive"),
                shade=Shade(20.0, 40.0, ""),
                until=50.0,
            ),
        ),
    ),
    "law-timeout.svg": Picture(
        "The learned timeout: three times the p99.9, at least a second",
        (
            "standard(), as it comes, 100 calls a second: 999 of 1,000 take 10 to 30 ms, the others a second.",
            "Before: three times the p99, at least 0.1 s, which timeout={'total': 'p99*3', 'floor': 0.1} gives today.",
        ),
        "standard",
        (
            Panel(
                "seconds after which an attempt is cut off",
                _RARE,
                "timeout",
                1.0,
                marks={"what a slow call takes": [(0.0, 1.0), (150.0, 1.0)]},
                until=150.0,
                logarithmic=True,
                seconds=True,
            ),
            Panel("slow calls lost so far", _RARE, "lost", 1.0, ("nothing",), until=150.0),
        ),
        former="standard, p99*3",
    ),
    "law-retry-after.svg": Picture(
        "Retry-After: never earlier, and not all at once",
        (
            "1,000 clients are refused with a Retry-After of one second. The server takes 700 requests a second.",
            "standard(), as it comes. Before: each client waited for just the time that it was given.",
        ),
        "standard",
        (
            Panel(
                "requests that reach the server, a second",
                _HERD,
                "requests",
                0.05,
                marks={"what the server takes": [(0.8, 700.0), (4.2, 700.0)]},
                begin=0.8,
                until=4.2,
                logarithmic=True,
            ),
            Panel(
                "clients answered so far, share",
                _HERD,
                "answered",
                0.05,
                marks={"possible": [(0.8, 0.0), (1.02, 0.0), (1.03, 0.075), (2.35, 1.0), (4.2, 1.0)]},
                begin=0.8,
                until=4.2,
            ),
        ),
    ),
    "law-load-shed.svg": Picture(
        "load_shed(): latency that does not follow its own calls does not lower the limit",
        (
            "A service that only waits for its dependency: 40 calls a second, callers wait for 10 s.",
            "load_shed(), as it comes. Before: slow answers were taken for a queue, whatever made them slow.",
        ),
        "load_shed()",
        (
            Panel(
                "calls answered, share",
                "I/O-bound: its dependency goes from 20 ms to 2 s, 40/s",
                "share",
                1.0,
                ("nothing",),
                shade=_SLOW,
                until=60.0,
            ),
            Panel(
                "the limit, calls at a time",
                "I/O-bound: its dependency goes from 20 ms to 2 s, 40/s",
                "limit",
                0.25,
                marks={"calls at a time that the load needs": [(20.0, 80.0), (60.0, 80.0)]},
                shade=Shade(20.0, 60.0, ""),
                until=60.0,
            ),
        ),
    ),
    "law-adaptive-limit.svg": Picture(
        "adaptive_limit(): from cold it doubles until latency follows the calls in flight",
        (
            "1,000 workers that take 2 s a call, at a load of 0.8 from the first second on.",
            "adaptive_limit(), as it comes. Before: in ten seconds it saw too few answers to leave its start of 20.",
        ),
        "adaptive_limit()",
        (
            Panel("calls answered, share", _COLD, "share", 0.5, ("nothing",), until=10.0),
            Panel(
                "the limit, calls at a time",
                _COLD,
                "limit",
                0.1,
                marks={"workers": [(0.0, 1000.0), (10.0, 1000.0)]},
                until=10.0,
                logarithmic=True,
            ),
        ),
    ),
    "law-hedge.svg": Picture(
        "Hedges: what a cap of 5 % gives up, and what it saves",
        ("50 calls a second to eight replicas. hedge(replay_safe=True), as it comes, and with max_extra=1.0.",),
        "hedge()",
        (
            Panel(
                "p99 of the answers",
                "gray: one of 8 is 10 x slow for 30 s",
                "p99",
                3.0,
                ("nothing", "hedge, no cap"),
                shade=_GRAY,
                until=60.0,
                seconds=True,
            ),
            Panel(
                "requests sent, a second",
                "gray: one of 8 is 10 x slow for 30 s",
                "requests",
                3.0,
                ("nothing", "hedge, no cap"),
                shade=Shade(20.0, 50.0, ""),
                until=60.0,
            ),
        ),
        former=None,
    ),
}
"""By the name of the file."""


def measured(name: str) -> list[Points]:
    """
    Return the lines of the library that is installed, one for each panel.

    Args:
        name: One of `PICTURES`.
    """
    begin()
    return [_curve(panel, PICTURES[name].ours) for panel in PICTURES[name].panels]


def drawn(name: str) -> str:
    """
    Return a picture as SVG.

    Args:
        name: One of `PICTURES`.
    """
    begin()
    picture = PICTURES[name]
    if picture.former:
        before = [_curve(panel, picture.former) for panel in picture.panels]
    else:
        before = json.loads((_HERE / "before.json").read_text(encoding="utf-8")).get(name, [])
    charts = [_chart(picture, number, before) for number in range(len(picture.panels))]
    return svg(picture.title, picture.notes, charts)


def _curve(panel: Panel, stack: str) -> Points:
    return _within(panel, curve(panel.cell, stack, panel.quantity, panel.slot))


def _within(panel: Panel, points: Iterable[tuple[float, float | None]]) -> Points:
    return [(x, y) for x, y in points if panel.begin <= x <= panel.until]


def _chart(picture: Picture, number: int, before: Sequence[Points]) -> Chart:
    """Lines that may lie on others are dashed, and come last."""
    panel = picture.panels[number]
    lines = [Line(name, points, _GREY, dashed=True) for name, points in (panel.marks or {}).items()]
    lines += [Line(_NAMES[name], _curve(panel, name), _THEIRS[name]) for name in panel.others if name != "nothing"]
    if picture.former is not None:
        lines.append(Line("before", _within(panel, before[number]), _BEFORE))
    lines.append(Line("as it comes" if picture.former is None else "now", _curve(panel, picture.ours), _NOW))
    lines += [Line("no policy", _curve(panel, name), _INK, dashed=True) for name in panel.others if name == "nothing"]
    shades = [] if panel.shade is None else [panel.shade]
    between = (panel.begin, panel.until)
    return Chart(
        panel.title, _TIME, lines, shades, logarithmic=panel.logarithmic, seconds=panel.seconds, between=between
    )


def main(arguments: Sequence[str] | None = None) -> None:
    """Draw the pictures, or measure what stands in them as the law before."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.efficacy.untuned.pictures", description=__doc__)
    parser.add_argument("names", nargs="*", help=f"of {', '.join(PICTURES)}; all, if none is given")
    parser.add_argument("--to", type=Path, default=_HERE.parents[2] / "docs" / "_static", help="a directory")
    parser.add_argument("--measure", type=Path, metavar="FILE", help="write the lines of this library there instead")
    options = parser.parse_args(arguments)
    names = options.names or PICTURES
    with processes(1) as pool:
        if options.measure:
            former = [name for name in names if PICTURES[name].former == ""]
            lines = dict(zip(former, pool.map(measured, former), strict=True))
            options.measure.write_text(json.dumps(lines) + "\n", encoding="utf-8")
            return
        for name, text in zip(names, pool.map(drawn, names), strict=True):
            (options.to / name).write_text(text, encoding="utf-8")
            print(options.to / name)


if __name__ == "__main__":
    main()
