"""Spend limits: what is admitted, what is charged, periods of the calendar, and what can be seen."""

from __future__ import annotations

import asyncio
from datetime import datetime, timedelta
from typing import Any

import pytest

from resilio import (
    Endpoint,
    PipelineWarning,
    RateLimitedError,
    current,
    events,
    hedge,
    keyed,
    pipeline,
    pool,
    retry,
    spend_limit,
)
from resilio._context.time_of_day import ORIGIN
from resilio.cost import Price, Prices, Usage, bill, charge
from resilio.testing import VirtualTime, assert_no_leaks


def now(vt: VirtualTime) -> datetime:
    """The time of day."""
    return ORIGIN + timedelta(seconds=vt.now)


def spends(limit: Any) -> Any:
    """A guarded function that costs what it is given."""

    @limit
    def spend(amount: float) -> None:
        charge(amount)

    return spend


def test_what_is_left_is_admitted(vt: VirtualTime) -> None:
    """A call is admitted if its estimate is left, and costs what it says; the rejection names both and the time."""
    day = spend_limit("1 USD/day", reserve=0.25)
    spend = spends(day)
    spend(0.5)
    spend(0.4)
    with pytest.raises(RateLimitedError) as caught:
        spend(0.1)
    error = caught.value
    assert (error.policy, error.reason, error.measured) == ("spend_limit", "spend", 0.25)
    assert error.limit == pytest.approx(0.1)
    assert error.retry_after == pytest.approx(day.snapshot().spend.resets_in)
    assert day.peek(0.1) == pytest.approx(error.retry_after)
    vt.advance(error.retry_after)
    assert day.peek(0.1) == 0.0
    spend(0.1)
    assert day.snapshot().spend.used == pytest.approx(0.1)
    assert_no_leaks(day)


def test_once_all_is_spent_a_free_call_passes_and_one_of_unknown_cost_does_not(vt: VirtualTime) -> None:
    """Both reserve nothing. The first cannot cost anything; the second may, and waits for the next period."""
    day = spend_limit("1 USD/day", prices=Prices({"dear": Price(input=1000)}), reserve=lambda _: 0.0)
    call = day(lambda request: charge(1.0 if request.model else 0.0))
    call(Call("dear"))
    call(Call(None))  # of a list of files
    with pytest.raises(RateLimitedError):
        call(Call("dear"))


def test_calls_in_flight_cannot_count_on_the_same_money(vt: VirtualTime) -> None:
    """Reservations of calls side by side add up; a limit that counts afterwards admits them all."""
    day = spend_limit("1 USD/day", reserve=0.3)
    permits = [day.try_acquire() for _ in range(4)]
    assert [bool(permit) for permit in permits] == [True, True, True, False]
    spend = day.snapshot().spend
    assert spend.reserved == spend.used == pytest.approx(0.9)
    assert spend.at_risk == float("inf")  # without prices the most that they can cost is unknown
    for permit in permits[:3]:
        permit.success()
    assert day.snapshot().spend.kept == pytest.approx(0.9)


def test_an_overspend_is_paid_by_the_next_period(vt: VirtualTime) -> None:
    """What a call costs beyond its reservation is a debt: over many periods no more is spent than comes in."""
    day = spend_limit("1 USD/day", reserve=0.25)
    spends(day)(2.5)
    left = day.snapshot().spend
    assert left.used == 2.5
    assert left.left == 0
    assert day.peek(0) == pytest.approx(left.resets_in + 86400)  # the second day from now has a half
    vt.advance(left.resets_in)
    assert day.snapshot().spend.used == 1.5
    with pytest.raises(RateLimitedError):
        spends(day)(0.1)
    vt.advance(86400)
    spends(day)(0.1)
    assert day.snapshot().spend.used == pytest.approx(0.6)


