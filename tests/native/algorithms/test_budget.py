"""The native part of the retry budget."""

from __future__ import annotations

from resilio._native import budget as native
from resilio._native import clock
from resilio._policies.retry.budget import RetryBudgetConfig


def test_a_new_one_holds_nothing():
    """Before it is configured it allows nothing and decays nothing."""
    budget = native.RetryBudget()
    budget.deposit()
    assert (budget.withdraw(), budget.balance) == (False, 0.0)


def test_threads_take_each_token_once(race):
    """Threads that withdraw and pay in at once lose no token and get none twice."""
    budget = native.RetryBudget()
    budget._configure(RetryBudgetConfig(ratio=1.0, cap=1e6, initial=1e6, decay=None, reserve=0.0))
    budget.reset()

    def step() -> bool:
        before = budget.withdrawals
        assert budget.withdraw()
        return budget.withdrawals != before + 1

    steps = race(step)
    assert budget.withdrawals == steps
    assert budget.balance == 1e6 - steps


def test_a_time_constant_below_a_tick_is_a_tick():
    """A decay of less than 1024 ns does not divide by zero."""
    clock.set_virtual(0)
    try:
        budget = native.RetryBudget()
        budget._configure(RetryBudgetConfig(ratio=0.5, cap=1.0, initial=0.0, decay=1e-9, reserve=1e-18))
        budget.reset()
        budget.deposit()
        budget.deposit()
        clock.set_virtual(10**6)
        assert budget.balance < 1e-6
        budget.deposit()
        assert not budget.withdraw()
    finally:
        clock.clear_virtual()


def test_what_a_child_of_a_fork_does_leaves_no_more_than_a_new_client_has():
    """Savings are cut, a withdrawal under way is nobody's to refund, and the jitter is another."""
    budget = native.RetryBudget()
    budget._configure(RetryBudgetConfig(ratio=1.0, cap=10.0, initial=2.0, decay=None, reserve=0.0))
    budget.reset()
    assert budget.withdraw()
    for _ in range(5):
        budget.deposit()
    state = native._reseed(1)
    native._after_fork()
    assert native._reseed(state) != 1
    assert budget.balance == 2.0
    budget.refund()
    assert budget.balance == 2.0
