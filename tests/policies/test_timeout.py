"""The timeout's options, what it learns, and where it runs."""

from __future__ import annotations

import asyncio
import sys
from datetime import timedelta

import anyio
import anyio.lowlevel
import pytest

from resilio import Timeout, pipeline, remaining, timeout
from resilio.errors import CallTimeoutError
from resilio.testing import assert_no_leaks

# ---- options ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("options", "error", "message"),
    [
        ({}, TypeError, "total must be the seconds"),
        ({"total": True}, TypeError, "total must be"),
        ({"total": 0}, ValueError, "total must be"),
        ({"total": float("nan")}, ValueError, "total must be"),
        ({"total": [1]}, TypeError, "total must be a time like 2.0 or '2s', or a multiple of a quantile"),
        ({"total": "2"}, ValueError, "or a multiple of a quantile like 'p99*3', not '2'"),
        ({"total": "p0", "ceiling": 1}, ValueError, "total must be a quantile"),
        ({"total": "p100", "ceiling": 1}, ValueError, "total must be a quantile"),
        ({"total": "p99*0", "ceiling": 1}, ValueError, "total must be"),
        ({"total": "p99*3"}, TypeError, "ceiling must be the seconds"),
        ({"total": "p99*3", "ceiling": 1, "floor": 2}, ValueError, "floor must be at most ceiling=1.0, not 2.0"),
        ({"total": 1.0, "ceiling": 2}, ValueError, "ceiling must be left out"),
        ({"total": 1.0, "floor": 2}, ValueError, "floor must be left out"),
        ({"first": -1}, ValueError, "first must be"),
        ({"idle": "1"}, ValueError, "idle must be"),
        ({"total": 1.0, "thread": 1}, TypeError, "thread must be True or False"),
    ],
)
def test_bad_options_are_rejected_by_name(options, error, message):
    """What makes no sense is rejected at construction, with the option's name and the value."""
    with pytest.raises(error, match=message.replace("*", r"\*").replace("(", r"\(")):
        timeout(**options)


def test_bare_use_says_what_to_write():
    """`@timeout` without a time is a TypeError with the fix."""
    with pytest.raises(TypeError, match=r"write @timeout\(2.0\)"):

        @timeout
        async def call():
            """Do nothing."""


def test_times_may_be_timedeltas_and_quantiles_have_spaces():
    """A timedelta is seconds; what the configuration holds is one form, which is accepted again."""
    limit = timeout(timedelta(seconds=2), name="delta")
    assert limit.config.total == limit.seconds == 2.0
    assert timeout(timedelta(seconds=2), name="delta") is limit
    learning = timeout(" p99.9 * 1.5 ", ceiling=timedelta(seconds=3), floor=0.5)
    assert str(learning.config.total) == "p99.9*1.5"
    assert str(timeout("p50", ceiling=1).config.total) == "p50"
    learning.reconfigure(ceiling=4.0)
    assert learning.seconds == 4.0
    assert isinstance(learning, Timeout)
    assert timeout(idle=1.0).seconds is None


# ---- a total that a function computes --------------------------------------------------------------------------------


def seconds_of(size, *_):
    """A second for each thousand."""
    return size / 1000


@pytest.mark.parametrize("backend", ["asyncio", "trio"])
def test_each_call_has_the_time_that_its_arguments_need(vt, backend):
    """
    A long answer needed a long timeout, and so a short one that hung had it too.

    The function gives each call its own time, within the bounds; where it fails or returns None, the ceiling applies.
    """
    limit = timeout(seconds_of, floor=0.5, ceiling=4.0, name="model")

    @limit
    async def ask(size):
        await anyio.sleep(60)

    async def takes(size):
        begun = vt.now
        with pytest.raises(CallTimeoutError) as found:
            await ask(size)
        assert found.value.limit == pytest.approx(vt.now - begun)
        return found.value.limit

    async def main():
        return [await takes(size) for size in (2000, 100, 9000)]

    assert vt.run(main, backend=backend) == [2.0, 0.5, 4.0]
    assert (limit.total_errors, limit.seconds) == (0, 4.0)
    assert vt.run(lambda: takes("long"), backend=backend) == 4.0
    assert limit.total_errors == 1
    limit.reconfigure(total=lambda size: None)
    assert vt.run(lambda: takes(1), backend=backend) == 4.0
    limit.reconfigure(total="300ms")
    assert vt.run(lambda: takes(1), backend=backend) == 0.3
    assert limit.config.ceiling is None
    assert limit.total_errors == 1


def test_each_call_in_a_thread_has_its_own_time(vt):
    """A function that is not async has it in a thread of the timeout's."""
    limit = timeout(seconds_of, ceiling="4s", thread=True)

    @limit
    def ask(size, pause):
        return pause(size)

    assert ask(2000, lambda size: round(remaining(), 6)) == 2.0
    assert ask(9000, lambda size: round(remaining(), 6)) == 4.0


