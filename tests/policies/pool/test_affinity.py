"""Calls of one key go to one endpoint: whose keys move, how much one endpoint may have, and where else they go."""

from __future__ import annotations

import asyncio
import logging
import subprocess
import sys
from collections import Counter
from contextlib import ExitStack

import pytest

from resilio import Endpoint, RejectedError, circuit_breaker, hedge, pipeline, pool, retry, timeout
from resilio._policies.pool.face import LOAD

KEYS = [f"conversation {number}" for number in range(2000)]


def by_user(count, **options):
    """Return a pool with endpoints "a", "b", ... by the parameter "user"."""
    return pool(None, *(Endpoint(name) for name in "abcdefgh"[:count]), affinity="user", **options)


def name_of(endpoint, user):
    """Return where a call has gone."""
    return endpoint.name


def homes(p, keys=KEYS):
    """Return the endpoint of each key."""
    return {key: p.call(name_of, key) for key in keys}


# ---- which endpoint


@pytest.mark.parametrize("count", [2, 4, 7])
def test_one_that_comes_takes_its_share_of_the_keys_and_no_other_key_moves(count):
    """About one key in n moves, all to the endpoint that is new; and they come back when it goes."""
    p = by_user(count)
    before = homes(p)
    assert homes(p) == before
    assert min(Counter(before.values()).values()) > 0.8 * len(KEYS) / count
    p.add(Endpoint("new"))
    after = homes(p)
    moved = [key for key in KEYS if after[key] != before[key]]
    assert {after[key] for key in moved} == {"new"}
    assert 0.8 < len(moved) * (count + 1) / len(KEYS) < 1.2
    p.remove("new")
    assert homes(p) == before


def test_weights_share_the_keys_and_a_change_moves_few():
    """An endpoint with three times the weight has three times the keys; the others lose them to it alone."""
    p = by_user(4)
    before = homes(p)
    p.weigh("a", 3.0)
    after = homes(p)
    assert 0.45 < Counter(after.values())["a"] / len(KEYS) < 0.55
    assert {after[key] for key in KEYS if after[key] != before[key]} == {"a"}


