"""Spend limits of a fleet: what all hosts spend together, with real gates, couriers and rules, in virtual time."""

from __future__ import annotations

import sys
from typing import Any

import pytest
from money_of_fleet import Host, hosts, pass_time, spent_by

from resilio import RateLimitedError, keyed, pipeline
from resilio._composition.keyed import Keyed, KeyedConfig
from resilio.cost import charge, spend_limit
from resilio.sharing import Fleet, MemoryEngine
from resilio.testing import VirtualTime, virtual_time

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="shared memory of hosts is for Linux")

DAY = 86_400.0
RULES = ("local", "closed", "open")


# ---- one amount ------------------------------------------------------------------------------------------------------


@pytest.mark.real(3.0)
@pytest.mark.parametrize("calls", [[2] * 20, [10] + [0] * 19, [3, 1] * 10], ids=["even", "one alone", "uneven"])
def test_hosts_spend_one_amount(calls: list[int]) -> None:
    """Twenty hosts of "20 USD/day" spent 400 USD. Now they spend 20 together, to the last cent, wherever calls come."""
    with virtual_time() as vt:
        fleet = hosts(20, "20 USD/day")
        assert spent_by(vt, fleet, calls, 40.0) == 2000
        spend = fleet[-1].limit.snapshot().spend
        assert (spend.used, spend.left) == (20, 0)
        assert all(one.held == 0 for one in fleet)
        permit = fleet[0].limit.try_acquire(1)
        assert not permit
        assert permit.scope == "fleet"
        assert permit.retry_after == pytest.approx(spend.resets_in, abs=1)


def test_money_that_another_host_has_reserved_is_waited_for_a_moment() -> None:
    """
    A host whose calls had reserved all sent the callers of the others away until midnight.

    The sum of the fleet has moved lately, so it may come back; a minute later it counts as spent.
    """
    with virtual_time() as vt:
        one, other = fleet = hosts(2, "1 USD/day")
        pass_time(vt, fleet, 1.0)
        held = []
        while len(held) < 4:
            held += [permit for permit in [one.limit.try_acquire(25)] if permit]
            pass_time(vt, fleet, 0.1)
        pass_time(vt, fleet, 2.0)
        permit = other.limit.try_acquire(25)
        assert (permit.reason, permit.retry_after) == ("reserved", 1.0)
        pass_time(vt, fleet, 61.0)
        permit = other.limit.try_acquire(25)
        assert permit.reason == "spend"
        assert permit.retry_after == pytest.approx(other.limit.snapshot().spend.resets_in)
        for one_held in held:
            one_held.cancel()
        pass_time(vt, fleet, 3.0)
        assert other.calls(1, 25) == 1


def test_many_calls_at_once_find_their_lease() -> None:
    """While there is plenty a host holds a part of what is left: so a hundred calls at once pass."""
    with virtual_time() as vt:
        fleet = hosts(5, "100 USD/day")
        pass_time(vt, fleet, 1.0)
        assert [one.calls(100) for one in fleet] == [100] * 5


@pytest.mark.real(1.0)
def test_the_last_of_the_money_is_not_stranded() -> None:
    """What lies on lease where no calls come goes back when it runs out elsewhere; nothing of it is left over."""
    with virtual_time() as vt:
        fleet = hosts(25, "50 USD/day")
        pass_time(vt, fleet, 5.0)
        assert sum(one.held for one in fleet) > 300  # an eighth of it lies here and there
        assert spent_by(vt, fleet[:1], [40], 5.0, cents=7) <= 5000
        spent_by(vt, fleet, [5] + [0] * 24, 10.0, cents=7)
        assert sum(one.spent for one in fleet) > 5000 - 7


def test_calls_of_many_sizes_leave_less_than_the_smallest() -> None:
    """A dear call that finds too little does not keep the rest from cheap ones, of its own host or of others."""
    with virtual_time() as vt:
        fleet = hosts(4, "10 USD/day")
        spent_by(vt, fleet, [1] * 4, 20.0, cents=60)
        spent_by(vt, fleet, [1] * 4, 20.0, cents=7)
        assert 1000 - 7 < sum(one.spent for one in fleet) <= 1000


