"""
The cancellation storm: calls cut short at any point leave nothing behind, and no cancellation is swallowed.

Each world is random policies in random stacks and a thousand calls that are cancelled, time out, are dropped, broken
off or interrupted at random times. After it no permit, waiter, lease, call or task is left, and the exact capacity is
there. RESILIO_SEED replays from one world on.
"""

from __future__ import annotations

import asyncio
import os
import sys
from collections import Counter
from collections.abc import Callable, Iterator

import pytest

from resilio import PipelineWarning
from resilio.testing import VirtualTime, virtual_time
from storm import asyncio_storm, thread_storm, trio_storm
from storm.racing import turns
from storm.world import CUT_SHORT, World, storm

pytestmark = [
    pytest.mark.filterwarnings(f"ignore::{PipelineWarning.__module__}.{PipelineWarning.__name__}"),
    # An exception thrown into a thread may hit a hook of its neighbour, which cannot pass it on.
    pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning"),
]

VIRTUAL_WAITS = (0.002, 0.01, 0.05, 10.0)
REAL_WAITS = (0.0002, 0.001, 0.003)
EAGER = sys.version_info >= (3, 12)
FULL = {"asyncio": 90_000 if EAGER else 120_000, "eager": 30_000, "uvloop": 30_000, "trio": 30_000, "threads": 20_000}
"""How many calls are cut short: 200,000 in all."""

needs_eager = pytest.mark.skipif(not EAGER, reason="eager tasks came with Python 3.12")
KINDS = ["asyncio", pytest.param("eager", marks=needs_eager), "uvloop", "trio", "threads"]


def on_asyncio(vt: VirtualTime, world: World, calls: int) -> None:
    """In the jumping event loop."""
    vt.run(asyncio_storm.run_world, world, calls)


def on_eager(vt: VirtualTime, world: World, calls: int) -> None:
    """In tasks that begin to run where they are made."""

    async def main() -> None:
        asyncio.get_running_loop().set_task_factory(asyncio.eager_task_factory)
        await asyncio_storm.run_world(world, calls)

    vt.run(main)


def on_uvloop(vt: VirtualTime, world: World, calls: int) -> None:
    """In uvloop, with timers of its own."""
    pytest.importorskip("uvloop")
    from storm.virtual_uvloop import VirtualUvloop

    with asyncio.Runner(loop_factory=lambda: VirtualUvloop(vt)) as runner:
        runner.run(asyncio_storm.run_world(world, calls))


def on_trio(vt: VirtualTime, world: World, calls: int) -> None:
    """In trio."""
    vt.run(trio_storm.run_world, world, calls, backend="trio")


LOOPS: dict[str, Callable[[VirtualTime, World, int], None]] = {
    "asyncio": on_asyncio,
    "eager": on_eager,
    "trio": on_trio,
    "uvloop": on_uvloop,
}


def in_virtual_time(kind: str) -> Callable[[World, int], None]:
    """Return what runs a world on the loop of that kind."""

    def run(world: World, calls: int) -> None:
        with virtual_time(patience=10) as vt:
            LOOPS[kind](vt, world, calls)
            world.check(rested=True)

    return run


def in_threads(world: World, calls: int) -> None:
    """Run a world in threads, in real time."""
    thread_storm.run_world(world, calls)
    world.check(rested=False)


@pytest.fixture
def hasty_threads(unlogged: None) -> Iterator[None]:
    """Let threads take turns as often as they can."""
    with turns(5e-6):
        yield


def rage(kind: str, goal: int) -> Counter[str]:
    """Run the storm of that kind until `goal` calls have been cut short."""
    seed = os.environ.get("RESILIO_SEED")
    if kind == "threads":
        return storm(goal, in_threads, REAL_WAITS, int(seed) if seed else None, "threads")
    return storm(goal, in_virtual_time(kind), VIRTUAL_WAITS, int(seed) if seed else None)


@pytest.mark.parametrize("kind", KINDS)
def test_a_breeze_leaves_nothing_behind(kind: str, hasty_threads: None) -> None:
    """A storm of a fiftieth of the size, on every Python."""
    ended = rage(kind, FULL[kind] // 50)
    assert min(ended["rejected"], ended["returned"], ended["error"]) > 0, ended


@pytest.mark.slow
@pytest.mark.parametrize("kind", KINDS)
def test_a_storm_leaves_nothing_behind(kind: str, hasty_threads: None) -> None:
    """200,000 calls cut short on asyncio, with eager tasks, on uvloop, on trio and in threads."""
    ended = rage(kind, FULL[kind])
    assert sum(ended[label] for label in CUT_SHORT) >= FULL[kind]


@pytest.mark.soak
@pytest.mark.parametrize("turn", range(10))
@pytest.mark.parametrize("kind", KINDS)
def test_a_long_storm_leaves_nothing_behind(kind: str, turn: int, hasty_threads: None) -> None:
    """Ten times as long, in ten turns: one that hangs is told from one that takes long."""
    ended = rage(kind, FULL[kind])
    assert sum(ended[label] for label in CUT_SHORT) >= FULL[kind], turn
