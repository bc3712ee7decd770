"""The tools that find Pythons and run the suite on them."""

from __future__ import annotations

import importlib
import json
import sys
from collections.abc import Callable
from pathlib import Path
from types import ModuleType, SimpleNamespace
from typing import Any

import pytest

TOOLS = Path(__file__).parents[2] / "tools"

pytestmark = [
    pytest.mark.once,
    pytest.mark.skipif(not TOOLS.is_dir(), reason="the tools are not here"),
    pytest.mark.skipif(sys.platform == "win32", reason="the interpreters are shell scripts"),
]


@pytest.fixture
def tools(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Callable[[str], ModuleType]:
    """Import a module of tools/ on a machine whose only Pythons are those that a test makes."""
    monkeypatch.syspath_prepend(str(TOOLS))
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    monkeypatch.setenv("PYENV_ROOT", str(tmp_path / "pyenv"))
    monkeypatch.setenv("PATH", str(tmp_path / "bin"))
    names = [path.stem for path in TOOLS.glob("*.py")]

    def load(name: str) -> ModuleType:
        module = importlib.import_module(name)
        interpreters = importlib.import_module("interpreters")
        own = interpreters._candidates  # and not those of this machine
        monkeypatch.setattr(
            interpreters, "_candidates", lambda gil: [path for path in own(gil) if path.startswith(str(tmp_path))]
        )
        return module

    for name in names:
        sys.modules.pop(name, None)
    yield load
    for name in names:
        sys.modules.pop(name, None)


def program(path: Path, script: str) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(f"#!/bin/sh\n{script}\n")
    path.chmod(0o755)
    return path


def python(path: Path, *version: int, **facts: Any) -> Path:
    """An interpreter that says of itself what it is given."""
    usual = {"implementation": "cpython", "gil": True, "venv": True, "headers": True, "elsewhere": ""}
    return program(path, f"echo '{json.dumps({'version': version, **usual, **facts})}'")


def test_unpacked_python_is_found_behind_the_users_own(tools, tmp_path: Path, capsys) -> None:
    """What `make pythons` brought is found, knows what a compiler needs, and gives way to one that the user has."""
    unpacked = tmp_path / "cache" / "resilio" / "debian-python-3.14" / "usr" / "bin" / "python3.14"
    python(unpacked, 3, 14, 2, elsewhere="/unpacked/usr/include")
    interpreters = tools("interpreters")
    (found,) = interpreters.find()
    assert (found.path, found.minor, found.unpacked) == (str(unpacked), "3.14", True)
    assert found.settings["CPATH"] == "/unpacked/usr/include"
    assert "python 3.15     not found: SKIPPED" in capsys.readouterr().out
    python(tmp_path / "bin" / "python3.14", 3, 14, 7)
    (found,) = interpreters.find(say=False)
    assert (found.full, found.unpacked) == ("3.14.7", False)
    assert "CPATH" not in found.settings


def test_python_without_the_gil_is_for_its_own_target(tools, tmp_path: Path, capsys) -> None:
    """`make test` says that it leaves it out, and `make free-threaded` takes it."""
    python(tmp_path / "bin" / "python3.13t", 3, 13, 5, gil=False)
    python(tmp_path / "bin" / "python3.13", 3, 13, 5, gil=False)
    interpreters = tools("interpreters")
    assert interpreters.find() == []
    assert "is free-threaded (make free-threaded): skipped" in capsys.readouterr().out
    assert [found.minor for found in interpreters.find(say=False, gil=False)] == ["3.13t"]


def test_machine_without_a_python_says_what_to_install(tools, tmp_path: Path, capsys) -> None:
    """It names what was found and why it will not do."""
    python(tmp_path / "bin" / "python3.13", 3, 13, 5, headers=False)
    with pytest.raises(SystemExit, match=r"no Python of 3\.11 to 3\.15 with headers: apt install python3-dev"):
        tools("interpreters").require(say=False)
    assert "has no headers (apt install python3-dev)" in capsys.readouterr().out


@pytest.mark.parametrize("system", ["debian", "other"])
def test_python_that_cannot_be_brought_is_skipped_out_loud(system, tools, tmp_path: Path, capsys, monkeypatch) -> None:
    """Without a network, or on another system, there is a line for each version and no failure."""
    program(
        tmp_path / "bin" / "apt-get", "echo 'trixie file:/nowhere'; echo 'E: no network' >&2; test $1 = indextargets"
    )
    newer = tools("newer_pythons")
    monkeypatch.setattr("platform.freedesktop_os_release", lambda: {"ID": system, "VERSION_CODENAME": "trixie"})
    assert newer.main([]) == 0
    why = {"debian": "apt-get: E: no network", "other": "this is no Debian"}[system]
    assert capsys.readouterr().out.splitlines() == [
        f"python {version} cannot be unpacked: {why}: SKIPPED" for version in ("3.14", "3.15")
    ]
    assert not list((tmp_path / "cache" / "resilio").glob("*"))


def test_python_that_is_here_is_not_brought_again(tools, tmp_path: Path, capsys) -> None:
    """A machine with its own 3.14 needs nothing."""
    mine = python(tmp_path / "bin" / "python3", 3, 14, 0)
    assert tools("newer_pythons").main(["3.14"]) == 0
    assert capsys.readouterr().out == f"python 3.14: {mine}\n"


def test_leg_fails_where_doctor_does(tools, tmp_path: Path) -> None:
    """A Python on which something does not protect fails its leg before the first test, with the report."""
    suite = tools("suite")
    sick = program(tmp_path / "sick", 'echo "NOT PROTECTED: timeout on asyncio." $@; exit 1')
    leg = suite.Leg(
        "3.14 wheel", suite.Interpreter(str(sick), (3, 14, 0)), "", _environment=SimpleNamespace(python=sick)
    )
    assert suite._doctor(leg, tmp_path) == "NOT PROTECTED: timeout on asyncio. -m resilio doctor --patience=120\n"
    assert leg.problem == "resilio doctor says that something does not protect"
    assert suite._summary([leg]) == 1


# ---- what failed in a run --------------------------------------------------------------------------------------------

DUMP = """
tests/test_a.py .F...Timeout (0:05:00)!
Thread 0x1 [misbehaving] (most recent call first):
  File "/usr/lib/python3.14/selectors.py", line 452 in select
  File "/run-3.14-wheel/tests/servers/misbehaving.py", line 195 in _run
Thread 0x2 [MainThread] (most recent call first):
  File "/usr/lib/python3.14/threading.py", line 1100 in join
  File "/venv/site-packages/resilio/live/_serve.py", line 160 in _thread
  File "/run-3.14-wheel/tests/test_a.py", line 9 in test_two
  File "/venv/site-packages/_pytest/python.py", line 187 in pytest_pyfunc_call
Thread 0x3 [pool] (most recent call first):
  File "/usr/lib/python3.14/threading.py", line 300 in wait
"""
NOTED = "begun tests/test_a.py::test_one\nfailed tests/test_a.py::test_one\nbegun tests/test_a.py::test_two[a b]\n"


def test_a_run_that_hung_names_its_test_and_where_it_waits(tools: Any, tmp_path: Path) -> None:
    """A leg that hung was "nothing ran": neither the test that hung nor those that had failed before it were named."""
    progress, log = tmp_path / "progress", tmp_path / "log"
    progress.write_text(NOTED)
    log.write_text("Timeout (0:00:01)!\nof a child\n" + DUMP)
    what = tools("what_failed")
    failed = what.what_failed(what.Progress.read(progress, is_reported=False), log)
    assert list(failed.lines()) == [
        "tests/test_a.py::test_one",
        "tests/test_a.py::test_two[a b] (the run ended here)",
        "Timeout (0:05:00)!",
        *DUMP.splitlines()[2:9],
    ]
    failed = what.what_failed(what.Progress.read(progress, is_reported=True), log)
    assert list(failed.lines()) == ["tests/test_a.py::test_one"]


def test_a_run_that_ended_before_its_first_test_says_so(tools: Any, tmp_path: Path) -> None:
    """A syntax error, or a lack of memory: nothing is noted, and nothing is dumped."""
    (tmp_path / "log").write_text("INTERNALERROR\n")
    what = tools("what_failed")
    failed = what.what_failed(what.Progress.read(tmp_path / "progress", is_reported=False), tmp_path / "log")
    assert list(failed.lines()) == ["before the first test (the run ended here)"]


def test_the_summary_ends_with_what_failed_in_each_leg(tools: Any, capsys: pytest.CaptureFixture[str]) -> None:
    """The last lines of the output are the ones that are looked at."""
    suite, what_failed = tools("suite"), tools("what_failed")
    good = SimpleNamespace(
        title="3.11 wheel",
        problem="",
        counts={"passed": 9},
        seconds={},
        failed=what_failed.Failed(),
        unsteady=["tests/b.py::test_three"],
    )
    hung = what_failed.Failed(["tests/a.py::test_one"], "tests/a.py::test_two", ["Timeout (0:05:00)!"])
    bad = SimpleNamespace(
        title="3.14 wheel", problem="pytest ended with exit code 1", counts={}, seconds={}, failed=hung, unsteady=[]
    )
    assert suite._summary([good, bad]) == 1
    assert capsys.readouterr().out.splitlines()[-5:] == [
        "9 passed, 0 failed, 0 skipped",
        "3.11 wheel: tests/b.py::test_three (UNSTEADY: failed, and passed when it was run again)",
        "3.14 wheel: tests/a.py::test_one",
        "3.14 wheel: tests/a.py::test_two (the run ended here)",
        "3.14 wheel: Timeout (0:05:00)!",
    ]
