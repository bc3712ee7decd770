"""Figures, table, progress and picture of made-up runs."""

from __future__ import annotations

import argparse
import asyncio
import io
import json
import sys
from pathlib import Path
from typing import Any
from xml.etree import ElementTree as ET

import attrs
import pytest

from examples.demo import _main
from examples.demo._acts import Act, acts
from examples.demo._progress import PlainProgress, sparkline
from examples.demo._records import Record
from examples.demo._report import definitions, doubts, headline, plain_table, rows_of, show
from examples.demo._run import Run
from examples.demo._schedule import Phase, Schedule
from examples.demo._summary import summary_of

pytestmark = pytest.mark.once

SCHEDULE = Schedule((Phase("healthy", 1.0), Phase("down", 1.0, unavailable=1.0), Phase("healthy again", 2.0)))
OUTAGE, SPIKE, STORM, REGION = acts(quick=True)
ACT: Act = attrs.evolve(OUTAGE, schedule=SCHEDULE)
SHORT_STORM: Act = attrs.evolve(STORM, schedule=SCHEDULE)
ACTS = (ACT, SPIKE, SHORT_STORM, REGION)


def run_of(name: str, *, fails_until: float, complete: bool = True, seconds: float = 4.0) -> Run:
    run = Run(name, ACT, 800, started=100.0, ended=100.0 + seconds, complete=complete)
    for number in range(round(seconds * 100)):
        due = number / 100
        outcome = "timeout" if 1.0 <= due < fails_until else "ok"
        run.records.append(Record(due, "recommendations", outcome, 1.0 if outcome == "timeout" else 0.05))
        run.records.append(Record(due, "checkout", "ok", 0.02))
    run.server = {
        "recommendations": {"arrived": {"healthy": 100, "down": 90}, "fates": {}, "wasted": 3},
        "checkout": {"arrived": {"healthy": 400}, "fates": {}, "wasted": 0},
    }
    return run


def spike_of(name: str, slow: float) -> Run:
    """Twenty requests a second for three seconds, the first of which waits as long as that."""
    run = Run(name, SPIKE, 60, started=100.0, ended=103.0, complete=True)
    run.records += [Record(number / 20, "search", "ok", slow if number == 0 else 0.02) for number in range(60)]
    run.server = {f"search {number}": {"arrived": {"well": 16}, "wasted": 1} for number in range(4)}
    return run


def storm_of(name: str, fails_until: float) -> Run:
    """A hundred orders a second for four seconds, of which those from the first second on fail until then."""
    run = Run(name, SHORT_STORM, 400, started=100.0, ended=104.0, complete=True)
    for number in range(400):
        outcome = "timeout" if 1.0 <= number / 100 < fails_until else "ok"
        run.records.append(Record(number / 100, "orders", outcome, 0.05))
    run.server = {"orders": {"arrived": {"healthy": 400, "down": 600}, "tenths": [25] * 40, "wasted": 70}}
    return run


def region_of(name: str, fails_until: float) -> Run:
    """A hundred requests a second for as long as the act takes, which fail from the region's loss until then."""
    seconds, gone = REGION.schedule.seconds, REGION.schedule.spans()[1][1]
    run = Run(name, REGION, round(100 * seconds), started=100.0, ended=100.0 + seconds, complete=True)
    for number in range(round(100 * seconds)):
        outcome = "timeout" if gone <= number / 100 < fails_until else "ok"
        run.records.append(Record(number / 100, "catalog", outcome, 0.05))
    book = {"arrived": {"healthy": 50, "gone": 5}, "tenths": [5] * 20, "wasted": 0}
    run.server = dict.fromkeys(REGION.sites, book)
    return run


def summaries_of(*runs: Run) -> dict[str, dict[str, Any]]:
    return {act.name: {run.name: summary_of(run) for run in runs if run.act is act} for act in ACTS}


def test_summary_says_what_happened() -> None:
    """Every figure of the summary follows from the records and from the server's counts."""
    summary = summary_of(run_of("bare", fails_until=2.5))
    assert summary["answered"] == 800
    assert summary["success_rate"] == pytest.approx(650 / 800)
    assert summary["recommendations"]["outcomes"] == {"ok": 250, "timeout": 150}
    assert summary["recommendations"]["p50"] == 0.05
    assert summary["recommendations"]["p99"] == 1.0
    assert summary["checkout"]["success_rate"] == 1.0
    assert summary["checkout"]["p99"] == 0.02
    assert summary["calls_while_down"] == 90
    assert summary["calls_sent"] == pytest.approx(590 / 800, abs=1e-4)
    assert summary["answers_for_nobody"] == 3
    assert summary["recovery_seconds"] == pytest.approx(0.5, abs=0.03)
    assert json.loads(json.dumps(summary)) == summary


