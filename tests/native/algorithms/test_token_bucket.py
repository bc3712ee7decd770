"""TokenBucket against a level of tokens in exact fractions."""

from __future__ import annotations

import math
from fractions import Fraction

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule

from oracles.token_bucket import ExactBucket
from resilio._native.primitives import TokenBucket

SECOND = 10**9
# Their interval is a whole number of ns, or the rate is a whole number: the bucket is exact, to the nanosecond.
EXACT_RATES = (0.5, 0.125, 1.0, 2.5, 3.0, 7.0, 10.0, 1500.0, 1e6, 1e9, 3e10)


def start_ns(bucket: TokenBucket) -> int:
    """A time that is not before the bucket was made."""
    bucket.reset(2**60)
    return 2**60


class BucketMachine(RuleBasedStateMachine):
    """A bucket and its oracle see the same takers, refunds, debts, and a clock that may step back."""

    @initialize(rate=st.sampled_from(EXACT_RATES), burst=st.integers(1, 50))
    def begin(self, rate, burst):
        self.bucket = TokenBucket(rate, burst)
        self.now = start_ns(self.bucket)
        self.exact = ExactBucket(rate, burst, self.now)
        self.rounded = False

    @rule(ns=st.one_of(st.integers(0, 10 * SECOND), st.integers(0, 1000)))
    def wait(self, ns):
        self.now = self.exact.now_ns + ns
        self.exact.advance(self.now)

    @rule(n=st.integers(1, 50))
    def wait_for(self, n):
        """Come back in the nanosecond in which n tokens are there."""
        self.now = self.exact.now_ns + self.exact.missing_ns(min(n, self.exact.burst))
        self.exact.advance(self.now)

    @rule(ns=st.integers(1, 10 * SECOND))
    def step_back(self, ns):
        """Until the next wait, every reading is earlier than the latest one."""
        self.now = self.exact.now_ns - ns

    @rule(n=st.integers(1, 50))
    def acquire(self, n):
        if n > self.exact.burst:
            with pytest.raises(ValueError, match=f"n must be at most the burst, {self.exact.burst}.*not {n}"):
                self.bucket.try_acquire(n, self.now)
            return
        if self.rounded and self.exact.missing_ns(n) <= 1:
            return
        assert self.bucket.try_acquire(n, self.now) == self.exact.try_acquire(n)

    @rule(n=st.integers(1, 100))
    def debit(self, n):
        self.bucket.debit(n, self.now)
        self.exact.debit(n)

    @rule(n=st.integers(1, 100))
    def refund(self, n):
        self.bucket.retry_after(1, self.now)  # a refund has no time of its own: it uses the latest one
        self.bucket.refund(n)
        self.exact.refund(n)

    @rule(n=st.integers(1, 50))
    def reserve(self, n):
        if n <= self.exact.burst:
            missing = self.exact.missing_ns(n)
            assert abs(self.bucket.reserve(n, self.now) * 1e9 - missing) <= self.rounded + 1e-15 * missing + 1e-3
            self.exact.debit(n)

    @rule()
    def reset(self):
        self.bucket.reset(self.now)
        self.exact.level = Fraction(self.exact.burst)
        self.rounded = False

    @rule(rate=st.sampled_from(EXACT_RATES), burst=st.integers(1, 50))
    def reconfigure(self, rate, burst):
        self.bucket.reconfigure(rate, burst, self.now)
        self.exact.reconfigure(rate, burst)
        self.rounded = True  # a part of a token is converted within 1e-15: the nanosecond may be another one

    @precondition(lambda self: hasattr(self, "bucket"))
    @invariant()
    def agrees_with_the_oracle(self):
        assert (self.bucket.rate, self.bucket.burst) == (float(self.exact.per_ns * 10**9), self.exact.burst)
        for n in (1, self.exact.burst):
            missing = self.exact.missing_ns(n)
            assert abs(self.bucket.retry_after(n, self.now) * 1e9 - missing) <= self.rounded + 1e-15 * missing + 1e-3
            if not self.rounded:
                assert self.bucket.peek(n, self.now) == (missing == 0)
        if not self.rounded:
            assert self.bucket.available(self.now) == self.exact.available()


