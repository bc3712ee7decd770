"""Policies of a module start each test as they were made: the plugin of pytest resets what the test before has left."""

from __future__ import annotations

from typing import Any

import pytest

from resilio import bulkhead, circuit_breaker, keyed, pipeline, retry


@pytest.fixture(scope="module", autouse=True)
def _policies() -> None:
    """Make the policies now: tests of other modules, which run before, may clear the registry."""
    global alone, forced, inside, around, hosts, spent
    alone = circuit_breaker()
    forced = circuit_breaker(initial="forced_open")
    inside = circuit_breaker()
    around = pipeline(inside, bulkhead(3))
    hosts = keyed(circuit_breaker, key=lambda host: host, max_keys=1)
    spent = retry(on=OSError, backoff=0.0)


def _down(*_: Any) -> None:
    raise OSError


@pytest.mark.parametrize("turn", range(3))
def test_what_a_test_leaves_is_not_found_by_the_next(turn: int) -> None:
    """Breakers that were opened, alone, in a pipeline and of keys, a pipeline that drained, a budget that was spent."""
    assert (alone.state, forced.state, inside.state) == ("closed", "forced_open", "closed")
    assert (list(hosts), hosts.overflow.state) == ([], "closed")
    assert around.try_call(int).error is None
    assert spent.budget.balance == pytest.approx(spent.budget.config.initial)
    alone.force_open()
    forced.reset()
    inside.force_open()
    around.drain(timeout=0)
    hosts["a"].force_open()
    hosts.overflow.force_open()
    spent.try_call(_down)
    assert spent.budget.balance < spent.budget.config.initial, turn
