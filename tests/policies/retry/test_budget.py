"""What a retry budget promises."""

from __future__ import annotations

import copy
import gc
import math
import pickle
import random
from datetime import timedelta

import pytest

import resilio
from resilio import RetryBudget, configure, registry
from resilio._native import clock

# ---- what it allows ------------------------------------------------------------------------------------------------


def drawn(budget: RetryBudget, most: int = 1000) -> int:
    """How many retries it allows at once."""
    return next(count for count in range(most) if not budget.withdraw())


def test_rt08_ten_successes_pay_for_exactly_one_retry(vt):
    """RT-08: a ratio of 0.1 is one retry in ten successes, which sums of doubles would miss."""
    budget = RetryBudget(initial=0, reserve=0)
    for _ in range(9):
        budget.deposit()
    assert not budget.withdraw()
    budget.deposit()
    assert budget.balance == 1.0
    assert drawn(budget) == 1


def test_it_starts_with_the_initial_tokens_and_saves_no_more_than_the_cap(vt):
    """A new client may retry three times; a thousand successes save five retries."""
    budget = RetryBudget(reserve=0)
    assert drawn(budget) == 3
    for _ in range(1000):
        budget.deposit()
    assert budget.balance == 5.0
    assert drawn(budget) == 5


def test_rt08_a_total_outage_is_paid_nothing(vt):
    """RT-08: without a success it allows what was saved, and the reserve stays shut however long it lasts."""
    budget = RetryBudget()
    assert drawn(budget) == 3
    for _ in range(1000):
        vt.advance(1.0)
        assert not budget.withdraw()


def test_the_reserve_is_armed_by_a_success_and_gives_a_trickle(vt):
    """Who calls too seldom to save may retry once for each success and at most `reserve` times a second."""
    budget = RetryBudget(ratio=0, initial=0, reserve=0.1)
    assert not budget.withdraw()
    for _ in range(5):
        budget.deposit()
    assert [budget.withdraw() for _ in range(3)] == [True, False, False]
    budget.deposit()
    vt.advance(9.9)
    assert not budget.withdraw()
    vt.advance(0.1)
    assert [budget.withdraw() for _ in range(2)] == [True, False]
    vt.advance(100.0)
    assert not budget.withdraw()
    assert budget.snapshot().reserved == 2


def test_the_reserve_is_a_floor_and_not_on_top_of_the_savings(vt):
    """What the savings pay for uses the reserve's turn too, but does not disarm it."""
    budget = RetryBudget(initial=1, reserve=0.1)
    budget.deposit()
    assert [budget.withdraw() for _ in range(2)] == [True, False]
    vt.advance(9.9)
    assert not budget.withdraw()
    vt.advance(0.1)
    assert [budget.withdraw() for _ in range(2)] == [True, False]
    assert budget.snapshot().reserved == 1


def test_a_longer_gap_of_the_reserve_counts_from_its_last_use(vt):
    """Who makes the reserve smaller does not get one more use at the old pace, nor waits longer than the new one."""
    budget = RetryBudget(ratio=0, initial=0, reserve=4)
    budget.deposit()
    assert budget.withdraw()
    budget.reconfigure(reserve=0.1)
    budget.deposit()
    vt.advance(9.9)
    assert not budget.withdraw()
    vt.advance(0.1)
    assert budget.withdraw()


def test_savings_decay_with_the_time_constant(vt):
    """After `decay` seconds 1/e is left, to a tick; after a long time nothing; looking at it changes nothing."""
    looked_at, left = RetryBudget(cap=10, initial=0), RetryBudget(cap=10, initial=0)
    for _ in range(100):
        looked_at.deposit()
        left.deposit()
    for _ in range(997):
        vt.advance(60.0 / 997)
        assert looked_at.balance >= 0
    assert looked_at.balance == pytest.approx(10 / math.e, rel=2 / 1024)
    assert looked_at.balance == pytest.approx(left.balance, abs=1e-5)
    vt.advance(100_000.0)
    assert left.balance == 0.0


def test_what_it_begins_with_does_not_decay(vt):
    """Who calls once in a while has the retries of a new client; what was saved on top fades, a remainder does not."""
    budget = RetryBudget()
    vt.advance(1e6)
    assert budget.balance == 3.0
    for _ in range(20):
        budget.deposit()
    vt.advance(60.0)
    assert budget.balance == pytest.approx(3 + 2 / math.e, rel=1 / 1024)
    vt.advance(1e6)
    assert drawn(budget) == 3
    for _ in range(5):
        budget.deposit()
    vt.advance(1e6)
    assert budget.balance == 0.5


