"""Endpoints that answer at once and serve nothing: they must not draw calls because they look fast."""

import asyncio
import random
from collections import Counter
from itertools import pairwise

import pytest

from resilio import (
    CircuitOpenError,
    Endpoint,
    Outcome,
    RetryBudget,
    circuit_breaker,
    pipeline,
    pool,
    priority,
    rate_limit,
    retry,
)
from resilio.errors import NoEndpointError

SERVED = 0.01
"""Seconds that a good endpoint takes; a bad one takes none."""


class Answer:
    """A response with a status."""

    def __init__(self, status, retry_after=None):
        self.status_code = status
        self.headers = {} if retry_after is None else {"Retry-After": str(retry_after)}


class StatusError(Exception):
    """The exception of a client that raises by status."""

    def __init__(self, status, retry_after=None):
        super().__init__(status)
        self.response = Answer(status, retry_after)


def raising(*args):
    def raised():
        raise StatusError(*args)

    return raised


def shut():
    """Call a client whose own breaker is open."""
    breaker = circuit_breaker()
    breaker.force_open()
    return breaker.call(Answer, 200)


def spent():
    """Call a client whose own limit is used up."""
    limit = rate_limit("1/day")
    limit.call(Answer, 200)
    return limit.call(Answer, 200)


def missing():
    raise KeyError("of the caller's")


BAD = {
    "429 for 2 s": lambda: Answer(429, 2),
    "429": lambda: Answer(429),
    "429 raised": raising(429, 2),
    "503 for 2 s": lambda: Answer(503, 2),
    "404": lambda: Answer(404),
    "404 raised": raising(404),
    "open inside": shut,
    "spent inside": spent,
    "ignored": missing,
}


class Service:
    """Endpoints a, b, c; the first one is bad."""

    def __init__(self, vt, bad):
        self.vt, self.bad, self.calls = vt, bad, Counter()

    def __call__(self, endpoint):
        self.calls[endpoint.name] += 1
        if endpoint.name == "a":
            return self.bad()
        self.vt.advance(SERVED)
        return Answer(200)


def ask(guard, service, times):
    """Return the number of calls that were served."""
    served = 0
    for _ in range(times):
        result = guard.try_call(service)
        served += result.ok and result.value.status_code == 200
    return served


def options(on, bad):
    return {"on": on, "ignore": KeyError} if bad == "ignored" else {"on": on}


@pytest.mark.parametrize("on", ["http", "model"])
@pytest.mark.parametrize("bad", BAD)
def test_an_endpoint_that_serves_nothing_gets_no_more_than_its_share(bad, on, vt):
    """Two of two looked fast and drew calls: a 404 got 299 of 300, a 429 with Retry-After up to 98 of 100."""
    for names, times in (("ab", 100), ("abc", 1000)):
        service = Service(vt, BAD[bad])
        ask(pool(None, *map(Endpoint, names), **options(on, bad)), service, times)
        assert service.calls["a"] <= times * (1 / len(names) + 0.05)


@pytest.mark.parametrize("on", ["http", "model"])
@pytest.mark.parametrize("bad", [bad for bad in BAD if bad.startswith("429")])
def test_a_retry_around_the_pool_is_served_elsewhere(bad, on, vt):
    """Of 1,000 calls 675 went to the limited one of three, and 1,680 requests were made."""
    service = Service(vt, BAD[bad])
    guard = pipeline(retry(on=on, budget=RetryBudget(cap=50)), pool(None, *map(Endpoint, "abc"), on=on))
    assert ask(guard, service, 1000) >= 990
    assert service.calls["a"] <= 20


@pytest.mark.parametrize("bad", ["404", "429", "open inside"])
def test_many_callers_at_once_do_not_flock_there_either(bad, vt):
    """With 20 callers the bad endpoint has nothing in flight, which looks idle."""
    calls = Counter()

    async def serve(endpoint):
        calls[endpoint.name] += 1
        if endpoint.name == "a":
            await asyncio.sleep(SERVED / 20)
            return BAD[bad]()
        await asyncio.sleep(SERVED)
        return Answer(200)

    async def caller(p):
        for _ in range(50):
            await p.try_acall(serve)

    async def main():
        p = pool(None, *map(Endpoint, "abc"), on="http")
        await asyncio.gather(*[caller(p) for _ in range(20)])

    vt.run(main)
    assert calls["a"] <= 1000 * (1 / 3 + 0.05)


