import json

import pytest

from benchmarks.micro import _pool
from benchmarks.micro._child import child
from benchmarks.micro._pool import pooled, run_in_processes
from benchmarks.micro._results import Environment, Results, Row, Skip, Table, to_json


def table(value, ns=None, **more):
    row = Row("subject", value, "ns" if ns is None else "W", value - 1, value + 1, ns, target="async_breaker")
    return Table("key", "Title", "About.", (row,), **more)


def test_pooled_figures_are_medians_over_processes():
    """Value and nanoseconds are medians; the spread is from the lowest process to the highest."""
    ((row,),) = [found.rows for found in pooled([[table(3.0, 300.0)], [table(1.0, 120.0)], [table(2.0, 200.0)]])]
    assert (row.value, row.ns, row.low, row.high) == (2.0, 200.0, 1.0, 3.0)
    assert (row.subject, row.unit, row.target) == ("subject", "W", "async_breaker")


def test_one_process_keeps_its_own_spread():
    """A single run is reported as it is."""
    assert pooled([[table(3.0)]]) == (table(3.0),)


def test_skips_survive_pooling():
    """What was skipped in the processes is still said."""
    skip = Skip("peer", "not there")
    assert pooled([[table(1.0, skips=(skip,))], [table(2.0, skips=(skip,))]])[0].skips == (skip,)


def test_every_process_is_started_and_announced(monkeypatch):
    """As many children run as were asked for, with the arguments and environment given."""
    where = Environment("3.13.0", "", "", "", 2, "tsc", "", {})
    started, said = [], []

    def answer(arguments, **environment):
        started.append((arguments, environment))
        return json.dumps(to_json(Results(where, (table(float(len(started))),))))

    monkeypatch.setattr(_pool, "child", answer)
    (found,) = run_in_processes(["-m", "it"], 3, said.append, RESILIO_CLOCK="monotonic")
    assert started == [(["-m", "it"], {"RESILIO_CLOCK": "monotonic"})] * 3
    assert found.rows[0].value == 2.0
    assert said[-1] == "comparisons, process 3 of 3"


def test_a_child_imports_what_its_parent_imports(tmp_path, monkeypatch):
    """The child's path is the parent's, in its order, and its environment has what was added."""
    (tmp_path / "only_here.py").write_text("import os; print(os.environ['ADDED'])")
    monkeypatch.syspath_prepend(tmp_path)
    assert child(["-c", "import only_here"], ADDED="yes").strip() == "yes"


def test_a_child_that_fails_says_why():
    """The last line of standard error is the reason."""
    with pytest.raises(RuntimeError, match="ZeroDivisionError"):
        child(["-c", "1/0"])