def test_summary_of_an_interrupted_run_admits_what_it_does_not_know() -> None:
    """An outage not seen to its end gives no count and no recovery, and a server that was not asked gives none."""
    partial = run_of("guarded", fails_until=4.0, complete=False, seconds=1.5)
    summary = summary_of(partial)
    assert summary["complete"] is False
    assert summary["calls_while_down"] is None
    assert summary["recovery_seconds"] is None
    assert summary["calls_sent"] is None
    partial.server = None
    assert summary_of(partial)["answers_for_nobody"] is None


def test_summary_of_a_run_that_never_began_is_empty() -> None:
    """Ctrl-C before the first request is no division by zero."""
    summary = summary_of(Run("bare", ACT, 400))
    assert summary["seconds"] == 0.0
    assert summary["success_rate"] is None
    assert summary["checkout"]["p99"] is None
    figures = [row[1] for row in rows_of([ACT], {"outage": {"bare": summary}})]
    assert set(figures) == {"", "-", "- / -"}


def test_table_puts_both_runs_side_by_side() -> None:
    """Each figure has a row, and a service that did not recover is said not to have."""
    runs = summaries_of(run_of("bare", fails_until=4.0), run_of("guarded", fails_until=2.0))
    rows = {label.strip(): figures for label, *figures in rows_of([ACT], runs)}
    assert rows["time to recover after the outage"][0] == "not within the run"
    assert rows["time to recover after the outage"][1].endswith(" ms")
    assert rows["calls that reached them while down"] == ["90", "90"]
    assert rows["its callers wait, p50 / p99"] == ["20 ms / 20 ms"] * 2
    assert f"guarded by {ACT.guard}" in rows
    assert rows["recommendations, which fail: served"] == ["25.0 %", "75.0 %"]
    table = plain_table(rows_of(ACTS, runs)).splitlines()
    assert max(map(len, table)) <= 80
    assert len({len(line) for line in table if line.endswith((" %", "90", "-"))}) == 1
    assert [line.strip() for line in table if line.strip() in {act.title for act in ACTS}] == [
        act.title for act in ACTS
    ]
    assert "recovery: not within the run" in headline(ACT, runs["outage"]["bare"])
    assert "well again after" in headline(ACT, runs["outage"]["guarded"])


def test_table_says_what_hedges_and_retries_cost_and_gain() -> None:
    """The spike has the waits and the extra calls, the storm the calls for each order and the recovery."""
    runs = summaries_of(
        *(spike_of("bare", 0.3), spike_of("guarded", 0.04)), *(storm_of("bare", 4.0), storm_of("guarded", 2.0))
    )
    spike = {label.strip(): figures for label, *figures in rows_of([SPIKE], runs)}
    assert spike["callers wait, p50 / p99"] == ["20 ms / 300 ms", "20 ms / 40 ms"]
    assert spike["calls sent for each request"] == ["1.07", "1.07"]
    storm = {label.strip(): figures for label, *figures in rows_of([SHORT_STORM], runs)}
    assert storm["calls sent for each order"] == ["2.50", "2.50"]
    assert storm["answers for callers who had gone"] == ["70", "70"]
    assert storm["time to recover after the outage"] == ["not within the run", "0 ms"]
    assert headline(SPIKE, runs["spike"]["bare"]) == "p99 300 ms, 1.07 calls for each request"
    assert headline(SHORT_STORM, runs["storm"]["bare"]).startswith("25.0 % of orders served, 2.50 calls for each")


def test_table_shows_the_loss_of_a_region() -> None:
    """The share served while it is gone, and the calls that went there, to both of its sites."""
    gone = REGION.schedule.spans()[1][1]
    runs = summaries_of(region_of("bare", 99.0), region_of("guarded", gone + 0.2))
    rows = {label.strip(): figures for label, *figures in rows_of([REGION], runs)}
    assert rows["while the region is gone"] == ["0.0 %", "80.0 %"]
    assert rows["calls that went there while it was gone"] == ["10", "10"]
    assert headline(REGION, runs["region"]["guarded"]).startswith("80.0 % served while it is gone,")


def test_load_that_came_late_is_owned_up_to() -> None:
    """A machine too busy to offer the load on time is said to be, for the run that suffered from it."""
    on_time = summary_of(run_of("guarded", fails_until=2.0))
    late = {**on_time, "generator_late_p99": 0.4}
    assert doubts({"outage": {"bare": on_time, "guarded": on_time}, "spike": {}}) == []
    (caution,) = doubts({"outage": {"bare": late, "guarded": on_time}})
    assert caution.endswith("too busy to begin requests on time: outage bare (p99 400 ms late).")
    words = " ".join(definitions({"outage": {"bare": late, "guarded": on_time}}))
    assert "99 % of the requests began within 400 ms of when they were due" in words


