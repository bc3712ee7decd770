"""`reset()` of policies that learn: as if just made, but for the counters and what is under way."""

from __future__ import annotations

import anyio
import pytest

from resilio import (
    CircuitBreaker,
    Pipeline,
    RetryBudget,
    bulkhead,
    circuit_breaker,
    deadline,
    fallback,
    hedge,
    keyed,
    pipeline,
    policy_of,
    registry,
    retry,
    standard,
    timeout,
)


def down() -> None:
    """Fail."""
    raise ConnectionError


def test_a_retry_gets_its_own_budget_back(vt) -> None:
    """After an outage that spent it, an operator could reset the breaker and not the retry beside it."""
    policy = retry(on=ConnectionError, backoff=0.0)
    full = policy.budget.balance
    for _ in range(9):
        policy.try_call(down)
    assert policy.budget.balance < 1
    before = policy.snapshot()
    policy.reset()
    assert policy.budget.balance == full
    assert policy.snapshot() == before
    shared = RetryBudget("shared")
    assert shared.withdraw()
    left = shared.balance
    retry(on=ConnectionError, budget="shared").reset()
    assert shared.balance == left


async def _answer(seconds: float) -> None:
    await anyio.sleep(seconds)


def test_a_timeout_forgets_what_it_has_learned(vt) -> None:
    """A call gets the ceiling again, as at the beginning; one that learns nothing has nothing to forget."""
    policy, fixed = timeout("p99*3", ceiling=5.0), timeout(2.0)

    async def learn() -> None:
        for _ in range(200):
            await policy.acall(_answer, 0.1)

    vt.run(learn)
    assert policy.seconds == pytest.approx(0.3, rel=0.02)
    policy.reset()
    fixed.reset()
    assert (policy.seconds, policy.learned_from, fixed.seconds) == (5.0, 0, 2.0)
    assert policy.snapshot().successes == 200
    vt.run(learn)
    assert policy.seconds == pytest.approx(0.3, rel=0.02)


def test_a_hedge_forgets_what_it_has_measured(vt) -> None:
    """Nothing starts until enough is known; what became of copies stays counted."""
    policy = hedge(idempotent=True)

    async def learn() -> None:
        for _ in range(200):
            await policy.acall(_answer, 0.1)

    vt.run(learn)
    assert policy.delay == pytest.approx(0.1, rel=0.02)
    before = policy.snapshot()
    policy.reset()
    assert policy.delay is None
    assert (policy.snapshot().due, policy.snapshot().calls) == (before.due, 200)
    vt.run(learn)
    assert policy.delay == pytest.approx(0.1, rel=0.02)


def test_a_hedge_with_fixed_delays_keeps_them(vt) -> None:
    """Its options are no memory."""
    policy = hedge(idempotent=True, after=[0.2, 0.4])

    async def learn() -> None:
        for _ in range(50):
            await policy.acall(_answer, 0.1)

    vt.run(learn)
    assert policy.delay == 0.2
    policy.reset()
    vt.run(learn)
    assert policy.delay == 0.2


def test_a_pipeline_resets_its_policies_and_lets_calls_in() -> None:
    """Which others share: it is their state."""
    breaker, own = circuit_breaker("payments"), retry(on=ConnectionError, backoff=0.0)
    both = pipeline(pipeline(own, timeout(1.0, thread=True)), breaker, bulkhead(3))
    breaker.force_open()
    assert both.drain(0)
    assert not both.health().ready
    both.reset()
    assert both.health().ready
    assert breaker.state == "closed"


def test_a_stack_of_decorators_resets_its_policies() -> None:
    """It has no door to open."""

    @circuit_breaker
    @bulkhead(3)
    def call() -> None: ...

    stack = policy_of(call)
    assert isinstance(stack, Pipeline)
    stack.policies[0].force_open()
    stack.reset()
    assert stack.policies[0].state == "closed"


def test_a_standard_stack_resets_all_its_parts() -> None:
    """One call after an outage."""
    stack = standard("payments", on=ConnectionError, idempotent=True)
    breaker = registry.get("payments.circuit_breaker", CircuitBreaker)
    breaker.force_open()
    stack.reset()
    assert breaker.state == "closed"


def test_every_policy_that_keeps_something_has_a_reset() -> None:
    """A deadline keeps nothing; a gate of one's own resets itself."""
    learns = [retry(on=OSError), hedge(idempotent=True), timeout(1.0), fallback(on=OSError, default=1)]
    for policy in [*learns, circuit_breaker(), bulkhead(1), keyed(circuit_breaker, key="k"), pipeline(bulkhead(1))]:
        policy.reset()
    assert not hasattr(deadline(1.0), "reset")
