"""The real policies as fronts of simulated workers: nothing waits, and the clock of the library is the simulation's."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

from benchmarks.efficacy._queueing import Workers
from resilio._native import clock
from resilio._native.core import Permit
from resilio.testing import virtual_time

__all__ = ["Refusing", "on_virtual_time"]

_BASE_NS = 10**15
_last_ns = _BASE_NS


@contextmanager
def on_virtual_time() -> Iterator[None]:
    """Let the library's clock be moved by the fronts made in this block alone."""
    with virtual_time():
        yield


class Refusing:
    """
    A policy that admits or refuses at once, by permits taken and ended by hand.

    Args:
        policy: A fresh one.

        late: How a permit ends whose answer came too late: as a failure by a timeout (True), or as a success.
    """

    def __init__(self, policy: Any, late: bool = True) -> None:
        self.policy = policy
        self.late = late
        self.permits: dict[int, Permit] = {}

    def attach(self, workers: Workers) -> None:
        """Begin, a little after all runs before."""
        global _last_ns
        self.send, self.arrivals = workers.send, workers.plan.arrivals
        self.patience = workers.plan.patience
        self.begin_ns = _last_ns = (_last_ns // 10**12 + 1) * 10**12
        self.acquire: Callable[[], Any] = self.policy.try_acquire

    def arrive(self, call: int, now: float) -> None:
        """Ask the policy."""
        self._clock(now)
        permit = self.acquire()
        if permit:
            self.permits[call] = permit
            self.send(call)

    def ended(self, call: int, now: float) -> None:
        """Give the permit back."""
        self._clock(now)
        permit = self.permits.pop(call)
        if self.late and now - self.arrivals[call] > self.patience:
            permit.failure(TimeoutError())
        else:
            permit.success()

    def _clock(self, now: float) -> None:
        global _last_ns
        _last_ns = self.begin_ns + round(now * 1e9)
        clock.set_virtual(_last_ns)
