"""Bulkheads of a fleet in several processes and hosts, with a real Valkey: hosts are directories for their memory."""

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

CAPACITY = 40

BEFORE = """
import threading, time, valkey
from resilio import bulkhead
from resilio.sharing import fleet

everywhere = fleet("shop", valkey.Valkey(port={port}), host={host}, tick=0.05, timeout={timeout}, peers=4)
model = bulkhead({capacity}, name="model", scope=everywhere, {options})
calls, waiting = [], []

def begin(n):
    found = [permit for permit in (model.try_acquire() for _ in range(n)) if permit]
    calls.extend(found)
    return len(calls)

def end(n):
    for permit in calls[:n]:
        permit.success()
    del calls[:n]
    return len(calls)

def work(n):
    seen = []
    def one():
        with model:
            seen.append(time.monotonic())
            time.sleep(0.01)
    threads = [threading.Thread(target=one) for _ in range(n)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    return len(seen)

def sharing():
    now = model.snapshot().sharing
    return now.regime, now.trips, now.peers, now.degraded
"""


@pytest.fixture
def server() -> Iterator[Valkey]:
    pytest.importorskip("valkey")
    with installed(Valkey) as running:
        yield running


def processes(
    stack: ExitStack, server: Valkey, folder: Path, hosts: int, each: int, *, timeout: float = 5.0, **options: Any
) -> list[Asked]:
    """Return this number of processes on each of this number of hosts."""
    capacity = options.pop("capacity", CAPACITY)
    given = ", ".join(f"{name}={value!r}" for name, value in options.items())
    before = BEFORE.format(port=server.port, host=each > 1, capacity=capacity, timeout=timeout, options=given)
    found = []
    for host in range(hosts):
        place = folder / f"host{host}"
        place.mkdir(mode=0o700)
        found += stack.enter_context(
            started(each, before, RESILIO_SHARED_DIR=str(place), RESILIO_HOST_NAME=f"shop{host}")
        )
    return found


def in_flight(workers: list[Asked], n: int) -> int:
    """Let each begin up to this number of calls, and return how many are in flight."""
    for worker in workers:
        worker.begin(f"begin({n})")
    return sum(worker.answer() for worker in workers)


@pytest.mark.real(1.0)
@pytest.mark.parametrize(("hosts", "each"), [(3, 1), (2, 2)], ids=["three processes", "two hosts of two"])
def test_processes_have_the_capacity_together(server: Valkey, tmp_path: Path, hosts: int, each: int) -> None:
    """Four processes with a bulkhead of 40 had 160 calls in flight. Now they have 40, and one a host at the start."""
    with ExitStack() as stack:
        workers = processes(stack, server, tmp_path, hosts, each)
        seen = [until(lambda: (n := in_flight(workers, 8)) >= CAPACITY and n, "all slots are in use")]
        seen += [in_flight(workers, 8) for _ in range(20)]
        assert max(seen) <= CAPACITY + hosts
        if each > 1:  # one of each host makes the trips
            assert sum(worker.ask("sharing()")[1] > 0 for worker in workers) == hosts
        for _ in range(30):  # slots move between hosts, and there is never one too many
            for worker in workers:
                worker.ask("end(2)")
            seen.append(in_flight(workers, 8))
        assert max(seen[-20:]) <= CAPACITY + hosts


@pytest.mark.real(1.0)
def test_calls_that_wait_are_served_by_slots_of_other_hosts(server: Valkey, tmp_path: Path) -> None:
    """Threads that wait are woken in a process that makes the trips, and in another one of its host."""
    with ExitStack() as stack:
        first, second, *others = processes(stack, server, tmp_path, 2, 2, max_queued=100, max_wait=60.0)
        until(lambda: in_flight(others, 30) >= CAPACITY, "the other host has all slots")
        first.begin("work(10)")
        second.begin("work(10)")
        for worker in others:
            worker.ask("end(30)")
        assert first.answer() == second.answer() == 10


@pytest.mark.real(1.0)
def test_a_slot_is_asked_for_where_there_are_few(server: Valkey, tmp_path: Path) -> None:
    """Two slots among three processes: calls that wait get them in turn."""
    with ExitStack() as stack:
        workers = processes(stack, server, tmp_path, 3, 1, capacity=2, max_queued=100, max_wait=60.0)
        for worker in workers:
            worker.begin("work(6)")
        assert [worker.answer() for worker in workers] == [6, 6, 6]
        assert {worker.ask("sharing()")[0] for worker in workers} == {"asked"}


@pytest.mark.real(1.0)
def test_a_killed_process_leaves_its_slots_to_its_host(server: Valkey, tmp_path: Path) -> None:
    """The process that makes the trips dies with calls in flight: the other one of its host has its slots, and asks."""
    with ExitStack() as stack:
        workers = processes(stack, server, tmp_path, 1, 2)
        until(lambda: in_flight(workers, 10) >= CAPACITY, "all slots are in use")
        dies = max(workers, key=lambda worker: worker.ask("sharing()")[1])
        (other,) = [worker for worker in workers if worker is not dies]
        assert other.ask("len(calls)") < CAPACITY
        dies.signal(signal.SIGKILL)
        until(lambda: other.ask("begin(10)") >= CAPACITY, "the other process has them all")
        assert other.ask("begin(10)") <= CAPACITY + 1
        until(lambda: other.ask("sharing()")[1] > 0, "it makes the trips")


@pytest.mark.real(7.5)
def test_a_stopped_store_stops_no_call(server: Valkey, tmp_path: Path) -> None:
    """A store that takes connections and never answers: calls go on, then with the local share, and come back."""
    with ExitStack() as stack:
        (worker,) = processes(stack, server, tmp_path, 1, 1, timeout=0.2, on_store_down="local")
        until(lambda: in_flight([worker], 10) >= CAPACITY, "all slots are in use")
        server.pause()
        try:
            worker.ask("end(40)")
            assert worker.ask("begin(40)") == CAPACITY
            worker.ask("end(40)")
            until(lambda: worker.ask("sharing()")[3] == "store_down", "the store is away")
            until(lambda: worker.ask("(end(40), begin(1))")[1] == 1, "calls are admitted without a store")
        finally:
            server.resume()
        until(lambda: worker.ask("sharing()")[3] is None, "the store is back")
        until(lambda: worker.ask("begin(10)") >= CAPACITY, "all slots are in use again")
