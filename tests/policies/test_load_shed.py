"""What a load shedder promises beyond the numbered scenarios."""

from __future__ import annotations

import asyncio
import contextlib
import gc
import math
import random
import re
import threading
import time
from datetime import timedelta

import anyio
import anyio.lowlevel
import pytest

from resilio import (
    OverloadedError,
    PipelineWarning,
    bulkhead,
    deadline,
    events,
    hedge,
    keyed,
    load_shed,
    pipeline,
    policy_of,
    priority,
    registry,
)
from resilio._context.priority import CLASSES
from resilio._native.gates import ShedderGate
from resilio._policies.load_shed import LoadShedConfig
from resilio.testing import assert_no_leaks, no_wait, record_events

BACKENDS = pytest.mark.parametrize("backend", ["asyncio", "trio"])
REASONS = {"full", "reserved", "queue_full", "displaced", "wait", "deadline", "would_block"}


def serving(shed, seconds=0.1):
    """A handler that takes so long, and gives back its argument."""

    @shed
    async def serve(request=None):
        await anyio.sleep(seconds)
        return request

    return serve


async def crowd(serve, requests, *, level="standard", task=None, answers=None):
    """Serve all at once, and return what came of each: the request, or the reason of its rejection."""
    answers = {} if answers is None else answers

    async def one(request):
        try:
            answers[request] = await serve(request)
        except OverloadedError as rejection:
            answers[request] = rejection.reason

    with priority(level, task=task):
        async with anyio.create_task_group() as group:
            for request in requests:
                group.start_soon(one, request)
                await anyio.lowlevel.checkpoint()
    return answers


def counted(answers):
    """How many were served, and how many rejected for each reason."""
    served = sum(answer not in REASONS for answer in answers.values())
    return served, {reason: n for reason in REASONS if (n := list(answers.values()).count(reason))}


# ---- options ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("name", "values"),
    [
        ("max_concurrent", [0, -1, 10**10, True, 1.0, math.nan, "2"]),
        ("target", [0, -1, math.nan, math.inf, True, 1e12, "2", timedelta(0)]),
        ("tenant", [5, "tenant", int, asyncio.sleep]),
        ("task", [5, "task", int, asyncio.sleep]),
        ("enforce", [-0.1, 1.1, math.nan, "yes", None]),
        ("name", ["", " x", 5, "x" * 300]),
    ],
)
def test_a_bad_option_is_rejected_by_name_and_value(name, values):
    """Whatever makes no sense is rejected at construction, with what it was and what it should be."""
    for value in values:
        with pytest.raises((TypeError, ValueError), match=rf"^{name} must be .*, not {re.escape(repr(value)[:40])}"):
            load_shed(**{name: value})


def test_used_bare_it_says_what_to_write():
    """@load_shed without brackets is an error that shows the right form."""
    with pytest.raises(TypeError, match=re.escape("write @load_shed(), not @load_shed")):

        @load_shed
        def call():
            pass


def test_one_name_is_one_load_shedder():
    """The same name and options give the same object; other options are rejected."""
    shed = load_shed(name="front", max_concurrent=3, target=timedelta(seconds=1))
    assert load_shed(name="front", max_concurrent=3, target=1.0) is shed
    with pytest.raises(ValueError, match="max_concurrent=3 against None"):
        load_shed(name="front", target=1.0)
    assert registry.get("front") is shed


# ---- every shape of use ----------------------------------------------------------------------------------------------


def test_in_a_thread_it_serves_queues_and_rejects(vt):
    """Plain functions, blocks and permits by hand, also where nothing can wait."""
    shed = load_shed(max_concurrent=1)
    assert shed.call(lambda: 5) == 5
    with shed:
        rejection = shed.try_acquire()
        assert (rejection.reason, rejection.measured, rejection.limit) == ("full", 1, 1)
        assert rejection.error.retry_after > 0
    assert shed.try_call(lambda: 7).value == 7
    assert shed.snapshot().successes == 3


