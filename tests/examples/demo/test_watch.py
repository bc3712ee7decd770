"""The demo with `--watch`: the live page while the demo runs."""

from __future__ import annotations

import importlib.util
import json
import re
import urllib.request
from pathlib import Path
from typing import Any

import pytest

import resilio
from examples.demo import _main

pytest.importorskip("httpx2", reason="httpx2 is not installed")
pytest.importorskip("h11", reason="h11 is not installed")


def test_the_page_is_there_while_the_demo_runs(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """The address is printed before the first act; the page shows the policies of the run, and ends with the demo."""
    pytest.importorskip("uvicorn", reason="uvicorn is not installed")
    seen: list[Any] = []

    def play(*_: Any) -> str:
        policy = resilio.circuit_breaker()
        address = re.search(r"http://127\.0\.0\.1:\d+/", capsys.readouterr().err)
        assert address
        with urllib.request.urlopen(address[0] + "snapshot") as answer:
            seen.append(json.load(answer))
        assert policy.state == "closed"
        return "the test"

    monkeypatch.setattr(_main, "_play", play)
    monkeypatch.setattr(_main, "_finish", lambda *_: None)
    assert _main.main(["--watch", "--output", str(tmp_path)]) == 1
    assert "circuit_breaker" in [policy["kind"] for policy in seen[0]["policies"]]


def test_a_port_that_is_taken_is_no_reason_not_to_run(capsys: pytest.CaptureFixture[str]) -> None:
    """Two demos at once have two pages."""
    pytest.importorskip("uvicorn", reason="uvicorn is not installed")
    with _main._watched(), _main._watched():
        addresses = re.findall(r"http://127\.0\.0\.1:\d+/", capsys.readouterr().err)
    assert len(set(addresses)) == 2


def test_without_a_server_for_the_page_it_says_what_to_install(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Before anything starts."""
    found = importlib.util.find_spec
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None if name == "uvicorn" else found(name))
    assert _main.main(["--watch", "--output", str(tmp_path)]) == 1
    assert "pip install 'resilio-sdk[live]'" in capsys.readouterr().err