def test_a_surplus_of_yesterday_is_not_given_to_today(vt: VirtualTime) -> None:
    """A reservation lapses with its period: given back in the next one, it would be spent twice."""
    day = spend_limit("1 USD/day", reserve=0.8)
    permit = day.acquire()
    vt.advance(day.snapshot().spend.resets_in)
    assert day.snapshot().spend.used == 0
    spends(day)(0.1)
    with day.reserve(0.7) as due:
        due.charge(0.4)
    permit.cancel()
    assert day.snapshot().spend.used == pytest.approx(0.5)


@pytest.mark.parametrize(
    ("limit", "zone", "since", "ends"),
    [
        ("1 USD/minute", "UTC", "2026-03-01T10:20:30+00:00", "2026-03-01T10:21:00+00:00"),
        ("1 USD/hour", "UTC", "2026-03-01T10:20:30+00:00", "2026-03-01T11:00:00+00:00"),
        ("1 USD/day", "UTC", "2026-03-01T10:20:30+00:00", "2026-03-02T00:00:00+00:00"),
        ("1 USD/day", "Europe/Vienna", "2026-03-28T23:30:00+00:00", "2026-03-29T22:00:00+00:00"),  # of 23 hours
        ("1 USD/day", "America/New_York", "2026-11-01T05:00:00+00:00", "2026-11-02T05:00:00+00:00"),  # of 25
        ("1 USD/week", "UTC", "2026-03-01T10:20:30+00:00", "2026-03-02T00:00:00+00:00"),
        ("1 USD/week", "UTC", "2026-03-02T00:00:00+00:00", "2026-03-09T00:00:00+00:00"),
        ("1 USD/month", "UTC", "2028-02-10T00:00:00+00:00", "2028-03-01T00:00:00+00:00"),
        ("1 USD/month", "Asia/Tokyo", "2026-12-31T14:59:59+00:00", "2026-12-31T15:00:00+00:00"),
    ],
)
def test_periods_are_those_of_the_calendar(vt: VirtualTime, limit: str, zone: str, since: str, ends: str) -> None:
    """Days are those of the time zone, also where clocks are changed; months and weeks begin at its midnight."""
    vt.advance((datetime.fromisoformat(since) - now(vt)).total_seconds())
    policy = spend_limit(limit, reserve=0.5, timezone=zone)
    spends(policy)(1)
    resets = (datetime.fromisoformat(ends) - datetime.fromisoformat(since)).total_seconds()
    assert policy.snapshot().spend.resets_in == pytest.approx(resets)
    vt.advance(resets - 0.001)
    assert policy.peek(1) > 0
    vt.advance(0.002)
    assert policy.snapshot().spend.used == 0


def test_a_pace_spreads_the_money(vt: VirtualTime) -> None:
    """With `burst` money comes in evenly: 24 USD a day are one in an hour, of which up to two are saved up."""
    pace = spend_limit("24 USD/day", reserve=1.0, burst=2.0)
    for _ in range(2):
        spends(pace)(1.0)
    with pytest.raises(RateLimitedError) as caught:
        spends(pace)(1.0)
    assert caught.value.retry_after == pytest.approx(3600)
    vt.advance(3600)
    spends(pace)(1.0)
    assert pace.snapshot().spend.limit == 2.0


def test_the_ledger_is_exact(vt: VirtualTime) -> None:
    """Of ten thousand calls whose cost is no round number, what is taken is what was charged, to a millionth."""
    month = spend_limit("100 USD/month", reserve=0.0001)
    spend = spends(month)
    for i in range(10_000):
        spend(1e-7 * (i % 7) / 3)
    charged = sum(month.costs.values())
    assert charged == pytest.approx(sum(1e-7 * (i % 7) / 3 for i in range(10_000)), abs=1e-9)
    snapshot = month.snapshot().spend
    assert snapshot.used == snapshot.charged == pytest.approx(charged, abs=1e-9)
    assert snapshot.reserved == 0


def test_a_function_may_reserve(vt: VirtualTime) -> None:
    """Its amount is that of the call's arguments. If it fails, nothing is reserved, and that is counted."""
    day = spend_limit("1 USD/day", reserve=lambda amount: amount / 0.5)

    @day
    def spend(amount: float) -> Any:
        return day.snapshot().spend.reserved

    assert spend(0.2) == pytest.approx(0.4)
    assert spend(0) == 0
    with pytest.raises(RateLimitedError) as caught:
        spend(0.6)
    assert caught.value.reason == "too_large"
    broken = spend_limit("1 USD/day", reserve=lambda: 1 / 0)
    broken.call(int)
    assert broken.reserve_errors == 1