def test_a_refusal_holds_for_its_time(vt):
    """Until the time that the answer says, no call goes there; then one finds it well, and the others follow."""
    service = Service(vt, lambda: Answer(429, 2))
    p = pool(None, Endpoint("a"), Endpoint("b"), on="http", balance="order")
    ask(p, service, 100)
    assert service.calls["a"] == 1
    vt.advance(2.0)
    service.bad = lambda: Answer(200)
    ask(p, service, 10)
    assert service.calls["a"] == 11
    assert p.snapshot().refused == p.snapshot().ignored == 1


def test_refusals_in_a_row_hold_longer_and_longer(vt):
    """Without a time: 0.1 s, doubled from one to the next up to 5 s; a success begins anew."""
    refused = []

    def service(endpoint):
        if endpoint.name == "a":
            refused.append(vt.now)
            if len(refused) == 9:
                return Answer(200)
            return Answer(429)
        vt.advance(SERVED)
        return Answer(200)

    p = pool(None, Endpoint("a"), Endpoint("b"), on="http", balance="order")
    while len(refused) < 11:
        p.call(service)
    waits = [after - before for before, after in pairwise(refused)]
    assert waits[:8] == pytest.approx([0.1, 0.2, 0.4, 0.8, 1.6, 3.2, 5.0, 5.0], abs=2 * SERVED)
    assert waits[9] == pytest.approx(0.1, abs=2 * SERVED)


def test_if_all_refuse_calls_are_rejected_until_the_first_is_back(vt):
    """Each endpoint has said when to come back: no call is made, and the rejection says when one would be."""
    p = pool(None, Endpoint("a"), Endpoint("b"), on="http")
    asked = {"a": 2, "b": 4}
    for _ in "ab":
        p.call(lambda endpoint: Answer(429, asked[endpoint.name]))
    with pytest.raises(NoEndpointError) as caught:
        p.call(lambda endpoint: Answer(200))
    assert caught.value.retry_after == pytest.approx(2.0)


def test_a_call_that_may_be_shed_holds_nothing(vt):
    """A server that sheds it still serves more important ones; to its like the endpoint costs as after a failure."""
    service = Service(vt, lambda: Answer(429, 60))
    p = pool(None, Endpoint("a"), Endpoint("b"), on="http")
    ask(p, service, 10)
    p.reset()
    with priority("sheddable"):
        ask(p, service, 100)
    assert service.calls["a"] <= 60
    service.bad = lambda: Answer(200)
    vt.advance(20.0)
    before = service.calls["a"]
    ask(p, service, 20)
    assert service.calls["a"] > before


def test_endpoints_that_all_answer_404_share_the_calls(vt):
    """A share of 4xx that the others have too is no sign of trouble."""
    calls, chance = Counter(), random.Random(1)
    p = pool(None, *map(Endpoint, "abc"), on="http")

    def serve(endpoint):
        calls[endpoint.name] += 1
        vt.advance(SERVED)
        return Answer(404 if chance.random() < 0.5 else 200)

    for _ in range(900):
        p.call(serve)
    assert min(calls.values()) >= 200


def test_a_permit_can_be_refused_by_hand(vt):
    """`permit.refused(error)` is the verdict on a server that is up and did nothing."""
    p = pool(None, Endpoint("a"), on="http")
    p.try_acquire().refused(StatusError(429, 3))
    assert (p.snapshot().refused, p.snapshot().failures) == (1, 0)
    with pytest.raises(NoEndpointError) as caught:
        p.call(lambda endpoint: Answer(200))
    assert caught.value.retry_after == pytest.approx(3.0)


def test_a_predicate_may_say_refused(vt):
    """A rule of one's own gives the verdict too: the breaker learns nothing, the endpoint is held."""
    p = pool(None, Endpoint("a"), Endpoint("b"), on=lambda error: Outcome.REFUSED)

    def serve(endpoint):
        raise OSError

    for _ in "ab":
        with pytest.raises(OSError):
            p.call(serve)
    with pytest.raises(NoEndpointError):
        p.call(serve)
    assert p.snapshot().refused == 2
    with pytest.raises(CircuitOpenError):
        shut()
