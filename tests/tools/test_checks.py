"""The checks of names, docstrings and commit messages find what they look for."""

from __future__ import annotations

import importlib
from pathlib import Path
from typing import Any

import pytest

TOOLS = Path(__file__).parents[2] / "tools"

pytestmark = [pytest.mark.once, pytest.mark.skipif(not TOOLS.is_dir(), reason="the tools are not here")]


def check(name: str, monkeypatch: pytest.MonkeyPatch) -> Any:
    """Import a tool."""
    monkeypatch.syspath_prepend(str(TOOLS))
    return importlib.import_module(name)


MODULE = '''
import time as _time
from typing import overload


class Public:
    def undocumented(self) -> None: ...
    def _private(self) -> None: ...


class _Private:
    def as_well(self) -> None: ...


class Derived(Public):
    def undocumented(self) -> None: ...


@overload
def by_its_last() -> int: ...
@overload
def by_its_last(given: int) -> str: ...
def by_its_last(given=None):
    """Return it."""
'''


def test_public_functions_without_a_docstring_are_found(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """51 methods of private classes had none: linters ask for docstrings in public modules alone."""
    (tmp_path / "module.py").write_text(MODULE)
    found = [
        breach.partition(": ")[2] for breach in check("check_rules", monkeypatch).breaches_in(tmp_path / "module.py")
    ]
    assert found[:2] == ["undocumented has no docstring", "as_well has no docstring"]
    assert found[2:] == ["time is imported as _time; use its own name"]


@pytest.mark.parametrize(
    ("message", "breaches"),
    [
        ("retry: count rejected attempts\n\nThey were lost.\n# of git\n", 0),
        ("docs, tests: let two laws have one name", 0),
        ("Merge branch 'main'", 0),
        ("Count rejected attempts", 1),
        ("retry: count rejected attempts.", 1),
        (f"retry: {'count ' * 10}attempts", 1),
        ("retry: count rejected attempts\nThey were lost.", 1),
        ("", 1),
    ],
)
def test_commit_messages_have_one_form(message: str, breaches: int, monkeypatch: pytest.MonkeyPatch) -> None:
    """Subjects of up to 120 characters without an area made `git log --oneline` unreadable."""
    assert len(list(check("check_commit", monkeypatch).breaches_in(message))) == breaches
