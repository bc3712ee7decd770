"""Lifetimes: an endpoint's policy outlives its pool, and a seat its place in it."""

from __future__ import annotations

import asyncio
import gc
from types import SimpleNamespace

import pytest

from resilio import Endpoint, bulkhead, circuit_breaker, pipeline, pool, retry, timeout
from resilio._native.pool import Seat
from resilio.errors import RejectedError
from resilio.metrics._book import Book
from resilio.metrics._buckets import BUCKETS, Chooser


def a_rate(endpoint):
    return circuit_breaker(failure_rate=0.5, window=10, min_calls=5)


def fail():
    raise OSError("down")


def fails(policy):
    """Let two of three calls fail: only statistics tell that from an endpoint that works."""
    for at in range(60):
        policy.try_call(fail if at % 3 else int)


def test_an_endpoint_s_policy_outlives_its_pool():
    """A breaker asked the pool before it opened by its statistics, also when the pool's memory had been freed."""
    p = pool(None, Endpoint("a"), Endpoint("b"), each=a_rate)
    policy = p["a"]
    del p
    gc.collect()
    fails(policy)
    assert policy.snapshot().state == "open"


def test_a_reset_pool_keeps_its_last_endpoint():
    """After `reset` the breakers no longer asked their pool, so that statistics could eject every endpoint."""
    p = pool(None, Endpoint("a"), Endpoint("b"), each=a_rate, max_ejected=1.0)
    p.reset()
    fails(p["a"])
    p._table.look()
    fails(p["b"])
    assert (p["a"].snapshot().state, p["b"].snapshot().state) == ("open", "closed")


def test_a_removed_endpoint_s_policy_asks_no_pool():
    """A policy that is kept after its endpoint was removed opens by its own rules alone."""
    p = pool(None, Endpoint("a"), each=a_rate)
    policy = p["a"]
    fails(policy)
    assert policy.snapshot().state == "closed"  # the last endpoint
    p.remove("a")
    fails(policy)
    assert policy.snapshot().state == "open"


def test_a_reset_counts_each_call_once():
    """A policy that goes on after `reset` was counted once more for each reset."""
    p = pool(None, Endpoint("a"), Endpoint("b"), each=a_rate)
    for _ in range(10):
        p.call(lambda endpoint: None)
    for _ in range(3):
        p.reset()
        gc.collect()
    p._arrange()
    assert [stage.counters()["calls"] for stage in p.gates] == [10, 10]


def two_gates(endpoint):
    return pipeline(circuit_breaker(consecutive=3), bulkhead(5))


def a_pool(**options):
    return pool(None, Endpoint("a"), Endpoint("b"), **options)


def rules_that_know_it():
    """Its functions close over it."""
    p = None
    p = a_pool(each=lambda endpoint: p or two_gates(endpoint), failed_if=lambda value: p is None)
    p.call(lambda endpoint: 1)


def a_client_that_knows_it():
    """The client of its endpoints goes through it."""
    client = SimpleNamespace()
    client.pool = p = pool(None, Endpoint("a", use=client), Endpoint("b", use=client))
    client.seat = p._placed["a"].seat
    p.call(lambda endpoint: endpoint.use)


def a_function_in_its_pipeline():
    """A decorated function, which the pool keeps."""
    p = a_pool(each=two_gates)
    stack = pipeline(retry(on=OSError, attempts=3, backoff=0), p)

    @stack
    def work(*, endpoint):
        raise OSError("down")

    for _ in range(10):
        p.latest = suppressed(work)
    p.work = work


def endpoints_that_went():
    """Endpoints that were removed and reset, with calls in flight."""
    p = a_pool(each=two_gates)
    p.kept = [p["a"], p.acquire()]
    p.remove("a")
    p.reset()


def a_permit_of_its_own():
    """A permit that nobody has ended."""
    p = a_pool()
    p.permit = p.acquire()


def a_permit_of_its_pipeline():
    """The same of a pipeline around it."""
    p = a_pool(each=two_gates)
    p.permit = pipeline(bulkhead(3), p).acquire()


def a_call_that_waits():
    """A coroutine that has begun."""
    p = a_pool(each=two_gates)
    p.coroutine = pipeline(retry(on=OSError, attempts=3, backoff=0), timeout(9.0), p).acall(for_ever)

    async def begin():
        task = asyncio.ensure_future(p.coroutine)
        await asyncio.sleep(0)
        p.task = task

    loop = asyncio.new_event_loop()
    loop.run_until_complete(begin())
    loop.close()
    p.loop = loop


async def for_ever(*, endpoint):
    await asyncio.get_running_loop().create_future()


def suppressed(work):
    try:
        work()
    except (OSError, RejectedError) as error:
        return error


USES = [
    rules_that_know_it,
    a_client_that_knows_it,
    a_function_in_its_pipeline,
    endpoints_that_went,
    a_permit_of_its_own,
    a_permit_of_its_pipeline,
    a_call_that_waits,
]


def seats():
    gc.collect()
    return sum(type(one) is Seat for one in gc.get_objects())


@pytest.mark.filterwarnings("ignore:coroutine .* was never awaited", "ignore:.*was dropped")
@pytest.mark.parametrize("use", USES)
def test_a_dropped_pool_is_collected(use):
    """What a call held of an endpoint was hidden from the collector: a pool that had its own permit stayed for good."""
    use()
    before = seats()
    for _ in range(5):
        use()
    assert seats() <= before


def test_a_policy_that_each_keeps_is_counted_once():
    """An endpoint that was removed and added again had its old policy from `each`, whose calls counted twice."""
    kept = {}

    def each(endpoint):
        return kept.setdefault("policy", two_gates(endpoint))

    p = pool("counted", Endpoint("a"), each=each)
    for turn in range(4):
        for _ in range(10):
            p.call(lambda endpoint: None)
        p.remove("a")
        gc.collect()
        p.add(Endpoint("a"))
        gc.collect()
        p._arrange()
        made = 10 * (turn + 1)
        assert [stage.counters()["calls"] for stage in p.gates] == [made] * 4
    sheet = Book(None, Chooser(BUCKETS)).read()
    assert sheet.counters["calls", ("pool", "counted", "success")] == 40
    p.remove("a")
    kept.clear()
    gc.collect()
    p._arrange()
    assert [stage.counters()["calls"] for stage in p.gates] == [40] * 4
    assert [stage.left() for stage in p.gates] == [[]] * 4
