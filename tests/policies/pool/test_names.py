"""Endpoints that follow the answers of a resolver, which may fail, be empty, be shuffled or be partial."""

from __future__ import annotations

import logging
import os
import random
import socket
import time
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from oracles.bare_pool import BarePool
from resilio import Endpoint, pipeline, pool
from resilio._policies.pool.names import Dns, Following, dns
from resilio._policies.pool.subset import subset
from resilio.testing import VirtualTime

HOST = "search.internal"


class Resolver:
    """`getaddrinfo` of one host: it answers with what is set, or raises."""

    def __init__(self) -> None:
        self.answer: list[str] | OSError = []
        self.look_ups = 0

    def __call__(self, host: str, port: int, **options: Any) -> list[tuple[Any, ...]]:
        assert host == HOST, "no other name is looked up"
        assert options == {"type": socket.SOCK_STREAM}
        self.look_ups += 1
        if isinstance(self.answer, OSError):
            raise self.answer
        return [self._line(address, port) for address in self.answer]

    def _line(self, address: str, port: int) -> tuple[Any, ...]:
        if ":" in address:
            return (socket.AF_INET6, socket.SOCK_STREAM, 6, "", (address, port, 0, 0))
        return (socket.AF_INET, socket.SOCK_STREAM, 6, "", (address, port))


@pytest.fixture
def resolver(monkeypatch: pytest.MonkeyPatch) -> Resolver:
    fake = Resolver()
    monkeypatch.setattr(socket, "getaddrinfo", fake)
    return fake


def following(pool: BarePool, **options: Any) -> Following:
    return Following(pool, dns(HOST, 443, **options))


def addresses(*last: int) -> list[str]:
    return [f"10.0.0.{one}" for one in last]


def names(*last: int) -> list[str]:
    return [f"10.0.0.{one}:443" for one in last]


def test_each_address_is_an_endpoint_with_the_name_of_its_host(resolver: Resolver) -> None:
    """A certificate is checked against the name, not against the address: the label keeps it."""
    resolver.answer = addresses(1, 2, 1)
    found = dns(HOST, 443)()
    assert [one.target for one in found] == names(1, 2)
    assert [one["host"] for one in found] == [HOST, HOST]


def test_of_two_families_the_preferred_one_is_taken(resolver: Resolver) -> None:
    """A server with an address of each family would be two endpoints, ejected and priced apart."""
    resolver.answer = ["fd00::1", "10.0.0.1", "fd00::2", "10.0.0.2"]
    assert [one.target for one in dns(HOST, 443)()] == ["[fd00::1]:443", "[fd00::2]:443"]


def test_a_failed_and_an_empty_answer_change_nothing(resolver: Resolver, vt: VirtualTime) -> None:
    """A resolver that is down for an hour takes no server away, not even one that had vanished before."""
    pool = BarePool()
    follows = following(pool)
    resolver.answer = addresses(1, 2)
    follows.round()
    resolver.answer = addresses(2)
    follows.round()
    for failed in (socket.gaierror(socket.EAI_AGAIN, "try again"), []):
        resolver.answer = failed
        for _ in range(10):
            vt.advance(360)
            follows.round()
    assert pool.names == names(1, 2)
    assert pool.done == [("add", name) for name in names(1, 2)]
    assert resolver.look_ups == 22


def test_the_order_of_an_answer_means_nothing(resolver: Resolver, vt: VirtualTime) -> None:
    """Resolvers rotate their answers."""
    pool = BarePool()
    follows = following(pool)
    shuffled = addresses(*range(1, 9))
    for _ in range(20):
        random.Random(7).shuffle(shuffled)
        resolver.answer = shuffled
        follows.round()
        vt.advance(30)
    assert len(pool.done) == 8


def test_an_address_that_vanished_stays_while_it_is_well(resolver: Resolver, vt: VirtualTime) -> None:
    """
    Some resolvers show 8 of 50 addresses, others each time: the missing ones are as well as those that are shown.

    The client that followed such an answer moved all its calls to 8 servers every 30 seconds.
    """
    pool = BarePool()
    follows = following(pool)
    for first in range(1, 43, 6):
        resolver.answer = addresses(*range(first, first + 8))
        follows.round()
        vt.advance(30)
    assert pool.names == sorted(names(*range(1, 45)))
    pool.fail("10.0.0.1:443")
    follows.round()
    assert "10.0.0.1:443" not in pool.names, "it failed, and is no longer among the answers"
    assert len(pool.names) == 43


def test_an_address_that_vanished_is_removed_after_a_while(resolver: Resolver, vt: VirtualTime) -> None:
    """A server that was taken out of service on purpose answers for long: after `keep` it is called no more."""
    pool = BarePool()
    follows = following(pool, keep=600)
    resolver.answer = addresses(1, 2)
    follows.round()
    resolver.answer = addresses(2)
    follows.round()
    vt.advance(599)
    follows.round()
    assert pool.names == names(1, 2)
    vt.advance(1)
    follows.round()
    assert pool.names == names(2)


