"""The page about gRPC runs as it stands, against a real server."""

from __future__ import annotations

import asyncio
import sys
import threading
import types
from pathlib import Path

import grpc
import pytest
from docs.pages import snippets_of
from docs.test_docs_snippets import _execute
from servers.grpc_service import Service, serve

from resilio import registry

PAGE = Path(__file__).resolve().parents[3] / "docs" / "how-to" / "integrations" / "grpc.md"


def test_the_page_runs_from_top_to_bottom(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    """What a user copies works; the server runs in a thread of its own."""
    loop, started, ended = asyncio.new_event_loop(), threading.Event(), asyncio.Event()

    async def run() -> None:
        service = Service()
        service.methods["Lookup"] = grpc.unary_unary_rpc_method_handler(service.echo)
        served = await serve(service=service)
        monkeypatch.setenv("USERS", served.target)
        started.set()
        await ended.wait()
        await served.server.stop(None)

    server = threading.Thread(target=loop.run_until_complete, args=(run(),))
    server.start()
    assert started.wait(120)
    module = types.ModuleType("__main__")
    monkeypatch.setitem(sys.modules, "__main__", module)
    registry.clear()
    try:
        for snippet in snippets_of(PAGE.read_text()):
            _execute(snippet, PAGE, vars(module), lambda function: asyncio.run(function()))
    finally:
        loop.call_soon_threadsafe(ended.set)
        server.join()
        loop.close()
        registry.clear()
    assert capsys.readouterr().out == "b'ada'\n"
