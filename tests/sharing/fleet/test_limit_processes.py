"""Limits, budgets and keys of a fleet in real processes, with a real Valkey: hosts are directories for their memory."""

from __future__ import annotations

import signal
import sys
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import pytest
from servers.processes import installed
from servers.valkey import Valkey
from workers_of_host import Asked, started, until

pytestmark = [
    pytest.mark.untraced,  # where lines are traced, a courier got no answer for two minutes
    pytest.mark.skipif(sys.platform != "linux", reason="shared memory of hosts is for Linux"),
]

BURST = 240

BEFORE = """
import time, valkey
from resilio import rate_limit
from resilio.sharing import fleet

everywhere = fleet("shop", valkey.Valkey(port={port}), host={host}, tick={tick}, timeout={timeout}, peers=4)
limit = rate_limit("{rate}", burst={burst}, name="orders", scope=everywhere, {options})

def tries(n):
    return sum(bool(limit.try_acquire()) for _ in range(n))

def all_in(seconds):
    end, found = time.monotonic() + seconds, 0
    while time.monotonic() < end:
        found += tries(20)
        time.sleep(0.01)
    return found

def sharing():
    now = limit.snapshot().sharing
    return now.regime, now.trips, now.peers, now.degraded
"""


@pytest.fixture
def server() -> Iterator[Valkey]:
    pytest.importorskip("valkey")
    with installed(Valkey) as running:
        yield running


def processes(
    stack: ExitStack,
    server: Valkey,
    folder: Path,
    hosts: int,
    each: int,
    *,
    rate: str = "36/h",
    timeout: float = 5.0,
    tick: float = 0.05,
    **options: Any,
) -> list[Asked]:
    """Return this number of processes on each of this number of hosts."""
    given = ", ".join(f"{name}={value!r}" for name, value in options.items())
    fixed = {"port": server.port, "host": each > 1, "rate": rate, "timeout": timeout, "tick": tick, "burst": BURST}
    before = BEFORE.format(**fixed, options=given)
    found = []
    for host in range(hosts):
        place = folder / f"host{host}"
        place.mkdir(mode=0o700)
        found += stack.enter_context(
            started(each, before, RESILIO_SHARED_DIR=str(place), RESILIO_HOST_NAME=f"shop{host}")
        )
    return found


@pytest.mark.real(2.0)
@pytest.mark.parametrize(("hosts", "each"), [(3, 1), (2, 2)], ids=["three processes", "two hosts of two"])
def test_processes_admit_one_burst(server: Valkey, tmp_path: Path, hosts: int, each: int) -> None:
    """Four processes with a burst of 240 admitted 960 calls; what they admit together now is 240, whoever asks."""
    with ExitStack() as stack:
        # A lease lasts five ticks: one that ends because a machine is busy is taken for spent.
        workers = processes(stack, server, tmp_path, hosts, each, rate="1/h", tick=2.0)
        admitted = 0

        def all_admitted() -> bool:
            nonlocal admitted
            for worker in workers:
                worker.begin("all_in(0.2)")
            admitted += sum(worker.answer() for worker in workers)
            return admitted >= BURST - 2

        until(all_admitted, "the burst is admitted")
        for _ in range(5):
            all_admitted()
        assert admitted <= BURST * 1.25 + len(workers)
        assert {worker.ask("sharing()")[0] for worker in workers} == {"leased"}
        if each > 1:  # one of each host makes the trips
            assert sum(worker.ask("sharing()")[1] > 0 for worker in workers) == hosts


@pytest.mark.real(1.5)
def test_a_killed_courier_is_followed_by_another(server: Valkey, tmp_path: Path) -> None:
    """The process that made the trips for its host dies; another one of the host goes on, as the same asker."""
    with ExitStack() as stack:
        workers = processes(stack, server, tmp_path, 1, 2, rate="1000/s")
        for worker in workers:
            worker.ask("all_in(0.3)")
        courier = max(workers, key=lambda worker: worker.ask("sharing()")[1])
        (other,) = [worker for worker in workers if worker is not courier]
        assert other.ask("sharing()")[1] == 0
        courier.signal(signal.SIGKILL)
        until(lambda: other.ask("(tries(1), sharing()[1])")[1] > 3, "the other process makes the trips")
        until(lambda: other.ask("all_in(0.1)") > 20, "its calls are admitted")


