import pytest

import resilio
from benchmarks.micro import _pending
from benchmarks.micro._pending import FEW, Population, pending_table

MANY = 50


def timing(seconds, name):
    """Stands in for `timeout`."""
    return lambda function: _pending._asyncio(function, seconds)


@pytest.fixture(autouse=True)
def few_calls(monkeypatch):
    monkeypatch.setattr(_pending, "_CALLS", 5)


def test_tasks_are_pending_while_a_call_is_measured():
    """As many tasks as asked for wait behind a timeout, before and after calls are timed, and none is left then."""
    with Population(_pending._asyncio, MANY) as population:
        assert population.waiting == MANY
        assert isinstance(population.arm_and_disarm_ns(5), float)
        assert population.waiting == MANY
        tasks = list(population._tasks)
    assert all(task.cancelled() for task in tasks)


def test_timeouts_of_pending_tasks_are_armed():
    """What is pending is in the event loop's timers, and due later than the calls that are timed."""
    with Population(_pending._asyncio, FEW) as population:
        timers = population._runner.get_loop()._scheduled
        assert len(timers) == FEW
        assert min(timer.when() for timer in timers) > population._runner.get_loop().time() + _pending._SECONDS


def test_the_table_has_few_and_many_and_their_ratio():
    """Each subject has both figures and the ratio, or a skip that names what the library lacks."""
    table = pending_table(MANY, 2)
    assert [row.unit for row in table.rows[-3:]] == ["ns", "ns", "x"]
    assert table.rows[-1].subject == f"asyncio.timeout, {MANY} pending / {FEW}"
    if hasattr(resilio, "timeout"):
        assert table.skips == ()
    else:
        assert [skip.reason for skip in table.skips] == ["this resilio has no timeout"]


def test_the_ratio_of_the_library_s_own_timeout_is_held_against_the_target(monkeypatch):
    """With a timeout and as many pending as the target says, its ratio carries the target, and asyncio's does not."""
    if not hasattr(resilio, "timeout"):
        monkeypatch.setattr(resilio, "timeout", timing, raising=False)
    assert [row.subject for row in pending_table(MANY, 2).rows if row.target] == []
    monkeypatch.setattr(_pending, "MANY", MANY)
    table = pending_table(MANY, 2)
    assert [row.subject for row in table.rows if row.target] == [f"resilio timeout, {MANY} pending / {FEW}"]
    assert table.skips == ()
