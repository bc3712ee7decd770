"""The time lines of all runs as an SVG that a person can read at a glance."""

# matplotlib types its keyword arguments as unknown.
# pyright: reportUnknownMemberType=false

from __future__ import annotations

from collections.abc import Mapping, Sequence
from itertools import zip_longest
from pathlib import Path
from typing import TYPE_CHECKING, Any

import matplotlib as mpl
from matplotlib.figure import Figure

from examples.demo._acts import HOME, RUNS, Act
from examples.demo._records import Record, percentile, slices
from examples.demo._report import headline
from examples.demo._run import Run

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import SubFigure

__all__ = ["draw"]

_SLICES = 90  # at most, over the whole time
_SLICE = 0.1  # seconds at least: shorter ones show the noise of the arrivals
_INK, _MUTED = "#222222", "#666666"
# Okabe and Ito's colours, which the colour-blind tell apart; they differ in brightness too.
_STACK = {
    "served in time": ("#0072B2", ("ok",)),
    "too late": ("#F2C14E", ("late",)),
    "failed (timeout, 503, reset, no connection)": ("#D55E00", ("timeout", "unavailable", "broken", "no connection")),
    "rejected at once by resilio": ("#D0D0D0", ("rejected",)),
}
_RUNS = {"bare": "#D55E00", "guarded": "#0072B2"}
_SHADES = {"slow": "#FFF4D6", "down": "#FBE0D8", "recovering": "#E6F2E6", "paused": "#FBE0D8", "gone": "#FBE0D8"}
_HEIGHTS = {"outage": 7.6, "spike": 3.1, "storm": 3.3, "region": 4.6}
_REGIONS = {True: "#009E73", False: "#CC79A7"}
_TIME = "seconds since the start of the run"
_CALLS, _CAPACITY = "calls that the server gets", "that it can answer"
_NOTE: dict[str, Any] = {"textcoords": "offset points", "fontsize": 9, "color": _MUTED}
_STYLE: dict[Any, Any] = {
    "axes.edgecolor": _MUTED,
    "axes.labelcolor": _INK,
    "axes.spines.right": False,
    "axes.spines.top": False,
    "font.family": "DejaVu Sans",
    "font.size": 10,
    "svg.hashsalt": "resilio",
    "text.color": _INK,
    "xtick.color": _INK,
    "ytick.color": _INK,
}


def draw(
    acts: Sequence[Act],
    runs: Sequence[Run],
    summaries: Mapping[str, Mapping[str, Mapping[str, Any]]],
    path: Path,
    note: str | None,
) -> None:
    """
    Draw both runs of each act over the same time and write the picture.

    Args:
        acts: "outage", "spike", "storm" and "region".

        runs: "bare" and "guarded" of each, or as far as it came.

        summaries: Of the runs, by act and name.

        path: Of the SVG.

        note: What to say of an incomplete result, or None.
    """
    with mpl.rc_context(_STYLE):
        heights = [_HEIGHTS[act.name] for act in acts]
        figure = Figure(figsize=(10.5, sum(heights) + 0.2), facecolor="white")
        figure.set_layout_engine("constrained", h_pad=0.08)
        title = "The same load and the same trouble, twice" + (f"\n{note}" if note else "")
        figure.suptitle(title, fontsize=15, fontweight="bold", x=0.01, ha="left")
        parts: Any = figure.subfigures(len(acts), 1, height_ratios=heights, hspace=0.03, squeeze=False)
        for act, part in zip(acts, parts[:, 0], strict=True):
            part.suptitle(act.title, fontsize=12.5, fontweight="bold", x=0.01, ha="left")
            by_name = {run.name: run for run in runs if run.act is act}
            texts = {name: headline(act, summary) for name, summary in summaries[act.name].items()}
            _DRAWN[act.name](part, act, by_name, texts)
        figure.savefig(path, dpi=150, metadata={"Date": None})


def _outage(part: SubFigure, act: Act, runs: Mapping[str, Run], texts: Mapping[str, str]) -> None:
    top, middle, bottom = part.subplots(3, 1, sharex=True)
    for axes, name in ((top, "bare"), (middle, "guarded")):
        _shade(axes, act)
        if name in runs:
            _throughput(axes, runs[name])
            _say(axes, name, texts[name], 20 if name == "bare" else 6)  # above the first stand the names of the phases
    _shade(bottom, act)
    _neighbour(bottom, list(runs.values()), act.patience)
    _label_phases(top, act)
    top.set_ylim(0, max(top.get_ylim()[1], middle.get_ylim()[1]))
    middle.set_ylim(top.get_ylim())
    handles, labels = top.get_legend_handles_labels()
    middle.legend(handles, labels, ncols=4, loc="upper left", bbox_to_anchor=(0, -0.06), frameon=False, fontsize=9)
    bottom.set_xlim(0, act.schedule.seconds)
    bottom.set_xlabel(_TIME)


