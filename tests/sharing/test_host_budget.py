"""A retry budget with `scope="host"`: the workers save together, and each lends to its own calls."""

from __future__ import annotations

from collections.abc import Callable

import pytest
from workers_of_host import started

from resilio import RetryBudget
from resilio._native.shared import Member, Region
from resilio.testing import VirtualTime


class Budgets:
    """Budgets of several workers of one host."""

    def __init__(self, number: int, **options: float | None) -> None:
        region = Region.private(1 << 20)
        self.members: list[Member] = [region.member, *(region.join() for _ in range(number - 1))]
        self.all: list[RetryBudget] = []
        for member in self.members:
            budget = RetryBudget(**options)  # type: ignore[arg-type]
            kind, stock, size = budget.cell_wanted()
            budget.share(region.cell(kind, "calls", stock, size, member))
            self.all.append(budget)


@pytest.fixture
def budgets(vt: VirtualTime) -> Callable[..., Budgets]:
    """Return a function that makes budgets of workers of one host."""
    vt.advance(1)
    return Budgets


def test_the_workers_have_one_initial_balance(budgets: Callable[..., Budgets]) -> None:
    """Eight workers had eight times `initial`: 24 retries into an outage that three are meant for."""
    them = budgets(8, initial=3.0)
    assert sum(budget.withdraw() for budget in them.all * 4) == 3
    assert {budget.balance for budget in them.all} == {0.0}


def test_a_success_of_one_worker_pays_for_a_retry_of_another(budgets: Callable[..., Budgets]) -> None:
    """Ten deposits of a tenth are one token, and full savings take no more."""
    them = budgets(2, initial=0.0, reserve=0.0)
    first, second = them.all
    assert not second.withdraw()
    for _ in range(10):
        first.deposit()
    assert second.balance == pytest.approx(1.0, abs=1e-5)
    for _ in range(1000):
        second.deposit()
    assert first.balance == pytest.approx(5.0, abs=1e-5)
    assert sum(first.withdraw() for _ in range(9)) in (4, 5)


def test_savings_of_the_host_decay(budgets: Callable[..., Budgets], vt: VirtualTime) -> None:
    """Above `initial` they shrink to 1/e in the time given, whoever looks."""
    them = budgets(2, initial=1.0, cap=5.0, decay=60.0)
    for _ in range(100):
        them.all[0].deposit()
    vt.advance(60)
    assert them.all[1].balance == pytest.approx(1 + 4 / 2.71828, abs=0.01)
    vt.advance(3600)
    assert them.all[1].balance == pytest.approx(1.0, abs=1e-5)


def test_the_reserve_is_one_for_the_host(budgets: Callable[..., Budgets], vt: VirtualTime) -> None:
    """A reserve for each of eight workers, in an outage, is eight times the load that it is meant to be."""
    them = budgets(8, initial=0.0, reserve=0.1)
    for budget in them.all:
        budget.deposit()
    while them.all[0]._take(0.0):  # what they have paid in
        pass
    vt.advance(10.5)
    assert sum(budget.withdraw() for budget in them.all) == 1
    vt.advance(10.5)
    assert not any(budget.withdraw() for budget in them.all)  # no success since
    them.all[3].deposit()
    assert sum(budget.withdraw() for budget in them.all) == 1


def test_each_worker_lends_to_its_own_calls(budgets: Callable[..., Budgets]) -> None:
    """Twenty calls under way lend two tokens to the retries of their worker, which its successes pay back first."""
    them = budgets(2, initial=0.0, reserve=0.0)
    first, second = them.all
    for _ in range(400):
        first._attempt_failed(20)
    assert [first._take(1.0, 0, 20) is not None for _ in range(3)] == [True, True, False]
    assert (first.balance, second.balance) == (-2.0, 0.0)
    assert not second.withdraw()
    for _ in range(30):
        first.deposit()
    assert (first.balance, second.balance) == (pytest.approx(1.0, abs=1e-5), pytest.approx(1.0, abs=1e-5))


def test_a_refund_and_a_reset_are_the_hosts(budgets: Callable[..., Budgets]) -> None:
    """A token that was not used is there for all; `reset` by any worker begins anew."""
    them = budgets(2, initial=1.0, reserve=0.0)
    first, second = them.all
    assert first.withdraw()
    assert not second.withdraw()
    first.refund()
    assert second.withdraw()
    first.reset()
    assert second.balance == 1.0


def test_without_a_slot_a_budget_is_that_of_a_new_client(budgets: Callable[..., Budgets]) -> None:
    """The worker goes on with `initial`, and the others keep what they have saved."""
    them = budgets(2, initial=2.0, reserve=0.0)
    assert all(them.all[0].withdraw() for _ in range(2))
    them.members[1].leave()
    assert [them.all[1].withdraw() for _ in range(3)] == [True, True, False]
    assert them.all[0].balance == 0.0


def test_processes_save_together(resilio_shared_host: object) -> None:
    """A process that begins finds what the others have left, and takes nothing from them by beginning."""
    before = 'from resilio import RetryBudget; budget = RetryBudget("calls", initial=3.0, reserve=0, scope="host")'
    with started(3, before) as workers:
        assert [workers[i % 3].ask("budget.withdraw()") for i in range(4)] == [True] * 3 + [False]
        with started(1, before) as later:
            assert later[0].ask("budget.withdraw()") is False
            assert later[0].ask("budget.snapshot().sharing.peers") == 4
