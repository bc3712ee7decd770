"""How long is waited between attempts."""

from __future__ import annotations

import math
import pickle
import random
import statistics
from datetime import timedelta

import attrs
import pytest
from hypothesis import given
from hypothesis import strategies as st

from resilio import circuit_breaker, constant, decorrelated_jitter, equal_jitter, exponential, full_jitter
from resilio._native import budget as native
from resilio._policies.retry.backoff import Backoff, Schedule, backoff_option, delay_of
from resilio.testing import seeded, virtual_time

DRAWS = 20_000
GROWING = (exponential, full_jitter, equal_jitter, decorrelated_jitter)


def draws(backoff: Backoff, attempt: int, previous: float = 0.0) -> list[float]:
    """Many waits after the same attempt, the same in every run."""
    with seeded(attempt):
        return [backoff(attempt, previous) for _ in range(DRAWS)]


# ---- the laws ------------------------------------------------------------------------------------------------------


def test_exponential_doubles_up_to_the_cap():
    """Base, twice that, and so on: exactly."""
    assert [exponential(0.1, 1.0)(attempt) for attempt in range(1, 7)] == [0.1, 0.2, 0.4, 0.8, 1.0, 1.0]
    assert [exponential(1, 100, factor=3)(attempt) for attempt in range(1, 6)] == [1.0, 3.0, 9.0, 27.0, 81.0]
    assert exponential(0.5, 20, factor=1)(1000) == 0.5


def test_constant_is_constant():
    """The same after every attempt, 0 included."""
    assert {constant(timedelta(milliseconds=250))(attempt) for attempt in (1, 2, 1000)} == {0.25}
    assert constant(0)(5) == 0.0


@pytest.mark.parametrize("attempt", [1, 4, 20])
@pytest.mark.parametrize(
    ("backoff", "low", "mean", "deviation"),
    # Of the exponential wait: the bounds, mean and deviation of a uniform law.
    [(full_jitter(), 0.0, 0.5, 1 / math.sqrt(12)), (equal_jitter(), 0.5, 0.75, 0.5 / math.sqrt(12))],
)
def test_jitters_are_uniform_below_the_exponential_wait(backoff, low, mean, deviation, attempt):
    """Full jitter from 0, equal jitter from half of it; the mean within four standard errors, and both ends reached."""
    most = exponential()(attempt)
    waits = [wait / most for wait in draws(backoff, attempt)]
    assert low <= min(waits) <= low + 0.001
    assert 0.999 <= max(waits) <= 1.0
    assert statistics.fmean(waits) == pytest.approx(mean, abs=4 * deviation / math.sqrt(DRAWS))
    assert statistics.pstdev(waits) == pytest.approx(deviation, rel=0.03)


@pytest.mark.parametrize(("previous", "most"), [(0.0, 0.3), (0.05, 0.3), (0.1, 0.3), (0.5, 1.5), (2.0, 6.0)])
def test_decorrelated_jitter_grows_from_the_wait_before(previous, most):
    """Anywhere from base to three times the previous wait; the first from base to three times base."""
    waits = draws(decorrelated_jitter(), 1, previous)
    assert 0.1 <= min(waits) <= 0.1 + 0.001 * most
    assert most * 0.999 <= max(waits) <= most
    spread = most - 0.1
    assert statistics.fmean(waits) == pytest.approx(0.1 + spread / 2, abs=4 * spread / math.sqrt(12 * DRAWS))


def test_decorrelated_jitter_is_held_under_the_cap():
    """Two thirds of the waits after one of 20 s would be longer than it."""
    waits = draws(decorrelated_jitter(), 1, 20.0)
    assert max(waits) == 20.0
    assert waits.count(20.0) / DRAWS == pytest.approx(40 / 59.9, abs=0.015)


@pytest.mark.parametrize("make", GROWING)
@pytest.mark.parametrize("attempt", [1024, 1025, 1100, 10**6, 2**53 + 1, 2**63 - 1])
def test_rt04_no_attempt_is_too_late_to_count(make, attempt):
    """RT-04: beyond 2**1024 the wait is the cap, with no overflow in between."""
    waits = [make()(attempt, 20.0) for _ in range(50)]
    assert all(0 <= wait <= 20.0 for wait in waits)
    if make is exponential:
        assert set(waits) == {20.0}
    assert make(1e-9, 86400, **({} if make is decorrelated_jitter else {"factor": 1e6}))(attempt) <= 86400