@pytest.mark.real(1.5)
def test_a_stopped_store_stops_no_call(server: Valkey, tmp_path: Path) -> None:
    """A store that takes connections and never answers: calls go on with the local share, and come back with it."""
    with ExitStack() as stack:
        (worker,) = processes(stack, server, tmp_path, 1, 1, rate="2000/s", timeout=0.2)
        until(lambda: worker.ask("all_in(0.1) and sharing()[1]") > 2, "the store answers")
        server.pause()
        try:
            until(lambda: worker.ask("(all_in(0.1), sharing()[3])")[1] == "store_down", "the store is away")
            until(lambda: worker.ask("all_in(0.1)") > 5, "calls are admitted without a store")
        finally:
            server.resume()
        until(lambda: worker.ask("(all_in(0.1), sharing()[3])")[1] is None, "the store is back")


BUDGET = """
import time, valkey
from resilio import RetryBudget
from resilio.sharing import fleet

everywhere = fleet("shop", valkey.Valkey(port={port}), host={host}, tick=0.05, timeout=5.0)
budget = RetryBudget("calls", ratio=0.1, initial=0, reserve=1e-4, scope=everywhere)

def retries(n):
    found = 0
    for _ in range(n):
        budget.deposit()
        [budget._attempt_failed() for _ in range(9)]
        found += budget.withdraw()
    return found

def sharing():
    now = budget.snapshot().sharing
    return now.peers, now.trips, now.degraded, now.scope
"""


@pytest.mark.slow
def test_processes_have_one_reserve_and_each_host_its_savings(server: Valkey, tmp_path: Path) -> None:
    """Two hosts of two processes had four reserves. They have one, and one token on credit for each host."""
    with ExitStack() as stack:
        workers = []
        for number in range(2):
            place = tmp_path / f"host{number}"
            place.mkdir(mode=0o700)
            before = BUDGET.format(port=server.port, host=True)
            named = {"RESILIO_SHARED_DIR": str(place), "RESILIO_HOST_NAME": f"shop{number}"}
            workers.append(stack.enter_context(started(2, before, **named)))
        for pair in workers:  # ten successes of any process of a host pay for one retry
            assert [pair[i % 2].ask("retries(1)") for i in range(2)] == [1, 0]  # the token on credit
            assert sum(pair[i % 2].ask("retries(1)") for i in range(12)) == 1
        until(lambda: workers[0][0].ask("sharing()")[0] == 2, "the store has counted both hosts")
        assert sum(worker.ask("retries(5)") for pair in workers for worker in pair) <= 4  # what has been earned
        for pair in workers:
            assert sum(worker.ask("sharing()")[1] > 0 for worker in pair) == 1
            assert {worker.ask("sharing()")[2:] for worker in pair} == {(None, "fleet:shop")}


KEYED = """
import time, valkey
from resilio import circuit_breaker, keyed
from resilio.errors import CircuitOpenError
from resilio.sharing import fleet

everywhere = fleet("shop", valkey.Valkey(port={port}), host={host}, tick=0.05, timeout=5.0)
hosts = keyed(lambda: circuit_breaker(open_for=30), key="host", name="hosts", scope=everywhere)

def dependency(fails):
    if fails:
        raise OSError

def call(host, fails):
    try:
        hosts[host].call(dependency, fails)
    except CircuitOpenError as error:
        return f"{{error.scope}}: {{error.reason}}"
    except OSError:
        return "failed"
    return "ok"

def trips():
    return hosts.snapshot().sharing.trips
"""


@pytest.mark.real(1.0)
def test_processes_find_a_host_to_be_down_together(server: Valkey, tmp_path: Path) -> None:
    """A breaker for each host, in four processes: what all have seen opens one for all. The other host goes on."""
    with ExitStack() as stack:
        workers = stack.enter_context(
            started(4, KEYED.format(port=server.port, host=False), RESILIO_SHARED_DIR=str(tmp_path))
        )
        for worker in workers:
            worker.ask("call('up', False)")
        until(lambda: all(worker.ask("trips()") > 0 for worker in workers), "all have exchanged")
        until(lambda: {worker.ask("call('down', True)") for worker in workers} == {"fleet: open"}, "it is open for all")
        assert {worker.ask("call('up', False)") for worker in workers} == {"ok"}
