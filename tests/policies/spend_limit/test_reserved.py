"""Money that is only reserved: when a caller is asked to come again, what the state is, and what the errors advise."""

from __future__ import annotations

import pytest

from resilio import RateLimitedError, events
from resilio._native.shared import Region
from resilio.cost import Price, Prices, SpendLimit, Usage, bill, charge, spend_limit
from resilio.testing import VirtualTime, virtual_time


def two_of(region: Region) -> list[SpendLimit]:
    """Two policies, as of two processes of a host, that count in one cell."""
    policies = [spend_limit("1 USD/day", reserve=0.5) for _ in range(2)]
    for policy in policies:
        kind, stock, size = policy._gate.cell_wanted()
        policy._gate.share(region.cell(kind, "money", stock, size))
    return policies


def test_money_that_is_only_reserved_is_waited_for_a_moment(vt: VirtualTime) -> None:
    """
    Of sixty calls at once on a fresh day 21 were sent away until midnight, for money reserved for a second.

    A caller is asked to come again after the mean length of a call, a second while none has ended. What is spent is
    waited for until the next period, as before.
    """
    day = spend_limit("1 USD/day", reserve=0.5, name="day")
    held = [day.acquire(), day.acquire()]
    with pytest.raises(RateLimitedError, match=r"reserved by calls that are under way\) \(0.5 against 0\)") as caught:
        day.acquire()
    assert (caught.value.reason, caught.value.retry_after) == ("reserved", 1.0)
    assert day.peek() == 1.0
    vt.advance(4.0)
    held.pop().success()  # without a charge it keeps its half
    permit = day.try_acquire()
    assert (permit.reason, permit.retry_after) == ("reserved", 4.0)
    held.pop().cancel()
    day.call(charge, 0.45)
    with pytest.raises(RateLimitedError) as caught:
        day.acquire()
    assert caught.value.reason == "spend"
    assert caught.value.retry_after == pytest.approx(day.snapshot().spend.resets_in)


def test_a_reservation_never_makes_the_wait_longer(vt: VirtualTime) -> None:
    """The wait is no longer than until the next period, or until as much has come in at a pace."""
    minute = spend_limit("1 USD/minute", reserve=0.6)
    permit = minute.acquire()
    vt.advance(minute.snapshot().spend.resets_in - 0.25)
    rejected = minute.try_acquire()
    assert (rejected.reason, rejected.retry_after) == ("spend", pytest.approx(0.25))
    permit.cancel()
    pace = spend_limit("3600 USD/hour", reserve=1.0, burst=1.0)
    permit = pace.acquire()
    vt.advance(0.5)
    rejected = pace.try_acquire()
    assert (rejected.reason, rejected.retry_after) == ("spend", pytest.approx(0.5))
    permit.cancel()


def test_a_reservation_of_another_period_is_none_of_this_one(vt: VirtualTime) -> None:
    """What was reserved yesterday has lapsed: it cannot come back, so the money of today is spent."""
    day = spend_limit("1 USD/day", reserve=0.5)
    yesterday = day.acquire()
    vt.advance(day.snapshot().spend.resets_in)
    day.spend(1.0)
    assert day.try_acquire().reason == "spend"
    yesterday.cancel()
    assert day.try_acquire().reason == "spend"
    day.reset()
    assert day.snapshot().spend.used == 0


def test_what_others_have_reserved_is_waited_for_while_it_moves() -> None:
    """
    Of other processes only the sum is known: as long as it moves, their calls are under way and may give back.

    It counts as spent once it has stood still for a minute; or for four calls, once one has ended here.
    """
    region = Region.private()
    with virtual_time() as vt:
        one, other = two_of(region)
        held = [other.acquire(), other.acquire()]
        for _ in range(3):
            rejected = one.try_acquire()
            assert (rejected.reason, rejected.retry_after) == ("reserved", 1.0)
            vt.advance(29.0)
        assert one.try_acquire().reason == "spend"
        held.pop().cancel()
        with one.reserve(0.25) as due:
            vt.advance(2.0)
            due.charge(0.25)
        rejected = one.try_acquire()
        assert (rejected.reason, rejected.retry_after) == ("reserved", 2.0)
        vt.advance(8.0)
        assert one.try_acquire().reason == "spend"
        held.pop().cancel()
        assert one.peek() == 0.0
    region.close()


