"""The benchmark of the timers measures what it says."""

import pytest

from benchmarks.micro import _timers
from benchmarks.micro._timers import FEW, pair_ns, timers_table

MANY = 50


@pytest.mark.parametrize("subject", _timers._SUBJECTS)
def test_a_pair_is_timed_among_as_many_as_asked_for(subject, monkeypatch):
    """As many other timers as asked for are made, and a pair takes time."""
    asked = []
    monkeypatch.setattr(_timers, "_seconds", lambda pending: asked.append(pending) or [60.0] * pending)
    assert pair_ns(subject, MANY, 20) > 0
    assert asked == [MANY]


def test_the_table_has_few_and_many_and_their_ratio():
    """Each subject has both figures and their ratio."""
    table = timers_table(MANY, 2, 20)
    assert [row.unit for row in table.rows] == ["ns", "ns", "x"] * 2
    assert table.rows[2].subject == f"resilio Timer, {MANY} pending / {FEW}"
    assert table.rows[5].subject == f"loop.call_later, {MANY} pending / {FEW}"
