"""Runner of scenarios: each stack on its own clock, from the same seed, one after the other."""

from __future__ import annotations

import asyncio
import gc
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager

import attrs

from resilio import registry
from resilio._context.time_of_day import begin_virtual
from resilio._native import clock
from resilio._native.simulation import BEGIN_NS, StandstillError
from resilio._options.validators import positive_int
from resilio.simulation._results import Outcome, Result, outcome_of
from resilio.simulation._scenario import Scenario, Stack
from resilio.simulation._world import World
from resilio.testing import seeded, virtual_time

__all__ = ["Progress", "simulate"]

_INTERVAL = 0.1  # seconds of real time between two looks at the progress
_COLLECT = 50  # looks of the loop between two garbage collections
_ATTEMPTS, _MORE_ATTEMPTS = 100, 100_000
_UNDER_WAY = 300_000  # maximum number of concurrent tasks, about a gigabyte


@attrs.frozen
class Progress:
    """
    Progress of a simulation.

    Attributes:
        stack: Name of the current stack.

        number: Its index, from 0.

        stacks: Number of stacks.

        elapsed: Simulated seconds so far.

        duration: Simulated seconds in all.

        offered: Tasks so far.
    """

    stack: str
    number: int
    stacks: int
    elapsed: float
    duration: float
    offered: int


Report = Callable[[Progress], object]


def simulate(scenario: Scenario, *, seed: int = 1, progress: Report | None = None) -> Result:
    """
    Run a scenario with each of its stacks; the same scenario and seed give the same result.

    The policies are the real ones; only time is virtual. No other code of the process may use policies meanwhile, since
    they share one clock.

    Args:
        scenario: The scenario.

        seed: Seed of all random numbers, 0 to 2**63 - 1.

        progress: Called about ten times a second of real time; if it returns False, the simulation ends with a partial
            result.

    Returns:
        The outcomes by stack, marked if a run was ended early: by `progress`, or because it would never end.

    Raises:
        RuntimeError: Called inside a running event loop, or during virtual time.

        TypeError, ValueError: A seed out of range, or an exception of a stack's own functions.
    """
    positive_int("seed", seed, zero_ok=True, high=2**63 - 1)
    if asyncio._get_running_loop() is not None:
        raise RuntimeError("simulate() cannot be called from a running event loop: call it in a plain function")
    outcomes: dict[str, Outcome] = {}
    for number, (name, stack) in enumerate(scenario.stacks.items()):
        watch = _Watch(scenario, Progress(name, number, len(scenario.stacks), 0.0, scenario.duration, 0), progress)
        outcomes[name] = _run(scenario, stack, seed, watch)
        if watch.stopped:
            break
    return Result(scenario, seed, outcomes)


def _run(scenario: Scenario, stack: Stack, seed: int, watch: _Watch) -> Outcome:
    with virtual_time(), registry.isolated(), seeded(seed), _no_garbage():
        clock.set_virtual(BEGIN_NS)
        begin_virtual(BEGIN_NS)
        world = watch.world = World(scenario, stack, seed)
        ended_early = None
        try:
            if not world.run(watch.look):
                ended_early = watch.why
        except StandstillError as error:
            ended_early = str(error)
        finally:
            elapsed = world.loop.elapsed
            world.close()
        if world.unexpected:
            raise world.unexpected[0]
    return outcome_of(scenario, world.book, elapsed, ended_early)


@contextmanager
def _no_garbage() -> Iterator[None]:
    """Disable automatic garbage collection, which could settle calls in another order from run to run."""
    was_enabled = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        if was_enabled:
            gc.enable()


class _Watch:
    """Supervisor of one run: reports progress, collects garbage, and stops a run that would never end."""

    def __init__(self, scenario: Scenario, state: Progress, report: Report | None) -> None:
        self.world: World | None = None
        self.stopped = False
        self.why = "stopped"
        self._most = _ATTEMPTS * scenario.expected_calls() + _MORE_ATTEMPTS
        self._state = state
        self._report = report
        self._looks = 0
        self._next = time.perf_counter() + _INTERVAL

    def look(self) -> bool:
        """Return True if the run goes on."""
        world = self.world
        assert world is not None  # noqa: S101 - for type checkers
        self._looks += 1
        if self._looks % _COLLECT == 0:
            gc.collect(1)
        if world.book.sent > self._most:
            self.why = f"each call was attempted more than {_ATTEMPTS} times on average: this would not end"
            return False
        if sum(len(load.under_way) for load in world.loads) > _UNDER_WAY:
            self.why = f"more than {_UNDER_WAY:,} tasks are under way: they do not end"
            return False
        if self._report is not None and time.perf_counter() >= self._next:
            self._next = time.perf_counter() + _INTERVAL
            state = attrs.evolve(self._state, elapsed=world.loop.elapsed, offered=world.book.offered)
            self.stopped = self._report(state) is False
        return not self.stopped
