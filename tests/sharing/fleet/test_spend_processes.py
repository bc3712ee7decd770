"""Spend limits of a fleet with real processes, hosts and a real Valkey: what all spend together, and who dies."""

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
    pytest.mark.once,
    pytest.mark.untraced,
    pytest.mark.skipif(sys.platform != "linux", reason="shared memory of hosts is for Linux"),
]

LIMIT = 1000  # cents

BEFORE = """
import time, valkey
from resilio.cost import spend_limit
from resilio.sharing import fleet

everywhere = fleet("shop", valkey.Valkey(port={port}), host={host}, tick=0.05, timeout={timeout})
money = spend_limit("10 USD/month", reserve=0.01, name="money", scope=everywhere, on_store_down="{down}")

def spends(n):
    return sum(permit.success() or True for _ in range(n) if (permit := money.try_acquire()))

def all_in(seconds):
    end, found = time.monotonic() + seconds, 0
    while time.monotonic() < end:
        found += spends(5)
        time.sleep(0.005)
    return found

def now():
    sharing, spend = money.snapshot().sharing, money.snapshot().spend
    return sharing.trips, sharing.degraded, round(spend.used * 100), sharing.outstanding * 100
"""


@pytest.fixture
def server() -> Iterator[Valkey]:
    pytest.importorskip("valkey")
    with installed(Valkey) as running:
        yield running


def processes(
    stack: ExitStack, server: Valkey, folder: Path, hosts: int, each: int, *, timeout: float = 5.0, down: str = "closed"
) -> list[Asked]:
    """Return this number of processes on each of this number of hosts, once each has a lease."""
    before = BEFORE.format(port=server.port, host=each > 1, timeout=timeout, down=down)
    found: list[Any] = []
    for host in range(hosts):
        place = folder / f"host{host}"
        place.mkdir(mode=0o700)
        found += stack.enter_context(
            started(each, before, RESILIO_SHARED_DIR=str(place), RESILIO_HOST_NAME=f"shop{host}")
        )
    for worker in found:
        worker.ask("spends(1)")  # from its first call on a process is one of its host
        until(lambda worker=worker: worker.ask("now()")[3] > 0, "its host has a lease")
    return found


def spent_by(workers: list[Asked]) -> int:
    """Return what processes have spent so far, by their own accounts."""
    return sum(worker.ask("round(money.snapshot().spend.charged * 100)") for worker in workers)


@pytest.mark.real(1.5)
@pytest.mark.parametrize(("hosts", "each"), [(3, 1), (2, 2)], ids=["three processes", "two hosts of two"])
def test_processes_spend_one_amount(server: Valkey, tmp_path: Path, hosts: int, each: int) -> None:
    """Three processes of "10 USD" spent thirty; what they spend together now is ten, to the last cent."""
    with ExitStack() as stack:
        workers = processes(stack, server, tmp_path, hosts, each)

        def all_spend() -> bool:
            for worker in workers:
                worker.begin("all_in(0.3)")
            for worker in workers:
                worker.answer()
            return spent_by(workers) >= LIMIT

        until(all_spend, "all is spent")
        assert sum(worker.ask("spends(50)") for worker in workers) == 0
        assert spent_by(workers) == LIMIT
        until(lambda: workers[-1].ask("now()")[2] == LIMIT, "all know it")
        if each > 1:  # one of each host makes the trips
            assert sum(worker.ask("now()")[0] > 0 for worker in workers) == hosts


@pytest.mark.real(2.0)
def test_a_killed_process_takes_its_lease_along_and_no_more(server: Valkey, tmp_path: Path) -> None:
    """It dies among its calls. What the others spend then, and what it has spent, is the limit less what it held."""
    with ExitStack() as stack:
        (dead, *living) = processes(stack, server, tmp_path, 3, 1)
        dead.ask("all_in(0.1)")
        spent = spent_by([dead, *living])
        dead.signal(signal.SIGKILL)
        until(lambda: sum(worker.ask("all_in(0.1)") for worker in living) == 0, "no more is there")
        until(lambda: living[0].ask("now()")[2] > 0, "the store has answered")
        used = max(worker.ask("now()")[2] for worker in living)
        assert spent <= used <= LIMIT


@pytest.mark.real(1.0)
def test_a_stopped_store_stops_no_call(server: Valkey, tmp_path: Path) -> None:
    """A store that takes connections and never answers: calls spend the lease, then the share, and wait for nothing."""
    with ExitStack() as stack:
        (worker,) = processes(stack, server, tmp_path, 1, 1, timeout=0.2, down="local")
        server.pause()
        try:
            until(lambda: worker.ask("now()")[1] == "store_down", "the store is away")
            worker.ask("spends(2000)")
            assert spent_by([worker]) == LIMIT
        finally:
            server.resume()
        until(lambda: worker.ask("now()")[1] is None, "the store is back")
        until(lambda: worker.ask("(spends(1), now()[2])") == (0, LIMIT), "the store knows what was spent")