def test_what_a_call_has_cost_counts_for_all() -> None:
    """A reservation that was too high comes back, one that was too low is missing elsewhere: settled is charged."""
    with virtual_time() as vt:
        fleet = hosts(2, "10 USD/day")
        pass_time(vt, fleet, 1.0)
        fleet[0].costs(50, 20)
        fleet[0].costs(10, 130)
        pass_time(vt, fleet, 1.0)
        assert fleet[1].limit.snapshot().spend.used == pytest.approx(1.5)
        assert spent_by(vt, fleet, [5, 5], 5.0) == 850


def test_a_state_is_seen_where_no_call_comes() -> None:
    """A host whose calls rest hears that others have spent the money: its level of a pool follows."""
    with virtual_time() as vt:
        fleet = hosts(2, "10 USD/day", soft=0.5)
        is_low = fleet[1].limit.below(0.3)
        spent_by(vt, fleet, [10, 0], 4.0)
        pass_time(vt, fleet, 1.0)
        assert fleet[1].spent == 0
        assert fleet[1].limit.state == "spent"
        assert is_low()


# ---- networks, stores, kills -----------------------------------------------------------------------------------------


def test_trips_are_lost_and_nothing_is_spent_twice() -> None:
    """Of the trips a third loses its asks or its answers: the next one reports all, so nothing is lost with them."""
    with virtual_time() as vt:
        fleet = hosts(10, "20 USD/day", on_store_down="closed")
        for one in fleet:
            one.wire.loss = 0.3
        assert spent_by(vt, fleet, [1] * 10, 30.0) == 2000
        assert sum(one.fleet.courier.lost for one in fleet) > 20


@pytest.mark.real(1.0)
def test_the_lease_of_a_dead_host_is_not_spent_again() -> None:
    """
    Half of the hosts die with what they hold, which may have been spent: it is missing until the day ends.

    Together that is at most an eighth of what was left, and what was spent in a few ticks.
    """
    with virtual_time() as vt:
        fleet = hosts(10, "20 USD/day", on_store_down="closed")
        spent_by(vt, fleet, [1] * 10, 1.0)
        dead, living = fleet[:5], fleet[5:]
        lost = sum(one.held for one in dead)
        assert 0 < lost < 2000 / 8
        spent_by(vt, living, [3] * 5, 10.0)
        assert 0 <= 2000 - lost - sum(one.spent for one in fleet) < 1
        vt.advance(DAY)
        assert spent_by(vt, living, [5] * 5, 15.0) == 2000


def test_a_flushed_store_does_not_give_a_second_amount() -> None:
    """A store without its state gave out the whole day's money again; now it first hears what all have had."""
    with virtual_time() as vt:
        fleet = hosts(5, "20 USD/day")
        spent_by(vt, fleet, [2] * 5, 1.0)
        fleet[0].wire.store.evict()
        spent_by(vt, fleet, [2] * 5, 15.0)
        assert 1980 <= sum(one.spent for one in fleet) <= 2000


def test_a_flushed_store_remembers_what_the_dead_have_spent() -> None:
    """The living report what the fleet had in all, with what a host had that is gone and reports no more."""
    with virtual_time() as vt:
        fleet = hosts(3, "20 USD/day")
        spent_by(vt, fleet, [6, 1, 1], 1.0)
        pass_time(vt, fleet, 1.0)
        (dead, *living) = fleet
        lost = dead.held
        dead.wire.store.evict()
        spent_by(vt, living, [4, 4], 15.0)
        assert 1980 <= lost + sum(one.spent for one in fleet) <= 2000


# ---- without a store -------------------------------------------------------------------------------------------------


