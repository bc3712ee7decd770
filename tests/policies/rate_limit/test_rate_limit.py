"""What a rate limit promises beyond the numbered scenarios."""

from __future__ import annotations

import gc
import math
import os
import re
from contextlib import suppress
from datetime import timedelta
from fractions import Fraction

import anyio
import pytest

from resilio import bulkhead, current, pipeline
from resilio._native.gates import Amounts, LimiterGate
from resilio._policies.rate_limit.policy import Rate, RateLimitConfig, rate_limit
from resilio.errors import BulkheadFullError, RateLimitedError
from resilio.testing import assert_no_leaks, no_wait

BACKENDS = pytest.mark.parametrize("backend", ["asyncio", "trio"])


def take_all(limit, *args):
    """Take until nothing is left, and return how often that worked."""
    count = 0
    while limit.try_acquire(*args):
        count += 1
    return count


# ---- options ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("text", "tokens", "seconds"),
    [
        ("100/s", 100, 1),
        (" 90000 / min ", 90_000, 60),
        ("5/2s", 5, 2),
        ("1000/h", 1000, 3600),
        ("0.5/s", 0.5, 1),
        (".5/1.5m", 0.5, 90),
        ("10/100ms", 10, 0.1),
        ("1e6/day", 1e6, 86_400),
        ("3/second", 3, 1),
    ],
)
def test_a_rate_is_tokens_in_a_time(text, tokens, seconds):
    """A rate reads as it is said, blanks and fractions included."""
    rate = Rate(text)
    assert rate.amount == tokens
    assert rate.period == pytest.approx(seconds)


@pytest.mark.parametrize(
    ("name", "values"),
    [
        (
            "rates",
            [
                "100",
                "100/",
                "/s",
                "100/x",
                "0/s",
                "-1/s",
                "1e99/s",
                "1/0s",
                "1/99y",
                "1e-7/s",
                "nan/s",
                5,
                None,
                b"1/s",
            ],
        ),
        ("burst", [0, -1, math.nan, math.inf, True, "2", 1e10]),
        ("cost", [-1, math.nan, math.inf, True, "2", None, 1e10]),
        ("max_wait", [-1, math.nan, math.inf, True, 1e12, "2", None]),
        ("max_queued", [-1, 10**10, True, 1.5, "2", None]),
        ("enforce", [-0.1, 1.1, math.nan, "yes", None]),
        ("name", ["", " x", 5, "x" * 300]),
    ],
)
def test_a_bad_option_is_rejected_by_name_and_value(name, values):
    """Whatever makes no sense is rejected at construction, with what it was and what it should be."""
    for value in values:
        rates = (value,) if name == "rates" else ("100/s",)
        options = {} if name == "rates" else {name: value}
        with pytest.raises((TypeError, ValueError), match=rf"^{name} must be .*not {re.escape(repr(value)[:40])}"):
            rate_limit(*rates, **options)


@pytest.mark.parametrize(
    ("name", "values"),
    [("rate", ["x", 5, "0/s"]), ("unit", ["", "two words", 5, None]), ("cost", [-1, "2"]), ("burst", [0, True])],
)
def test_a_bad_rate_is_rejected_by_name_and_value(name, values):
    """The same holds for a Rate of one's own."""
    for value in values:
        options = {"rate": "100/s", name: value}
        with pytest.raises((TypeError, ValueError), match=rf"^{name} must be .*not {re.escape(repr(value))}"):
            Rate(options.pop("rate"), **options)


def test_the_number_of_rates_is_bounded():
    """None is no limit, and nine are too many."""
    for rates in ((), ["1/s"] * 9):
        with pytest.raises(ValueError, match="rates must be from 1 to 8 rates"):
            rate_limit(*rates)
    assert rate_limit(*[f"{index + 1}/s" for index in range(8)]).try_acquire()


def test_a_rate_that_cannot_be_counted_is_rejected():
    """A bucket that would take longer than 36 years to fill is a mistake in the unit."""
    with pytest.raises(ValueError, match="out of range"):
        rate_limit("1/d", burst=1e9)


def test_used_bare_it_says_what_to_write():
    """@rate_limit without a rate is an error that shows the right form."""
    with pytest.raises(TypeError, match=re.escape('write @rate_limit("100/s")')):

        @rate_limit
        def call():
            pass