def test_what_this_process_has_spent_no_other_gives_back() -> None:
    """A worker that has spent the amount itself waits for the next period at once."""
    region = Region.private()
    with virtual_time():
        one, other = two_of(region)
        one.spend(0.5)
        permit = other.acquire()
        assert one.try_acquire().reason == "reserved"
        one.spend(0.25)
        assert one.try_acquire().reason == "spend"
        permit.cancel()
    region.close()


def test_a_soft_limit_goes_by_what_is_spent(vt: VirtualTime) -> None:
    """
    Sixty calls at once were reported as "normal -> low (soft)", and at their ends as "low -> normal (reset)".

    Nothing was spent, and nothing was reset. A reservation changes no state.
    """
    day = spend_limit("1 USD/day", reserve=0.5, soft=0.8, name="softly")
    seen: list[tuple[str, str, str]] = []
    stop = events.subscribe(lambda event: seen.append((event.old, event.new, event.reason)), policy=day)
    held = [day.acquire(), day.acquire()]
    assert day.state == "normal"
    for permit in held:
        permit.cancel()
    day.call(charge, 0.85)
    day.reset()
    day.call(charge, 0.1)
    day.call(charge, 0.8)
    vt.advance(day.snapshot().spend.resets_in)
    day.call(charge, 0.1)
    stop()
    assert seen == [("normal", "low", "soft"), ("low", "normal", "reset")] * 2


def test_a_larger_limit_is_no_reset(vt: VirtualTime) -> None:
    """The state is normal again as there is more, in the same period: the reason is "recovered"."""
    day = spend_limit("1 USD/day", reserve=0.1, soft=0.8, name="larger")
    day.call(charge, 0.85)
    seen: list[tuple[str, str, str]] = []
    stop = events.subscribe(lambda event: seen.append((event.old, event.new, event.reason)), policy=day)
    day.reconfigure(limit="2 USD/day")
    day.call(charge, 0.0)
    stop()
    assert seen == [("low", "normal", "recovered")]


class Call:
    """A call to a model without max_tokens."""

    size = 100
    max_tokens = None

    def __init__(self, model: str) -> None:
        self.model = model


def test_a_call_above_the_limit_names_the_options_that_help(vt: VirtualTime) -> None:
    """A limit of 1 USD rejected each call of a model with answers of up to 128,000 tokens, and named no remedy."""
    prices = Prices({"m": Price(input=1.25, output=10, max_output=128_000)})
    day = spend_limit("1 USD/day", prices=prices)
    with pytest.raises(RateLimitedError) as caught:
        day.call(print, Call("m"))
    text = str(caught.value)
    assert "(1.28012 against 1)" in text
    for remedy in ("max_tokens in the request", "reserve=... to an amount like 0.05", "a larger limit"):
        assert remedy in text
    spend_limit("1 USD/day", prices=prices, reserve=0.05).call(lambda call: charge(0.01), Call("m"))


def test_a_model_priced_as_the_dearest_is_named_once(vt: VirtualTime, caplog: pytest.LogCaptureFixture) -> None:
    """With unknown="dearest" a mistyped model was dear in silence, though the page promised a line with its name."""
    prices = Prices({"m": Price(input=1, output=10, max_output=10)}, unknown="dearest")
    day = spend_limit("1 USD/day", prices=prices, name="guesses")
    for model in ("m", "typo", "typo", "m"):
        day.call(lambda call: bill().use(Usage(input=1, output=1)), Call(model))
    day.call(lambda: bill().use(Usage(input=1, output=1), "answered-by"))
    lines = [record.getMessage() for record in caplog.records]
    assert len(lines) == 2
    assert lines[0].startswith("spend_limit 'guesses': calls to 'typo' are priced as those of the dearest model")
    assert "'answered-by'" in lines[1]
