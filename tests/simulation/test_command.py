"""`resilio simulate`: what it lists, prints, draws, rejects, and leaves behind after a Ctrl-C."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import threading
import xml.etree.ElementTree as ET
from importlib.util import find_spec
from typing import Any

import pytest

from resilio import cli
from resilio.simulation import _main

pytestmark = pytest.mark.once

SCENARIO = """\
title = "A shop, 20 < 30 & busy"
duration = "2s"
deadline = "100ms"
faults = [{ kind = "slow", at = "1s", lasts = "200ms", factor = 50 }]

[[load]]
name = "buyers"
rate = 200

[[load]]
name = "robots"
rate = 100

[server]
workers = 4
service = { law = "exponential", mean = "10ms" }

[stacks.bare]

[stacks.guarded]
client = [{ policy = "bulkhead", max_concurrent = 10 }]
"""


@pytest.fixture
def file(tmp_path):
    path = tmp_path / "shop.toml"
    path.write_text(SCENARIO)
    return str(path)


def run(*arguments: str) -> int:
    return cli.main(["simulate", *arguments])


def test_it_lists_what_comes_with_it(capsys):
    """Each scenario of the package has a title, and a name that says what it shows: `r13-shard` said a chapter."""
    assert run("--list") == 0
    lines = capsys.readouterr().out.splitlines()
    names = [line.split()[0] for line in lines]
    assert names == [
        "dead-shard",
        "fleet-breaker",
        "fleet-outage",
        "gray-failure",
        "killed-worker",
        "leased-rate-limit",
        "metastable",
        "one-broken-host",
        "outage",
        "overload",
        "priorities",
        "provider-outage",
        "region-failover",
        "resend-storm",
        "shared-breaker",
        "shared-limit",
        "shared-outage",
        "slow-tail",
        "whole-tasks",
        "zone-lost",
    ]
    assert all(len(line.split(maxsplit=1)[1]) > 20 for line in lines)


SLOW = {"fleet-outage", "gray-failure", "overload", "region-failover", "shared-limit", "zone-lost"}


def shipped() -> list[Any]:
    """Return the scenarios that come with it; some simulate a million calls."""
    return [pytest.param(name, marks=[pytest.mark.slow] * (name in SLOW)) for name in sorted(_main._shipped())]


@pytest.mark.real(1.0)
@pytest.mark.untraced  # a hundred thousand calls, which others trace in small
@pytest.mark.parametrize("name", shipped())
def test_each_of_them_runs(name, capsys):
    """A few simulated seconds of each scenario give a result; faults that come later never begin."""
    plan = _main.load(_main._find(name))
    begin = max((fault.at for _, scenario in plan.scenarios for fault in scenario.faults), default=0.0)
    begin = max(begin, *(scenario.warmup for _, scenario in plan.scenarios), 0.0)
    assert run(name, "--duration", f"{begin + 1}s", "--json", "--quiet") == 0
    result = json.loads(capsys.readouterr().out)
    assert result["complete"] is True


def test_it_shows_a_scenario(capsys):
    """A scenario that comes with it is there to be copied."""
    assert run("metastable", "--show") == 0
    assert "[server]" in capsys.readouterr().out


def test_it_prints_a_table(file, capsys):
    """Stacks stand side by side; loads and reasons have their rows."""
    assert run(file) == 0
    lines = capsys.readouterr().out.splitlines()
    assert lines[0].split() == ["A", "shop,", "20", "<", "30", "&", "busy", "bare", "guarded"]
    labels = [line.split("  ")[0] for line in lines]
    assert "tasks offered" in labels
    assert any("buyers" in line for line in lines)
    assert any("bulkhead: full" in line for line in lines)
    assert any(line.startswith("recovered after the last fault (95 %)") for line in lines)
    assert lines[-1] == "seed 1; an answer is in time within 0.1 s"


def test_the_same_seed_prints_the_same_bytes(file, tmp_path, capsys):
    """Table, JSON and picture repeat; another seed gives others."""

    def all_of_it(seed: str) -> tuple[str, bytes]:
        picture = tmp_path / "out.svg"
        assert run(file, "--seed", seed, "--json", "--svg", str(picture)) == 0
        return capsys.readouterr().out, picture.read_bytes()

    first, again, other = all_of_it("1"), all_of_it("1"), all_of_it("2")
    assert first == again
    assert first[0] != other[0]
    assert first[1] != other[1]


@pytest.mark.untraced  # others trace the same lines in less time
def test_it_repeats_in_another_process(file):
    """Nothing of the process (hashes, addresses, time) gets into the result."""
    outputs = set()
    for hashes in ("1", "2"):
        command = [sys.executable, "-m", "resilio", "simulate", file, "--json"]
        environment = {**os.environ, "PYTHONHASHSEED": hashes}
        outputs.add(subprocess.run(command, capture_output=True, env=environment, check=True).stdout)
    assert len(outputs) == 1


def test_the_picture_is_svg(file, tmp_path):
    """It is well formed, has a chart each for answers, attempts and times, and a word at each fault."""
    picture = tmp_path / "out.svg"
    assert run(file, "--svg", str(picture), "--quiet") == 0
    root = ET.parse(picture).getroot()
    texts = ["".join(element.itertext()) for element in root.iter("{http://www.w3.org/2000/svg}text")]
    assert "A shop, 20 < 30 & busy" in texts
    assert {"slow", "bare", "guarded", "tasks offered", "how long answers take, p99"} <= set(texts)


SWEEP = '[sweep]\nkey = "server.workers"\nvalues = [2, 4]\n'


def test_a_picture_that_cannot_be_written_costs_no_figures(file, tmp_path, capsys):
    """They were lost after a long run, for a folder that takes no files."""
    picture = tmp_path / "out.svg"
    picture.symlink_to(tmp_path / "none" / "out.svg")
    assert run(file, "--svg", str(picture), "--quiet") == 1
    printed = capsys.readouterr()
    assert "answered in time" in printed.out
    assert printed.err.startswith("resilio simulate: no picture: ")


def test_a_sweep_has_a_row_for_each_value(tmp_path, capsys):
    """So have the JSON, and the picture a point."""
    path = tmp_path / "shop.toml"
    path.write_text(SCENARIO + SWEEP)
    picture = tmp_path / "out.svg"
    assert run(str(path), "--svg", str(picture)) == 0
    out = capsys.readouterr().out
    assert out.count("server.workers = 2") == out.count("server.workers = 4") == 2
    assert "server.workers" in picture.read_text()
    assert run(str(path), "--json") == 0
    data = json.loads(capsys.readouterr().out)
    assert [each["value"] for each in data["runs"]] == [2, 4]


def test_a_sweep_over_words_is_drawn_too(tmp_path, capsys):
    """Values that are no numbers stand side by side."""
    path = tmp_path / "shop.toml"
    swept = SCENARIO.replace("workers = 4", 'workers = 4\nqueue = "fifo"')
    path.write_text(swept + '[sweep]\nkey = "server.queue"\nvalues = ["fifo", "lifo"]\n')
    picture = tmp_path / "out.svg"
    assert run(str(path), "--svg", str(picture)) == 0
    assert "server.queue = lifo" in capsys.readouterr().out
    ET.parse(picture)


def test_only_one_stack(file, capsys):
    """`--stack` chooses, `--duration` shortens."""
    assert run(file, "--stack", "guarded", "--duration", "1500ms", "--json") == 0
    result = json.loads(capsys.readouterr().out)
    assert list(result["stacks"]) == ["guarded"]
    assert result["stacks"]["guarded"]["elapsed"] == 1.5


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ([], "which scenario?"),
        (["--stack", "none"], "no stack 'none'; there are: bare, guarded"),
        (["--duration", "soon"], "argument --duration: must be a time like"),
        (
            ["--duration", "0.5s"],
            "--duration: must be more than the 1 s after which the last fault of the scenario begins, not '0.5s'",
        ),
        (["--seed", "-1"], "argument --seed: must be from 0 to"),
        (["--svg", "."], "argument --svg: . is a folder: name a file in it"),
        (["--svg", "nowhere/it.svg"], "argument --svg: there is no folder nowhere"),
    ],
)
def test_wrong_usage_says_what_is_right(file, arguments, message, capsys):
    """It is code 2, as everywhere."""
    with pytest.raises(SystemExit) as caught:
        run(*([file] if arguments else []), *arguments)
    assert caught.value.code == 2
    assert message in capsys.readouterr().err


@pytest.mark.parametrize("name", ["nonsense", "nonsense.toml"])
def test_a_scenario_that_is_not_there(name, capsys):
    """The names that there are are told."""
    assert run(name) == 1
    error = capsys.readouterr().err
    assert "nonsense" in error
    assert ("metastable" in error) == (name == "nonsense")


def test_a_mistake_in_the_file_is_told(file, tmp_path, capsys):
    """File, line and key are on standard error, and nothing is on standard output."""
    path = tmp_path / "wrong.toml"
    path.write_text(SCENARIO.replace("workers = 4", "workers = 0"))
    assert run(str(path)) == 1
    out, err = capsys.readouterr()
    assert not out
    assert f"{path}:15: server.workers: workers must be an int from 1" in err


def test_an_order_that_cannot_work_is_warned_of(tmp_path, capsys):
    """What `pipeline` warns of is told once, however many clients there are."""
    path = tmp_path / "shop.toml"
    wrong = 'client = [{ policy = "bulkhead", max_concurrent = 10 }, { policy = "circuit_breaker" }]'
    path.write_text(
        "clients = 5\n" + SCENARIO.replace('client = [{ policy = "bulkhead", max_concurrent = 10 }]', wrong)
    )
    assert run(str(path), "--quiet") == 0
    assert capsys.readouterr().err.count("put the breaker outside") == 1


def test_a_run_that_would_not_end_is_labelled(tmp_path, capsys, monkeypatch):
    """The result is there, says that it is partial, and the code is 1."""
    monkeypatch.setattr("resilio.simulation._simulate._MORE_ATTEMPTS", 100)
    monkeypatch.setattr("resilio.simulation._simulate._ATTEMPTS", 2)
    path = tmp_path / "shop.toml"
    endless = (
        '[{ policy = "retry", attempts = 100000, budget = false, backoff = { kind = "constant", seconds = "1ms" } }]'
    )
    down = 'faults = [{ kind = "outage", at = 0, lasts = 9 }]'
    text = SCENARIO.replace('[{ policy = "bulkhead", max_concurrent = 10 }]', endless)
    path.write_text(text.replace(text.splitlines()[3], down))
    assert run(str(path), "--stack", "guarded", "--svg", str(tmp_path / "out.svg")) == 1
    assert "PARTIAL RESULT: each call was attempted more than 2 times" in capsys.readouterr().out
    assert "PARTIAL RESULT" in (tmp_path / "out.svg").read_text()


class Interrupting(_main._Teller):
    """Presses Ctrl-C at the first report."""

    def __call__(self, progress):
        if not self._interrupted:
            os.kill(os.getpid(), signal.SIGINT)
        self._calls = 99
        return super().__call__(progress)


@pytest.mark.parametrize("sweep", ["", SWEEP])
def test_a_ctrl_c_leaves_a_partial_result(tmp_path, capsys, monkeypatch, sweep):
    """What has been simulated is printed, marked, and the code is that of an interrupted command."""
    monkeypatch.setattr(_main, "_Teller", Interrupting)
    path = tmp_path / "shop.toml"
    path.write_text(SCENARIO.replace("2s", "5000s") + sweep)
    before = signal.getsignal(signal.SIGINT)
    assert run(str(path), "--json", "--svg", str(tmp_path / "out.svg")) == 130
    assert signal.getsignal(signal.SIGINT) is before
    out, err = capsys.readouterr()
    result = json.loads(out)
    assert result["complete"] is False
    assert result["ended_early"].startswith("interrupted, ")
    assert "simulated seconds" in err
    assert "PARTIAL RESULT" in (tmp_path / "out.svg").read_text()


def test_a_second_ctrl_c_ends_it_at_once():
    """Who presses again does not want the result."""
    with _main._interrupts() as noted, pytest.raises(KeyboardInterrupt):
        os.kill(os.getpid(), signal.SIGINT)
        assert len(noted) == 1
        os.kill(os.getpid(), signal.SIGINT)


def test_it_runs_in_a_thread_too(file, capsys):
    """Where no signals come, none are asked for."""
    codes = []
    thread = threading.Thread(target=lambda: codes.append(run(file, "--duration", "1100ms", "--json")))
    thread.start()
    thread.join()
    assert codes == [0]
    assert json.loads(capsys.readouterr().out)["complete"]


class Terminal:
    """A standard error that is one."""

    def __init__(self) -> None:
        self.text = ""

    def isatty(self) -> bool:
        return True

    def write(self, text: str) -> None:
        self.text += text

    def flush(self) -> None:
        pass


def test_progress_is_one_line_on_a_terminal(file, monkeypatch):
    """A long run says how far it is, in one line that is gone at the end; a short one, or `--quiet`, says nothing."""
    from resilio.simulation import Progress

    terminal = Terminal()
    monkeypatch.setattr(sys, "stderr", terminal)
    teller = _main._Teller([], 1, 2, quiet=False)
    for second in range(20):
        assert teller(Progress("bare", 0, 2, float(second), 20.0, 10))
    teller.clear()
    assert "bare: 19.0 of 20 simulated seconds" in terminal.text
    assert "74 %" in terminal.text
    assert terminal.text.endswith("\r\x1b[K")
    silent = _main._Teller([], 0, 1, quiet=True)
    before = terminal.text
    for _ in range(100):
        silent(Progress("bare", 0, 1, 1.0, 20.0, 10))
    silent.clear()
    assert terminal.text == before


@pytest.mark.skipif(find_spec("rich") is None, reason="rich is not installed")
def test_rich_shows_the_same_table(file, capsys, monkeypatch):
    """On a terminal with rich the rows are the same."""
    monkeypatch.setattr(sys.stdout, "isatty", lambda: True, raising=False)
    assert run(file, "--quiet") == 0
    out = capsys.readouterr().out
    assert "tasks offered" in out
    assert "bulkhead: full" in out
