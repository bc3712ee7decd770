"""`resilio watch` and `resilio top`: what they watch, what they show, and what they say when it is not there."""

from __future__ import annotations

import io
import os
import re
import signal
import subprocess
import sys
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from resilio import bulkhead, circuit_breaker, cli
from resilio.live import _keys, _top, _watch, live
from resilio.live._feed import Remote, events_in
from resilio.live._serve import listen, serving
from resilio.live._targets import TargetError, load, remote

MODULE = """
import resilio
pool = resilio.bulkhead(3, name="pool")
async def app(scope, receive, send):
    pass
"""

WSGI = """
def app(environ, start_response):
    pass
class Framework:
    def __call__(self, environ, start_response):
        pass
    def __getitem__(self, name):
        pass
framework, settings = Framework(), {}
"""


@pytest.fixture
def module(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[str]:
    """The name of a module in the current folder."""
    name = f"watched_{tmp_path.name.replace('-', '_')}"
    (tmp_path / f"{name}.py").write_text(MODULE)
    (tmp_path / f"{name}_wsgi.py").write_text(WSGI)
    (tmp_path / f"{name}_broken.py").write_text("import a_module_that_is_not_there\n")
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "path", [path for path in sys.path if path])
    yield name
    sys.modules.pop(name, None)


def test_modules_are_found_in_the_current_folder(module: str) -> None:
    """`module`, `module:app`, `module:pool.config`."""
    assert load(module) is None
    assert callable(load(f"{module}:app"))
    assert load(f"{module}:pool.config").max_concurrent == 3


@pytest.mark.parametrize(
    ("target", "message"),
    [
        ("a_module_that_is_not_there", "there is no module 'a_module_that_is_not_there'"),
        ("resilio.nothing.there", "there is no module 'resilio.nothing'"),
        ("resilio:nothing", "resilio has no 'nothing'"),
        ("", "'' names no module"),
        (":app", "':app' names no module"),
        (".main:app", "'.main:app' names no module"),
        ("10.0.0.7:8000/resilio", "no module '10'; an address begins with http://"),
        ("a_host/resilio", "no module 'a_host/resilio'; an address begins with http://"),
    ],
)
def test_targets_that_are_not_there_are_named(target: str, message: str) -> None:
    """The mistake of who types it is said in a line."""
    with pytest.raises(TargetError, match=message):
        load(target)


def test_what_a_module_itself_lacks_is_its_own_error(module: str) -> None:
    """A missing requirement of the service is not a wrong name of it."""
    with pytest.raises(ModuleNotFoundError, match="a_module_that_is_not_there"):
        load(f"{module}_broken")


def test_addresses_must_be_ones() -> None:
    """Only http and https, with a host."""
    for address in ("ftp://here/", "http:///resilio", "https://"):
        with pytest.raises(TargetError, match="the address must be like http://host:port/resilio"):
            remote(address)
    with pytest.raises(TargetError, match="Port out of range"):
        remote("http://here:99999/")


@pytest.mark.parametrize("command", [_watch.main, _top.main])
def test_commands_say_what_is_not_there(command: Any, capsys: pytest.CaptureFixture[str]) -> None:
    """One line on standard error, exit code 1."""
    pytest.importorskip("rich", reason="rich is not installed")
    assert command(["no_such_module_here"]) == 1
    assert "there is no module 'no_such_module_here'" in capsys.readouterr().err


