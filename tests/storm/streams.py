"""
A storm of streams: broken off, abandoned, cancelled, timed out, cut by the server; afterwards nothing is held.

The harness for any client: it is given what one stream is under each tactic, runs many of them at once, and says what
must be true of the policy when all are over and the collector has been.
"""

from __future__ import annotations

import gc
import random
import threading
from collections import Counter
from collections.abc import Awaitable, Callable, Iterator
from typing import Any

import anyio

__all__ = ["TACTICS", "check", "deal", "storm", "storm_in_threads"]

TACTICS = ("read", "break_off", "abandon", "drop", "cancel", "time_out", "cut")
"""
Read to the end; left and closed after the first part; never begun and dropped; dropped after the first part; cancelled
while it waits for a part; ended by the policy's idle clock; cut by the server.
"""

AT_ONCE = 32


def deal(streams: int, seed: int, tactics: tuple[str, ...] = TACTICS) -> list[str]:
    """Return the tactics of so many streams, each tactic at least once, in an order that the seed decides."""
    dice = random.Random(seed)
    dealt = [*tactics, *dice.choices(tactics, k=max(0, streams - len(tactics)))]
    dice.shuffle(dealt)
    return dealt


async def storm(strike: Callable[[str], Awaitable[str | None]], dealt: list[str]) -> Counter[str]:
    """
    Run a stream for each tactic that was dealt, `AT_ONCE` at a time, in tasks.

    Args:
        strike: Runs one stream by a tactic; it must not raise. It returns what became of it if that was something else.

        dealt: The tactics.

    Returns:
        How many there were of each.
    """
    left, tally = iter(dealt), Counter[str]()

    async def work() -> None:
        for tactic in left:
            tally[await strike(tactic) or tactic] += 1

    async with anyio.create_task_group() as group:
        for _ in range(min(AT_ONCE, len(dealt))):
            group.start_soon(work)
    return tally


def storm_in_threads(strike: Callable[[str], str | None], dealt: list[str], threads: int = 8) -> Counter[str]:
    """Run a stream for each tactic that was dealt, in threads; see :func:`storm`."""
    lock, left, failed, tally = threading.Lock(), iter(dealt), list[BaseException](), Counter[str]()

    def next_one() -> str | None:
        with lock:
            return next(left, None)

    def work() -> None:
        try:
            while (tactic := next_one()) is not None:
                ended = strike(tactic) or tactic
                with lock:
                    tally[ended] += 1
        except BaseException as error:
            failed.append(error)

    running = [threading.Thread(target=work) for _ in range(threads)]
    for thread in running:
        thread.start()
    for thread in running:
        thread.join()
    assert not failed, failed
    return tally


def _gates(policy: Any) -> Iterator[Any]:
    yield from policy.gates


def check(policy: Any, tally: Counter[str], *, dropped: bool | None = None) -> None:
    """
    Assert that nothing is held, that each stream was one call, and that each abandoned one was counted.

    Args:
        policy: What guarded the streams, and nothing else.

        tally: What `storm` has returned.

        dropped: Whether a stream that is dropped midway is abandoned; False: its client closes it; None: either.
    """
    for _ in range(3):  # what a finaliser lets go of may be a cycle itself
        gc.collect()
    least = tally["abandon"] + (tally["drop"] if dropped else 0)
    most = tally["abandon"] + (0 if dropped is False else tally["drop"])
    for gate in _gates(policy):
        counters = gate.counters()
        ended = counters["successes"] + counters["failures"] + counters["ignored"]
        assert counters["inflight"] == counters["queued"] == 0, (gate.kind, counters, tally)
        assert ended == counters["calls"] == tally.total(), (gate.kind, counters, tally)
        if gate.kind not in ("timeout", "retry", "deadline"):
            assert least <= counters["abandoned"] <= most, (gate.kind, counters, tally)