def _spike(part: SubFigure, act: Act, runs: Mapping[str, Run], texts: Mapping[str, str]) -> None:
    """Draw every request as a dot, and the p99 as a line."""
    for axes, name in zip(part.subplots(1, 2, sharex=True, sharey=True), RUNS, strict=True):
        _shade(axes, act)
        if name in runs:
            records = runs[name].records
            dots = [record.due for record in records], [record.latency for record in records]
            axes.scatter(*dots, s=8, color=_RUNS[name], alpha=0.45, linewidths=0, zorder=2, rasterized=True)
            p99 = percentile((record.latency for record in records), 99)
            if p99 is not None:
                axes.axhline(p99, color=_RUNS[name], linewidth=1.5, linestyle=(0, (5, 2)), zorder=3)
                axes.annotate("p99", (act.schedule.seconds, p99), xytext=(-3, 3), ha="right", **_NOTE)
            _say(axes, name, texts[name])
        _log_seconds(axes, 0.004, 0.6, [0.01, 0.03, 0.1, 0.3])
        axes.set_xlim(0, act.schedule.seconds)
        axes.set_xlabel(f"{_TIME}; shaded: one replica pauses")
        if name == "bare":
            axes.set_ylabel("how long callers wait")


def _storm(part: SubFigure, act: Act, runs: Mapping[str, Run], texts: Mapping[str, str]) -> None:
    """Draw what became of the requests, and over it the calls that the server got."""
    site = act.sites[act.flaky]
    both = part.subplots(1, 2, sharex=True, sharey=True)
    for axes, name in zip(both, RUNS, strict=True):
        _shade(axes, act)
        if name in runs:
            _throughput(axes, runs[name], 0.2)
            _say(axes, name, texts[name])
            _calls(axes, runs[name])
        can = site.workers / site.service
        axes.axhline(can, color=_INK, linewidth=1, linestyle=(0, (4, 3)), label=_CAPACITY, zorder=3)
        axes.set_xlim(0, act.schedule.seconds)
        axes.set_ylim(0, 1.6 * 3 * act.rates[act.flaky])
        axes.set_ylabel("orders per second" if name == "bare" else "")
        axes.set_xlabel(f"{_TIME}; shaded: it hangs")
        axes.legend(*_only_lines(axes), loc="upper left", frameon=False, fontsize=9, ncols=2)


def _region(part: SubFigure, act: Act, runs: Mapping[str, Run], texts: Mapping[str, str]) -> None:
    """Draw every request as a dot, and below it the calls that each region gets."""
    both = part.subplots(2, 2, sharex=True, sharey="row", height_ratios=(3, 2))
    for (waits, calls), name in zip(both.T, RUNS, strict=True):
        _shade(waits, act)
        _shade(calls, act)
        if name in runs:
            _waits(waits, runs[name])
            _by_region(calls, runs[name])
            _say(waits, name, texts[name])
        _log_seconds(waits, 0.004, 2.0, [0.01, 0.03, 0.1, 0.3, 1.0])
        waits.axhline(act.patience, color=_MUTED, linewidth=1, linestyle=(0, (4, 3)), zorder=1)
        calls.set_xlim(0, act.schedule.seconds)
        calls.set_xlabel(f"{_TIME}; shaded: {HOME} is gone")
        if name == "bare":
            waits.set_ylabel("how long callers wait")
            calls.set_ylabel("calls per second\nto each region")
    for axes, place in zip(both[:, 0] if runs else (), ("lower left", "upper left"), strict=False):
        axes.legend(loc=place, frameon=False, fontsize=9, ncols=2, markerscale=2.5)


def _waits(axes: Axes, run: Run) -> None:
    for label, served, colour in (("served", True, "#0072B2"), ("failed", False, "#D55E00")):
        some = [record for record in run.records if record.ok is served]
        dots = [record.due for record in some], [record.latency for record in some]
        axes.scatter(*dots, s=8, color=colour, alpha=0.45, linewidths=0, zorder=2, rasterized=True, label=label)


def _by_region(axes: Axes, run: Run) -> None:
    """Draw the calls that reached each region, per second, by the servers' own books."""
    for region in dict.fromkeys(name.split()[0] for name in run.act.sites):
        books = [site["tenths"] for name, site in (run.server or {}).items() if name.startswith(region)]
        until = [0] * round(10 * run.seconds)
        tenths = [sum(each) for each in zip_longest(until, *books, fillvalue=0)]
        pairs = [sum(tenths[index : index + 2]) * 5 for index in range(0, len(tenths) - 1, 2)]
        middles = [(index + 0.5) / 5 for index in range(len(pairs))]
        axes.plot(middles, pairs, color=_REGIONS[region == HOME], linewidth=1.8, label=region, zorder=3)


