"""`resilio doctor`: what it shows, and that it sees each protection which does not work."""

from __future__ import annotations

import json
import multiprocessing
import os
import re
import signal
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import attrs
import pytest
from servers.processes import installed
from servers.valkey import Valkey

from resilio import bulkhead, cli, detached
from resilio._doctor import _checks, _watch
from resilio._doctor._facts import _clock, facts
from resilio._doctor._report import conclusion, describe, table
from resilio._doctor._store import store_at
from resilio._doctor._watch import Verdict, verdicts
from resilio.sharing._directory import type_of_disk

PATIENT = 120
"""Seconds for what ends by itself: a busy machine is no finding."""

LOOPS = [("timeout", "asyncio"), ("hedge", "asyncio"), ("deadline", "asyncio")]

NEVER_ARMED = """
import asyncio

real = asyncio.BaseEventLoop.call_at

def call_at(self, when, callback, *args, **options):
    if type(callback).__module__.startswith("resilio"):
        return asyncio.TimerHandle(when, callback, args, self, options.get("context"))  # made, and never in the loop
    return real(self, when, callback, *args, **options)

asyncio.BaseEventLoop.call_at = call_at
"""
"""What CPython 3.14 was to the library: calls that look for their timer find none, and no error says so."""


def no_policy(*_: object, **__: object) -> Callable[[Callable[..., object]], Callable[..., object]]:
    return lambda function: function


class Leaks:
    """A bulkhead that keeps the permit of a cancelled waiter."""

    def __init__(self, *args: Any, **options: Any) -> None:
        self.real, self.lost = bulkhead(*args, **options), 0

    async def __aenter__(self) -> object:
        try:
            return await self.real.__aenter__()
        except BaseException:
            self.lost += 1
            raise

    def snapshot(self) -> Any:
        seen = self.real.snapshot()
        return attrs.evolve(seen, inflight=seen.inflight + self.lost)

    def __aexit__(self, *error: Any) -> object:
        return self.real.__aexit__(*error)

    def __getattr__(self, name: str) -> Any:
        return getattr(self.real, name)


