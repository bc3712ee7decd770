"""
A storm over all that a host shares: eight workers are killed, stopped and started, fork, and lose their file.

The workers judge by the words of the region whether they have what they took (storm_of_host.py). The ninth process,
this one, makes the weather, watches the words meanwhile, and adds up at the end what was admitted.
"""

from __future__ import annotations

import os
import random
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

import pytest
from storm_of_host import CAPACITY, KEYS, RATE, ROWS, WORKERS, Admitted, Policies, Row, rows
from words_of_region import Breaker, Permits, Words
from workers_of_host import until

from resilio.sharing import host

pytestmark = [
    pytest.mark.skipif(sys.platform != "linux", reason="shared memory of hosts is for Linux"),
    pytest.mark.once,
]

CLOCKS = 1  # call of a limit, for the difference of two processes' clocks


class Storm:
    """Eight workers, and all regions that they have had."""

    def __init__(self, folder: Path) -> None:
        folder.mkdir()
        self.folder, self.rows = folder, rows(folder)
        self.kills = self.stops = self.looks = 0
        self.most_held = 0
        paths = [str(Path(__file__).parents[1]), *filter(None, sys.path)]
        self.nursery = subprocess.Popen(
            [sys.executable, str(Path(__file__).parents[1] / "storm_of_host.py"), str(folder)],
            stdin=subprocess.PIPE,
            text=True,
            env={**os.environ, "PYTHONPATH": os.pathsep.join(paths)},
        )
        for number in range(WORKERS):
            self.start(number)
        until(host().path.exists, "the region is made")
        self.regions = [Words(host().path)]
        self.all_work()

    def start(self, number: int) -> None:
        self.rows[number][Row.PID] = self.rows[number][Row.STEPS] = 0
        assert self.nursery.stdin is not None
        self.nursery.stdin.write(f"{number}\n")
        self.nursery.stdin.flush()

    def all_work(self) -> None:
        """Wait until all workers make calls in the latest region."""
        inode = self.regions[-1].inode
        for row in self.rows[:WORKERS]:
            until(lambda row=row: row[Row.STEPS] and row[Row.INODE] == inode, "a worker is in the latest region")

    def end(self) -> None:
        self.nursery.kill()  # and its children with it
        self.nursery.wait()
        assert self.nursery.stdin is not None
        with suppress(OSError):
            self.nursery.stdin.close()

    # ---- the weather

    def blow(self, chance: random.Random) -> None:
        """Kill a worker or stop it for a moment, wherever it is."""
        number = chance.randrange(WORKERS)
        row = self.rows[number]
        if row[Row.STEPS] == 0:
            return
        assert _lives(row[Row.PID]), "a worker has ended by itself"
        if chance.random() < 0.5:
            _kill(row)
            self.kills += 1
            self.start(number)
        else:
            os.kill(row[Row.PID], signal.SIGSTOP)
            time.sleep(chance.choice([0.0, 0.002, 0.02, 0.3]))
            os.kill(row[Row.PID], signal.SIGCONT)
            self.stops += 1

    def remove(self) -> None:
        """Remove the file: all workers find each other in another one."""
        host().path.unlink()
        until(host().path.exists, "there is another file")
        self.regions.append(Words(host().path))
        self.all_work()

    def watch(self) -> None:
        """Look at the words of the latest region: each is legal at every instant."""
        words = self.regions[-1]
        held = Permits.of(words, "bulkhead", 4 * CAPACITY).owners()
        assert len(held) <= CAPACITY
        assert {owner & 255 for owner in held} <= set(range(1, 65))
        assert Breaker.of(words, "breaker").state <= 2  # nothing but closed, open and half-open
        self.most_held = max(self.most_held, len(held))
        self.looks += 1

    # ---- what it was

    def sum(self, field: int) -> int:
        return sum(row[field] for row in self.rows)

    def admitted(self, words: Words) -> tuple[float, list[int]]:
        """Return for how many seconds a region has admitted calls, and how many each of its limits has."""
        read = [Admitted(self.folder, words.inode, number).read() for number in range(ROWS)]
        last_ns, *_ = map(max, zip(*read, strict=True))
        _, *counts = map(sum, zip(*read, strict=True))
        return (last_ns - words.epoch_ns) / 1e9, counts


