"""The report says itself which of its tables were written with other laws than those of today."""

from __future__ import annotations

from pathlib import Path

import pytest

from benchmarks.efficacy import _studies
from benchmarks.efficacy._results import RESULTS, record


def _report(tmp_path: Path, title: str) -> str:
    path = tmp_path / "RESULTS.md"
    path.write_text("# Microbenchmarks\n")
    record(title, "| a |\n| --- |\n| 1 |", path)
    return path.read_text()


@pytest.mark.parametrize("title", _studies.STUDIES)
def test_the_laws_of_a_study_are_there(title):
    """Each pattern of a study meets a file, so that a file that moves does not leave a table fresh for ever."""
    root = _studies.ROOT
    assert not [pattern for pattern in _studies.STUDIES[title] if not list(root.glob(pattern))]


def test_the_report_calls_each_stale_table_stale():
    """What `RESULTS.md` says of a table is true; `python -m benchmarks.efficacy._studies --mark` makes it so."""
    text = RESULTS.read_text(encoding="utf-8")
    assert _studies.mark(text) == text


def test_each_table_of_the_report_has_a_study():
    """No table stands in the report that no study writes any more."""
    titles = {title for title, _ in _studies.sections(RESULTS.read_text(encoding="utf-8"))}
    assert titles <= set(_studies.STUDIES)


def test_a_law_that_changes_makes_its_tables_stale(tmp_path, monkeypatch):
    """A new table is not stale; it is once the code of a law is another, and no more after the law is as it was."""
    text = _report(tmp_path, "R10 jitter")
    assert _studies.mark(text) == text
    real = _studies.digest
    monkeypatch.setattr(_studies, "digest", lambda title: real(title)[::-1])
    stale = _studies.mark(text)
    assert stale.count(_studies.STALE) == 1
    assert _studies.mark(stale) == stale
    monkeypatch.undo()
    assert _studies.mark(stale) == text


def test_a_comment_makes_nothing_stale(tmp_path):
    """The digest is of code: a comment or a blank line in a law's file changes nothing, a number does."""
    law = tmp_path / "src_c" / "include" / "backoff.h"
    law.parent.mkdir(parents=True)
    seen = []
    for code in ("int cap = 5;\n", "/* why\n   five */\nint cap = 5;\n\n", "int cap = 6;\n"):
        law.write_text(code)
        seen.append(_studies.digest("R10 jitter", tmp_path))
    assert seen[0] == seen[1] != seen[2]


def test_a_title_without_a_study_is_refused(tmp_path):
    """A study whose laws are not named writes no table."""
    with pytest.raises(KeyError, match="R99"):
        _report(tmp_path, "R99 nothing")
