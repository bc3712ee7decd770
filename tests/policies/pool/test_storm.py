"""Storms: endpoints come, go, are drained and weighed while threads and tasks call, fail and are cancelled."""

from __future__ import annotations

import contextlib
import gc
import os
import random
import threading

import anyio
import pytest

from resilio import Endpoint, RetryBudget, bulkhead, circuit_breaker, hedge, pipeline, pool, retry, timeout
from resilio.errors import CallTimeoutError, RejectedError
from resilio.testing import virtual_time

NAMES = [f"e{at}" for at in range(12)]


def each(endpoint):
    return pipeline(circuit_breaker(consecutive=5), bulkhead(20, max_queued=5, max_wait=0.1))


def a_pool(**options):
    return pool(
        None, *[Endpoint(name, level=at % 3, zone=f"z{at % 2}") for at, name in enumerate(NAMES[:8])], **options
    )


def change(p, random, kept):
    """Make one random change of the endpoints."""
    name = random.choice(NAMES)
    kept_out = set(kept)
    with contextlib.suppress(KeyError, ValueError):
        match random.randrange(5):
            case 0 if name not in kept_out:
                p.remove(name)
            case 1:
                p.add(Endpoint(name, level=random.randrange(3)))
            case 2:
                p.drain(name)
            case 3:
                p.undrain(name)
            case 4:
                p.weigh(name, random.choice([0.5, 1.0, 3.0]))


def assert_at_rest(p, made):
    """All permits are back, and each call is counted once, in endpoints that are there and in those that are gone."""
    gc.collect()
    p._table.look()
    p._arrange()
    for stage in p.gates:
        counters = stage.counters()
        assert counters["inflight"] == counters["queued"] == 0, stage
    counters = p._gate.counters()
    assert counters["calls"] == sum(counters[k] for k in ("successes", "failures", "ignored", "rejected", "cancelled"))
    assert counters["calls"] >= made


def test_a_storm_of_threads():
    """Threads call while another one changes the endpoints: nothing is lost, and nothing stays in flight."""
    p, done, changes, made = a_pool(each=each), threading.Event(), [], []
    stack = pipeline(retry(on=OSError, attempts=3, backoff=0, budget=RetryBudget(cap=10**6, initial=10**6)), p)
    started = threading.Barrier(5)

    def caller(seed):
        numbers = random.Random(seed)
        started.wait()
        calls = 0
        while calls < 3000 or len(changes) <= 100:  # a busy machine may run the changer late
            calls += 1
            with contextlib.suppress(OSError, RejectedError):
                stack.call(work, numbers.random())
        made.append(calls)

    def work(luck, *, endpoint):
        if luck < 0.2 or (endpoint.name == "e1" and luck < 0.9):
            raise OSError("down")

    def changer():
        numbers = random.Random(9)
        started.wait()
        while not done.is_set():
            change(p, numbers, kept=("e0",))
            changes.append(p._gate.counters()["inflight"])

    callers = [threading.Thread(target=caller, args=(seed,)) for seed in range(4)]
    other = threading.Thread(target=changer)
    for thread in (*callers, other):
        thread.start()
    for thread in callers:
        thread.join()
    done.set()
    other.join()
    assert len(changes) > 100  # it raced
    p.undrain("e0")
    assert_at_rest(p, sum(made))


@pytest.mark.real(1.0)
@pytest.mark.parametrize("backend", ["asyncio", "trio"])
@pytest.mark.parametrize("seed", range(3))
def test_a_storm_of_tasks(backend, seed):
    """Tasks call, hang, fail, are hedged, time out and are cancelled while the endpoints change."""
    p, numbers = a_pool(each=each), random.Random(seed)
    stack = pipeline(
        retry(on=(OSError, CallTimeoutError), attempts=3, backoff=0, budget=RetryBudget(cap=10**6, initial=10**6)),
        hedge(idempotent=True, after=0.05, max_extra=1.0),
        timeout(0.3),
        p,
    )
    ends = dict.fromkeys(("ended", "cancelled"), 0)

    async def work(*, endpoint):
        luck = numbers.random()
        await anyio.sleep(10.0 if luck < 0.05 else luck / 10)
        if luck > 0.9:
            raise OSError("down")

    async def one():
        with anyio.move_on_after(numbers.choice([0.01, 0.1, 5.0])) as scope:
            with contextlib.suppress(OSError, RejectedError, CallTimeoutError):
                await stack.acall(work)
        ends["cancelled" if scope.cancelled_caught else "ended"] += 1

    async def main():
        async with anyio.create_task_group() as group:
            for at in range(600):
                group.start_soon(one)
                await anyio.sleep(0.002)
                if at % 3 == 0:
                    change(p, numbers, kept=("e0",))

    with virtual_time() as vt:
        vt.run(main, backend=backend)
        vt.advance(20.0)
    assert ends["cancelled"] > 20
    assert ends["ended"] > 200
    assert_at_rest(p, 300)


@pytest.mark.skipif(not hasattr(os, "fork"), reason="needs fork")
def test_a_fork_starts_with_nothing_in_flight():
    """The child of a fork has no calls in flight, chooses on its own, and the parent's permits do not count in it."""
    p = a_pool()
    permit = p.acquire()
    child = os.fork()
    if child == 0:
        try:
            ok = p._gate.counters()["inflight"] == 0
            ok &= len({p.call(lambda endpoint: endpoint.name) for _ in range(50)}) > 1
            permit.success()
            ok &= p._gate.counters()["inflight"] == 0
            os._exit(0 if ok else 1)
        finally:
            os._exit(2)
    assert os.waitpid(child, 0)[1] == 0
    assert p._gate.counters()["inflight"] == 1
    permit.success()
    assert_at_rest(p, 1)


def test_a_removed_endpoint_is_freed_when_its_calls_end():
    """A call keeps the endpoint that it goes to; when it ends, only the counts are kept."""
    p = a_pool(balance="order")
    permit = p.acquire()
    name = permit.endpoint.name
    p.remove(name)
    assert p._gate.counters()["inflight"] == 1
    assert len(p._gate.left()) == 1
    permit.failure()
    del permit
    gc.collect()
    p.drain("e1")
    assert p._gate.left() == []
    assert p._gate.counters()["failures"] == 1
    assert_at_rest(p, 1)


def test_a_call_that_ends_at_a_removed_endpoint_does_not_eject_its_successor():
    """The place of an endpoint that is gone may be another's by the time that its last call fails."""
    p = pool(None, Endpoint("old"), each=lambda e: circuit_breaker(consecutive=1, open_for=1.0))
    permit = p.acquire()
    p.remove("old")
    p.add(Endpoint("new"))
    permit.failure()
    assert p._named("new").seat.state == "well"
    for _ in range(3):
        assert p.call(lambda endpoint: endpoint.name) == "new"
