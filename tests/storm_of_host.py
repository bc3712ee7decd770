"""
Workers of a storm over a host: `storm_of_host.py FOLDER` forks one for each line of its input, its row's number.

A worker makes calls through one policy of each kind that shares, forks, and judges by the words of the region:

- as many permits of the table have its owner word as it holds, after each call;
- a call that probes holds the only lease of its generation, until it ends.

It notes in its row what it has seen, and in a file for each region what that admitted, for the process that watches.
"""

from __future__ import annotations

import mmap
import os
import random
import signal
import struct
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from servers.processes import die_with_parent
from words_of_region import Breaker, Permits, Words

from resilio import RetryBudget, adaptive_limit, bulkhead, circuit_breaker, keyed, rate_limit
from resilio._native.shared import Region
from resilio.sharing import host

__all__ = ["CAPACITY", "KEYS", "RATE", "ROWS", "WORKERS", "Admitted", "Policies", "Row", "rows"]

WORKERS, CAPACITY, RATE, KEYS = 8, 5, 200, 3
ROWS = 2 * WORKERS  # of workers, and of the children that they fork
ROW = struct.Struct("=8q")
MOST_STEPS_OF_A_CHILD = 300


class Policies:
    """One policy of each kind, as a service has them."""

    def __init__(self) -> None:
        self.bulkhead = bulkhead(CAPACITY, name="bulkhead", scope="host")
        self.adaptive = adaptive_limit(name="adaptive", scope="host")
        self.breaker = circuit_breaker(
            "breaker", scope="host", probe_lease=3600, probes=1, open_for=0.001, max_open_for=0.002
        )
        self.budget = RetryBudget("budget", scope="host")
        self.limit = rate_limit(f"{RATE}/s", name="limit", scope="host")
        self.window = rate_limit(f"{RATE}/2s", name="window", scope="host")
        self.users = keyed(lambda: rate_limit(f"{RATE}/s"), key="user", name="users", scope="host", max_keys=100)


class Row:
    """What a worker lets the others see: its process id, region and steps, and what it has found wrong."""

    PID, INODE, STEPS, LOST_PERMITS, LOST_LEASES, TOGETHER, PROBES, FORKS = range(8)

    def __init__(self, memory: mmap.mmap, number: int) -> None:
        self._memory, self._at = memory, number * ROW.size

    def __getitem__(self, field: int) -> int:
        return int(struct.unpack_from("=q", self._memory, self._at + 8 * field)[0])

    def __setitem__(self, field: int, value: int) -> None:
        struct.pack_into("=q", self._memory, self._at + 8 * field, value)

    def add(self, field: int, more: int = 1) -> None:
        """Add to a field."""
        self[field] += more


def rows(folder: Path) -> list[Row]:
    """Return the rows of all workers, and of their children."""
    return [Row(_mapped(folder / "rows", ROWS * ROW.size), i) for i in range(ROWS)]


def _mapped(path: Path, size: int) -> mmap.mmap:
    file = os.open(path, os.O_RDWR | os.O_CREAT)
    os.ftruncate(file, size)
    memory = mmap.mmap(file, size)
    os.close(file)
    return memory


class Admitted:
    """What one region has admitted to one worker, and when the last time was: a count for each limit."""

    COUNTS = 2 + KEYS

    def __init__(self, folder: Path, inode: int, number: int) -> None:
        self._memory = _mapped(folder / f"admitted-{inode}", ROWS * 8 * (1 + self.COUNTS))
        self._at = number * 8 * (1 + self.COUNTS)

    def note(self, which: int) -> None:
        """Note a call. The time comes first: a worker may be killed after it."""
        struct.pack_into("=q", self._memory, self._at, time.monotonic_ns())
        at = self._at + 8 * (1 + which)
        struct.pack_into("=q", self._memory, at, struct.unpack_from("=q", self._memory, at)[0] + 1)

    def read(self) -> tuple[int, ...]:
        """Return the time, and the counts."""
        return struct.unpack_from(f"={1 + self.COUNTS}q", self._memory, self._at)


