"""What a retry promises beside its numbered scenarios: layers, tasks, streams, events, options that change."""

from __future__ import annotations

import asyncio
import contextlib
import gc
import subprocess
import sys
import threading
import time
from types import SimpleNamespace
from typing import Any

import anyio
import pytest

import resilio
from resilio import (
    BulkheadFullError,
    DeadlineExceededError,
    Outcome,
    RetryBudget,
    bulkhead,
    carry,
    configure,
    deadline,
    detached,
    events,
    full_jitter,
    pipeline,
    retry,
)
from resilio._context import variables
from resilio._failures.replayable import name_one_shot
from resilio._failures.retry_trail import RetryTrail
from resilio._native.strategies import STOP_REASONS, Tries, release
from resilio.testing import assert_no_leaks, disabled, no_wait, record_events

BACKENDS = pytest.mark.parametrize("backend", ["asyncio", "trio"])


def at_once(**options: Any) -> Any:
    """A retry without waits, and without a budget."""
    return retry(**{"on": ConnectionError, "backoff": 0.0, "budget": None, **options})


class Flaky:
    """Fails so many times, and counts its calls."""

    def __init__(self, failures: int, error: type[BaseException] = ConnectionError) -> None:
        self.failures = failures
        self.error = error
        self.calls = 0

    def __call__(self, *args: Any) -> int:
        self.calls += 1
        if self.calls <= self.failures:
            raise self.error(self.calls)
        return self.calls


# ---- what it judges --------------------------------------------------------------------------------------------------


def test_a_predicate_that_raises_retries_nothing(caplog):
    """A broken predicate is logged, and the error passes as it is."""
    policy = at_once(on=lambda error: error.nonsense)
    with pytest.raises(ConnectionError) as caught:
        policy.call(Flaky(1))
    assert caught.value.resilio.stop_reason == "not_retryable"
    assert "on raised" in caplog.text


def test_a_predicate_may_return_an_outcome():
    """IGNORED and SUCCESS are not retried, FAILURE is."""
    verdicts = iter([Outcome.FAILURE, Outcome.IGNORED])
    body = Flaky(5)
    with pytest.raises(ConnectionError):
        at_once(on=lambda error: next(verdicts)).call(body)
    assert body.calls == 2


def test_a_backoff_that_raises_lets_the_error_pass(caplog):
    """The callee's own error goes on, and the fault of the backoff is logged."""

    def broken(attempt):
        raise ZeroDivisionError

    body = Flaky(5)
    policy = at_once(backoff=broken)
    for _ in range(5):
        with pytest.raises(ConnectionError):
            policy.call(body)
    assert body.calls == 5
    assert caplog.text.count("a retry failed to decide") == 1  # not in a traceback a call


@pytest.mark.untraced  # the interrupt would come in the tracer
def test_a_ctrl_c_in_a_backoff_is_pressed_again():
    """It must not be lost in what a retry asks while it decides."""

    def interrupted(attempt):
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        at_once(backoff=interrupted).try_call(Flaky(1))
        time.sleep(1)  # the next safe point comes before


def test_try_call_answers_with_the_last_result_or_error(vt):
    """`try_call` raises nothing: the error carries the trail, a failed result is the value."""
    failed = at_once().try_call(Flaky(9))
    assert (failed.outcome, failed.error.resilio.stop_reason) == ("failure", "attempts")
    assert isinstance(failed.error.resilio, RetryTrail)
    result = at_once(failed_if=lambda value: value < 9).try_call(Flaky(0))
    assert (result.value, result.outcome) == (3, "failure")
    assert at_once().try_call(Flaky(2)).value == 3


@pytest.mark.parametrize("failed_if", [lambda value: value.missing, lambda value: Outcome.IGNORED])
def test_a_result_that_cannot_be_judged_is_not_asked_for_again(vt, failed_if):
    """A predicate that raises, or says IGNORED, has found no failure: what was done is not done twice."""
    body = Flaky(1)
    policy = at_once(failed_if=failed_if)
    result = policy.try_call(body)
    assert (result.value, result.outcome, body.calls) == (2, "ignored", 2)
    assert policy.snapshot().retries == 1


@BACKENDS
def test_try_acall_is_awaited(vt, backend):
    """The same for async functions."""
    body = Flaky(1)

    async def fetch():
        return body()

    async def main():
        return (await at_once().try_acall(fetch)).value

    assert vt.run(main, backend=backend) == 2


