import asyncio
import math

import anyio
import pytest

import resilio
from benchmarks.micro._attempt_work import awaits_and_passes, awaits_twice, failing_first, public, suspending
from benchmarks.micro._attempts import attempts
from benchmarks.micro._comparison import Unavailable
from benchmarks.micro._harness import Effort
from benchmarks.micro._runner import Peers, measure_comparisons
from benchmarks.micro._work import ANSWER, fresh_name

EFFORT = Effort(rounds=2, sample_ns=20_000)
KEYS = [comparison.key for comparison in attempts()]
NAMES = ["RetryBudget", "deadline", "fallback", "hedge", "retry", "standard", "timeout"]
OF_PEERS = {"resilio retry / tenacity", "resilio retry / stamina"}


def passing(*_args, **_options):
    """A policy that lets every call through."""
    return resilio.rate_limit("100000000/s", name=fresh_name())


def retrying(*, attempts=3, **_options):
    def decorate(function):
        async def retried():
            try:
                return await function()
            except ConnectionError:
                return await function()

        return retried

    return decorate if attempts == 2 else passing()


@pytest.fixture
def complete(monkeypatch):
    """A library that has every name: policies that let calls through stand in for those that are not there."""
    for name in NAMES:
        if not hasattr(resilio, name) or (name == "deadline" and not callable(resilio.deadline(1.0))):
            monkeypatch.setattr(resilio, name, retrying if name == "retry" else passing, raising=False)


@pytest.mark.parametrize("key", KEYS)
def test_each_row_is_measured_or_says_which_name_the_library_lacks(key):
    """A row of the table of attempts is a finite figure; where there is none, its skip names what is missing."""
    (table,) = measure_comparisons(EFFORT, Peers(), [key]).tables
    assert table.key == key
    assert all(math.isfinite(row.value) for row in table.rows)
    lacking = [f"this resilio has no {name}" for name in NAMES if not hasattr(resilio, name)]
    lacking += ["this resilio has no deadline that guards functions"]
    for skip in table.skips:
        assert skip.reason in lacking or skip.reason.endswith("was not measured")


@pytest.mark.filterwarnings("ignore::resilio.PipelineWarning")  # what stands in is not in the recommended order
@pytest.mark.parametrize("key", KEYS)
def test_every_row_is_measured_once_the_library_has_the_names(key, complete):
    """With every name there, no row of the library's own is left out, and no ratio but those against peers."""
    (table,) = measure_comparisons(EFFORT, Peers(), [key]).tables
    assert [skip for skip in table.skips if skip.subject not in OF_PEERS] == []
    assert [row.subject for row in table.rows if row.subject.startswith(("resilio", "asyncio.sleep"))]


@pytest.mark.parametrize("key", ["timeout_suspending", "hedge"])
def test_timers_are_held_against_asyncio_timeout(key, complete):
    """The table of a call that suspends has the ratio to `asyncio.timeout` that its target is about."""
    (table,) = measure_comparisons(EFFORT, Peers(), [key]).tables
    (row,) = [row for row in table.rows if row.target == key]
    assert row.unit == "x"
    assert row.subject.endswith("/ asyncio.timeout")


def test_a_name_that_the_library_lacks_is_unavailable_with_its_name():
    """What is not there yet is said by name, and what is there is returned."""
    with pytest.raises(Unavailable, match=r"no such_policy$"):
        public("such_policy")
    assert public("bulkhead") is resilio.bulkhead


def test_a_suspending_call_suspends_exactly_once():
    """The event loop gets control once, and then the answer comes."""
    call = suspending()()
    assert call.send(None) is None
    with pytest.raises(StopIteration) as end:
        call.send(None)
    assert end.value.value == ANSWER


def test_a_call_that_fails_first_fails_at_every_other_call():
    """Each retry of a failed call succeeds, however often."""
    function = failing_first()

    async def outcomes():
        return [await asyncio.gather(function(), return_exceptions=True) for _ in range(4)]

    made = [outcome for (outcome,) in anyio.run(outcomes)]
    assert [isinstance(outcome, ConnectionError) for outcome in made] == [True, False, True, False]


def test_the_written_out_retry_calls_twice_where_the_first_call_fails():
    """What is subtracted from a retry is both calls and the exception between them."""
    made = []
    inner = failing_first()

    async def function():
        made.append(1)
        return await inner()

    assert anyio.run(awaits_twice(function), 5) >= 0
    assert len(made) == 10


def test_what_calls_leave_to_the_event_loop_is_cleared_within_their_time():
    """The loop passes before the clock is read again, so whoever runs next finds nothing left."""
    passed = []

    async def function():
        asyncio.get_running_loop().call_soon(passed.append, 1)

    async def measured():
        await awaits_and_passes(function)(3)
        return len(passed)

    assert anyio.run(measured) == 3