def test_each_stream_has_its_own_time(vt):
    """The function is called with the arguments of the generator."""

    @timeout(seconds_of, ceiling=4.0)
    async def items(size):
        for number in range(10):
            await anyio.sleep(1)
            yield number

    async def main():
        seen = []
        with pytest.raises(CallTimeoutError) as found:
            async for number in items(2500):
                seen.append(number)  # noqa: PERF401 - those before the error count
        return seen, found.value.limit

    assert vt.run(main) == ([0, 1], 2.5)


def test_a_function_needs_a_ceiling_and_arguments_that_calls_have():
    """Without a ceiling a function that fails would leave the call without limit."""
    with pytest.raises(TypeError, match="ceiling must be the seconds that a call may take where its function fails"):
        timeout(total=seconds_of)

    async def later(size):
        """Return a time, but not at once."""

    with pytest.raises(TypeError, match="total must be a function that answers at once"):
        timeout(later, ceiling=1.0)
    with pytest.raises(TypeError, match=r"total of a timeout is called with the arguments of .*two\(a, b\)"):

        @timeout(lambda size: 1.0, ceiling=2.0)
        async def two(a, b):
            """Take two arguments."""


def test_explain_shows_a_computed_time():
    """The name of the function stands among the options, and the bounds in a note."""
    text = str(pipeline(timeout(seconds_of, floor=0.5, ceiling=4.0)).explain())
    assert "total=seconds_of" in text
    assert "computed from the arguments of each call, at least 0.5 s and at most 4 s" in text
    assert "computed, at most 4 s" in repr(timeout(seconds_of, ceiling=4.0))


def test_a_ctrl_c_in_the_function_is_not_lost(vt):
    """It is raised again at the next safe point, and not counted as the call's."""

    def interrupted(size):
        raise KeyboardInterrupt

    @timeout(interrupted, ceiling=4.0)
    async def ask(size):
        await anyio.lowlevel.checkpoint()

    with pytest.raises(KeyboardInterrupt):
        asyncio.run(ask(1))


def test_a_block_is_rejected_and_told_what_to_use():
    """A timeout runs functions: a block of it is a TypeError that names deadline."""
    with pytest.raises(TypeError, match="deadline"), timeout(1.0):
        pass
    with pytest.raises(TypeError, match="deadline"):
        timeout(1.0).try_acquire()


# ---- what it learns --------------------------------------------------------------------------------------------------


def learning(vt, limit, *batches):
    """Run batches of (calls, seconds each); return how many of the last batch timed out."""

    @limit
    async def call(seconds):
        await asyncio.sleep(seconds)

    async def main():
        late = 0
        for count, seconds in batches:
            late = 0
            for _ in range(count):
                try:
                    await call(seconds)
                except CallTimeoutError:
                    late += 1
        return late

    return vt.run(main)


def test_until_enough_is_known_the_ceiling_holds(vt):
    """A p99 needs 100 calls; before, a call has the ceiling, and with them three times what they took."""
    limit = timeout("p99*3", ceiling=10.0, floor=0.05)
    assert limit.seconds == 10.0
    learning(vt, limit, (99, 0.1))
    assert limit.seconds == 10.0
    learning(vt, limit, (1, 0.1))
    assert limit.seconds == pytest.approx(0.3, rel=0.02)
    assert limit.learned_from == 100


@pytest.mark.parametrize(("calls", "seconds"), [(255, 0.0002), (90, 0.001)])
def test_what_was_learned_is_never_far_behind(vt, calls, seconds):
    """The quantile is not asked for at each call, but again after 256 of them, or 0.1 s after the last time."""
    limit = timeout("p50", ceiling=10.0)
    learning(vt, limit, (20, 1e-5))
    assert limit.seconds == pytest.approx(1e-5, rel=0.02)

    def note():
        vt.advance(seconds)
        limit._gate.note(0, round(seconds * 1e9), False)

    for _ in range(calls):
        note()
    assert limit.seconds == pytest.approx(1e-5, rel=0.02)
    for _ in range(256 - calls if calls == 255 else 11):
        note()
    assert limit.seconds == pytest.approx(seconds, rel=0.02)


@pytest.mark.parametrize(("seconds", "limit_is"), [(0.001, 0.05), (8.0, 10.0)])
def test_floor_and_ceiling_bound_what_is_learned(vt, seconds, limit_is):
    """However quick or slow the calls are, the timeout stays within floor and ceiling."""
    limit = timeout("p50*3", ceiling=10.0, floor=0.05)
    learning(vt, limit, (30, seconds))
    assert limit.seconds == limit_is


