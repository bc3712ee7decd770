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
    said = [line for line in capsys.readouterr().out.splitlines() if not line.startswith("building")]
    assert said == [
        f"python 3.14 cannot be unpacked: {why}: SKIPPED",
        f"python 3.15 cannot be unpacked: {why}: SKIPPED",
        f"python 3.13t cannot be built: {why}: SKIPPED",
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
    interpreter = suite.Interpreter(str(sick), (3, 14, 0))
    leg = suite.Leg("3.14", interpreter, environment=SimpleNamespace(python=sick))
    assert suite._doctor(leg, tmp_path) == "NOT PROTECTED: timeout on asyncio. -m resilio doctor --patience=120\n"
    assert leg.problem == "resilio doctor says that something does not protect"
    assert suite._summary([leg]) == 1


def test_the_summary_ends_with_the_total(tools: Any, capsys: pytest.CaptureFixture[str]) -> None:
    """The last line of the output is the one that is looked at, and above it stands what failed."""
    suite = tools("suite")
    python = suite.Interpreter("", (3, 11, 0))
    good = suite.Leg("3.11", python, counts={"passed": 9}, unsteady=["tests/b.py::test_three"])
    bad = suite.Leg("3.14", python, problem="pytest ended with exit code 1", failed=["tests/a.py::test_one"])
    assert suite._summary([good, bad]) == 1
    assert capsys.readouterr().out.splitlines()[-3:] == [
        "3.11: tests/b.py::test_three (UNSTEADY: failed, and passed when it was run again)",
        "3.14: tests/a.py::test_one",
        "9 passed, 0 failed, 0 skipped",
    ]


def test_make_test_runs_the_python_that_it_is_given(tools: Any, tmp_path: Path, monkeypatch) -> None:
    """It ran on each Python present whatever PYTHON said."""
    for minor in (11, 13, 15):
        python(tmp_path / "bin" / f"python3.{minor}", 3, minor, 0)
    suite = tools("suite")
    ran: list[Any] = []
    monkeypatch.setattr(suite, "run_legs", lambda legs, arguments: ran.append(legs) or 0)
    monkeypatch.setattr(sys, "executable", str(tmp_path / "bin" / "python3.13"))
    suite.run_one([])
    suite.run_others([])
    one, others = ([(leg.title, leg.kind, leg.tests) for leg in legs] for legs in ran)
    assert one == [("3.13", "wheel", ())]
    assert others == [("3.11", "core", suite.MIDDLE), ("3.15", "wheel", suite.NEWEST)]
