"""What the page about tenacity shows, run beside tenacity."""

from __future__ import annotations

import asyncio
import random
from collections.abc import Callable
from typing import Any

import pytest

from migration.pairs import Client, Pair, Rejected, ServerBusy, Side, call_both
from resilio import policy_of, retry
from resilio.testing import VirtualTime

LIBRARY = "tenacity"

Pairs = Callable[[str], Pair]


@pytest.mark.parametrize("failures", range(6))
def test_exceptions_are_retried_as_often(pair: Pairs, failures: int) -> None:
    """As many calls, the same result or the same last exception, however often the callee fails."""
    script = [ConnectionError(f"no {number}") for number in range(failures)]
    call_both(pair("exceptions").both(*script, "users"))


def test_other_exceptions_are_not_retried(pair: Pairs) -> None:
    """What the options do not name passes at once, on both sides."""
    sides = pair("exceptions").both(KeyError("users"), "users")
    call_both(sides)
    assert sides[1].client.calls == 1


@pytest.mark.parametrize("backend", ["asyncio", "trio"])
@pytest.mark.parametrize("failures", range(4))
def test_async_functions_are_retried_as_often_and_after_the_same_waits(
    pair: Pairs, failures: int, backend: str
) -> None:
    """The same decorator serves coroutine functions, on both event loops."""
    sides = pair("async").both(*[ConnectionError("no")] * failures, "users")
    for side in sides:
        side.backend = backend
    call_both(sides)
    assert sides[1].client.waits == sides[0].client.waits


@pytest.mark.parametrize("script", [[ServerBusy(500), "users"], [ServerBusy(400), "users"], [KeyError("x"), "users"]])
def test_predicates_decide_alike(pair: Pairs, script: list[Any]) -> None:
    """One predicate, the same attempts."""
    call_both(pair("predicate").both(*script))


@pytest.mark.parametrize("error", [ValueError("no"), KeyError("users")])
def test_all_but_some_exceptions_are_retried(pair: Pairs, error: Exception) -> None:
    """`ignore` takes the place of the type that is not retried."""
    call_both(pair("all-but").both(error, "users"))


def test_a_cancellation_is_not_retried(pair: Pairs) -> None:
    """tenacity swallows a cancellation that a condition matches; here it passes."""
    before, after = pair("all-but").both(asyncio.CancelledError(), "users")
    assert before.call().value == "users"
    assert isinstance(after.call().error, asyncio.CancelledError)
    assert after.client.calls == 1


@pytest.mark.parametrize(
    "script",
    [[None, "users"], [None, ConnectionError("no"), "users"], [None], [None, KeyError("x")]],
    ids=["once", "both", "always", "other"],
)
def test_results_are_retried(pair: Pairs, script: list[Any]) -> None:
    """A failed result is asked for again, and the last one is returned."""
    sides = pair("result").both(*script)
    call_both(sides)
    assert sides[1].client.waits == sides[0].client.waits


def _waits(wait: Any, vt: VirtualTime, tenacity: Any = None) -> list[float]:
    random.seed(1)
    client = Client([ConnectionError("no")], vt)
    if tenacity:
        guarded = tenacity.retry(wait=wait, stop=tenacity.stop_after_attempt(7), reraise=True)(client.get)
    else:
        guarded = retry(on=ConnectionError, attempts=7, backoff=wait, budget=None)(client.get)
    with pytest.raises(ConnectionError):
        guarded("/users")
    return client.waits


def test_waits_are_the_same(pair: Pairs, vt: VirtualTime) -> None:
    """Every kind of wait on the page; where it is drawn by resilio itself, its bounds."""
    import tenacity

    before, after = (side["waits"] for side in pair("waits").both())
    assert list(after) == list(before)
    for kind in after:
        theirs, ours = _waits(before[kind], vt, tenacity), _waits(after[kind], vt)
        if kind == "full jitter":
            longest = [0.5, 1.0, 2.0, 3.0, 3.0, 3.0]
            assert all(wait <= most for wait, most in zip(ours, longest, strict=True))
            assert all(wait <= most for wait, most in zip(theirs, longest, strict=True))
        else:
            assert ours == pytest.approx(theirs), kind