def test_one_name_is_one_limit():
    """The same name and options give the same object; other options are rejected."""
    limit = rate_limit("100/s", Rate("5/min", unit="tokens"), name="api", max_wait=timedelta(seconds=2))
    assert rate_limit("100/s", Rate("5/min", unit="tokens"), name="api", max_wait=2) is limit
    with pytest.raises(ValueError, match="'api' is taken"):
        rate_limit("101/s", name="api")


# ---- costs -----------------------------------------------------------------------------------------------------------


def test_fractions_of_a_token_count(vt):
    """Costs, bursts and rates may be fractions, and the sum is exact to a millionth."""
    limit = rate_limit("1/h", cost=0.1, burst=1)
    assert take_all(limit) == 10
    dollars = rate_limit(Rate("2.5/d", unit="dollars", cost=lambda price: price, burst=0.75))
    assert [bool(dollars.try_acquire(price)) for price in (0.5, 0.3, 0.25, 0.000001)] == [True, False, True, False]


def test_a_call_that_costs_nothing_passes_unless_there_is_a_debt(vt):
    """A cost of zero takes no token; it waits for a debt to be paid all the same."""
    limit = rate_limit(Rate("10/s", unit="tokens", cost=0))
    assert all(limit.try_acquire() for _ in range(100))
    with limit.reserve() as reservation:
        reservation.settle(tokens=20)
    assert limit.try_acquire().retry_after == pytest.approx(1.0)
    vt.advance(1.0)
    assert limit.try_acquire()


@pytest.mark.parametrize("nonsense", [-1, math.nan, math.inf, True, None, "2", object(), 1j])
@pytest.mark.parametrize("rates", [1, 2])
def test_a_cost_that_makes_no_sense_counts_as_one(vt, nonsense, rates):
    """What a cost function says wrong never decides over the call; it is counted."""
    limit = rate_limit(*(Rate("10/s", unit=f"unit{index}", cost=lambda: nonsense) for index in range(rates)))
    assert limit.call(lambda: "result") == "result"
    assert limit.cost_errors == rates
    assert set(limit.available.values()) == {9}


@pytest.mark.parametrize("error", [ValueError, SystemExit, GeneratorExit])
def test_a_raising_cost_function_changes_nothing(vt, error):
    """A cost function that raises, whatever it is, costs one token and not the call."""

    def count(*args):
        raise error

    limit = rate_limit("10/s", cost=count)
    assert limit.call(lambda: "result") == "result"
    assert limit.cost_errors == 1
    assert limit.available == {"requests": 9}


def test_asking_forgives_a_cost_function_too(vt):
    """peek asks the cost function, and takes one that raises for one token as a call does."""
    limit = rate_limit("10/s", cost=lambda tokens: tokens / 0)
    assert limit.peek(5) == 0.0
    with limit.reserve(5):
        assert limit.available == {"requests": 9}
    assert limit.cost_errors == 2


@pytest.mark.untraced
def test_ctrl_c_in_a_cost_function_is_not_lost():
    """KeyboardInterrupt belongs to the user: it comes again at the next safe point."""

    def count():
        raise KeyboardInterrupt

    limit = rate_limit("1000000/s", cost=count)
    with pytest.raises(KeyboardInterrupt):
        for _ in range(1000):
            limit.call(int)


def test_a_cost_function_sees_the_call_as_it_is(vt):
    """Positional and keyword arguments, self included, arrive unchanged, and so does what peek is asked."""
    seen = []

    def count(*args, **kwargs):
        seen.append((args, kwargs))
        return 3

    limit = rate_limit("10/s", cost=count)

    class Client:
        @limit
        def ask(self, text, *, model="small"):
            return text, model

    client = Client()
    assert client.ask("hello", model="large") == ("hello", "large")
    assert limit.peek(client, "hello", model="large") == 0.0
    assert seen == [((client, "hello"), {"model": "large"})] * 2
    assert limit.available == {"requests": 7}


def test_the_strings_cost_and_burst_are_not_a_rates_own(vt):
    """`cost` and `burst` are those of the rates given as strings; a Rate has its own."""
    limit = rate_limit("10/s", Rate("10/s", unit="tokens"), cost=2, burst=6)
    assert limit.try_acquire()
    assert limit.available == {"requests": 4, "tokens": 9}


def test_several_rates_of_one_unit_are_all_kept(vt):
    """A burst of a second and a budget of an hour: the emptier one decides."""
    limit = rate_limit("10/s", Rate("25/h", burst=25))
    assert take_all(limit) == 10
    vt.advance(1)
    assert take_all(limit) == 10
    vt.advance(1)
    assert take_all(limit) == 5
    assert limit.available["requests"] == pytest.approx(0, abs=0.02)