def _lives(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    return True


def _kill(row: Row) -> None:
    """Kill a worker, which may only just have been started, and wait until it is gone: its parent waits for none."""
    pid = until(lambda: row[Row.PID], "the worker has begun")
    with suppress(ProcessLookupError):
        os.kill(pid, signal.SIGKILL)
    until(lambda: not _lives(pid), "the process is gone")


@pytest.fixture
def storm(resilio_shared_host: Path, tmp_path: Path) -> Iterator[Storm]:
    """Workers in a group of the test's own."""
    blowing = Storm(tmp_path / "storm")
    try:
        yield blowing
    finally:
        blowing.end()


def _blow(storm: Storm, kills: int, removals: int) -> None:
    chance = random.Random(19)
    for removal in range(removals + 1):
        if removal:
            storm.remove()
        while storm.kills < kills * (removal + 1) // (removals + 1) or storm.stops < 3:
            storm.blow(chance)
            storm.watch()
            time.sleep(0.01 * chance.random())


def _check(storm: Storm) -> None:
    """Nothing was lost, nothing given out twice, nothing admitted beyond the bound; and all of it happened."""
    assert [storm.sum(field) for field in (Row.LOST_PERMITS, Row.LOST_LEASES, Row.TOGETHER)] == [0, 0, 0]
    assert all(storm.sum(field) > 0 for field in (Row.PROBES, Row.FORKS))
    assert storm.most_held > 0
    for words in storm.regions:
        seconds, (limit, window, *users) = storm.admitted(words)
        assert 0 < limit <= RATE * (1 + seconds) + CLOCKS
        assert 0 < window <= RATE * (1 + seconds // 2) + CLOCKS
        assert all(0 < user <= RATE * (2 + seconds) + CLOCKS for user in users)  # a new key may pass twice, once
        assert len(users) == KEYS


def _check_what_is_left(storm: Storm) -> None:
    """After all workers have died, one that comes finds all permits, and a breaker that lets it probe."""
    for row in storm.rows[:WORKERS]:
        _kill(row)
    left = Policies()
    got = [until(left.bulkhead.try_acquire, "a permit is free") for _ in range(CAPACITY)]
    assert not left.bulkhead.try_acquire()
    got.append(until(left.breaker.try_acquire, "a call may go"))
    got.append(until(left.adaptive.try_acquire, "another one may"))
    until(lambda: left.adaptive.snapshot().sharing.used == 1, "the adaptive limit's permits are free")  # type: ignore[union-attr]
    for permit in got:
        permit.success()


@pytest.mark.slow
def test_a_host_survives_a_storm(storm: Storm) -> None:
    """Workers die, stop, fork and lose their file: what they hold is theirs, and no limit admits too much."""
    _blow(storm, kills=24, removals=2)
    _check(storm)
    _check_what_is_left(storm)


@pytest.mark.slow
def test_the_storm_would_see_a_permit_that_is_taken_away(storm: Storm) -> None:
    """A judge that cannot find fault would prove nothing: permits freed under the workers' hands are missed."""
    permits = Permits.of(storm.regions[-1], "bulkhead", CAPACITY)
    until(lambda: permits.free() or storm.sum(Row.LOST_PERMITS), "a worker misses its permit")


@pytest.mark.soak
def test_a_host_survives_a_long_storm(storm: Storm) -> None:
    """The same with fifteen hundred deaths and twenty removed files."""
    _blow(storm, kills=1500, removals=20)
    _check(storm)
    _check_what_is_left(storm)
