"""Keyed rate limits of a fleet: each key has leases of its own, and only keys in use are asked for."""

from __future__ import annotations

import gc
import sys
import weakref
from collections.abc import Sequence
from typing import Any

import pytest
from limits_of_fleet import Wire

from resilio import adaptive_limit, circuit_breaker, keyed, pipeline, rate_limit
from resilio._composition.keyed import Keyed, KeyedConfig
from resilio.sharing import Answer, Ask, Fleet, MemoryEngine, StoreProblem
from resilio.testing import VirtualTime, virtual_time

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="shared memory of hosts is for Linux")


class Host:
    """A process with a fleet, and a limit for each user."""

    def __init__(self, store: MemoryEngine, factory: Any, **options: Any) -> None:
        self.wire = Wire(store)
        self.fleet = Fleet("shop", self.wire, is_stepped=True)
        self.users = Keyed(KeyedConfig(factory=factory, key="user", scope=self.fleet, **options), "users")

    def tries(self, user: Any, calls: int) -> int:
        """Return how many of this number of calls of a user are admitted now."""
        return sum(bool(self.users[user].try_acquire()) for _ in range(calls))


def hosts(n: int, rate: str = "100/s", *, burst: float | None = None, **options: Any) -> list[Host]:
    """Return this number of hosts with one store."""
    store = MemoryEngine()
    return [Host(store, lambda: rate_limit(rate, burst=burst), **options) for _ in range(n)]


def play(vt: VirtualTime, fleet: list[Host], users: str, seconds: float, calls: int = 2) -> dict[str, int]:
    """Let each user call each host this often every 10 ms; return how many calls of each were admitted."""
    admitted = dict.fromkeys(users, 0)
    for _ in range(round(seconds * 100)):
        for one in fleet:
            one.fleet.step()
            for user in users:
                admitted[user] += one.tries(user, calls)
        vt.advance(0.01)
    return admitted


class Full(MemoryEngine):
    """A store that has no memory for some keys, or for all."""

    is_full = True
    some = ""

    def exchange(self, asks: Sequence[Ask], timeout: float) -> Sequence[Answer | StoreProblem]:
        problem = StoreProblem("OOM command not allowed when used memory > 'maxmemory'.")
        answers = super().exchange(asks, timeout)
        pairs = zip(asks, answers, strict=True)
        return [problem if self.is_full and self.some in ask.key else answer for ask, answer in pairs]


@pytest.mark.parametrize("where", ["everywhere", "at one key"])
def test_an_error_of_the_store_is_one_line(caplog: pytest.LogCaptureFixture, where: str) -> None:
    """400 keys and a store without memory: 6,420 warnings in ten seconds, of a script that could not read."""
    with virtual_time() as vt, caplog.at_level("INFO"):
        store, users = Full(), [f"u{n}" for n in range(40)]
        one = Host(store, lambda: rate_limit("100/s"))
        store.is_full = False
        one.tries("u0", 1)
        play(vt, [one], "", 0.3)
        store.some = "" if where == "everywhere" else next(iter(store.states))
        store.is_full = True
        for _ in range(300):
            for user in users:
                one.tries(user, 1)
            one.fleet.step()
            vt.advance(0.01)
        (line,) = [record.getMessage() for record in caplog.records if "fleet" in record.getMessage()]
        assert "OOM command not allowed" in line
        assert ("have failed; the latest error: OOM" in line) == (where == "everywhere")
        assert where == "everywhere" or f"{store.some}: OOM" in line


def exchanges(one: Host) -> int:
    return one.wire.store.exchanged


def test_each_key_is_one_stock_of_all_hosts() -> None:
    """Three hosts gave each user three times the limit; together they give it once, in one trip for all users."""
    with virtual_time() as vt:
        fleet = hosts(3)
        admitted = play(vt, fleet, "abc", 5.0)
        for user in "abc":
            assert 0.95 * 600 <= admitted[user] <= 600 + 3
        assert max(one.fleet.courier.trips for one in fleet) <= 5 * 8


