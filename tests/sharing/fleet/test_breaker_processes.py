"""Circuit breakers of a fleet in several processes and hosts, with a real Valkey: a host is a directory of memory."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path

import pytest
from servers.processes import installed
from servers.valkey import Valkey
from workers_of_host import PATIENCE, Asked, started, until

pytestmark = [
    pytest.mark.once,
    pytest.mark.untraced,
    pytest.mark.skipif(sys.platform != "linux", reason="shared memory of hosts is for Linux"),
]

BEFORE = """
import fcntl, os, time, valkey
from resilio import CircuitOpenError, circuit_breaker
from resilio.sharing import fleet

everywhere = fleet("shop", valkey.Valkey(port={port}), host={host}, tick={tick}, timeout={timeout})
breaker = circuit_breaker("payments", scope=everywhere, open_for=0.2, max_open_for=0.5, probe_lease=3600)
door = os.open({door!r}, os.O_RDWR | os.O_CREAT)
calls = together = 0

def dependency(is_well):
    # It notes how many calls it has had, and which met another one.
    global calls, together
    calls += 1
    try:
        fcntl.flock(door, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        together += 1
    else:
        time.sleep(0.005)
        fcntl.flock(door, fcntl.LOCK_UN)
    if not is_well:
        raise OSError

def called(is_well):
    try:
        breaker.call(dependency, is_well)
    except CircuitOpenError as error:
        return f"{{error.scope}}: {{error.reason}}"
    except OSError:
        return "failed"
    return "ok"

def calling(is_well, turns):
    found = set()
    for _ in range(turns):
        found.add(called(is_well))
        time.sleep(0.002)
    return sorted(found), calls, together
"""

FORKING = """
import os, sys, warnings
sys.path.insert(0, sys.argv[1])
from servers.valkey_groups import until
from resilio import CircuitOpenError, circuit_breaker
from resilio.sharing import fleet

warnings.simplefilter("ignore", DeprecationWarning)
everywhere = fleet("shop", f"valkey://127.0.0.1:{sys.argv[2]}", tick=0.05, timeout=30, host=False)
breaker = circuit_breaker("payments", scope=everywhere, open_for=300, max_open_for=300)

def join(peers):
    breaker.acquire().ignore()
    until(lambda: breaker.snapshot().sharing.age is not None and breaker.snapshot().sharing.peers == peers)

join(1)
child = os.fork()
join(2)
for _ in range(6):  # the breaker of a process opens at ten
    breaker.acquire().failure(OSError())
until(lambda: breaker.state == "open")
assert breaker.try_acquire().error.scope == "fleet"
if child == 0:
    os._exit(0)
assert os.waitpid(child, 0)[1] == 0
print("open in both")
"""


@pytest.fixture
def server() -> Iterator[Valkey]:
    pytest.importorskip("valkey")
    with installed(Valkey) as running:
        yield running


def processes(
    stack: ExitStack, server: Valkey, folder: Path, hosts: int, each: int, *, tick: float = 2.0, timeout: float = 30.0
) -> list[Asked]:
    """Return processes of several hosts. What a store gave ends after five ticks: also where a machine is busy."""
    fixed = {"port": server.port, "host": each > 1, "tick": tick, "timeout": timeout, "door": str(folder / "door")}
    found = []
    for host in range(hosts):
        place = folder / f"host{host}"
        place.mkdir(mode=0o700)
        where = {"RESILIO_SHARED_DIR": str(place), "RESILIO_HOST_NAME": f"shop{host}"}
        found += stack.enter_context(started(each, BEFORE.format(**fixed), **where))
    return found


def opened(processes: list[Asked]) -> None:
    """Let all but the last see an outage, until that one rejects."""
    *callers, idle = processes
    assert [process.ask("called(True)") for process in processes] == ["ok"] * len(processes)

    def is_open() -> bool:
        for process in callers:
            process.ask("called(False)")
        return bool(idle.ask("breaker.state") == "open")

    until(is_open, "the last process adopts the fleet's state")


def calling(processes: list[Asked], *, is_well: bool) -> list[tuple[list[str], int, int]]:
    """Let all call at once for a while; return the outcomes of each, its calls so far, and those that met another."""
    for process in processes:
        process.begin(f"calling({is_well}, 100)")
    return [process.answer() for process in processes]


@pytest.mark.slow
@pytest.mark.parametrize(("hosts", "each"), [(4, 1), (2, 2)], ids=["four processes", "two hosts of two"])
def test_an_outage_is_one_for_all_processes(server: Valkey, tmp_path: Path, hosts: int, each: int) -> None:
    """E3, E4: what some have seen opens for all; then one call of all probes, and its success closes for all."""
    with ExitStack() as stack:
        workers = processes(stack, server, tmp_path, hosts, each)
        opened(workers)
        assert workers[-1].ask("called(True)").startswith("fleet: ")
        before = [found[1:] for found in calling(workers, is_well=False)]

        def probes() -> int:
            now = [found[1:] for found in calling(workers, is_well=False)]
            assert sum(together for _, together in now) == sum(together for _, together in before)
            return sum(calls for calls, _ in now) - sum(calls for calls, _ in before)

        until(lambda: probes() >= 2, "the fleet probes twice")
        until(lambda: [found[0] for found in calling(workers, is_well=True)] == [["ok"]] * 4, "all are well again")


@pytest.mark.real(2.5)
def test_a_stopped_store_leaves_each_its_own_breaker(server: Valkey, tmp_path: Path) -> None:
    """E5: the store stops while the fleet is open: its word ends, no call waits, and each opens by its own calls."""
    with ExitStack() as stack:
        workers = processes(stack, server, tmp_path, 3, 1, tick=0.05, timeout=0.2)
        opened(workers)
        server.pause()
        try:
            away = "breaker.snapshot().sharing.degraded == 'store_down'"
            until(lambda: all(worker.ask(away) for worker in workers), "the store is away")
            until(lambda: workers[-1].ask("called(True)") == "ok", "what the store gave has ended")
            until(lambda: workers[0].ask("called(False)").startswith("process: "), "it opens by its own calls")
            assert workers[-1].ask("called(True)") == "ok"
        finally:
            server.resume()
        until(lambda: not any(worker.ask(away) for worker in workers), "the store is back")


@pytest.mark.real(1.0)
def test_a_child_of_a_fork_reports_for_itself(server: Valkey) -> None:
    """The child's calls are of another asker, with a courier of its own: six failures of each open for both."""
    command = [sys.executable, "-c", FORKING, str(Path(__file__).parents[2]), str(server.port)]
    done = subprocess.run(command, capture_output=True, text=True, check=False, timeout=PATIENCE)
    assert (done.returncode, done.stderr, done.stdout) == (0, "", "open in both\n")
