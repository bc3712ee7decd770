"""Failures that all endpoints share eject at most `max_ejected` of them; an endpoint that is down goes at once."""

from __future__ import annotations

from random import Random

import pytest

from resilio import Endpoint, RejectedError, circuit_breaker, pool

NAMES = "abcdefghij"


def calls_to(vt, names, failing, seed, calls=2500):
    """Yield (endpoint, answered, rejected) of each call to a pool; *failing*: the share of failures, by endpoint."""
    random, called = Random(seed), []
    p = pool(None, *map(Endpoint, names))
    p._table._seed(seed)

    def work(endpoint):
        called.append(endpoint.name)
        vt.advance(0.002)
        if random.random() < failing(endpoint.name):
            raise ConnectionError(endpoint.name)

    for _ in range(calls):
        called.clear()
        answer = p.try_call(work)
        yield (called or [None])[0], bool(answer), isinstance(answer.error, RejectedError), p
        vt.advance(0.01)


@pytest.mark.real(1.5)
@pytest.mark.parametrize("well", [5.0, 0.0])
@pytest.mark.parametrize(("count", "rate"), [(2, 0.6), (3, 0.5), (6, 0.6), (10, 0.7)])
def test_failures_that_all_endpoints_share_reject_no_call(count, rate, well, vt):
    """
    Rows of five at all endpoints are chance where most calls fail everywhere.

    Three endpoints that failed half of the calls answered .24 of them and rejected .53, ten at 70 % answered .07.
    """
    for seed in range(1, 6):
        after = vt.now + well
        ends = list(calls_to(vt, NAMES[:count], lambda _, t=after: 0.0 if vt.now < t else rate, seed, 1200))
        shared = ends[450 if well else 0 :]
        assert sum(rejected for _, _, rejected, _ in shared) <= 0.01 * len(shared)
        assert sum(answered for _, answered, _, _ in shared) >= 0.98 * (1 - rate) * len(shared) - 40  # 2 sigma


@pytest.mark.real(3.0)
@pytest.mark.parametrize("down", ["c", "bc"], ids=["one of three", "two of three"])
@pytest.mark.parametrize("well", [0, 1000])
def test_an_endpoint_that_is_down_is_ejected_by_its_fifth_failure(down, well, vt):
    """Whether the others are within the bound or beyond it: they work, so its row is no chance."""
    for seed in range(1, 6):
        after, failed = vt.now + well * 0.012, dict.fromkeys(down, 0)
        for name, _, _, p in calls_to(vt, "abc", lambda one, t=after: one in down and vt.now >= t, seed, well + 4000):
            out = {one for one in down if p[one].snapshot().state != "closed"}
            if name in failed and vt.now > after and name not in out:
                failed[name] += 1
            if out == set(down):
                break
        assert out == set(down)
        assert set(failed.values()) == {4}


@pytest.mark.parametrize("well", [0, 1000])
def test_endpoints_that_all_fail_are_ejected_within_thirty_calls(well, vt):
    """A total outage opens all breakers: nothing works, and 27 failures in a row are no chance."""
    after, called = vt.now + well * 0.012, 0
    for name, _, rejected, _ in calls_to(vt, "abc", lambda _: vt.now >= after, 1, well + 60):
        called += name is not None and vt.now > after
        if rejected:
            break
    assert rejected
    assert called <= 30


@pytest.mark.real(1.0)
def test_what_succeeds_now_and_then_is_not_dead(vt):
    """One success in ten at all endpoints: the rows of all get long, and the usual length of them is the measure."""
    ends = list(calls_to(vt, "abc", lambda _: 0.7 if vt.now < 5.0 else 0.9, 1, 3000))
    assert not any(rejected for _, _, rejected, _ in ends)


def test_the_sole_endpoint_is_its_breakers_alone(vt):
    """Where the others are drained or gone, a row opens the breaker as it does without a pool."""
    p = pool(None, Endpoint("a"), Endpoint("b"), each=lambda _: circuit_breaker(consecutive=2))
    p.drain("b")
    for _ in range(2):
        p.try_call(lambda _: 1 / 0)
    assert p.snapshot()["a"].state == "ejected"
