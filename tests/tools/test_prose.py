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


def test_a_synonym_of_a_term_of_the_glossary_fails(prose: ModuleType, tmp_path: Path) -> None:
    """A page spoke of percentiles and time-outs, another of quantiles and timeouts: the glossary decides."""
    file = tmp_path / "code.py"
    file.write_text('raise ValueError("a call was declined: the 99th percentile, and `declined`")\n')
    found = [words.partition(":")[0] for _, rule, words in breaches(prose, file) if rule == "synonym"]
    assert found == ["declined", "percentile"]
    assert prose.main([str(tmp_path)]) == 1
    (tmp_path / "migration").mkdir()
    file.rename(tmp_path / "migration" / "code.py")
    assert prose.main([str(tmp_path)]) == 0  # it names things as another library does


def test_the_glossary_lists_what_each_term_replaces(prose: ModuleType) -> None:
    """All forms of a word are found, of verbs too, and a word that is part of another is none."""
    pattern = prose.synonyms("| word | means | instead of |\n|---|---|---|\n| **no** | not | `deny`, `turn away` |\n")
    text = "Denied, denies, deny; turns out, turned  away; no denying and denizens"
    assert pattern.findall(text.lower()) == ["denied", "denies", "deny", "denying"]
    assert prose.synonyms("| **no** | not | `turn away` |").findall("turn\naway") == ["turn\naway"]
    assert set(prose.SYNONYM.findall("dry runs, denials, speculative")) == {"dry runs", "denials", "speculative"}


def test_long_sentences_on_average_fail(prose: ModuleType, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """No sentence is too long by itself, and the page is tiring all the same."""
    (tmp_path / "short.md").write_text("One two three four.\n" * 30)
    assert prose.main([str(tmp_path)]) == 0
    (tmp_path / "long.md").write_text("\n\n".join([" ".join(["word"] * 25) + "."] * 300))
    assert prose.main([str(tmp_path)]) == 1
    assert "words on average" in capsys.readouterr().out