def test_an_address_that_comes_back_in_time_was_never_gone(resolver: Resolver, vt: VirtualTime) -> None:
    """Its absence is counted anew at the next time it is missing."""
    pool = BarePool()
    follows = following(pool, keep=600)
    for answer in ([1, 2], [2], [1, 2], [2]):
        resolver.answer = addresses(*answer)
        follows.round()
        vt.advance(400)
    assert pool.names == names(1, 2)


def test_when_all_addresses_change_the_new_ones_come_before_the_old_ones_go(
    resolver: Resolver, vt: VirtualTime
) -> None:
    """A pool is at no moment empty, even if every old address is down."""
    pool = BarePool()
    follows = following(pool)
    resolver.answer = addresses(1, 2)
    follows.round()
    for name in names(1, 2):
        pool.fail(name)
    resolver.answer = addresses(3)
    follows.round()
    assert pool.names == names(3)
    assert pool.done[2:] == [("add", names(3)[0]), ("remove", names(1)[0]), ("remove", names(2)[0])]


def test_endpoints_of_the_user_are_left_alone(resolver: Resolver, vt: VirtualTime) -> None:
    """What was given or added by hand is no answer of the resolver, and goes by hand."""
    pool = BarePool(Endpoint("spare"), Endpoint("10.0.0.1:443"))
    follows = following(pool, keep=0)
    resolver.answer = addresses(1, 2)
    follows.round()
    assert pool.done == [("add", "10.0.0.2:443")]
    resolver.answer = addresses(2)
    follows.round()
    assert pool.names == ["10.0.0.1:443", "10.0.0.2:443", "spare"]
    pool.remove("10.0.0.2:443")
    follows.round()
    assert pool.names == ["10.0.0.1:443", "spare"], "it is not added again as long as it stays in the answer"


def test_the_last_endpoint_is_never_removed(resolver: Resolver, vt: VirtualTime) -> None:
    """The user removed those that the resolver shows: the one that vanished is better than none."""
    pool = BarePool()
    follows = following(pool, keep=0)
    resolver.answer = addresses(1, 2)
    follows.round()
    pool.remove("10.0.0.2:443")
    resolver.answer = addresses(2)
    follows.round()
    assert pool.names == names(1)


def test_trouble_is_logged_once_and_its_end_once(
    resolver: Resolver, vt: VirtualTime, caplog: pytest.LogCaptureFixture
) -> None:
    """An operator sees that names are old, without a line every 30 seconds."""
    pool = BarePool()
    follows = following(pool)
    resolver.answer = socket.gaierror(socket.EAI_NONAME, "unknown")
    with caplog.at_level(logging.INFO, "resilio"):
        waits = [follows.round() for _ in range(8)]
        resolver.answer = addresses(1)
        follows.round()
    assert [record.levelname for record in caplog.records] == ["WARNING", "INFO"]
    assert "pool 'nodes': names cannot be resolved (gaierror: " in caplog.messages[0]
    assert caplog.messages[1] == "pool 'nodes': names are resolved again, to 1 endpoints"
    assert waits[0] < 1.0 < waits[3] < waits[7], "it is tried again soon, and then less often"
    assert waits[7] <= 33.0


def test_a_function_may_return_the_endpoints(vt: VirtualTime) -> None:
    """Service discovery is one function; the weights that it returns are followed too."""
    pool = BarePool()
    answer = [Endpoint("a", weight=1.0), Endpoint("b")]
    follows = Following(pool, lambda: answer)
    follows.round()
    answer[0] = Endpoint("a", weight=3.0)
    follows.round()
    assert [one.weight for one in pool.endpoints] == [3.0, 1.0]
    assert pool.done[2:] == [("weigh", "a")]
    answer.append("no endpoint")  # type: ignore[arg-type]
    assert follows.round() <= 1.0
    assert pool.names == ["a", "b"]


@given(st.integers(65, 300), st.data())
def test_of_too_many_endpoints_a_process_takes_some_and_keeps_to_them(count: int, data: st.DataObject) -> None:
    """A scan of a thousand endpoints a call is too slow; if one of the others goes, no place changes."""
    every = tuple(Endpoint(f"e{number}") for number in range(count))
    chosen = subset(every)
    assert len(set(chosen)) == 32
    gone = data.draw(st.sampled_from([one for one in every if one not in chosen]))
    if count > 65:
        assert subset(tuple(one for one in every if one != gone)) == chosen


def test_each_process_takes_other_endpoints() -> None:
    """Forked workers that all took the same 32 of 300 servers would leave 268 idle."""
    every = tuple(Endpoint(f"e{number}") for number in range(300))
    mine = subset(every)
    reading, writing = os.pipe()
    child = os.fork()
    if child == 0:
        os.write(writing, ",".join(one.name for one in subset(every)).encode())
        os._exit(0)
    os.close(writing)
    with os.fdopen(reading) as pipe:
        theirs = pipe.read().split(",")
    os.waitpid(child, 0)
    assert len(theirs) == 32
    assert set(theirs) != {one.name for one in mine}


