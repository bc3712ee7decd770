"""A breaker of a host among real processes, which are forked, spawned and killed."""

from __future__ import annotations

import multiprocessing
import random
import signal
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
from words_of_region import Breaker, Words
from workers_of_host import Asked, started, until

from resilio import CircuitBreaker, circuit_breaker

WORKERS = 8
BEFORE = """
from resilio import circuit_breaker
breaker = circuit_breaker("payments", scope="host", probe_lease=3600)
held = []
def call(outcome):
    permit = breaker.try_acquire()
    if permit:
        getattr(permit, outcome)()
    return bool(permit)
def hold():
    permit = breaker.try_acquire()
    held.append(permit)
    return bool(permit)
"""
STORM = """
import random, time
from resilio import circuit_breaker
from resilio.sharing import host
from words_of_region import Breaker, Words
breaker = circuit_breaker("storm", scope="host", probe_lease=3600, probes=1, open_for=0.001, max_open_for=0.002)
words = Breaker.of(Words.of(host().region), "storm")
def lease():
    # What this process holds by the host's words: a call that holds no lease is no probe.
    return words.mine(host().region.member.slot)
def begin():
    # Begin a call. If it is no probe of the host, end it: as a failure, or as a success that ends this worker's own.
    closed, permit = breaker.state == "closed", breaker.try_acquire()
    mine = lease() if permit else []
    if permit and not mine:
        permit.failure() if closed else permit.success()
    elif not permit:
        time.sleep(0.0002)
    return mine and permit
def storm(probes):
    # Fail, so that it opens, and probe so often: how many probes met another one, or lost their lease.
    together = lost = 0
    while probes:
        permit = begin()
        if permit:
            mine = lease()
            together += len(words.leases()) != 1
            time.sleep(random.random() / 1000)
            lost += lease() != mine
            permit.success() if random.random() < 0.3 else permit.failure()
            probes -= 1
    return together, lost
"""


def _open(workers: list[Asked]) -> int:
    """Let all calls fail, of all workers in turn, until one is rejected; return their number."""
    n = 0
    while workers[n % len(workers)].ask("call('failure')"):
        n += 1
    return n


@pytest.mark.real(1.0)
def test_processes_notice_an_outage_together(resilio_shared_host: Path) -> None:
    """Ten calls of eight processes show what ten calls of one show."""
    slow_machine = BEFORE.replace("probe_lease=3600", "open_for=600, max_open_for=600")
    with started(WORKERS, slow_machine) as workers:
        assert {worker.ask("call('success')") for worker in workers * 5} == {True}
        assert _open(workers) == 10
        assert {worker.ask("breaker.state") for worker in workers} == {"open"}
        assert {worker.ask("breaker.snapshot().sharing.peers") for worker in workers} == {WORKERS}


def test_a_process_that_is_killed_in_its_probe_keeps_no_other_out(resilio_shared_host: Path) -> None:
    """Its lease would last for an hour. The kernel knows at once that it is dead, and so does the host."""
    with started(3, BEFORE) as workers:
        for worker in workers:
            worker.ask("call('success')")
        _open(workers)
        until(lambda: workers[0].ask("hold()"), "the open time is over")
        assert not workers[1].ask("call('success')")
        assert workers[1].ask("breaker.snapshot().probes") == 1
        workers[0].signal(signal.SIGKILL)
        until(lambda: workers[1].ask("call('success')"), "the lease of the dead process is free")
        assert workers[2].ask("breaker.state") == "closed"


def test_a_process_that_stops_keeps_its_probe(resilio_shared_host: Path) -> None:
    """A stopped process is no dead one: its call may go on."""
    with started(2, BEFORE) as workers:
        for worker in workers:
            worker.ask("call('success')")
        _open(workers)
        until(lambda: workers[0].ask("hold()"), "the open time is over")
        workers[0].signal(signal.SIGSTOP)
        beats = workers[1].ask("breaker._link.host.region.workers()")
        until(lambda: workers[1].ask("breaker._link.host.region.workers()") != beats, "the housekeeper has looked")
        assert not workers[1].ask("call('success')")
        workers[0].signal(signal.SIGCONT)
        assert workers[0].ask("held.pop().success()") is None
        assert workers[1].ask("call('success')")


def _child(pipe: Any) -> None:
    breaker = circuit_breaker("forked", scope="host", open_for=600, max_open_for=600)
    for outcome in iter(pipe.recv, None):
        pipe.send(_end(breaker, outcome))
    pipe.close()


