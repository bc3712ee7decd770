"""The rule of a fleet's rate limit: what one ask after the other gets, by its invariants F1 to F4."""

from __future__ import annotations

import random

import pytest

from resilio.sharing import MemoryEngine
from resilio.sharing._fleet.ask import TOKEN, LimitAnswer, LimitAsk
from resilio.sharing._fleet.rules.rows import HEAD

TICK_US = 250_000


class Store:
    """A store on a clock of its own, asked about one limit of 1,000 tokens a second with a burst of 1,000."""

    def __init__(self) -> None:
        self.now_us = 1_800_000_000_000_000
        self.engine = MemoryEngine(lambda: self.now_us)

    def ask(self, asker: int, seq: int, seen: int, **fields: int) -> LimitAnswer:
        """Ask, with amounts in tokens."""
        amounts = {name: value * TOKEN for name, value in fields.items() if name != "ttl_us"}
        rest = {name: value for name, value in fields.items() if name == "ttl_us"}
        burst = amounts.pop("burst", 1000 * TOKEN)
        ask = LimitAsk(
            key="k",
            asker=asker,
            seq=seq,
            seen=seen,
            amount=1000 * TOKEN,
            period_us=1_000_000,
            burst=burst,
            **amounts,
            **rest,
        )
        (answer,) = self.engine.exchange([ask], 1.0)
        assert isinstance(answer, LimitAnswer)
        self.check()
        return answer

    def check(self) -> None:
        """F1: what is there and what is out are never more than the burst."""
        head = self.engine.states["k"][HEAD]
        out = sum(row[1] + row[2] for field, row in self.engine.states["k"].items() if field != HEAD)
        assert head[3] == out
        assert head[0] + head[3] <= 1000 * TOKEN

    def wait(self, seconds: float) -> None:
        """Let time pass."""
        self.now_us += round(seconds * 1e6)


@pytest.fixture
def store() -> Store:
    return Store()


def test_half_of_what_is_left_goes_with_the_leases(store: Store) -> None:
    """In equal parts and whole calls, up to what is asked for: tokens for calls that come at once after a rest."""
    assert store.ask(1, 1, 0, want=10, spare=1000).grant == (10 + 495) * TOKEN
    assert store.ask(2, 1, 0, want=10, spare=1000).grant == (10 + 121) * TOKEN  # a half of 485, for one of two
    assert store.ask(3, 1, 0, want=10, spare=5).grant == (10 + 5) * TOKEN
    assert store.ask(4, 1, 0, want=10, spare=1000, cost=30).grant == (10 + 30) * TOKEN  # of 339 for one of four: 42


def test_nothing_is_spare_while_there_is_too_little_for_all(store: Store) -> None:
    """Demands above the rate: what a host would hold for later others want now."""
    store.ask(1, 1, 0, want=100, demand=3000)
    store.wait(0.25)
    store.ask(2, 1, 0, want=1)
    assert store.ask(1, 2, 1, want=1, spare=1000).grant == TOKEN


def test_an_asker_alone_gets_all_that_it_wants(store: Store) -> None:
    """F4: without other askers there is no share to keep to."""
    assert store.ask(1, 1, 0, want=900, demand=3600).grant == 900 * TOKEN
    store.wait(0.25)
    assert store.ask(1, 2, 1, want=900, demand=3600).grant == 350 * TOKEN


def test_what_is_out_counts_as_inside_of_the_burst(store: Store) -> None:
    """F1: a process that holds tokens and does not spend them keeps others from saving up as many beside it."""
    store.ask(1, 1, 0, want=600)
    store.wait(1.0)
    assert store.ask(2, 1, 0, want=1000).grant == 400 * TOKEN


def test_what_is_left_comes_back(store: Store) -> None:
    """A process that does not need its lease gives it to the others with its next ask."""
    store.ask(1, 1, 0, want=1000)
    assert store.ask(2, 1, 0, want=500).grant == 0
    store.ask(1, 2, 1, left=700)
    assert store.ask(2, 2, 1, want=500).grant == 500 * TOKEN


def test_a_grant_whose_answer_was_lost_comes_back_with_the_next_ask(store: Store) -> None:
    """F3: a lost answer must neither leak its tokens for good, nor give them out twice."""
    store.ask(1, 1, 0, want=1000)  # the answer is lost
    assert store.ask(1, 2, 0, want=1000).grant == 1000 * TOKEN


def test_a_debt_that_is_offered_again_is_paid_once(store: Store) -> None:
    """F3: a store that was stopped does late what it was sent: four times the debt left the limit unused for long."""
    store.ask(1, 1, 0, want=1000)
    store.wait(1.0)
    for seq in (2, 3, 4):  # sent in vain, and done all at once
        store.ask(1, seq, 1, left=-200)
    assert store.ask(1, 5, 1, left=-250).left == 750 * TOKEN
    assert store.ask(1, 6, 5, left=-50).left == 700 * TOKEN


def test_a_debt_that_is_not_offered_again_stays_paid(store: Store) -> None:
    """F1: another process of the host asks next, since the courier died: it knows of no debt to be paid again."""
    store.ask(1, 1, 0, want=1000)
    store.wait(1.0)
    store.ask(1, 2, 1, left=-200)
    assert store.ask(1, 3, 1).left == 800 * TOKEN
    assert store.ask(1, 4, 1, left=-100).left == 700 * TOKEN


def test_an_ask_that_arrives_twice_gives_back_once(store: Store) -> None:
    """A client that repeats a request after a lost reply would give back the same tokens twice: 600 out of 300."""
    store.ask(1, 1, 0, want=1000)
    first = store.ask(1, 2, 1, left=300, want=100)
    assert store.ask(1, 2, 1, left=300, want=100).grant == first.grant
    assert store.ask(2, 1, 0, want=1000).grant == 200 * TOKEN


