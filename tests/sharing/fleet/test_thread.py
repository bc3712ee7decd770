"""The courier's thread: in a child of a fork, beside greenlets, in a store that hangs, and at the end of a program."""

from __future__ import annotations

import subprocess
import sys
import textwrap
import threading
import time
from collections.abc import Iterator, Sequence
from pathlib import Path

import pytest
from plain_fleet import PlainTie, Policy
from servers.valkey_groups import until

from resilio._native.shared import Region
from resilio._options.scope import set_private
from resilio.events import SharingChanged, subscribe
from resilio.sharing import Answer, Ask, MemoryEngine, StoreError, StoreProblem, fleet
from resilio.sharing._fleet.courier import Courier
from resilio.sharing._fleet.thread import LONGEST_NS, CourierThread

HERE = Path(__file__).parents[2]
BEFORE = """
import sys, time
sys.path.insert(0, sys.argv[1])
from plain_fleet import Policy
from servers.valkey_groups import until
from resilio.sharing import MemoryEngine, fleet
"""


@pytest.fixture(autouse=True)
def _real() -> Iterator[None]:
    """Let the fleets of the test be real: threads run."""
    set_private("pytest", on=False)
    yield
    set_private("pytest", on=True)


def run(program: str, *arguments: str, first: str = "") -> str:
    """Run a program in a process of its own, and return what it has printed."""
    text = first + BEFORE + textwrap.dedent(program)
    command = [sys.executable, "-c", text, str(HERE), *arguments]
    done = subprocess.run(command, capture_output=True, text=True, check=False, timeout=300)
    assert (done.returncode, done.stderr) == (0, "")
    return done.stdout


class Hanging(MemoryEngine):
    """A store that is stopped: an exchange ends when it runs on."""

    def __init__(self) -> None:
        super().__init__()
        self.runs = threading.Event()
        self.runs.set()
        self.is_asked = threading.Event()

    def exchange(self, asks: Sequence[Ask], timeout: float) -> Sequence[Answer | StoreProblem]:
        self.is_asked.set()
        self.runs.wait()
        return super().exchange(asks, timeout)


class Away(MemoryEngine):
    """A store that may be away."""

    is_away = False

    def exchange(self, asks: Sequence[Ask], timeout: float) -> Sequence[Answer | StoreProblem]:
        if self.is_away:
            raise StoreError("away")
        return super().exchange(asks, timeout)


def test_no_call_waits_for_a_store_that_hangs() -> None:
    """litellm's calls all stood still with their Redis. Here only the courier does: policies come, go and are read."""
    store = Hanging()
    shop, policy = fleet("shop", store, tick=0.01, host=False), Policy()
    policy.give(shop)
    until(lambda: policy.tie.got)
    store.runs.clear()
    store.is_asked.clear()
    store.is_asked.wait()
    other = Policy("other")
    other.give(shop)
    assert other.gate.cell is not None
    assert policy._link.sharing().trips > 0
    policy.give("process")
    store.runs.set()
    until(lambda: other.tie.got)


@pytest.mark.real(2.0)
def test_a_store_that_is_away_is_reported_once_and_so_is_its_return(caplog: pytest.LogCaptureFixture) -> None:
    """Operations read one line, listeners get one event, and the policy begins and ends to be alone."""
    store, seen = Away(), list[SharingChanged]()
    shop, policy = fleet("shop", store, tick=0.01, host=False), Policy()
    end = subscribe(seen.append, kinds=SharingChanged)
    with caplog.at_level("INFO"):
        policy.give(shop)
        until(lambda: policy.tie.got)
        store.is_away = True
        until(lambda: policy._link.sharing().degraded == "store_down")
        until(lambda: policy.tie.heard == ["down"])
        until(lambda: len(seen) == 1)
        store.is_away = False
        until(lambda: policy.tie.heard == ["down", "up"])
        until(lambda: policy._link.sharing().degraded is None)
        until(lambda: len(seen) == 2)
    end()
    assert [(event.kind, event.name, event.old, event.new) for event in seen] == [
        ("fleet", "shop", None, "store_down"),
        ("fleet", "shop", "store_down", None),
    ]
    lines = [record.getMessage() for record in caplog.records if "fleet" in record.getMessage()]
    assert "policies are the process's own (store_down)" in lines[0]
    assert "the latest error: " in lines[0], "a wrong host, a wrong password and a firewall are told apart by it alone"
    assert "policies are shared again" in lines[1]
    assert policy.tie.lost > 0


