import pytest

import resilio
from benchmarks.micro import _keyed
from benchmarks.micro._comparison import Unavailable
from benchmarks.micro._harness import Effort
from benchmarks.micro._keyed import PeerKeyed, keyed_table, keys

EFFORT = Effort(rounds=2, sample_ns=20_000)
MANY = 50


class Keyed(dict):
    """Stands in for what `keyed` returns."""

    def __init__(self, factory, *, key, max_keys):
        self.factory = factory

    def __missing__(self, key):
        policy = self[key] = self.factory(key)
        return policy


def peer(many):
    return Keyed(object_of, key=None, max_keys=many).__getitem__


def object_of(_key):
    return object()


@pytest.fixture
def peers():
    return {"peer keyed": PeerKeyed(peer, "benchmarks.micro._keyed:bare_breaker")}


@pytest.fixture
def sizes(monkeypatch):
    """Bytes each, without the fresh processes that would find them."""
    found = {"bare_breaker": 3000.0, "keyed_breaker": 3100.0}
    monkeypatch.setattr(_keyed, "bytes_each", lambda factory, many: found[factory.partition(":")[2]])


def test_keys_are_as_many_as_asked_for_in_an_order_that_can_be_repeated():
    """Every run looks up the same keys in the same order, which is not the one they were made in."""
    assert keys(MANY) == keys(MANY) != sorted(keys(MANY))
    assert len(set(keys(MANY))) == MANY


def test_the_table_has_lookups_and_bytes_or_says_that_there_is_no_keyed(peers, sizes):
    """Rows of the library's own are there with a library that has `keyed`, and skips name it where there is none."""
    table = keyed_table(MANY, EFFORT, peers)
    rows = {row.subject: row for row in table.rows}
    assert rows[f"dict[key], {MANY} keys"].unit == "ns"
    assert rows[f"peer keyed, {MANY} keys"].unit == "ns"
    assert rows[f"peer keyed, of {MANY} keys"].unit == "bytes"
    if hasattr(resilio, "keyed"):
        assert table.skips == ()
    else:
        assert {skip.reason for skip in table.skips} == {
            "this resilio has no keyed",
            "one of the two was not measured",
        }


def test_a_key_costs_what_its_breaker_holds_beyond_a_bare_one(monkeypatch, peers, sizes):
    """The figure that the target is about is a difference of two that were measured."""
    monkeypatch.setattr(resilio, "keyed", Keyed, raising=False)
    monkeypatch.setattr(_keyed, "MANY", MANY)
    table = keyed_table(MANY, EFFORT, peers)
    assert table.skips == ()
    targets = {row.target: row for row in table.rows if row.target}
    assert targets["keyed_memory"].value == 100.0
    assert targets["keyed_lookup"].unit == "ns"


def test_fewer_keys_than_the_targets_are_about_are_held_against_none(monkeypatch, peers, sizes):
    """A quick run's figures are shown, and no target claims to be met by them."""
    monkeypatch.setattr(resilio, "keyed", Keyed, raising=False)
    assert [row.target for row in keyed_table(MANY, EFFORT, peers).rows if row.target] == []


def test_what_memory_cannot_be_read_of_is_skipped_with_the_reason(monkeypatch):
    """Without a malloc that says what it handed out there is no figure, and the table says so."""

    def unavailable(factory, many):
        raise Unavailable("this malloc has no mallinfo2")

    monkeypatch.setattr(_keyed, "bytes_each", unavailable)
    skips = {skip.subject: skip.reason for skip in keyed_table(MANY, EFFORT, {}).skips}
    assert skips["resilio breaker, no key"] == "this malloc has no mallinfo2"
    assert skips["resilio keyed breaker, beyond a breaker without key"] == "one of the two was not measured"


def test_each_number_has_a_breaker_of_its_own(monkeypatch):
    """What the table of memory makes many of are different breakers, with a key and without."""
    if not hasattr(resilio, "keyed"):
        monkeypatch.setattr(resilio, "keyed", Keyed, raising=False)
    _keyed._shared.cache_clear()
    made = [_keyed.keyed_breaker(1), _keyed.keyed_breaker(2), _keyed.bare_breaker(1), _keyed.bare_breaker(1)]
    _keyed._shared.cache_clear()
    assert len({id(breaker) for breaker in made}) == 4
