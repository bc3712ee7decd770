"""What a call has cost, beside where its time went."""

from __future__ import annotations

import copy
import pickle
from collections.abc import Iterator

import pytest

import resilio
from resilio import Segments, constant, pipeline, retry
from resilio.cost import charge, spend_limit
from resilio.testing import VirtualTime, virtual_time


@pytest.fixture
def vt() -> Iterator[VirtualTime]:
    with virtual_time() as time:
        yield time


def segments() -> Segments:
    call = resilio.current()
    assert call
    return call.segments


@pytest.mark.parametrize("backend", ["sync", "asyncio", "trio"])
def test_the_ledger_of_a_call_carries_its_cost(vt: VirtualTime, backend: str) -> None:
    """`current().cost` knew what a call has cost, and its `Segments`, which logs and headers keep, did not."""
    day = spend_limit("10 USD/day", reserve=0.5)
    seen: list[dict[str, float]] = []

    def work() -> None:
        seen.append(segments().cost)
        charge(0.25)
        seen.append(segments().cost)
        charge(0.5)
        seen.append(segments().cost)
        call = resilio.current()
        assert call
        assert call.cost == seen[-1]

    async def awork() -> None:
        work()

    if backend == "sync":
        day(work)()
    else:
        vt.run(day(awork), backend=backend)
    assert seen == [{}, {"USD": 0.25}, {"USD": 0.75}]


def test_an_exception_says_what_the_call_has_cost(vt: VirtualTime) -> None:
    """A call that fails has been billed: its attempts, and the reservation that it keeps where nothing is known."""
    day = spend_limit("10 USD/day", reserve=0.5)

    @pipeline(day, retry(on=ConnectionError, attempts=3, backoff=constant(0.1), budget=None))
    def work() -> None:
        charge(0.25)
        raise ConnectionError

    with pytest.raises(ConnectionError) as caught:
        work()
    assert caught.value.resilio_segments.cost == {"USD": 0.75}  # type: ignore[attr-defined]
    assert str(caught.value.resilio_segments).endswith(", 0.75 USD")  # type: ignore[attr-defined]

    @day
    def silent() -> None:
        raise ConnectionError

    with pytest.raises(ConnectionError) as caught:
        silent()
    assert caught.value.resilio_segments.cost == {"USD": 0.5}  # type: ignore[attr-defined]
    with pytest.raises(KeyError) as missing, day.permit():
        charge(1)
        raise KeyError
    assert missing.value.resilio_segments.cost == {"USD": 0.5}  # type: ignore[attr-defined]


def test_calls_without_a_limit_cost_nothing_known() -> None:
    """Where no spend limit is, there is no cost: an empty dict, of one's own."""
    assert retry(on=ConnectionError, budget=None)(segments)().cost == {}
    one = Segments(attempt=0.5)
    one.cost["USD"] = 1.0
    assert one == Segments(attempt=0.5)


def test_segments_with_a_cost_are_values() -> None:
    """They compare, copy, pickle and print with it; what is no mapping of amounts is an error."""
    one = Segments(attempt=0.5, cost={"USD": 0.25})
    assert one == Segments(attempt=0.5, cost={"USD": 0.25}) != Segments(attempt=0.5)
    assert one != Segments(attempt=0.5, cost={"EUR": 0.25})
    assert hash(one) == hash(Segments(attempt=0.5, cost={"USD": 0.25}))
    assert pickle.loads(pickle.dumps(one)) == one == copy.copy(one)
    assert repr(one) == "Segments(attempt=0.5, cost={'USD': 0.25})"
    assert str(one) == "0.50s = attempt 0.50, 0.25 USD"
    assert eval(repr(one), {"Segments": Segments}) == one
    with pytest.raises(TypeError, match="cost: must be a dict of amounts by currency, not 3"):
        Segments(cost=3)  # type: ignore[arg-type]
