"""What the page about pybreaker shows, run beside pybreaker."""

from __future__ import annotations

import asyncio
import sys
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from migration.hosts import CALLEE, hosts_of, outage_of, trouble_of
from migration.pairs import Pair, ServerBusy, Side, call_both
from resilio.testing import VirtualTime

LIBRARY = "pybreaker"

Pairs = Callable[[str], Pair]


def _in_turn(sides: tuple[Side, Side], count: int, *, name: str = "fetch", argument: str = "/users") -> list[str]:
    """Call both; they must reject the same calls, and let the same through."""
    shown = []
    for side in sides:
        ended = [side.call(argument, name=name) for _ in range(count)]
        shown.append(["rejected" if isinstance(one.error, side["Rejected"]) else one.shown for one in ended])
    assert shown[0] == shown[1]
    assert sides[0].client.calls == sides[1].client.calls
    return [kind for kind in shown[1] if kind == "rejected"]


@pytest.mark.parametrize("failures", range(8))
def test_breakers_open_at_the_same_failure(pair: Pairs, failures: int) -> None:
    """So many failures in a row, and from then on rejections."""
    sides = pair("breaker").both(*[ConnectionError("no")] * failures, "users")
    assert len(_in_turn(sides, 10)) == (5 if failures >= 5 else 0)


def test_a_success_ends_the_row(pair: Pairs) -> None:
    """Failures that are not in a row do not open either."""
    no = ConnectionError("no")
    assert _in_turn(pair("breaker").both(no, no, no, no, "users", no, no, no, no, "users"), 10) == []


def test_breakers_close_again(pair: Pairs, vt: VirtualTime) -> None:
    """After the open time both let a probe pass; one success closes pybreaker, two close ours."""
    before, after = pair("breaker").both(*[ConnectionError("no")] * 5, "users")
    _in_turn((before, after), 6)
    vt.advance(30)
    assert before.call().value == after.call().value == "users"
    assert before["breaker"].current_state == "closed"
    assert after["breaker"].state == "half_open"
    after.call()
    assert after["breaker"].state == "closed"


def test_a_failed_probe_opens_again(pair: Pairs, vt: VirtualTime) -> None:
    """And the next call is rejected by both."""
    sides = pair("breaker").both(ConnectionError("no"))
    _in_turn(sides, 6)
    vt.advance(30)
    assert len(_in_turn(sides, 3)) == 2


def test_the_call_that_opens_raises_its_own_exception(pair: Pairs) -> None:
    """pybreaker's default replaces it."""
    before, after = pair("by-hand").both(ConnectionError("no"))
    assert [type(before.call().error).__name__ for _ in range(3)][-1] == "CircuitBreakerError"
    assert [type(after.call().error) for _ in range(3)][-1] is ConnectionError


def test_async_functions_are_guarded(pair: Pairs) -> None:
    """pybreaker counts a success for each coroutine that it makes, and never opens."""
    before, after = pair("async").both(ConnectionError("no"))
    for side in (before, after):
        for _ in range(5):
            side.call()
    assert (before["breaker"].current_state, before.client.calls) == ("closed", 5)
    assert (after["breaker"].state, after.client.calls) == ("open", 3)


@pytest.mark.parametrize("name", ["fetch", "fetch_in_block"])
def test_calls_and_blocks_are_rejected_alike(pair: Pairs, name: str) -> None:
    """Without a decorator it is the same breaker."""
    assert len(_in_turn(pair("call").both(ConnectionError("no")), 5, name=name)) == 2


@pytest.mark.parametrize("answered", [KeyError("users"), ServerBusy(404)])
def test_excluded_exceptions_are_successes(pair: Pairs, answered: Exception) -> None:
    """The callee has answered: the row of failures is over."""
    no = ConnectionError("no")
    sides = pair("exclude").both(no, no, answered, no, no, answered, no, no)
    for _ in range(8):
        call_both(sides)


def test_excluded_exceptions_open_neither(pair: Pairs) -> None:
    """However many there are."""
    sides = pair("exclude").both(KeyError("users"))
    for _ in range(10):
        call_both(sides)
    sides = pair("exclude").both(ServerBusy(503))
    for _ in range(3):
        call_both(sides)
    assert sides[0]["breaker"].current_state == sides[1]["breaker"].state == "open"