def test_tokens_are_taken_of_all_rates_or_of_none(vt):
    """A rejection by one rate costs nothing of the others."""
    limit = rate_limit("100/s", Rate("1/s", unit="tokens", cost=lambda tokens: tokens, burst=5))
    assert limit.try_acquire(5)
    for _ in range(10):
        assert not limit.try_acquire(1)
    assert limit.available == {"requests": 99, "tokens": 0}


def test_what_a_call_costs_is_kept_for_it_alone(vt):
    """
    A call that cannot pass at once is asked for again with a place to wait; a finaliser may run other calls in between.

    Costs were kept for a thread's last four calls: after five others this one passed with the costs of every call.
    """
    other = rate_limit("100/s", Rate("100/s", unit="tokens", cost=lambda tokens: tokens))

    class Busy:
        def __init__(self):
            self.me = self

        def __del__(self):
            assert sum(bool(other.try_acquire(1)) for _ in range(5)) == 5

    def count(tokens):
        Busy()
        gc.set_threshold(1)
        gc.enable()  # up to 3.11 the next object has it collected: the place to wait
        return tokens

    limit = rate_limit("100/s", Rate("10/s", unit="tokens", cost=count), max_wait=9.0)
    before = gc.get_threshold()
    gc.disable()
    try:
        assert limit.try_acquire(8)
        gc.disable()
        permit = limit.acquire(8)
    finally:
        gc.set_threshold(*before)
        gc.enable()
    assert vt.now == pytest.approx(0.6)
    permit.success()
    assert limit.available["tokens"] == pytest.approx(0.0)


# ---- shadow mode -----------------------------------------------------------------------------------------------------


@BACKENDS
def test_in_shadow_mode_nobody_waits(vt, backend):
    """Calls beyond the rate pass, and are counted as what would have become of them."""
    limit = rate_limit("10/s", burst=2, max_wait=0.05, enforce=False)

    async def main():
        for _ in range(5):
            await limit.acall(anyio.sleep, 0)
        assert limit.available == {"requests": 0}
        await anyio.sleep(0.06)
        await limit.acall(anyio.sleep, 0)

    vt.run(main, backend=backend)
    snapshot = limit.snapshot()
    assert (snapshot.would_reject, snapshot.would_wait, snapshot.rejected) == (3, 1, 0)
    assert vt.now == pytest.approx(0.06)


@BACKENDS
@pytest.mark.parametrize("options", [{"max_wait": 1.0}, {"max_wait": 60.0, "max_queued": 10}])
def test_shadow_mode_counts_what_enforcement_would_have_rejected(vt, backend, options):
    """A limit that queues: who would have waited is ahead of who comes later, so what is too much is rejected."""
    shadow, real = (rate_limit("10/s", burst=1, enforce=enforce, **options) for enforce in (False, True))

    async def caller(limit):
        with suppress(RateLimitedError):
            await limit.acall(anyio.sleep, 0)

    async def main():
        async with anyio.create_task_group() as group:
            for _ in range(1000):
                group.start_soon(caller, shadow)
                group.start_soon(caller, real)
                await anyio.sleep(0.01)

    vt.run(main, backend=backend)
    seen, enforced = shadow.snapshot(), real.snapshot()
    assert seen.rejected == 0
    assert seen.would_reject == pytest.approx(enforced.rejected, abs=5)
    assert enforced.rejected > 850


def test_a_call_that_shadow_mode_let_pass_gives_its_tokens_back(vt):
    """Rejected further in, it was never made: its debt goes."""
    limit = rate_limit("10/s", burst=1, max_wait=5.0, enforce=False)
    full = bulkhead(1)
    guarded = pipeline(limit, full)
    with full.permit():
        for _ in range(3):
            assert not guarded.try_acquire()
    assert limit.available == {"requests": 1}


def test_a_reservation_that_shadow_mode_let_pass_corrects_nothing(vt):
    """What was never taken is not corrected: the buckets show what enforcement would have admitted."""
    limit = rate_limit("10/s", burst=10, enforce=False)
    with limit.reserve(requests=8), limit.reserve(requests=8) as beyond:
        beyond.settle(requests=20)
    assert limit.available == {"requests": 2}

    @limit
    def call():
        current().settle(limit, requests=20)

    permits = [limit.try_acquire() for _ in range(2)]
    call()
    assert limit.available == {"requests": 0}
    assert len(permits) == 2


# ---- changes by hand -------------------------------------------------------------------------------------------------


