"""The retry budget against its oracle: any sequence of successes, failures, retries, refunds, changes and time."""

from __future__ import annotations

from fractions import Fraction

from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule

from oracles.budget import BudgetOracle
from resilio import RetryBudget
from resilio._native import clock

SECOND = 10**9
OPTIONS = st.fixed_dictionaries(
    {
        "ratio": st.sampled_from([Fraction(1, 10), Fraction(1, 3), Fraction(0), Fraction(1)]),
        "cap": st.sampled_from([Fraction(1), Fraction(5, 2), Fraction(10)]),
        "initial": st.sampled_from([Fraction(0), Fraction(1, 2), Fraction(1)]),
        "decay": st.sampled_from([None, 1.0, 60.0, 1e-6]),
        "reserve": st.sampled_from([Fraction(0), Fraction(1, 10), Fraction(4)]),
    }
)
THOUSANDTH = Fraction(1, 1000)
CLOSE = 1e-6  # an amount is kept in units of 1e-9, and rounded down at every decay


def options_of(given: dict[str, Fraction | float | None]) -> dict[str, float | None]:
    """The options as a user writes them."""
    return {name: None if value is None else float(value) for name, value in given.items()}


class BudgetMachine(RuleBasedStateMachine):
    """A budget and its oracle see the same events; time never steps back."""

    def __init__(self) -> None:
        super().__init__()
        clock.set_virtual(SECOND)

    def teardown(self) -> None:
        clock.clear_virtual()

    @initialize(given=OPTIONS)
    def begin(self, given):
        self.oracle = BudgetOracle(SECOND, **given)
        self.budget = RetryBudget(**options_of(given))

    @rule(ns=st.one_of(st.integers(0, 100 * SECOND), st.integers(0, SECOND)))
    def wait(self, ns):
        self.oracle.advance(ns)
        clock.set_virtual(self.oracle.now_ns)

    @rule(count=st.integers(1, 12))
    def succeed(self, count):
        for _ in range(count):
            self.oracle.deposit()
            self.budget.deposit()

    @rule()
    def retry(self):
        if self.is_a_hair_from_it(Fraction(1), 0):
            return
        assert self.budget.withdraw() == self.oracle.withdraw()

    def is_a_hair_from_it(self, price, lenders):
        """Whether it may be taken is a question of rounding; the balance of the budget is adopted."""
        oracle = self.oracle
        if abs(oracle.balance - price) < CLOSE:
            oracle.balance = Fraction(round(self.budget.balance * SECOND), SECOND)
        at_most = {lenders, max(lenders, oracle.lenders)}
        lent = any(count and abs(oracle.balance - price + oracle.ratio * count) < CLOSE for count in at_most)
        return lent or abs(oracle.steady - Fraction(44, 100)) < CLOSE

    @rule(count=st.integers(1, 40), underway=st.sampled_from([1, 31, 32, 200, 5000]))
    def fail(self, count, underway):
        for _ in range(count):
            self.oracle.attempt_failed(underway)
            self.budget._attempt_failed(underway)

    @rule(
        share=st.sampled_from([Fraction(0), Fraction(1, 50), Fraction(1, 4), Fraction(1)]),
        asked=st.sampled_from([Fraction(0), Fraction(1, 2), Fraction(1), Fraction(60)]),
        lenders=st.sampled_from([0, 1, 3, 100]),
        succeeds=st.booleans(),
    )
    def retry_at_its_price(self, share, asked, lenders, succeeds):
        price = self.oracle.price(share, asked)
        if self.is_a_hair_from_it(price, lenders):
            return
        taken = self.budget._take(float(share), int(asked * SECOND), lenders)
        mute = self.oracle.is_mute(price, lenders)
        assert (taken is not None) == self.oracle.take(price, lenders, mute=mute)
        if taken is not None:
            assert abs(taken - price) < CLOSE
            if succeeds:
                self.budget._repay(taken)
                self.oracle.repay(price)

    @rule()
    def refund(self):
        self.oracle.refund()
        self.budget.refund()

    @rule()
    def reset(self):
        self.oracle.reset()
        self.budget.reset()

    @rule(given=OPTIONS)
    def reconfigure(self, given):
        self.oracle.configure(**given)
        self.budget.reconfigure(**options_of(given))

    @precondition(lambda self: hasattr(self, "budget"))
    @invariant()
    def agrees_with_the_oracle(self):
        seen, oracle = self.budget.snapshot(), self.oracle
        assert abs(seen.balance - oracle.balance) < CLOSE
        assert (seen.successes, seen.rejected) == (oracle.deposits, oracle.rejected)
        assert (seen.calls - seen.rejected, seen.reserved) == (oracle.withdrawals, oracle.reserved)
        assert seen.cancelled == oracle.refunds
        assert abs(seen.failing - oracle.failing) < CLOSE
        assert seen.balance <= self.budget.config.cap

    @precondition(lambda self: hasattr(self, "budget"))
    @invariant()
    def is_new_if_it_allows_what_a_new_one_does(self):
        saved = self.oracle.balance - self.oracle.initial
        if abs(abs(saved) - THOUSANDTH) >= CLOSE:
            assert self.budget._is_new() == (abs(saved) < THOUSANDTH and self.oracle.gap_is_over())


BudgetMachine.TestCase.settings = settings(max_examples=150, stateful_step_count=40, deadline=None)
test_budget_agrees_with_its_oracle = BudgetMachine.TestCase
