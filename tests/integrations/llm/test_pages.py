"""The pages about SDKs: their snippets run, top to bottom, against a provider on loopback."""

from __future__ import annotations

import ast
import inspect
import re
import types
from pathlib import Path
from typing import Any

import pytest
from servers.misbehaving import Misbehaving
from servers.models import Anthropic, Behaviour, Exchange, OpenAI, Wire, answers, provide, streams

from resilio import registry

PAGES = Path(__file__).resolve().parents[3] / "docs" / "how-to" / "integrations"
WIRES = {"openai": OpenAI(), "anthropic": Anthropic()}


def says_hello() -> Behaviour:
    """A provider that is well."""

    async def behave(exchange: Exchange, wire: Wire) -> None:
        streamed = b'"stream":true' in exchange.body.replace(b" ", b"")
        await (streams("hel", "lo") if streamed else answers("hello"))(exchange, wire)

    return behave


@pytest.mark.anyio
@pytest.mark.filterwarnings("ignore:Async generator '(openai|anthropic|httpx2?|httpcore2?)[.]:ResourceWarning")
@pytest.mark.parametrize("name", WIRES)
async def test_the_page_runs(
    name: str, server: Misbehaving, monkeypatch: pytest.MonkeyPatch, anyio_backend_name: str
) -> None:
    """What a user copies from the page works as it stands."""
    sdk = pytest.importorskip(name)
    if anyio_backend_name == "trio" and not hasattr(sdk._utils._sync, "anyio"):
        pytest.skip(f"this {name} runs on asyncio only")
    registry.clear()  # the page's names are those of the last run of it
    provide(server, WIRES[name], says_hello())
    monkeypatch.setenv("OPENAI_BASE_URL", f"{server.url}/v1")
    monkeypatch.setenv("ANTHROPIC_BASE_URL", server.url)
    monkeypatch.setenv("OPENAI_API_KEY", "key")
    monkeypatch.setenv("ANTHROPIC_API_KEY", "key")
    text = (PAGES / f"{name}.md").read_text(encoding="utf-8")
    page: dict[str, Any] = {"__name__": "__main__"}
    for match in re.finditer(r"^```python\n(.*?)^```$", text, re.MULTILINE | re.DOTALL):
        lines = "\n" * text.count("\n", 0, match.start(1)) + match[1]
        code = compile(lines, f"{name}.md", "exec", ast.PyCF_ALLOW_TOP_LEVEL_AWAIT)
        running = types.FunctionType(code, page)()
        if inspect.iscoroutine(running):
            await running
    clients = [page[name] for name in ("client", "closed", "anywhere") if name in page]
    clients += [endpoint.use for name in ("chat", "claude") if name in page for endpoint in page[name].endpoints]
    for client in clients:
        await client.close()
    assert server.total >= 2