def test_a_slowdown_is_learned(vt):
    """When the dependency becomes ten times as slow all time out at first, and soon the timeout lets them end."""
    limit = timeout("p95*2", ceiling=5.0)
    learning(vt, limit, (200, 0.1))
    assert limit.seconds == pytest.approx(0.2, rel=0.02)
    late = learning(vt, limit, (60, 1.0))
    assert 0 < late < 60
    assert learning(vt, limit, (500, 1.0), (10, 1.0)) == 0
    assert limit.seconds >= 1.0


def test_what_was_is_forgotten(vt):
    """After a while of quick calls the slow ones before are forgotten."""
    limit = timeout("p99*2", ceiling=50.0)
    learning(vt, limit, (200, 1.0))
    assert limit.seconds == pytest.approx(2.0, rel=0.02)
    learning(vt, limit, (3000, 0.1))
    assert limit.seconds == pytest.approx(0.2, rel=0.02)
    assert limit.learned_from <= 2048


def test_failures_teach_nothing(vt):
    """Calls that fail at once do not make the timeout shorter."""
    limit = timeout("p50", ceiling=5.0)

    @limit
    async def call():
        raise ConnectionError

    async def main():
        for _ in range(100):
            with pytest.raises(ConnectionError):
                await call()

    vt.run(main)
    assert (limit.learned_from, limit.seconds) == (0, 5.0)


def test_reconfiguring_keeps_what_was_learned(vt):
    """A new ceiling or factor takes effect, at the latest with the next calls, and what was learned stays."""
    limit = timeout("p50*2", ceiling=5.0)
    learning(vt, limit, (50, 0.1))
    limit.reconfigure(ceiling=0.15)
    assert limit.seconds == 0.15
    limit.reconfigure(ceiling=5.0, total="p50*4")
    learning(vt, limit, (2, 0.1))
    assert limit.seconds == pytest.approx(0.4, rel=0.02)
    limit.reconfigure(total=2.0, ceiling=None)
    assert limit.seconds == 2.0


# ---- where it runs ---------------------------------------------------------------------------------------------------


@pytest.mark.anyio
async def test_try_acall_gives_a_result(vt):
    """`try_acall` tells of a timeout without raising it."""

    async def call():
        await anyio.sleep(10)

    result = await timeout(0.1).try_acall(call)
    assert not result
    assert result.outcome == "failure"
    assert isinstance(result.error, CallTimeoutError)
    assert result.called


@pytest.mark.anyio
async def test_a_call_that_waits_in_a_pipeline_has_the_time_in_all(vt):
    """Many calls at once, each with its timer: those that take too long end, each at its time."""
    limit, ended = timeout(1.0), []

    @limit
    async def call(seconds):
        await anyio.sleep(seconds)

    async def one(seconds):
        begun = vt.now
        try:
            await call(seconds)
        except CallTimeoutError:
            ended.append(vt.now - begun)

    async with anyio.create_task_group() as group:
        for n in range(200):
            group.start_soon(one, 0.01 * n)
            if n % 50 == 0:
                await anyio.sleep(0.1)
    assert len(ended) == pytest.approx(100, abs=1)
    assert max(ended) <= 1.002
    assert_no_leaks(limit)


@pytest.mark.skipif(sys.version_info < (3, 12), reason="eager tasks came with Python 3.12")
def test_eager_tasks_are_interrupted(vt):
    """A call begun in an eager task is interrupted as in any."""

    @timeout(0.1)
    async def call():
        await asyncio.sleep(10)

    async def main():
        asyncio.get_running_loop().set_task_factory(asyncio.eager_task_factory)
        with pytest.raises(CallTimeoutError):
            await asyncio.create_task(call())

        async def around():
            await call()

        with pytest.raises(CallTimeoutError):
            await asyncio.create_task(around())

    vt.run(main)


def test_uvloop_interrupts():
    """On uvloop a call is interrupted as on the loop of the standard library."""
    uvloop = pytest.importorskip("uvloop")

    @timeout(0.02)
    async def call():
        await asyncio.sleep(60)

    async def main():
        with pytest.raises(CallTimeoutError):
            await call()
        assert asyncio.current_task().cancelling() == 0

    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        runner.run(main())


def test_a_task_group_inside_is_cancelled_as_a_whole(vt):
    """A function that waits for a task group is ended with all its children."""
    cancelled = []

    async def child():
        try:
            await asyncio.sleep(10)
        except asyncio.CancelledError:
            cancelled.append(1)
            raise

    @timeout(0.1)
    async def call():
        async with asyncio.TaskGroup() as group:
            group.create_task(child())
            group.create_task(child())

    async def main():
        with pytest.raises(CallTimeoutError):
            await call()

    vt.run(main)
    assert cancelled == [1, 1]


@pytest.mark.anyio
async def test_a_call_that_never_suspends_is_not_ended(vt):
    """Nothing stops code that does not suspend: it returns, late, and is a success."""

    @pipeline(timeout(0.1))
    async def call():
        vt.advance(5.0)
        return "late"

    assert await call() == "late"
