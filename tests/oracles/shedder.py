"""What a load shedder has to do, in plain lists: who is admitted, who waits in which order, and who is put out."""

from __future__ import annotations

import dataclasses
from collections.abc import Hashable

__all__ = ["ShedderOracle", "mix", "room"]

MASK = 2**64 - 1
MEMORY, MOST, BEGINS, ENDS, NEWEST = 500, 0.5, 0.12, 0.08, 0.25
QUIET_NS, QUIET = 5_000_000_000, 200
UNKNOWN_NS = 100e6


def mix(x: int) -> int:
    """Splitmix64."""
    x = (x + 0x9E3779B97F4A7C15) & MASK
    x = ((x ^ x >> 30) * 0xBF58476D1CE4E5B9) & MASK
    x = ((x ^ x >> 27) * 0x94D049BB133111EB) & MASK
    return x ^ x >> 31


def room(limit: int, overloaded: bool) -> int:
    """How many may wait where no target is given."""
    if overloaded:
        return int(max(11 + 2 / limit**2, limit / 2))
    return limit if limit >= 50 else int(min(50, max(6 * limit, 24 + 8 / limit**2)))


@dataclasses.dataclass(eq=False)
class Waiting:
    key: int
    level: int
    order: int  # the rank of its task's hash, or the flow of its tenant
    known: bool
    task: int