def test_reconfiguring_keeps_tokens_and_debts(vt):
    """A new rate starts with the tokens there are, up to the new burst; a debt stays a debt."""
    limit = rate_limit("10/s", burst=10)
    limit.try_acquire()
    limit.reconfigure(rates="100/s", burst=100)
    assert limit.available == {"requests": 9}
    limit.reconfigure(burst=4)
    assert limit.available == {"requests": 4}
    with limit.reserve(requests=4) as reservation:
        reservation.settle(requests=10)
    limit.reconfigure(rates=("1/s",))
    assert limit.available == {"requests": -6}
    assert limit.peek() == pytest.approx(7.0)
    limit.reset()
    assert limit.available == {"requests": 4}


def test_a_bad_change_changes_nothing(vt):
    """A rejected reconfiguration leaves every option as it was."""
    limit = rate_limit("10/s", cost=2)
    for changes in ({"rates": ()}, {"burst": 1}, {"speed": 1}, {"max_wait": -1}, {"rates": "1/d", "burst": 1e9}):
        with pytest.raises((TypeError, ValueError)):
            limit.reconfigure(**changes)
    assert take_all(limit) == 5


@BACKENDS
def test_a_faster_rate_serves_the_queue_sooner(vt, backend):
    """Who waits is not forgotten by a change: it is served at the new rate, or rejected if it has become too large."""
    limit = rate_limit("1/s", burst=5, cost=lambda tokens: tokens, max_wait=100)
    fates = {}

    async def call(name, tokens):
        try:
            async with limit.permit(tokens):
                fates[name] = vt.now
        except RateLimitedError as error:
            fates[name] = error.reason

    async def main():
        limit.try_acquire(5)
        async with anyio.create_task_group() as group:
            for name, tokens in (("a", 2), ("b", 5), ("c", 2)):
                group.start_soon(call, name, tokens)
                await anyio.sleep(0.001)
            limit.reconfigure(rates="10/s", burst=4)
        assert fates == {"a": pytest.approx(0.2, abs=0.01), "b": "too_large", "c": pytest.approx(0.4, abs=0.01)}

    vt.run(main, backend=backend)
    assert_no_leaks()


@BACKENDS
@pytest.mark.parametrize("before", [1, 2])
def test_other_units_start_afresh(vt, backend, before):
    """A change of units while calls wait and hold: nobody is lost, and old tokens are not given back as new ones."""
    rates = ["10/s", Rate("10/s", unit="tokens", cost=lambda *args: 1.0)]
    limit = rate_limit(*rates[:before], burst=2, max_wait=100)
    held = limit.try_acquire()
    limit.try_acquire().success()
    done = []

    async def call():
        async with limit:
            done.append(vt.now)

    async def main():
        async with anyio.create_task_group() as group:
            for _ in range(3):
                group.start_soon(call)
            await anyio.sleep(0.01)
            limit.reconfigure(rates=(Rate("10/s", unit="bytes", burst=2), Rate("20/s", unit="rows", cost=0.5, burst=1)))
            held.cancel()
            await anyio.sleep(0.01)
            assert limit.available["bytes"] == pytest.approx(0.1, abs=0.05)

    vt.run(main, backend=backend)
    assert done == [pytest.approx(0.01, abs=0.005)] * 2 + [pytest.approx(0.11, abs=0.005)]
    assert_no_leaks()


@BACKENDS
def test_a_cost_that_changes_while_a_call_waits_further_in_is_not_given_back_wrongly(vt, backend):
    """Tokens taken under another configuration are not given back: they would be of another kind."""
    limit, room = rate_limit("10/h", burst=10, cost=4), bulkhead(1, max_queued=1, max_wait=1)

    async def main():
        with room:
            async with anyio.create_task_group() as group:
                group.start_soon(guarded)
                await anyio.sleep(0.5)
                limit.reconfigure(cost=10)
        assert limit.available["requests"] == pytest.approx(6, abs=0.01)

    async def guarded():
        with pytest.raises(BulkheadFullError):
            await pipeline(limit, room).acall(anyio.sleep, 0)

    vt.run(main, backend=backend)


@BACKENDS
def test_no_wait_rejects_or_passes_instead_of_waiting(vt, backend):
    """In a test's no_wait() block a wait that time ends is over at once."""
    limit = rate_limit("10/s", burst=1, max_wait=100)

    async def main():
        with no_wait():
            for _ in range(5):
                (await limit.aacquire()).success()
        assert vt.now == 0

    vt.run(main, backend=backend)