def test_watch_says_that_a_port_is_taken_or_a_token_too_short(
    module: str, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Before anything is served."""
    with listen("127.0.0.1", 0) as sock:
        assert _watch.main([module, "--port", str(sock.getsockname()[1])]) == 1
    assert "cannot listen on 127.0.0.1, port" in capsys.readouterr().err
    assert _watch.main([module, "--port", "99999"]) == 1
    monkeypatch.setenv("RESILIO_LIVE_TOKEN", "short")
    assert _watch.main([module]) == 1
    assert "token must have at least 16 characters" in capsys.readouterr().err


def test_watch_without_uvicorn_says_what_to_install(
    module: str, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """The server is an extra."""
    monkeypatch.setitem(sys.modules, "uvicorn", None)
    assert _watch.main([module, "--port", "0"]) == 1
    assert "pip install 'resilio-sdk[live]'" in capsys.readouterr().err


@pytest.mark.real(1.0)
def test_watch_serves_an_app_with_the_page_beside_it(module: str) -> None:
    """`resilio watch module:app` prints the address, serves both, and ends at Ctrl-C."""
    pytest.importorskip("uvicorn", reason="uvicorn is not installed")
    path = os.pathsep.join([str(Path(cli.__file__).parents[1]), *filter(None, sys.path)])
    command = [sys.executable, "-c", "import sys; from resilio.cli import main; sys.exit(main())"]
    process = subprocess.Popen(
        [*command, "watch", f"{module}:app", "--port", "0"],
        stdout=subprocess.PIPE,
        text=True,
        env={**os.environ, "PYTHONPATH": path},
    )
    with process:
        found = re.fullmatch(r"watching .*:app: (http://127\.0\.0\.1:\d+/resilio)/\n", process.stdout.readline())
        assert found
        status, body = Remote(found[1]).get("snapshot")
        assert status == 200
        assert b'"pool"' in body
        process.send_signal(signal.SIGINT)
    assert process.returncode in (0, 130)


@pytest.mark.parametrize(
    ("attribute", "message"),
    [
        ("app", "is a WSGI app, and an ASGI app can be run here: run it by its own server, with resilio.live.start("),
        ("framework", "is a WSGI app"),
        ("settings", "cannot be called, so it is no ASGI app"),
    ],
)
def test_watch_names_an_app_that_it_cannot_run_at_the_start(
    module: str, attribute: str, message: str, capsys: pytest.CaptureFixture[str]
) -> None:
    """It printed an address, and each page of the app was a 500 with a traceback of the server's."""
    target = f"{module}_wsgi:{attribute}"
    assert _watch.main([target, "--port", "0"]) == 1
    assert f"resilio watch: {target} {message}" in capsys.readouterr().err


def test_watch_takes_an_address(monkeypatch: pytest.MonkeyPatch) -> None:
    """It serves the page of that process; on all interfaces it takes any name."""
    served: list[Any] = []
    monkeypatch.setattr(_watch, "serve", lambda app, sock: served.append(app))
    assert _watch.main(["http://127.0.0.1:9/resilio", "--port", "0"]) == 0
    assert isinstance(served[0], _watch.RemoteLive)
    assert served[0]._hosts == {"127.0.0.1"}
    assert _watch.main(["http://127.0.0.1:9/resilio", "--port", "0", "--host", "0.0.0.0"]) == 0
    assert served[1]._hosts is None


def test_top_prints_a_table_once(module: str, capsys: pytest.CaptureFixture[str]) -> None:
    """`resilio top module --once`: every policy with its state."""
    pytest.importorskip("rich", reason="rich is not installed")
    breaker = circuit_breaker("payments")
    breaker.force_open()
    assert cli.main(["top", module, "--once", "--interval", "0.1", "--sort", "name"]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert [line.split()[-1] for line in lines if "payments" in line or "pool" in line]
    assert any("forced open" in line for line in lines)
    assert cli.main(["top", module, "--once", "--interval", "0.1", "--filter", "PAY"]) == 0
    assert "pool" not in capsys.readouterr().out


@pytest.mark.real(1.0)
def test_top_of_another_process(capsys: pytest.CaptureFixture[str]) -> None:
    """`resilio top http://... --once` shows that process; one that is not there is said so."""
    pytest.importorskip("rich", reason="rich is not installed")
    pytest.importorskip("uvicorn", reason="uvicorn is not installed")
    bulkhead(3, name="pool")
    with serving(live(interval=0.1), listen("127.0.0.1", 0)) as port:
        assert _top.main([f"http://127.0.0.1:{port}/", "--once", "--interval", "0.2"]) == 0
    assert "pool" in capsys.readouterr().out
    assert _top.main([f"http://127.0.0.1:{port}/", "--once", "--interval", "0.1"]) == 1
    assert f"resilio top: no live page can be read at http://127.0.0.1:{port}/: " in capsys.readouterr().err


def test_top_once_says_at_once_that_nothing_is_there(capsys: pytest.CaptureFixture[str]) -> None:
    """It tried again for ten intervals before it named the error; a connection that is rejected ends it."""
    pytest.importorskip("rich", reason="rich is not installed")
    with listen("127.0.0.1", 0) as sock:
        port = sock.getsockname()[1]
    assert _top.main([f"http://127.0.0.1:{port}/", "--once", "--interval", "3600"]) == 1
    assert "Connection refused" in capsys.readouterr().err


def test_top_once_waits_for_a_connection_that_is_being_made(monkeypatch: pytest.MonkeyPatch) -> None:
    """It is not made at the first look; one that is never made is an error in the end."""

    class Silent:
        def read(self) -> None:
            raise ConnectionError("connecting")

        def snapshot(self) -> dict[str, Any]:
            return {}

    naps: list[float] = []
    monkeypatch.setattr(_top, "sleep", naps.append)
    assert _top._found(Silent()) == ({}, "no answer within 10 s")
    assert sum(naps) == pytest.approx(10.0)


def test_top_follows_until_ctrl_c(monkeypatch: pytest.MonkeyPatch) -> None:
    """It draws at each interval, and gives the terminal back."""
    pytest.importorskip("rich", reason="rich is not installed")
    naps: list[float] = []

    def nap(seconds: float) -> None:
        naps.append(seconds)
        if len(naps) == 3:
            raise KeyboardInterrupt

    monkeypatch.setattr(sys, "stdin", io.StringIO())
    monkeypatch.setattr(_keys, "sleep", nap)
    assert _top.main(["resilio", "--interval", "0.5"]) == 0
    assert naps == [0.5, 0.5, 0.5]


@pytest.mark.parametrize("typed", [b"q", b"xQ", b""])
def test_top_ends_with_q(monkeypatch: pytest.MonkeyPatch, typed: bytes) -> None:
    """In a terminal q ends it before the interval is over, as in top, and so does a terminal that is gone."""
    pytest.importorskip("rich", reason="rich is not installed")
    termios = pytest.importorskip("termios", reason="keys are read on POSIX alone", exc_type=ImportError)
    user, terminal = os.openpty()
    before = termios.tcgetattr(terminal)
    looks: list[int] = []
    look = _top._look

    def type_later(source: Any) -> Any:
        looks.append(1)
        os.write(user, typed or b"\x04")
        return look(source)

    monkeypatch.setattr(_top, "_look", type_later)
    if not typed:
        monkeypatch.setattr(os, "read", lambda keys, size: b"")
    with open(terminal, closefd=False) as keys:
        monkeypatch.setattr(sys, "stdin", keys)
        assert _top.main(["resilio", "--interval", "3600"]) == 0
    assert looks == [1]
    assert termios.tcgetattr(terminal) == before
    os.close(user)
    os.close(terminal)


def test_keys_that_mean_nothing_leave_the_interval_as_long(monkeypatch: pytest.MonkeyPatch) -> None:
    """What else is typed neither ends the command nor hastens the next reading; neither does silence."""
    pytest.importorskip("termios", reason="keys are read on POSIX alone", exc_type=ImportError)
    left: list[float] = []
    clock = iter([0.0, 0.0, 4.0, 9.0, 0.0, 0.0])
    ready = iter([[7], [7], []])

    def select(*args: Any) -> Any:
        left.append(args[3])
        return (next(ready), [], [])

    monkeypatch.setattr(_keys, "select", select)
    monkeypatch.setattr(_keys, "monotonic", lambda: next(clock))
    monkeypatch.setattr(os, "read", lambda keys, size: b"x\xff")
    assert _keys._pressed(7, 8.0) is False
    assert _keys._pressed(7, 8.0) is False
    assert left == [8.0, 4.0, 8.0]


def test_top_in_the_background_reads_no_keys(monkeypatch: pytest.MonkeyPatch) -> None:
    """A job in the background that reads the terminal would be stopped by it."""
    pytest.importorskip("termios", reason="keys are read on POSIX alone", exc_type=ImportError)
    monkeypatch.setattr(os, "tcgetpgrp", lambda terminal: os.getpgrp() + 1)
    assert not _keys._in_front(0)


def test_top_without_rich_says_what_to_install(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """The terminal's library is an extra."""
    monkeypatch.setitem(sys.modules, "rich.console", None)
    monkeypatch.delitem(sys.modules, "resilio.live._terminal", raising=False)
    assert _top.main(["resilio", "--once"]) == 1
    assert "pip install 'resilio-sdk[cli]'" in capsys.readouterr().err


def test_top_rejects_an_interval_of_nothing(capsys: pytest.CaptureFixture[str]) -> None:
    """It would read all the time."""
    with pytest.raises(SystemExit):
        _top.main(["resilio", "--interval", "0"])
    assert "--interval" in capsys.readouterr().err


POLICY = {
    "kind": "bulkhead", "name": "pool", "state": "admitting", "inflight": 3, "queued": 2, "limit": 4, "calls": 9,
    "calls_s": 8.0, "failures_s": 0.0, "rejected_s": 0.0, "p50": 1.5, "p95": 2.0, "p99": None, "why": None,
}  # fmt: skip


def test_the_terminal_shows_problems_first_and_what_happened_last() -> None:
    """A rejecting policy stands on top with its reason; events are below, the latest first."""
    console_of = pytest.importorskip("rich.console", reason="rich is not installed").Console
    from time import time

    from resilio.live._terminal import Screen

    why = {"at": time(), "reason": "full", "measured": 4, "limit": 4.0, "retry_after": 0.25}
    policies = [
        POLICY,
        {**POLICY, "name": "failing", "failures_s": 4.0, "state": None},
        {**POLICY, "name": "rejecting", "rejected_s": 2.0, "why": why},
        {**POLICY, "name": "hosts", "kind": "keyed", "state": {"open": 2, "closed": 5}, "limit": None},
        {**POLICY, "name": "calm hosts", "kind": "keyed", "state": {"closed": 5}, "keys": 5, "why": {**why, "at": 1.0}},
        {**POLICY, "name": "no hosts yet", "kind": "keyed", "state": {}},
        {**POLICY, "name": "broken", "trouble": "ValueError"},
        {"id": 7, "kind": "bulkhead"},
    ]
    events = [
        {"what": "state", "at": 1.0, "kind": "circuit_breaker", "name": None, "old": "closed", "new": "open"}
        | {"reason": "consecutive", "key": "#1"},
        {"what": "limit", "at": 2.0, "kind": "adaptive_limit", "name": "db", "old": 10, "new": 12},
        {"what": "operation", "at": 3.0, "kind": "x", "name": "pay", "do": "reset", "options": "", "by": "1.2.3.4"},
    ]  # fmt: skip
    seen = {"process": {"pid": 7, "host": "here"}, "policies": policies, "events": events}

    def shown(sort: str, height: int = 40, width: int = 160, **problem: Any) -> list[str]:
        console = console_of(width=width, height=height, record=True, file=open(os.devnull, "w"))  # noqa: PTH123, SIM115
        console.print(Screen(sort, "", console).picture(seen, **problem))
        console.file.close()
        return console.export_text().splitlines()

    assert not any("p50" in line for line in shown("problems", width=80))
    lines = shown("problems", problem="it is gone")
    assert "process 7 on here  7 policies  4 need a look  no connection: it is gone" in lines[0]
    seen, all_seen = {**seen, "policies": policies[-2:]}, seen
    assert "1 policy  1 needs a look" in shown("problems")[0]
    seen = all_seen
    order = [line for line in lines if "bulkhead" in line or "keyed" in line]
    names = ("broken", "hosts  keyed", "rejecting", "failing", "calm hosts", "no hosts yet", "pool")
    assert all(name in line for name, line in zip(names, order, strict=True))
    assert "full 4 against 4, retry after 0.25 s" in order[2]
    assert "2 of 7 open" in order[1]
    assert "all 5 healthy" in order[4]
    assert order[2].startswith("rejecting")
    assert order[3].startswith("50 % failing")
    assert order[5].startswith("no keys")
    assert order[6].startswith("healthy")
    assert "pay reset  by an operator at 1.2.3.4" in lines[-3]
    assert "circuit_breaker #1 closed -> open (consecutive)" in lines[-1]
    assert "and 6 more" in "\n".join(shown("p99", height=4))
    assert "broken" in shown("failures")[3]


def test_the_parts_of_a_stack_stand_together() -> None:
    """
    An open breaker was on top, and the pipeline that it stops was somewhere among the healthy policies.

    A part that two stacks share is shown once; policies that are inside each other are not lost.
    """
    pytest.importorskip("rich", reason="rich is not installed")
    from resilio.live._terminal import Screen

    policies = [
        {**POLICY, "id": 1, "name": "a calm one"},
        {**POLICY, "id": 2, "name": "breaker", "state": "open", "calls_s": 1.0},
        {**POLICY, "id": 3, "name": "pool", "rejected_s": 1.0},
        {**POLICY, "id": 4, "name": "whole", "parts": [3, 2, 99]},
        {**POLICY, "id": 5, "name": "another whole", "parts": [3], "calls_s": 9.0},
        {**POLICY, "id": 6, "name": "chicken", "parts": [7]},
        {**POLICY, "id": 7, "name": "egg", "parts": [6]},
    ]
    for sort, order in {
        "problems": ["whole", "  breaker", "another whole", "  pool", "a calm one", "chicken", "  egg"],
        "name": ["a calm one", "another whole", "  pool", "whole", "  breaker", "chicken", "  egg"],
        "calls": ["another whole", "  pool", "a calm one", "whole", "  breaker", "chicken", "  egg"],
    }.items():
        (_, table, *_) = Screen(sort, "").picture({"policies": policies}).renderables
        assert [str(cell).removesuffix("  bulkhead") for cell in table.columns[1].cells] == order


def test_a_policy_whose_calls_fail_needs_a_look() -> None:
    """23 of 100 calls failed, in yellow, and the head-line said that all is well."""
    pytest.importorskip("rich", reason="rich is not installed")
    from resilio.live._terminal import Screen

    seen = {"process": {}, "policies": [{**POLICY, "calls_s": 100.0, "failures_s": 23.0}], "events": []}
    (head, *_) = Screen("problems", "").picture(seen).renderables
    assert "1 policy  1 needs a look" in head.plain
    seen["policies"][0]["failures_s"] = 5.0
    (head, *_) = Screen("problems", "").picture(seen).renderables
    assert "1 policy  0 need a look" in head.plain


def test_another_process_cannot_command_the_terminal() -> None:
    """Escape sequences, line ends and halves of letters in what it says are spelt out."""
    console_of = pytest.importorskip("rich.console", reason="rich is not installed").Console
    from resilio.live._terminal import Screen

    evil = "\x1b]0;mine\x07\n\ud800"
    policy = {**POLICY, "name": evil, "state": {evil: 2}, "trouble": None}
    event = {"what": "state", "at": 1.0, "kind": "x", "name": evil, "old": evil, "new": evil, "reason": evil}
    seen = {"process": {"pid": 7, "host": evil}, "policies": [policy], "events": [event]}
    written = io.StringIO()
    console = console_of(width=300, height=40, file=written)
    console.print(Screen("name", "", console).picture(seen, evil))
    Screen("name", "", console).print(seen)
    assert not {"\x1b", "\x07", "\ud800"} & set(written.getvalue())
    assert written.getvalue().count(r"\x1b]0;mine\x07\n\ud800") >= 8


def test_top_shows_what_the_terminal_has_letters_for(module: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """A name beyond its encoding is no reason to end."""
    pytest.importorskip("rich", reason="rich is not installed")
    written = io.BytesIO()
    bulkhead(3, name="zähler")
    monkeypatch.setattr(sys, "stdout", io.TextIOWrapper(written, "ascii"))
    assert _top.main([module, "--once", "--interval", "0.1"]) == 0
    sys.stdout.flush()
    assert b"z?hler" in written.getvalue()


def test_a_watched_process_that_was_started_anew_is_another_one() -> None:
    """Its numbers stand for other policies, its events begin anew; who looks here sees both in order."""
    source = Remote("http://127.0.0.1:1/")
    old = [{"id": 1, "name": "old", "why": {"at": 1}}, {"id": 2, "name": "gone"}]
    source._apply("snapshot", {"boot": "a", "policies": old, "events": [{"id": 7}]})
    source._apply("delta", {"changed": [{"id": 1, "calls": 3}], "removed": [], "events": [{"id": 8}]})
    source._apply("snapshot", {"boot": "a", "policies": old[:1], "events": [{"id": 7}, {"id": 8}]})
    assert [policy["id"] for policy in source.snapshot()["policies"]] == [1]
    source._apply("snapshot", {"boot": "b", "policies": [{"id": 1, "name": "new"}], "events": [{"id": 1}]})
    source._apply("trouble", {"error": "x"})
    seen = source.snapshot()
    assert seen["policies"] == [{"id": 1, "name": "new"}]
    assert [event["id"] for event in seen["events"]] == [1, 2, 3]
    source._problem, source._stop = None, threading.Event()
    tick = source.read()
    assert (tick.changed, sorted(set(tick.removed))) == ([{"id": 1, "name": "new"}], [1, 2])
    source.rest()


def test_events_of_a_stream_are_read_whatever_else_is_in_it() -> None:
    """Comments, unknown fields and broken JSON are left out."""
    lines = b'retry: 3\n:\n\nevent: a\nid: 1\ndata: {"x":\ndata: 1}\n\ndata: {\n\ndata: 2\r\n\r\nevent: lost\n\n'
    assert list(events_in(lines.splitlines(keepends=True))) == [("a", {"x": 1}), ("message", 2)]
