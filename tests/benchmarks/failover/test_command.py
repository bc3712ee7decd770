"""`python -m benchmarks.failover`: a process for each system, and one scorecard."""

from __future__ import annotations

import pytest

pytest.importorskip("openai")
pytest.importorskip("anthropic")

from benchmarks.failover import __main__ as command
from benchmarks.failover import systems

pytestmark = [pytest.mark.once, pytest.mark.slow]


def test_the_scorecard_shows_each_system_and_why_a_cell_did_not_pass(capsys):
    """In real time: a pool passes what the bare SDK does not, and a library that is missing is named."""
    assert command.main(["--systems", "resilio", "openai", "litellm", "--only", "S02", "S12"]) == 0
    out = capsys.readouterr().out
    row = next(line for line in out.splitlines() if line.startswith("| S12 "))
    assert "pass (1+1, " in row
    assert "safe (1+0, " in row
    assert f"{systems.load('openai').name}, S12: safe: not answered: BadRequestError" in out
    assert "litellm" in out


def test_a_scenario_of_ours_that_does_not_pass_fails_the_command(monkeypatch):
    """The exit code is that of a test."""
    monkeypatch.setitem(command.SYSTEMS, "resilio", systems.SYSTEMS["openai"])
    monkeypatch.setattr(
        command, "_cards", lambda _: {"resilio": command.Card("x", {"S12": command.Cell("safe", "", "")})}
    )
    assert command.main(["--systems", "resilio"]) == 1
