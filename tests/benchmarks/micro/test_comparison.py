import anyio
import pytest

from benchmarks.micro import _loops, _work
from benchmarks.micro._comparison import WRAPPER, Against, Comparison, Subject, Unavailable, compare
from benchmarks.micro._harness import Effort
from benchmarks.micro._results import Skip

EFFORT = Effort(rounds=9, sample_ns=100_000)


def slowly(f, steps=2000):
    def w():
        for _ in range(steps):
            pass
        return f()

    return w


def comparison(*own, wrapper=True, against=()):
    return Comparison(
        "sync",
        "Title",
        "About.",
        drive=_loops.calls,
        check=_work.check_answer,
        base=lambda: _loops.calls(_work.callee()),
        own=own,
        wrapper=(lambda: slowly(_work.callee(), 200)) if wrapper else None,  # an empty one drowns where much else runs
        against=against,
    )


def run(what, peers=()):
    return anyio.run(compare, what, peers, EFFORT)


def test_a_table_has_the_wrapper_as_its_unit_and_subjects_in_it():
    """The empty wrapper is 1 W by definition, and a slower subject is more; nanoseconds stand beside."""
    table = run(comparison(Subject("slow", lambda: slowly(_work.callee()), "tsc", "a note", "sync_breaker")))
    wrapper, slow = table.rows
    assert (wrapper.subject, wrapper.value, wrapper.unit) == (WRAPPER, 1.0, "W")
    assert slow.value > 2
    assert slow.ns > 2 * wrapper.ns
    assert (slow.clock, slow.note, slow.target) == ("tsc", "a note", "sync_breaker")
    assert table.skips == ()


def test_without_a_wrapper_figures_are_nanoseconds():
    """A comparison that has no wrapper says what a call takes."""
    (row,) = run(comparison(Subject("slow", lambda: slowly(_work.callee())), wrapper=False)).rows
    assert row.unit == "ns"
    assert row.ns is None


def test_a_subject_that_is_unavailable_is_skipped_with_its_reason():
    """What cannot be measured is named, with the reason, and the rest is measured."""

    def unavailable():
        raise Unavailable("needs a quantum computer")

    table = run(comparison(Subject("own", _work.callee)), [Subject("peer", unavailable), Skip("other", "said before")])
    assert [row.subject for row in table.rows] == [WRAPPER, "own"]
    assert table.skips == (Skip("peer", "needs a quantum computer"), Skip("other", "said before"))


def test_a_subject_that_breaks_while_it_is_made_is_skipped_with_the_error():
    """An error in one peer's library does not spoil the run."""
    table = run(comparison(Subject("own", _work.callee)), [Subject("peer", lambda: 1 / 0)])
    (skip,) = table.skips
    assert skip.subject == "peer"
    assert "ZeroDivisionError" in skip.reason


def test_a_subject_that_does_not_do_the_work_is_skipped():
    """A guarded function that returns something else is not compared."""
    table = run(comparison(Subject("own", _work.callee)), [Subject("peer", lambda: lambda: None)])
    assert table.skips == (Skip("peer", "returned None instead of the function's result"),)


def test_a_ratio_of_two_subjects_is_a_row_of_its_own():
    """What a subject adds is divided by what another adds, and the row carries the target and the subject's clock."""
    own = [
        Subject("slow", lambda: slowly(_work.callee()), "tsc"),
        Subject("slower", lambda: slowly(slowly(_work.callee()))),
    ]
    row = run(comparison(*own, against=[Against("slow", "slower", "hedge")])).rows[-1]
    assert (row.subject, row.unit, row.clock, row.target) == ("slow / slower", "x", "tsc", "hedge")
    assert 0.2 < row.value < 0.8


@pytest.mark.parametrize("missing", ["slow", "slower"])
def test_a_ratio_to_what_was_not_measured_is_skipped_with_its_name(missing):
    """Without one of the two there is no ratio, and the table says which one is missing."""
    (other,) = {"slow", "slower"} - {missing}
    made = comparison(Subject(other, lambda: slowly(_work.callee())), against=[Against("slow", "slower")])
    assert run(made).skips == (Skip("slow / slower", f"{missing} was not measured"),)


def test_a_breaker_that_never_rejects_is_no_rejection():
    """The rejection rows measure rejections: a function that only fails is rejected as a subject."""
    rejecting = _work.Rejecting(_work.failing(), PermissionError)
    with pytest.raises(Unavailable, match="did not reject"):
        anyio.run(rejecting.check)


def test_a_rejecting_function_is_driven_into_rejecting_first():
    """`check` fails until the policy rejects, so the timed loop sees rejections only."""
    failures = []

    def function():
        if len(failures) > 4:
            raise PermissionError
        failures.append(1)
        raise ConnectionError

    rejecting = _work.Rejecting(function, PermissionError)
    anyio.run(rejecting.check)
    assert anyio.run(rejecting.loop(), 3) > 0
    assert len(failures) == 5