def test_a_function_that_returns_an_awaitable_is_retried_too(vt):
    """A lambda that gives a coroutine: the end of that coroutine is the attempt's."""
    body = Flaky(2)

    async def fetch():
        return body()

    async def main():
        return await at_once()(lambda: fetch())()  # noqa: PLW0108 - the point of it

    assert vt.run(main) == 3


@pytest.mark.parametrize("attempts", [1, None])
def test_one_attempt_and_any_number(vt, attempts):
    """attempts=1 never retries; None goes on until the budget is empty."""
    body = Flaky(100)
    with pytest.raises(ConnectionError) as caught:
        at_once(attempts=attempts, budget=RetryBudget(initial=5)).call(body)
    assert body.calls == (1 if attempts else 6)
    assert caught.value.resilio.stop_reason == ("attempts" if attempts else "budget")


def test_a_deadline_that_has_passed_inside_is_not_retried(vt):
    """What the deadline has ended is final; the error from before goes on, with the trail."""

    def late():
        if vt.now:
            raise DeadlineExceededError(1.0, 0.0)
        vt.advance(1)
        raise ConnectionError("first")

    with pytest.raises(ConnectionError, match="first") as caught:
        at_once().call(late)
    assert caught.value.resilio.stop_reason == "deadline"
    assert len(caught.value.resilio.attempts) == 2


def test_of_attempts_that_cannot_be_followed_in_time_the_last_is_raised(vt):
    """What is raised is what the last attempt has raised, not one before it."""
    made = []

    @retry(on=OSError, attempts=9, backoff=0.5, budget=None)
    def call():
        made.append(OSError(len(made)))
        vt.advance(0.25)
        raise made[-1]

    with deadline(1.2), pytest.raises(OSError) as caught:
        call()
    assert caught.value.resilio.stop_reason == "deadline"
    assert len(made) == 2
    assert caught.value is made[1]


@pytest.mark.parametrize("asked", [None, 0.1, 100.0])
def test_an_attempt_that_ends_after_the_deadline_stops_because_of_that(vt, asked):
    """The reason was `retry_after` though the server had asked for nothing: less than nothing was left to wait in."""

    class Busy(ConnectionError):
        retry_after = asked

    def late():
        vt.advance(2.0)
        raise Busy

    policy = at_once()
    with deadline(1.0), pytest.raises(Busy) as caught:
        policy.call(late)
    assert caught.value.resilio.stop_reason == "deadline"
    assert policy.snapshot().stopped["deadline"] == 1
    with deadline(1.0), pytest.raises(Busy) as caught:
        policy.call(late_block(policy, late))
    assert caught.value.resilio.stop_reason == "deadline"


def late_block(policy, late):
    """Return a function that runs the same in a block that is run again."""

    def run():
        for attempt in policy.retrying():
            with attempt:
                late()

    return run


def test_a_passed_deadline_is_retried_if_it_is_named(vt):
    """By its class in `on`."""
    assert at_once(on=DeadlineExceededError).call(Flaky(1, lambda _: DeadlineExceededError(1.0, 0.0))) == 2


# ---- what it leaves behind -------------------------------------------------------------------------------------------


class Stubborn(ConnectionError):
    """An exception that lets nobody write on it, and has a repr that raises."""

    def __setattr__(self, name, value):
        if name == "resilio":
            raise TypeError("no")
        super().__setattr__(name, value)

    def __repr__(self):
        raise RuntimeError("no")

    def add_note(self, note):
        raise TypeError("no")


def test_an_exception_that_takes_no_trail_passes_as_it_is():
    """What cannot be left on it is not."""
    with pytest.raises(Stubborn), record_events(kinds=(events.Retried,)) as seen:
        at_once().call(Flaky(9, Stubborn))
    assert seen[0].error == "Stubborn(...)"


