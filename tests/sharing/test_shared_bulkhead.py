"""A bulkhead of several processes: what a killed process held goes to the calls that wait in another."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

pytestmark = [
    pytest.mark.skipif(sys.platform != "linux", reason="shared memory of hosts is for Linux"),
    pytest.mark.once,
    pytest.mark.slow,
]

COMMON = """
import sys, time
from resilio import adaptive_limit, bulkhead
from resilio.sharing import host
group = host("shop", directory=sys.argv[1])
if sys.argv[2] == "bulkhead":
    limit = bulkhead(3, name="database", scope=group, max_queued=10, max_wait=600.0)
else:
    limit = adaptive_limit(law="aimd", start=3, ceiling=3, name="upstream", scope=group, max_queued=10, max_wait=600.0)
def say(*words):
    print(*words, flush=True)
"""
HOLDS = """
held = [limit.acquire() for _ in range(3)]
say("held", limit.snapshot().sharing.used)
time.sleep(600)
"""
WAITS = {
    "asyncio": """
import asyncio
async def wait():
    async with limit:
        say("admitted", limit.snapshot().sharing.used)
async def main():
    waiting = asyncio.ensure_future(wait())
    while not limit.snapshot().queued:
        await asyncio.sleep(0)
    say("queued", limit.snapshot().sharing.used)
    await waiting
asyncio.run(main())
""",
    "trio": """
import trio
async def wait():
    async with limit:
        say("admitted", limit.snapshot().sharing.used)
async def main():
    async with trio.open_nursery() as nursery:
        nursery.start_soon(wait)
        while not limit.snapshot().queued:
            await trio.sleep(0)
        say("queued", limit.snapshot().sharing.used)
trio.run(main)
""",
    "threads": """
import threading
def wait():
    with limit:
        say("admitted", limit.snapshot().sharing.used)
waiting = threading.Thread(target=wait)
waiting.start()
while not limit.snapshot().queued:
    time.sleep(0.001)
say("queued", limit.snapshot().sharing.used)
waiting.join()
""",
}


class Process:
    """A Python process that says what it does, a line each."""

    def __init__(self, program: str, directory: Path, kind: str) -> None:
        command = [sys.executable, "-c", COMMON + program, str(directory), kind]
        self.process = subprocess.Popen(command, stdout=subprocess.PIPE, text=True)

    def says(self) -> list[str]:
        assert self.process.stdout is not None
        return self.process.stdout.readline().split()

    def kill(self) -> None:
        self.process.kill()
        self.process.wait()
        assert self.process.stdout is not None
        self.process.stdout.close()


@pytest.mark.parametrize("kind", ["bulkhead", "adaptive_limit"])
@pytest.mark.parametrize("waits", WAITS)
def test_what_a_killed_process_held_goes_to_a_call_that_waits(kind: str, waits: str, directory: Path) -> None:
    """
    A worker is killed with SIGKILL while it holds all permits, and a call of another worker waits for one.

    It gets it once the dead one is found, in a quarter of a second. A counter in shared memory would be wrong for good.
    """
    holds = Process(HOLDS, directory, kind)
    assert holds.says() == ["held", "3"]
    waiting = Process(WAITS[waits], directory, kind)
    try:
        assert waiting.says() == ["queued", "3"]  # the permits are the other's
        holds.kill()
        assert waiting.says() == ["admitted", "1"]
        assert waiting.process.wait(600) == 0
    finally:
        holds.kill()
        waiting.kill()


def test_a_child_of_a_fork_holds_nothing_of_its_parents(directory: Path) -> None:
    """A fork in the middle of calls: the child's permits are its own, and the parent's stay the parent's."""
    program = """
import os
held = [limit.acquire(), limit.acquire()]
child = os.fork()
if child == 0:
    mine = limit.acquire()
    say("child", limit.used, limit.snapshot().sharing.used)
    mine.success()
    for permit in held:
        permit.success()
    say("child", limit.used, limit.snapshot().sharing.used)
    os._exit(0)
os.waitpid(child, 0)
say("parent", limit.used, limit.snapshot().sharing.used)
for permit in held:
    permit.success()
say("parent", limit.used, limit.snapshot().sharing.used)
"""
    process = Process(program, directory, "bulkhead")
    try:
        assert [process.says() for _ in range(4)] == [
            ["child", "1", "3"],
            ["child", "0", "2"],
            ["parent", "2", "2"],
            ["parent", "0", "0"],
        ]
    finally:
        process.kill()
