"""Several endpoints fail together, as a lost zone does: how often they are probed, and where retries go."""

from __future__ import annotations

import contextlib
from collections import Counter

import pytest

from resilio import CircuitOpenError, Endpoint, RetryBudget, circuit_breaker, pipeline, pool, priority, retry


class Service:
    """Endpoints that take 10 ms, some of which are down; it notes where calls go, and which of them fail."""

    def __init__(self, vt, down):
        self.down = set(down)
        self.calls = []
        self._vt = vt

    def work(self, endpoint):
        self._vt.advance(0.01)
        self.calls.append(endpoint.name)
        if endpoint.name in self.down:
            raise OSError("down")


def spent(stack, service, calls):
    """Make calls, and return the names of the endpoints that each was sent to."""
    routes = []
    for _ in range(calls):
        service.calls.clear()
        with contextlib.suppress(OSError, CircuitOpenError):
            stack.call(service.work)
        routes.append(tuple(service.calls))
    return routes


def breaker(endpoint):
    del endpoint
    return circuit_breaker(consecutive=2, open_for=0.2, max_open_for=0.2)


def retried(p):
    return pipeline(retry(on=OSError, attempts=2, backoff=0, budget=RetryBudget(cap=1e4, initial=1e4)), p)


def test_a_lost_zone_costs_a_probe_a_second_and_not_one_for_each_endpoint(vt):
    """Four dead endpoints that may be probed five times a second each were, at the cost of 20 failed calls a second."""
    service = Service(vt, "abcd")
    p = pool(None, *[Endpoint(name, level=0 if name in "abcd" else 1) for name in "abcdef"], each=breaker)
    spent(p, service, 200)
    probes = [route for route in spent(p, service, 1000) if set(route) & service.down]
    assert 1 <= len(probes) <= 11
    service.down.clear()
    routes = spent(p, service, 1000)
    assert set(routes[-800:]) == {("a",), ("b",), ("c",), ("d",)}


def test_the_others_follow_at_once_when_one_is_back(vt):
    """The first probe that succeeds ends the wait: four endpoints are back within a second and a half."""
    service = Service(vt, "abcd")
    p = pool(None, *[Endpoint(name, level=0 if name in "abcd" else 1) for name in "abcdef"], each=breaker)
    spent(p, service, 500)
    service.down.clear()
    names = Counter(route[0] for route in spent(p, service, 250)[150:])
    assert all(names[name] > 10 for name in "abcd")


def test_with_nothing_else_to_call_each_endpoint_is_probed_at_its_times(vt):
    """If all are out, no probe waits for another one."""
    service = Service(vt, "ab")
    p = pool(None, Endpoint("a"), Endpoint("b"), each=breaker)
    spent(p, service, 20)
    probes = 0
    for _ in range(300):
        vt.advance(0.01)
        probes += bool(spent(p, service, 1)[0])
    assert probes >= 2 * 3.0 / 0.3  # two endpoints in three seconds, with open times of 0.2 s and a call's 10 ms


def test_a_retry_probes_nothing(vt):
    """A call whose first attempt was the probe of a dead endpoint was a probe of the next one as well, and failed."""
    service = Service(vt, "abc")
    p = pool(None, *[Endpoint(name, level=0 if name in "abc" else 1) for name in "abcdef"], each=breaker)
    routes = spent(retried(p), service, 1500)[100:]
    probes = [route for route in routes if set(route) & service.down]
    assert probes
    assert all(len(route) == 2 and route[1] in "def" for route in probes)


def zones(vt, down):
    service = Service(vt, down)
    names = ("x1", "x2", "x3", "y1", "y2", "y3")
    return service, pool(None, *[Endpoint(name, zone=f"eu-1{name[0]}") for name in names], zone="eu-1x", each=breaker)


def test_a_retry_leaves_a_zone_that_is_lost(vt):
    """Our zone is a level of its own: retries went to its next dead endpoint until the breakers had opened."""
    service, p = zones(vt, ("x1", "x2", "x3"))
    routes = spent(retried(p), service, 200)
    both = [route for route in routes if len(route) == 2 and set(route) <= service.down]
    assert len(both) <= 2
    assert any(route[-1].startswith("y") for route in routes)


def test_a_retry_of_one_servers_failure_stays_in_the_zone(vt):
    """The two others of our zone are well, and nearer than those of another one."""
    service, p = zones(vt, ("x1",))
    routes = spent(retried(p), service, 300)
    assert any(len(route) == 2 for route in routes)
    assert not [route for route in routes if route[-1].startswith("y") and len(route) == 2]


def test_a_price_is_over_five_seconds_after_the_failure(vt):
    """An endpoint that failed once and was not ejected got no call for ten seconds, and its share later still."""
    service = Service(vt, "a")
    p = pool(None, *[Endpoint(name) for name in "abcd"], each=lambda e: circuit_breaker(consecutive=5))
    p._table._seed(3)
    service.down.clear()
    spent(p, service, 100)  # a price is of medians, which must be known
    service.down.add("a")
    while ("a",) not in spent(p, service, 1):
        pass
    service.down.clear()
    routes = spent(p, service, 900)
    assert ("a",) not in routes[:450]
    assert routes[550:].count(("a",)) == pytest.approx(350 / 4, rel=0.3)


@pytest.mark.parametrize("seed", range(1, 21))
def test_an_endpoint_that_hung_gets_a_call_at_low_load(seed, vt):
    """With two calls a second an endpoint that hung once waits 6.5 s at most: its price does not decay for minutes."""
    p = pool(None, Endpoint("a"), Endpoint("b"), each=lambda e: circuit_breaker(consecutive=5))
    p._table._seed(seed)
    service = Service(vt, "")

    def hang(endpoint):
        if endpoint.name != "a":
            return True
        vt.advance(10.0)
        raise TimeoutError

    while p.try_call(hang):
        vt.advance(0.5)
    hung = vt.now
    while spent(p, service, 1) != [("a",)]:
        vt.advance(0.5)
    assert 5.0 <= vt.now - hung <= 6.5


class Busy(Exception):
    """An answer that asks for a pause."""

    retry_after = 5.0


@pytest.mark.parametrize(("level", "held"), [("critical", True), ("standard", True), ("background", False)])
def test_a_pause_for_calls_that_may_be_shed_is_none_for_others(level, held, vt):
    """A region that shed its background calls lost the critical ones too: each answer held an endpoint for all."""
    p = pool(None, Endpoint("a", level=0), Endpoint("b", level=1))

    def shed(endpoint):
        raise Busy

    with priority(level), pytest.raises(Busy):
        p.call(shed)
    with priority("critical"):
        assert p.call(lambda endpoint: endpoint.name) == ("b" if held else "a")
