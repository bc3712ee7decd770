"""The law of a pool: which level, which endpoint, what a failure costs, who is ejected and how it comes back."""

from __future__ import annotations

import contextlib

import pytest
from hypothesis import given
from hypothesis import strategies as st

from resilio import Endpoint, RetryBudget, circuit_breaker, events, pipeline, pool, retry
from resilio.errors import CircuitOpenError, NoEndpointError


def levels_of(*percent, **options):
    """Return a pool whose levels have these shares of their weight well, and one part of each level ejected."""
    endpoints = []
    for level, well in enumerate(percent):
        parts = {f"{level}-well": well, f"{level}-out": 100 - well}
        endpoints += [Endpoint(name, level=level, weight=weight) for name, weight in parts.items() if weight]
    made = pool(None, *endpoints, **options)
    for endpoint in endpoints:
        if endpoint.name.endswith("out"):
            made[endpoint.name].force_open()
    return made


def names_of(p, calls):
    return [p.call(lambda endpoint: endpoint.name) for _ in range(calls)]


# ---- levels: the tables that Envoy publishes under "Priority levels"


@pytest.mark.parametrize(
    ("well", "loads"),
    [
        ((100, 100), [100, 0]),
        ((72, 100), [100, 0]),
        ((71, 100), [99, 1]),
        ((50, 100), [70, 30]),
        ((25, 100), [35, 65]),
        ((0, 100), [0, 100]),
        ((100, 100, 100), [100, 0, 0]),
        ((72, 72, 100), [100, 0, 0]),
        ((71, 71, 100), [99, 1, 0]),
        ((50, 50, 100), [70, 30, 0]),
        ((25, 100, 100), [35, 65, 0]),
        ((25, 25, 100), [35, 35, 30]),
        ((25, 25, 20), [36, 36, 28]),
        ((0, 0, 0), [0, 0, 0]),
    ],
)
def test_levels_share_the_calls_as_envoy_publishes(well, loads, vt):
    """What is ejected in a level, beyond what overprovisioning covers, goes to the next one."""
    p = levels_of(*well)
    for _ in range(200):  # each ejected endpoint is found out by the first call that it rejects
        try:
            p.call(lambda endpoint: endpoint)
        except CircuitOpenError:
            assert sum(loads) == 0
    assert p._table.levels() == loads


@given(st.lists(st.integers(0, 100), min_size=1, max_size=6))
def test_the_levels_take_all_calls_or_none_is_well(well):
    """Whatever is ejected, the shares sum up to 100 %, and a level without anything well has none."""
    p = levels_of(*well)
    p._table.look()
    loads = p._table.levels()
    assert sum(loads) == (100 if any(well) else 0)
    assert all(load == 0 for load, share in zip(loads, well, strict=True) if share == 0)


def test_calls_are_shared_by_levels_exactly(vt):
    """Error diffusion: of any 100 calls in a row the second level gets 30, give or take one."""
    p = levels_of(50, 100)
    names_of(p, 200)
    names = names_of(p, 500)
    for start in range(400):
        assert 29 <= sum(name.startswith("1") for name in names[start : start + 100]) <= 31


# ---- picks


def chi_square(names, weights):
    total = sum(weights.values())
    expected = {name: len(names) * weight / total for name, weight in weights.items()}
    return sum((names.count(name) - mean) ** 2 / mean for name, mean in expected.items())


def test_candidates_are_drawn_by_weight(vt):
    """A candidate is drawn by weight, among all endpoints of a level and among some: chi square at 0.1 %."""
    weights = {"a": 1.0, "b": 2.0, "c": 5.0}
    p = pool(None, *[Endpoint(name, weight=weight) for name, weight in weights.items()])
    p._table._seed(1)
    draws = [p._table._draw(0b111) for _ in range(40_000)]
    assert chi_square(["abc"[place] for place in draws], weights) < 13.8  # 2 degrees of freedom, 0.1 %
    draws = [p._table._draw(0b101) for _ in range(40_000)]
    assert chi_square(["abc"[place] for place in draws], {"a": 1.0, "c": 5.0}) < 10.8  # 1 degree


@pytest.mark.parametrize("n", [2, 5, 12, 64])
def test_equal_endpoints_are_picked_equally(n, vt):
    """Endpoints that are equally fast and idle get equal shares: chi square of 200 picks each, 0.1 %."""
    p = pool(None, *[Endpoint(f"e{at:02}") for at in range(n)], balance="inflight")
    p._table._seed(7)
    names = names_of(p, 200 * n)
    dof = n - 1
    assert chi_square(names, {endpoint.name: 1.0 for endpoint in p.endpoints}) < dof + 3.1 * (2 * dof) ** 0.5 + 6.4


