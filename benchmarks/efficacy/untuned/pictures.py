"""
`python -m benchmarks.efficacy.untuned.pictures`: each law in one of the cells, before and after, into `docs/_static`.

A line "before" is the former law's. Where options still give that law, it is run with them. The others are of the
library at commit 1e5c709, the last one before these laws, and stand in `before.json`: to make that file anew, copy this
package into a checkout of that commit, and run it there with `--measure before.json`.
"""

from __future__ import annotations

import argparse
import json
from collections.abc import Iterable, Sequence
from pathlib import Path

from benchmarks.efficacy.untuned._laws import PICTURES, Panel, Picture
from benchmarks.efficacy.untuned._runs import begin, processes
from benchmarks.efficacy.untuned._watched import Points, curve
from resilio.simulation._chart import COLOURS, Chart, Line, svg

__all__ = ["drawn", "main", "measured"]

_HERE = Path(__file__).parent
_GREY, _NOW, _BEFORE = "#888888", COLOURS[0], COLOURS[1]
_INK = COLOURS[7]
_THEIRS = {"naive": COLOURS[3], "hedge, no cap": COLOURS[2]}
_NAMES = {"naive": "naive retries", "hedge, no cap": "no cap"}
_TIME = "simulated seconds"


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
    """Draw the pictures, or measure the curves of a former law."""
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