@pytest.mark.parametrize("how", ["raises", "answers too few"])
def test_what_an_engine_does_wrong_is_a_loss(caplog: pytest.LogCaptureFixture, how: str) -> None:
    """
    An engine of a user's own may raise anything, or answer anything.

    Trips that failed so were not counted, came without a pause, and no policy heard that they were lost.
    """

    class Broken(MemoryEngine):
        is_broken = True

        def exchange(self, asks: Sequence[Ask], timeout: float) -> Sequence[Answer | StoreProblem]:
            answers = super().exchange(asks, timeout)
            if not self.is_broken:
                return answers
            if how == "raises":
                raise KeyError("a defect")
            return answers[1:]

    store, policy = Broken(), Policy()
    shop = fleet("shop", store, tick=0.01, host=False)
    policy.give(shop)
    until(lambda: policy.tie.lost >= 3)
    assert shop.courier.lost >= 3
    assert shop.courier.problem == ("KeyError: 'a defect'" if how == "raises" else "0 answers to 1 asks")
    assert caplog.text.count("the engine of a fleet's store failed") == (how == "raises")
    store.is_broken = False
    until(lambda: policy.tie.got)


def test_a_courier_survives_a_defect_of_a_tie(
    caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    """One policy that could not name its time ended the thread, and no policy of the process was shared any more."""
    raised, due_ns = [], PlainTie.due_ns

    def broken(tie: PlainTie, now_ns: int) -> int:
        if len(raised) < 2:
            raised.append(now_ns)
            raise ZeroDivisionError
        return due_ns(tie, now_ns)

    monkeypatch.setattr(PlainTie, "due_ns", broken)
    policy = Policy()
    policy.give(fleet("shop", MemoryEngine(), tick=0.01, host=False))
    until(lambda: policy.tie.got)
    assert len(raised) == 2
    assert "the courier of a fleet failed; it goes on" in caplog.text


@pytest.mark.real(1.5)
@pytest.mark.parametrize("fails", [False, True], ids=["idle", "failing"])
def test_the_thread_sleeps_between_two_looks(fails: bool) -> None:
    """Without its sleep it takes a whole processor, while all works as before."""
    looks = []

    class Idle(Courier):
        def due_ns(self, now_ns: int) -> int:
            looks.append(time.monotonic_ns())
            if fails:
                raise ZeroDivisionError
            return now_ns + 60 * LONGEST_NS

    region = Region.private()
    thread = CourierThread(Idle(LONGEST_NS), MemoryEngine(), 1.0, lambda: region.member, lambda _: None)
    until(lambda: len(looks) >= 3)
    thread.stop()
    assert looks[2] - looks[0] > LONGEST_NS


def test_a_child_of_a_fork_has_a_courier_and_a_lease_of_its_own() -> None:
    """A copy of the parent's lease, spent by ten children, would be ten times the limit."""
    printed = run(
        """
        import os, warnings
        warnings.simplefilter("ignore", DeprecationWarning)
        shop, policy = fleet("shop", MemoryEngine(), tick=0.01, host=False), Policy()
        policy.give(shop)
        until(lambda: policy.tie.got)
        parent = policy.where
        child = os.fork()
        if child == 0:
            until(lambda: policy.tie.got)  # of the child: its tie is new
            assert policy.where[1] != parent[1], policy.where
            print("child", flush=True)
            os._exit(0)
        assert os.waitpid(child, 0)[1] == 0
        before = policy.tie.got
        until(lambda: policy.tie.got > before)
        assert policy.where == parent
        print("parent")
        """
    )
    assert printed.split() == ["child", "parent"]


def test_a_program_ends_while_its_courier_sleeps() -> None:
    """A tick may be ten seconds: the end of a program does not wait for it, nor does the thread touch what is gone."""
    printed = run(
        """
        shop, policy = fleet("shop", MemoryEngine(), tick=10, host=False), Policy()
        policy.give(shop)
        until(lambda: policy.tie.got)
        print("ends")
        """
    )
    assert printed == "ends\n"


@pytest.mark.real(1.5)
def test_greenlets_run_while_the_courier_sleeps() -> None:
    """Where threads are patched to be greenlets, its sleep would stop all of them: it is a thread of the system."""
    pytest.importorskip("gevent")
    valkey = pytest.importorskip("valkey")
    from servers.processes import installed
    from servers.valkey import Valkey

    with installed(Valkey) as server:
        printed = run(
            """
            import gevent
            url = f"valkey://127.0.0.1:{sys.argv[2]}"
            shop, policy = fleet("shop", url, tick=0.5, timeout=30, host=False), Policy()
            policy.give(shop)
            ran = 0
            while ran < 100 or policy.tie.got < 3_000_000:
                gevent.sleep(0.001)
                ran += 1
            trips = policy._link.sharing().trips
            assert 2 * trips < ran, (trips, ran)
            print("greenlets run")
            """,
            str(server.port),
            first="from gevent import monkey\n\nmonkey.patch_all()\n",
        )
    assert valkey
    assert printed == "greenlets run\n"