def test_the_trail_tells_attempts_waits_and_times(vt):
    """Long texts are cut; a failed result has no error."""

    def body():
        vt.advance(0.5)
        if vt.now < 2:
            raise ConnectionError("x" * 1000)

    policy = at_once(failed_if=lambda value: value is None, backoff=1.0, attempts=3)
    assert policy.call(body) is None
    with pytest.raises(ConnectionError) as caught:
        at_once(attempts=2, backoff=[0.25]).call(Flaky(9))
    trail = caught.value.resilio
    assert [(one.number, one.waited) for one in trail.attempts] == [(1, 0.25), (2, None)]
    assert trail.attempts[1].seconds == 0.25
    assert str(trail) == "2 attempts in 0.25 s, no other: attempts"
    assert caught.value.__notes__ == [f"resilio: retry: {trail}; retry_sleep 0.25"]


@pytest.mark.parametrize(
    ("fn", "args", "kwargs", "name"),
    [
        (lambda one, two: None, (1, iter([])), {}, "two"),
        (lambda one, *more: None, (1, 2, iter([])), {}, "argument 3"),
        (lambda **named: None, (), {"body": iter([])}, "body"),
        (print, (iter([]),), {}, "argument 1"),
        (int.from_bytes, (iter([]), "big"), {}, "bytes"),
        (lambda self, url: None, (iter([]), "/"), {}, None),
        (lambda one: None, ([1],), {}, None),
        (lambda one, two: None, ([1], {"file": ("name", iter([]))}), {}, "two"),
    ],
)
def test_the_argument_that_is_used_up_is_named(fn, args, kwargs, name):
    """By its parameter, or by its place; a method's own object is no argument."""
    assert name_one_shot(fn, args, kwargs) == name


class Unready(ConnectionError):
    """An error whose attributes raise, as those of clients do that were not sent yet."""

    @property
    def response(self):
        """Raise."""
        raise RuntimeError("there is no response")

    def __getattr__(self, name):
        raise RuntimeError(f"there is no {name}")


def test_an_error_whose_attributes_raise_is_retried(vt):
    """It says nothing about when to come back; and that is all that it has to do with it."""
    flaky = Flaky(9, Unready)
    with pytest.raises(Unready):
        at_once().call(flaky)
    assert flaky.calls == 3


def test_methods_of_iterators_are_retried(vt):
    """An object that can be iterated once may still have methods that can be called twice."""

    class Pages:
        calls = 0

        def __iter__(self):
            return self

        def __next__(self):
            raise StopIteration

        @at_once()
        def fetch(self):
            self.calls += 1
            if self.calls < 3:
                raise ConnectionError
            return self.calls

    assert Pages().fetch() == 3


# ---- results that are released ---------------------------------------------------------------------------------------


def test_what_cannot_be_closed_is_let_go(caplog):
    """Closing is a courtesy: what it raises is not the caller's."""

    class Broken:
        def close(self):
            raise OSError

    class Odd:
        close = None

    for kind in (Broken, Odd, object):
        assert release(kind(), False) is None
        assert at_once(failed_if=lambda value: True).try_call(kind).outcome == "failure"


@BACKENDS
def test_a_close_that_is_a_coroutine_is_awaited(vt, backend):
    """A client whose `close` is async is awaited as one with `aclose`."""
    log = []

    class Response:
        async def close(self):
            await anyio.sleep(1)
            log.append(vt.now)

    async def fetch():
        return Response()

    async def main():
        await at_once(failed_if=lambda value: True, attempts=2).acall(fetch)

    vt.run(main, backend=backend)
    assert log == [1.0]


# ---- layers ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("attempts", [1, 2, 3, 7])
def test_a_call_leaves_nothing_in_its_context(attempts):
    """
    A third attempt said anew that it is under way, and what was taken back then was only that.

    So a thread kept the policy and its budget for good, and all calls looked for retries around them.
    """
    with pytest.raises(ConnectionError):
        at_once(attempts=attempts).call(Flaky(99))
    assert variables.retry_scope.get() is None


def test_nested_functions_stand_aside():
    """A guarded function that calls another: only the outer one retries."""
    inner, outer = at_once(), at_once()
    body = Flaky(99)

    @outer
    def request():
        return inner.call(body)

    with pytest.raises(ConnectionError):
        request()
    assert body.calls == 3
    assert inner.snapshot().stopped["nested"] == 3
    assert inner.snapshot().failures == 0


def test_an_outer_retry_of_one_attempt_leaves_it_to_the_inner():
    """One that never retries is no reason to stand aside."""
    body = Flaky(2)
    assert at_once(attempts=1).call(lambda: at_once().call(body)) == 3


