"""What a finaliser defers: log lines and listeners run with the next call, where no lock of other code is held."""

from __future__ import annotations

import gc
import logging
import os
import subprocess
import sys
import threading
from pathlib import Path
from typing import Any

import pytest

import resilio
from resilio import bulkhead, circuit_breaker, custom_gate
from resilio._native.core import defer
from resilio.metrics.logging import slow_calls


@pytest.fixture
def heard() -> list[Any]:
    return []


def dropped_failure(heard: list[Any]) -> Any:
    """Return a permit whose loss opens its breaker, which appends the new state to *heard*."""
    breaker = circuit_breaker(consecutive=1, failed_if=lambda value: value == "bad")
    breaker.on_event(lambda event: heard.append(event.new))
    permit = breaker.try_acquire()
    permit.answered("bad")
    return permit


def test_a_listener_is_not_called_between_two_lines_of_the_main_thread() -> None:
    """A pending call ran a listener in the middle of the main thread's code: its own lock was held, and it hung."""
    lock, found = threading.Lock(), []
    breaker = circuit_breaker(consecutive=1, failed_if=lambda value: value == "bad")
    breaker.on_event(lambda _: found.append(lock.locked()))
    permit = breaker.try_acquire()
    permit.answered("bad")
    with lock:
        del permit
        for _ in range(1000):
            assert not found
    assert breaker.state == "open"
    bulkhead(1).call(int)
    assert found == [False]


def test_a_listener_is_called_though_the_main_thread_waits(heard: list[Any]) -> None:
    """A pending call runs in the main thread only, and never while that waits in C for the threads that serve."""
    seen = []

    def serve() -> None:
        permit = dropped_failure(heard)
        del permit
        bulkhead(1).call(int)
        seen.extend(heard)

    thread = threading.Thread(target=serve)
    thread.start()
    thread.join()
    assert seen == ["open"]


def test_what_is_deferred_keeps_its_order_and_runs_once(heard: list[Any]) -> None:
    """Each is called with its argument; what is deferred meanwhile comes after it."""

    def again(value: int) -> None:
        heard.append(value)
        defer(heard.append, -value)

    room = bulkhead(1)
    room.call(int)
    defer(again, 1)
    defer(again, 2)
    assert heard == []
    for _ in range(3):
        room.call(int)
    assert heard == [1, 2, -1, -2]


def test_a_rejection_runs_it_too(heard: list[Any]) -> None:
    """A policy that rejects all calls settles none."""
    room = bulkhead(1)
    with room:
        defer(heard.append, 1)
        assert not room.try_acquire()
    assert heard == [1]


def test_what_raises_stops_no_call_and_nothing_deferred_after_it(heard: list[Any], monkeypatch: Any) -> None:
    """An exception is reported as any of a finaliser."""
    monkeypatch.setattr(sys, "unraisablehook", lambda found: heard.append(found.exc_type))
    defer(int, "no number")
    defer(heard.append, 1)
    assert bulkhead(1).call(int) == 0
    assert heard == [ValueError, 1]


def test_a_slow_call_that_was_dropped_is_logged(vt: Any, caplog: pytest.LogCaptureFixture) -> None:
    """Slow calls that ended in a finaliser were missing in the log."""
    policy = bulkhead(1, name="slow-and-dropped")
    stop = slow_calls(1.0, policy=policy)
    with caplog.at_level(logging.WARNING, "resilio"):
        permit = policy.try_acquire()
        vt.advance(2.0)
        del permit
        assert not caplog.records
        policy.call(int)
    stop()
    assert ["slow-and-dropped" in record.getMessage() for record in caplog.records] == [True]


def test_a_gate_that_raises_in_a_finaliser_is_logged_by_the_next_call(caplog: pytest.LogCaptureFixture) -> None:
    """The line was written by the finaliser, which may have interrupted the handler that writes it."""

    class Broken:
        kind, reasons = "broken", ("never",)

        def admit(self, call: Any) -> Any:
            return None

        def settle(self, call: Any, outcome: Any, latency: float) -> None:
            raise OSError("of settle")

    policy = custom_gate(Broken(), name="broken")
    with caplog.at_level(logging.ERROR, "resilio"):
        cycle = [policy.try_acquire()]
        cycle.append(cycle)
        del cycle
        gc.collect()
        assert not caplog.records
        bulkhead(1).call(int)
    assert [record.policy for record in caplog.records] == ["broken"]


EXIT = """
import sys
from resilio import bulkhead
from resilio._native.core import defer

class Dropped:
    def __del__(self):
        defer(print, "while the interpreter ends")

kept = Dropped()
defer(print, "at exit")
"""


def test_at_exit_what_was_deferred_is_done_and_afterwards_nothing() -> None:
    """The last lines are written by an exit callback; modules that are being cleared log nothing."""
    ended = run(EXIT)
    assert (ended.returncode, ended.stdout, ended.stderr) == (0, "at exit\n", "")


FORK = """
import os
from resilio import bulkhead
from resilio._native.core import defer

defer(print, "by the parent")
child = os.fork()
if child == 0:
    bulkhead(1).call(print, "in the child")
    defer(print, "by the child")
else:
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0
"""


@pytest.mark.skipif(not hasattr(os, "fork"), reason="no fork on this system")
def test_a_forked_child_does_not_do_the_work_of_its_parent() -> None:
    """Otherwise the line would be in the log twice."""
    ended = run(FORK)
    assert ended.stdout.splitlines() == ["in the child", "by the child", "by the parent"]


def run(script: str) -> subprocess.CompletedProcess[str]:
    here = str(Path(resilio.__file__).parents[1])
    settings = os.environ | {"PYTHONPATH": here}
    return subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, env=settings, check=True)
