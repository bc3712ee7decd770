"""What the page about stamina shows, run beside stamina."""

from __future__ import annotations

import random
from collections.abc import Callable, Iterator

import pytest

from migration.pairs import Pair, ServerBusy, call_both
from resilio._events import subscriptions

LIBRARY = "stamina"

Pairs = Callable[[str], Pair]


@pytest.fixture(autouse=True)
def _no_hooks() -> Iterator[None]:
    """Undo what the snippets subscribe to for the whole process."""
    stamina = pytest.importorskip(LIBRARY)
    before = subscriptions.current()
    yield
    for one in subscriptions.current():
        if one not in before:
            subscriptions.remove(one)
    stamina.instrumentation.set_on_retry_hooks(None)


@pytest.mark.parametrize("failures", range(5))
def test_exceptions_are_retried_as_often(pair: Pairs, failures: int) -> None:
    """As many calls, the same result or the same last exception."""
    script = [ConnectionError(f"no {number}") for number in range(failures)]
    call_both(pair("exceptions").both(*script, "users"))


def test_other_exceptions_are_not_retried(pair: Pairs) -> None:
    """What `on` does not name passes at once."""
    call_both(pair("exceptions").both(KeyError("users"), "users"))


@pytest.mark.parametrize("backend", ["asyncio", "trio"])
def test_waits_are_the_same(pair: Pairs, backend: str) -> None:
    """stamina's own formula as a function, on both event loops."""
    sides = pair("waits").both(ConnectionError("no"))
    for side in sides:
        side.backend = backend
        random.seed(1)
        assert isinstance(side.call().error, ConnectionError)
    assert sides[1].client.waits == pytest.approx(sides[0].client.waits)
    assert len(sides[1].client.waits) == 4


def test_time_is_limited_more_strictly(pair: Pairs) -> None:
    """stamina goes beyond its limit by one wait; here none begins that would."""
    before, after = pair("time").both(ConnectionError("no"))
    assert after.call().shown == before.call().shown
    assert before.client.waits == [3.0] * 4
    assert after.client.waits == [3.0] * 3


@pytest.mark.parametrize(
    "script",
    [[ServerBusy(503, Retry_After="7"), ServerBusy(503), "users"], [ServerBusy(404)], [KeyError("users")]],
    ids=["momentary", "for good", "other"],
)
def test_hooks_become_predicates(pair: Pairs, script: list[object]) -> None:
    """The predicate decides, and Retry-After is heeded by itself, spread over up to once its length."""
    sides = pair("hook").both(*script)
    call_both(sides)
    before, after = sides[0].client.waits, sides[1].client.waits
    assert before in ([7.0, 1.0], [])
    assert after[1:] == before[1:]
    assert all(asked <= waited <= 2 * asked for asked, waited in zip(before[:1], after[:1], strict=True))


@pytest.mark.parametrize("failures", range(5))
def test_blocks_are_retried_as_often(pair: Pairs, failures: int) -> None:
    """The loop counts attempts alike."""
    sides = pair("block").both(*[ConnectionError("no")] * failures, "users")
    call_both(sides)
    assert sides[1].client.arguments == sides[0].client.arguments


@pytest.mark.parametrize("failures", range(5))
def test_calls_without_a_decorator_are_retried(pair: Pairs, failures: int) -> None:
    """A policy takes the place of a caller that is bound to its exceptions."""
    call_both(pair("caller").both(*[ConnectionError("no")] * failures, "users"))


def test_hooks_hear_of_retries(pair: Pairs) -> None:
    """The number of the attempt, the wait, and what was raised."""
    sides = pair("hooks").both(ConnectionError("no"))
    call_both(sides)
    assert sides[0]["seen"] == sides[1]["seen"]
    assert sides[1]["seen"] == [(1, 2.0, "ConnectionError('no')"), (2, 2.0, "ConnectionError('no')")]


def test_generators_are_retried_before_their_first_item(pair: Pairs) -> None:
    """Both begin anew as long as nothing has been given out."""
    for side in pair("generator").both(ConnectionError("no"), "first", "second"):
        assert side.run(list, side["lines"]("/users")).value == ["first", "second"]
        assert side.client.calls == 3


def test_items_are_not_given_out_twice(pair: Pairs) -> None:
    """After an item stamina begins anew; here the exception passes."""
    before, after = pair("generator").both("first", ConnectionError("no"), "first", "second")
    assert list(before["lines"]("/users")) == ["first", "first", "second"]
    items = after["lines"]("/users")
    assert next(items) == "first"
    with pytest.raises(ConnectionError):
        next(items)


def test_tests_need_not_wait(pair: Pairs) -> None:
    """Waits, or all of the retry, can be taken out."""
    sides = pair("tests").both(ConnectionError("no"))
    call_both(sides, name="fetch_without_waits")
    assert sides[0].client.waits == sides[1].client.waits == [0.0, 0.0]
    call_both(sides, name="fetch_once")
    assert sides[1].client.calls == 4


def test_the_defaults_spare_a_callee_that_is_down(pair: Pairs) -> None:
    """stamina's ten attempts become three retries in all."""
    import stamina

    before, after = pair("exceptions").both(ConnectionError("no"))
    with pytest.raises(ConnectionError):
        stamina.retry(on=ConnectionError)(before.client.get)("/users")
    assert before.client.calls == 10
    for _ in range(10):
        after.call()
    assert after.client.calls == 13
