"""The prose rule sees what a reader sees: pages, docstrings and messages, and neither code nor generated tables."""

from __future__ import annotations

import importlib
import sys
from pathlib import Path
from types import ModuleType

import pytest

TOOLS = Path(__file__).resolve().parents[2] / "tools"


@pytest.fixture
def prose(monkeypatch: pytest.MonkeyPatch) -> ModuleType:
    monkeypatch.syspath_prepend(str(TOOLS))
    sys.modules.pop("check_prose", None)
    return importlib.import_module("check_prose")


def breaches(prose: ModuleType, file: Path) -> list[tuple[int, str, str]]:
    return [(text.line, *breach) for text in prose.texts_of(file) for breach in prose.breaches_in(text)]


def test_a_page_is_read_without_its_code(prose: ModuleType, tmp_path: Path) -> None:
    """Only docstrings and comments were read: a page could say "nobody" as often as it liked."""
    page = tmp_path / "page.md"
    page.write_text(
        "# Title\n\nNobody waits, and `nobody` is a name.\n\n```python\nnobody = 1\n```\n\n| somebody |\n|---|\n| x |\n"
    )
    assert breaches(prose, page) == [(3, "term", "nobody"), (9, "term", "somebody")]


def test_generated_tables_are_not_prose(prose: ModuleType, tmp_path: Path) -> None:
    """What a program writes into a page is checked where it comes from."""
    page = tmp_path / "page.md"
    page.write_text("<!-- untuned: declared -->\n| nobody |\n|---|\n<!-- end -->\n\nWhoever.\n")
    assert breaches(prose, page) == [(6, "term", "whoever")]


def test_messages_are_read(prose: ModuleType, tmp_path: Path) -> None:
    """A message of an error, a warning or a log line is prose for users."""
    file = tmp_path / "code.py"
    file.write_text('raise ValueError("nobody may do this")\nwarn("somebody did that")\nx = "nobody reads this"\n')
    assert breaches(prose, file) == [(1, "term", "nobody"), (2, "term", "somebody")]


def test_long_sentences_on_average_fail(prose: ModuleType, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """No sentence is too long by itself, and the page is tiring all the same."""
    (tmp_path / "short.md").write_text("One two three four.\n" * 30)
    assert prose.main([str(tmp_path)]) == 0
    (tmp_path / "long.md").write_text("\n\n".join([" ".join(["word"] * 25) + "."] * 300))
    assert prose.main([str(tmp_path)]) == 1
    assert "words on average" in capsys.readouterr().out
