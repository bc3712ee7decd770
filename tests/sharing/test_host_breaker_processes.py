"""A breaker of a host among real processes, which are forked, spawned and killed."""

from __future__ import annotations

import ast
import multiprocessing
import random
import signal
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
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
import fcntl, os, random, time
from resilio import circuit_breaker
breaker = circuit_breaker("storm", scope="host", probe_lease=3600, open_for=0.001, max_open_for=0.002)
witness = os.open(os.environ["WITNESS"], os.O_RDWR | os.O_CREAT)
def storm(seconds):
    # Fail, so that it opens; as the one that probes hold a lock, which the kernel frees if we are killed.
    end, probes, together = time.monotonic() + seconds, 0, 0
    while time.monotonic() < end:
        probing = breaker.snapshot().state in ("open", "half_open")
        permit = breaker.try_acquire()
        if not permit:
            time.sleep(0.0002)
            continue
        if not probing or breaker.snapshot().state != "half_open":
            permit.failure()
            continue
        probes += 1
        try:
            fcntl.flock(witness, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError:
            together += 1
        else:
            time.sleep(random.random() / 1000)
            fcntl.flock(witness, fcntl.LOCK_UN)
        permit.success() if random.random() < 0.3 else permit.failure()
    return probes, together
"""


def _open(workers: list[Asked]) -> int:
    """Let all calls fail, of all workers in turn, until one is rejected; return their number."""
    n = 0
    while workers[n % len(workers)].ask("call('failure')"):
        n += 1
    return n


def test_processes_notice_an_outage_together(resilio_shared_host: Path) -> None:
    """Ten calls of eight processes show what ten calls of one show."""
    with started(WORKERS, BEFORE) as workers:
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
    breaker = circuit_breaker("forked", scope="host")
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
    parent = circuit_breaker("forked", scope="host")
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
    """A process that storms for so many seconds."""

    def __init__(self, witness: Path, seconds: float) -> None:
        super().__init__(STORM, WITNESS=str(witness))
        assert self.process.stdin is not None
        self.process.stdin.write(f"storm({seconds})\n")
        self.process.stdin.flush()

    def counts(self) -> tuple[int, int]:
        """Return the probes that it made, and those during which another one probed."""
        probes, together = ast.literal_eval(self._line("="))
        return probes, together


@pytest.mark.soak  # a probe that a busy machine holds up loses its lease, and the next one may go
def test_a_storm_never_lets_two_calls_probe(resilio_shared_host: Path, tmp_path: Path) -> None:
    """Eight processes open, probe and close while one after the other is killed: never two probe, and never none."""
    chance, witness = random.Random(7), tmp_path / "witness"
    storming = [Storming(witness, 3600) for _ in range(WORKERS - 1)]
    watching = Storming(witness, 8)
    try:
        for _ in range(24):
            time.sleep(0.05 * chance.random())
            at = chance.randrange(WORKERS - 1)
            storming[at].end()
            storming[at] = Storming(witness, 3600)
        probes, together = watching.counts()
        for one in storming:
            one.end()
        last = Storming(witness, 1)
        storming.append(last)
        after, never = last.counts()
    finally:
        for one in (*storming, watching):
            one.end()
    assert (together, never) == (0, 0)
    assert probes > 0
    assert after > 0, "the lease of a process that was killed is free"