class ShedderOracle:
    """
    The state of each call is in `fate`: "held", "queued", or why it was rejected; calls that ended are in none.

    The salt is 0, and the first hour never ends.
    """

    def __init__(self, limit: int, *, fair: bool) -> None:
        self.limit = limit
        self.fair = fair
        self.now_ns = 0
        self.share = 0.0
        self.overloaded = False
        self.last_shed_ns = 0
        self.quiet = 0
        self.mean_ns, self.samples = 0.0, 0
        self.queue: list[Waiting] = []  # in order of arrival
        self.fate: dict[int, str] = {}
        self.level: dict[int, int] = {}
        self.flow: dict[int, tuple[int, int]] = {}
        self.since: dict[int, int] = {}
        self.known: dict[int, int] = {}
        self.deficit: dict[tuple[int, int], int] = {}
        self.turn = [0, 0, 0, 0]
        self.begun = [False] * 4
        self.lost = 0

    # ---- sizes

    @property
    def used(self) -> int:
        return sum(fate in ("held", "granted") for fate in self.fate.values())

    def most(self, level: int) -> int:
        kept = 0 if self.limit < 2 else -(-self.limit // 10)
        return [self.limit, self.limit, self.limit - kept, max(self.limit - 2 * kept, 1)][level]

    @property
    def room(self) -> int:
        return room(self.limit, self.overloaded)

    @property
    def newest_first(self) -> bool:
        return self.overloaded and self.share > NEWEST

    @property
    def quantum(self) -> int:
        return int(self.mean_ns if self.samples else UNKNOWN_NS) + 1

    # ---- arrivals

    def arrive(self, key: int, level: int, task: Hashable, tenant: Hashable, *, waits: bool) -> None:
        self.level[key] = level
        salted = self._salted(task) if task is not None else 0
        known = salted != 0 and self.known.get(salted % 4096) == salted
        order = (salted or 1 << 63) >> 58
        if self.fair:
            order = (mix(self._hash(tenant)) if tenant is not None else mix(0)) >> 55
        call = Waiting(key, level, order, known, salted)
        self.flow[key] = (level, order)
        self.fate[key] = self._decide(call, waits)

    @staticmethod
    def _hash(value: Hashable) -> int:
        return (hash(value) & MASK) or 1

    def _salted(self, task: Hashable) -> int:
        return mix(self._hash(task)) or 1

    def _decide(self, call: Waiting, waits: bool) -> str:
        if self.used < self.most(call.level) and not any(other.level <= call.level for other in self.queue):
            self._arrived()
            self._begin(call)
            return "held"
        if not waits:
            return "reserved" if self.used < self.limit else "full"
        self._arrived()
        if not self._make_room(call):
            self._shed(call)
            return "queue_full"
        self.queue.append(call)
        return "queued"

    def _arrived(self) -> None:
        self.share *= 1.0 - 1.0 / MEMORY
        self.quiet += 1
        if not self.overloaded:
            return
        if self.now_ns - self.last_shed_ns > max(QUIET_NS, 20 * self.mean_ns):
            self.share = 0.0
        elif self.quiet >= QUIET:
            self.share = min(self.share, ENDS)
        elif self.share >= ENDS:
            return
        self.overloaded = False

    def _shed(self, call: Waiting) -> None:
        self.lost += 1
        self._forget(call.task)
        self.share += 1.0 / MEMORY if self.share < MOST else 0.0
        self.last_shed_ns = self.now_ns
        self.quiet = 0
        self.overloaded = self.overloaded or self.share > BEGINS

    def _forget(self, task: int) -> None:
        if task and self.known.get(task % 4096) == task:
            del self.known[task % 4096]

    def _make_room(self, call: Waiting) -> bool:
        size = self.room + 11 * call.known
        while len(self.queue) >= size:
            victim = self._victim(call, self.newest_first)
            if victim is None:
                return False
            self._put_out(victim)
        return True

    def _put_out(self, call: Waiting) -> None:
        self._leave(call)
        self.fate[call.key] = "displaced"
        self._shed(call)

    # ---- order

    def _length(self, level: int, flow: int) -> int:
        return sum((other.level, other.order) == (level, flow) for other in self.queue)

    def _longest(self, level: int) -> int:
        flows = sorted({other.order for other in self.queue if other.level == level})
        return max(flows, key=lambda flow: self._length(level, flow))

    def _rank(self, call: Waiting) -> tuple[bool, int]:
        return (not call.known, 0 if self.fair else call.order)

    def _worst(self, queue: list[Waiting], newest: bool) -> Waiting:
        level = max(other.level for other in queue)
        queue = [other for other in queue if other.level == level]
        if self.fair:
            longest = self._longest(level)
            queue = [other for other in queue if other.order == longest]
        return self._last(queue, newest)

    def _last(self, queue: list[Waiting], newest: bool) -> Waiting:
        rank = max(self._rank(other) for other in queue)
        queue = [other for other in queue if self._rank(other) == rank]
        return queue[0] if newest else queue[-1]

    def _victim(self, call: Waiting, newest: bool) -> Waiting | None:
        worst = max(other.level for other in self.queue)
        if call.level > worst:
            return None
        queue = [other for other in self.queue if other.level == worst]
        if call.level < worst:
            return self._worst(queue, newest)
        if self.fair:
            mine, longest = self._length(worst, call.order), self._longest(worst)
            if mine + 1 < self._length(worst, longest):
                return self._worst(queue, newest)
            queue = [other for other in queue if other.order == call.order]
            if not queue:
                return None
        last = self._last(queue, newest)
        if self._rank(call) < self._rank(last) or (newest and self._rank(call) == self._rank(last)):
            return last
        return None

    def _next(self, level: int) -> Waiting:
        queue = [other for other in self.queue if other.level == level]
        if self.fair:
            flow = self._flow_in_turn(level, queue)
            queue = [other for other in queue if other.order == flow]
        rank = min(self._rank(other) for other in queue)
        queue = [other for other in queue if self._rank(other) == rank]
        return queue[-1] if self.newest_first else queue[0]

    def _flow_in_turn(self, level: int, queue: list[Waiting]) -> int:
        active = {other.order for other in queue}
        while True:
            flow = self.turn[level]
            if flow in active:
                if not self.begun[level]:
                    self.begun[level] = True
                    deficit = max(self.deficit.get((level, flow), 0), -4 * self.quantum)
                    self.deficit[level, flow] = deficit + self.quantum
                if self.deficit[level, flow] > 0:
                    return flow
            self.turn[level] = (flow + 1) % 512
            self.begun[level] = False

    # ---- permits

    def _charge(self, flow: tuple[int, int], ns: int) -> None:
        if not self.fair:
            return
        most = 4 * self.quantum
        deficit = self.deficit.get(flow, 0) - ns
        self.deficit[flow] = max(-most, min(deficit, most if self._length(*flow) else min(0, deficit)))

    def _begin(self, call: Waiting) -> None:
        self._charge((call.level, call.order), self.quantum)
        if call.task:
            self.known[call.task % 4096] = call.task

    def _leave(self, call: Waiting) -> None:
        self.queue.remove(call)
        flow = (call.level, call.order)
        if self.fair and not self._length(*flow):
            self.deficit[flow] = min(0, self.deficit.get(flow, 0))

    def _grant(self) -> None:
        while self.queue:
            levels = [level for level in range(4) if self.used < self.most(level)]
            waiting = sorted({other.level for other in self.queue} & set(levels))
            if not waiting:
                return
            call = self._next(waiting[0])
            self._leave(call)
            self.fate[call.key] = "held"
            self.since[call.key] = self.now_ns
            self._begin(call)

    def end(self, key: int, held_ns: int) -> None:
        """The call ends well after so long."""
        del self.fate[key]
        self._charge(self.flow[key], held_ns - (self.quantum - 1))
        self.samples += 1
        self.mean_ns += (max(1.0, held_ns) - self.mean_ns) * (1.0 / min(self.samples, 64))
        self._grant()

    def cancel(self, key: int) -> None:
        """The call gives up, queued or granted."""
        fate = self.fate.pop(key)
        if fate == "queued":
            self._leave(next(call for call in self.queue if call.key == key))
        else:
            self._charge(self.flow[key], -(self.quantum - 1))
        self._grant()

    def resize(self, limit: int) -> None:
        self.limit = limit
        self._grant()
