"""Reservations that follow the age of their call."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import attrs
import pytest

from resilio import Endpoint, RateLimitedError
from resilio._options.quantile import Quantile
from resilio._policies.spend_limit.history import KEPT, Ended
from resilio.cost import Price, Prices, Usage, spend_limit
from resilio.testing import VirtualTime, virtual_time

PRICES = Prices({"m": Price(input=0, output=1)})
P95 = Quantile(0.95)


@pytest.fixture
def vt() -> Iterator[VirtualTime]:
    with virtual_time() as time:
        yield time


@attrs.frozen
class Call:
    """A call to a model, as a limit sees it."""

    size: int = 100
    max_tokens: int | None = 1_000_000
    model: str | None = "m"


def learned(vt: VirtualTime, limit: str) -> Any:
    """A limit that knows 100 calls: each has answered a thousand tokens a second, of which a million cost a dollar."""
    day = spend_limit(limit, prices=PRICES)
    for i in range(100):
        with day.reserve(None, Call()) as bill:
            vt.advance(i)
            bill.use(Usage(output=1000 * i))
    vt.advance(86_400)
    return day


def reserved(day: Any) -> float:
    """What calls under way have reserved, in thousandths of a dollar, once one more has come and gone."""
    day.reserve(0.0).__enter__()
    return round(day.snapshot().spend.reserved * 1000, 3)


def test_a_reservation_rises_with_the_age_of_its_call(vt: VirtualTime) -> None:
    """A call that lasts for longer than most is one that costs more; it kept the reservation of all of them."""
    day = learned(vt, "100 USD/day")
    with day.reserve(None, Call()) as bill:
        found = [reserved(day)]
        for older in (40, 20, 20, 10, 5, 5):
            vt.advance(older)
            found.append(reserved(day))
        assert found[0] == found[1] == 95
        assert found[1:] == sorted(found[1:])
        assert found[-3] > 95  # of the few that last so long
        assert found[-1] == 1000  # the most: none of those that are known has lasted so long
        bill.use(Usage(output=1))
    assert day.snapshot().spend.reserved == 0


def test_what_is_missing_for_old_calls_is_kept_from_new_ones(vt: VirtualTime) -> None:
    """Where too little is left, what comes back is first that of calls under way; only then is another admitted."""
    day = learned(vt, "5 USD/day")
    old, other = day.reserve(None, Call()), day.reserve(4.9)
    bill = old.__enter__()
    rest = other.__enter__()
    vt.advance(120)
    with pytest.raises(RateLimitedError):
        day.reserve(0.001).__enter__()
    rest.charge(4.5)  # 0.4 come back
    other.__exit__(None, None, None)
    with pytest.raises(RateLimitedError):
        day.reserve(0.001).__enter__()
    assert day.snapshot().spend.reserved == pytest.approx(0.5)
    bill.use(Usage(output=1000))
    old.__exit__(None, None, None)
    assert day.snapshot().spend.used == pytest.approx(4.501)
    day.reserve(0.001).__enter__()


def test_a_call_of_yesterday_reserves_no_more(vt: VirtualTime) -> None:
    """It is paid by its own day: what it costs beyond its reservation counts when that is known."""
    day = learned(vt, "5 USD/day")
    block = day.reserve(None, Call())
    block.__enter__()
    vt.advance(86_400)
    day.reserve(0.001).__enter__()
    assert day.snapshot().spend.used == pytest.approx(0.001)


def test_amounts_rise_too(vt: VirtualTime) -> None:
    """Calls to no model have no most: the oldest reserve what the longest have cost."""
    day = spend_limit("100 USD/day", reserve="p50")
    for i in range(40):
        with day.reserve() as bill:
            vt.advance(i)
            bill.charge(0.01 * i)
    with day.reserve():
        first = reserved(day)
        vt.advance(1000)
        assert reserved(day) > first == 200


def test_rungs_are_quantiles_of_those_that_lasted_longer() -> None:
    """Of all, of the longer half, of the longest quarter; and of so old ones that too few are known, the most."""
    ended = Ended()
    for i in range(KEPT + 100):
        ended.add(i, float(i))
    rungs = ended.rungs(P95)
    assert [rung.after_ns for rung in rungs] == [0, 199, 249, 274, 287, 293, 296]
    assert [rung.value for rung in rungs] == [290, 295, 297, 298, 299, 299, None]


def test_rungs_never_fall() -> None:
    """Where long calls cost less than short ones, age says nothing: the reservation stays."""
    ended = Ended()
    for i in range(100):
        ended.add(i, 100.0 - i)
    values = [rung.value for rung in ended.rungs(P95)[:-1]]
    assert values == [values[0]] * len(values)


@attrs.frozen
class PooledCall(Call):
    """A call to a pool, whose endpoints have models of their own."""

    model: str | None = "chat"
    endpoints: tuple[Endpoint, ...] = (Endpoint("near", model="m"), Endpoint("far", model="dear"))


def test_of_several_models_the_dearest_is_reserved_at_each_age(vt: VirtualTime) -> None:
    """One model is cheap and answers at length, the other one is dear and brief: by age another one is the dearer."""
    prices = Prices({"m": Price(input=0, output=1), "dear": Price(input=0, output=50)})
    day = spend_limit("1000 USD/day", prices=prices)
    for i in range(100):
        for model, tokens in (("m", 1000 * i), ("dear", 1000)):
            with day.reserve(None, Call(model=model, max_tokens=100_000)) as bill:
                vt.advance(i if model == "m" else 0)
                bill.use(Usage(output=tokens))
    vt.advance(86_400)
    alone = {}
    for model in ("m", "dear"):
        with day.reserve(None, Call(model=model, max_tokens=100_000)) as bill:
            alone[model] = reserved(day)
            bill.nothing()
    with day.reserve(None, PooledCall(max_tokens=100_000)) as bill:
        assert reserved(day) == max(alone.values()) == alone["m"] == 95
        vt.advance(1)  # no call of the dear model has lasted so long: it may cost the most
        assert reserved(day) == 5000
        bill.keep()
    assert day.snapshot().spend.reserved == 0