def test_a_quantile_is_learned(vt: VirtualTime) -> None:
    """The quantile "p95" of calls that say what they cost: that of the latest ones; of the first nothing is known."""
    day = spend_limit("100 USD/day", reserve="p95")
    for i in range(100):
        spends(day)(0.01 * (i % 20))
    with day.reserve():
        assert day.snapshot().spend.reserved == pytest.approx(0.19)


class Call:
    """A call to a model, as a function that reserves sees it."""

    def __init__(self, model: str | None = "m", size: int = 1000, max_tokens: int | None = 1000) -> None:
        self.model = model
        self.size = size
        self.max_tokens = max_tokens


def test_a_quantile_of_tokens_is_learned_by_model(vt: VirtualTime) -> None:
    """After twenty answers of a model its calls reserve what 95 of 100 such requests cost, before that the most."""
    prices = Prices({"m": Price(input=1, output=10), "n": Price(input=1, output=10)})
    day = spend_limit("100 USD/day", prices=prices)
    reserved = []

    @day
    def ask(call: Call, answered: int) -> None:
        reserved.append(day.snapshot().spend.reserved)
        bill().use(Usage(input=call.size / 4, output=answered))

    for i in range(100):
        ask(Call(), i % 20)
    most = (1000 * 1 + 1000 * 10) / 1e6
    assert reserved[:20] == [pytest.approx(most)] * 20
    assert reserved[-1] == pytest.approx((250 + 18 * 10) / 1e6)
    ask(Call("n"), 1)
    assert reserved[-1] == pytest.approx(most)


def test_max_needs_a_bound(vt: VirtualTime) -> None:
    """A call without a bound on its answer has no most: rejected as unpriced, unless the price knows one."""
    unbound = spend_limit("1 USD/day", prices=Prices({"m": Price(input=1, output=10)}), reserve="max")
    with pytest.raises(RateLimitedError) as caught:
        unbound.call(lambda call: None, Call(max_tokens=None))
    assert caught.value.reason == "unpriced"
    bound = spend_limit("1 USD/day", prices=Prices({"m": Price(input=1, output=10, max_output=100)}), reserve="max")
    bound.call(lambda call: None, Call(max_tokens=None))
    assert bound.snapshot().spend.at_risk == 0


def test_a_limit_that_counts_nothing_says_so_once(vt: VirtualTime, caplog: pytest.LogCaptureFixture) -> None:
    """A limit around a client that is not guarded looked like one that is never reached: no call stated its cost."""
    silent, stated = spend_limit("1 USD/day", name="silent"), spends(spend_limit("1 USD/day", name="stated"))
    for _ in range(50):
        silent.call(print, end="")
        stated(0.001)
    lines = [record.getMessage() for record in caplog.records]
    assert len(lines) == 1
    assert lines[0].startswith("spend_limit 'silent': 20 calls have ended and none has stated its cost")
    assert "prices=..." in lines[0]
    assert "without prices=... only what functions state" in " ".join(str(pipeline(silent).explain()).split())


def test_a_model_without_a_price_is_named_once(vt: VirtualTime, caplog: pytest.LogCaptureFixture) -> None:
    """With a new model every call was rejected as "unpriced", which named neither the model nor the remedy."""
    priced = spend_limit("1 USD/day", prices=Prices({"m": Price(input=1, output=10)}), reserve="max", name="priced")
    for model in ("m", "new", "new", "m"):
        with pytest.raises(RateLimitedError, match=r"unpriced \(its model has no price, .*: add it to prices"):
            priced.call(lambda call: None, Call(model, max_tokens=None))
    first, second = [record.getMessage() for record in caplog.records]
    assert first.startswith("spend_limit 'priced': calls to 'm' are rejected: nothing bounds the answer")
    assert second.startswith("spend_limit 'priced': calls to 'new' are rejected: the model has no price; add it")


