"""`resilio demo` from end to end, in processes of their own."""

from __future__ import annotations

import importlib.util
import json
import os
import signal
import subprocess
import sys
from pathlib import Path
from xml.etree import ElementTree as ET

import pytest

pytest.importorskip("httpx2")

from resilio.demo import _main
from resilio.demo._report import doubts


def demo(folder: Path, *arguments: str) -> subprocess.Popen[str]:
    path = os.pathsep.join(entry or str(Path.cwd()) for entry in sys.path)
    command = [sys.executable, "-P", "-m", "resilio", "demo", "--quick", "--json", "--output", str(folder), *arguments]
    environment = {**os.environ, "PYTHONPATH": path}
    return subprocess.Popen(
        command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, env=environment, cwd=folder, text=True
    )


@pytest.mark.slow
@pytest.mark.covers
def test_guarded_service_fares_better(tmp_path: Path) -> None:
    """
    At the same load the guarded service sends fewer calls into the outage and its healthy neighbour waits less.

    The pipes end only when every process that inherited them has ended: that they end proves that none is left.
    """
    for _ in range(3):
        with demo(tmp_path) as process:
            output, progress = process.communicate()
        assert process.returncode == 0, progress
        result = json.loads(output)
        if not doubts(result["runs"]):  # else it owns up to have measured a busy machine
            break
    assert result["complete"]
    assert all(run["offered"] == run["answered"] > 0 for both in result["runs"].values() for run in both.values())
    bare, guarded = result["runs"]["outage"]["bare"], result["runs"]["outage"]["guarded"]
    assert result == json.loads((tmp_path / "demo.json").read_text())
    assert bare["offered"] == guarded["offered"] == bare["answered"] == guarded["answered"] > 200
    assert guarded["calls_while_down"] < bare["calls_while_down"]
    assert guarded["checkout"]["p99"] < bare["checkout"]["p99"]
    assert guarded["checkout"]["success_rate"] >= bare["checkout"]["success_rate"]
    assert guarded["recommendations"]["outcomes"]["refused"] > 0
    assert "refused" not in guarded["checkout"]["outcomes"]
    bare, guarded = result["runs"]["spike"]["bare"], result["runs"]["spike"]["guarded"]
    assert bare["calls_sent"] == 1.0 < guarded["calls_sent"] <= 1.1
    bare, guarded = result["runs"]["storm"]["bare"], result["runs"]["storm"]["guarded"]
    assert bare["calls_sent"] > 2.0
    assert guarded["calls_sent"] < 1.1
    assert guarded["success_rate"] > bare["success_rate"]
    assert bare["recovery_seconds"] is None
    assert "bare" in progress
    assert "guarded" in progress
    if importlib.util.find_spec("matplotlib") is not None:
        assert ET.parse(tmp_path / "demo.svg").getroot().tag.endswith("svg")


@pytest.mark.slow
@pytest.mark.covers
@pytest.mark.skipif(sys.platform == "win32", reason="no SIGINT to a child there")
def test_interrupted_demo_leaves_a_partial_result_and_no_process(tmp_path: Path) -> None:
    """Ctrl-C gives exit code 130 and a result that says it is partial; the server is gone with its pipes."""
    with demo(tmp_path) as process:
        line = ""
        while not line.startswith("bare"):
            line = process.stderr.readline()
        process.send_signal(signal.SIGINT)
        output, errors = process.communicate()
    assert process.returncode == 130, errors
    assert "Traceback" not in errors
    result = json.loads(output)
    assert not result["complete"]
    assert result["ended_early"] == "interrupted"
    assert [list(both) for both in result["runs"].values()] == [["bare", "guarded"], [], []]
    bare = result["runs"]["outage"]["bare"]
    assert 0 < bare["answered"] < bare["offered"]


def test_missing_extra_is_named(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """Without httpx2 the demo ends with one line that says what to install."""
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None if name == "httpx2" else object())
    assert _main.main(["--output", str(tmp_path)]) == 1
    assert capsys.readouterr().err == "resilio demo needs httpx2: pip install 'resilio-sdk[httpx]'\n"


def test_output_that_cannot_be_written_is_refused_at_once(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """A file in the way of the output's folder is an error before the minute, not after it."""
    (tmp_path / "file").touch()
    with pytest.raises(SystemExit) as caught:
        _main.main(["--output", str(tmp_path / "file" / "folder")])
    assert caught.value.code == 2
    assert "argument --output" in capsys.readouterr().err


@pytest.mark.parametrize("arguments", [["--seed", "x"], ["--retries", "9"], ["--nonsense"]])
def test_bad_options_are_refused(arguments: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    """A bad option ends with code 2 and names itself."""
    with pytest.raises(SystemExit) as caught:
        _main.main(arguments)
    assert caught.value.code == 2
    assert arguments[0] in capsys.readouterr().err
