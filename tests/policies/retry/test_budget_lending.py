"""What calls under way lend to a retry budget, and what a retry costs that the dependency asked for."""

from __future__ import annotations

import asyncio
import random

import pytest

from resilio import RetryBudget, retry


class Broken(Exception):
    """What the dependency raises; it may ask for a time to come back."""

    def __init__(self, retry_after=None):
        self.retry_after = retry_after


def load(vt, size, pages, fails, *, pause=0.5, **options):
    """Call in pages; return the share that ended well, the attempts for each call, and the budget."""
    policy = retry(on=Broken, budget=RetryBudget(), **options)
    attempts = 0

    @policy
    async def call():
        nonlocal attempts
        attempts += 1
        await asyncio.sleep(0.02)
        error = fails()
        if error is not None:
            raise error

    async def main():
        ended = []
        for _ in range(pages):
            ended += await asyncio.gather(*(call() for _ in range(size)), return_exceptions=True)
            await asyncio.sleep(pause)
        return sum(outcome is None for outcome in ended) / len(ended)

    good = vt.run(main)
    return good, attempts / (size * pages), policy.budget


@pytest.mark.parametrize("seed", [3, 44, 501])
def test_a_page_of_calls_pays_for_its_retries(vt, seed):
    """Pages of 50 calls, 5 % fail: a burst met a balance of three, and every fifth page had a hole."""
    draw = random.Random(seed)
    good, added, _ = load(vt, 50, 40, lambda: Broken() if draw.random() < 0.05 else None, attempts=4)
    assert good == 1.0
    assert added <= 1.08


def test_a_total_outage_is_lent_to_once(vt):
    """Of a hundred calls at a time that all fail, ten more than were saved are tried again, and no more after that."""
    _, added, budget = load(vt, 100, 20, Broken)
    assert added * 2000 - 2000 <= 10 + 3 + 2  # lent, saved at first, and what a debt of ten loses by age in ten seconds
    assert -10 <= budget.balance <= 0


@pytest.mark.real(1.0)
def test_a_debt_is_paid_back_before_anything_is_saved(vt):
    """Half of the attempts fail for long: calls under way lend no more than the successes pay, 1.06 of the load."""
    draw = random.Random(7)
    _, added, _ = load(vt, 100, 200, lambda: Broken() if draw.random() < 0.5 else None)
    assert added <= 1.06


def test_a_retry_that_the_dependency_asked_for_costs_a_quarter(vt):
    """20 % of the answers are 429s: retries at the time that the server names cost as much as those into an outage."""
    draw = random.Random(5)
    good, _, _ = load(vt, 20, 200, lambda: Broken(0.2) if draw.random() < 0.2 else None, attempts=5)
    assert good >= 0.99
    _, _, budget = load(vt, 1, 1, lambda: Broken(0.2), attempts=3)
    assert budget.balance == pytest.approx(2.5)


def test_a_quick_rejection_that_names_a_time_costs_a_quarter_too(vt):
    """A server that sheds at once and asks for a second got 1.94 x the calls, as each retry cost a twentieth."""
    budget = RetryBudget()
    assert budget._take(0.0, 10**9) == pytest.approx(0.25)
    assert budget._take(0.0) == pytest.approx(0.05)
