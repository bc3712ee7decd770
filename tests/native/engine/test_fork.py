"""The core in the child of a fork that ends like any process: nothing is held, and results from before are dropped."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

import resilio

SCRIPT = """
import asyncio, os
from resilio import bulkhead, circuit_breaker, pipeline, rate_limit

pool, breaker = bulkhead(1, max_queued=3, max_wait=60), circuit_breaker(consecutive=1)
stack = pipeline(rate_limit("1000/s", burst=10), breaker, pool)
permit = stack.acquire()
waiting = stack.acall(lambda: 1)
block = breaker.permit()
block.__enter__()

async def begin():
    task = asyncio.ensure_future(stack.acall(lambda: asyncio.sleep(0)))
    await asyncio.sleep(0.01)
    assert pool.snapshot().queued == 1
    return task

async def given_up(task):
    task.cancel()
    await asyncio.wait([task])

def after():
    assert (pool.used, pool.snapshot().queued, pool.snapshot().inflight) == (0, 0, 0)
    permit.failure()                                # from before the fork: dropped
    block.__exit__(OSError, OSError(), None)
    assert breaker.state == "closed"
    with pool:
        assert pool.used == 1
    assert pool.used == 0
    waiting.close()

# Not in a coroutine: since 3.14 a child cannot go on with a loop that ran when the process forked.
with asyncio.Runner() as runner:
    task = runner.run(begin())
    child = os.fork()
    if child == 0:
        after()
        runner.run(given_up(task))
    else:
        assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0
        permit.success()
        runner.run(asyncio.wait_for(task, 60))
waiting.close()
"""


@pytest.mark.skipif(not hasattr(os, "fork"), reason="no fork on this system")
def test_a_child_holds_nothing_and_ends_like_any_process() -> None:
    """Permits, blocks and queues from before the fork are gone in the child; the parent's go on."""
    root = str(Path(resilio.__file__).parents[1])
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join([root, os.environ.get("PYTHONPATH", "")])}
    command = [sys.executable, "-X", "faulthandler", "-W", "ignore", "-c", SCRIPT]
    done = subprocess.run(command, env=environment, capture_output=True, text=True, timeout=120, check=False)
    assert (done.returncode, done.stderr) == (0, "")
