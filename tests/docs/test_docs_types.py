"""
The snippets of each page, as one file, pass mypy --strict and pyright.

A page may define a name anew, as `main` or an example of the same function.
"""

from __future__ import annotations

import importlib.util
import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from docs.pages import ROOT, as_file, as_typed_files, guides, pages

pytestmark = [pytest.mark.slow, pytest.mark.once, pytest.mark.untraced]

ONLY_AT_RUN_TIME = ("resilio", "explain", "retries", "hedges", "targets")
"""Attributes that documented objects have and their static types lack."""

NOT_OF_PAGES = ("no-redef", "import-untyped", "method-assign")
"""What mypy rejects for no fault of a page: packages without types, and Flask's own `app.wsgi_app = ...`."""


OTHERWISE_ABSENT = frozenset({"mcp"})
"""Guides that are checked only where their client is installed."""


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return a folder with a file for each page."""
    target = tmp_path_factory.mktemp("pages")
    for page in pages():
        (target / f"{_name(page)}.py").write_text(as_file(page.read_text(encoding="utf-8")), encoding="utf-8")
    for page in guides():
        if page.stem in OTHERWISE_ABSENT and importlib.util.find_spec(page.stem) is None:
            continue
        for number, code in enumerate(as_typed_files(page.read_text(encoding="utf-8"))):
            (target / f"{_name(page)}_{number}.py").write_text(code, encoding="utf-8")
    return target


def _name(page: Path) -> str:
    return "_".join(page.relative_to(ROOT).with_suffix("").parts).replace("-", "_").lower()


def _run(arguments: list[str], folder: Path) -> subprocess.CompletedProcess[str]:
    settings = {**os.environ, "MYPYPATH": str(ROOT)}
    if os.environ.get("RESILIO_TEST_INSTALLED") == "1":
        del settings["MYPYPATH"]
    command = [sys.executable, "-m", *arguments]
    return subprocess.run(command, capture_output=True, text=True, check=False, cwd=folder, env=settings, timeout=600)


def _is_known(message: str) -> bool:
    return any(f'"{name}"' in message for name in ONLY_AT_RUN_TIME)


def test_the_snippets_pass_mypy(folder: Path) -> None:
    """Of 27 pages 14 had snippets that a type checker rejects, and so did what users copied."""
    files = sorted(path.name for path in folder.glob("*.py"))
    off = [f"--disable-error-code={code}" for code in NOT_OF_PAGES]
    options = ["--strict", "--follow-imports=silent", "--no-error-summary", *off]
    done = _run(["mypy", *options, *files], folder)
    errors = [line for line in done.stdout.splitlines() if ": error:" in line and not _is_known(line)]
    assert errors == [], done.stderr
    assert done.returncode in (0, 1), done.stderr


def test_the_snippets_pass_pyright(folder: Path) -> None:
    """The same for the checker of most editors."""
    if importlib.util.find_spec("pyright") is None:
        pytest.skip("pyright is not installed")
    settings: dict[str, Any] = {"reportRedeclaration": False, "extraPaths": [str(ROOT)]}
    if os.environ.get("RESILIO_TEST_INSTALLED") == "1":
        del settings["extraPaths"]
    (folder / "pyrightconfig.json").write_text(json.dumps(settings))
    done = _run(["pyright", "--outputjson", "--pythonpath", sys.executable], folder)
    found = [one for one in json.loads(done.stdout)["generalDiagnostics"] if one["severity"] == "error"]
    errors = [f"{one['file']}:{one['range']['start']['line'] + 1}: {one['message']}" for one in found]
    assert [error for error in errors if not _is_known(error)] == []


def test_a_guide_that_awaits_is_checked(tmp_path: Path) -> None:
    """
    Guides to clients stood outside, as their `await` is in no function: a message that the SDK rejects was unnoticed.

    An error is found there, in the line of the page; the names that the test of a guide gives it are known.
    """
    page = "# Page\n\n<!-- comment -->\n\n```python\nimport asyncio\n\nawait asyncio.sleep(url)\n```\n"
    (code,) = as_typed_files(page)
    (tmp_path / "page.py").write_text(code)
    done = _run(["mypy", "--strict", "--follow-imports=silent", "page.py"], tmp_path)
    assert 'page.py:8: error: No overload variant of "sleep" matches argument type "str"' in done.stdout
    assert "Found 1 error" in done.stdout
    assert {"openai.md", "asyncpg.md", "recipes.md"} <= {guide.name for guide in guides()}


def test_an_error_of_type_is_noticed(tmp_path: Path) -> None:
    """The tests above test something."""
    page = '# Page\n```python\nfrom resilio import bulkhead\n\nbulkhead("three")\n```\n'
    (tmp_path / "page.py").write_text(as_file(page))
    done = _run(["mypy", "--strict", "--follow-imports=silent", "page.py"], tmp_path)
    assert 'page.py:5: error: Argument 1 to "bulkhead" has incompatible type "str"' in done.stdout
