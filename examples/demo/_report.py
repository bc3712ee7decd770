"""The comparison at the end, as rows of text: made once, shown by rich where it is there and by `print` elsewhere."""

from __future__ import annotations

import importlib.util
import sys
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from examples.demo._acts import Act
from examples.demo._records import RECOVERED_SHARE, RECOVERY_WINDOW

__all__ = ["definitions", "doubts", "headline", "plain_table", "rows_of", "show"]

Row = tuple[str, str, str]
Summary = Mapping[str, Any]
_UNKNOWN = "-"
_LATE = 0.1  # seconds: a tenth of the callers' patience


def rows_of(acts: Sequence[Act], runs: Mapping[str, Mapping[str, Summary]]) -> list[Row]:
    """
    Say what was measured: for each act its title, what guarded it, and a row for each figure.

    Args:
        acts: All of them.

        runs: The summaries by act, then of "bare" and "guarded"; one that is missing gives dashes.

    Returns:
        Label, bare, guarded.
    """
    rows: list[Row] = []
    for act in acts:
        both = runs.get(act.name, {})
        bare, guarded = both.get("bare"), both.get("guarded")
        rows += [("", "", ""), (act.title, "", ""), (f"  guarded by {act.guard}", "", "")]
        rows += [("  " + label.format(act=act), figure(bare), figure(guarded)) for label, figure in _LINES[act.name]]
    return rows


def _percent(value: float | None) -> str:
    return _UNKNOWN if value is None else f"{100 * value:.1f} %"


def _count(value: int | None) -> str:
    return _UNKNOWN if value is None else f"{value:,}"


def _duration(value: float | None) -> str:
    if value is None:
        return _UNKNOWN
    return f"{1000 * value:.0f} ms" if value < 1.0 else f"{value:.2f} s"


def _recovery(run: Summary | None) -> str:
    if run is None or run["calls_while_down"] is None:
        return _UNKNOWN
    value = run["recovery_seconds"]
    if value is not None:
        return _duration(value)
    return "not within the run" if run["complete"] else _UNKNOWN


def _figure(form: Callable[[Any], str], *path: str) -> Callable[[Summary | None], str]:
    def figure(run: Summary | None) -> str:
        value: Any = run
        for name in path:
            value = None if value is None else value[name]
        return form(value)

    return figure


def _sent(run: Summary | None) -> str:
    value = None if run is None else run["calls_sent"]
    return _UNKNOWN if value is None else f"{value:.2f}"


def _waits(dependency: str) -> Callable[[Summary | None], str]:
    half, most = _figure(_duration, dependency, "p50"), _figure(_duration, dependency, "p99")
    return lambda run: f"{half(run)} / {most(run)}"


_LINES: dict[str, Sequence[tuple[str, Callable[[Summary | None], str]]]] = {
    "outage": (
        ("all requests: served within {act.patience:g} s", _figure(_percent, "success_rate")),
        ("checkout, which stays healthy: served", _figure(_percent, "checkout", "success_rate")),
        ("  its callers wait, p50 / p99", _waits("checkout")),
        ("recommendations, which fail: served", _figure(_percent, "recommendations", "success_rate")),
        ("  their callers wait, p50 / p99", _waits("recommendations")),
        ("  calls that reached them while down", _figure(_count, "calls_while_down")),
        ("  answers for callers who had gone", _figure(_count, "answers_for_nobody")),
        ("  time to recover after the outage", _recovery),
    ),
    "spike": (
        ("callers wait, p50 / p99", _waits("search")),
        ("calls sent for each request", _sent),
    ),
    "storm": (
        ("orders served within {act.patience:g} s", _figure(_percent, "success_rate")),
        ("calls sent for each order", _sent),
        ("answers for callers who had gone", _figure(_count, "answers_for_nobody")),
        ("time to recover after the outage", _recovery),
    ),
    "region": (
        ("served within {act.patience:g} s", _figure(_percent, "success_rate")),
        ("  while the region is gone", _figure(_percent, "served_while_down")),
        ("callers wait, p50 / p99", _waits("catalog")),
        ("calls that went there while it was gone", _figure(_count, "calls_while_down")),
    ),
}


def plain_table(rows: Sequence[Row]) -> str:
    """Lay rows out in aligned columns."""
    return "\n".join("".join(row).rstrip() for row in _aligned(rows))


def _aligned(rows: Sequence[Row]) -> list[Row]:
    """Pad figures to columns; what has none is a heading, which may run through them."""
    table = [("", "bare", "guarded"), *rows]
    widths = [max(len(row[column]) for row in table if row[1]) for column in range(3)]
    return [
        (f"  {row[0]:<{widths[0]}}", f"  {row[1]:>{widths[1]}}", f"  {row[2]:>{widths[2]}}") if row[1] else row
        for row in table
    ]


def show(rows: Sequence[Row], notes: Sequence[str]) -> None:
    """
    Print the table and the notes under it on standard output; in colours where it is a terminal and rich is there.

    Args:
        rows: From `rows_of`.

        notes: Lines to print below.
    """
    if sys.stdout.isatty() and importlib.util.find_spec("rich") is not None:
        _show_rich(rows)
    else:
        print(plain_table(rows))
    print()
    for note in notes:
        print(f"  {note}")


def _show_rich(rows: Sequence[Row]) -> None:
    from rich.console import Console
    from rich.text import Text

    console = Console(highlight=False)
    for label, bare, guarded in _aligned(rows):
        style = "" if bare else "dim" if label.startswith(" ") else "bold"
        line = Text.assemble((label, style), (bare, "dark_orange3"), (guarded, "bold dodger_blue1"))
        console.print(line, soft_wrap=True)


def headline(act: Act, run: Summary) -> str:
    """Say in a line what became of the flaky dependency's callers."""
    if act.name == "region":
        return f"{_percent(run['served_while_down'])} served while it is gone,\np99 {_duration(run['catalog']['p99'])}"
    if act.name == "spike":
        return f"p99 {_duration(run['search']['p99'])}, {_sent(run)} calls for each request"
    served = f"{_percent(run[act.flaky]['success_rate'])} of {act.flaky} served"
    recovered = _recovery(run)
    back = f"well again after {recovered}" if recovered[0].isdigit() else f"recovery: {recovered}"
    if act.name == "storm":
        return f"{served}, {_sent(run)} calls for each,\n{back}"
    return f"{served}, {_count(run['calls_while_down'])} calls into the outage, {back}"


def doubts(runs: Mapping[str, Mapping[str, Summary]]) -> list[str]:
    """Say so if runs could not offer their load on time: then the machine was measured, not the service."""
    late = [
        f"{act} {name} (p99 {_duration(late)} late)"
        for act, both in runs.items()
        for name, run in both.items()
        if (late := run["generator_late_p99"]) is not None and late > _LATE
    ]
    return [f"LEFT OUT: this machine was too busy to begin requests on time: {', '.join(late)}."] if late else []


def definitions(runs: Mapping[str, Mapping[str, Summary]]) -> list[str]:
    """Say how the figures are defined and how well the load was offered, in few lines."""
    late = [run["generator_late_p99"] for both in runs.values() for run in both.values()]
    worst = _duration(max((each for each in late if each is not None), default=None))
    return [
        "Bare is a plain client; guarded is the same code with resilio's decorators, at the same load.",
        "A wait counts from the moment when the request was due, whatever its outcome.",
        f"Recovered: from then on {100 * RECOVERED_SHARE:.0f} % were served for {RECOVERY_WINDOW:g} s at least.",
        f"In every run 99 % of the requests began within {worst} of when they were due.",
    ]
