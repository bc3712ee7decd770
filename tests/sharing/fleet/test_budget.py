"""Retry budgets of a fleet: each host spends what it has earned, and the reserve is one rate for all hosts."""

from __future__ import annotations

import random
import sys
from collections.abc import Sequence
from typing import Any

import pytest
from limits_of_fleet import Bucket, Wire

from resilio import RetryBudget, configure, pipeline, registry, retry
from resilio._policies.retry.budget import RetryBudgetConfig
from resilio.metrics import _read
from resilio.sharing import Fleet, MemoryEngine
from resilio.testing import VirtualTime, virtual_time

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="shared memory of hosts is for Linux")

GRID = 0.05


class Host:
    """A process with a fleet and a budget of its own, whose dependency fails most calls slowly."""

    def __init__(self, store: MemoryEngine, number: int, options: dict[str, Any]) -> None:
        self.wire = Wire(store, number)
        self.fleet = Fleet("shop", self.wire, is_stepped=True, peers=options.pop("peers", None))
        given = {"initial": 0.0, "ratio": 0.0, "scope": self.fleet, **options}
        self.budget: Any = RetryBudget._new(RetryBudgetConfig(**given), "calls")

    def tries(self) -> bool:
        """Return whether a call that has failed is retried, after another one has succeeded."""
        self.budget.deposit()
        for _ in range(9):
            self.budget._attempt_failed()
        return bool(self.budget.withdraw())


def hosts(n: int, **options: Any) -> list[Host]:
    """Return this number of hosts with one store."""
    store = MemoryEngine()
    return [Host(store, i, dict(options)) for i in range(n)]


def play(vt: VirtualTime, fleet: Sequence[Host], seconds: float, *, often: float = 1.0) -> list[float]:
    """Let each host have a failing call this often every 50 ms; return the times of the retries."""
    draw, began, taken = random.Random(1), vt.now, []
    while vt.now < began + seconds - GRID / 2:
        for one in fleet:
            one.fleet.step()
            if draw.random() < often and one.tries():
                taken.append(vt.now)
        vt.advance(GRID)
    return taken


def overdraft(taken: Sequence[float], reserve: float, began: float) -> float:
    """Return how deep a bucket of this rate is overdrawn that has to take each retry."""
    bucket, worst = Bucket(reserve, max(1.0, reserve), began), 0.0
    for at in taken:
        bucket.take(at, force=True)
        worst = max(worst, -bucket.tokens)
    return worst


# ---- the bound -------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("n", "reserve", "often"),
    [(10, 1.0, 1.0), (10, 0.1, 0.01), (25, 0.1, 1.0), (3, 40.0, 1.0), (50, 10.0, 0.2)],
    ids=["1/s", "seldom", "many", "leased", "asked"],
)
def test_the_reserve_is_one_for_all_hosts(n: int, reserve: float, often: float) -> None:
    """Twenty-five hosts with a reserve of 0.1/s each retried 2.5 times a second into an outage: it grew with them."""
    with virtual_time() as vt:
        fleet, began = hosts(n, reserve=reserve), vt.now
        taken = play(vt, fleet, 100.0, often=often)
        assert overdraft(taken, reserve, began) <= n
        possible = min(reserve * 100 + 1, n * often * 100 / GRID)
        assert len(taken) >= 0.75 * possible
        assert max(one.fleet.courier.trips for one in fleet) <= 100 * 5


def test_a_host_that_calls_once_a_minute_has_a_reserve() -> None:
    """It finds a token without waiting for a store, as there is one for all: the reserve is for such clients."""
    with virtual_time() as vt:
        fleet = hosts(3, reserve=0.1)
        for i in range(12):
            play(vt, fleet, 20.0, often=0.0)
            assert fleet[i % 3].tries()


