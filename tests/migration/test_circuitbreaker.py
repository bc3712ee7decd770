"""What the page about circuitbreaker shows, run beside circuitbreaker."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Any

import pytest

from migration.pairs import Pair, ServerBusy, Side, call_both
from resilio import policy_of
from resilio.testing import VirtualTime

LIBRARY = "circuitbreaker"

Pairs = Callable[[str], Pair]


@pytest.fixture(autouse=True)
def _no_monitor(monkeypatch: pytest.MonkeyPatch) -> None:
    """Forget what the snippets register for the whole process."""
    module = pytest.importorskip(LIBRARY)
    monkeypatch.setattr(module.CircuitBreakerMonitor, "circuit_breakers", {})


def _in_turn(sides: tuple[Side, Side], count: int) -> int:
    """Call both; they must reject the same calls, and let the same through. Return how many were rejected."""
    shown = []
    for side in sides:
        ended = [side.call() for _ in range(count)]
        shown.append(["rejected" if isinstance(one.error, side["Rejected"]) else one.shown for one in ended])
    assert shown[0] == shown[1]
    assert sides[0].client.calls == sides[1].client.calls
    return shown[1].count("rejected")


def _breaker(side: Side) -> Any:
    return policy_of(side["fetch"])


@pytest.mark.parametrize("failures", range(8))
def test_breakers_open_at_the_same_failure(pair: Pairs, failures: int) -> None:
    """So many failures in a row, and from then on rejections."""
    sides = pair("breaker").both(*[ConnectionError("no")] * failures, "users")
    assert _in_turn(sides, 10) == (5 if failures >= 5 else 0)


def test_other_exceptions_end_the_row(pair: Pairs) -> None:
    """What is not expected is a success for both."""
    no = ConnectionError("no")
    assert _in_turn(pair("breaker").both(no, no, no, no, KeyError("x"), no, no, no, no, "users"), 10) == 0


def test_breakers_close_again(pair: Pairs, vt: VirtualTime) -> None:
    """After the open time both let calls pass, and then close."""
    sides = pair("breaker").both(*[ConnectionError("no")] * 5, "users")
    _in_turn(sides, 6)
    vt.advance(31)
    assert _in_turn(sides, 3) == 0
    assert _breaker(sides[1]).state == "closed"


@pytest.mark.parametrize("backend", ["asyncio", "trio"])
def test_async_functions_are_guarded(pair: Pairs, backend: str) -> None:
    """The same decorator, on both event loops."""
    sides = pair("async").both(ConnectionError("no"))
    for side in sides:
        side.backend = backend
    assert _in_turn(sides, 5) == 2


def test_a_cancellation_says_nothing(pair: Pairs) -> None:
    """circuitbreaker counts it as a success, which ends the row of failures."""
    no = ConnectionError("no")
    before, after = pair("async").both(no, no, asyncio.CancelledError(), no, "users")
    for side in (before, after):
        for _ in range(4):
            side.call()
    assert before.call().value == "users"
    assert isinstance(after.call().error, after["Rejected"])


@pytest.mark.parametrize("error", [ServerBusy(503), ServerBusy(404), KeyError("users")])
def test_predicates_decide_alike(pair: Pairs, error: Exception) -> None:
    """A predicate of the exception takes the place of one of its type and itself."""
    rejected = _in_turn(pair("predicate").both(error), 5)
    assert rejected == (2 if getattr(error, "status", 0) == 503 else 0)


def test_fallbacks_answer_rejected_calls(pair: Pairs) -> None:
    """With the arguments of the call, and only those that the breaker rejects."""
    sides = pair("fallback").both(ConnectionError("no"))
    ended = [call_both(sides) for _ in range(5)]
    assert [one.value for one in ended] == [None, None, None, "/users of yesterday", "/users of yesterday"]


def test_an_open_breaker_rejects_a_block(pair: Pairs) -> None:
    """circuitbreaker's block lets calls pass."""
    before, after = pair("block").both(ConnectionError("no"))
    for _ in range(5):
        before.call()
        after.call()
    assert before["breaker"].opened
    assert after["breaker"].state == "open"
    assert (before.client.calls, after.client.calls) == (5, 3)


def test_subclasses_become_functions(pair: Pairs, vt: VirtualTime) -> None:
    """With the same options."""
    sides = pair("subclass").both(ConnectionError("no"))
    assert _in_turn(sides, 4) == 2
    vt.advance(50)
    assert _in_turn(sides, 1) == 1
    vt.advance(11)
    assert _in_turn(sides, 1) == 0


def test_open_breakers_are_listed(pair: Pairs) -> None:
    """The registry takes the place of the monitor."""
    sides = pair("monitor").both(ConnectionError("no"))
    call_both(sides)
    assert [side["shown"]() for side in sides] == [("closed", 1)] * 2
    call_both(sides)
    assert [side["open_breakers"]() for side in sides] == [["users"]] * 2


def test_two_breakers_of_one_name_are_one(pair: Pairs) -> None:
    """The monitor of circuitbreaker shows the one that was made last; here both guard with one state."""
    before, after = pair("monitor").both(ConnectionError("no"))
    for side in (before, after):
        for _ in range(2):
            side.call()
    before["circuit"](failure_threshold=2, name="users")(len)
    after["circuit_breaker"]("users", consecutive=2)(len)
    assert before["open_breakers"]() == []
    assert after["open_breakers"]() == ["users"]


async def _side_by_side(side: Side, count: int) -> list[Any]:
    async def get(argument: Any) -> Any:
        side.client.times.append(side.vt.now)
        await asyncio.sleep(0.01)
        return "users"

    side.client.get = get
    return await asyncio.gather(*[side["fetch"]("/users") for _ in range(count)], return_exceptions=True)


def test_probes_are_counted(pair: Pairs, vt: VirtualTime) -> None:
    """When its time is over circuitbreaker lets all calls pass at once; here one does."""
    before, after = pair("async").both(ConnectionError("no"))
    _in_turn((before, after), 3)
    vt.advance(31)
    for side, passed in ((before, 10), (after, 1)):
        answers = side.run(_side_by_side, side, 10).value
        assert answers.count("users") == passed
        assert sum(isinstance(one, side["Rejected"]) for one in answers) == 10 - passed


async def _succeed_late(side: Side) -> bool:
    async def late(_: Any) -> Any:
        await asyncio.sleep(1)
        return "late"

    fails = side.client.get
    side.client.get = late
    task = asyncio.create_task(side["fetch"]("/users"))
    await asyncio.sleep(0)
    side.client.get = fails
    for _ in range(3):
        with pytest.raises(ConnectionError):
            await side["fetch"]("/users")
    await task
    try:
        await side["fetch"]("/users")
    except side["Rejected"]:
        return True
    except ConnectionError:
        return False
    raise AssertionError("the script says that it fails")


def test_late_results_do_not_close_it(pair: Pairs) -> None:
    """A call from before the outage that succeeds closes circuitbreaker; it says nothing here."""
    before, after = pair("async").both(ConnectionError("no"))
    assert before.run(_succeed_late, before).value is False
    assert after.run(_succeed_late, after).value is True
