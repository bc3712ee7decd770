"""The page about aiohttp, and what is said where aiohttp is not there or too old."""

from __future__ import annotations

import asyncio
import subprocess
import sys
import types
from pathlib import Path

import pytest
from docs.pages import snippets_of
from docs.test_docs_snippets import _execute
from servers.misbehaving import Misbehaving

from resilio import registry

PAGE = Path(__file__).resolve().parents[2] / "docs" / "how-to" / "integrations" / "aiohttp.md"

WITHOUT = """
import sys
sys.modules["aiohttp"] = None
import resilio.integrations.aiohttp
"""
TOO_OLD = """
import sys, types
sys.modules["aiohttp"] = types.ModuleType("aiohttp")
sys.modules["aiohttp"].__version__ = "3.11.18"
import resilio.integrations.aiohttp
"""


def test_the_page_runs_from_top_to_bottom(
    server: Misbehaving, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """What a user copies works, against a real server."""
    pytest.importorskip("aiohttp", minversion="3.12", reason="aiohttp >= 3.12 is not installed")
    monkeypatch.setenv("PAYMENTS_URL", server.url + "/ok")
    module = types.ModuleType("__main__")
    monkeypatch.setitem(sys.modules, "__main__", module)
    registry.clear()
    for snippet in snippets_of(PAGE.read_text()):
        _execute(snippet, PAGE, vars(module), lambda function: asyncio.run(function()))
    registry.clear()
    rejected = "circuit_breaker 'search' rejected the call: forced_open"
    assert capsys.readouterr().out.splitlines() == ["200 ok", "200 a", rejected]
    assert server.total == 2


@pytest.mark.parametrize(
    ("code", "says"),
    [
        (WITHOUT, "resilio.integrations.aiohttp needs aiohttp: pip install 'resilio-sdk[aiohttp]'"),
        (TOO_OLD, "resilio.integrations.aiohttp needs aiohttp >= 3.12, which has client middlewares, not 3.11.18"),
    ],
)
def test_a_missing_or_old_aiohttp_is_one_clear_error(code: str, says: str) -> None:
    """The error says what to install."""
    ended = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert ended.returncode == 1
    assert f"ImportError: {says}" in ended.stderr


def test_a_missing_grpcio_is_one_clear_error() -> None:
    """The error says what to install."""
    code = "import sys; sys.modules['grpc.aio'] = None; import resilio.integrations.grpc"
    ended = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert "ImportError: resilio.integrations.grpc needs grpcio: pip install 'resilio-sdk[grpc]'" in ended.stderr