@BACKENDS
def test_child_tasks_of_a_second_attempt_stand_aside(vt, backend):
    """Tasks that it has started see the retry, which is not in their own chain of calls; later ones do not."""
    inner, outer = at_once(), at_once()
    body = Flaky(99)
    begun = 0

    async def fetch():
        return body()

    async def request():
        nonlocal begun
        begun += 1
        if begun == 1:
            raise ConnectionError
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(inner.acall, fetch)

    async def main():
        with pytest.raises(ExceptionGroup):
            await outer.acall(request)
        seen = body.calls
        with pytest.raises(ConnectionError):
            await inner.acall(fetch)
        return seen, body.calls - seen

    assert vt.run(main, backend=backend) == (2, 3)
    assert inner.snapshot().stopped["nested"] == 2


def test_a_child_that_outlives_the_retry_is_on_its_own(vt):
    """Once the outer call has ended, nobody waits for it."""
    inner, outer, body = at_once(), at_once(), Flaky(99)
    tasks, begun = [], 0

    async def fetch():
        await asyncio.sleep(1)
        return body()

    async def request():
        nonlocal begun
        begun += 1
        if begun == 1:
            raise ConnectionError
        tasks.append(asyncio.ensure_future(inner.acall(fetch)))
        await asyncio.sleep(0.5)

    async def main():
        await outer.acall(request)
        with pytest.raises(ConnectionError):
            await tasks[0]

    vt.run(main)
    assert body.calls == 3


def test_threads_that_carry_the_context_stand_aside_and_detached_ones_do_not(vt):
    """carry() takes the retry along; detached() leaves it."""
    inner, outer, begun = at_once(), at_once(), []
    bodies = [Flaky(99), Flaky(99)]

    def in_thread(work):
        thread = threading.Thread(target=work)
        thread.start()
        thread.join()

    def alone():
        with detached():
            inner.try_call(bodies[1])

    def request():
        begun.append(1)
        if len(begun) == 1:
            raise ConnectionError
        in_thread(carry(lambda: inner.try_call(bodies[0])))
        in_thread(carry(alone))

    outer.call(request)
    assert [body.calls for body in bodies] == [1, 3]


def test_retries_under_a_free_outer_one_pay_for_themselves(vt):
    """A retry without a budget around changes nothing for the one inside."""
    inner = at_once(budget=RetryBudget(initial=1, decay=None, reserve=0))
    outer = at_once(on=ValueError)
    assert pipeline(outer, inner).call(Flaky(1)) == 2
    assert (inner.budget.withdrawals, inner.budget.deposits) == (1, 1)


def test_a_second_attempt_pays_out_of_the_outermost_budget(vt):
    """Inside of a retry that acts, and pays, another one's successes and retries are not counted twice."""
    outer, inner = at_once(budget=RetryBudget(decay=None)), at_once(on=ValueError, budget=RetryBudget(decay=None))
    first = iter([ConnectionError, ValueError])

    def request():
        for error in first:
            raise error
        return "ok"

    assert outer.call(lambda: inner.call(request)) == "ok"
    assert (outer.budget.withdrawals, outer.budget.deposits) == (2, 1)
    assert (inner.budget.withdrawals, inner.budget.deposits) == (0, 0)


# ---- streams ---------------------------------------------------------------------------------------------------------


def test_a_stream_is_sent_to_thrown_into_and_closed(vt):
    """After the first item the consumer talks to the generator that gave it."""
    log, calls = [], 0
    policy = at_once()

    @policy
    def echo():
        nonlocal calls
        calls += 1
        if calls == 1:
            raise ConnectionError
        got = yield "ready"
        while True:
            try:
                got = yield got
            except ValueError:
                got = "caught"
            except GeneratorExit:
                log.append("closed")
                raise

    stream = echo()
    assert [next(stream), stream.send(1), stream.throw(ValueError()), stream.send(2)] == ["ready", 1, "caught", 2]
    stream.close()
    assert log == ["closed"]
    assert (policy.snapshot().ignored, policy.snapshot().retries) == (1, 1)
    assert_no_leaks(policy)


