"""The pages under docs/how-to/migration/ show nothing that is not run."""

from __future__ import annotations

import ast
from pathlib import Path

import pytest

from migration.pairs import PAGES, pairs_of, snippets_of

TESTS = Path(__file__).parent
LIBRARIES = [
    "backoff",
    "circuitbreaker",
    "flask_limiter",
    "limits",
    "purgatory",
    "pybreaker",
    "slowapi",
    "stamina",
    "tenacity",
]


def _names_asked_for(module: Path) -> set[str]:
    calls = [node for node in ast.walk(ast.parse(module.read_text())) if isinstance(node, ast.Call)]
    asked = [call for call in calls if isinstance(call.func, ast.Name) and call.func.id == "pair"]
    return {argument.value for call in asked for argument in call.args if isinstance(argument, ast.Constant)}


@pytest.mark.parametrize("library", LIBRARIES)
def test_every_snippet_belongs_to_a_pair_and_every_pair_is_run(library: str) -> None:
    """A snippet that no test runs would rot."""
    page = PAGES / f"{library}.md"
    pairs = pairs_of(page)
    assert sorted(snippets_of(page)) == sorted(code for pair in pairs.values() for code in pair)
    assert set(pairs) == _names_asked_for(TESTS / f"test_{library}.py")


@pytest.mark.parametrize("library", LIBRARIES)
def test_a_pair_is_the_other_library_first_and_then_ours(library: str) -> None:
    """The first snippet knows nothing of resilio, the second one nothing of the library."""
    for before, after in pairs_of(PAGES / f"{library}.md").values():
        assert library in before
        assert "resilio" not in before
        assert "resilio" in after
        assert f"import {library}" not in after
        assert f"from {library}" not in after