def test_act_that_cannot_be_judged_is_run_again_and_then_left_out(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    """It was printed with figures, and a line below said that they were of the machine."""
    made: list[Run] = []

    async def make(runs: list[Run], act: Act, name: str, options: object) -> None:
        run = run_of(name, fails_until=2.0)
        run.records[:] = [attrs.evolve(record, late=0.4) for record in run.records]
        made.append(run)
        runs.append(run)

    monkeypatch.setattr(_main, "_make", make)
    act, runs = run_of("bare", fails_until=2.0).act, []
    options = argparse.Namespace(output=tmp_path, json=False)
    asyncio.run(_main._judge(runs, act, options))
    assert [run.name for run in made] == ["bare", "guarded"] * 2
    assert runs == made[2:]
    assert "outage: this machine was too busy, so it is run again" in capsys.readouterr().err
    result = {"complete": True, "runs": {act.name: {run.name: summary_of(run) for run in runs}}}
    _main._finish(result, runs, [act], options, has_picture=True)
    output = capsys.readouterr().out
    assert "LEFT OUT: this machine was too busy to begin requests on time: outage bare" in output
    assert act.title not in output
    assert not (tmp_path / "demo.svg").exists()
    assert "make demo ARGS=--watch" in output


def test_show_prints_table_and_notes(capsys: pytest.CaptureFixture[str]) -> None:
    """Where standard output is no terminal the table is plain text."""
    show([("figure", "1", "2")], ["a note"])
    assert capsys.readouterr().out.splitlines()[-3:] == ["  figure     1        2", "", "  a note"]


def test_sparkline_shows_the_share_served() -> None:
    """Full bars where all is served, low ones where nothing is, and none for time that has not come."""
    records = run_of("bare", fails_until=2.0).records
    failing = [record for record in records if record.dependency == "recommendations"]
    assert sparkline(failing, 3.0, 4.0, width=8) == "██▁▁██"
    assert sparkline([], 2.0, 4.0, width=8) == "    "


def test_plain_progress_is_a_line_about_the_last_second() -> None:
    """Without a terminal, progress is one line a run that names it, its phase and what is served now."""
    stream = io.StringIO()
    progress = PlainProgress(stream)
    progress.update([run_of("bare", fails_until=4.0, seconds=1.995), run_of("guarded", fails_until=2.0)])
    progress.close()
    first, last = stream.getvalue().splitlines()
    assert first.split()[:5] == ["bare", "outage", "2.0", "s", "down"]
    assert "checkout 100 % served, p99    20 ms" in first
    assert last.startswith("guarded ")
    assert "last answers" in last


def test_live_progress_has_a_row_for_what_each_run_asks_for() -> None:
    """On a terminal all runs so far stand one below the other, each with its act and what it asks for."""
    pytest.importorskip("rich")
    from rich.console import Console

    from examples.demo._progress import LiveProgress

    progress = LiveProgress()
    progress.update([run_of("bare", fails_until=4.0)])
    progress.update([spike_of("guarded", 0.04)])
    progress.close()
    console = Console(file=io.StringIO(), width=160)
    console.print(progress._table())
    text = console.file.getvalue()
    assert [word in text for word in ("outage, bare", "recommendations", "checkout", "spike, guarded", "search")] == [
        True
    ] * 5


def test_table_on_a_terminal_is_drawn_by_rich(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """Where rich is there and somebody looks, it has colours; titles of acts are rows without figures."""
    pytest.importorskip("rich")
    monkeypatch.setattr(sys.stdout, "isatty", lambda: True, raising=False)
    show([("Outage", "", ""), ("  figure", "1", "2")], ["a note"])
    out = capsys.readouterr().out
    assert "Outage" in out
    assert "figure" in out
    assert out.endswith("  a note\n")


@pytest.mark.real(2.0)
@pytest.mark.parametrize("interrupted", [False, True], ids=["complete", "partial"])
def test_picture_is_an_svg(tmp_path: Path, *, interrupted: bool) -> None:
    """Both runs are drawn, and so is a partial result, which says that it is one."""
    pytest.importorskip("matplotlib")
    from examples.demo._picture import draw

    runs = [run_of("bare", fails_until=4.0)]
    if not interrupted:
        runs += [run_of("guarded", fails_until=2.0), spike_of("bare", 0.3), spike_of("guarded", 0.04)]
        runs += [storm_of("bare", 4.0), storm_of("guarded", 2.0), region_of("bare", 9.0), region_of("guarded", 0.8)]
    note = "PARTIAL RESULT" if interrupted else None
    draw(ACTS, runs, summaries_of(*runs), tmp_path / "demo.svg", note)
    root = ET.parse(tmp_path / "demo.svg").getroot()
    assert root.tag.endswith("svg")
    text = (tmp_path / "demo.svg").read_text()
    assert ("PARTIAL RESULT" in text) is interrupted


def test_picture_of_nothing_is_drawn(tmp_path: Path) -> None:
    """An interruption before the first request gives an empty picture, not an error."""
    pytest.importorskip("matplotlib")
    from examples.demo._picture import draw

    runs = [Run("bare", act, 100) for act in ACTS]
    draw(ACTS, runs, summaries_of(*runs), tmp_path / "demo.svg", "PARTIAL RESULT")
    assert (tmp_path / "demo.svg").stat().st_size > 0