def test_a_wait_that_the_callee_asks_for_is_waited(pair: Pairs) -> None:
    """Retry-After needs no code, and is spread over up to once its length."""
    sides = pair("asked").both(ServerBusy(429, Retry_After="7"), ServerBusy(429), "users")
    call_both(sides)
    assert sides[0].client.waits == [7.0, 1.0]
    asked, plain = sides[1].client.waits
    assert 7.0 <= asked <= 14.0
    assert plain == 1.0


def test_a_wait_asked_for_in_another_way_is_waited(pair: Pairs) -> None:
    """The predicate may write down what the exception says in its own way."""
    sides = pair("asked-otherwise").both(Rejected(7.0), Rejected(2.0), "users")
    call_both(sides)
    assert sides[0].client.waits == sides[1].client.waits == [7.0, 2.0]
    call_both(pair("asked-otherwise").both(KeyError("users")))


def test_time_is_limited(pair: Pairs) -> None:
    """No attempt begins after the limit, and the last real exception comes out."""
    sides = pair("time").both(ConnectionError("no"))
    call_both(sides)
    assert sides[0].client.waits == sides[1].client.waits == [3.0] * 3


@pytest.mark.parametrize("failures", range(5))
def test_blocks_are_retried_as_often(pair: Pairs, failures: int) -> None:
    """A loop over attempts does what the decorator does."""
    sides = pair("block").both(*[ConnectionError("no")] * failures, "users")
    call_both(sides)
    assert sides[1].client.waits == sides[0].client.waits


@pytest.mark.parametrize("backend", ["asyncio", "trio"])
@pytest.mark.parametrize("script", [["users"], ["wait", "users"], ["wait"], [ConnectionError("no")]])
def test_async_blocks_judge_their_result(pair: Pairs, script: list[Any], backend: str) -> None:
    """A block says what its result is, and is run again if that is a failure."""
    sides = pair("async-block").both(*script)
    for side in sides:
        side.backend = backend
    call_both(sides)


@pytest.mark.parametrize("failures", range(5))
def test_calls_without_a_decorator_are_retried(pair: Pairs, failures: int) -> None:
    """A policy calls what it is given."""
    call_both(pair("call").both(*[ConnectionError("no")] * failures, "users"))


def test_other_options_for_one_call_are_another_policy(pair: Pairs) -> None:
    """What the page says in the place of `retry_with`."""
    side = pair("async").after(ConnectionError("no"))
    once = retry(on=ConnectionError, attempts=1)
    assert isinstance(side.run(once.acall, side["fetch"].__wrapped__, "/users").error, ConnectionError)
    assert side.client.calls == 1


@pytest.mark.parametrize("failures", range(5))
def test_something_else_takes_the_place_of_a_failure(pair: Pairs, failures: int) -> None:
    """A fallback is what is returned when all attempts have failed."""
    call_both(pair("instead").both(*[ConnectionError("no")] * failures, "users"))


@pytest.mark.parametrize("failures", range(5))
def test_the_exception_says_how_it_went(pair: Pairs, failures: int) -> None:
    """The trail is on the exception itself, which is not wrapped."""
    ended = call_both(pair("error").both(*[ConnectionError("no")] * failures, "users"))
    assert ended.value == ("3 attempts, then no" if failures > 2 else "users")


def test_the_original_exception_is_raised(pair: Pairs) -> None:
    """tenacity wraps it unless told not to."""
    before, after = (side.run(side["fetch_often"], "/users") for side in pair("error").both(ConnectionError("no")))
    assert type(before.error).__name__ == "RetryError"
    assert type(after.error) is ConnectionError
    assert after.error.resilio.stop_reason == "attempts"


def test_callbacks_hear_of_retries(pair: Pairs) -> None:
    """The number of the attempt and the wait."""
    sides = pair("callbacks").both(ConnectionError("no"))
    call_both(sides)
    assert sides[0]["seen"] == sides[1]["seen"] == [(1, 2.0), (2, 2.0)]