def test_few_endpoints_are_all_taken() -> None:
    """A pool has places for 64."""
    every = tuple(Endpoint(f"e{number}") for number in range(64))
    assert subset(every) == every


def test_a_thread_looks_up_and_a_new_pool_has_its_first_endpoints(resolver: Resolver) -> None:
    """The first call after the definition of a pool finds endpoints."""
    resolver.answer = addresses(1, 2)
    pool = BarePool()
    follows = following(pool)
    follows.begin()
    follows.rounds.stop()
    assert pool.names == names(1, 2)


def test_a_child_looks_up_for_itself(resolver: Resolver) -> None:
    """A forked worker has no threads of its parent: without a new one it would keep the old names for good."""
    resolver.answer = addresses(1)
    pool = BarePool()
    follows = following(pool, every="1ms")
    follows.begin()
    reading, writing = os.pipe()
    child = os.fork()
    if child == 0:
        resolver.answer = addresses(1, 2)
        follows.rounds.wait_first(30.0)
        while len(pool.names) < 2:
            time.sleep(0.001)
        os.write(writing, b"followed")
        os._exit(0)
    os.close(writing)
    with os.fdopen(reading) as pipe:
        assert pipe.read() == "followed"
    os.waitpid(child, 0)
    follows.rounds.stop()


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("https://search.internal", 443), "host must be the name of a host"),
        (("", 443), "host must be the name of a host"),
        ((HOST, 0), "port must be an int from 1 to 65535, not 0"),
    ],
)
def test_a_wrong_name_is_rejected(arguments: tuple[Any, ...], message: str) -> None:
    """A URL in place of a name would be looked up in vain for ever."""
    with pytest.raises(ValueError, match=message):
        dns(*arguments)


def test_equal_look_ups_are_equal() -> None:
    """A module that is loaded twice defines the same pool."""
    assert dns(HOST, 443, every="30s") == dns(HOST, 443) == Dns(host=HOST, port=443, every=30.0, keep=600.0)


def many(count: int = 100) -> list[Endpoint]:
    return [Endpoint(f"e{number}") for number in range(count)]


def test_of_more_endpoints_than_places_a_pool_uses_some() -> None:
    """More than 64 endpoints given by hand were an error; those of a look-up are a part, other ones in each process."""
    p = pool(None, *many())
    assert len(p.endpoints) == 32
    assert p.snapshot().unused == 68
    assert "68 more endpoints are left to other processes" in " ".join(pipeline(p).explain().notes)
    assert {p.call(lambda endpoint: endpoint.name) for _ in range(500)} <= {one.name for one in p.endpoints}
    gone = p.endpoints[0].name
    p.remove(gone)
    p.add(Endpoint("new"))
    assert "new" in p
    assert gone not in p


def test_an_endpoint_more_than_there_are_places_is_rejected_with_the_fix() -> None:
    """A pool that changes by hand has 64 places."""
    p = pool(None, *many(64))
    with pytest.raises(ValueError, match="'e64' would be one more: remove another one before, or pass all to pool"):
        p.add(Endpoint("e64"))


def test_a_look_up_of_too_many_is_counted_and_finds_room(vt: VirtualTime) -> None:
    """
    What a process leaves to others is stated, however the endpoints were found.

    Those of an earlier answer stay while they are well: with those of the next one they were too many, and it failed.
    """
    answer = many()
    p = pool(None, Endpoint("by_hand"), resolve=lambda: answer)
    assert (len(p.endpoints), p.snapshot().unused) == (33, 68)
    answer[:] = [Endpoint(f"other{number}") for number in range(63)]
    p.refresh()
    assert p.snapshot().unused == 0
    assert {one.name for one in p.endpoints} == {"by_hand", *(one.name for one in answer)}


@pytest.mark.skipif(not hasattr(os, "fork"), reason="needs fork")
def test_a_forked_child_uses_a_part_of_its_own() -> None:
    """Workers that a server forks after it has loaded the application would all use their parent's 32 of 300."""
    p = pool(None, *many(300))
    p.remove(p.endpoints[0].name)
    mine = [one.name for one in p.endpoints]
    reading, writing = os.pipe()
    child = os.fork()
    if child == 0:
        try:
            called = {p.call(lambda endpoint: endpoint.name) for _ in range(500)}
            os.write(writing, ",".join([*(one.name for one in p.endpoints), *sorted(called)]).encode())
        finally:
            os._exit(0)
    os.close(writing)
    with os.fdopen(reading) as pipe:
        theirs = pipe.read().split(",")
    os.waitpid(child, 0)
    assert len(theirs[:32]) == 32
    assert set(theirs[32:]) <= set(theirs[:32])
    assert set(theirs[:32]) != set(mine)