@given(
    base=st.floats(1e-6, 10.0),
    cap=st.floats(10.0, 86400.0),
    attempt=st.integers(1, 2**63 - 1),
    previous=st.floats(0.0, 86400.0),
    draw=st.floats(0.0, 1.0, exclude_max=True),
)
def test_every_wait_is_between_zero_and_the_cap(base, cap, attempt, previous, draw):
    """Whatever the options, the attempt and the luck."""
    for make in GROWING:
        backoff = make(base, cap)
        wait = backoff(attempt, previous, lambda: draw)
        assert 0 <= wait <= cap + 1e-9
        assert wait == backoff(attempt, previous, lambda: draw)


def test_a_random_of_ones_own_decides():
    """A simulation that draws from its own generator gets waits that it can foretell."""
    assert full_jitter(1, 10)(2, 0.0, lambda: 0.25) == 0.5
    assert equal_jitter(1, 10)(2, 0.0, lambda: 0.5) == 1.5
    assert decorrelated_jitter(1, 10)(1, 2.0, lambda: 0.5) == 3.5
    with pytest.raises(ValueError, match=r"random\(\) must be .*not 2"):
        full_jitter()(1, 0.0, lambda: 2)


def test_seeded_repeats_and_ends():
    """Equal seeds give equal waits, others do not; afterwards the randomness goes on where it was."""
    backoff = full_jitter()

    def ten(seed: int) -> list[float]:
        with seeded(seed):
            return [backoff(3) for _ in range(10)]

    assert ten(7) == ten(7) != ten(8)
    before = native._reseed(99)
    ten(7)
    assert native._reseed(before) == 99
    with pytest.raises(ValueError, match=r"seed must be .*not -1"), seeded(-1):
        pass


def test_seeded_repeats_what_policies_draw_too():
    """Breakers made under equal seeds stay open for equally long, others do not."""

    def open_times(seed: int) -> list[float]:
        with virtual_time(), seeded(seed):
            breaker = circuit_breaker(consecutive=1)
            breaker.try_acquire().failure(ConnectionError())
            return [breaker.try_acquire().retry_after]

    assert open_times(7) == open_times(7) != open_times(8)


def test_the_child_of_a_fork_draws_otherwise(in_child):
    """Workers forked from one parent do not return together."""
    backoff = full_jitter()
    before = native._reseed(1)
    theirs = in_child(lambda: backoff(3))
    ours = backoff(3)
    native._reseed(before)
    assert theirs != ours


# ---- as values -----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("text", "backoff"),
    [
        ("full_jitter(base=0.1, cap=20.0, factor=2.0)", full_jitter()),
        ("equal_jitter(base=0.5, cap=20.0, factor=2.0)", equal_jitter(0.5)),
        ("exponential(base=0.1, cap=60.0, factor=3.0)", exponential(cap=60, factor=3)),
        ("decorrelated_jitter(base=0.1, cap=20.0)", decorrelated_jitter()),
        ("constant(1.0)", constant(1)),
    ],
)
def test_a_backoff_is_a_value(text, backoff):
    """It shows what one would write, which makes an equal one; it pickles, hashes and does not change."""
    assert repr(backoff) == text
    assert eval(text) == backoff
    assert hash(eval(text)) == hash(backoff)
    copy = pickle.loads(pickle.dumps(backoff))
    assert copy == backoff
    assert 0 <= copy(1) <= 20
    assert backoff != full_jitter(base=0.2)
    with pytest.raises(attrs.exceptions.FrozenInstanceError):
        backoff.base = 1.0