class Worker:
    """A process of the service."""

    def __init__(self, policies: Policies, folder: Path, number: int, most: int | None = None) -> None:
        self.policies, self.folder, self.number, self.most = policies, folder, number, most
        self.row = rows(folder)[number]
        self.row[Row.PID] = os.getpid()
        self.random = random.Random(time.monotonic_ns() ^ os.getpid())
        self.held: list[Any] = []  # permits
        self.known = True  # that all of them are of the region and the slot of now
        self.child = 0
        self.region: Region | None = None
        self.owner = 0

    def run(self) -> None:
        """Make calls until it is killed; a child: for so many steps."""
        kinds = [self.take, self.give, self.draw, self.draw_key, self.call, self.adapt, self.retry, self.fork]
        for number in range(sys.maxsize if self.most is None else self.most):
            self.look()
            self.random.choice(kinds)()
            if self.is_settled():
                self.judge()
                self.row.add(Row.STEPS)
            if number % 8 == 0:
                time.sleep(0.0005)
        while self.held:
            self.give()

    def look(self) -> None:
        """Go over to the region and the slot of now; what is held was taken before."""
        if self.is_settled():
            return
        with host().lock:  # until all policies have gone over: a limit that had not yet was counted for the new region
            region = host().region
        if region is None:
            return
        self.known = not self.held
        if region is not self.region and (words := Words.of(region)) is not None:
            self.region = region
            self.permits = Permits.of(words, "bulkhead", 4 * CAPACITY)
            self.leases = Breaker.of(words, "breaker")
            self.admitted = Admitted(self.folder, region.inode, self.number)
            self.row[Row.INODE] = region.inode
        self.owner = region.member.owner

    def is_settled(self) -> bool:
        """Return True if the region and the slot are still those that it has looked at."""
        region = host().region
        return region is not None and region is self.region and region.member.owner == self.owner != 0

    def judge(self) -> None:
        """Find as many permits with this worker's owner word as it holds."""
        self.known = self.known or not self.held
        mine = self.permits.owners().count(self.owner)
        if self.known and self.is_settled():
            self.row.add(Row.LOST_PERMITS, mine != len(self.held))

    # ---- calls

    def take(self) -> None:
        permit = self.policies.bulkhead.try_acquire()
        if permit:
            self.held.append(permit)

    def give(self) -> None:
        if self.held:
            self.held.pop(self.random.randrange(len(self.held))).success()

    def draw(self) -> None:
        for which, limit in enumerate((self.policies.limit, self.policies.window)):
            self.note(which, limit)

    def draw_key(self) -> None:
        which = self.random.randrange(KEYS)
        self.note(2 + which, self.policies.users[f"user {which}"])

    def note(self, which: int, limit: Any) -> None:
        if self.is_settled() and limit.try_acquire() and self.is_settled():
            self.admitted.note(which)

    def call(self) -> None:
        closed, permit = self.policies.breaker.state == "closed", self.policies.breaker.try_acquire()
        if permit and self.is_settled() and (mine := self.leases.mine((self.owner & 255) - 1)):
            self.probe(permit, mine)
        elif permit:
            permit.failure() if closed else permit.success()

    def probe(self, permit: Any, mine: list[tuple[int, int]]) -> None:
        together = len(self.leases.leases()) != 1
        time.sleep(self.random.random() / 1000)
        lost = self.leases.mine((self.owner & 255) - 1) != mine
        if self.is_settled():
            self.row.add(Row.PROBES)
            self.row.add(Row.TOGETHER, together)
            self.row.add(Row.LOST_LEASES, lost)
        permit.success() if self.random.random() < 0.3 else permit.failure()

    def adapt(self) -> None:
        if permit := self.policies.adaptive.try_acquire():
            permit.success()

    def retry(self) -> None:
        self.policies.budget.deposit() if self.random.random() < 0.9 else self.policies.budget.withdraw()

    def fork(self) -> None:
        """Fork a child that works beside this worker, with a slot of its own, and ends by itself; one at a time."""
        if self.most is not None or self.random.random() > 0.05:
            return
        if self.child and os.waitpid(self.child, os.WNOHANG)[0] == 0:
            return
        self.row.add(Row.FORKS)
        self.child = os.fork()
        if self.child == 0:
            die_with_parent()
            for permit in self.held:  # the parent's: the child gives none of them back
                permit.success()
            steps = self.random.randrange(MOST_STEPS_OF_A_CHILD)
            _work(self.policies, self.folder, WORKERS + self.number, steps)


def _work(policies: Policies, folder: Path, number: int, most: int | None = None) -> None:
    try:
        Worker(policies, folder, number, most).run()
    except BaseException:
        sys.excepthook(*sys.exc_info())
        os._exit(1)
    os._exit(0)


def _asked() -> Iterator[int]:
    for line in sys.stdin:
        yield int(line)


def main(folder: Path) -> None:
    """Fork a worker for each number that is read, and wait for none of them."""
    policies = Policies()
    signal.signal(signal.SIGCHLD, signal.SIG_IGN)
    for number in _asked():
        if os.fork() == 0:
            signal.signal(signal.SIGCHLD, signal.SIG_DFL)
            die_with_parent()
            os.nice(5)
            _work(policies, folder, number)


if __name__ == "__main__":
    main(Path(sys.argv[1]))