def test_what_is_ignored_does_not_count_at_all(pair: Pairs) -> None:
    """An excluded exception resets pybreaker's row; an ignored one leaves ours as it is."""
    no = ConnectionError("no")
    before, after = pair("ignore").both(no, no, KeyError("users"), no)
    for side in (before, after):
        for _ in range(4):
            side.call()
    assert before["breaker"].current_state == "closed"
    assert after["breaker"].state == "open"


def test_listeners_hear_the_same(pair: Pairs, vt: VirtualTime) -> None:
    """Successes, failures and changes of state."""
    sides = pair("listeners").both(ConnectionError("no"), ConnectionError("no"), "users")
    for side in sides:
        for _ in range(2):
            side.call()
    vt.advance(30)
    for side in sides:
        for _ in range(2):
            assert side.call().value == "users"
    before, after = (side["seen"] for side in sides)
    assert sorted(map(str, before)) == sorted(map(str, after))
    assert [one for one in before if isinstance(one, tuple)] == [one for one in after if isinstance(one, tuple)]
    assert ("users", "half_open", "closed") in after


def test_breakers_are_opened_and_closed_by_hand(pair: Pairs, vt: VirtualTime) -> None:
    """An open one rejects; ours until it is told otherwise."""
    sides = pair("by-hand").both(ConnectionError("no"), "users")
    for side in sides:
        side.call()
    assert sides[0]["shown"]() == sides[1]["shown"]() == ("closed", 1)
    for side in sides:
        side["shut"]()
    assert len(_in_turn(sides, 2)) == 2
    for side in sides:
        side["restore"]()
    assert _in_turn(sides, 1) == []
    for side in sides:
        side["shut"]()
    vt.advance(60)
    assert sides[0].call().value == "users"
    assert isinstance(sides[1].call().error, sides[1]["Rejected"])


def test_each_object_has_a_breaker(pair: Pairs) -> None:
    """One host that is down does not shut out another."""
    sides = pair("each").both(ConnectionError("no"))
    assert len(_in_turn(sides, 3, argument="a.example")) == 1
    assert len(_in_turn(sides, 3, argument="b.example")) == 1


def test_calls_run_side_by_side(pair: Pairs) -> None:
    """pybreaker's lock is held while the function runs; two threads meet inside of ours."""
    before, after = pair("by-hand").both("users")
    inside: list[bool] = []
    before.client.script = [lambda _: inside.append(_free_elsewhere(before["breaker"]._lock))]
    before.call()
    assert inside == [False]

    meeting = threading.Barrier(2)
    after.client.script = [lambda _: meeting.wait()]
    other = threading.Thread(target=after.call)
    other.start()
    after.call()
    other.join()
    assert not meeting.broken


def _free_elsewhere(lock: Any) -> bool:
    got = []
    thread = threading.Thread(target=lambda: got.append(lock.acquire(blocking=False)))
    thread.start()
    thread.join()
    return got[0]


@pytest.mark.parametrize("interruption", [KeyboardInterrupt, asyncio.CancelledError])
def test_interruptions_are_no_failures(pair: Pairs, interruption: type[BaseException]) -> None:
    """pybreaker opens at them."""
    before, after = pair("breaker").both(interruption())
    for side in (before, after):
        for _ in range(5):
            side.call()
    assert before["breaker"].current_state == "open"
    assert after["breaker"].state == "closed"


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
    """pybreaker opens for all hosts; and for none while calls of others succeed in between."""
    assert pair("hosts")
    with hosts_of(LIBRARY, 0, tmp_path, CALLEE) as hosts:
        assert trouble_of(hosts, in_turns=in_turns) == ([100, 100, 100] if in_turns else [10, 0, 0])
    with hosts_of(LIBRARY, 1, tmp_path, CALLEE) as hosts:
        broken, *well = trouble_of(hosts, in_turns=in_turns)
        assert 10 <= broken <= 30
        assert well == [100, 100]
        assert [host.ask("state()") for host in hosts] == ["open", "closed", "closed"]
