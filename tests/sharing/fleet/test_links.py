"""How policies get their fleet's cell and tie, and give them back: by options, by name, over time that changes."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any, cast

import pytest
from plain_fleet import Policy

from resilio import circuit_breaker, configure
from resilio._native.shared import Cell, Member, Region
from resilio._options.scope import checked_scope, set_private
from resilio.sharing import Fleet, Host, MemoryEngine, fleet, host
from resilio.sharing._fleet.ask import TOKEN
from resilio.testing import virtual_time


@pytest.fixture
def store() -> MemoryEngine:
    return MemoryEngine()


@pytest.fixture
def real() -> Iterator[None]:
    """Let the test's fleets be real: threads run."""
    set_private("pytest", on=False)
    yield
    set_private("pytest", on=True)


def test_a_policy_of_a_stepped_fleet_is_asked_for(store: MemoryEngine) -> None:
    """The simulator makes trips by hand, with the same courier, rules and ties as the thread."""
    shop, policy = Fleet("shop", store, is_stepped=True), Policy()
    policy.give(shop)
    assert policy.gate.cell is not None
    before = policy._link.sharing()
    assert (before.scope, before.age, before.degraded, before.trips) == ("fleet:shop", None, None, 0)
    shop.step()
    after = policy._link.sharing()
    assert policy.tie.got == TOKEN
    assert (after.trips, after.lost, after.leader, after.peers) == (1, 0, True, 1)
    assert after.age is not None


def test_two_policies_of_a_name_have_one_cell_where_the_host_is_one(store: MemoryEngine) -> None:
    """All workers of a host draw on one lease: a policy of one name and its options is one cell of its memory."""
    shop = Fleet("shop", store, group=host("a group"), is_stepped=True)
    one, other = Policy(), Policy()
    one.give(shop)
    other.give(shop)
    assert one.gate.cell is not None
    assert other.gate.cell is not None
    assert one.gate.cell.asker == other.gate.cell.asker
    assert one.gate.cell.region.path is None, "under pytest it is memory of the process"


def test_a_process_that_makes_no_trips_sees_what_its_host_knows(store: MemoryEngine) -> None:
    """Of eight workers one asks the store: the others, too, show the fleet's peers, and that the store is away."""
    region = Region.private(1 << 20)
    first, second = region.join(), region.join()

    class Seat:  # of one process, as the simulator has them
        trouble = None

        def __init__(self, member: Member) -> None:
            self.member = member

        def cell(self, kind: int, name: str, stock: bytes, size: int, *, grow: int = 0) -> Cell:
            return region.cell(kind, name, stock, size, self.member)

    groups = [Host("simulated", Path("/"), 1, 1 << 20, region=cast("Region", Seat(one))) for one in (first, second)]
    fleets = [Fleet("shop", store, group=group, is_stepped=True) for group in groups]
    policies = [Policy(), Policy()]
    for one, shop in zip(policies, fleets, strict=True):
        one.give(shop)
    with virtual_time() as vt:
        for shop in fleets:
            shop.step()
        asker, other = (policy._link.sharing() for policy in policies)
        assert (asker.leader, other.leader) == (True, False)
        assert (asker.peers, other.peers) == (1, 1)
        assert (asker.trips, other.trips) == (1, 0)
        assert other.age == asker.age
        store.exchange = lambda asks, timeout: [None for _ in asks]  # type: ignore[method-assign]
        for _ in range(40):
            vt.advance(0.5)
            fleets[0].step()
        assert [policy._link.sharing().degraded for policy in policies] == ["store_down", "store_down"]


def test_a_policy_that_leaves_its_fleet_has_its_own_state(store: MemoryEngine) -> None:
    """`configure` may take the scope away: nothing is asked for the policy any more."""
    shop, policy = Fleet("shop", store, is_stepped=True), Policy()
    with virtual_time() as vt:
        policy.give(shop)
        vt.advance(1.0)
        shop.step()
        assert shop.courier.trips == 1
        policy.give("process")
        for _ in range(100):
            vt.advance(1.0)
            shop.step()
    assert policy.gate.cell is None
    assert policy._link is None
    assert not shop.courier.has_ties
    assert not shop.courier.rings
    assert shop.courier.trips == 1


def test_a_policy_goes_from_one_fleet_to_another(store: MemoryEngine) -> None:
    """A service that moves to another store reconfigures its policies one by one."""
    one, other, policy = Fleet("one", store, is_stepped=True), Fleet("other", store, is_stepped=True), Policy()
    policy.give(one)
    policy.give(other)
    assert not one.courier.has_ties
    assert other.courier.has_ties
    assert policy._link.sharing().scope == "fleet:other"


def test_the_same_options_change_nothing(store: MemoryEngine) -> None:
    """A policy that is reconfigured in another option must not lose the lease that it has."""
    shop, policy = Fleet("shop", store, is_stepped=True), Policy()
    policy.give(shop)
    tie = policy._link.tie
    policy.give(shop)
    assert policy._link.tie is tie


