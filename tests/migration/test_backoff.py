"""What the page about backoff shows, run beside backoff."""

from __future__ import annotations

import random
from collections.abc import Callable
from typing import Any

import pytest

from migration.pairs import Client, Pair, ServerBusy, call_both
from resilio import retry
from resilio.testing import VirtualTime

LIBRARY = "backoff"
# backoff asks asyncio, from Python 3.14 on with a warning, whether a function is a coroutine function.
pytestmark = pytest.mark.filterwarnings("ignore::DeprecationWarning:backoff")

Pairs = Callable[[str], Pair]


@pytest.mark.parametrize("failures", range(5))
def test_exceptions_are_retried_as_often(pair: Pairs, failures: int) -> None:
    """As many calls, the same result or the same last exception."""
    script = [ConnectionError(f"no {number}") for number in range(failures)]
    call_both(pair("exceptions").both(*script, "users"))


def test_other_exceptions_are_not_retried(pair: Pairs) -> None:
    """What the options do not name passes at once."""
    call_both(pair("exceptions").both(KeyError("users"), "users"))


@pytest.mark.parametrize("failures", range(5))
def test_results_are_retried_as_often(pair: Pairs, failures: int) -> None:
    """A failed result is asked for again, and the last one is returned."""
    sides = pair("result").both(*[None] * failures, "users")
    call_both(sides)
    assert sides[1].client.waits == sides[0].client.waits


def test_results_are_retried_on_trio_too(pair: Pairs) -> None:
    """Which backoff cannot do."""
    side = pair("result").after(None, "users")
    side.backend = "trio"
    assert side.call().value == "users"


def _waits(wait: Any, vt: VirtualTime, backoff: Any = None) -> list[float]:
    random.seed(1)
    client = Client([ConnectionError("no")], vt)
    if backoff:
        guarded = backoff.on_exception(exception=ConnectionError, max_tries=7, **wait)(_function(client))
    else:
        guarded = retry(on=ConnectionError, attempts=7, backoff=wait, budget=None)(client.get)
    with pytest.raises(ConnectionError):
        guarded("/users")
    return client.waits


def _function(client: Client) -> Callable[[str], Any]:
    def get(url: str) -> Any:
        return client.get(url)

    return get


def test_waits_are_the_same(pair: Pairs, vt: VirtualTime) -> None:
    """Every kind of wait on the page; where it is drawn by resilio itself, its bounds."""
    import backoff

    before, after = (side["waits"] for side in pair("waits").both())
    assert list(after) == list(before)
    for kind in after:
        theirs, ours = _waits(before[kind], vt, backoff), _waits(after[kind], vt)
        if kind == "expo, full jitter":
            longest = [0.5, 1.0, 2.0, 3.0, 3.0, 3.0]
            assert all(wait <= most for wait, most in zip(ours, longest, strict=True))
            assert all(wait <= most for wait, most in zip(theirs, longest, strict=True))
        else:
            assert ours == pytest.approx(theirs), kind


@pytest.mark.parametrize("script", [[ServerBusy(503), "users"], [ServerBusy(503)], [ServerBusy(404)], [KeyError("x")]])
def test_giving_up_is_ignoring(pair: Pairs, script: list[Any]) -> None:
    """What is given up on is not retried."""
    call_both(pair("giveup").both(*script))


@pytest.mark.parametrize("failures", range(5))
def test_something_else_takes_the_place_of_a_failure(pair: Pairs, failures: int) -> None:
    """None instead of an exception."""
    call_both(pair("instead").both(*[ConnectionError("no")] * failures, "users"))


def test_time_is_limited_more_strictly(pair: Pairs) -> None:
    """backoff shortens its last wait; here a retry that comes too late is not waited for."""
    before, after = pair("time").both(ConnectionError("no"))
    assert after.call().shown == before.call().shown
    assert before.client.waits[:3] == after.client.waits == [3.0] * 3
    assert len(before.client.waits) > 3


class Answer:
    """A response with a status and headers."""

    def __init__(self, status: int, **headers: str) -> None:
        self.status = status
        self.headers = {name.replace("_", "-"): value for name, value in headers.items()}


def test_a_response_says_how_long_to_wait(pair: Pairs) -> None:
    """Retry-After of a failed result needs no code, and is spread over up to once its length."""
    answer = Answer(200)
    sides = pair("runtime").both(Answer(429, Retry_After="7"), answer)
    assert call_both(sides).value is answer
    assert sides[0].client.waits == [7.0]
    (waited,) = sides[1].client.waits
    assert 7.0 <= waited <= 14.0


def test_handlers_hear_of_retries_and_of_the_end(pair: Pairs) -> None:
    """The number of the attempt and the wait."""
    sides = pair("handlers").both(ConnectionError("no"))
    call_both(sides)
    assert sides[0]["seen"] == sides[1]["seen"] == [("again", 1, 2.0), ("again", 2, 2.0), ("gave up", 3)]


def test_a_listener_that_raises_changes_nothing(pair: Pairs) -> None:
    """What a handler of backoff raises is what the call raises."""

    class Broken(list[object]):
        def append(self, _: object) -> None:
            raise KeyError("seen")

    before, after = pair("handlers").both(ConnectionError("no"), "users")
    for side in (before, after):
        side.names["seen"] = Broken()
    assert isinstance(before.call().error, KeyError)
    assert after.call().value == "users"


def test_options_change_at_run_time(pair: Pairs) -> None:
    """The next call has the new ones."""
    for side in pair("runtime-options").both(ConnectionError("no"), "users", ConnectionError("no")):
        assert side.call().value == "users"
        side["change"]()
        assert isinstance(side.call().error, ConnectionError)
        assert side.client.calls == 4


def test_nested_retries_do_not_multiply(pair: Pairs) -> None:
    """Three times three attempts are nine with backoff, and three here."""
    import backoff

    before, after = pair("exceptions").both(ConnectionError("no"))
    again = backoff.on_exception(backoff.constant, ConnectionError, max_tries=3, interval=0)
    before.run(again(before["fetch"]), "/users")
    after.run(retry(on=ConnectionError, attempts=3, backoff=0.0)(after["fetch"]), "/users")
    assert (before.client.calls, after.client.calls) == (9, 3)
