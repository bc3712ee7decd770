"""The pages of httpx and requests: what a user copies runs, against a server."""

from __future__ import annotations

import ast
import asyncio
import inspect
import re
from pathlib import Path

import pytest
from servers.misbehaving import Misbehaving

PAGES = Path(__file__).resolve().parents[2] / "docs" / "how-to" / "integrations"
SNIPPET = re.compile(r"^```python\n(.*?)^```$", re.MULTILINE | re.DOTALL)


@pytest.mark.parametrize(("page", "needs"), [("httpx", "httpx2"), ("requests", "requests")])
def test_what_a_page_shows_runs(page: str, needs: str, server: Misbehaving) -> None:
    """Each snippet of a page runs as it stands, where `url` is that of a server."""
    pytest.importorskip(needs, reason=f"{needs} is not installed")

    async def invoices(exchange: object) -> None:
        await exchange.answer(b"[]")  # type: ignore[attr-defined]

    server.routes["/invoices"] = invoices
    snippets = SNIPPET.findall((PAGES / f"{page}.md").read_text())
    assert len(snippets) >= 2
    for code in snippets:
        compiled = compile(code, f"{page}.md", "exec", flags=ast.PyCF_ALLOW_TOP_LEVEL_AWAIT)
        pending = eval(compiled, {"url": server.url, "__name__": "__main__"})
        if inspect.iscoroutine(pending):
            asyncio.run(pending)
    assert server.total >= 2