def test_order_takes_the_first_that_is_well(vt):
    """`balance="order"`: always the first endpoint that takes calls."""
    p = pool(None, Endpoint("a"), Endpoint("b"), Endpoint("c"), balance="order")
    assert set(names_of(p, 20)) == {"a"}
    p["a"].force_open()
    p.drain("b")
    assert set(names_of(p, 20)) == {"c"}


def test_a_slow_endpoint_gets_few_calls(vt):
    """Of two candidates the faster one is picked: an endpoint ten times as slow gets next to nothing."""
    p = pool(None, *[Endpoint(name) for name in "abcdefgh"])

    def work(endpoint):
        vt.advance(0.1 if endpoint.name == "a" else 0.01)
        return endpoint.name

    names = [p.call(work) for _ in range(400)]
    assert names.count("a") <= 8


def test_a_failure_costs_thirty_medians(vt):
    """An endpoint that fails fast does not look fast: its failure counts as 30 medians, until its time is over."""
    p = pool(
        None, *[Endpoint(name) for name in "abcd"], each=lambda e: circuit_breaker(consecutive=1000, failure_rate=None)
    )

    def work(endpoint):
        if endpoint.name == "a":
            vt.advance(0.001)
            raise OSError("down")
        vt.advance(0.01)

    failed = 0
    for _ in range(300):
        try:
            p.call(work)
        except OSError:
            failed += 1
            if failed == 1 and p._named("b").seat.latency_good:
                assert p._named("a").seat.latency_now == pytest.approx(0.3, rel=0.01)
    assert 1 <= failed <= 3  # 3.1 s: the price has decayed to 11 medians


# ---- ejection and return


def test_statistics_eject_at_most_half_of_the_weight(vt):
    """All endpoints fail half of their calls: breakers that open by rate eject at most half, and never the last one."""
    p = pool(
        None,
        *[Endpoint(name) for name in "abcd"],
        balance="inflight",
        each=lambda e: circuit_breaker(failure_rate=0.4, consecutive=None, min_calls=10, open_for="10s"),
    )
    turns = dict.fromkeys("abcd", 0)

    def work(endpoint):
        turns[endpoint.name] += 1
        if turns[endpoint.name] % 2:
            raise OSError("half")

    for _ in range(400):
        with contextlib.suppress(OSError):
            p.call(work)
    states = [p[name].state for name in "abcd"]
    assert states.count("open") == 2
    assert states.count("closed") == 2


def test_a_breaker_that_is_open_because_nothing_works_is_obeyed(vt):
    """H4: when all endpoints fail all calls, all are ejected, and only probes go out: at most one an open time each."""
    p = pool(None, *[Endpoint(name) for name in "abc"], each=lambda e: circuit_breaker(consecutive=3, open_for=1.0))
    sent = []

    def work(endpoint):
        sent.append(endpoint.name)
        raise OSError("down")

    def hammer(calls):
        for _ in range(calls):
            with pytest.raises((OSError, CircuitOpenError)):
                p.call(work)

    hammer(50)
    assert {p[name].state for name in "abc"} == {"open"}
    sent.clear()
    for _ in range(10):
        hammer(20)
        vt.advance(0.1)
    assert len(sent) <= 2 * 3  # in one second each had at most one open time end, and its jitter


def test_ejection_and_return_are_events(vt):
    """The pool says when an endpoint is ejected, and when it is back."""
    p = pool("events", Endpoint("a"), Endpoint("b"))
    seen = []
    end = events.subscribe(seen.append, kinds=(events.StateChanged,))
    p["a"].force_open(5.0)
    for _ in range(200):
        p.call(lambda endpoint: vt.advance(0.1))
    end()
    changes = [(e.key, e.old, e.new) for e in seen if e.kind == "pool"]
    assert changes == [("a", "well", "ejected"), ("a", "ejected", "well")]


def test_of_two_gates_that_let_nothing_pass_the_later_one_counts(vt):
    """An endpoint with two breakers is left alone until both admit a call: one before would be rejected there."""
    slow, quick = circuit_breaker(), circuit_breaker()
    both = {"a": pipeline(slow, quick), "b": pipeline(circuit_breaker(), circuit_breaker())}
    p = pool(None, Endpoint("a"), Endpoint("b"), each=lambda e: both[e.name])
    slow.force_open(30.0)
    quick.force_open(2.0)
    for _ in range(25):
        assert names_of(p, 4) == ["b"] * 4
        vt.advance(1.0)
    assert slow.snapshot().rejected <= 1  # by which the pool learns of it
    vt.advance(10.0)
    assert "a" in names_of(p, 100)