def test_tokens_without_a_price_are_reported_once(vt: VirtualTime, caplog: pytest.LogCaptureFixture) -> None:
    """A guarded client inside a limit without prices reported its tokens, and the limit counted nothing in silence."""
    day = spend_limit("1 USD/day", name="no prices")
    for _ in range(3):
        day.call(lambda: bill().use(Usage(input=1e6, output=1e6), "gpt-5.5"))
    assert day.snapshot().spend.used == 0
    (line,) = [record.getMessage() for record in caplog.records]
    assert line.startswith("spend_limit 'no prices': calls to 'gpt-5.5' cost tokens, and the limit has no price")


@pytest.mark.parametrize(
    ("options", "text"),
    [
        ({"reserve": 60}, "reserve must be at most 50, or every call is rejected, not 60"),
        ({"reserve": 3, "burst": 2}, "reserve must be at most 2, or every call is rejected, not 3"),
        (
            {"reserve": "avg"},
            "reserve must be a quantile like 'p95', 'max', an amount of money like 0.05, or a function",
        ),
        ({"reserve": "5"}, "an amount of money like 0.05"),
    ],
)
def test_a_reservation_that_no_call_can_have_is_an_error(options: dict[str, Any], text: str) -> None:
    """Above the limit it rejected every call at run time; the error about a wrong one spoke of a time."""
    with pytest.raises(ValueError, match=text):
        spend_limit("50 USD/day", **options)


def test_a_soft_limit_is_reported(vt: VirtualTime) -> None:
    """From the soft limit on the state is "low", without anything left "spent": an event each, and calls still pass."""
    day = spend_limit("1 USD/day", reserve=0.1, soft=0.8, name="softly")
    seen: list[tuple[str, str, str]] = []
    stop = events.subscribe(lambda event: seen.append((event.old, event.new, event.reason)), policy=day)
    spend = spends(day)
    spend(0.75)
    spend(0.1)
    assert day.snapshot().state == "low"
    spend(0.3)
    assert day.snapshot().state == "spent"
    vt.advance(2 * 86400)
    spend(0.1)
    stop()
    assert ("normal", "low", "soft") in seen
    assert ("low", "spent", "spend") in seen
    assert seen[-1] == ("spent", "normal", "reset")
    assert day.snapshot().state == "normal"


def test_a_call_knows_what_it_has_cost(vt: VirtualTime) -> None:
    """`current().cost` has the sum so far, by currency; nothing while no cost is known."""
    day = spend_limit("9 USD/day", reserve=0.5)
    seen = []

    @day
    def spend() -> None:
        call = current()
        assert call is not None
        for amount in (0.2, 0.3):
            seen.append(call.cost)
            charge(amount)
        seen.append(call.cost)

    spend()
    assert seen == [{}, {"USD": 0.2}, {"USD": 0.5}]


def test_attempts_are_told_apart(vt: VirtualTime) -> None:
    """What a second attempt costs is a retry's; a limit around the retry is charged both."""
    call, attempt = spend_limit("9 USD/day", reserve=0.5), spend_limit("9 USD/day", reserve=0.5)
    costs = iter((0.2, 0.3))

    @pipeline(call, retry(on=ValueError, attempts=2, backoff=0.0), attempt)
    def spend() -> None:
        cost = next(costs)
        charge(cost)
        if cost == 0.2:
            raise ValueError

    spend()
    expected = {("", "answer"): pytest.approx(0.2), ("", "retry"): pytest.approx(0.3)}
    assert call.costs == attempt.costs == expected
    assert call.snapshot().spend.used == pytest.approx(0.5)


def test_streams_are_charged_at_their_end(vt: VirtualTime) -> None:
    """A generator takes its bill before the first item: later it is outside of its call's context."""
    call, attempt = spend_limit("9 USD/day", reserve=0.5), spend_limit("9 USD/day", reserve=0.5)

    @pipeline(call, retry(on=ValueError, attempts=2, backoff=0.0), attempt)
    async def stream() -> Any:
        due = bill()
        yield 1
        yield 2
        due.charge(0.3)

    async def read() -> None:
        async for _ in stream():
            pass

    asyncio.run(read())
    assert call.snapshot().spend.used == attempt.snapshot().spend.used == pytest.approx(0.3)


