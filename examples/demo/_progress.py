"""
What one sees while a run goes on: rich's live display on a terminal that has it, plain lines anywhere else.

Everything goes to standard error, so standard output holds the result alone.
"""

from __future__ import annotations

import asyncio
import importlib.util
import sys
from collections.abc import Iterable, Sequence
from typing import Any, Protocol, TextIO

from examples.demo._records import Record, percentile, slices, success_rate
from examples.demo._run import Run

__all__ = ["LiveProgress", "PlainProgress", "Progress", "follow", "progress_for", "sparkline"]

_BARS = "▁▂▃▄▅▆▇█"
_RECENT = 1.0  # seconds that "now" is
_WIDTH = 40  # characters of a sparkline


class Progress(Protocol):
    """Shows runs as they go on."""

    interval: float

    def update(self, runs: Sequence[Run]) -> None:
        """Show where runs that go on are now."""
        ...

    def close(self) -> None:
        """Leave the terminal as it was."""
        ...


def sparkline(records: Iterable[Record], elapsed: float, seconds: float, width: int = _WIDTH) -> str:
    """
    Draw the share of requests served over time, a character for each stretch of it.

    Args:
        records: Of one dependency.

        elapsed: Seconds from the start until now.

        seconds: That the whole width stands for.

        width: In characters.

    Returns:
        As many characters as have elapsed: a low bar is nothing served, a full one everything, a blank no request.
    """
    shown = min(width, int(width * elapsed / seconds))
    served = [(each.outcomes["ok"], each.outcomes.total()) for each in slices(records, seconds, seconds / width)]
    return "".join(_BARS[round(7 * ok / total)] if total else " " for ok, total in served[:shown])


def _recent(run: Run, dependency: str) -> list[Record]:
    """Give the requests that have ended in the last second, whenever they began."""
    since = run.elapsed - _RECENT
    return [each for each in run.records if each.dependency == dependency and each.due + each.latency >= since]


def _now(run: Run, dependency: str) -> tuple[str, str]:
    recent = _recent(run, dependency)
    rate, p99 = success_rate(recent), percentile((record.latency for record in recent), 99)
    return ("-" if rate is None else f"{100 * rate:3.0f} %"), ("-" if p99 is None else f"{1000 * p99:5.0f} ms")


def _phase(run: Run) -> str:
    return run.act.schedule.at(run.elapsed)[0].name if run.elapsed < run.seconds else "last answers"


class PlainProgress:
    """
    A line for each run, now and then.

    Args:
        stream: Where the lines go.
    """

    interval = 1.5

    def __init__(self, stream: TextIO) -> None:
        self._stream = stream

    def update(self, runs: Sequence[Run]) -> None:
        """Print what the last second was like."""
        for run in runs:
            parts = [f"{run.name:<8} {run.act.name:<6} {run.elapsed:5.1f} s  {_phase(run):<13}"]
            for dependency in run.act.rates:
                served, p99 = _now(run, dependency)
                parts.append(f"{dependency} {served} served, p99 {p99}")
            print("  ".join(parts), file=self._stream, flush=True)

    def close(self) -> None:
        """Do nothing: lines need no end."""


class LiveProgress:
    """All runs one below the other, drawn anew a few times a second."""

    interval = 0.2

    def __init__(self) -> None:
        from rich.console import Console
        from rich.live import Live

        self._runs: dict[tuple[str, str], Run] = {}
        self._live = Live(console=Console(stderr=True), auto_refresh=False, transient=True)
        self._live.start()

    def update(self, runs: Sequence[Run]) -> None:
        """Draw all runs so far."""
        self._runs.update({(run.act.name, run.name): run for run in runs})
        self._live.update(self._table(), refresh=True)

    def _table(self) -> Any:
        from rich.table import Table

        table = Table(title="served of the requests that were due", title_style="dim", expand=False)
        for heading in ("run", "phase", "requests to", "over time", "last second", "its p99"):
            table.add_column(heading, justify="right" if heading in ("last second", "its p99") else "left")
        table.columns[3].min_width = _WIDTH
        for run in self._runs.values():
            self._add(table, run)
        return table

    def _add(self, table: Any, run: Run) -> None:
        lead = (f"{run.act.name}, {run.name}", f"{_phase(run)} {run.elapsed:.0f} s")
        for dependency in run.act.rates:
            colour = "dark_orange3" if dependency == run.act.flaky else "dodger_blue1"
            records = [record for record in run.records if record.dependency == dependency]
            bars = sparkline(records, run.elapsed, run.seconds)
            table.add_row(*lead, dependency, f"[{colour}]{bars}[/]", *_now(run, dependency))
            lead = ("", "")

    def close(self) -> None:
        """Take the display away; the report follows."""
        self._live.stop()


def progress_for() -> Progress:
    """Choose the display: live if standard error is a terminal and rich is there, else plain lines."""
    if sys.stderr.isatty() and importlib.util.find_spec("rich") is not None:
        return LiveProgress()
    return PlainProgress(sys.stderr)


async def follow(runs: Sequence[Run], progress: Progress) -> None:
    """Keep the display of the runs that go on up to date until cancelled."""
    while True:
        await asyncio.sleep(progress.interval)
        progress.update([run for run in runs if run.started is not None and run.ended is None])
