"""Line charts as SVG, written with the standard library alone: the same points give the same bytes."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from itertools import groupby
from xml.sax.saxutils import escape

import attrs

__all__ = ["Chart", "Line", "Shade", "svg"]

Point = tuple[float, float | None]

WIDTH = 900
_HEIGHT, _LEFT, _RIGHT, _TOP, _BOTTOM = 230, 74, 24, 40, 44
_INK, _MUTED, _GRID = "#222222", "#666666", "#e6e6e6"
_FONT = 'font-family="DejaVu Sans, Verdana, sans-serif"'
# Okabe and Ito's colours, distinguishable with colour blindness.
COLOURS = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#E69F00", "#56B4E9", "#B8A800", "#222222")


@attrs.frozen
class Line:
    """
    One line of a chart.

    Attributes:
        name: Name in the legend.

        points: Pairs of x and y; the line is broken where y is None.

        colour: A CSS colour.

        dashed: True for a reference line, False for a result.
    """

    name: str
    points: Sequence[Point]
    colour: str
    dashed: bool = False


@attrs.frozen
class Shade:
    """A shaded interval of x, with a label above it."""

    begin: float
    end: float
    label: str


@attrs.frozen
class Chart:
    """
    One chart.

    Attributes:
        title: Title above the chart.

        x: Name of the horizontal axis; "over" stands before it.

        lines: One or more.

        shades: Shaded intervals behind the lines.

        logarithmic: Whether the vertical axis is logarithmic; a linear one begins at 0.

        seconds: Whether y is a time.

        between: The ends of the horizontal axis; None: those of the points.
    """

    title: str
    x: str
    lines: Sequence[Line]
    shades: Sequence[Shade] = ()
    logarithmic: bool = False
    seconds: bool = False
    between: tuple[float, float] | None = None


def svg(title: str, notes: Sequence[str], charts: Sequence[Chart]) -> str:
    """
    Return a picture of charts, one below the other, under a title and a line for each note.

    Args:
        title: Title of the picture.

        notes: Lines below the title, in small letters.

        charts: The charts, from top to bottom.
    """
    head = 44 + 18 * len(notes)
    height = head + _HEIGHT * len(charts)
    parts = [
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {WIDTH} {height}" width="{WIDTH}" {_FONT}>',
        f"<title>{escape(title)}</title>",
        f'<rect width="{WIDTH}" height="{height}" fill="white"/>',
        _text(16, 28, title, size=17, weight="bold"),
    ]
    parts += [_text(16, 48 + 18 * number, note, size=12, fill=_MUTED) for number, note in enumerate(notes)]
    for number, chart in enumerate(charts):
        parts += _Plot(chart, head + _HEIGHT * number).draw()
    return "\n".join([*parts, "</svg>", ""])


def _text(x: float, y: float, text: str, *, size: int = 11, anchor: str = "start", **style: str) -> str:
    more = "".join(f' {"font-weight" if name == "weight" else name}="{value}"' for name, value in style.items())
    fill = "" if "fill" in style else f' fill="{_INK}"'
    return f'<text x="{x:.1f}" y="{y:.1f}" font-size="{size}" text-anchor="{anchor}"{fill}{more}>{escape(text)}</text>'


class _Plot:
    """A chart at its position in the picture."""

    def __init__(self, chart: Chart, top: float) -> None:
        self._chart = chart
        self._top, self._bottom = top + _TOP, top + _HEIGHT - _BOTTOM
        xs = [x for line in chart.lines for x, _ in line.points] or [0.0]
        ys = [y for line in chart.lines for _, y in line.points if y is not None and (y > 0 or not chart.logarithmic)]
        low, high = chart.between or (min(xs), max(xs))
        self._x = (low, high if high > low else low + 1)
        self._y = _range(ys, logarithmic=chart.logarithmic)

    def draw(self) -> Iterator[str]:
        """Yield the SVG elements, from back to front."""
        chart = self._chart
        yield _text(_LEFT, self._top - 14, chart.title, size=13, weight="bold")
        yield _text(WIDTH - _RIGHT, self._top - 14, f"over {chart.x}", anchor="end", fill=_MUTED)
        for shade in chart.shades:
            yield from self._shade(shade)
        yield from self._y_axis()
        yield from self._x_axis()
        for line in chart.lines:
            yield from self._line(line)
        yield from self._legend()

    def _at_x(self, x: float) -> float:
        low, high = self._x
        return _LEFT + (min(max(x, low), high) - low) / (high - low) * (WIDTH - _LEFT - _RIGHT)

    def _at_y(self, y: float) -> float:
        low, high = self._y
        if self._chart.logarithmic:
            low, high, y = math.log(low), math.log(high), math.log(y)
        return self._bottom - (y - low) / (high - low) * (self._bottom - self._top)

    def _shade(self, shade: Shade) -> Iterator[str]:
        begin, end = self._at_x(shade.begin), self._at_x(shade.end)
        size = f'width="{end - begin:.1f}" height="{self._bottom - self._top:.1f}"'
        yield f'<rect x="{begin:.1f}" y="{self._top:.1f}" {size} fill="#FBE9DC"/>'
        yield _text((begin + end) / 2, self._top - 3, shade.label, size=10, anchor="middle", fill=_MUTED)

    def _y_axis(self) -> Iterator[str]:
        for tick in _ticks(*self._y, logarithmic=self._chart.logarithmic):
            y = self._at_y(tick)
            yield f'<path d="M{_LEFT} {y:.1f}H{WIDTH - _RIGHT}" stroke="{_GRID}"/>'
            label = _seconds(tick) if self._chart.seconds else f"{tick:g}"
            yield _text(_LEFT - 7, y + 4, label, anchor="end", fill=_MUTED)

    def _x_axis(self) -> Iterator[str]:
        yield f'<path d="M{_LEFT} {self._bottom:.1f}H{WIDTH - _RIGHT}" stroke="{_MUTED}"/>'
        for tick in _ticks(*self._x):
            x = self._at_x(tick)
            yield f'<path d="M{x:.1f} {self._bottom:.1f}v4" stroke="{_MUTED}"/>'
            yield _text(x, self._bottom + 17, f"{tick:g}", anchor="middle", fill=_MUTED)

    def _line(self, line: Line) -> Iterator[str]:
        style = f'stroke="{line.colour}" stroke-width="{1.2 if line.dashed else 2}" fill="none" stroke-linejoin="round"'
        dashes = ' stroke-dasharray="5 4"' if line.dashed else ""
        log = self._chart.logarithmic
        for shown, group in groupby(line.points, lambda point: point[1] is not None and (point[1] > 0 or not log)):
            if shown:
                places = [f"{self._at_x(x):.1f} {self._at_y(y):.1f}" for x, y in group if y is not None]
                path = "M" + "L".join(places if len(places) > 1 else places * 2)
                yield f'<path d="{path}" {style}{dashes} stroke-linecap="round"/>'

    def _legend(self) -> Iterator[str]:
        x = float(_LEFT)
        for line in self._chart.lines:
            dashes = ' stroke-dasharray="5 4"' if line.dashed else ""
            y = self._bottom + 30
            yield f'<path d="M{x:.1f} {y:.1f}h18" stroke="{line.colour}" stroke-width="2"{dashes}/>'
            yield _text(x + 23, y + 4, line.name)
            x += 40 + 6.6 * len(line.name)


def _range(values: Sequence[float], *, logarithmic: bool) -> tuple[float, float]:
    if not values:
        return (0.001, 1.0) if logarithmic else (0.0, 1.0)
    if not logarithmic:
        return 0.0, (max(values) or 1.0) * 1.05
    low, high = min(values) / 1.3, max(values) * 1.3
    return low, max(high, 10 * low)


def _ticks(low: float, high: float, *, logarithmic: bool = False) -> list[float]:
    """Return up to about eight round numbers from low to high."""
    if logarithmic:
        powers = range(math.floor(math.log10(low)), math.ceil(math.log10(high)) + 1)
        steps = (1, 3) if high / low < 1e4 else (1,)
        return [tick for power in powers for step in steps if low <= (tick := step * 10.0**power) <= high]
    rough = (high - low) / 8
    power = 10.0 ** math.floor(math.log10(rough))
    step = next(power * factor for factor in (1, 2, 2.5, 5, 10) if power * factor >= rough)
    return [round(step * number, 9) for number in range(math.ceil(low / step), math.floor(high / step + 1e-9) + 1)]


def _seconds(value: float) -> str:
    if 0 < value < 1e-3:
        return f"{value * 1e6:g} µs"
    return f"{value * 1e3:g} ms" if 0 < value < 1.0 else f"{value:g} s"
