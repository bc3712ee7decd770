"""`RESILIO_DISABLED`: a whole process whose guarded calls run without their policies."""

from __future__ import annotations

import io
import json
import os
import subprocess
import sys
from typing import Any

import pytest

from resilio import cli
from resilio._context import process_switch
from resilio._doctor._report import conclusion
from resilio.metrics._read import read_process

SAYS = "RESILIO_DISABLED is set: guarded calls of this process run without their policies"

SERVICE = """
import json, logging, sys, threading
sys.path[:] = json.loads(sys.argv[1])
lines = []

class Keep(logging.Handler):
    def emit(self, record):
        lines.append(f"{record.levelname} {record.getMessage()}")

logging.getLogger("resilio").addHandler(Keep())

import resilio
from resilio.live._sampler import _process
from resilio.metrics._read import read_process

breaker = resilio.circuit_breaker("down", initial="forced_open")
limit = resilio.rate_limit("1/h", name="none-left")
tries = []

@breaker
async def fetch():
    return "called"

@breaker
async def items():
    yield "item"

@resilio.retry(on=OSError, backoff=0, budget=None)
def fails():
    tries.append(1)
    raise OSError("as it was")

async def main():
    async with breaker:
        pass
    return [await fetch(), await fetch(), *[item async for item in items()]]

def run(backend):
    if backend == "trio":
        import trio
        return trio.run(main)
    import asyncio
    return asyncio.run(main())

seen = [limit.call(lambda: "called"), limit.call(lambda: "called"), *run("asyncio"), *run("trio")]
thread = threading.Thread(target=lambda: seen.append(breaker.call(lambda: "in a thread")))
thread.start()
thread.join()
try:
    fails()
except OSError as error:
    seen.append(str(error))
for attempt in resilio.retrying(on=OSError):
    with attempt:
        seen.append("a block")
stack = resilio.standard("stack", on="http")
print(json.dumps({
    "seen": seen, "tries": len(tries), "lines": lines, "calls": breaker.snapshot().calls,
    "disabled": [breaker.snapshot().disabled, stack.snapshot().disabled, stack.snapshot().parts[0].disabled],
    "explained": str(stack.explain()), "page": _process()["disabled"],
    "gauge": read_process().gauges["disabled", ()],
}))
"""


def run(value: str | None) -> dict[str, Any]:
    """Return what a service reports that was started with this value of the switch."""
    environment = {name: text for name, text in os.environ.items() if name != process_switch.SWITCH}
    if value is not None:
        environment[process_switch.SWITCH] = value
    command = [sys.executable, "-c", SERVICE, json.dumps(sys.path)]
    done = subprocess.run(command, env=environment, capture_output=True, text=True, check=False, timeout=120)
    assert done.returncode == 0 or value in (None, "0"), done.stderr
    found: dict[str, Any] = json.loads(done.stdout) if done.returncode == 0 else {"error": done.stderr}
    return found


@pytest.mark.parametrize("value", ["1", "true"])
def test_a_process_that_is_switched_off_runs_every_guarded_call_bare(value: str) -> None:
    """In an emergency a service had no way to run without its policies but a change of its code."""
    found = run(value)
    items = ["called", "called", "item"]
    assert found["seen"] == ["called", "called", *items, *items, "in a thread", "as it was", "a block"]
    assert (found["tries"], found["calls"]) == (1, 0)


def test_it_says_so_once_and_shows_it_everywhere() -> None:
    """One line of the log, `explain()`, snapshots, the live page and the metrics tell that nothing protects."""
    found = run("1")
    assert found["lines"] == [f"WARNING {SAYS}"]
    assert found["disabled"] == [True, True, True]
    assert f"note: {SAYS}" in found["explained"]
    assert (found["page"], found["gauge"]) == (SAYS, 1.0)


@pytest.mark.parametrize("value", [None, "0"])
def test_a_process_that_is_not_switched_off_is_guarded(value: str | None) -> None:
    """Unset and "0" are the same: the first limit rejects."""
    assert "RateLimitedError" in run(value)["error"]


@pytest.mark.parametrize(
    ("value", "expected"),
    [
        ("1", True),
        ("YES", True),
        ("on", True),
        ("", False),
        (" 0 ", False),
        ("False", False),
        ("no", False),
        ("off", False),
    ],
)
def test_the_values_of_the_switch(value: str, expected: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    """Every word but those for "no" sets it: an operator who misspells it in an emergency means yes."""
    monkeypatch.setenv(process_switch.SWITCH, value)
    assert process_switch._is_set() is expected


def test_this_process_is_not_switched_off() -> None:
    """Nothing is said, and the gauge is 0."""
    assert (process_switch.switched_off(), process_switch.note()) == (False, None)
    assert read_process().gauges["disabled", ()] == 0.0


@pytest.mark.real(1.0)
@pytest.mark.once
def test_doctor_says_that_processes_here_are_not_protected(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Its checks run without the switch, or all would fail; it ends with 1 and names the switch."""
    monkeypatch.setattr(process_switch, "AT_START", True)
    monkeypatch.setenv(process_switch.SWITCH, "1")
    assert cli.main(["doctor"]) == 1
    printed = capsys.readouterr().out
    assert f"switch {SAYS}; the checks below run without it" in " ".join(printed.split())
    assert "FAILS" not in printed
    assert printed.endswith(f"NOT PROTECTED: {SAYS}.\n")


def test_the_conclusion_names_the_switch_beside_failures() -> None:
    """Without failures the switch alone; without the switch, that all is well."""
    assert list(conclusion([], SAYS)) == [f"NOT PROTECTED: {SAYS}."]
    assert list(conclusion([])) == ["Everything that can run here protects."]


def test_top_shows_it_in_its_first_line() -> None:
    """The operator who looks for the cause sees it first."""
    pytest.importorskip("rich")
    from rich.console import Console

    from resilio.live._terminal import Screen

    console = Console(record=True, width=160, file=io.StringIO())
    seen = {"process": {"pid": 7, "host": "here", "disabled": SAYS}, "policies": [], "events": []}
    console.print(Screen("problems", "", console).picture(seen))
    assert f"process 7 on here  {SAYS}  0 policies" in console.export_text().splitlines()[0]
