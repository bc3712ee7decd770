"""Circuit breakers of a fleet on the virtual clock: processes with one store, and a dependency that they call."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from resilio._policies.circuit_breaker.config import CircuitBreakerConfig
from resilio._policies.circuit_breaker.policy import CircuitBreaker
from resilio.errors import CircuitOpenError
from resilio.sharing import Answer, Ask, Fleet, MemoryEngine, StoreProblem
from resilio.sharing._fleet.engines import StoreError
from resilio.testing import VirtualTime

__all__ = ["Process", "Processes", "Wire"]


class Wire:
    """The way of one process to the store."""

    def __init__(self, store: MemoryEngine) -> None:
        self.store = store
        self.loses = ""
        """"asks", "answers", or nothing."""

    def exchange(self, asks: Sequence[Ask], timeout: float) -> Sequence[Answer | StoreProblem]:
        """Exchange, or lose the asks, or the answers."""
        if self.loses == "asks":
            raise StoreError("the asks are lost")
        answers = self.store.exchange(asks, timeout)
        if self.loses == "answers":
            raise StoreError("the answers are lost")
        return answers


class Process:
    """A process with a fleet and a breaker of its own."""

    def __init__(self, store: MemoryEngine, **options: Any) -> None:
        self.wire = Wire(store)
        self.fleet = Fleet("shop", self.wire, is_stepped=True)
        self.breaker = CircuitBreaker(CircuitBreakerConfig(scope=self.fleet, **options), "payments")
        self.sent = 0

    def call(self, *, fails: bool = False) -> str:
        """Call, and return "ok", "failed" or the reason of the rejection."""
        try:
            self.breaker.call(self._dependency, fails)
        except CircuitOpenError as error:
            return f"{error.scope}: {error.reason}"
        except OSError:
            return "failed"
        return "ok"

    def _dependency(self, fails: bool) -> None:
        self.sent += 1
        if fails:
            raise OSError


class Processes:
    """Processes of a fleet, and their time."""

    def __init__(self, vt: VirtualTime, n: int, *, store: MemoryEngine | None = None, **options: Any) -> None:
        self.vt = vt
        self.store = MemoryEngine() if store is None else store
        self.all = [Process(self.store, **options) for _ in range(n)]
        self.pass_time(1)

    def pass_time(self, seconds: float, each: float = 0.05) -> None:
        """Let time pass, and the couriers exchange."""
        for _ in range(max(1, round(seconds / each))):
            self.vt.advance(each)
            self.step()

    def step(self) -> None:
        """Let the couriers exchange that are due."""
        for process in self.all:
            process.fleet.step()

    def call(self, *, fails: bool = False) -> list[str]:
        """Call once in each process."""
        return [process.call(fails=fails) for process in self.all]

    @property
    def states(self) -> list[str]:
        """The states that the breakers show."""
        return [process.breaker.state for process in self.all]

    @property
    def sent(self) -> int:
        """Calls that reached the dependency."""
        return sum(process.sent for process in self.all)

    def opened(self) -> Processes:
        """
        Open for all, by failures of all: fewer of each process than would open its own breaker.

        An open time must be longer than the couriers' tick: before all have heard of one that is shorter it has ended.
        """
        for _ in range(60):
            if set(self.states) == {"open"}:
                break
            self.call(fails=True)
            self.pass_time(0.1)
        assert set(self.states) == {"open"}
        return self
