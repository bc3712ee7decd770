"""Circuit breakers of a fleet where calls run: in event loops, and in threads."""

from __future__ import annotations

import random
import sys
import threading
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import anyio
import anyio.lowlevel
import pytest
from breakers_of_fleet import Process, Processes

from resilio._native import clock
from resilio.errors import CircuitOpenError
from resilio.sharing import Answer, Ask, MemoryEngine, StoreProblem
from resilio.sharing._fleet.ask_breaker import BreakerAsk
from resilio.testing import VirtualTime, virtual_time

BACKENDS = ["asyncio", "trio"]


@pytest.fixture
def vt() -> Iterator[VirtualTime]:
    with virtual_time() as vt:
        yield vt


class Dependency:
    """What all processes call: each call takes a while, and is counted."""

    def __init__(self) -> None:
        self.is_well = True
        self.calls = self.inside = self.most_inside = 0

    async def call(self) -> None:
        self.calls += 1
        self.inside += 1
        self.most_inside = max(self.most_inside, self.inside)
        try:
            await anyio.sleep(0.02)
        finally:
            self.inside -= 1
        if not self.is_well:
            raise OSError


async def callers(fleet: Processes, each: int, seconds: float, dependency: Dependency, seen: list[str]) -> None:
    """Let this number of tasks of each process call again and again, while the couriers exchange."""

    async def caller(process: Process, chance: random.Random) -> None:
        while fleet.vt.now < end:
            try:
                await process.breaker.acall(dependency.call)
                seen.append("ok")
            except OSError:
                seen.append("failed")
            except CircuitOpenError as error:
                seen.append(f"{error.scope}: {error.reason}")
            await anyio.sleep(chance.uniform(0.05, 0.15))

    async def courier() -> None:
        while fleet.vt.now < end:
            fleet.step()
            await anyio.sleep(0.01)

    end = fleet.vt.now + seconds
    async with anyio.create_task_group() as group:
        group.start_soon(courier)
        for i, process in enumerate(fleet.all):
            for n in range(each):
                group.start_soon(caller, process, random.Random(100 * i + n))


@pytest.mark.real(1.0)
@pytest.mark.parametrize("backend", BACKENDS)
def test_tasks_of_all_processes_find_an_outage_and_its_end(vt: VirtualTime, backend: str) -> None:
    """Ten processes with four tasks each: few calls go into the outage, one at a time probes, and all come back."""
    processes, dependency = Processes(vt, 10, max_open_for=1), Dependency()

    def run(seconds: float) -> list[str]:
        seen: list[str] = []
        vt.run(callers, processes, 4, seconds, dependency, seen, backend=backend)
        return seen

    assert set(run(2)) == {"ok"}
    dependency.is_well, dependency.calls = False, 0
    assert {"failed", "fleet: open"} <= set(run(2))
    assert dependency.calls <= 240  # 800 without a breaker: two ticks, and a probe now and then
    dependency.calls = dependency.most_inside = 0
    assert "failed" in run(20)
    assert dependency.most_inside == 1
    assert dependency.calls <= 40
    dependency.is_well = True
    run(3)
    assert set(run(1)) == {"ok"}
    assert set(processes.states) == {"closed"}


@pytest.mark.parametrize("backend", BACKENDS)
def test_a_probe_that_is_cancelled_leaves_its_lease_to_another_process(vt: VirtualTime, backend: str) -> None:
    """A caller gives up while its call probes for all: there is no result, and the others must not wait for one."""
    processes = Processes(vt, 3, open_for=1, max_open_for=1, probe_lease=60).opened()
    begun: list[Process] = []

    async def hang(process: Process) -> None:
        begun.append(process)
        await anyio.sleep_forever()

    async def try_to_probe(process: Process) -> None:
        try:
            await process.breaker.acall(hang, process)
        except CircuitOpenError:
            await anyio.lowlevel.checkpoint()

    async def main() -> None:
        async with anyio.create_task_group() as group:
            while not begun:
                for process in processes.all:
                    group.start_soon(try_to_probe, process)
                await anyio.sleep(0.05)
                processes.step()
            group.cancel_scope.cancel()

    vt.run(main, backend=backend)
    assert len(begun) == 1
    others = [process for process in processes.all if process is not begun[0]]
    outcomes: set[str] = set()
    for _ in range(40):
        outcomes |= {process.call() for process in others}
        processes.pass_time(0.05)
    assert "ok" in outcomes
    assert set(processes.states) == {"closed"}


# ---- threads -----------------------------------------------------------------------------------------------------


class Counting(MemoryEngine):
    """A store that counts what is reported to it."""

    ok = failed = 0

    def exchange(self, asks: Sequence[Ask], timeout: float) -> Sequence[Answer | StoreProblem]:
        for ask in asks:
            assert isinstance(ask, BreakerAsk)
            self.ok += ask.ok
            self.failed += ask.failed
        return super().exchange(asks, timeout)


@pytest.fixture
def hasty_threads() -> Iterator[None]:
    """Let threads take turns as often as they can."""
    before = sys.getswitchinterval()
    sys.setswitchinterval(5e-6)
    yield
    sys.setswitchinterval(before)


def race(n: int, work: Callable[[int], Any]) -> list[Any]:
    """Return what this work returns in threads that begin at once."""
    start = threading.Barrier(n)

    def begin(number: int) -> Any:
        start.wait()
        return work(number)

    with ThreadPoolExecutor(n) as threads:
        return list(threads.map(begin, range(n)))


@pytest.mark.usefixtures("hasty_threads")
def test_each_call_of_each_thread_is_reported_once(vt: VirtualTime) -> None:
    """Eight threads call while their courier reports: what the store has counted is what they have called."""
    store = Counting()
    process = Processes(vt, 1, store=store, failure_rate=None, consecutive=None, slow_call=10).all[0]
    tie, now_ns = process.breaker._link.tie, clock.now_ns()
    counted = [Counter[bool]() for _ in range(8)]
    is_over = threading.Event()

    def trip() -> None:
        asks = tie.ask(now_ns)
        tie.take(asks, store.exchange(asks, 1), now_ns, now_ns)

    def report() -> None:
        while min(one.total() for one in counted) < 100:
            trip()
        is_over.set()

    def call(number: int) -> None:
        chance = random.Random(number)
        for _ in range(20_000):  # fewer in all than a tally holds between two reports: 2**18
            if is_over.is_set():
                break
            permit, fails = process.breaker.acquire(), chance.random() < 0.3
            if fails:
                permit.failure(OSError())
            else:
                permit.success()
            counted[number][fails] += 1

    race(9, lambda number: call(number) if number < 8 else report())
    trip()
    expected = sum(counted, Counter[bool]())
    assert (store.failed, store.ok) == (expected[True], expected[False])


@pytest.mark.real(2.5)
@pytest.mark.usefixtures("hasty_threads")
def test_one_thread_of_all_processes_probes(vt: VirtualTime) -> None:
    """Four threads of each of four processes call at once while the fleet is open: one lease is one call."""
    processes = Processes(vt, 4, open_for=1, max_open_for=1, probe_lease=3600).opened()
    probed: list[int] = []
    while len(probed) < 12:
        processes.pass_time(0.05)
        permits = race(16, lambda number: processes.all[number % 4].breaker.try_acquire())
        probes = [number for number, permit in enumerate(permits) if permit]
        assert len(probes) <= 1
        for number in probes:
            permits[number].failure(OSError())
        probed += probes
    assert len(set(probed)) > 1, "it has not raced"
