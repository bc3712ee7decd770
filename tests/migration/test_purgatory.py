"""What the page about purgatory shows, run beside purgatory."""

from __future__ import annotations

import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from migration.hosts import CALLEE, hosts_of, outage_of, trouble_of
from migration.pairs import Pair, ServerBusy, Side, call_both
from resilio.testing import VirtualTime

LIBRARY = "purgatory"

Pairs = Callable[[str], Pair]


def _in_turn(sides: tuple[Side, Side], count: int, argument: str = "/users") -> int:
    """Call both; they must reject the same calls, and let the same through. Return how many were rejected."""
    shown = []
    for side in sides:
        ended = [side.call(argument) for _ in range(count)]
        shown.append(["rejected" if isinstance(one.error, side["Rejected"]) else one.shown for one in ended])
    assert shown[0] == shown[1]
    assert sides[0].client.calls == sides[1].client.calls
    return shown[1].count("rejected")


@pytest.mark.parametrize("failures", range(8))
def test_breakers_open_at_the_same_failure(pair: Pairs, failures: int) -> None:
    """So many failures in a row, and from then on rejections."""
    sides = pair("breaker").both(*[ConnectionError("no")] * failures, "users")
    assert _in_turn(sides, 10) == (5 if failures >= 5 else 0)


def test_a_success_ends_the_row(pair: Pairs) -> None:
    """Failures that are not in a row do not open either."""
    no = ConnectionError("no")
    assert _in_turn(pair("breaker").both(no, no, no, no, "users", no, no, no, no, "users"), 10) == 0


def test_breakers_close_again(pair: Pairs, vt: VirtualTime) -> None:
    """After the open time one success closes purgatory, two close ours."""
    before, after = pair("breaker").both(*[ConnectionError("no")] * 5, "users")
    _in_turn((before, after), 6)
    vt.advance(30.001)
    assert before.call().value == after.call().value == "users"
    assert _state_of(before) == "closed"
    assert after["breaker"].state == "half_open"
    after.call()
    assert after["breaker"].state == "closed"


def _state_of(side: Side) -> str:
    return str(side["breakers"].get_breaker("users").context.state)


def test_a_failed_probe_opens_again(pair: Pairs, vt: VirtualTime) -> None:
    """And the next call is rejected by both."""
    sides = pair("breaker").both(ConnectionError("no"))
    _in_turn(sides, 6)
    vt.advance(30.001)
    assert _in_turn(sides, 3) == 2


def test_only_ours_lets_one_call_probe(pair: Pairs, vt: VirtualTime) -> None:
    """A call that begins while a probe is under way: purgatory sends it into the outage, ours rejects it."""
    before, after = pair("breaker").both(*[ConnectionError("no")] * 5, lambda _: None)
    _in_turn((before, after), 5)
    vt.advance(30.001)
    found = []
    for side in (before, after):
        side.client.script = [lambda _, side=side: found.append(side.call().error), "users"]
        side.client.times.clear()
        side.call()
    assert found[0] is None
    assert isinstance(found[1], after["Rejected"])


def test_async_functions_are_guarded(pair: Pairs) -> None:
    """By the same breaker here, by a factory of another class there."""
    assert _in_turn(pair("async").both(ConnectionError("no")), 5) == 2


def test_each_object_has_a_breaker(pair: Pairs) -> None:
    """One host that is down does not shut out another."""
    sides = pair("block").both(ConnectionError("no"))
    assert _in_turn(sides, 3, "a.example") == 1
    assert _in_turn(sides, 3, "b.example") == 1


@pytest.mark.parametrize("answered", [KeyError("users"), ServerBusy(404)])
def test_excluded_exceptions_are_successes(pair: Pairs, answered: Exception) -> None:
    """The callee has answered: the row of failures is over."""
    no = ConnectionError("no")
    sides = pair("exclude").both(no, no, answered, no, no, answered, no, no, ServerBusy(503))
    for _ in range(9):
        call_both(sides)
    for side in sides:
        assert side.call().error is not None
        assert not isinstance(side.call().error, ServerBusy)


def test_listeners_hear_of_the_same_changes(pair: Pairs, vt: VirtualTime) -> None:
    """The names of the states are a little different."""
    sides = pair("listeners").both(ConnectionError("no"), ConnectionError("no"), "users")
    for side in sides:
        for _ in range(2):
            side.call()
    vt.advance(30.001)
    for side in sides:
        for _ in range(2):
            assert side.call().value == "users"
    before, after = (side["seen"] for side in sides)
    assert before == [("users", "opened"), ("users", "half-opened"), ("users", "closed")]
    assert after == [("users", "open"), ("users", "half_open"), ("users", "closed")]


@pytest.mark.once
@pytest.mark.untraced
@pytest.mark.skipif(sys.platform != "linux", reason="shared memory of hosts is for Linux")
@pytest.mark.parametrize("side", [0, 1])
def test_an_outage_opens_on_all_hosts(pair: Pairs, side: int, tmp_path: Path) -> None:
    """A host without a failure rejects its next call, by what two others have seen."""
    assert pair("hosts")
    with hosts_of(LIBRARY, side, tmp_path, CALLEE) as hosts:
        assert outage_of(hosts) >= 10


@pytest.mark.once
@pytest.mark.untraced
@pytest.mark.skipif(sys.platform != "linux", reason="shared memory of hosts is for Linux")
@pytest.mark.parametrize("in_turns", [False, True])
def test_one_broken_host_opens_ours_for_itself(pair: Pairs, tmp_path: Path, *, in_turns: bool) -> None:
    """purgatory opens for all hosts; and for none while calls of others succeed in between."""
    assert pair("hosts")
    with hosts_of(LIBRARY, 0, tmp_path, CALLEE) as hosts:
        assert trouble_of(hosts, in_turns=in_turns) == ([100, 100, 100] if in_turns else [10, 0, 0])
    with hosts_of(LIBRARY, 1, tmp_path, CALLEE) as hosts:
        broken, *well = trouble_of(hosts, in_turns=in_turns)
        assert 10 <= broken <= 30
        assert well == [100, 100]
        assert [host.ask("state()") for host in hosts] == ["open", "closed", "closed"]