def test_a_new_initial_is_what_savings_decay_to(vt):
    """Lowered, it lets go of what it had kept; raised, it keeps what there is and adds nothing."""
    budget = RetryBudget(initial=1)
    for _ in range(50):
        budget.deposit()
    budget.reconfigure(initial=4)
    vt.advance(1e6)
    assert budget.balance == 4.0
    budget.reconfigure(initial=0.5)
    vt.advance(1e6)
    assert budget.balance == 0.5
    budget.reconfigure(initial=4)
    vt.advance(1e6)
    assert budget.balance == 0.5


def test_without_a_decay_savings_stay(vt):
    """`decay=None` keeps what was saved."""
    budget = RetryBudget(initial=0, ratio=1, decay=None)
    for _ in range(3):
        budget.deposit()
    vt.advance(1e8)
    assert budget.balance == 3.0


def test_a_refund_puts_a_withdrawal_back_and_one_too_many_does_nothing(vt):
    """A retry that was not made costs nothing; nobody gains tokens by giving back what was not taken."""
    budget = RetryBudget()
    budget.refund()
    assert budget.balance == 3.0
    assert budget.withdraw()
    budget.refund()
    budget.refund()
    assert budget.balance == 3.0
    assert budget.snapshot().cancelled == 1


def test_a_refunded_reserve_is_one_retry_and_no_more(vt):
    """What the reserve gave and nobody used allows one other retry."""
    budget = RetryBudget(ratio=0, initial=0)
    budget.deposit()
    assert budget.withdraw()
    budget.refund()
    assert drawn(budget) == 1


@pytest.mark.parametrize("decay", [60.0, None])
def test_a_clock_that_steps_back_neither_decays_nor_shuts_the_reserve_for_good(decay):
    """Virtual time may begin before a budget was made: savings stay, and the reserve comes after one gap."""
    clock.set_virtual(10**15)
    try:
        budget = RetryBudget(initial=0, ratio=0.6, decay=decay)
        budget.deposit()
        budget.deposit()
        assert budget.withdraw()
        clock.set_virtual(10**9)
        assert budget.balance == pytest.approx(0.2)
        assert not budget.withdraw()
        clock.set_virtual(10**9 + 10**10)
        assert budget.withdraw()
        if decay:
            assert budget.balance == pytest.approx(0.2 * math.exp(-10 / 60), rel=2 / 1024)
    finally:
        clock.clear_virtual()


# ---- the closed forms ----------------------------------------------------------------------------------------------


def attempts_per_call(failing: float, seed: int, *, calls: int = 200_000, **options: float) -> float:
    """The load of retrying as often as the budget allows, where every attempt fails with the same chance."""
    budget, draw = RetryBudget(**options), random.Random(seed)
    attempts = 0
    for _ in range(calls):
        attempts += 1
        while draw.random() < failing:
            if not budget.withdraw():
                break
            attempts += 1
        else:
            budget.deposit()
    return attempts / calls


@pytest.mark.once
@pytest.mark.untraced  # others trace the same lines in less time
@pytest.mark.parametrize("failing", [0.3, 0.5, 0.75, 0.9])
@pytest.mark.parametrize("ratio", [0.1, 0.25])
def test_the_load_is_that_of_the_closed_form(vt, failing, ratio):
    """Where failures outnumber what is saved, the load is 1 / (1 - ratio (1 - failing)): 1.0526 at a half and 0.1."""
    seen = attempts_per_call(failing, seed=1, ratio=ratio, reserve=0.0)
    assert seen == pytest.approx(1 / (1 - ratio * (1 - failing)), rel=0.002)


def test_few_failures_are_all_retried(vt):
    """Where failures are fewer than what is saved, the load is 1 / (1 - failing): every failure is retried."""
    assert attempts_per_call(0.05, seed=1) == pytest.approx(1 / 0.95, rel=0.002)


def test_the_balance_settles_at_rate_times_ratio_times_decay(vt):
    """With no retries it levels off where decay takes what successes bring: 0.7 calls/s save 0.1 * 0.7 * 60 = 4.2."""
    from_nothing, on_top = RetryBudget(initial=0), RetryBudget(cap=10)
    for _ in range(1000):
        vt.advance(1 / 0.7)
        from_nothing.deposit()
        on_top.deposit()
    assert from_nothing.balance == pytest.approx(4.2, rel=0.03)
    assert on_top.balance == pytest.approx(3 + 4.2, rel=0.03)


# ---- names, options, processes -------------------------------------------------------------------------------------


def test_rt08_a_name_is_one_budget(vt):
    """RT-08: functions that name one budget share it; without a name each has its own."""
    shared = RetryBudget("shared", cap=7)
    assert RetryBudget("shared", cap=7.0, decay=timedelta(minutes=1)) is shared
    assert registry.get("shared") is shared
    assert shared not in registry.all()
    assert RetryBudget() is not RetryBudget()
    assert (shared.name, RetryBudget().name) == ("shared", None)


