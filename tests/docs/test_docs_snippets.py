"""
Every Python snippet of the documentation runs.

A page is one namespace, executed from top to bottom as `__main__`, on virtual time: `asyncio.run`, `anyio.run` and
`trio.run` use its clock. Each snippet is plain Python, so that a reader can save it as a file. Where a snippet holds
tests, pytest runs them. A comment right above a snippet changes that:

    <!-- snippet: skip: why it cannot run -->
    <!-- snippet: raises: CircuitOpenError -->

and a page that says `virtual_time` itself, or holds `<!-- snippets: real time: why -->`, runs on the real clock. One
that holds `<!-- snippets: run by a test: why -->` is run there.
"""

from __future__ import annotations

import ast
import asyncio
import inspect
import os
import re
import subprocess
import sys
import types
from collections.abc import Callable
from contextlib import nullcontext
from importlib.metadata import entry_points
from pathlib import Path
from typing import Any

import anyio
import pytest
import trio
from docs.pages import ROOT, Snippet, as_file, pages, runs_as_a_file, snippets_of

_REAL_TIME = re.compile(r"<!-- snippets: real time: .+? -->|\bvirtual_time\b")


@pytest.mark.parametrize("page", pages(), ids=lambda page: str(page.relative_to(ROOT)))
def test_a_page_is_plain_python(page: Path) -> None:
    """A file of the tutorial, which "runs as it stands", was a SyntaxError: `await` stood outside a function."""
    compile(as_file(page.read_text(encoding="utf-8")), str(page), "exec")


@pytest.mark.slow
@pytest.mark.parametrize("page", [page for page in pages() if runs_as_a_file(page)], ids=lambda page: page.stem)
def test_a_page_that_says_so_runs_as_a_file(page: Path, tmp_path: Path) -> None:
    """As a reader would: its snippets in a file, and `python` with that file."""
    file = tmp_path / "page.py"
    file.write_text(as_file(page.read_text(encoding="utf-8")), encoding="utf-8")
    done = _run_python([str(file)], tmp_path)
    assert done.returncode == 0, done.stdout + done.stderr


def test_the_tutorial_says_that_it_runs() -> None:
    """The test above runs the pages that a new user copies first."""
    found = {page.name for page in pages() if runs_as_a_file(page)}
    assert {"README.md", "tutorial.md"} <= found


@pytest.fixture
def namespace(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> dict[str, Any]:
    """A fresh `__main__` in an empty folder."""
    module = types.ModuleType("__main__")
    monkeypatch.setitem(sys.modules, "__main__", module)
    monkeypatch.chdir(tmp_path)
    return vars(module)


@pytest.mark.slow
@pytest.mark.parametrize("page", pages(), ids=lambda page: str(page.relative_to(ROOT)))
def test_page_runs_from_top_to_bottom(page: Path, namespace: dict[str, Any], monkeypatch: pytest.MonkeyPatch) -> None:
    """What the page shows works as it stands."""
    from resilio import registry
    from resilio.testing import virtual_time

    text = page.read_text()
    registry.clear()
    with nullcontext() if _REAL_TIME.search(text) else virtual_time() as clock:
        runner = _use_clock(clock, monkeypatch)
        for snippet in snippets_of(text):
            if snippet.directive == "skip":
                continue
            if snippet.holds_tests:
                _run_tests(snippet, page)
            elif snippet.directive == "raises":
                with pytest.raises(BaseException) as caught:
                    _execute(snippet, page, namespace, runner)
                assert snippet.detail in {kind.__name__ for kind in caught.type.__mro__}, repr(caught.value)
            else:
                _execute(snippet, page, namespace, runner)
    registry.clear()


def _use_clock(clock: Any, monkeypatch: pytest.MonkeyPatch) -> Callable[[Callable[[], Any]], Any]:
    """Let the usual ways to start an event loop use the virtual clock; return how to run an async function."""
    if clock is None:
        return lambda main: asyncio.run(_await(main))

    def run_in(backend: str) -> Callable[..., Any]:
        return lambda main, *args, **_: clock.run(main, *args, backend=backend)

    def anyio_run(main: Any, *args: Any, backend: str = "asyncio", **_: Any) -> Any:
        return clock.run(main, *args, backend=backend)

    monkeypatch.setattr(asyncio, "run", lambda coroutine, **_: clock.run(lambda: coroutine))
    monkeypatch.setattr(anyio, "run", anyio_run)
    monkeypatch.setattr(trio, "run", run_in("trio"))
    return run_in("asyncio")


async def _await(main: Callable[[], Any]) -> Any:
    return await main()


def _execute(snippet: Snippet, page: Path, namespace: dict[str, Any], runner: Callable[..., Any]) -> None:
    padded = "\n" * snippet.line + snippet.code  # so that a traceback names the line of the page
    code = compile(padded, str(page), "exec", flags=ast.PyCF_ALLOW_TOP_LEVEL_AWAIT, dont_inherit=True)
    if code.co_flags & inspect.CO_COROUTINE:
        function = types.FunctionType(code, namespace)
        runner(function)
    else:
        exec(code, namespace)


def _run_tests(snippet: Snippet, page: Path) -> None:
    """Run a snippet's tests as a reader would, in a file of their own."""
    file = Path.cwd() / f"test_{page.stem.replace('-', '_')}_{snippet.line}.py"
    file.write_text(snippet.code)
    (Path.cwd() / "pytest.ini").write_text("[pytest]\nasyncio_default_fixture_loop_scope = function\n")
    arguments = ["-m", "pytest", "-q", "-p", "no:cacheprovider", str(file)]
    if not any(point.name == "resilio" for point in entry_points(group="pytest11")):
        arguments += ["-p", "resilio.testing.plugin"]  # an in-place build
    result = _run_python(arguments, Path.cwd())
    assert result.returncode == 0, f"{page}:{snippet.line}\n{result.stdout}{result.stderr}"


def _run_python(arguments: list[str], folder: Path) -> subprocess.CompletedProcess[str]:
    """Run a Python process with the package that this one has."""
    settings = {**os.environ, "PYTHONPATH": os.environ.get("PYTHONPATH", "")}
    if os.environ.get("RESILIO_TEST_INSTALLED") != "1":
        settings["PYTHONPATH"] = str(ROOT)
    command = [sys.executable, *arguments]
    return subprocess.run(command, capture_output=True, text=True, check=False, env=settings, cwd=folder, timeout=120)


def test_broken_code_in_a_page_fails(namespace: dict[str, Any]) -> None:
    """A name that does not exist is an error that names the page and its line."""
    (snippet,) = snippets_of("# Page\n- item\n  ```python\n  x = 1\n  undefined\n  ```\n")
    with pytest.raises(NameError) as caught:
        _execute(snippet, Path("page.md"), namespace, asyncio.run)
    last = caught.traceback[-1]
    assert (str(last.path), last.lineno + 1) == ("page.md", 5)


def test_directives_need_a_reason() -> None:
    """`skip` without a reason is not a directive, and the snippet runs."""
    assert snippets_of("<!-- snippet: skip: needs a server -->\n```python\nx\n```\n")[0].directive == "skip"
    assert snippets_of("<!-- snippet: skip -->\n```python\nx\n```\n")[0].directive is None
    assert snippets_of("<!-- snippet: skip: -->\n```python\nx\n```\n")[0].directive is None