def test_keys_that_are_not_called_are_not_asked_for() -> None:
    """A hundred users that have gone are no exchanges: one of them is asked for now and then, for the store's sake."""
    with virtual_time() as vt:
        (one,) = hosts(1)
        for user in range(100):
            assert one.tries(user, 1) == 1
        play(vt, [one], "", 10.0)
        before = exchanges(one)
        play(vt, [one], "", 10.0)
        assert exchanges(one) - before <= 10 * 4
        assert one.tries(7, 3) == 1  # the token of credit; it rings, and
        play(vt, [one], "", 0.1)
        assert one.tries(7, 60) >= 5  # what the store has is here


@pytest.mark.parametrize("burst", [1, 12])
def test_a_key_at_rest_has_no_token_that_the_store_has_not(burst: int) -> None:
    """A user of "6/min" who called once a second rested after each call, and had a token of credit at each rest: 100 of
    100 calls passed. Now a key rests with a token only if there is one, and asks once more when there should be.
    """
    with virtual_time() as vt:
        fleet = hosts(2, "6/min", burst=burst)
        admitted = 0
        for i in range(100):
            admitted += fleet[i % 2].tries("a", 1)
            play(vt, fleet, "", 1.0)
        assert burst + 10 - 2 <= admitted <= burst + 10 + 2
        before = exchanges(fleet[0])
        play(vt, fleet, "", 60.0)
        assert exchanges(fleet[0]) - before <= 60 * 4 * 2
        assert [one.tries("a", 1) for one in fleet] == [1, 1]  # a token of credit each, of those that are there


def test_keys_at_rest_have_their_share_without_a_store() -> None:
    """The store is away: a user that had not called for long gets the local share, though no lease had ended."""
    with virtual_time() as vt:
        (one,) = hosts(1)
        play(vt, [one], "a", 1.0)
        play(vt, [one], "", 10.0)
        one.wire.is_cut = True
        play(vt, [one], "", 3.0)
        assert 0.9 * 300 <= play(vt, [one], "a", 3.0)["a"] <= 100 + 300


def test_a_forgotten_key_is_forgotten_by_the_courier() -> None:
    """The tie of a key does not keep its policy: keys come and go."""
    with virtual_time() as vt:
        (one,) = hosts(1)
        play(vt, [one], "ab", 1.0)
        policy = weakref.ref(one.users["a"])
        one.users.reset()
        gc.collect()
        assert policy() is None
        play(vt, [one], "", 0.1)
        assert one.tries("a", 1) == 1


def test_a_key_without_a_form_is_the_process_s_own() -> None:
    """Only keys that all processes write in the same way are shared."""
    with virtual_time():
        (one,) = hosts(1)
        assert one.tries(frozenset({1}), 300) == 100
        assert one.users[frozenset({1})].snapshot().sharing is not None


def test_limit_and_breaker_of_a_pipeline_are_shared_and_the_rest_is_not() -> None:
    """A key's pipeline has an adaptive limit too, which stays the process's own."""
    with virtual_time() as vt:
        store = MemoryEngine()
        parts = rate_limit, circuit_breaker, adaptive_limit
        fleet = [Host(store, lambda: pipeline(parts[0]("100/s"), parts[1](), parts[2]())) for _ in range(2)]
        assert play(vt, fleet, "a", 3.0)["a"] <= 400 + 2
        limit, breaker, adaptive = fleet[0].users["a"].policies
        assert limit.snapshot().sharing.scope == breaker.snapshot().sharing.scope == "fleet:shop"
        assert adaptive.snapshot().sharing is None
        assert fleet[0].users.snapshot().sharing.regime == "leased"


def test_a_keyed_adaptive_limit_cannot_be_shared_in_a_fleet() -> None:
    """Nothing of it would be shared, which is said when it is made."""
    with pytest.raises(TypeError, match="keyed adaptive_limit"):
        keyed(adaptive_limit, key="host", name="hosts", scope=Fleet("shop", MemoryEngine(), is_stepped=True))


def test_an_explanation_has_what_rules_without_a_store() -> None:
    """Of a limit for each key, as of one for all."""
    with virtual_time() as vt:
        one = Host(MemoryEngine(), lambda: rate_limit("100/s", max_wait=0.5))
        play(vt, [one], "a", 1.0)
        notes = pipeline(one.users).explain().notes
        assert notes[0] == (
            "rate_limit (1): draws on tokens leased from the store, and waits for one trip where these are spent and "
            "there are more (fleet shop); "
            "while the store is away each host has its share of the rate"
        )
        assert notes[1:] == ("rate_limit (1): shared by 1 of fleet:shop",)
