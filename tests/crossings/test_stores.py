"""Shared policy x what a fleet's store does: wrong clocks, errors, lost answers; all in virtual time."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterator, Sequence
from typing import Any

import attrs
import pytest
from crossings.recipes import Way
from crossings.stacks import snapshots
from crossings.test_scopes import SHARED, shared

from resilio import keyed, rate_limit, registry
from resilio.sharing import Answer, Ask, Fleet, MemoryEngine, StoreError, StoreProblem
from resilio.testing import VirtualTime

STEP = 0.05
"""Seconds between two calls of a worker: half of what the limit gives both."""
LASTING = 1
"""Calls in flight at each worker beside the one that begins: half of what a bulkhead admits."""
FAULT, MENDED, END = 3.0, 5.0, 10.0
MOST = 2.0
"""Seconds after which all calls are admitted, from the beginning and again after a fault."""
LINES = 2
"""What a worker logs of a fault: that it is there, and that it is over."""
KINDS = [kind for kind in SHARED if kind not in ("adaptive_limit", "retry_budget")]
"""Without the limit that is not shared in a fleet, which raises at once, and the budget that rejects no call."""


class Store(MemoryEngine):
    """A store that has one fault for a while; `us` is by how much its clock is wrong."""

    def __init__(self, vt: VirtualTime, fault: Callable[[Store, Ask, Answer], Answer | StoreProblem]) -> None:
        self.us = 0
        self.fault = fault
        self.is_at_fault = False
        super().__init__(lambda: round(vt.now * 1e6) + 10**12 + self.us)

    def exchange(self, asks: Sequence[Ask], timeout: float) -> Sequence[Answer | StoreProblem]:
        answers = super().exchange(asks, timeout)
        if not self.is_at_fault:
            return answers
        return [self.fault(self, ask, answer) for ask, answer in zip(asks, answers, strict=True)]


def step_back(store: Store, ask: Ask, answer: Any) -> Any:
    store.us = -30_000_000
    return answer


def glitch(store: Store, ask: Ask, answer: Any) -> Any:
    store.us = 1_000_000 - store.us
    return answer


def lose(store: Store, ask: Ask, answer: Any) -> Any:
    raise StoreError("no answer in time")


def no_memory(store: Store, ask: Ask, answer: Any) -> Any:
    return StoreProblem("OOM command not allowed when used memory > 'maxmemory'.")


def no_memory_at_a_key(store: Store, ask: Ask, answer: Any) -> Any:
    return no_memory(store, ask, answer) if ask.key == min(key for key in store.states if "beside" in key) else answer


FAULTS = {one.__name__: one for one in (step_back, glitch, lose, no_memory, no_memory_at_a_key)}


@attrs.define
class Worker:
    """A worker of the fleet, and its calls in flight."""

    fleet: Fleet
    policy: Any
    beside: Any
    calls: deque[Any] = attrs.field(factory=deque)

    def call(self) -> bool:
        """Begin a call, and end the oldest one; return False if it is rejected."""
        self.fleet.step()
        for user in "ann", "bob":
            self.beside.try_acquire(user)
        permit = self.policy.try_acquire()
        if permit:
            self.calls.append(permit)
        while len(self.calls) > LASTING or (self.calls and not permit):
            self.calls.popleft().success()
        return bool(permit)


def workers(store: Store, kind: str) -> Iterator[Worker]:
    """Yield two workers whose policy of this kind is one; beside it each has one with two keys."""
    for _ in range(2):
        registry.clear()
        fleet = Fleet("shop", store, is_stepped=True)
        beside = keyed(lambda: rate_limit("100/s"), key=str, name="beside", scope=fleet)
        policy = rate_limit("100/s", name="crossing", scope=fleet) if kind == "rate_limit" else None
        yield Worker(fleet, policy or shared(kind, fleet, Way(), "crossing"), beside)


@pytest.mark.parametrize("fault", FAULTS)
@pytest.mark.parametrize("kind", KINDS)
def test_a_fault_of_the_store_is_over_soon(
    vt: VirtualTime, caplog: pytest.LogCaptureFixture, kind: str, fault: str
) -> None:
    """A step back of 30 s stopped every limit until then; 400 keys without memory logged 6,420 lines in 10 s."""
    store, rejected = Store(vt, FAULTS[fault]), []
    both = list(workers(store, kind))
    with caplog.at_level("INFO", "resilio"):
        while vt.now < END:
            store.is_at_fault = FAULT <= vt.now < MENDED
            rejected += [vt.now for one in both if not one.call()]
            vt.advance(STEP)
    assert not [at for at in rejected if MOST < at < FAULT or at > MENDED + MOST], rejected
    assert sum("fleet" in record.getMessage() for record in caplog.records) <= LINES * len(both), caplog.messages
    for one in both:
        while one.calls:
            one.calls.popleft().success()
        for part in snapshots(one.policy.snapshot()):
            assert part.inflight == 0
            assert part.calls == part.successes + part.rejected, part
