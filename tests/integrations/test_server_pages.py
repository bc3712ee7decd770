"""The pages of the middlewares: what a user copies runs."""

from __future__ import annotations

import ast
import asyncio
import inspect
import re
from pathlib import Path
from typing import Any

import pytest

PAGES = Path(__file__).resolve().parents[2] / "docs" / "how-to" / "integrations"
SNIPPET = re.compile(r"^```python\n(.*?)^```$", re.MULTILINE | re.DOTALL)


@pytest.mark.parametrize(
    ("page", "needs", "count"),
    [
        ("asgi", ["fastapi", "starlette", "httpx2"], 4),
        ("wsgi", ["flask"], 4),
        ("deadlines-on-the-wire", ["starlette", "httpx2"], 2),
    ],
)
def test_what_a_page_shows_runs(page: str, needs: list[str], count: int) -> None:
    """The snippets of a page run from top to bottom, as they stand."""
    for name in needs:
        pytest.importorskip(name, reason=f"{name} is not installed")
    snippets = SNIPPET.findall((PAGES / f"{page}.md").read_text())
    assert len(snippets) == count
    namespace: dict[str, Any] = {"__name__": "__main__"}

    for code in snippets:
        pending = eval(compile(code, f"{page}.md", "exec", flags=ast.PyCF_ALLOW_TOP_LEVEL_AWAIT), namespace)
        if inspect.iscoroutine(pending):
            asyncio.run(pending)