@pytest.mark.parametrize("loss", [0.2, 0.6])
def test_exchanges_are_lost_and_no_retry_is_for_free(loss: float) -> None:
    """A token on credit whose report is lost stays a debt, and is reported again."""
    with virtual_time() as vt:
        fleet, began = hosts(8, reserve=0.5), vt.now
        for one in fleet:
            one.wire.loss = loss
        taken = play(vt, fleet, 200.0, often=0.3)
        assert sum(one.fleet.courier.lost for one in fleet) > 50
        assert overdraft(taken, 0.5, began) <= 8 + 1  # and the share of a host whose lease has ended
        assert len(taken) >= 50


def test_a_killed_host_costs_the_others_its_token_once() -> None:
    """What it has taken and not reported is one token; what it has reported is paid."""
    with virtual_time() as vt:
        fleet, began = hosts(6, reserve=0.5), vt.now
        taken = play(vt, fleet, 20.0)
        for one in fleet[:3]:
            one.tries()
        taken += play(vt, fleet[3:], 100.0)
        assert overdraft(taken, 0.5, began) <= 6 + 3
        assert len(taken) >= 0.75 * 60


# ---- what is earned --------------------------------------------------------------------------------------------------


def test_what_a_success_has_earned_is_spent_without_the_store() -> None:
    """The savings are the host's: they add up to the ratio of all successes, and another host's outage takes none."""
    with virtual_time() as vt:
        first, second = hosts(2, ratio=0.1, reserve=0.0)
        for _ in range(50):
            first.budget.deposit()
        assert sum(first.budget.withdraw() for _ in range(10)) in (4, 5)
        assert not second.budget.withdraw()
        play(vt, [first, second], 2.0, often=0.0)
        assert first.fleet.courier.trips == 0  # without a reserve there is nothing to exchange


def test_chance_failures_of_a_dependency_that_is_well_take_no_token() -> None:
    """Each success leaves one retry while most calls succeed: that is earned, and many hosts may need it at once."""
    with virtual_time() as vt:
        fleet = hosts(10, reserve=0.1)
        for one in fleet:
            for _ in range(500):
                one.budget.deposit()
        step_all(fleet)
        for _ in range(3):
            for one in fleet:
                one.budget.deposit()
                assert one.budget._take(1.0, 0, 0) is not None
        play(vt, fleet, 11.0, often=0.0)
        assert sum(one.tries() for one in fleet) == 10  # and the fleet's are all there


def step_all(fleet: Sequence[Host]) -> None:
    for one in fleet:
        one.fleet.step()


# ---- without a store -------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("rule", "least", "most"), [("local", 40, 104), ("open", 380, 404), ("closed", 0, 0)])
def test_the_store_is_away(rule: str, least: int, most: int) -> None:
    """Each of four hosts has its share of "1/s", or a reserve like it, or none, as `on_store_down` names."""
    with virtual_time() as vt:
        fleet = hosts(4, reserve=1.0, on_store_down=rule)
        play(vt, fleet, 10.0)
        for one in fleet:
            one.wire.is_cut = True
        play(vt, fleet, 3.0)  # leases end
        assert least <= len(play(vt, fleet, 100.0)) <= most
        assert fleet[0].budget.snapshot().sharing.degraded == "store_down"
        for one in fleet:
            one.wire.is_cut = False
        play(vt, fleet, 5.0)
        began = vt.now
        assert overdraft(play(vt, fleet, 50.0), 1.0, began) <= 4
        assert fleet[0].budget.snapshot().sharing.degraded is None


def test_a_fleet_that_never_had_an_answer_is_as_large_as_given() -> None:
    """`peers` of the fleet is the number of hosts until the store has answered."""
    with virtual_time() as vt:
        fleet = hosts(4, reserve=1.0, peers=4)
        for one in fleet:
            one.wire.is_cut = True
        assert len(play(vt, fleet, 100.0)) <= 100 + 4 + 4


# ---- options ---------------------------------------------------------------------------------------------------------