@pytest.fixture
def broken(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[[str], None]:
    """Have every Python that is started run this code first."""

    def breaks(code: str) -> None:
        (tmp_path / "sitecustomize.py").write_text(code)
        # First where each new Python looks, and behind it whatever this one imports from.
        monkeypatch.setenv("PYTHONPATH", os.pathsep.join([str(tmp_path), *filter(None, sys.path)]))

    return breaks


def doctor(*arguments: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "resilio", "doctor", *arguments]
    return subprocess.run(command, capture_output=True, text=True, check=False)


@pytest.mark.real(1.0)
def test_everything_protects_here() -> None:
    """On this Python each protection fires, on each loop that is installed and in threads: status 0 and one line."""
    done = doctor(f"--patience={PATIENT}")
    assert (done.returncode, done.stderr) == (0, ""), done.stdout
    assert done.stdout.splitlines()[-1] == "Everything that can run here protects."
    rows = {line.rpartition("ok")[0].split("  ")[0] for line in done.stdout.splitlines() if " ok" in line}
    assert rows == {"timeout", "hedge", "retry", "circuit_breaker", "deadline", "cancelled waiter"}


@pytest.mark.slow
@pytest.mark.once  # waits for what never comes
def test_timers_that_are_never_armed_are_seen(broken: Callable[[str], None]) -> None:
    """On CPython 3.14 a timeout never fired and no error said so; what waits for ever is named, with what to do."""
    broken(NEVER_ARMED)
    done = doctor("--json", "--patience", "3")
    assert done.returncode == 1, done.stderr
    report = json.loads(done.stdout)
    assert report["protects"] is False
    problems = {(one["check"], one["way"]): one["problem"] for one in report["checks"]}
    assert {check: problems[check] for check in LOOPS} == dict.fromkeys(
        LOOPS, "it never ended: it was still waiting after 3 s"
    )
    assert len(problems) == len(_checks.checks_here()), "the checks behind one that hangs ran too"


@pytest.mark.parametrize("way", ["asyncio", "trio", "threads"])
@pytest.mark.parametrize(
    ("check", "name", "stands_in", "problem"),
    [
        ("timeout", "timeout", no_policy, "never ended"),
        ("hedge", "hedge", no_policy, "never ended"),
        ("retry", "retry", no_policy, "ended with ConnectionError"),
        ("circuit_breaker", "circuit_breaker", no_policy, "stayed closed over three failures"),
        ("deadline", "deadline", lambda _: detached(), "never ended"),
        ("cancelled waiter", "bulkhead", Leaks, "left 1 permits taken"),
    ],
    ids=["timeout", "hedge", "retry", "circuit_breaker", "deadline", "waiter"],
)
def test_each_protection_that_does_nothing_is_seen(
    check: str, way: str, name: str, stands_in: object, problem: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Where a policy guards nothing, its row says so."""
    if (check, way) not in _checks.checks_here():
        pytest.skip(f"no check of {check} on {way}")
    if (check, way) == ("cancelled waiter", "threads"):
        problem = ""  # a thread that waits cannot be cancelled, so this bulkhead loses nothing there
    monkeypatch.setattr(_checks, name, stands_in)
    (verdict,) = verdicts(patience=0.3 if problem == "never ended" else PATIENT, checks=[(check, way)])
    assert problem in verdict.problem


@pytest.mark.real(1.0)
@pytest.mark.once
def test_where_there_is_no_fork_a_new_python_runs_the_check(monkeypatch: pytest.MonkeyPatch) -> None:
    """Windows has no fork, and on macOS it is not safe."""
    monkeypatch.setattr(_watch, "_PROCESSES", multiprocessing.get_context("spawn"))
    assert list(verdicts(PATIENT, [("retry", "threads")])) == [Verdict("retry", "threads", "")]


def test_a_crash_is_a_verdict_and_the_next_check_runs(monkeypatch: pytest.MonkeyPatch) -> None:
    """A segmentation fault ends its check alone; the report names the signal."""
    monkeypatch.setattr(_checks, "timeout", lambda *_, **__: os.kill(os.getpid(), signal.SIGSEGV))
    crashed, fine = verdicts(PATIENT, checks=[("timeout", "asyncio"), ("retry", "asyncio")])
    assert "its process ended with signal SIGSEGV" in crashed.problem
    assert (fine.check, fine.problem) == ("retry", "")


def test_the_reason_for_a_failure_is_in_the_report(capsys: pytest.CaptureFixture[str], monkeypatch) -> None:
    """Status 1, the row, what happened, and what to do about it."""
    seen = [
        Verdict("timeout", "asyncio", ""),
        Verdict("timeout", "uvloop", "it never ended"),
        Verdict("retry", "trio", ""),
    ]
    monkeypatch.setattr("resilio._doctor._main.verdicts", lambda _: iter(seen))
    assert cli.main(["doctor"]) == 1
    output = capsys.readouterr().out
    assert "NOT PROTECTED: timeout on uvloop." in output
    assert "timeout on uvloop: it never ended" in output
    assert "install another version of uvloop, or run on asyncio, where this works" in output
    assert "resilio doctor --json" in output
    everywhere = "\n".join(conclusion([Verdict("timeout", "asyncio", "it never ended")]))
    assert "do not rely on timeout on asyncio" in everywhere


def test_table_has_a_dash_where_there_is_nothing_to_check() -> None:
    """A row a protection, a column a way; a loop that is not installed has no column."""
    seen = [Verdict("hedge", "asyncio", ""), Verdict("retry", "asyncio", "no"), Verdict("retry", "threads", "")]
    assert [line.split() for line in table(seen)] == [
        ["asyncio", "threads"],
        ["hedge", "ok", "-"],
        ["retry", "FAILS", "ok"],
    ]


def test_facts_name_build_clock_and_loops() -> None:
    """Versions, compiler and GIL, the clock with its reason, and the loops that are installed."""
    found = facts()
    lines = "\n".join(describe(found))
    assert found["build"]["python"].startswith(f"{sys.version_info[0]}.{sys.version_info[1]}.")
    assert ("without the GIL" if not getattr(sys, "_is_gil_enabled", lambda: True)() else "with the GIL") in lines
    assert found["clock"]["why"] in lines
    assert "trio" in found["loops"]
    private = {"current_tasks": "failed", "function": "in use"}
    said = " ".join(" ".join(describe({**found, "private": private})).split())
    assert "1 names of Python and its loops that are not public are in use" in said
    assert "failed their check, so the public way is taken: current_tasks" in said
    slow = {**found, "build": {**found["build"], "traced": True, "sanitized": True, "optimised": False}}
    assert "made for coverage: slow, with sanitizers: slow, not optimised" in "\n".join(describe(slow))


@pytest.mark.parametrize(
    ("machine", "setting", "kernel", "why"),
    [
        ("x86_64", "monotonic", "tsc", "RESILIO_CLOCK=monotonic chose it"),
        ("aarch64", "auto", "arch_sys_counter", "the counter of aarch64 is not used"),
        ("x86_64", "auto", "kvm-clock", "the kernel keeps time by kvm-clock"),
        ("x86_64", "auto", "tsc", "nothing vouches for the processor's counter"),
    ],
)
def test_clock_says_why(machine, setting, kernel, why, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The reason for the slower clock is the first that applies."""
    (tmp_path / "current").write_text(f"{kernel}\n")
    monkeypatch.setattr("resilio._doctor._facts._CLOCKSOURCE", tmp_path / "current")
    monkeypatch.setattr("resilio._doctor._facts.clock.source", lambda: "monotonic")
    monkeypatch.setattr("platform.machine", lambda: machine)
    monkeypatch.setenv("RESILIO_CLOCK", setting)
    assert why in _clock()[1]


def test_patience_must_be_seconds(capsys: pytest.CaptureFixture[str]) -> None:
    """A patience that no check could meet is wrong usage, with the value."""
    for wrong in ("0", "-1", "nan", "soon"):
        with pytest.raises(SystemExit) as caught:
            cli.main(["doctor", f"--patience={wrong}"])
        assert caught.value.code == 2
        assert wrong in capsys.readouterr().err


def test_the_store_of_a_fleet_is_asked_as_its_courier_would(capsys: pytest.CaptureFixture[str]) -> None:
    """Before a deployment one wants to know that the image has the client, and reaches the store; not its password."""
    pytest.importorskip("valkey")
    with installed(Valkey) as server:
        url = f"valkey://:secret@127.0.0.1:{server.port}"
        assert store_at(url, 30.0)["problem"] is not None, "this server has no password"
        found = store_at(f"valkey://127.0.0.1:{server.port}", 30.0)
        assert (found["at"], found["problem"]) == (f"valkey://127.0.0.1:{server.port}", None)
    text = "\n".join(describe({**facts(), "store": found}))
    assert re.search(r"store    valkey://127\.0\.0\.1:\d+ answers in \d+\.\d ms, the first time in", text)
    away = store_at(url, 30.0)
    text = "\n".join(describe({**facts(), "store": away}))
    assert "gives no answer, so a fleet is each" in text
    assert "secret" not in text


@pytest.mark.parametrize("url", ["localhost:6379", "valkey://cache:sixty", "valkey://cache/notadb"])
def test_a_store_with_a_wrong_url_is_shown_as_it_was_typed(url: str) -> None:
    """
    A URL without its scheme was shown as "://None:None"; a wrong port ended the command with a traceback.

    A name for the number of a database was taken for the database 0.
    """
    pytest.importorskip("valkey")
    found = store_at(url, 1.0)
    assert found["at"] == url
    assert found["problem"].startswith("client must be ")


def test_a_store_that_is_away_fails_the_command(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """A script looks at the exit status. The last line was "Everything that can run here protects." all the same."""
    monkeypatch.setattr("resilio._doctor._main.verdicts", lambda patience: [])
    assert cli.main(["doctor", "--json", "--store", "memcached://127.0.0.1:1"]) == 1
    assert cli.main(["doctor", "--json"]) == 0
    capsys.readouterr()
    assert cli.main(["doctor", "--store", "memcached://127.0.0.1:1"]) == 1
    protects, shared = capsys.readouterr().out.splitlines()[-2:]
    assert protects == "Everything that can run here protects, each process by itself."
    assert shared.startswith("NOT SHARED: memcached://127.0.0.1:1 gives no answer: client must be")


def test_memory_on_a_disk_is_noted(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A directory of `RESILIO_SHARED_DIR` on a disk was taken in silence; the memory of a host belongs in a tmpfs."""
    mounts = tmp_path / "mounts"
    mounts.write_text("/dev/sda / ext4 rw 0 0\ntmpfs /run tmpfs rw 0 0\n/dev/sdb /run/a\\040b xfs rw 0 0\n")
    found = {path: type_of_disk(Path(path), mounts) for path in ("/run/shop", "/run/a b/shop", "/srv/shop", "/runner")}
    assert found == {"/run/shop": None, "/run/a b/shop": "xfs", "/srv/shop": "ext4", "/runner": "ext4"}
    assert type_of_disk(tmp_path, tmp_path / "none") is None
    here = facts()
    here["sharing"] = {"directory": "/srv/shop", "problem": None, "groups": {}, "disk": "ext4"}
    text = " ".join("\n".join(describe(here)).split())
    assert "possible in /srv/shop, which is on a disk (ext4): a directory in memory (tmpfs) is faster" in text
    monkeypatch.setenv("RESILIO_SHARED_DIR", "relative")
    text = " ".join("\n".join(describe(facts())).split())
    assert "not possible" in text
    assert "environment variable RESILIO_SHARED_DIR must be an absolute path" in text
