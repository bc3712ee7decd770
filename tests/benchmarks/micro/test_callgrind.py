import json
from pathlib import Path

from benchmarks.micro import _callgrind
from benchmarks.micro._callgrind import Counts, parse
from benchmarks.micro._results import Skip

OUTPUT = """\
# callgrind format
version: 1
creator: callgrind-3.24.0
cmd: python
part: 1
positions: line
events: Ir
summary: 1115

ob=/usr/bin/python3.13
fl=ceval.c
fn=eval
10 100
+2 5
cob=/site-packages/resilio/_native/core.so
cfi=call.c
cfn=rs_call
calls=1 50
* 700
+1 10

ob=/site-packages/resilio/_native/core.so
fl=call.c
fn=rs_call
50 600
cob=/usr/lib/libc.so.6
cfn=clock_gettime
calls=2 0
-3 300
+5 100

ob=/usr/lib/libc.so.6
fn=clock_gettime
0 300

totals: 1115
"""


def test_self_costs_are_added_up_and_inclusive_costs_are_not():
    """The costs of callees appear once, where they were spent, so the sum is callgrind's own total."""
    assert parse(OUTPUT.splitlines(keepends=True)).total == 1115


def test_costs_inside_native_modules_are_told_apart():
    """What an object file under resilio/_native executed itself is the native part; what it called is not."""
    assert parse(OUTPUT.splitlines(keepends=True)).native == 700


def test_the_difference_of_two_runs_is_a_number_of_calls():
    """n and 2n calls differ by n calls, whatever start-up cost."""
    assert (Counts(5000.0, 1100.0) - Counts(3000.0, 600.0)).each(100) == Counts(20.0, 5.0)


def test_without_valgrind_the_counts_are_skipped_out_loud(monkeypatch):
    """No table of instructions is no silence: the reason is in its place."""
    monkeypatch.setattr(_callgrind.shutil, "which", lambda _name: None)
    table = _callgrind.callgrind_table(10)
    assert table.rows == ()
    assert table.skips == (Skip("all instruction counts", "valgrind is not installed"),)


def test_a_case_that_failed_is_skipped_and_the_next_gets_its_own_counts(monkeypatch):
    """Files are numbered by the marks that were reached: a case without marks must not shift those after it."""

    def answer(arguments, *, before, **environment):
        output = Path(before[2].partition("=")[2])
        for number, cost in ((2, 1000), (4, 3000)):
            output.with_name(f"{output.name}.{number}").write_text(f"ob=python\nfn=eval\n1 {cost}\n")
        errors = dict.fromkeys([*_callgrind._CASES, *_callgrind._CASES.values()], "raised ValueError: no")
        errors["bare await"] = errors["async breaker on success"] = ""
        return json.dumps(
            {"clock": "tsc", "errors": dict(sorted(errors.items(), key=lambda item: item[0] != "bare await"))}
        )

    monkeypatch.setattr(_callgrind, "child", answer)
    monkeypatch.setattr(_callgrind.shutil, "which", lambda name: name)
    table = _callgrind.callgrind_table(10)
    assert [(row.subject, row.value, row.clock) for row in table.rows] == [("async breaker on success", 200.0, "tsc")]
    assert Skip("sync breaker on success", "raised ValueError: no") in table.skips
