"""A storm: processes that draw on shared limits are killed at random instructions, and all calls are counted."""

from __future__ import annotations

import mmap
import os
import random
import signal
import struct
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

import pytest

pytestmark = [
    pytest.mark.skipif(sys.platform != "linux", reason="shared memory of hosts is for Linux"),
    pytest.mark.once,
]

WORKERS = 4
LIMITS = {"steady": "2000/s", "window": "300/2s", "fast": "50000/s"}

WORKER = """
import mmap, struct, sys
from servers.processes import die_with_parent
from resilio import rate_limit
from resilio.sharing import host
path, directory, parent, number, which, text = sys.argv[1:]
die_with_parent(int(parent))  # a run that was broken off left four of them spinning
file = open(path, "r+b")
counts = mmap.mmap(file.fileno(), 0)
limit = rate_limit(text, name=which, scope=host("storm", directory=directory))
at, mine = 16 * int(number), 0
while True:
    mine += 1
    if limit.try_acquire():
        struct.pack_into("=Q", counts, at, struct.unpack_from("=Q", counts, at)[0] + 1)
    struct.pack_into("=Q", counts, at + 8, mine)
"""


@pytest.fixture
def place() -> Iterator[Path]:
    """A folder in memory if the machine has such a place."""
    with tempfile.TemporaryDirectory(dir="/dev/shm" if os.access("/dev/shm", os.W_OK) else None) as folder:
        yield Path(folder)


class Storm:
    """Workers that are killed and started again, each with a count of the calls that were admitted to it."""

    def __init__(self, place: Path, which: str) -> None:
        self.file = place / "counts"
        self.file.write_bytes(bytes(mmap.PAGESIZE))
        self.command = [sys.executable, "-c", WORKER, str(self.file), str(place / "region"), str(os.getpid())]
        self.env = {**os.environ, "PYTHONPATH": os.pathsep.join(filter(None, sys.path))}
        self.which, self.kills, self.lives = which, 0, 0
        self.workers: list[subprocess.Popen[bytes] | None] = [None] * WORKERS
        with self.file.open("r+b") as opened:
            self.counts = mmap.mmap(opened.fileno(), 0)

    def start(self, i: int) -> None:
        self.lives += 1
        self.workers[i] = subprocess.Popen([*self.command, str(i), self.which, LIMITS[self.which]], env=self.env)

    def kill(self, i: int) -> None:
        worker = self.workers[i]
        if worker is not None:
            worker.send_signal(signal.SIGCONT)
            worker.kill()
            worker.wait()
            self.kills += 1
        self.workers[i] = None

    def stop_for_a_moment(self, i: int) -> None:
        worker = self.workers[i]
        if worker is not None:
            with suppress(ProcessLookupError):
                worker.send_signal(signal.SIGSTOP)
                time.sleep(0.02)
                worker.send_signal(signal.SIGCONT)

    def admitted(self) -> int:
        return sum(struct.unpack_from("=Q", self.counts, 16 * i)[0] for i in range(WORKERS))

    def is_running(self, i: int) -> bool:
        return bool(struct.unpack_from("=Q", self.counts, 16 * i + 8)[0])


def _blow(storm: Storm, seconds: float, kills: int) -> tuple[int, float]:
    """Kill, stop and start workers for these seconds, or longer for these kills; return calls admitted and seconds."""
    draw = random.Random(1)
    began = time.monotonic()
    for i in range(WORKERS):
        storm.start(i)
    while time.monotonic() - began < seconds or storm.kills < kills:
        i = draw.randrange(WORKERS)
        worker = storm.workers[i]
        assert worker is not None
        assert worker.poll() is None, "a worker has ended by itself"
        if storm.is_running(i) and draw.random() < 0.5:
            storm.kill(i)
            struct.pack_into("=Q", storm.counts, 16 * i + 8, 0)
            storm.start(i)
        elif draw.random() < 0.2:
            storm.stop_for_a_moment(i)
        time.sleep(draw.random() * 0.01)
    for i in range(WORKERS):
        storm.kill(i)
    return storm.admitted(), time.monotonic() - began


def _check(place: Path, which: str, seconds: float, kills: int) -> None:
    storm = Storm(place, which)
    admitted, took = _blow(storm, seconds, kills)
    text = LIMITS[which]
    amount, period = int(text.split("/")[0]), 2.0 if text.endswith("2s") else 1.0
    burst = amount if which == "window" else amount / period
    periods = int(took / period) + 1
    assert storm.kills >= kills
    assert admitted <= (amount * periods if which == "window" else burst + amount / period * took)
    assert admitted >= burst
    storm.counts.close()


@pytest.mark.slow
@pytest.mark.parametrize("which", LIMITS)
def test_nothing_is_admitted_twice_however_workers_die(place: Path, which: str) -> None:
    """Workers are killed with SIGKILL wherever they are: what all together were admitted is never above the bound."""
    _check(place, which, seconds=3.0, kills=12)


@pytest.mark.soak
@pytest.mark.parametrize("which", LIMITS)
def test_nothing_is_admitted_twice_in_a_long_storm(place: Path, which: str) -> None:
    """The same for ten minutes."""
    _check(place, which, seconds=600.0, kills=1000)