def test_a_scope_is_given_and_taken_back() -> None:
    """`reconfigure` and `configure` move the budget: into the fleet, and out of it with its own reserve."""
    with virtual_time() as vt:
        (one,) = hosts(1, scope="process", reserve=0.1)
        assert one.budget.snapshot().sharing is None
        one.budget.reconfigure(scope=one.fleet)
        play(vt, [one], 1.0, often=0.0)
        assert one.budget.snapshot().sharing.scope == "fleet:shop"
        one.budget.reconfigure(reserve=5.0)
        play(vt, [one], 1.0, often=0.0)
        assert one.budget._link.tie.wants[0].burst == 5_000_000
        one.budget.reconfigure(cap=9.0, scope="process")
        assert one.budget.snapshot().sharing is None
        assert not one.fleet.courier.has_ties
        assert one.tries()


def test_a_file_can_name_what_rules_without_a_store() -> None:
    """As of a rate limit."""
    configure({"payments": {"on_store_down": "closed"}})
    assert RetryBudget("payments").config.on_store_down == "closed"
    assert not registry.pending()
    with pytest.raises(ValueError, match="on_store_down must be one of 'local', 'open', 'closed'"):
        RetryBudget(on_store_down="fail")  # type: ignore[arg-type]


@pytest.mark.parametrize("reserve", [1e-12, 1e-6, 1e6])
def test_any_reserve_can_be_a_fleet_s(reserve: float) -> None:
    """From one a fortnight to a million a second."""
    with virtual_time() as vt:
        fleet = hosts(2, reserve=reserve)
        play(vt, fleet, 2.0)
        assert fleet[0].budget.snapshot().sharing.degraded is None


def test_under_pytest_a_fleet_s_budget_is_the_process_s() -> None:
    """As any policy of a fleet, unless its owner steps it."""
    budget: Any = RetryBudget("calls", scope=Fleet("shop", MemoryEngine()))
    assert budget.snapshot().sharing.degraded == "private"
    budget.deposit()
    assert budget.withdraw()


# ---- seen ------------------------------------------------------------------------------------------------------------


def test_an_explanation_names_both_parts() -> None:
    """What is each host's, what is the fleet's, and what rules without the store."""
    with virtual_time() as vt:
        (one,) = hosts(1)
        play(vt, [one], 1.0, often=0.0)
        notes = pipeline(retry(on=OSError, budget=one.budget)).explain().notes
        assert notes[-1] == (
            "retry (1): of its budget the savings are each host's, the reserve is shared by 1 of fleet:shop; "
            "while the store is away each host has its share of it"
        )


def test_metrics_have_its_exchanges() -> None:
    """By the budget's own name."""
    with virtual_time() as vt:
        (one,) = hosts(1)
        play(vt, [one], 3.0)
        sheet = _read.read_budget(one.budget, [("retry", "orders")])
        own = ("retry_budget", "calls")
        assert sheet.counters["shared_trips", own] == one.fleet.courier.trips > 1
        assert sheet.gauges["shared_regime", (*own, "asked")] == 1
        assert sheet.gauges["shared_peers", own] == 1


@pytest.mark.parametrize("backend", ["asyncio", "trio"])
def test_retries_of_calls_draw_on_it(backend: str) -> None:
    """No call waits for the store; the reserve of two hosts pays for one retry each, and no more at once."""
    attempts = 0

    async def fail() -> None:
        nonlocal attempts
        attempts += 1
        raise OSError("down")

    async def main(fleet: list[Host]) -> None:
        for one in fleet:
            policy = retry(on=OSError, attempts=5, backoff=0, budget=one.budget)
            for _ in range(60):
                one.budget._attempt_failed(1)
            one.budget.deposit()
            one.budget.deposit()
            for _ in range(4):
                with pytest.raises(OSError, match="down"):
                    await policy.acall(fail)

    with virtual_time() as vt:
        fleet = hosts(2, reserve=0.1)
        play(vt, fleet, 1.0, often=0.0)
        vt.run(lambda: main(fleet), backend=backend)
        assert attempts == 8 + 2