def test_an_endpoint_that_is_back_gets_its_share_at_once(vt):
    """The price of old failures is dropped at the first success after an ejection."""
    p = pool(None, *[Endpoint(name) for name in "abcd"], each=lambda e: circuit_breaker(consecutive=2, open_for=1.0))
    down = True

    def work(endpoint):
        vt.advance(0.01)
        if down and endpoint.name == "a":
            raise OSError("down")
        return endpoint.name

    stack = pipeline(retry(on=OSError, backoff=0, attempts=2, budget=RetryBudget(cap=1000, initial=1000)), p)
    for _ in range(1000):
        assert stack.call(lambda *, endpoint: work(endpoint)) != "a"
    down = False
    back = next(at for at in range(2000) if work_name(stack, work) == "a")
    assert back * 0.01 <= 6.5
    assert p._named("a").seat.latency_now == pytest.approx(0.01, rel=0.2)


def work_name(stack, work):
    return stack.call(lambda *, endpoint: work(endpoint))


def test_a_level_that_is_out_is_probed(vt):
    """A level whose calls all go elsewhere gets a probe whenever an open time of its endpoints ends, and comes back."""
    p = pool(
        None,
        Endpoint("a", level=0),
        Endpoint("b", level=1),
        each=lambda e: circuit_breaker(consecutive=2, open_for=1.0),
    )
    down = True

    def work(endpoint):
        vt.advance(0.01)
        if down and endpoint.name == "a":
            raise OSError("down")
        return endpoint.name

    for _ in range(500):
        with contextlib.suppress(OSError):
            p.call(work)
    assert p[("a")].state == "open"
    down = False
    names = [p.call(work) for _ in range(600)]
    assert names.count("a") > 200
    assert names[-100:] == ["a"] * 100


def test_without_spill_a_call_stays_in_its_level(vt):
    """`spill=False`: a quota that is used up rejects, where `spill=True` goes to the next level."""
    for spill in (True, False):
        p = pool(None, Endpoint("a", level=0), Endpoint("b", level=1), spill=spill)
        p["a"].force_open()
        if spill:
            assert p.call(lambda endpoint: endpoint.name) == "b"
        else:
            with pytest.raises(CircuitOpenError):
                p.call(lambda endpoint: endpoint.name)
            assert p.call(lambda endpoint: endpoint.name) == "b"  # by now the level is known to be out


def test_retries_and_hedges_prefer_another_zone(vt):
    """A second attempt goes to another zone than the first, if its level has one."""
    endpoints = [Endpoint(f"{zone}{at}", zone=zone, level=0) for zone in ("x", "y") for at in range(3)]
    for _ in range(20):
        stack = pipeline(
            retry(on=OSError, attempts=2, backoff=0, budget=RetryBudget(cap=9, initial=9)), pool(None, *endpoints)
        )
        zones: list[str] = []

        def work(*, endpoint, zones=zones):
            zones.append(endpoint.zone)
            raise OSError("down")

        with pytest.raises(OSError, match="down"):
            stack.call(work)
        assert sorted(zones) == ["x", "y"]


def test_an_endpoint_that_joins_warms_up(vt):
    """`warm_up`: a new endpoint begins with a tenth of its share, and gets all of it when the time is over."""
    p = pool(None, *[Endpoint(f"e{at}") for at in range(9)], balance="inflight", warm_up=10.0)
    p._table._seed(3)
    p.add(Endpoint("new"))
    cold = names_of(p, 2000).count("new")
    vt.advance(10.0)
    warm = names_of(p, 2000).count("new")
    assert cold < 60
    assert 140 < warm < 260


def test_retry_after_holds_an_endpoint(vt):
    """An endpoint that asks for a pause gets no calls meanwhile; if all do, calls are rejected until the first ends."""

    class BusyError(Exception):
        retry_after = 5.0

    p = pool(None, Endpoint("a"), Endpoint("b"), balance="order")

    def busy(endpoint):
        raise BusyError

    with pytest.raises(BusyError):
        p.call(busy)
    assert set(names_of(p, 20)) == {"b"}
    vt.advance(2.0)
    with pytest.raises(BusyError):
        p.call(busy)
    with pytest.raises(NoEndpointError) as caught:
        p.call(lambda endpoint: endpoint)
    assert (caught.value.reason, caught.value.retry_after) == ("held", pytest.approx(3.0))
    vt.advance(3.0)
    assert names_of(p, 3) == ["a", "a", "a"]
    assert p._named("a").seat.counters()["rejected"] == 0