@BACKENDS
def test_an_async_stream_is_sent_to_thrown_into_and_closed(vt, backend):
    """The same on event loops."""
    log, calls = [], 0
    policy = at_once()

    @policy
    async def echo():
        nonlocal calls
        calls += 1
        if calls == 1:
            raise ConnectionError
        got = yield "ready"
        while True:
            try:
                got = yield got
            except ValueError:
                got = "caught"
            except GeneratorExit:
                log.append("closed")
                raise

    async def main():
        stream = echo()
        answers = [await anext(stream), await stream.asend(1), await stream.athrow(ValueError()), await stream.asend(2)]
        await stream.aclose()
        return answers

    assert vt.run(main, backend=backend) == ["ready", 1, "caught", 2]
    assert log == ["closed"]
    assert policy.snapshot().inflight == 0


@BACKENDS
def test_a_stream_that_is_given_up_raises_with_the_trail(vt, backend):
    """An empty stream is a success; one that fails too often raises its last error."""
    policy = at_once()

    @policy
    async def failing():
        raise ConnectionError
        yield

    @policy
    async def empty():
        return
        yield

    @policy
    def sync_failing():
        raise ConnectionError
        yield

    async def main():
        with pytest.raises(ConnectionError) as caught:
            async for _ in failing():
                pass
        assert caught.value.resilio.stop_reason == "attempts"
        assert [item async for item in empty()] == []

    vt.run(main, backend=backend)
    with pytest.raises(ConnectionError):
        list(sync_failing())
    seen = policy.snapshot()
    assert (seen.failures, seen.successes, seen.inflight) == (2, 1, 0)


def test_a_stream_of_a_used_up_argument_is_not_begun_again():
    """A generator function that was given an iterator has taken from it."""

    @at_once()
    def parse(lines):
        for line in lines:
            raise ConnectionError(line)
        yield

    with pytest.raises(ConnectionError) as caught:
        list(parse(iter("ab")))
    assert caught.value.resilio.one_shot == "lines"


def test_a_stream_takes_wrong_arguments_at_the_call():
    """As without a guard."""

    @at_once()
    def parse(lines):
        yield lines

    with pytest.raises(TypeError):
        parse()


def test_a_rejection_of_an_inner_gate_is_not_retried_in_a_stream(vt):
    """The gates of a stack stand inside: a full one rejects, and that is final."""
    pool = bulkhead(1)
    policy = at_once()

    @policy
    @pool
    def numbers():
        yield 1

    with pool.permit(), pytest.raises(BulkheadFullError):
        list(numbers())
    assert list(numbers()) == [1]
    assert policy.snapshot().ignored == 1


def test_a_stream_that_is_begun_too_late_holds_nothing(vt):
    """The deadline has passed before the first item is asked for: that raises, and no call is left inside."""
    policy = at_once()

    @policy
    def numbers():
        yield 1

    with deadline(1.0):
        stream = numbers()
        vt.advance(2.0)
        with pytest.raises(DeadlineExceededError):
            next(stream)
    counts = policy.snapshot()
    assert (counts.calls, counts.cancelled, counts.inflight) == (1, 1, 0)
    assert_no_leaks(policy)


@BACKENDS
def test_an_async_stream_that_is_begun_too_late_holds_nothing(vt, backend):
    """The same of an async one, in a task that has not suspended since."""
    policy = at_once()

    @policy
    async def numbers():
        yield 1

    async def main():
        with deadline(1.0):
            stream = numbers()
            vt.advance(2.0)
            with pytest.raises(DeadlineExceededError):
                await anext(stream)

    with contextlib.suppress(DeadlineExceededError):
        vt.run(main, backend=backend)
    assert policy.snapshot().inflight == 0
    assert_no_leaks(policy)


@BACKENDS
def test_cancelled_between_two_attempts_a_stream_gives_the_token_back(vt, backend):
    """Nothing is held, and the budget is as it was."""
    budget = RetryBudget(decay=None)
    policy = retry(on=ConnectionError, backoff=10.0, budget=budget)

    @policy
    async def failing():
        raise ConnectionError
        yield

    async def main():
        with anyio.move_on_after(1):
            async for _ in failing():
                pass

    vt.run(main, backend=backend)
    assert (budget.balance, policy.snapshot().inflight) == (3.0, 0)