def test_all_processes_send_a_key_to_the_same_endpoint():
    """Workers share the servers' caches: neither hash randomisation nor the order of endpoints counts."""
    keys = ["text", 7, ("eu", 7), b"bytes", 0.5]
    code = (
        "from resilio import Endpoint, pool\n"
        "p = pool(None, *(Endpoint(name) for name in 'dcba'), affinity=lambda user: user)\n"
        f"print(*(p.call(lambda endpoint, user: endpoint.name, key) for key in {keys!r}))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.split() == [by_user(4).call(name_of, key) for key in keys]


# ---- how the key is found


def test_the_key_is_found_in_every_form_of_call():
    """By position, by name, as a default, in functions, coroutines, permits and blocks, and by a function."""
    p = by_user(4)
    home = homes(p, KEYS[:20])

    @p
    def here(text, user="conversation 3", *, endpoint=Endpoint.CHOSEN):
        return endpoint.name

    @p
    async def later(user, *, endpoint=Endpoint.CHOSEN):
        return endpoint.name

    assert here("hello") == home[KEYS[3]]
    for key in KEYS[:20]:
        assert p.call(name_of, user=key) == home[key]
        assert here("hello", key) == here("hello", user=key) == home[key]
        assert asyncio.run(later(key)) == home[key]
        with p.pick(key) as endpoint:
            assert endpoint.name == home[key]
        with p.pick(user=key) as endpoint:
            assert endpoint.name == home[key]
        by_function = by_user(4)
        by_function.reconfigure(affinity=lambda text, user: user)
        assert by_function.call(lambda endpoint, text, user: endpoint.name, "hello", key) == home[key]


def test_a_function_without_the_parameter_is_rejected_when_it_is_guarded():
    """The message names the option and the parameters that there are."""
    with pytest.raises(TypeError, match=r"affinity='user': .* has no such parameter; it has: text"):
        by_user(2)(lambda text: text)


def test_calls_without_a_key_go_to_any_endpoint(caplog):
    """None is no key. A function that raises is logged once; no call fails because of it."""
    p = pool(None, *(Endpoint(name) for name in "abcd"), affinity=lambda user: user and 1 / 0)
    assert len({p.call(name_of, None) for _ in range(200)}) >= 2
    with caplog.at_level(logging.WARNING, logger="resilio"):
        assert len({p.call(name_of, "a") for _ in range(200)}) >= 2
    assert len([one for one in caplog.records if "affinity: no key" in one.getMessage()]) == 1
    assert p.snapshot().with_key == 0


# ---- the bound of the load


def held(p, keys):
    """Return a stack of permits, one for each key, and how many each endpoint has."""
    stack, found = ExitStack(), Counter()
    for key in keys:
        found[stack.enter_context(p.pick(key)).name] += 1
        total = sum(found.values())
        yield stack, found, total


def test_no_endpoint_gets_more_than_its_bound_of_the_load():
    """All calls have one key: they fill the endpoints in the order of the key, each to 1.25 means."""
    p = by_user(4)
    p.weigh("a", 2.0)
    for stack, found, total in held(p, ["one"] * 100):
        for name, count in found.items():
            share = (2.0 if name == "a" else 1.0) / 5.0
            assert count <= LOAD * share * total + 1
        last = stack
    last.close()
    assert max(found.values()) >= LOAD * 100 / 5


def test_most_calls_are_at_home_while_keys_are_many():
    """Of 200 calls in flight with keys of their own nine in ten are where their key belongs, and it is counted."""
    p = by_user(4)
    home = homes(p, KEYS[:200])
    before = p.snapshot()
    with ExitStack() as stack:
        at = {key: stack.enter_context(p.pick(key)).name for key in KEYS[:200]}
    right = sum(at[key] == home[key] for key in at)
    after = p.snapshot()
    assert right >= 180
    assert (after.with_key - before.with_key, after.at_home - before.at_home) == (200, right)
    assert "of 400 calls" in str(pipeline(p, timeout(1.0)).explain()).replace("\n      ", " ")


# ---- elsewhere


@pytest.mark.parametrize("out", ["drained", "ejected", "held", "rejecting"])
def test_keys_of_an_endpoint_that_is_out_go_to_the_next_in_their_order_and_come_back(out, vt):
    """They are spread over the others, and no other key moves."""
    p = by_user(4, each=lambda _: circuit_breaker(consecutive=5, open_for=1.0))
    before = homes(p, KEYS[:400])
    if out == "drained":
        p.drain("b")
    elif out == "held":
        p._placed["b"].seat.hold(1.0)
    else:
        p["b"].force_open()
        if out == "ejected":
            p._table.look()
    during = homes(p, KEYS[:400])
    moved = {key for key in before if before[key] != during[key]}
    assert moved == {key for key in before if before[key] == "b"}
    assert {during[key] for key in moved} == {"a", "c", "d"}
    if out == "drained":
        p.undrain("b")
    elif out != "held":
        p["b"].reset()
        p._table.look()
    vt.advance(10.0)
    homes(p, KEYS[:400])  # the first one is the probe
    assert homes(p, KEYS[:400]) == before


def test_a_retry_goes_to_the_next_in_the_order(vt):
    """Not to the endpoint that has failed; and each further call begins at home again."""
    p = by_user(4)
    tried = []

    def fail(endpoint, user):
        tried.append(endpoint.name)
        raise OSError(endpoint.name)

    stack = pipeline(retry(on=OSError, attempts=4, backoff=0.0, budget=None), p)
    home = p.call(name_of, "one")

    @stack
    def call(user, *, endpoint=Endpoint.CHOSEN):
        fail(endpoint, user)

    for _ in range(2):
        tried.clear()
        with pytest.raises(OSError, match=r"^[abcd]"):
            call("one")
        assert tried[0] == home
        assert sorted(tried) == ["a", "b", "c", "d"]
    for name in tried[:3]:
        p.drain(name)
    assert p.call(name_of, "one") == tried[3]


def test_levels_come_before_keys():
    """A key has an endpoint in each level; the next level is not used while the first is well."""
    p = pool(None, Endpoint("a"), Endpoint("b"), Endpoint("far", level=1), affinity="user")
    assert set(homes(p).values()) == {"a", "b"}
    p.drain("a")
    p.drain("b")
    assert set(homes(p, KEYS[:50]).values()) == {"far"}
    p.drain("far")
    with pytest.raises(RejectedError):
        p.call(name_of, "one")


def test_hedges_go_to_another_endpoint_than_their_primary(vt):
    """The next one in the order of the key."""
    p = by_user(3)
    at = []
    stack = pipeline(hedge(idempotent=True, after=0.01, max_extra=1.0), p)

    @stack
    async def call(user, *, endpoint=Endpoint.CHOSEN):
        at.append(endpoint.name)
        await asyncio.sleep(1.0)

    async def main():
        await call("one")

    vt.run(main, backend="asyncio")
    assert at[0] == homes(p, ["one"])["one"]
    assert len(set(at)) == len(at)
