"""The simulated store: what it holds, its clock, and the way to it with all that goes wrong there."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Sequence
from functools import cached_property
from random import Random
from typing import TYPE_CHECKING, Any, cast

from resilio._native.simulation import EventLoop
from resilio.simulation._faults import Fault
from resilio.simulation._store import Evict, Failover, Partition, Store, StoreClock, StoreDown, StoreSlow

if TYPE_CHECKING:
    from resilio.sharing._fleet.ask import Answer, Ask, StoreProblem

__all__ = ["Done", "SimulatedStore"]

Done = Callable[["Sequence[Answer | StoreProblem] | StoreProblem"], None]
"""What a trip ends with: the answers, or the problem of all of them."""

AHEAD = 1_000_000_000.0
"""Seconds that the store's clock has run when a simulation begins: no host's clock shows the same."""


class SimulatedStore:
    """
    The store of one run.

    Args:
        store: The record of the scenario.

        loop: The loop that the simulation runs in.

        random: Source of random numbers.

        journal: Seconds of changes that are kept, for replicas that lack them.

    Attributes:
        loop: The loop.

        trips: Trips that have reached it.
    """

    def __init__(self, store: Store, loop: EventLoop, random: Random, journal: float = 0.0) -> None:
        self.trips = 0
        self._store = store
        self.loop = loop
        self._random = random.random
        self._rtt = store.rtt.sampler(random)
        self._journal_us = round(journal * 1e6)
        self._others: dict[Fault, _Master] = {}  # of two masters
        self._faults: list[Fault] = []
        self._sent_before: list[Callable[[], None]] = []  # to a store that is stopped

    @cached_property
    def _master(self) -> _Master:
        return _Master(self._now_us, self._journal_us)

    # ---- faults

    def begin(self, fault: Fault) -> None:
        """Let a fault begin."""
        self._faults.append(fault)
        if isinstance(fault, Evict):
            self._master.clear()
        elif isinstance(fault, Failover):
            self._master.forget(fault.loses)
        elif isinstance(fault, Partition) and fault.two_masters:
            self._others[fault] = self._master.copy()

    def end(self, fault: Fault) -> None:
        """Let a fault end; a stopped store now does what it was sent."""
        self._faults.remove(fault)
        self._others.pop(fault, None)
        waiting, self._sent_before = self._sent_before, []
        for arrive in waiting:
            arrive()

    def _of(self, kind: type[Any]) -> list[Any]:
        return [fault for fault in self._faults if isinstance(fault, kind)]

    def _is_down(self, mode: str) -> bool:
        refuses = mode == "refuse" and bool(self._of(Failover))
        return refuses or any(fault.mode == mode for fault in self._of(StoreDown))

    def _cut(self, client: int) -> Partition | None:
        """Return the fault that keeps this client from the store; None: nothing does."""
        for fault in self._of(Partition):
            if fault.keeps(client, "store"):
                return cast("Partition", fault)
        return None

    # ---- trips

    def send(self, client: int, asks: Sequence[Ask], done: Done) -> None:
        """Send what a client's courier asks; `done` is called once, with the answers or with a problem."""
        _Trip(self, client, asks, done).go()

    def leg(self) -> int:
        """Return the nanoseconds of one direction."""
        seconds = self._rtt() + sum(fault.seconds for fault in self._of(StoreSlow))
        return int(seconds * 5e8)

    def is_lost(self, client: int) -> bool:
        """Return True if a message of this client vanishes, in either direction."""
        cut = self._cut(client)
        is_cut = cut is not None and not cut.two_masters
        return is_cut or self._is_down("hang") or (self._store.loss > 0.0 and self._random() < self._store.loss)

    @property
    def refuses(self) -> bool:
        """Whether it takes no connections."""
        return self._is_down("refuse")

    def at(self, delay_ns: int, call: Callable[..., None], *args: Any) -> None:
        """Call a function after some nanoseconds."""
        self.loop.at(self.loop.now + delay_ns, call, *args)

    @property
    def options(self) -> dict[str, Any]:
        """The options of a fleet that the scenario gives for it."""
        return {name: getattr(self._store, name) for name in ("tick", "timeout", "peers", "on_store_down")}

    @property
    def timeout_ns(self) -> int:
        """Nanoseconds after which a courier gives a trip up."""
        return round(self._store.timeout * 1e9)

    def arrive(self, client: int, asks: Sequence[Ask], then: Callable[[Sequence[Answer | StoreProblem]], None]) -> None:
        """Do what has arrived, or later if the store is stopped."""
        if self._is_down("buffer"):
            self._sent_before.append(lambda: self.arrive(client, asks, then))
            return
        self.trips += 1
        cut = self._cut(client)
        master = self._master if cut is None else self._others[cut]
        then(master.exchange(asks))

    def _now_us(self) -> int:
        ahead: float = AHEAD + sum(fault.seconds for fault in self._of(StoreClock))
        return self.loop.now // 1000 + round(ahead * 1e6)


class _Trip:
    """One trip: its question, its answer, and the time after which it is given up."""

    def __init__(self, store: SimulatedStore, client: int, asks: Sequence[Ask], done: Done) -> None:
        self._store = store
        self._client = client
        self._asks = asks
        self._done: Done | None = done

    def go(self) -> None:
        """Send the question: it arrives after half a round trip, or is lost."""
        store = self._store
        if store.refuses:
            store.at(store.leg(), self._lost, "refused")
            return
        store.at(store.timeout_ns, self._lost, "no answer in time")
        if not store.is_lost(self._client):
            store.at(store.leg(), store.arrive, self._client, self._asks, self._answered)

    def _answered(self, answers: Sequence[Answer | StoreProblem]) -> None:
        if not self._store.is_lost(self._client):
            self._store.at(self._store.leg(), self._end, answers)

    def _lost(self, why: str) -> None:
        from resilio.sharing import StoreProblem

        self._end(StoreProblem(why))

    def _end(self, answers: Sequence[Answer | StoreProblem] | StoreProblem) -> None:
        done, self._done = self._done, None
        if done is not None:
            done(answers)


class _Master:
    """A server of the store: what it holds, with a journal of its changes."""

    def __init__(self, now_us: Callable[[], int], journal_us: int) -> None:
        from resilio.sharing._fleet.engines.memory import MemoryEngine

        self._now_us = now_us
        self._engine = MemoryEngine(now_us)
        self._keeps_us = journal_us
        self._journal: deque[tuple[int, str, Any]] = deque()

    def exchange(self, asks: Sequence[Ask]) -> Sequence[Answer | StoreProblem]:
        """Answer questions."""
        if self._keeps_us:
            for ask in asks:
                self._note(ask.key)
        return self._engine.exchange(asks, 0.0)

    def _note(self, key: str) -> None:
        state = self._engine.states.get(key)
        now_us = self._now_us()
        self._journal.append((now_us, key, None if state is None else dict(state)))
        while self._journal[0][0] < now_us - self._keeps_us:
            self._journal.popleft()

    def forget(self, seconds: float) -> None:
        """Undo the last changes."""
        since_us = self._now_us() - round(seconds * 1e6)
        while self._journal and self._journal[-1][0] >= since_us:
            _, key, before = self._journal.pop()
            self._engine.states.pop(key, None)
            if before is not None:
                self._engine.states[key] = before

    def clear(self) -> None:
        """Lose everything."""
        self._engine.evict()
        self._journal.clear()

    def copy(self) -> _Master:
        """Return another server with the same contents."""
        other = _Master(self._now_us, 0)
        other._engine.states.update({key: dict(state) for key, state in self._engine.states.items()})
        return other