def test_interrupted_between_two_attempts_a_stream_gives_the_token_back(vt, monkeypatch):
    """A Ctrl-C during the wait."""
    from resilio import _backends

    def interrupted(seconds):
        raise KeyboardInterrupt

    budget = RetryBudget(decay=None)

    @retry(on=ConnectionError, backoff=10.0, budget=budget)
    def failing():
        raise ConnectionError
        yield

    monkeypatch.setattr(_backends, "sleep", interrupted)
    with pytest.raises(KeyboardInterrupt):
        list(failing())
    assert budget.balance == 3.0


# ---- what it shows ---------------------------------------------------------------------------------------------------


def test_who_listens_hears_of_every_attempt_and_of_the_end(vt):
    """Retried with the wait before the next one, GaveUp with the reason; who does not listen costs nothing."""
    policy = retry(on=ConnectionError, backoff=[0.5, 1.0], name="payments")
    with record_events(policy) as seen, pytest.raises(ConnectionError):
        policy.call(Flaky(9))
    retried, gave_up = seen.of(events.Retried), seen.of(events.GaveUp)
    assert [(one.kind, one.name, one.attempt, one.delay, one.error) for one in retried] == [
        ("retry", "payments", 1, 0.5, "ConnectionError(1)"),
        ("retry", "payments", 2, 1.0, "ConnectionError(2)"),
    ]
    assert [(one.attempt, one.reason, one.error) for one in gave_up] == [(3, "attempts", "ConnectionError(3)")]
    assert gave_up[0].at_ns - retried[0].at_ns == 1_500_000_000
    assert seen.outcomes("payments") == {"failure": 1}
    with pytest.raises(TypeError, match="Retried, GaveUp"):
        events.subscribe(print, kinds=(int,))


def test_the_snapshot_counts_every_reason(vt):
    """A closed set of reasons."""
    policy = at_once()
    policy.try_call(Flaky(9))
    policy.try_call(Flaky(9, ValueError))
    seen = policy.snapshot()
    assert tuple(seen.stopped) == STOP_REASONS
    assert (seen.retries, seen.stopped["attempts"], seen.stopped["not_retryable"]) == (2, 1, 1)


def test_by_hand_the_attempts_of_a_call_are_counted(vt):
    """What blocks and streams are made of: it says what comes next, and why nothing does."""
    tries = Tries(at_once(attempts=2)._gate)
    assert (tries.number, tries.stop_reason) == (1, None)
    tries.leave()
    assert tries.raised(ConnectionError(), True) == 0.0
    assert tries.number == 2
    assert tries.returned(None, True) is None
    assert (tries.stop_reason, tries.counts, tries.shown) == ("attempts", True, None)
    with pytest.raises(TypeError):
        tries.raised(KeyboardInterrupt(), True)


# ---- options and processes -------------------------------------------------------------------------------------------


def test_a_call_under_way_goes_on_with_new_options(vt):
    """More attempts, another budget, another backoff: from the next failure on."""
    policy = retry(on=ConnectionError, attempts=2, backoff=0.0, name="payments")
    shared = RetryBudget(initial=5)

    def body():
        body.calls += 1
        if body.calls == 1:
            policy.reconfigure(attempts=4, backoff=1.0, budget=shared)
        raise ConnectionError

    body.calls = 0
    policy.try_call(body)
    assert (body.calls, vt.now, shared.withdrawals) == (4, 3.0, 3)
    configure({"payments": {"attempts": 1}})
    policy.try_call(body)
    assert body.calls == 5
    with pytest.raises(ValueError, match="attempts must be"):
        policy.reconfigure(attempts=0)


def test_a_budget_is_named_or_none(vt):
    """A name stands for the budget of that name; anything else is rejected."""
    assert retry(on=ConnectionError, budget="shared").budget is RetryBudget("shared")
    assert retry(on=ConnectionError, budget=None).budget is None
    own = retry(on=ConnectionError)
    assert own.budget is own.budget is not None
    with pytest.raises(TypeError, match="budget must be"):
        retry(on=ConnectionError, budget=3)


def test_between_two_tests_the_budget_starts_over(vt):
    """What one test has used up is there for the next."""
    policy = retry(on=ConnectionError, backoff=0.0)
    policy.try_call(Flaky(9))
    policy._start_over()
    assert policy.budget.balance == 3.0


def test_a_child_process_retries_on_its_own(in_child):
    """It has a budget of its own, and nothing is under way there."""
    policy = retry(on=ConnectionError, backoff=0.0)
    policy.try_call(Flaky(9))

    def look():
        return policy.snapshot().inflight, policy.call(Flaky(1))

    assert in_child(look) == (0, 2)