def cut(vt: VirtualTime, n: int, **options: Any) -> list[Host]:
    """Return hosts that have spent half of 20 USD, and lost their store."""
    fleet = hosts(n, "20 USD/day", **options)
    spent_by(vt, fleet, [1000 // n // 50] * n, 0.5)
    pass_time(vt, fleet, 3.0)
    for one in fleet:
        one.wire.is_cut = True
    pass_time(vt, fleet, 3.0)
    return fleet


@pytest.mark.parametrize(("first", "rule"), [*zip(RULES, RULES, strict=True), ("closed", "open"), ("open", "closed")])
def test_without_a_store(first: str, rule: str) -> None:
    """The store is away: what is on lease is spent, then a share of what was left, or nothing, or all."""
    with virtual_time() as vt:
        fleet = cut(vt, 4, on_store_down=first)
        for one in fleet:  # an operator lets calls pass, or not, as long as the store is away
            one.limit.reconfigure(on_store_down=rule)
        pass_time(vt, fleet, 3.0)
        before, held = sum(one.spent for one in fleet), sum(one.held for one in fleet)
        assert fleet[0].limit.snapshot().sharing.degraded == "store_down"  # type: ignore[union-attr]
        found = spent_by(vt, fleet, [5] * 4, 3.0)
        if rule == "closed":
            assert held - 4 <= found <= held
            assert fleet[0].limit.snapshot().spend.at_risk == 0
        elif rule == "open":
            assert found == 5 * 4 * 300
        else:
            assert 2000 - 10 <= before + found <= 2000


@pytest.mark.real(1.0)
def test_a_host_that_is_cut_off_states_its_risk() -> None:
    """Where others reach the store, a share is spent twice: the snapshot says how much, the next day pays for it."""
    with virtual_time() as vt:
        fleet = hosts(4, "20 USD/day")
        pass_time(vt, fleet, 1.0)
        fleet[0].wire.is_cut = True
        pass_time(vt, fleet, 3.0)
        risk = fleet[0].limit.snapshot().spend.at_risk * 100
        assert 0 < risk <= 2000 / 4
        spent_by(vt, fleet, [9, 3, 3, 3], 15.0)
        over = sum(one.spent for one in fleet) - 2000
        assert 0 < over <= risk
        fleet[0].wire.is_cut = False
        pass_time(vt, fleet, 5.0)
        assert fleet[1].limit.snapshot().spend.used == pytest.approx(20 + over / 100)
        vt.advance(DAY - 60)
        pass_time(vt, fleet, 60.0)
        assert spent_by(vt, fleet, [4] * 4, 15.0) == pytest.approx(2000 - over, abs=1)


def test_a_dead_courier_does_not_stop_the_service() -> None:
    """No thread has to run for the share: calls find out by themselves that the store has not answered."""
    with virtual_time() as vt:
        (one,) = hosts(1, "20 USD/day")
        pass_time(vt, [one], 1.0)
        vt.advance(5.0)
        assert one.calls(3000) == 2000


def test_a_store_that_was_never_there() -> None:
    """A host that begins without a store spends its share, by the number of hosts given."""
    with virtual_time() as vt:
        (one,) = hosts(1, "20 USD/day", peers=4)
        one.wire.is_cut = True
        pass_time(vt, [one], 3.0)
        assert one.calls(3000) == 500


# ---- beginnings and periods ------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("rule", "first"), [("local", 1), ("closed", 0)])
def test_one_call_passes_before_the_first_answer(rule: str, first: int) -> None:
    """A process that has not been answered lets one call pass, where not all would rather be rejected."""
    with virtual_time() as vt:
        (one,) = hosts(1, "20 USD/day", on_store_down=rule)
        assert one.calls(5) == first
        pass_time(vt, [one], 0.5)
        assert one.calls(5) == 5
        pass_time(vt, [one], 0.5)
        assert one.limit.snapshot().spend.used == pytest.approx(one.spent / 100)


@pytest.mark.parametrize(
    ("options", "without"),
    [
        ({}, "each host has its share of what was left"),
        ({"on_store_down": "open"}, "all calls pass"),
        ({"on_store_down": "closed"}, "none beyond its lease"),
    ],
)
def test_an_explanation_names_what_rules_without_a_store(options: dict[str, Any], without: str) -> None:
    """The limit's own option, or else its fleet's: one that closes with its store looked like any other."""
    with virtual_time() as vt:
        (one,) = hosts(1, "20 USD/day", **options)
        pass_time(vt, [one], 0.5)
        note = next(note for note in pipeline(one.limit).explain().notes if "the store is away" in note)
        assert note.endswith(f"(fleet shop), and while the store is away {without}")


def test_a_call_that_may_find_money_soon_is_not_sent_to_the_next_day() -> None:
    """A host whose lease is spent rejects, though the fleet has more: its callers may come back at once."""
    with virtual_time() as vt:
        (one,) = hosts(1, "20 USD/day")
        pass_time(vt, [one], 0.5)
        one.calls(5, cents=50)
        permit = one.limit.try_acquire(500)
        assert not permit
        assert 0 < (permit.retry_after or 0) < 1
        assert 0 < one.limit.peek(500) < 1
        pass_time(vt, [one], 0.5)
        assert one.limit.peek(500) == 0
        assert one.limit.try_acquire(500)


def test_a_new_day_begins_with_its_money() -> None:
    """A lease ends with its day. The next one is asked for when it begins, and what was on lease is there again."""
    with virtual_time() as vt:
        fleet = hosts(3, "20 USD/day")
        vt.advance(DAY - vt.now % DAY - 10)
        spent_by(vt, fleet, [1] * 3, 5.0)
        assert sum(one.held for one in fleet) > 0
        assert spent_by(vt, fleet, [1] * 3, 20.0) >= 2000
        pass_time(vt, fleet, 1.0)
        today = fleet[0].limit.snapshot().spend
        assert today.used <= 20
        assert today.used * 100 + 1500 >= sum(one.spent for one in fleet) - 2000


def test_a_call_that_ends_on_the_next_day() -> None:
    """It was paid by its own day. What it costs beyond its reservation the next day pays, as in a process."""
    with virtual_time() as vt:
        fleet = hosts(2, "20 USD/day")
        pass_time(vt, fleet, 1.0)
        block = fleet[0].limit.reserve(1.0)
        with block as bill:
            vt.advance(DAY)
            pass_time(vt, fleet, 1.0)
            assert fleet[1].limit.snapshot().spend.used == 0
            bill.charge(1.5)
        pass_time(vt, fleet, 1.0)
        assert fleet[1].limit.snapshot().spend.used == pytest.approx(0.5)


# ---- keys ------------------------------------------------------------------------------------------------------------


def tenants(store: MemoryEngine) -> tuple[Fleet, Any]:
    fleet = Fleet("shop", store, is_stepped=True)
    config = KeyedConfig(factory=lambda: spend_limit("1 USD/day", reserve=0.1), key="tenant", scope=fleet)
    return fleet, Keyed(config, "teams")


def test_each_tenant_has_one_amount_in_the_fleet() -> None:
    """Two hosts gave each tenant a dollar each. One that rests holds nothing, and finds its money when it calls."""
    with virtual_time() as vt:
        store = MemoryEngine()
        (one, teams), (other, others) = tenants(store), tenants(store)

        def spend(team: Any, tenant: str) -> float:
            try:
                team.call(lambda tenant: charge(0.1), tenant=tenant)
            except RateLimitedError:
                return 0.0
            return 0.1

        spent = dict.fromkeys("abc", 0.0)
        for turn in range(400):
            for fleet in (one, other):
                fleet.step()
            for tenant in "ab":
                spent[tenant] += spend(teams if turn % 2 else others, tenant)
            vt.advance(0.02)
        for _ in range(500):
            for fleet in (one, other):
                fleet.step()
            vt.advance(0.02)
        spent["c"] += spend(teams, "c")
        spent["a"] += spend(others, "a")
        assert spent == {"a": pytest.approx(1), "b": pytest.approx(1), "c": pytest.approx(0.1)}


# ---- options ---------------------------------------------------------------------------------------------------------


def test_what_a_fleet_cannot_count_is_an_error() -> None:
    """Money that comes in evenly, and more than a word counts, are rejected where the limit is made."""
    scope = Fleet("shop", MemoryEngine(), is_stepped=True)
    with pytest.raises(ValueError, match="burst must be None in a fleet"):
        spend_limit("1 USD/day", burst=0.5, name="burst", scope=scope)
    with pytest.raises(ValueError, match="at most 428 a minute where processes share it"):
        spend_limit("500 USD/minute", name="much", scope=scope)
    with pytest.raises(TypeError, match=r"'process' or 'host' for a keyed spend_limit.*: money that comes in evenly"):
        keyed(lambda: spend_limit("1 USD/day", burst=0.5), key="tenant", name="keyed burst", scope=scope)
    with pytest.raises(ValueError, match="on_store_down must be"):
        spend_limit("1 USD/day", on_store_down="shut")  # type: ignore[arg-type]


def test_a_fleet_is_private_in_tests() -> None:
    """Under pytest a fleet that no test steps is the process's own: no store is needed."""
    with virtual_time():
        alone = Fleet("alone", MemoryEngine())
        limit = spend_limit("1 USD/day", reserve=0.1, name="private money", scope=alone)
        assert sum(bool(limit.try_acquire()) for _ in range(20)) == 10
        assert limit.snapshot().sharing.degraded == "private"  # type: ignore[union-attr]
