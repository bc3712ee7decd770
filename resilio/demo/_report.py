"""The comparison at the end, as rows of text: made once, shown by rich where it is there and by `print` elsewhere."""

from __future__ import annotations

import importlib.util
import sys
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from resilio.demo._acts import Act
from resilio.demo._records import RECOVERED_SHARE, RECOVERY_WINDOW

__all__ = ["definitions", "doubts", "headline", "plain_table", "rows_of", "show"]

Row = tuple[str, str, str]
Summary = Mapping[str, Any]
_UNKNOWN = "-"
_LATE = 0.1  # seconds: a tenth of the callers' patience


def rows_of(acts: Sequence[Act], runs: Mapping[str, Mapping[str, Summary]]) -> list[Row]:
    """
    Say what was measured: for each act its title, and a row for each figure.

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
        rows.append((act.title, "", ""))
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


_LATENESS = ("how late the load was offered, p99", _figure(_duration, "generator_late_p99"))
_LINES: dict[str, Sequence[tuple[str, Callable[[Summary | None], str]]]] = {
    "outage": (
        ("all requests: served within {act.patience:g} s", _figure(_percent, "success_rate")),
        ("checkout, the healthy neighbour: served", _figure(_percent, "checkout", "success_rate")),
        ("  how long its callers wait, p50", _figure(_duration, "checkout", "p50")),
        ("  how long its callers wait, p99", _figure(_duration, "checkout", "p99")),
        ("recommendations, which go down: served", _figure(_percent, "recommendations", "success_rate")),
        ("  how long their callers wait, p50", _figure(_duration, "recommendations", "p50")),
        ("  how long their callers wait, p99", _figure(_duration, "recommendations", "p99")),
        ("  calls that reached them while down", _figure(_count, "calls_while_down")),
        ("  answers made for callers who had gone", _figure(_count, "answers_for_nobody")),
        ("  time to recover after the outage", _recovery),
        _LATENESS,
    ),
    "spike": (
        ("how long callers wait, p50", _figure(_duration, "search", "p50")),
        ("how long callers wait, p99", _figure(_duration, "search", "p99")),
        ("calls sent for each request", _sent),
        _LATENESS,
    ),
    "storm": (
        ("orders served within {act.patience:g} s", _figure(_percent, "success_rate")),
        ("calls sent for each order", _sent),
        ("answers made for callers who had gone", _figure(_count, "answers_for_nobody")),
        ("time to recover after the outage", _recovery),
        _LATENESS,
    ),
}


def plain_table(rows: Sequence[Row]) -> str:
    """Lay rows out in aligned columns."""
    table = [("", "bare", "guarded"), *rows]
    widths = [max(len(row[column]) for row in table) for column in range(3)]
    return "\n".join(f"  {row[0]:<{widths[0]}}  {row[1]:>{widths[1]}}  {row[2]:>{widths[2]}}" for row in table)


def show(rows: Sequence[Row], notes: Sequence[str]) -> None:
    """
    Print the table and the notes under it on standard output.

    Args:
        rows: From `rows_of`.

        notes: Lines to print below.
    """
    if sys.stdout.isatty() and importlib.util.find_spec("rich") is not None:
        _show_rich(rows)
    else:
        print(plain_table(rows))
    for note in notes:
        print(f"  {note}")


def _show_rich(rows: Sequence[Row]) -> None:
    from rich.console import Console
    from rich.table import Table

    table = Table(header_style="bold")
    table.add_column("")
    table.add_column("bare", justify="right", style="dark_orange3")
    table.add_column("guarded", justify="right", style="bold dodger_blue1")
    for label, bare, guarded in rows:
        table.add_row(label, bare, guarded, style=None if bare else "bold")
    Console().print(table)


def headline(act: Act, run: Summary) -> str:
    """Say in a line what became of the flaky dependency's callers."""
    if act.name == "spike":
        return f"p99 {_duration(run['search']['p99'])}, {_sent(run)} calls for each request"
    served = f"{_percent(run[act.flaky]['success_rate'])} of {act.flaky} served"
    recovered = _recovery(run)
    back = f"well again after {recovered}" if recovered[0].isdigit() else f"recovery: {recovered}"
    if act.name == "storm":
        return f"{served}, {_sent(run)} calls for each,\n{back}"
    return f"{served}, {_count(run['calls_while_down'])} calls into the outage, {back}"


def doubts(runs: Mapping[str, Mapping[str, Summary]]) -> list[str]:
    """Say so if a run could not offer its load on time: then the machine was measured, not the service."""
    return [
        f"CAUTION: this machine was too busy to begin the {name} {act} run's requests on time "
        f"(p99 {_duration(late)} late)."
        for act, both in runs.items()
        for name, run in both.items()
        if (late := run["generator_late_p99"]) is not None and late > _LATE
    ]


def definitions() -> list[str]:
    """Say how the figures are defined, in few lines."""
    return [
        "A wait counts from the moment when the request was due, whatever its outcome.",
        f"Recovered: from then on {100 * RECOVERED_SHARE:.0f} % were served for {RECOVERY_WINDOW:g} s at least.",
    ]