@pytest.mark.skipif(not hasattr(os, "fork"), reason="no fork here")
@pytest.mark.filterwarnings("ignore:.*fork.*:DeprecationWarning")
def test_the_child_of_a_fork_keeps_the_tokens_that_were_there(vt):
    """A child inherits a copy of the buckets; permits of before say nothing there."""
    limit = rate_limit("10/d", burst=10)
    held = limit.try_acquire()
    child = os.fork()
    if child == 0:
        status = 1
        try:
            held.cancel()
            status = 0 if take_all(limit) == 9 else 2
        finally:
            os._exit(status)
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0
    held.cancel()
    assert limit.available["requests"] == 10


# ---- the gate --------------------------------------------------------------------------------------------------------


def test_amounts_are_made_by_their_gate():
    """What a call costs belongs to the rates of a gate: it cannot be made without one."""
    with pytest.raises(TypeError, match=r"LimiterGate\.amounts"):
        Amounts()
    gate = LimiterGate(RateLimitConfig(rates=("10/s", Rate("10/s", unit="tokens", cost=lambda a: a))))
    amounts = gate.amounts((3,), {}, {"requests": 2})
    assert (amounts.of("requests"), amounts.of("tokens"), amounts.shadow) == (2, 3, False)
    assert gate.amounts((3,), {}, {"requests": Fraction(1, 2)}).of("requests") == 0.5


def test_amounts_of_another_configuration_are_not_taken(vt):
    """A reservation made before a change of configuration costs what any call costs."""
    limit = rate_limit("10/s", burst=10)
    reservation = limit.reserve(requests=7)
    limit.reconfigure(rates=(Rate("10/s", unit="other", burst=10),))
    with reservation:
        assert limit.available == {"other": 9}


# ---- what somebody else counts ---------------------------------------------------------------------------------------


def test_observe_lowers_and_never_raises(vt):
    """What the server says is left is all there is; what it says beyond that is not believed."""
    limit = rate_limit("10/s", Rate("600/min", unit="tokens", burst=600))
    limit.observe(requests=4, tokens=100.5)
    assert limit.available == {"requests": 4, "tokens": 100.5}
    limit.observe(requests=9, tokens=500)
    assert limit.available == {"requests": 4, "tokens": 100.5}
    vt.advance(0.3)
    assert limit.available == {"requests": pytest.approx(7), "tokens": pytest.approx(103.5)}


def test_observe_names_what_it_does_not_know(vt):
    """A unit that no rate has, and what is no number, are rejected and change nothing."""
    limit = rate_limit("10/s")
    with pytest.raises(ValueError, match="no rate counts 'tokens'"):
        limit.observe(tokens=1)
    with pytest.raises(ValueError, match="requests must be a number"):
        limit.observe(requests=-1)
    assert limit.available == {"requests": 10}


def test_pause_holds_all_calls(vt):
    """After a pause of two seconds the first call passes two seconds and one token later, not before."""
    limit = rate_limit("10/s", Rate("100/s", unit="tokens"))
    limit.pause(2.0)
    rejection = limit.try_acquire()
    assert not rejection
    assert rejection.retry_after == pytest.approx(2.1)
    limit.pause(timedelta(seconds=1))  # shorter: the longer one stays
    assert limit.peek() == pytest.approx(2.1)
    vt.advance(2.1)
    assert limit.try_acquire()
    assert not limit.try_acquire()
    limit.reset()
    assert limit.available == {"requests": 10, "tokens": 100}


def test_pause_keeps_who_waits_waiting(vt):
    """A call that queues when the pause begins is served after it, in its turn."""
    limit = rate_limit("10/s", burst=1, max_wait=10.0)
    order = []

    async def take(number):
        async with limit:
            order.append((number, round(vt.now, 3)))

    async def main():
        async with anyio.create_task_group() as group:
            for number in range(3):
                group.start_soon(take, number)
            await anyio.sleep(0.05)
            limit.pause(1.0)
            limit.observe(requests=0)

    start = vt.now
    vt.run(main)
    assert [number for number, _ in order] == [0, 1, 2]
    assert [moment - round(start, 3) for _, moment in order] == [
        pytest.approx(0),
        pytest.approx(1.15, abs=0.01),
        pytest.approx(1.25, abs=0.01),
    ]


@pytest.mark.parametrize("wait", [-1, math.nan, "soon"])
def test_pause_takes_a_time_only(wait):
    """What is no time is rejected by name."""
    with pytest.raises((TypeError, ValueError), match="wait"):
        rate_limit("10/s").pause(wait)
