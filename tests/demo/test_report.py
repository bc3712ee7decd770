"""Figures, table, progress and picture of made-up runs."""

from __future__ import annotations

import io
import json
from pathlib import Path
from xml.etree import ElementTree as ET

import pytest

from resilio.demo._progress import PlainProgress, sparkline
from resilio.demo._records import Record
from resilio.demo._report import doubts, headline, plain_table, rows_of, show
from resilio.demo._run import Run
from resilio.demo._schedule import QUICK, Phase, Schedule
from resilio.demo._summary import summary_of

SCHEDULE = Schedule((Phase("healthy", 1.0), Phase("down", 1.0, unavailable=1.0), Phase("healthy again", 2.0)))


def run_of(name: str, *, fails_until: float, complete: bool = True, seconds: float = 4.0) -> Run:
    run = Run(name, 4.0, 400, started=100.0, ended=100.0 + seconds, complete=complete)
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


def test_summary_says_what_happened() -> None:
    """Every figure of the summary follows from the records and from the server's counts."""
    summary = summary_of(run_of("bare", fails_until=2.5), SCHEDULE)
    assert summary["answered"] == 800
    assert summary["success_rate"] == pytest.approx(650 / 800)
    assert summary["recommendations"]["outcomes"] == {"ok": 250, "timeout": 150}
    assert summary["recommendations"]["p50"] == 0.05
    assert summary["recommendations"]["p99"] == 1.0
    assert summary["checkout"]["success_rate"] == 1.0
    assert summary["checkout"]["p99"] == 0.02
    assert summary["calls_while_down"] == 90
    assert summary["answers_for_nobody"] == 3
    assert summary["recovery_seconds"] == pytest.approx(0.5, abs=0.03)
    assert json.loads(json.dumps(summary)) == summary


def test_summary_of_an_interrupted_run_admits_what_it_does_not_know() -> None:
    """An outage not seen to its end gives no count and no recovery, and a server that was not asked gives none."""
    partial = run_of("guarded", fails_until=4.0, complete=False, seconds=1.5)
    summary = summary_of(partial, SCHEDULE)
    assert summary["complete"] is False
    assert summary["calls_while_down"] is None
    assert summary["recovery_seconds"] is None
    partial.server = None
    assert summary_of(partial, SCHEDULE)["answers_for_nobody"] is None


def test_summary_of_a_run_that_never_began_is_empty() -> None:
    """Ctrl-C before the first request is no division by zero."""
    summary = summary_of(Run("bare", 4.0, 400), SCHEDULE)
    assert summary["seconds"] == 0.0
    assert summary["success_rate"] is None
    assert summary["checkout"]["p99"] is None
    assert [row[1] for row in rows_of({"bare": summary})] == ["-"] * 11


def test_table_puts_both_runs_side_by_side() -> None:
    """Each figure has a row, and a service that did not recover is said not to have."""
    runs = {
        "bare": summary_of(run_of("bare", fails_until=4.0), SCHEDULE),
        "guarded": summary_of(run_of("guarded", fails_until=2.0), SCHEDULE),
    }
    rows = {label.strip(): figures for label, *figures in rows_of(runs)}
    assert rows["time to recover after the outage"][0] == "not within the run"
    assert rows["time to recover after the outage"][1].endswith(" ms")
    assert rows["calls that reached them while down"] == ["90", "90"]
    assert rows["recommendations, which go down: served"] == ["25.0 %", "75.0 %"]
    table = plain_table(rows_of(runs)).splitlines()
    assert len({len(line) for line in table}) == 1
    assert "recovery: not within the run" in headline(runs["bare"])
    assert "well again after" in headline(runs["guarded"])


def test_load_that_came_late_is_owned_up_to() -> None:
    """A machine too busy to offer the load on time is said to be, for the run that suffered from it."""
    on_time = summary_of(run_of("guarded", fails_until=2.0), SCHEDULE)
    late = {**on_time, "generator_late_p99": 0.4}
    assert doubts({"bare": on_time, "guarded": on_time}) == []
    (caution,) = doubts({"bare": late, "guarded": on_time})
    assert "the bare run's requests on time (p99 400 ms late)" in caution


def test_show_prints_table_and_notes(capsys: pytest.CaptureFixture[str]) -> None:
    """Where standard output is no terminal the table is plain text."""
    show([("figure", "1", "2")], ["a note"])
    assert capsys.readouterr().out.splitlines()[-2:] == ["  figure     1        2", "  a note"]


def test_sparkline_shows_the_share_served() -> None:
    """Full bars where all is served, low ones where nothing is, and none for time that has not come."""
    records = run_of("bare", fails_until=2.0).records
    failing = [record for record in records if record.dependency == "recommendations"]
    assert sparkline(failing, 3.0, 4.0, width=8) == "██▁▁██"
    assert sparkline([], 2.0, 4.0, width=8) == "    "


def test_plain_progress_is_a_line_about_the_last_second() -> None:
    """Without a terminal, progress is one line that names run, phase and what is served now."""
    stream = io.StringIO()
    progress = PlainProgress(SCHEDULE, stream)
    progress.update(run_of("bare", fails_until=4.0, seconds=1.995))
    progress.update(run_of("bare", fails_until=2.0))
    progress.close()
    first, last = stream.getvalue().splitlines()
    assert first.split()[:4] == ["bare", "2.0", "s", "down"]
    assert "checkout 100 % served, p99    20 ms" in first
    assert "last answers" in last


@pytest.mark.parametrize("interrupted", [False, True], ids=["complete", "partial"])
def test_picture_is_an_svg(tmp_path: Path, *, interrupted: bool) -> None:
    """Both runs are drawn, and so is a partial result, which says that it is one."""
    pytest.importorskip("matplotlib")
    from resilio.demo._picture import draw

    runs = [run_of("bare", fails_until=4.0)]
    if not interrupted:
        runs.append(run_of("guarded", fails_until=2.0))
    summaries = {run.name: summary_of(run, SCHEDULE) for run in runs}
    draw(runs, summaries, SCHEDULE, tmp_path / "demo.svg", "PARTIAL RESULT" if interrupted else None)
    root = ET.parse(tmp_path / "demo.svg").getroot()
    assert root.tag.endswith("svg")
    text = (tmp_path / "demo.svg").read_text()
    assert ("PARTIAL RESULT" in text) is interrupted


def test_picture_of_nothing_is_drawn(tmp_path: Path) -> None:
    """An interruption before the first request gives an empty picture, not an error."""
    pytest.importorskip("matplotlib")
    from resilio.demo._picture import draw

    run = Run("bare", QUICK.seconds, 100)
    draw([run], {"bare": summary_of(run, QUICK)}, QUICK, tmp_path / "demo.svg", "PARTIAL RESULT")
    assert (tmp_path / "demo.svg").stat().st_size > 0