def test_tests_need_not_wait(pair: Pairs) -> None:
    """Waits, or all of the retry, can be taken out."""
    sides = pair("tests").both(ConnectionError("no"))
    call_both(sides, name="fetch_without_waits")
    assert sides[0].client.waits == sides[1].client.waits == [0.0, 0.0]
    call_both(sides, name="fetch_once")
    assert sides[1].client.calls == 4


def _in_an_outage(side: Side) -> int:
    for _ in range(10):
        side.call()
    return side.client.calls


def test_a_budget_spares_a_callee_that_is_down(pair: Pairs) -> None:
    """Ten calls in an outage are thirty with tenacity, and thirteen here."""
    before, after = pair("exceptions").both(ConnectionError("no"))
    assert (_in_an_outage(before), _in_an_outage(after)) == (30, 13)


def _calls_when_idle(side: Side, vt: VirtualTime) -> int:
    vt.advance(120)
    side.call()
    return side.client.calls


def test_a_budget_that_was_idle_pays_for_all_attempts_of_a_call(pair: Pairs, vt: VirtualTime) -> None:
    """However long nothing was called: the first call that fails is tried three times."""
    before, after = pair("exceptions").both(ConnectionError("no"))
    assert (_calls_when_idle(before, vt), _calls_when_idle(after, vt)) == (3, 3)


def test_who_always_fails_is_paid_for_no_more_however_seldom_the_calls(pair: Pairs, vt: VirtualTime) -> None:
    """Only successes pay in; without a budget every call has its three attempts."""
    side, free = (pair("exceptions").after(ConnectionError("no")) for _ in range(2))
    policy_of(free["fetch"]).reconfigure(budget=None)
    assert [_calls_when_idle(side, vt) for _ in range(4)] == [3, 5, 6, 7]
    assert [_calls_when_idle(free, vt) for _ in range(4)] == [3, 6, 9, 12]


def test_a_budget_pays_for_all_attempts_of_a_rare_call(pair: Pairs, vt: VirtualTime) -> None:
    """A call every ten seconds: one that fails has all its attempts, and so has the next one, after one success."""
    failing = [ConnectionError("no")] * 3
    side = pair("exceptions").after(*["users"] * 60, *failing, "users", *failing)
    for _ in range(60):
        side.call()
        vt.advance(10)
    side.call()
    assert side.client.calls == 63
    vt.advance(10)
    side.call()
    vt.advance(10)
    side.call()
    assert side.client.calls == 67


def test_an_iterator_is_not_sent_twice(pair: Pairs) -> None:
    """tenacity sends what the first attempt has left of it; here the exception comes out."""
    bodies: dict[str, list[Any]] = {"before": [], "after": []}

    def consume(which: str) -> Callable[[Any], Any]:
        return lambda body: bodies[which].append(list(body)) or ConnectionError("no")

    before = pair("exceptions").before(consume("before"), consume("before"), "sent")
    after = pair("exceptions").after(consume("after"), consume("after"), "sent")
    assert before.call(iter([1, 2])).value == "sent"
    assert isinstance(after.call(iter([1, 2])).error, ConnectionError)
    assert bodies == {"before": [[1, 2], []], "after": [[1, 2]]}


def test_nested_retries_do_not_multiply(pair: Pairs) -> None:
    """Three times three attempts are nine with tenacity, and three here."""
    import tenacity

    before, after = pair("call").both(ConnectionError("no"))
    again = tenacity.retry(stop=tenacity.stop_after_attempt(3), reraise=True)
    before.run(again(before["fetch"]), "/users")
    after.run(retry(on=ConnectionError, attempts=3, backoff=0.0)(after["fetch"]), "/users")
    assert (before.client.calls, after.client.calls) == (9, 3)


def test_counters_are_for_all_calls(pair: Pairs) -> None:
    """tenacity's statistics are about the last call."""
    before, after = pair("exceptions").both(ConnectionError("no"), "users")
    for side in (before, after):
        side.call()
        side.call()
    assert before["fetch"].statistics["attempt_number"] == 1
    snapshot = policy_of(after["fetch"]).snapshot()
    assert (snapshot.calls, snapshot.successes, snapshot.retries) == (2, 2, 1)
