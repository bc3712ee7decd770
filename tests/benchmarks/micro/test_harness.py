from statistics import median

import anyio
import pytest

from benchmarks.micro import _loops
from benchmarks.micro._harness import Case, Effort, Figure, added, measure, ratio, summary

EFFORT = Effort(rounds=9, sample_ns=100_000)


def burn(steps):
    def work():
        for _ in range(steps):
            pass

    return work


def recording(name, order):
    """A case that takes a nanosecond a call, and notes when it ran for how many calls."""

    async def loop(n):
        order.append((name, n))
        return n

    return Case(name, loop)


def measured(cases, effort=EFFORT):
    return anyio.run(measure, cases, effort)


def test_a_known_slow_function_is_measured_slower():
    """A function that does a hundred times the work is found to take many times as long, interleaved or not."""
    series = measured([Case("quick", _loops.calls(burn(10))), Case("slow", _loops.calls(burn(1000)))])
    assert median(series["slow"]) > 10 * median(series["quick"])


def test_what_a_wrapper_adds_is_measured_on_top_of_what_it_wraps():
    """The difference within rounds is what was added, not what the whole call takes."""
    work, extra = burn(100), burn(1000)

    def wrapped():
        work()
        extra()

    series = measured([Case("bare", _loops.calls(work)), Case("wrapped", _loops.calls(wrapped))])
    figure = added(series, "wrapped", "bare")
    assert 5 * median(series["bare"]) < figure.value < median(series["wrapped"])
    assert figure.low <= figure.value <= figure.high


def test_rounds_are_interleaved_and_their_order_is_shuffled():
    """Each round runs each case once before the next begins, and not always in the same order."""
    order = []
    effort = Effort(rounds=40, sample_ns=64)
    measured([recording(name, order) for name in "abc"], effort)
    timed = [name for name, n in order if n == effort.sample_ns][-120:]
    rounds = [timed[i : i + 3] for i in range(0, 120, 3)]
    assert all(sorted(one) == ["a", "b", "c"] for one in rounds)
    assert len({tuple(one) for one in rounds}) == 6


def test_the_same_seed_gives_the_same_order():
    """A run can be repeated: the order of the rounds follows from the seed."""
    orders = []
    for _ in range(2):
        orders.append([])
        measured([recording(name, orders[-1]) for name in "abcd"], Effort(rounds=5, sample_ns=64, seed=3))
    assert orders[0] == orders[1]


def test_samples_are_calls_of_nanoseconds_each():
    """A sample is what one call takes, whatever the number of calls in it."""
    series = measured([recording("a", [])])
    assert set(series["a"]) == {1.0}
    assert len(series["a"]) == EFFORT.rounds


def test_calibration_runs_a_case_for_the_time_it_was_given():
    """The number of calls in a sample follows from the time that a sample is to take."""
    order = []
    measured([recording("a", order)], Effort(rounds=1, sample_ns=10_000))
    assert order[-1] == ("a", 10_000)


def test_a_figure_in_w_is_a_ratio_of_added_times():
    """Median and quartiles are divided by the wrapper's median."""
    assert ratio(Figure(50.0, 40.0, 60.0), Figure(100.0, 90.0, 110.0)) == Figure(0.5, 0.4, 0.6)


def test_a_summary_of_one_sample_is_that_sample():
    """One sample has no spread, and that is no error."""
    assert summary([3.0]) == Figure(3.0, 3.0, 3.0)


def test_an_outlier_does_not_move_the_figure():
    """One round that the machine spoiled leaves median and quartiles where they are."""
    assert summary([1.0, 1.0, 1.0, 1.0, 1.0, 1.0, 1e9]).value == 1.0


@pytest.mark.parametrize("make", [_loops.calls, _loops.awaits])
def test_every_loop_has_bytecode_of_its_own(make):
    """Two loops of one kind share no code object, so neither is specialised for the other's function."""
    assert make(burn(1)).__code__ is not make(burn(1)).__code__


def test_loops_call_as_often_as_they_are_told():
    """Each kind of loop makes exactly n calls."""
    made = []

    async def acall(*args, **kwargs):
        made.append(args)

    def reject(*args):
        made.append(args)
        raise ConnectionError

    async def areject():
        reject()

    loops = [
        _loops.calls(lambda: made.append(())),
        _loops.awaits(acall),
        _loops.awaits_arguments(acall),
        _loops.calls_rejected(reject, ConnectionError),
        _loops.awaits_rejected(areject, ConnectionError),
        _loops.feeds(made.append, [1, 2, 3]),
    ]
    for loop in loops:
        made.clear()
        assert anyio.run(loop, 7) >= 0
        assert len(made) == 7


def test_empty_loops_call_nothing():
    """The loops that are subtracted run and do nothing."""
    assert anyio.run(_loops.idles(), 5) >= 0
    assert anyio.run(_loops.idles_feeding([1, 2]), 5) >= 0
