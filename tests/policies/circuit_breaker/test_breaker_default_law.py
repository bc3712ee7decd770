"""The breaker as it comes opens where next to nothing works; a part that fails takes nothing from the others."""

from __future__ import annotations

import pickle
import random

import attrs
import pytest

from resilio import circuit_breaker, configure, pipeline
from resilio._policies.circuit_breaker.policy import CircuitBreakerConfig

RATE = 100.0


def send(vt, breaker, failing, calls, draw, rate=RATE):
    """Make calls one after the other of which a share fails; return how many were rejected, and how many failed."""
    rejected = failed = 0
    for _ in range(calls):
        vt.advance(1 / rate)
        permit = breaker.try_acquire()
        if not permit.admitted:
            rejected += 1
            continue
        bad = draw.random() < failing
        failed += bad
        permit.failure() if bad else permit.success()
    return rejected, failed


@pytest.mark.parametrize("failing", [0.4, 0.5, 0.6, 0.75])
@pytest.mark.parametrize("seed", range(5))
def test_what_fails_in_part_is_not_rejected(vt, failing, seed):
    """With half of the replicas down it opened at 50 %, and rejected 97 of 100 calls; half would have worked."""
    breaker, draw = circuit_breaker(), random.Random(seed)
    send(vt, breaker, 0.0, 300, draw)
    rejected, _ = send(vt, breaker, failing, 6000, draw)
    assert rejected <= (0.02 if failing <= 0.6 else 0.1) * 6000


@pytest.mark.parametrize("broken", [0.4, 0.55])
@pytest.mark.parametrize("seed", range(5))
def test_tenants_that_are_well_are_served_beside_one_that_is_broken(vt, broken, seed):
    """One breaker for many tenants: where 55 % of the calls were a broken tenant's, the others got .02 of theirs."""
    breaker, draw = circuit_breaker(), random.Random(100 + seed)
    rejected, _ = send(vt, breaker, broken, 6000, draw)
    assert rejected <= 0.02 * 6000


@pytest.mark.parametrize("before", [0, 1, 300])
def test_a_total_failure_after_health_opens_it_at_the_tenth_call(vt, before):
    """What was true of ten failures in a row stays true where all was well, and of a new breaker."""
    breaker, draw = circuit_breaker(), random.Random(1)
    send(vt, breaker, 0.0, before, draw)
    assert send(vt, breaker, 1.0, 50, draw)[1] <= 12  # ten, and a probe or two
    assert breaker.state == "open"
    assert breaker.snapshot().consecutive == 10


def test_after_many_failures_a_row_has_to_be_longer(vt):
    """Ten failures in a row are no news where half of the calls fail anyway; twenty are."""
    breaker, draw = circuit_breaker(), random.Random(4)
    send(vt, breaker, 0.5, 1000, draw)
    breaker.try_acquire().success()
    send(vt, breaker, 1.0, 15, draw)
    assert breaker.state == "closed"
    send(vt, breaker, 1.0, 15, draw)
    assert breaker.state == "open"


def test_where_one_in_twenty_succeeds_it_is_open(vt):
    """Scattered successes kept no row, and hid that next to nothing works: the window is sure of it after a while."""
    breaker, draw = circuit_breaker(), random.Random(1)
    send(vt, breaker, 0.75, 200, draw)
    number = 0
    while breaker.state == "closed":
        number += 1
        permit = breaker.try_acquire()
        permit.failure() if number % 20 else permit.success()
    assert 20 < number <= 220


def test_a_rate_that_is_likely_but_not_sure_does_not_open(vt):
    """18 of the first 20 calls fail: by chance, four in five may fail, and a fifth of the calls would be lost."""
    breaker = circuit_breaker(window=20)
    for number in range(20):
        permit = breaker.try_acquire()
        permit.success() if number in (5, 12) else permit.failure()
    assert (breaker.state, breaker.snapshot().failure_rate) == ("closed", 0.9)
    plain = circuit_breaker(window=20, failure_rate=0.9)
    for number in range(20):
        permit = plain.try_acquire()
        permit.success() if number in (5, 12) else permit.failure()
    assert plain.state == "open"


def test_one_good_probe_closes_it(vt):
    """A part that is back is enough: two in a row took four rounds of three seconds where half was back."""
    breaker, draw = circuit_breaker(), random.Random(2)
    send(vt, breaker, 1.0, 3000, draw)
    began = vt.now
    while breaker.state != "closed":
        send(vt, breaker, 0.5, 1, draw)
    assert vt.now - began < 10.0
    assert breaker.config.probes == 1


# ---- what is given is taken literally --------------------------------------------------------------------------------


def test_a_failure_rate_that_is_given_opens_at_that_rate(vt):
    """The user has asked for it: half of the calls fail, and the breaker opens."""
    breaker, draw = circuit_breaker(failure_rate=0.5), random.Random(3)
    send(vt, breaker, 0.6, 200, draw)
    assert breaker.state != "closed"
    assert (breaker.config.consecutive, breaker.config.probes) == (10, 3)


def test_a_row_that_is_given_opens_at_that_row(vt):
    """Five are five, however much failed before; the rate is still that of next to nothing."""
    breaker = circuit_breaker(consecutive=5)
    for number in range(200):
        permit = breaker.try_acquire()
        permit.failure() if number % 2 else permit.success()
    assert breaker.state == "closed"
    for _ in range(4):
        breaker.try_acquire().failure()
    assert breaker.state == "open"


@pytest.mark.parametrize("given", [{"failure_rate": 0.9}, {"consecutive": 10}, {"failure_rate": None}])
def test_the_same_number_given_is_another_breaker(given):
    """It follows other rules, so it is not the same options under one name."""
    circuit_breaker("payments")
    with pytest.raises(ValueError, match="payments"):
        circuit_breaker("payments", **given)


def test_the_law_survives_a_change_of_another_option_and_a_copy(vt):
    """`reconfigure(window=50)` says nothing about rates; `reconfigure(failure_rate=0.5)` does."""
    breaker, draw = circuit_breaker("payments"), random.Random(5)
    configure({"payments": {"window": 50}})
    send(vt, breaker, 0.6, 1000, draw)
    assert breaker.state == "closed"
    assert pickle.loads(pickle.dumps(breaker.config)) == breaker.config
    configure({"payments": {"failure_rate": 0.5}})
    send(vt, breaker, 0.6, 100, draw)
    assert breaker.state != "closed"
    assert breaker.config.probes == 3


def test_the_default_rate_gives_way_to_the_mode():
    """The probabilistic mode rejects a share from one half on, as it did; and back again."""
    config = CircuitBreakerConfig(mode="probabilistic")
    assert config.failure_rate == 0.5
    assert attrs.evolve(config, mode="window") == CircuitBreakerConfig()
    assert attrs.evolve(config, mode="window").failure_rate == 0.9


def test_explain_says_which_law_is_at_work():
    """A reader of the stack could not see whether half of the calls failing would be rejected."""
    stack = pipeline(circuit_breaker(), circuit_breaker(failure_rate=0.9), circuit_breaker(mode="probabilistic"))
    explained = stack.explain()
    left_out, given, shares = (note.partition(": ")[2] for note in explained.notes)
    rule = "opens where next to nothing works: at 10 failures in a row, more where many fail anyway"
    assert left_out.startswith(rule)
    assert given == "opens at 10 failures in a row, or at 90% of failures in the window"
    assert shares.startswith("rejects a share of the calls above 50% of failures")
    assert [step.options.get("failure_rate") for step in explained.steps] == [None, 0.9, 0.5]
