"""Spend limits in threads and after a fork, and changed by configuration."""

from __future__ import annotations

import os
import threading

import pytest

from resilio import configure, registry
from resilio.cost import charge, spend_limit
from resilio.testing import assert_no_leaks


def test_threads_spend_no_more_than_the_limit() -> None:
    """Eight threads race for a thousand cents: exactly as many calls are admitted as the limit pays for."""
    day = spend_limit("10 USD/day", reserve=0.01)
    begin = threading.Barrier(8)
    admitted: list[int] = []

    def spend() -> None:
        begin.wait()
        admitted.append(sum(day.try_call(charge, 0.01).called for _ in range(200)))

    threads = [threading.Thread(target=spend) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    snapshot = day.snapshot()
    assert sum(admitted) == 1000
    assert snapshot.spend.used == snapshot.spend.charged == 10
    assert snapshot.rejected == 600
    assert_no_leaks(day)


@pytest.mark.skipif(not hasattr(os, "fork"), reason="needs fork")
def test_a_child_settles_no_calls_of_its_parent() -> None:
    """What calls of the parent have reserved stays taken in the child, where they will never end; it is not at risk."""
    day = spend_limit("1 USD/day", reserve=0.4)
    permit = day.acquire()
    child = os.fork()
    if child == 0:
        spend = day.snapshot().spend
        os._exit(not (spend.reserved == spend.at_risk == 0 and spend.used == 0.4))
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0
    assert day.snapshot().spend.reserved == 0.4
    permit.cancel()


def test_operations_change_a_limit_by_its_name() -> None:
    """`configure` raises the amount of the day while calls are in flight; what is spent stays spent."""
    with registry.isolated():
        day = spend_limit("1 USD/day", reserve=0.1, name="configured money")
        day.call(charge, 0.9)
        configure({"configured money": {"limit": "2 USD/day", "soft": 0.4}})
        spend = day.snapshot().spend
        assert spend.limit == 2
        assert spend.left == pytest.approx(1.1)
        day.call(charge, 0.1)
        assert day.state == "low"