def _end(breaker: CircuitBreaker, outcome: str) -> bool:
    permit = breaker.try_acquire()
    if permit:
        getattr(permit, outcome)()
    return bool(permit)


@contextmanager
def _children(method: str, number: int) -> Iterator[list[Any]]:
    """Start processes of multiprocessing; yield a pipe to each."""
    context: Any = multiprocessing.get_context(method)
    pipes, processes = [], []
    for _ in range(number):
        mine, theirs = context.Pipe()
        processes.append(context.Process(target=_child, args=(theirs,)))
        processes[-1].start()
        pipes.append(mine)
    try:
        yield pipes
    finally:
        for pipe, process in zip(pipes, processes, strict=True):
            pipe.send(None)
            process.join()


@pytest.mark.parametrize("method", ["fork", "spawn"])
def test_children_of_multiprocessing_are_workers(resilio_shared_host: Path, method: str) -> None:
    """A child of a fork has the parent's breaker, and a slot of its own: both see one outage."""
    parent = circuit_breaker("forked", scope="host", open_for=600, max_open_for=600)
    assert {_end(parent, "success") for _ in range(30)} == {True}
    with _children(method, 3) as pipes:

        def call(i: int, outcome: str) -> bool:
            if i % 4 == 0:
                return _end(parent, outcome)
            pipes[i % 4 - 1].send(outcome)
            return bool(pipes[i % 4 - 1].recv())

        assert {call(i, "success") for i in range(40)} == {True}
        failed = 0
        while call(failed, "failure"):
            failed += 1
        assert failed == 10
        assert [call(i, "success") for i in range(4)] == [False] * 4
        assert parent.snapshot().sharing.peers == 4  # type: ignore[union-attr]


class Storming(Asked):
    """A process that storms until it has probed so often."""

    def __init__(self, probes: int) -> None:
        super().__init__(STORM)
        self.begin(f"storm({probes})")

    def counts(self) -> tuple[int, int]:
        """Return the probes that met another one, and those that lost their lease."""
        together, lost = self.answer()
        return together, lost


def _storm(kills: int, probes: int) -> None:
    """Open, probe and close in eight processes, of which one after the other is killed; judge by the host's words."""
    chance = random.Random(7)
    storming = [Storming(1 << 40) for _ in range(WORKERS - 1)]
    watching = Storming(probes)
    try:
        for _ in range(kills):
            time.sleep(0.05 * chance.random())
            at = chance.randrange(WORKERS - 1)
            storming[at].end()
            storming[at] = Storming(1 << 40)
        assert watching.counts() == (0, 0)
        for one in storming:
            one.end()
        storming.extend([Storming(1 << 40), last := Storming(5)])  # of one worker alone the host's state stays closed
        assert last.counts() == (0, 0)  # so the lease of a process that was killed is free
    finally:
        for one in (*storming, watching):
            one.end()


@pytest.mark.slow
def test_a_storm_never_lets_two_calls_probe(resilio_shared_host: Path) -> None:
    """
    Eight processes open, probe and close while one after the other is killed: never two probe, and never none.

    A probe looks at the host's words when it begins and before it ends: there is one lease, and it is its own. To judge
    by a file that the probe locks was wrong of a call that the breaker, closed by another, had admitted as any call.
    """
    _storm(kills=12, probes=100)


@pytest.mark.soak
def test_a_long_storm_never_lets_two_calls_probe(resilio_shared_host: Path) -> None:
    """The same with hundreds of deaths."""
    _storm(kills=400, probes=3000)


def test_the_storm_would_see_a_second_probe(resilio_shared_host: Path) -> None:
    """A judge that cannot find fault would prove nothing: a forged lease is seen, and so is the loss of one's own."""
    with started(2, STORM + "held = []\nlook = lambda: (len(words.leases()), lease() == mine)") as (worker, other):
        opens = "held.append(begin()) or bool(held[-1])"
        until(lambda: worker.ask(opens) or (other.ask("begin()") and False), "the breaker opens, and it probes")
        worker.ask("globals().update(mine=lease())")
        assert worker.ask("look()") == (1, True)
        forged = Breaker.of(Words(Path(worker.ask("str(host().path)"))), "storm")
        ((place, lease),) = forged.leases()
        forged.write(place + 1, lease ^ 3)  # of the worker in slot 1
        assert worker.ask("look()") == (2, True)
        forged.write(place, 0)
        assert worker.ask("look()") == (1, False)