def _calls(axes: Axes, run: Run) -> None:
    """Draw the calls that reached the server, per second, by its own book."""
    tenths: list[int] = run.server[run.act.flaky]["tenths"] if run.server else []
    pairs = [sum(tenths[index : index + 2]) * 5 for index in range(0, len(tenths) - 1, 2)]
    axes.plot(
        [(index + 0.5) / 5 for index in range(len(pairs))], pairs, color=_INK, linewidth=1.5, label=_CALLS, zorder=4
    )


def _only_lines(axes: Axes) -> tuple[list[Any], list[str]]:
    found = [pair for pair in zip(*axes.get_legend_handles_labels(), strict=True) if pair[1] in (_CALLS, _CAPACITY)]
    return [handle for handle, _ in found], [label for _, label in found]


def _say(axes: Axes, name: str, text: str, pad: float = 6) -> None:
    axes.set_title(f"{name}: {text}", loc="left", pad=pad, fontsize=10.5, fontweight="bold", color=_RUNS[name])


def _shade(axes: Axes, act: Act) -> None:
    for phase, begin, end in act.schedule.spans():
        if phase.name in _SHADES:
            axes.axvspan(begin, end, color=_SHADES[phase.name], linewidth=0, zorder=0)


def _label_phases(axes: Axes, act: Act) -> None:
    for phase, begin, end in act.schedule.spans():
        axes.annotate(
            phase.name,
            ((begin + end) / 2, 1.0),
            xycoords=("data", "axes fraction"),
            xytext=(0, 4),
            textcoords="offset points",
            ha="center",
            fontsize=9,
            color=_MUTED,
        )


def _of(run: Run, dependency: str) -> list[Record]:
    return [record for record in run.records if record.dependency == dependency]


def _throughput(axes: Axes, run: Run, least: float = _SLICE) -> None:
    width = max(least, run.seconds / _SLICES)
    flaky = run.act.flaky
    parts = slices(_of(run, flaky), run.seconds, width)
    middles = [part.begin + width / 2 for part in parts]
    rates = [[sum(part.outcomes[name] for name in names) / width for part in parts] for _, names in _STACK.values()]
    colours = [colour for colour, _ in _STACK.values()]
    axes.stackplot(middles, rates, labels=list(_STACK), colors=colours, linewidth=0, zorder=2)
    axes.set_ylabel(f"{flaky},\nrequests per second")


def _neighbour(axes: Axes, runs: Sequence[Run], patience: float) -> None:
    """Draw every request to the healthy neighbour as a dot, and the p99 of each slice as a line."""
    for run in runs:
        records = _of(run, "checkout")
        colour = _RUNS[run.name]
        dots = [record.due for record in records], [record.latency for record in records]
        axes.scatter(*dots, s=6, color=colour, alpha=0.3, linewidths=0, zorder=2, rasterized=True)
        width = max(2 * _SLICE, 3 * run.seconds / _SLICES)
        known = [(part.begin, part.p99) for part in slices(records, run.seconds, width) if part.p99 is not None]
        line = [begin + width / 2 for begin, _ in known], [p99 for _, p99 in known]
        axes.plot(*line, color=colour, linewidth=2, label=f"{run.name}, p99", zorder=3)
    axes.axhline(patience, color=_MUTED, linewidth=1, linestyle=(0, (4, 3)), zorder=1)
    axes.annotate("callers give up", (0, patience), xytext=(4, 3), **_NOTE)
    _log_seconds(axes, 0.008, 5.0, [0.01, 0.03, 0.1, 0.3, 1.0, 3.0])
    axes.set_ylabel("checkout,\nhow long callers wait")
    title = "checkout, the healthy neighbour that shares the client"
    axes.set_title(title, loc="left", fontsize=10.5, fontweight="bold")
    axes.legend(loc="lower right", bbox_to_anchor=(1, 1), ncols=2, frameon=False, fontsize=9)


def _log_seconds(axes: Axes, least: float, most: float, ticks: Sequence[float]) -> None:
    axes.set_yscale("log")
    axes.set_ylim(least, most)
    axes.set_yticks(ticks, [f"{1000 * tick:.0f} ms" if tick < 0.1 else f"{tick:g} s" for tick in ticks])
    axes.minorticks_off()


_DRAWN = {"outage": _outage, "spike": _spike, "storm": _storm, "region": _region}