def test_an_ask_that_arrives_late_changes_nothing(store: Store) -> None:
    """A request that hung in the network while a later one was answered belongs to a lease that has ended."""
    store.ask(1, 1, 0, want=1000)
    store.ask(1, 3, 1, want=0)
    assert store.ask(1, 2, 1, left=900, want=100).grant == 0
    assert store.ask(2, 1, 0, want=1000).grant == 0


def test_a_lease_that_is_not_given_back_is_taken_for_spent(store: Store) -> None:
    """F3: a process that was killed keeps its tokens out until its lease ends, and then others save up again."""
    store.ask(1, 1, 0, want=1000, ttl_us=1_250_000)
    store.wait(1.0)
    assert store.ask(2, 1, 0, want=1000).grant == 0
    store.wait(0.3)
    store.ask(2, 2, 1)
    store.wait(0.5)
    assert store.ask(2, 3, 2, want=1000).grant == 800 * TOKEN


@pytest.mark.parametrize("wrong", [-500, 10_000])
def test_a_sum_that_is_wrong_heals_with_the_next_sweep(store: Store, wrong: int) -> None:
    """What is out is added up anew: a row that had once been written wrong kept its limit too small for good."""
    store.ask(1, 1, 0, want=100)
    head = list(store.engine.states["k"][HEAD])
    head[3] += wrong * TOKEN
    head[11] += wrong * TOKEN
    store.engine.states["k"][HEAD] = tuple(head)
    store.wait(1.0)
    assert store.ask(2, 1, 0, want=1000).grant == 900 * TOKEN


def test_a_key_that_was_lost_begins_empty_for_an_asker_that_was_here(store: Store) -> None:
    """FLUSHALL must not give the burst a second time: what is out is not known any more."""
    store.ask(1, 1, 0, want=1000)
    store.engine.evict()
    assert store.ask(1, 2, 1, left=200, want=1000).grant == 0
    store.wait(0.1)
    assert store.ask(1, 3, 2, want=1000).grant == 100 * TOKEN


def test_an_asker_with_a_lost_lease_gives_nothing_back(store: Store) -> None:
    """After FLUSHALL another process asks first and begins anew: leases from before are in no sum any more."""
    store.ask(1, 1, 0, want=1000)
    store.engine.evict()
    store.ask(2, 1, 0, want=1000)
    assert store.ask(1, 2, 1, left=900, want=1000).grant == 0


def test_all_or_nothing_is_answered_with_the_wait(store: Store) -> None:
    """A limit below four tokens a peer is asked for what waits, and says when the first of it will be there."""
    store.ask(1, 1, 0, want=950)
    answer = store.ask(2, 1, 0, want=400, least=100)
    assert (answer.grant, answer.wait_us) == (0, 50_000)
    store.wait(0.05)
    assert store.ask(2, 2, 1, want=400, least=50).grant == 50 * TOKEN


def test_time_that_goes_back_brings_nothing(store: Store) -> None:
    """The store's clock may step: what has come in is not taken back, and does not come in twice."""
    store.ask(1, 1, 0, want=1000)
    store.wait(-5.0)
    store.ask(1, 2, 1)
    store.wait(5.0)
    assert store.ask(1, 3, 2, want=1000).grant == 0
    store.wait(0.1)
    assert store.ask(1, 4, 3, want=1000).grant == 100 * TOKEN


def test_demands_above_the_rate_are_shared_fairly(store: Store) -> None:
    """F4: of two that want ten times the rate and one that wants a tenth of it, the small one gets all of its own."""
    got = {1: 0, 2: 0, 3: 0}
    wants = {1: 10_000, 2: 10_000, 3: 100}
    order = random.Random(7)
    for n in range(1, 81):
        for asker, demand in order.sample(sorted(wants.items()), 3):
            answer = store.ask(asker, n, n - 1, want=demand * 3 // 8, demand=demand)
            got[asker] += answer.grant if n > 40 else 0
        store.wait(0.25)
    seconds = 40 * 0.25
    assert got[3] >= 90 * seconds * TOKEN
    assert got[1] == pytest.approx(got[2], rel=0.25)
    assert sum(got.values()) <= 1000 * seconds * TOKEN * 1.03


def test_credit_of_all_is_a_quarter_of_what_is_there(store: Store) -> None:
    """F2: credit lets a process begin at once, and all together overdraw the bucket by a quarter at most."""
    for n in (1, 2):
        for asker in range(1, 11):
            store.ask(asker, n, n - 1, demand=100_000)
        store.wait(0.25)
    credits_ = [store.ask(asker, 3, 2, demand=100_000).credit for asker in range(1, 11)]
    assert sum(credits_) <= 250 * TOKEN
    assert all(credits_)


def test_credit_of_askers_that_come_at_once_is_a_quarter_too(store: Store) -> None:
    """F2: in the first tick no asker knows how many there are; ten would have had two and a half bursts of credit."""
    assert sum(store.ask(asker, 1, 0, demand=100_000).credit for asker in range(1, 11)) <= 250 * TOKEN


def test_credit_of_a_process_that_was_killed_is_taken_for_spent(store: Store) -> None:
    """F2: one that dies with its debt never pays it: ten, one after the other, would overdraw the bucket ten times."""
    credit = store.ask(1, 1, 0, demand=1000, ttl_us=300_000).credit
    assert credit > 100 * TOKEN
    store.ask(2, 1, 0, want=1000)
    store.wait(0.4)
    assert store.ask(2, 2, 1).left == 400 * TOKEN - credit