@pytest.mark.parametrize(
    ("call", "error", "words"),
    [
        (lambda: full_jitter(0), ValueError, "base must be .*not 0"),
        (lambda: full_jitter(True), TypeError, "base must be .*not True"),
        (lambda: full_jitter("1"), ValueError, "base must be .*not '1'"),
        (lambda: equal_jitter(math.nan), ValueError, "base must be .*not nan"),
        (lambda: exponential(1, math.inf), ValueError, "cap must be .*not inf"),
        (lambda: exponential(1, 86401), ValueError, "cap must be .*not 86401"),
        (lambda: exponential(2, 1), ValueError, "base must be at most cap=1, not 2"),
        (lambda: exponential(factor=0.5), ValueError, "factor must be .*not 0.5"),
        (lambda: exponential(factor=True), TypeError, "factor must be .*not True"),
        (lambda: constant(-1), ValueError, "seconds must be .*not -1"),
        (lambda: constant(None), TypeError, "seconds must be .*not None"),
        (lambda: full_jitter()(0), ValueError, "attempt must be .*not 0"),
        (lambda: full_jitter()(True), TypeError, "attempt must be .*not True"),
        (lambda: full_jitter()(1, -1), ValueError, "previous must be .*not -1"),
    ],
)
def test_rt04_bad_arguments_are_rejected_by_name_and_value(call, error, words):
    """RT-04: NaN, infinity, bool, wrong types, and times that make no sense."""
    with pytest.raises(error, match=words):
        call()


# ---- as an option --------------------------------------------------------------------------------------------------


async def later(attempt: int) -> float:
    """No wait at once."""
    return 0.0


def test_an_option_takes_what_users_write():
    """A backoff, seconds, a timedelta, a sequence whose last repeats, or a function of the attempt."""
    assert backoff_option("backoff", full_jitter()) == full_jitter()
    assert backoff_option("backoff", 2) == backoff_option("backoff", timedelta(seconds=2)) == constant(2)
    schedule = backoff_option("backoff", [0.1, timedelta(seconds=1), 5])
    assert schedule == backoff_option("backoff", schedule) == Schedule((0.1, 1.0, 5.0))
    assert [delay_of(schedule, attempt) for attempt in (1, 2, 3, 4, 10**6)] == [0.1, 1.0, 5.0, 5.0, 5.0]
    assert repr(schedule) == "[0.1, 1.0, 5.0]"
    assert pickle.loads(pickle.dumps(schedule)) == schedule
    own = lambda attempt: attempt / 2  # noqa: E731
    assert backoff_option("backoff", own) is own
    assert delay_of(own, 3) == 1.5
    assert delay_of(lambda _: timedelta(seconds=1), 1) == 1.0
    assert delay_of(lambda _: 1e-50, 1) == 1e-50
    assert delay_of(exponential(), 3, previous=0.2) == 0.4


@pytest.mark.parametrize(
    ("value", "error", "words"),
    [
        (True, TypeError, "backoff must be a backoff like .*not True"),
        ("1", ValueError, "backoff must be a time like .*not '1'"),
        (None, TypeError, "backoff must be .*not None"),
        ([], ValueError, r"backoff must be .*not \[\]"),
        ([1, -1], ValueError, "backoff must be .*not -1"),
        (math.nan, ValueError, "backoff must be .*not nan"),
        (1e9, ValueError, "backoff must be .*at most 86400 s, not 1000000000.0"),
        (full_jitter, TypeError, r"backoff must be called: full_jitter\(\.\.\.\)"),
        (later, TypeError, "backoff must be .*at once"),
    ],
)
def test_an_option_rejects_the_rest(value, error, words):
    """The parameter and the value are named."""
    with pytest.raises(error, match=words):
        backoff_option("backoff", value)


@pytest.mark.parametrize(("answer", "error"), [(-1, ValueError), (math.nan, ValueError), (None, TypeError)])
def test_what_a_users_function_gives_is_checked(answer, error):
    """Nobody sleeps for a negative time, or for ever."""
    with pytest.raises(error, match=rf"backoff\(2\) must be .*not {answer}"):
        delay_of(lambda _: answer, 2)


def test_the_users_random_may_be_pythons():
    """`random.Random(1).random` is such a function."""
    first, second = random.Random(1), random.Random(1)
    assert full_jitter()(3, 0.0, first.random) == full_jitter()(3, 0.0, second.random)