def test_keys_have_their_own_and_are_forgotten_once_all_is_there(vt: VirtualTime) -> None:
    """A tenant's key is kept while it has spent something in this period, and may go in the next."""
    teams = keyed(lambda: spend_limit("1 USD/day", reserve=0.5), key="tenant", max_keys=1, name="teams")

    @teams
    def spend(tenant: str) -> None:
        charge(0.75)

    spend("a")
    with pytest.raises(RateLimitedError):
        spend("a")
    assert teams["a"]._is_new() is False
    vt.advance(86400)
    assert teams["a"]._is_new() is True
    spend("a")


def test_a_pool_goes_by_price_when_little_is_left(vt: VirtualTime) -> None:
    """Below a fifth of the limit the cheapest endpoint is called first; above three tenths again the best one."""
    day = spend_limit("1 USD/day", reserve=0.0, name="pool money")
    chat = pool(
        "by price",
        Endpoint("large", level=0, price=Price(input=10, output=50)),
        Endpoint("small", level=1, price=Price(input=1, output=5)),
        cheaper=day.below(0.2, until=0.3),
    )
    went: list[str] = []

    @pipeline(day, chat)
    def ask(amount: float, *, endpoint: Endpoint = Endpoint.CHOSEN) -> None:
        went.append(endpoint.target)
        charge(amount)

    for amount in (0.5, 0.35, 0.05):
        ask(amount)
    assert went == ["large", "large", "small"]
    assert {one.name: one.level for one in chat.snapshot().endpoints} == {"large": 1, "small": 0}
    vt.advance(86400)
    day.call(int)
    ask(0.1)
    assert went[-1] == "large"


def test_options_change_in_operation(vt: VirtualTime) -> None:
    """What is spent in the period stays spent; another currency is another limit."""
    day = spend_limit("1 USD/day", reserve=0.1, name="changing")
    spends(day)(0.5)
    day.reconfigure(limit="0.4 USD/day")
    assert day.snapshot().spend.used == pytest.approx(0.5)
    with pytest.raises(RateLimitedError):
        spends(day)(0.1)
    with pytest.raises(ValueError, match="limit must stay in USD"):
        day.reconfigure(limit="1 EUR/day")
    day.reset()
    assert day.snapshot().spend.used == 0


def test_a_copy_outside_is_warned_of() -> None:
    """Copies run apart from the call: a limit around the hedge is not charged what they cost."""
    with pytest.warns(PipelineWarning):
        stack = pipeline(spend_limit("1 USD/day"), hedge(idempotent=True))
    assert [warning.rule for warning in stack.explain().warnings] == ["hedge-inside-spend-limit"]


@pytest.mark.parametrize(
    ("options", "error", "message"),
    [
        (("50/day",), ValueError, "limit must be an amount, a currency and a period, like '50 USD/day'"),
        (("50 USD/year",), ValueError, "periods: minute, hour, day, week, month"),
        ((50,), TypeError, "limit must be an amount"),
        (("50 USD/day", {"reserve": "max"}), ValueError, "without prices"),
        (("50 USD/day", {"reserve": "most"}), ValueError, "reserve must be a quantile"),
        (("50 USD/day", {"timezone": "Mars/Olympus"}), ValueError, "timezone must be a time zone"),
        (("50 USD/day", {"burst": 60}), ValueError, "burst must be at most the 50"),
        (("50 EUR/day", {"prices": Prices({"m": Price(input=1)})}), ValueError, "in EUR"),
    ],
)
def test_bad_options_are_named(options: Any, error: type[Exception], message: str) -> None:
    """The error names the option, the value and a right one."""
    limit, more = (*options, {})[:2]
    with pytest.raises(error, match=message):
        spend_limit(limit, **more)