def test_in_tests_and_in_virtual_time_a_fleet_is_this_process(store: MemoryEngine) -> None:
    """A test must not meet the store of a service, and no thread runs on a virtual clock."""
    shop, policy = fleet("shop", store, host=False), Policy()
    policy.give(shop)
    assert policy.gate.cell is None
    assert policy._link.sharing().degraded == "private"
    with virtual_time() as vt:
        vt.advance(5.0)
    assert store.exchanged == 0


def test_virtual_time_ends_the_trips_and_real_time_begins_them_again(store: MemoryEngine, real: None) -> None:
    """A test of a service that has made its fleet at import time moves the clock: no thread may see that."""
    shop, policy = fleet("shop", store, host=False), Policy()
    policy.give(shop)
    assert policy.gate.cell is not None
    with virtual_time():
        assert policy.gate.cell is None
    assert policy.gate.cell is not None
    _until(lambda: policy._link.tie.got)
    shop.stop()


def test_the_thread_asks_as_soon_as_there_is_a_policy(store: MemoryEngine, real: None) -> None:
    """The first lease must be there before the first tick is over: a service that starts has calls at once."""
    shop, policy = fleet("shop", store, tick=10, host=False), Policy()
    policy.give(shop)
    _until(lambda: policy._link.tie.got)
    policy._link.tie.due = 0
    before = store.exchanged
    policy.gate.cell.ring()  # type: ignore[union-attr]
    _until(lambda: store.exchanged > before)
    shop.stop()


def _until(true: Any) -> None:
    import time

    end = time.monotonic() + 60
    while not true():
        assert time.monotonic() < end
        time.sleep(0.001)


def test_configuration_names_a_fleet_that_has_been_made(store: MemoryEngine) -> None:
    """Operations turn a scope on by name: a file cannot hold a client."""
    shop = fleet("shop", store)
    assert checked_scope("scope", "shop") is shop
    with pytest.raises(ValueError, match=r"or the name of a fleet that has been made before \(here shop\), not 'shp'"):
        circuit_breaker("payments", scope="shp")  # type: ignore[arg-type]
    circuit_breaker("payments")
    with pytest.raises(ValueError, match="shp"):
        configure({"payments": {"scope": "shp"}})


def test_a_fleet_is_made_once_by_name(store: MemoryEngine) -> None:
    """Modules of one service may each make it: the same options give the same object, others are an error."""
    shop = fleet("shop", store)
    assert fleet("shop", store) is shop
    with pytest.raises(
        ValueError, match=r"tick must be 0\.25, as before, for the fleet 'shop', or another name, not 1"
    ):
        fleet("shop", store, tick=1.0)
    with pytest.raises(ValueError, match=r"another client: make it once, in one module, and import it from there"):
        fleet("shop", MemoryEngine())
    with pytest.raises(
        ValueError, match="host must be True, as before, for the fleet 'shop', or another name, not Fal"
    ):
        fleet("shop", store, host=False)


def test_a_fleet_is_the_same_by_an_equal_url() -> None:
    """Two modules read the URL from the environment: each gets a string of its own, and means the same store."""
    pytest.importorskip("valkey")
    url = "valkey://cache:6379"
    shop = fleet("shop", url)
    assert fleet("shop", "".join(list(url))) is shop


@pytest.mark.parametrize(
    ("url", "text"),
    [
        ("localhost:6379", "or a URL like 'valkey://cache:6379', .*, with the scheme in front, not 'localhost:6379'"),
        ("http://cache:6379", "or a URL like 'valkey://cache:6379', .*, not 'http://cache:6379'"),
        ("valkey://cache:sixty", r"client must be the URL of a store \(.*port.*\), not 'valkey://cache:sixty'"),
        ("http://shop:secret@cache", r"not 'http://\.\.\.@cache'"),
    ],
)
def test_a_wrong_url_is_answered_with_a_right_one(url: str, text: str) -> None:
    """Newcomers leave the scheme out, or take another: the error shows a URL that works, and keeps the password."""
    pytest.importorskip("valkey")
    with pytest.raises(ValueError, match=f"(?i){text}"):
        fleet("shop", url)


@pytest.mark.parametrize(
    ("options", "error", "text"),
    [
        ({"name": "host"}, ValueError, "name must be a name other than 'process' and 'host'"),
        ({"name": 3}, TypeError, "name must be"),
        ({"client": object()}, TypeError, "client must be an Engine, a client of"),
        ({"tick": 60}, ValueError, "tick must be from 0.01 to 10 seconds, not 60"),
        ({"timeout": 0}, ValueError, "timeout must be"),
        ({"peers": 0}, ValueError, "peers must be"),
        ({"on_store_down": "fail"}, ValueError, "on_store_down must be one of 'local', 'open', 'closed'"),
        ({"host": "shop"}, TypeError, "host must be True or False"),
    ],
)
def test_a_wrong_option_is_named(
    store: MemoryEngine, options: dict[str, Any], error: type[Exception], text: str
) -> None:
    """An error names the option, the value and the fix."""
    with pytest.raises(error, match=text):
        fleet(**{"name": "shop", "client": store, **options})