def test_other_options_under_a_name_are_rejected_with_both_places():
    """The error says what differs and both places; a policy of another kind may have the name."""
    RetryBudget("shared")
    with pytest.raises(ValueError, match=r"cap=5\.0 against 7\.0") as error:
        RetryBudget("shared", cap=7)
    assert str(error.value).count(__file__) == 2
    assert resilio.bulkhead(3, name="shared").name == "shared"


def test_options_change_at_once_and_the_balance_stays(vt):
    """Up to the new cap; nothing changes if one option is rejected."""
    budget = RetryBudget("shared", cap=10, initial=8)
    budget.reconfigure(cap=20, ratio=1)
    assert budget.balance == 8.0
    budget.deposit()
    assert budget.balance == 9.0
    budget.reconfigure(cap=3, initial=1)
    assert budget.balance == 3.0
    with pytest.raises(ValueError, match=r"initial must be at most cap=3, not 4\.0"):
        budget.reconfigure(ratio=0.5, initial=4)
    with pytest.raises(TypeError, match="no option 'size'"):
        budget.reconfigure(size=3)
    assert budget.config.ratio == 1.0
    configure({"shared": {"cap": 7}, "later": {"reserve": 2.0}})
    assert budget.config.cap == 7.0
    assert RetryBudget("later").config.reserve == 2.0
    budget.reset()
    assert budget.balance == 1.0


@pytest.mark.parametrize(
    ("options", "error", "words"),
    [
        ({"ratio": 1.1}, ValueError, "ratio must be .*not 1.1"),
        ({"ratio": -0.1}, ValueError, "ratio must be .*not -0.1"),
        ({"ratio": True}, TypeError, "ratio must be .*not True"),
        ({"cap": 0.5}, ValueError, "cap must be .*not 0.5"),
        ({"cap": math.inf}, ValueError, "cap must be .*not inf"),
        ({"initial": 11}, ValueError, "initial must be at most cap=5, not 11.0"),
        ({"initial": math.nan}, ValueError, "initial must be .*not nan"),
        ({"decay": 0}, ValueError, "decay must be .*not 0"),
        ({"decay": "60"}, ValueError, "decay must be .*not '60'"),
        ({"reserve": -1}, ValueError, "reserve must be .*not -1"),
        ({"name": 3}, TypeError, "name must be .*not 3"),
    ],
)
def test_bad_options_are_rejected_by_name_and_value(options, error, words):
    """Wrong types, NaN, infinity, bool and what makes no sense."""
    with pytest.raises(error, match=words):
        RetryBudget(**options)


def test_the_snapshot_speaks_the_common_vocabulary(vt):
    """Deposits are successes, withdrawals calls, rejections rejected; the counters are attributes too."""
    budget = RetryBudget("shared", initial=1, reserve=0)
    budget.deposit()
    assert [budget.withdraw(), budget.withdraw()] == [True, False]
    seen = budget.snapshot()
    assert (seen.kind, seen.name, seen.limit) == ("retry_budget", "shared", 5.0)
    assert (seen.calls, seen.successes, seen.rejected, seen.balance) == (2, 1, 1, 0.1)
    assert (budget.deposits, budget.withdrawals, budget.rejected) == (1, 1, 1)
    assert repr(budget) == "<RetryBudget 'shared' 0.1 of 5 tokens>"
    assert repr(RetryBudget()) == "<RetryBudget 3 of 5 tokens>"


def test_a_named_budget_is_pickled_by_name_and_copies_are_itself():
    """Configurations that hold one can be copied and sent; one without a name cannot be found again."""
    budget = RetryBudget("shared")
    assert pickle.loads(pickle.dumps(budget)) is budget
    assert copy.copy(budget) is copy.deepcopy(budget) is budget
    with pytest.raises(TypeError, match="give it a name"):
        pickle.dumps(RetryBudget())


def test_the_child_of_a_fork_is_another_client(in_child):
    """It holds no more than a new client, whatever the parent had saved, and what the parent took is not refunded."""
    rich, poor = RetryBudget(ratio=1, cap=10, initial=1), RetryBudget(initial=1)
    for _ in range(10):
        rich.deposit()
    poor.withdraw()

    def look() -> tuple[float, float, bool]:
        poor.refund()
        RetryBudget().deposit()
        return rich.balance, poor.balance, rich.withdraw()

    assert in_child(look) == (1.0, 0.0, True)
    assert rich.balance > 9.0


def test_budgets_come_and_go_in_any_order():
    """The list that the child of a fork walks holds those alive."""
    budgets = [RetryBudget() for _ in range(100)]
    random.Random(1).shuffle(budgets)
    del budgets[50:]
    gc.collect()
    budgets += [RetryBudget() for _ in range(10)]
    assert all(budget.withdraw() for budget in budgets)