def test_threads_wait_their_turn_and_are_woken():
    """Threads queue as tasks do: all are served, one at a time, and nothing is left over."""
    shed = load_shed(max_concurrent=1)
    inside, most, served = [0], [0], []

    @shed
    def serve(number):
        inside[0] += 1
        most[0] = max(most[0], inside[0])
        time.sleep(0.002)
        inside[0] -= 1
        served.append(number)

    threads = [threading.Thread(target=serve, args=(number,)) for number in range(6)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert sorted(served) == list(range(6))
    assert most == [1]
    assert_no_leaks()


@BACKENDS
def test_a_stream_holds_its_permit_to_the_end(vt, backend):
    """An async generator holds its permit until its last item, not its first."""
    shed = load_shed(max_concurrent=1)

    @shed
    async def items():
        yield 1
        await anyio.sleep(1)
        yield 2

    async def main():
        stream = items()
        assert await anext(stream) == 1
        assert shed.snapshot().inflight == 1
        assert [item async for item in stream] == [2]
        assert shed.snapshot().inflight == 0

    vt.run(main, backend=backend)


@BACKENDS
def test_a_call_cancelled_in_the_queue_leaves_nothing(vt, backend):
    """Cancelled waiting or served, each gives back what it had, and the rest is served."""
    shed = load_shed(max_concurrent=1)
    serve = serving(shed)

    async def main():
        answers = {}
        async with anyio.create_task_group() as group:
            group.start_soon(serve, "first")
            await anyio.sleep(0.01)
            with anyio.move_on_after(0.01):
                await serve("cancelled")
            assert shed.snapshot().cancelled == 1
            await crowd(serve, ["a", "b"], answers=answers)
        assert answers == {"a": "a", "b": "b"}

    vt.run(main, backend=backend)
    assert_no_leaks()


# ---- who waits, who goes ---------------------------------------------------------------------------------------------


@BACKENDS
def test_a_crowd_is_served_as_far_as_the_queue_is_worth_it(vt, backend):
    """Of a crowd a full queue is served; the rest is rejected at once, or put out by newer ones where that helps."""
    shed = load_shed(max_concurrent=2)
    serve = serving(shed)
    answers = vt.run(lambda: crowd(serve, range(200)), backend=backend)
    served, rejected = counted(answers)
    assert served == 2 + 11
    assert set(rejected) == {"queue_full", "displaced"}
    assert served + sum(rejected.values()) == 200
    assert answers[199] == 199, "the newest"
    assert shed.rejected_by_priority == {("standard", reason): n for reason, n in rejected.items()}
    assert shed.snapshot().state == "overloaded"
    assert 0.2 < shed.rejected_share < 0.5


@BACKENDS
@pytest.mark.parametrize("late", CLASSES[:3])
def test_a_better_call_puts_out_the_worst_and_is_served_first(vt, backend, late):
    """Into a full queue of background calls any better one comes; it is served before all of them."""
    shed = load_shed(max_concurrent=1)
    serve = serving(shed)
    answers = {}

    async def main():
        async with anyio.create_task_group() as group:
            group.start_soon(serve, "running")
            await anyio.sleep(0.01)
            with priority("background"):
                group.start_soon(lambda: crowd(serve, range(shed.room), level="background", answers=answers))
                await anyio.sleep(0.01)
            assert shed.snapshot().queued == shed.room
            await crowd(serve, ["better"], level=late, answers=answers)
            assert [answer for answer in answers.values() if answer not in REASONS] == ["better"]

    vt.run(main, backend=backend)
    assert list(answers.values()).count("displaced") == 1


def test_calls_of_one_task_are_served_or_rejected_together(vt):
    """What belongs to a task that was served goes before what would begin one; tasks are ordered by hash."""
    shed = load_shed(max_concurrent=2, task=lambda request: request[0])
    serve = serving(shed, 0.01)
    rng = random.Random(5)
    done, begun = [0], [0]

    async def one(number):
        begun[0] += 1
        with contextlib.suppress(OverloadedError):
            for step in range(4):
                await serve((number, step))
            done[0] += 1

    async def main():
        async with anyio.create_task_group() as group:
            for number in range(1500):
                group.start_soon(one, number)
                await anyio.sleep(rng.expovariate(100.0))

    vt.run(main)
    assert done[0] * 4 / shed.snapshot().successes > 0.96, "little was served of tasks that failed"


def use_of_tenants(vt):
    """Return the seconds that each of three tenants gets of one worker in a minute, of which all of them want more."""
    shed = load_shed(max_concurrent=1, target=0.5, tenant=lambda tenant, _seconds: tenant)
    used = {"flood": 0.0, "slow": 0.0, "light": 0.0}

    @shed
    async def serve(tenant, seconds):
        await anyio.sleep(seconds)
        used[tenant] += seconds

    async def send(tenant, seconds, every):
        async def one():
            with contextlib.suppress(OverloadedError):
                await serve(tenant, seconds)

        async with anyio.create_task_group() as group:
            for _ in range(round(60 / every)):
                group.start_soon(one)
                await anyio.sleep(every)

    async def main():
        async with anyio.create_task_group() as group:
            group.start_soon(send, "flood", 0.01, 0.002)
            group.start_soon(send, "slow", 0.05, 0.01)
            group.start_soon(send, "light", 0.01, 0.025)

    vt.run(main)
    return used


@pytest.mark.real(2.5)
@pytest.mark.once
@pytest.mark.untraced  # tens of thousand calls, which others trace in small
def test_tenants_take_turns_by_the_time_that_they_use(vt):
    """
    A tenant that floods, and one with long calls, leave the others their share.

    Tenants are hashed into 512 flows, otherwise for each shedder, and two may meet in one: not three times in a row.
    """
    fair = {tenant: pytest.approx(20, rel=0.15) for tenant in ("flood", "slow", "light")}
    for _ in range(3):
        used = use_of_tenants(vt)
        assert sum(used.values()) == pytest.approx(60, rel=0.03), "no time is lost"
        if used == fair:
            break
    assert used == fair


@pytest.mark.untraced  # others trace the same lines in less time
def test_a_million_tenants_cost_no_memory(vt):
    """The table of tenants has a fixed size: it is neither grown nor emptied by how many there are."""
    import tracemalloc

    shed = load_shed(max_concurrent=1, tenant=lambda tenant: tenant)
    for tenant in range(1000):
        shed.try_acquire(tenant).success()
    tracemalloc.start()
    for tenant in range(1_000_000 // 50):
        shed.try_acquire(tenant * 50).success()
    size, _ = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert size < 50_000


@pytest.mark.parametrize("option", ["tenant", "task"])
def test_a_function_that_raises_never_changes_a_call(vt, option):
    """One that raises, or answers what has no hash, says nothing: the call is served, and it is counted."""
    answers = iter([5, [], None, "x", RuntimeError("no"), KeyError("k")])

    def function(*_args):
        answer = next(answers)
        if isinstance(answer, Exception):
            raise answer
        return answer

    shed = load_shed(max_concurrent=5, **{option: function})
    assert [shed.call(lambda number: number, number) for number in range(6)] == list(range(6))
    assert getattr(shed, f"{option}_errors") == 3
    assert shed.snapshot().successes == 6
    shed.reconfigure(**{option: None})
    assert shed.call(lambda: "unasked") == "unasked"


@pytest.mark.untraced  # the interrupt would come in the tracer
def test_a_ctrl_c_in_a_function_is_pressed_again():
    """A Ctrl-C that comes while the tenant is asked for reaches the program, and not the call."""

    def function():
        raise KeyboardInterrupt

    shed = load_shed(max_concurrent=1, tenant=function)
    with pytest.raises(KeyboardInterrupt):
        shed.call(lambda: None)
        for _ in range(100):
            time.sleep(0.001)
    assert shed.tenant_errors == 1
    assert_no_leaks()


@BACKENDS
def test_a_hedge_is_sheddable_and_waits_for_nothing(vt, backend):
    """The copy of a call takes no permit that is kept for calls, and never queues."""
    shed = load_shed(max_concurrent=2)
    policy = hedge(idempotent=True, after=1.0, max_extra=1.0)

    @policy
    @shed
    async def serve(seconds):
        await anyio.sleep(seconds)

    async def main():
        for _ in range(30):
            await serve(0.1)
        for others in (0, 1):
            held = [shed.try_acquire() for _ in range(others)]
            await serve(5.0)
            for permit in held:
                permit.success()

    vt.run(main, backend=backend)
    assert (policy.snapshot().hedges, policy.snapshot().hedges_rejected) == (0, 2)
    assert (shed._gate.rejections()["reserved"], shed._gate.rejections()["full"]) == (1, 1)
    assert shed.rejected_by_priority == {}, "a copy is no call that is lost"


# ---- deadlines -------------------------------------------------------------------------------------------------------


@BACKENDS
def test_learnt_times_decide_whether_a_call_can_be_in_time(vt, backend):
    """Wait plus median against what is left: rejected at once, with both numbers; with enough time it waits."""
    shed = load_shed(max_concurrent=1)
    serve = serving(shed, 0.1)

    async def main():
        for _ in range(30):
            await serve()
        mean, median = shed.usual
        assert (mean, median) == (pytest.approx(0.1), pytest.approx(0.1, rel=0.1))
        async with anyio.create_task_group() as group:
            group.start_soon(serve)
            await anyio.sleep(0.01)
            answer = await shed.try_acall(anyio.sleep, 0.01)
            assert answer.ok
            group.start_soon(serve)
            await anyio.sleep(0.01)
            with deadline(0.15):
                rejected = await shed.try_acall(anyio.sleep, 0.01)
            assert rejected.outcome == "rejected"
            assert rejected.error.reason == "deadline"
            assert rejected.error.needed == pytest.approx(0.2, rel=0.15)

    vt.run(main, backend=backend)
    assert shed.rejected_by_priority == {("standard", "deadline"): 1}


@BACKENDS
@pytest.mark.parametrize("behind", [0, 5])
def test_whose_turn_comes_with_little_time_left_goes_for_those_behind(vt, backend, behind):
    """With nobody behind it the median is enough; others behind it cost it the mean and a part of what they take."""
    shed = load_shed(max_concurrent=1)
    serve = serving(shed, 0.1)
    answers = []

    async def hurried():
        with deadline(0.22):
            answers.append(await shed.try_acall(anyio.sleep, 0.01))

    async def main():
        for _ in range(30):
            await serve()
        async with anyio.create_task_group() as group:
            group.start_soon(serve)
            await anyio.sleep(0.001)
            group.start_soon(hurried)
            await anyio.sleep(0.001)
            for _ in range(behind):
                group.start_soon(serve)

    vt.run(main, backend=backend)
    (answer,) = answers
    if behind == 0:
        assert answer.ok
    else:
        assert answer.error.reason == "deadline"
        assert answer.error.needed == pytest.approx(0.1 + 0.3 * 5 * 0.1, rel=0.05)
    assert shed.rejected_by_priority == ({("standard", "deadline"): 1} if behind else {})


@BACKENDS
def test_a_call_that_finds_a_permit_is_begun_however_little_time_is_left(vt, backend):
    """It takes nobody's turn, and may be a quick one."""
    shed = load_shed(max_concurrent=1)
    serve = serving(shed, 0.1)

    async def main():
        for _ in range(30):
            await serve()
        with deadline(0.02):
            assert (await shed.try_acall(anyio.sleep, 0.01)).ok

    vt.run(main, backend=backend)


@BACKENDS
def test_calls_that_would_be_too_late_are_a_sign_of_overload(vt, backend):
    """Where callers have deadlines, what the queue makes too late counts as rejected; what never had time does not."""
    shed = load_shed(max_concurrent=1)
    serve = serving(shed, 0.1)

    async def main():
        for _ in range(30):
            await serve()
        async with anyio.create_task_group() as group:
            for _ in range(10):
                group.start_soon(serve)
            await anyio.sleep(0.01)
            for _ in range(100):
                with deadline(0.05):
                    assert (await shed.try_acall(anyio.sleep, 0)).error.reason == "deadline"
            assert shed.rejected_share == 0.0
            for _ in range(100):
                with deadline(0.5):
                    assert (await shed.try_acall(anyio.sleep, 0)).error.reason == "deadline"
            assert shed.snapshot().state == "overloaded"
            group.cancel_scope.cancel()

    vt.run(main, backend=backend)
    assert shed.rejected_by_priority == {("standard", "deadline"): 200}


# ---- it ends ---------------------------------------------------------------------------------------------------------


@BACKENDS
def test_overload_begins_and_ends_with_an_event_each(vt, backend, caplog):
    """State changes alone are events: one when it begins, with a warning, one when it is over, as few are rejected."""
    caplog.set_level("INFO", "resilio")
    shed = load_shed(max_concurrent=2, name="front")
    serve = serving(shed, 0.01)

    async def main():
        with record_events(shed, kinds=(events.StateChanged,)) as seen:
            await crowd(serve, range(300))
            for _ in range(2000):
                await serve()
        assert [(event.old, event.new, event.reason) for event in seen] == [
            ("normal", "overloaded", "rejections"),
            ("overloaded", "normal", "recovered"),
        ]

    vt.run(main, backend=backend)
    assert shed.snapshot().state == "normal"
    assert [(record.levelname, record.getMessage()) for record in caplog.records] == [
        ("WARNING", "load_shed 'front': normal -> overloaded (rejections)"),
        ("INFO", "load_shed 'front': overloaded -> normal (recovered)"),
    ]


def test_an_overload_is_over_when_nothing_is_shed_for_a_while(vt):
    """Also where few calls come: five quiet seconds end it, noticed by the next call or by whoever looks."""
    for notice in ("call", "look"):
        shed = load_shed(max_concurrent=2)
        serve = serving(shed, 0.01)

        async def main(serve=serve, shed=shed, notice=notice):
            await crowd(serve, range(300))
            await anyio.sleep(4)
            assert shed.snapshot().state == "overloaded"
            await anyio.sleep(2)
            if notice == "call":
                await serve()
            assert shed.snapshot().state == "normal"
            assert shed.rejected_share == 0.0

        vt.run(main)


def test_where_calls_are_slow_an_overload_is_not_over_after_five_seconds(vt):
    """Nothing is rejected between two calls that take ten seconds: only twenty mean times without are quiet."""
    shed = load_shed(max_concurrent=2)
    serve = serving(shed, 10.0)

    async def main():
        await serve()
        async with anyio.create_task_group() as group:
            group.start_soon(crowd, serve, range(300))
            await anyio.sleep(150)
            assert shed.snapshot().state == "overloaded"
        await anyio.sleep(60)
        assert shed.snapshot().state == "normal"

    vt.run(main)


def test_a_burst_counts_as_one_overload_however_long_it_is(vt):
    """Thousands that are rejected at once are no more than half of the arrivals that are remembered."""
    shed = load_shed(max_concurrent=2)

    async def main():
        await crowd(serving(shed, 0.01), range(5000))

    vt.run(main)
    assert 0.25 < shed.rejected_share <= 0.502


@BACKENDS
def test_a_server_that_hangs_keeps_nobody_for_ever(vt, backend):
    """Whose turn never comes is rejected after a time, with how long it waited."""
    shed = load_shed(max_concurrent=1)

    async def main():
        with shed:
            rejected = await shed.try_acall(anyio.sleep, 0)
        assert rejected.error.reason == "wait"
        assert rejected.error.measured == pytest.approx(rejected.error.limit)
        assert vt.now == pytest.approx(rejected.error.limit)

    vt.run(main, backend=backend)
    assert_no_leaks()


def test_no_wait_rejects_at_once(vt):
    """In tests that skip waits a call that would queue is rejected."""
    shed = load_shed(max_concurrent=1)

    async def main():
        with no_wait(), shed:
            assert (await shed.try_acall(anyio.sleep, 0)).error.reason == "wait"

    vt.run(main)


def test_retry_after_grows_with_the_queue_and_is_spread(vt):
    """Rejected calls are told when there will be room, each a little differently."""
    shed = load_shed(max_concurrent=1)
    serve = serving(shed, 0.1)

    async def main():
        await serve()
        async with anyio.create_task_group() as group:
            with priority("critical"):
                for _ in range(40):
                    group.start_soon(shed.try_acall, anyio.sleep, 0.001)
            await anyio.lowlevel.checkpoint()
            queued = shed.snapshot().queued
            told = [(await shed.try_acall(anyio.sleep, 0.1)).error.retry_after for _ in range(20)]
        assert len(set(told)) == 20
        assert (queued + 1) * 0.1 <= min(told)
        assert max(told) <= 2.5 * (queued + 2) * 0.1

    vt.run(main)


# ---- all that policies have ------------------------------------------------------------------------------------------


def test_shadow_mode_rejects_nothing_and_makes_nobody_wait(vt):
    """What would have waited passes at once, and is counted; a share enforces for that share."""
    shed = load_shed(max_concurrent=1, enforce=False)
    with shed:
        assert shed.call(lambda: 5) == 5
        assert shed.try_acquire()
    assert (shed.snapshot().would_wait, shed.snapshot().rejected) == (2, 0)
    half = load_shed(max_concurrent=1, enforce=0.5)
    with half:
        answers = [half.try_acquire() for _ in range(10)]
    assert sum(map(bool, answers)) == 5
    del answers
    gc.collect()
    assert_no_leaks()


@BACKENDS
def test_reconfigure_keeps_who_holds_and_who_waits(vt, backend):
    """More permits are handed out at once; tenants and tasks may come and go while calls wait."""
    shed = load_shed(max_concurrent=1)
    serve = serving(shed, 1.0)
    answers = {}

    async def main():
        async with anyio.create_task_group() as group:
            group.start_soon(lambda: crowd(serve, range(6), answers=answers))
            await anyio.sleep(0.1)
            assert (shed.snapshot().inflight, shed.snapshot().queued) == (1, 5)
            shed.reconfigure(max_concurrent=2, tenant=lambda request: request)
            await anyio.sleep(0.1)
            assert (shed.snapshot().inflight, shed.snapshot().queued) == (2, 4)
            shed.reconfigure(tenant=None, target=30.0)
            await anyio.sleep(1.0)
            shed.reconfigure(max_concurrent=None)
            assert shed.limit == 20
            await anyio.sleep(0.1)
            assert shed.snapshot().queued == 0
        assert sorted(answers.values()) == list(range(6))

    vt.run(main, backend=backend)
    with pytest.raises(ValueError, match="max_concurrent"):
        shed.reconfigure(max_concurrent=0)
    assert_no_leaks()


def test_a_target_says_how_many_may_wait(vt):
    """With a target the queue is as long as is served in it under overload, three times that otherwise."""
    shed = load_shed(max_concurrent=10, target=0.5)
    serve = serving(shed, 0.1)
    vt.run(serve)
    assert shed.room == pytest.approx(150, abs=1)
    vt.run(lambda: crowd(serve, range(400)))
    assert shed.snapshot().state == "overloaded"
    assert shed.room == pytest.approx(50, abs=1)


def test_keyed_makes_one_for_each_key(vt):
    """Each key has a queue of its own, and an idle one that has learnt nothing of late may be let go."""
    per_route = keyed(lambda: load_shed(max_concurrent=1), key=lambda route: route, max_keys=2, idle=1.0)

    @per_route
    async def serve(route):
        await anyio.sleep(0.01)
        return route

    async def main():
        assert [await serve(route) for route in ("a", "b", "a")] == ["a", "b", "a"]
        await anyio.sleep(601)
        assert [await serve(route) for route in ("c", "d")] == ["c", "d"]

    vt.run(main)


def test_the_child_of_a_fork_starts_empty(in_child):
    """Permits and waiters are the parent's; what was learnt goes on."""
    shed = load_shed(max_concurrent=1, tenant=lambda: 5)
    permit = shed.try_acquire()
    assert in_child(lambda: (shed.snapshot().inflight, bool(shed.try_acquire()))) == (0, True)
    permit.success()


def test_a_pipeline_explains_and_lints_it():
    """It is a step like any other, told with its options."""
    explained = pipeline(load_shed(max_concurrent=3), name="p").explain()
    assert [(step.kind, step.options, step.rejects_with) for step in explained.steps] == [
        ("load_shed", {"max_concurrent": 3}, "OverloadedError")
    ]


def test_a_queue_outside_of_it_is_warned_of():
    """Behind a bulkhead with a queue it sees no overload, which the pipeline says; one without hides nothing."""
    with pytest.warns(PipelineWarning, match="shed-inside-bulkhead"):
        pipeline(bulkhead(5, max_queued=100, max_wait=1.0), load_shed())
    pipeline(bulkhead(5), load_shed())
    pipeline(load_shed(), bulkhead(5, max_queued=100, max_wait=1.0))


def test_a_rejection_names_what_rejected(vt):
    """Class, policy, name, reason and numbers; it pickles, and nothing was called."""
    import pickle

    shed = load_shed(max_concurrent=1, name="front")
    with shed:
        error = shed.try_acquire().error
    assert type(error) is OverloadedError
    assert (error.policy, error.name, error.reason, error.called) == ("load_shed", "front", "full", False)
    assert pickle.loads(pickle.dumps(error)).retry_after == error.retry_after
    assert policy_of(shed(lambda: None)) is shed


def test_the_native_gate_is_what_the_stub_says():
    """The gate can be made and changed by itself, and shows what it keeps."""
    gate = ShedderGate(LoadShedConfig())
    assert (gate.limit, gate.used, gate.overloaded, gate.usual_ns) == (20, 0, False, (0.0, 0.0))
    assert gate.kind == "load_shed"
    assert set(gate.reasons) >= {"full", "reserved", "queue_full", "displaced", "wait"}


def test_reset_forgets_what_was_learnt(vt):
    """Times, limit, tasks and the overload are as in a new one; who holds and who waits go on."""
    shed = load_shed(task=lambda request: request)
    serve = serving(shed, 0.01)

    async def main():
        with record_events(shed, kinds=(events.StateChanged,)) as seen:
            await crowd(serve, range(400))
            assert shed.snapshot().state == "overloaded"
            assert shed.usual
            held = [shed.try_acquire(number) for number in range(5)]
            shed.reset()
            assert (shed.usual, shed.rejected_share, shed.limit) == (None, 0.0, 20)
            assert shed.snapshot().inflight == 5
            for permit in held:
                permit.success()
            shed.reset()
        assert [event.new for event in seen] == ["overloaded", "normal"]

    vt.run(main)


def test_prometheus_counts_what_is_lost(vt):
    """A scrape shows how much of which class was lost and why, from closed sets."""
    prometheus = pytest.importorskip("prometheus_client")
    from resilio.metrics.prometheus import ResilioCollector

    shed = load_shed(max_concurrent=1, name="scraped")
    vt.run(lambda: crowd(serving(shed), range(100), level="background"))
    scraped = prometheus.CollectorRegistry()
    ResilioCollector(scraped, [shed])
    labels = {"kind": "load_shed", "policy": "scraped", "priority": "background"}
    for (level, reason), count in shed.rejected_by_priority.items():
        assert level == "background"
        assert scraped.get_sample_value("resilio_rejected_by_priority_total", labels | {"reason": reason}) == count
    state = {"kind": "load_shed", "policy": "scraped", "state": "overloaded"}
    assert scraped.get_sample_value("resilio_state", state) == 1


# ---- learnt limits ---------------------------------------------------------------------------------------------------


@pytest.mark.untraced  # others trace the same lines in less time
@pytest.mark.once
def test_without_a_number_the_limit_is_learnt(vt):
    """A server of four workers behind it: the limit comes near, what is served is what four can serve."""
    shed = load_shed()
    workers = anyio.Semaphore(4)
    rng = random.Random(3)
    answers = {}

    @shed
    async def serve(request):
        async with workers:
            await anyio.sleep(rng.expovariate(100.0))
        return request

    async def one(request):
        try:
            answers[request] = await serve(request)
        except OverloadedError as rejection:
            answers[request] = rejection.reason

    async def main():
        async with anyio.create_task_group() as group:
            for request in range(8000):
                group.start_soon(one, request)
                await anyio.sleep(rng.expovariate(800.0))

    vt.run(main)
    assert counted(answers)[0] > 0.93 * 4 * 100 * vt.now
    assert 4 <= shed.limit < 40


def test_quick_failures_teach_the_limit_nothing(vt):
    """Errors of callers come at once and say nothing about load; answers that never came do."""
    shed = load_shed()

    def fail():
        raise ValueError

    for _ in range(500):
        with pytest.raises(ValueError):
            shed.call(fail)
    assert shed.limit >= 20


# ---- races -----------------------------------------------------------------------------------------------------------


def test_threads_that_race_lose_no_permit_and_no_waiter():
    """Threads come, wait, are put out and resize all at once; in the end everything is free, and they did race."""
    shed = load_shed(max_concurrent=2, tenant=lambda number: number % 5)
    outcomes = {"served": 0, "queued": 0}
    reasons = set()
    lock = threading.Lock()
    begin = threading.Barrier(17)

    def work(seed):
        rng = random.Random(seed)
        begin.wait()
        for number in range(120):
            try:
                with priority(rng.choice(CLASSES), task=rng.randrange(20)):
                    shed.call(lambda _number: time.sleep(rng.random() * 0.001), number)
                with lock:
                    outcomes["served"] += 1
            except OverloadedError as rejection:
                with lock:
                    reasons.add(rejection.reason)

    def resize():
        begin.wait()
        for number in range(150):
            shed.reconfigure(max_concurrent=1 + number % 3, tenant=(lambda n: n) if number % 2 else None)
            with lock:
                outcomes["queued"] = max(outcomes["queued"], shed.snapshot().queued)
            time.sleep(0.001)

    threads = [threading.Thread(target=work, args=(seed,)) for seed in range(16)] + [threading.Thread(target=resize)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    snapshot = shed.snapshot()
    assert (snapshot.inflight, snapshot.queued, shed._gate.used) == (0, 0, 0)
    assert snapshot.successes == outcomes["served"] > 0
    assert outcomes["queued"] > 0, "they did wait for each other"
    assert snapshot.calls == snapshot.successes + snapshot.rejected
    assert_no_leaks()


def test_a_waiter_put_out_and_cancelled_in_one_tick_is_lost_once(vt):
    """Eviction meets cancellation: the waiter ends once, whoever comes first, and nothing is left."""
    for order in ("evict first", "cancel first"):
        shed = load_shed(max_concurrent=1)

        async def main(shed=shed, order=order):
            held = shed.try_acquire()
            with priority("background"):
                waiting = [asyncio.ensure_future(shed.aacquire()) for _ in range(shed.room)]
            await asyncio.sleep(0)
            victim = waiting[-1]
            if order == "cancel first":
                victim.cancel()
            with priority("critical"):
                better = asyncio.ensure_future(shed.aacquire())
                await asyncio.sleep(0)
            if order == "evict first":
                assert not victim.done(), "put out, and not yet told: this is the race"
                victim.cancel()
            held.success()
            (await better).success()
            for task in waiting:
                task.cancel()
            await asyncio.gather(*waiting, return_exceptions=True)

        vt.run(main)
        assert (shed._gate.used, shed.snapshot().queued, shed.snapshot().inflight) == (0, 0, 0)
    assert_no_leaks()


def test_a_priority_elsewhere_changes_nothing_for_callers_without_one(vt):
    """While any context has one, the others are looked at as well: their calls must not become those of one task."""

    async def flooded():
        serve, ended = serving(load_shed(max_concurrent=1)), []

        async def one(number):
            try:
                await serve(number)
                ended.append((number, "served"))
            except OverloadedError as rejection:
                ended.append((number, rejection.reason))

        async with anyio.create_task_group() as group:
            for number in range(600):
                group.start_soon(one, number)
                await anyio.sleep(0.01)
        return ended

    async def main():
        alone = await flooded()
        with priority("critical", task="elsewhere"):
            elsewhere = asyncio.create_task(asyncio.Event().wait())
        assert await flooded() == alone
        assert elsewhere.cancel()
        assert {reason for _, reason in alone} > {"served"}

    vt.run(main)
