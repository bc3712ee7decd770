"""The time line of both runs as an SVG that a person can read at a glance."""

# matplotlib types its keyword arguments as unknown.
# pyright: reportUnknownMemberType=false

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import matplotlib as mpl
from matplotlib.figure import Figure

from resilio.demo._records import Record, slices
from resilio.demo._report import headline
from resilio.demo._run import Run
from resilio.demo._schedule import Schedule
from resilio.demo._service import PATIENCE

if TYPE_CHECKING:
    from matplotlib.axes import Axes

__all__ = ["draw"]

_SLICES = 90  # at most, over the whole time
_SLICE = 0.1  # seconds at least: shorter ones show the noise of the arrivals
_INK, _MUTED = "#222222", "#666666"
# Okabe and Ito's colours, which the colour-blind tell apart; they differ in brightness too.
_STACK = {
    "served in time": ("#0072B2", ("ok",)),
    "too late": ("#F2C14E", ("late",)),
    "failed (timeout, 503, reset, no connection)": ("#D55E00", ("timeout", "unavailable", "broken", "no connection")),
    "refused at once by resilio": ("#D0D0D0", ("refused",)),
}
_RUNS = {"bare": "#D55E00", "guarded": "#0072B2"}
_SHADES = {"slow": "#FFF4D6", "down": "#FBE0D8", "recovering": "#E6F2E6"}
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
    runs: Sequence[Run], summaries: Mapping[str, Mapping[str, Any]], schedule: Schedule, path: Path, note: str | None
) -> None:
    """
    Draw both runs over the same time and write the picture.

    Args:
        runs: "bare" and "guarded", or as far as it came.

        summaries: Of the runs, by name.

        schedule: Of the runs.

        path: Of the SVG.

        note: What to say of an incomplete result, or None.
    """
    with mpl.rc_context(_STYLE):
        figure = Figure(figsize=(10.5, 8.6), facecolor="white")
        figure.set_layout_engine("constrained", h_pad=0.08)
        top, middle, bottom = figure.subplots(3, 1, sharex=True)
        title = "One service, the same load and the same outage, twice" + (f"\n{note}" if note else "")
        figure.suptitle(title, fontsize=14, fontweight="bold", x=0.01, ha="left")
        by_name = {run.name: run for run in runs}
        for axes, name in ((top, "bare"), (middle, "guarded")):
            _shade(axes, schedule)
            if name in by_name:
                _throughput(axes, by_name[name], headline(summaries[name]))
        _shade(bottom, schedule)
        _neighbour(bottom, runs)
        _label_phases(top, schedule)
        top.set_ylim(0, max(top.get_ylim()[1], middle.get_ylim()[1]))
        middle.set_ylim(top.get_ylim())
        handles, labels = top.get_legend_handles_labels()
        middle.legend(handles, labels, ncols=4, loc="upper left", bbox_to_anchor=(0, -0.06), frameon=False, fontsize=9)
        bottom.set_xlim(0, schedule.seconds)
        bottom.set_xlabel("seconds since the start of the run")
        figure.savefig(path, dpi=150, metadata={"Date": None})


def _shade(axes: Axes, schedule: Schedule) -> None:
    for phase, begin, end in schedule.spans():
        if phase.name in _SHADES:
            axes.axvspan(begin, end, color=_SHADES[phase.name], linewidth=0, zorder=0)


def _label_phases(axes: Axes, schedule: Schedule) -> None:
    for phase, begin, end in schedule.spans():
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


def _throughput(axes: Axes, run: Run, text: str) -> None:
    width = max(_SLICE, run.seconds / _SLICES)
    parts = slices(_of(run, "recommendations"), run.seconds, width)
    middles = [part.begin + width / 2 for part in parts]
    rates = [[sum(part.outcomes[name] for name in names) / width for part in parts] for _, names in _STACK.values()]
    colours = [colour for colour, _ in _STACK.values()]
    axes.stackplot(middles, rates, labels=list(_STACK), colors=colours, linewidth=0, zorder=2)
    axes.set_ylabel("recommendations,\nrequests per second")
    pad = 20 if run.name == "bare" else 6  # above the first panel stand the names of the phases
    style: dict[str, Any] = {"fontsize": 10.5, "fontweight": "bold", "color": _RUNS[run.name]}
    axes.set_title(f"{run.name}: {text}", loc="left", pad=pad, **style)


def _neighbour(axes: Axes, runs: Sequence[Run]) -> None:
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
    axes.axhline(PATIENCE, color=_MUTED, linewidth=1, linestyle=(0, (4, 3)), zorder=1)
    axes.annotate(
        "callers give up",
        (0, PATIENCE),
        xytext=(4, 3),
        textcoords="offset points",
        fontsize=9,
        color=_MUTED,
    )
    axes.set_yscale("log")
    axes.set_ylim(0.008, 5.0)
    axes.set_yticks([0.01, 0.03, 0.1, 0.3, 1.0, 3.0], ["10 ms", "30 ms", "0.1 s", "0.3 s", "1 s", "3 s"])
    axes.minorticks_off()
    axes.set_ylabel("checkout,\nhow long callers wait")
    title = "checkout, the healthy neighbour that shares the client"
    axes.set_title(title, loc="left", fontsize=10.5, fontweight="bold")
    axes.legend(loc="lower right", bbox_to_anchor=(1, 1), ncols=2, frameon=False, fontsize=9)