def test_switched_off_it_calls_once_and_without_waits_at_once(vt):
    """The switches of resilio.testing."""
    policy = retry(on=ConnectionError, backoff=60.0)
    body = Flaky(9)
    with disabled(), pytest.raises(ConnectionError):
        policy.call(body)
    assert body.calls == 1
    with no_wait():
        assert policy.call(Flaky(1)) == 2
    assert vt.now == 0.0


def test_a_dropped_call_leaves_nothing(vt):
    """A call that is garbage while it waits for its second attempt gives all back."""
    policy = retry(on=ConnectionError, backoff=full_jitter(base=5), budget=None)

    async def main():
        async def failing():
            raise ConnectionError

        call = policy.acall(failing)
        call.send(None)
        call.close()
        dropped = policy.acall(failing)
        dropped.send(None)
        del dropped
        gc.collect()

    vt.run(main)
    assert_no_leaks(policy)


def test_a_deadline_inside_of_a_retry_bounds_its_attempts_only(vt):
    """Each attempt has its own; the retry is outside, and not bound by it."""

    def body():
        with deadline(1.0):
            raise ConnectionError

    assert at_once(backoff=2.0).try_call(body).error.resilio.stop_reason == "attempts"
    assert vt.now == 4.0


def test_a_caller_without_builtins_in_its_globals_is_retried():
    """Code that was executed in a namespace of its own need not have them; what the core imports, it imports anyway."""
    script = """
import types
from resilio import retry
policy, failures = retry(on=OSError, backoff=0.001), [OSError()]
def body():
    if failures:
        raise failures.pop()
    return "ok"
code = compile("answer = policy.call(body)", "bare", "exec")
namespace = {"policy": policy, "body": body}
types.FunctionType(code, namespace)()
print(namespace["answer"], "__builtins__" in namespace)
"""
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=False)
    assert (done.stdout.split(), done.stderr) == (["ok", "False"], "")


class Unreadable(ConnectionError):
    """An error with a property that fails, as clients have them while a response is incomplete."""

    @property
    def retry_after(self) -> float:
        """Raise."""
        raise ValueError("not read yet")


@BACKENDS
@pytest.mark.parametrize(("verdict", "calls"), [("false", 1), ("true", 3), (None, 3)])
def test_an_error_that_cannot_be_read_in_part_is_still_heard(
    resilio_virtual_time, backend: str, verdict: str | None, calls: int
) -> None:
    """Its `retry_after` raises; the server's `x-should-retry: false` beside it forbids a second attempt as ever."""
    made: list[None] = []

    async def call() -> None:
        made.append(None)
        error = Unreadable("down")
        headers = {} if verdict is None else {"x-should-retry": verdict}
        error.response = SimpleNamespace(headers=headers)  # type: ignore[attr-defined]
        raise error

    async def main() -> None:
        with pytest.raises(Unreadable):
            await at_once(attempts=3).acall(call)

    resilio_virtual_time.run(main, backend=backend)
    assert len(made) == calls


@BACKENDS
def test_the_longest_pause_asked_for_in_a_group_is_kept(resilio_virtual_time, backend: str) -> None:
    """Of several errors raised together one asks for a pause, and the next attempt waits as for that one alone."""
    vt = resilio_virtual_time
    begun: list[float] = []

    async def call() -> None:
        begun.append(vt.now)
        busy = ConnectionError("busy")
        busy.retry_after = 7.0  # type: ignore[attr-defined]
        raise ExceptionGroup("both", [ConnectionError("down"), busy])

    async def main() -> None:
        with pytest.raises(ExceptionGroup):
            await at_once(attempts=2, on=ExceptionGroup).acall(call)

    vt.run(main, backend=backend)
    assert begun[1] - begun[0] >= 6.99


def test_the_trail_has_a_type():
    """`error.resilio` is an attribute that no exception declares: checkers rejected what every page showed."""
    with pytest.raises(ConnectionError) as caught:
        at_once(attempts=2).call(Flaky(9))
    assert resilio.trail_of(caught.value) is caught.value.resilio
    assert resilio.segments_of(caught.value) is caught.value.resilio_segments
    assert resilio.trail_of(OSError()) is resilio.segments_of(OSError()) is None