BucketMachine.TestCase.settings = settings(max_examples=100, stateful_step_count=30, deadline=None)
test_bucket_agrees_with_exact_fractions = BucketMachine.TestCase


RATES = [0.5, 1 / 3, 0.3, 90_000 / 60, 100 / 60, 7.0, 123_456.789, 1e9, 1e9 / 3, 1e12, 3.3e11]
TRACED = [1e-6, math.pi]  # three hundred thousand calls each, but for the first


@pytest.mark.parametrize("rate", [*TRACED, *(pytest.param(rate, marks=pytest.mark.untraced) for rate in RATES)])
def test_rl07_the_long_run_rate_is_exact(rate):
    """RL-07: fractional, tiny and huge rates are kept within 1e-9, token by token, with no error that adds up."""
    tokens = min(300_000, int(rate * 1e9))
    burst = max(1, tokens // 10)
    bucket = TokenBucket(rate, burst)
    now = start_ns(bucket)
    for _ in range(tokens):
        bucket.debit(1, now)
    until_full = Fraction(bucket.retry_after(burst, now))
    exact = Fraction(tokens) / Fraction(rate)
    assert abs(until_full - exact) <= exact / 10**9 + Fraction(1, 10**9)


@pytest.mark.parametrize(("rate", "period_ns"), [(1500.0, 10**10), (1e6, 10**8), (1e9, 10**6), (0.5, 10**13)])
def test_a_taker_that_never_rests_gets_the_rate(rate, period_ns):
    """Polling at irregular times grants burst + rate * time tokens, not one more or less."""
    bucket = TokenBucket(rate, 50)
    now, granted, step = start_ns(bucket), 0, max(1, int(50 * SECOND / rate * 0.61))
    end = now + period_ns
    while now < end:
        while (there := bucket.available(now)) > 0:
            granted += there * bucket.try_acquire(there, now)
        now = min(end, now + step)
    granted += bucket.available(end)
    assert granted == 50 + Fraction(rate) * period_ns / SECOND


def test_rl01_a_rate_below_one_a_second_admits():
    """RL-01: the default burst is one second's worth and at least one token."""
    bucket = TokenBucket(0.5)
    now = start_ns(bucket)
    assert bucket.burst == 1
    assert bucket.try_acquire(1, now)
    assert bucket.retry_after(1, now) == 2.0
    assert not bucket.try_acquire(1, now + 2 * SECOND - 1)
    assert bucket.try_acquire(1, now + 2 * SECOND)
    assert (TokenBucket(99.9).burst, TokenBucket(1e12).burst) == (99, 10**12)


@given(st.floats(1e-3, 1e9), st.integers(1, 1000), st.integers(1, 1000))
def test_waiting_for_retry_after_is_enough(rate, burst, n):
    """After the seconds that retry_after() names, and not a rounding error later, the tokens are there."""
    bucket = TokenBucket(rate, burst, initial=0)
    now = start_ns(bucket)
    bucket.debit(burst, now)
    n = min(n, burst)
    wait_ns = math.ceil(bucket.retry_after(n, now) * 1e9)
    if wait_ns < 2**53:
        assert not bucket.try_acquire(n, now + wait_ns - 2)
        assert bucket.try_acquire(n, now + wait_ns)


def test_a_clock_that_goes_backwards_grants_nothing_extra():
    """While the clock is before the latest time seen, time stands still; when it is back, nothing was gained."""
    bucket = TokenBucket(10.0, 10)
    now = start_ns(bucket)
    assert bucket.try_acquire(10, now)
    for back in (1, SECOND, 3600 * SECOND, 2**59):
        assert bucket.available(now - back) == 0
        assert bucket.retry_after(1, now - back) == 0.1
        bucket.refund(1)
        assert bucket.try_acquire(1, now - back)
        assert not bucket.try_acquire(1, now)
    assert bucket.available(now + SECOND // 2) == 5


def test_a_debt_is_waited_out_and_a_refund_never_exceeds_the_burst():
    """debit() may go below zero, refund() comes back from there, and a full bucket stays at its burst."""
    bucket = TokenBucket(10.0, 10)
    now = start_ns(bucket)
    bucket.debit(25, now)
    assert bucket.available(now) == -15
    assert bucket.retry_after(1, now) == 1.6
    bucket.refund(5)
    assert bucket.available(now) == -10
    for _ in range(20):
        bucket.refund(2**63 - 1)
        assert bucket.available(now) == 10
    assert bucket.available(now + 3600 * SECOND) == 10


def test_debts_without_end_do_not_overflow():
    """A debt is capped at 73 years, far beyond any use; reset() forgives it."""
    slow, fast = TokenBucket(1.0, 10), TokenBucket(1e12, 10)
    now = start_ns(slow)
    for bucket, times in ((slow, 5), (fast, 300)):
        for _ in range(times):
            bucket.debit(2**63 - 1, now)
        assert 70 < bucket.retry_after(1, now) / (365.25 * 86400) < 74
        assert not bucket.try_acquire(1, now)
    assert fast.available(now) == -(2**63)
    assert slow.available(now) == -(2**61 // SECOND) - 1 + 10
    slow.reconfigure(2.0, 5, now)
    assert slow.retry_after(1, now) > 10**9
    slow.reset(now)
    assert slow.available(now) == 5


def test_a_reservation_is_a_place_in_the_future():
    """reserve() takes tokens that are not there yet and says when they will be; refund() cancels it."""
    bucket = TokenBucket(10.0, 10, initial=0)
    now = start_ns(bucket)
    bucket.debit(10, now)
    assert [bucket.reserve(5, now) for _ in range(3)] == [0.5, 1.0, 1.5]
    bucket.refund(5)
    assert bucket.reserve(5, now) == 1.5
    with pytest.raises(ValueError, match=r"n must be at most the burst, 10.*not 11"):
        bucket.reserve(11, now)
    assert bucket.available(now) == -15


def test_reconfiguring_keeps_the_tokens_up_to_the_new_burst():
    """A new rate or burst neither grants tokens nor forgives a debt."""
    bucket = TokenBucket(10.0, 10)
    now = start_ns(bucket)
    bucket.try_acquire(4, now)
    bucket.reconfigure(100.0, 50, now)
    assert (bucket.available(now), bucket.rate, bucket.burst) == (6, 100.0, 50)
    bucket.reconfigure(100.0, 5, now)
    assert bucket.available(now) == 5
    bucket.debit(8, now)
    bucket.reconfigure(1.0, now_ns=now)
    assert (bucket.available(now), bucket.burst) == (-3, 1)
    with pytest.raises(ValueError, match=r"rate must be .*not 0"):
        bucket.reconfigure(0)
    assert (bucket.rate, bucket.burst) == (1.0, 1)


def test_initial_tokens_are_what_it_begins_with(vt):
    """`initial` says how full a new bucket is; without it, it is full. The clock is the library's own."""
    assert TokenBucket(10.0, 10).available() == 10
    bucket = TokenBucket(10.0, 10, initial=3)
    assert bucket.try_acquire(3)
    assert not bucket.peek()
    vt.advance(0.1)
    assert bucket.peek()
    assert bucket.try_acquire()
    assert not bucket.try_acquire()
    vt.advance(bucket.retry_after(10))
    assert bucket.try_acquire(n=10)


@pytest.mark.parametrize(
    ("call", "error", "words"),
    [
        (lambda: TokenBucket(0), ValueError, "rate must be .*not 0"),
        (lambda: TokenBucket(-1.0), ValueError, "rate must be .*not -1.0"),
        (lambda: TokenBucket(math.nan), ValueError, "rate must be .*not nan"),
        (lambda: TokenBucket(math.inf), ValueError, "rate must be .*not inf"),
        (lambda: TokenBucket(True), TypeError, "rate must be .*not True"),
        (lambda: TokenBucket("1/s"), TypeError, "rate must be .*not '1/s'"),
        (lambda: TokenBucket(1e13), ValueError, "rate must be .*not 10000000000000.0"),
        (lambda: TokenBucket(1e-12), ValueError, "rate must be .*not 1e-12"),
        (lambda: TokenBucket(10**400), ValueError, "rate must be .*not 1000"),
        (lambda: TokenBucket(1, 0), ValueError, "burst must be .*not 0"),
        (lambda: TokenBucket(1, -5), ValueError, "burst must be .*not -5"),
        (lambda: TokenBucket(1, 2.0), TypeError, "burst must be .*not 2.0"),
        (lambda: TokenBucket(1, True), TypeError, "burst must be .*not True"),
        (lambda: TokenBucket(1, 10**13), ValueError, "burst must be .*not 10000000000000"),
        (lambda: TokenBucket(1e-6, 10**6), ValueError, "burst must be at most ten years.*not 1000000"),
        (lambda: TokenBucket(1, 5, initial=6), ValueError, "initial must be .*not 6"),
        (lambda: TokenBucket(1, 5, initial=-1), ValueError, "initial must be .*not -1"),
        (lambda: TokenBucket(1, 5, initial=1.0), TypeError, "initial must be .*not 1.0"),
        (lambda: TokenBucket(1).try_acquire(0), ValueError, "n must be .*not 0"),
        (lambda: TokenBucket(1).try_acquire(-1), ValueError, "n must be .*not -1"),
        (lambda: TokenBucket(1).try_acquire(2), ValueError, "n must be at most the burst, 1.*not 2"),
        (lambda: TokenBucket(1).try_acquire(True), TypeError, "n must be .*not True"),
        (lambda: TokenBucket(1).try_acquire(1.0), TypeError, "n must be .*not 1.0"),
        (lambda: TokenBucket(1).try_acquire(10**30), ValueError, "n must be .*not 1000"),
        (lambda: TokenBucket(1).try_acquire(1, -1), ValueError, "now_ns must be .*not -1"),
        (lambda: TokenBucket(1).try_acquire(1, 2**62), ValueError, "now_ns must be .*not 4611686018427387904"),
        (lambda: TokenBucket(1).try_acquire(1, 1.0), TypeError, "now_ns must be .*not 1.0"),
        (lambda: TokenBucket(1).retry_after(2), ValueError, "n must be at most the burst"),
        (lambda: TokenBucket(1).peek(2), ValueError, "n must be at most the burst"),
        (lambda: TokenBucket(1).refund(0), ValueError, "n must be .*not 0"),
        (lambda: TokenBucket(1).debit(0), ValueError, "n must be .*not 0"),
        (lambda: TokenBucket(1).reconfigure(1, True), TypeError, "burst must be .*not True"),
    ],
)
def test_bad_arguments_name_parameter_and_value(call, error, words):
    """Wrong types, NaN, infinity, bool, zero, negative and absurd values are rejected."""
    with pytest.raises(error, match=words):
        call()


def test_threads_take_exactly_the_burst(race):
    """Tokens of a bucket whose clock stands still are taken by threads exactly once each."""
    bucket = TokenBucket(1e-6, 100)
    now = start_ns(bucket)
    bucket.reconfigure(1.0, 10**8, now)
    bucket.reset(now)

    def step() -> bool:
        before = bucket.available(now)
        assert bucket.try_acquire(1, now)
        return bucket.available(now) != before - 1

    assert race(step) == 10**8 - bucket.available(now)


def test_repr_shows_the_rate():
    """repr shows what the constructor was given."""
    assert repr(TokenBucket(2.5, 7)) == "TokenBucket(rate=2.5, burst=7)"
