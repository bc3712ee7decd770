"""The numbered scenarios of timeouts of functions that are not async: threads that may be abandoned."""

from __future__ import annotations

import contextvars
import gc
import threading
import time

import pytest

from resilio import bulkhead, circuit_breaker, deadline, pipeline, remaining, retry, timeout
from resilio._strategies import threads as pool
from resilio.errors import BulkheadFullError, CallTimeoutError, DeadlineExceededError, OverloadedError
from resilio.testing import assert_no_leaks

LONG = 30.0


@pytest.fixture
def hang():
    """A function that hangs until the test is over, or until it is let go."""
    free = threading.Event()

    def hang(answer=None, let_go=None):
        (let_go or free).wait(LONG)
        return answer

    yield hang
    free.set()


def until(condition):
    """Wait for real until another thread has done what makes `condition` true."""
    end = time.monotonic() + LONG
    while not condition():
        assert time.monotonic() < end
        time.sleep(0.001)


def test_a_function_that_hangs_is_left_alone_when_its_time_is_up(vt, hang):
    """The caller gets CallTimeoutError after 0.1 s, while the function goes on in its thread."""
    limit = timeout(0.1, thread=True, name="hangs")
    with pytest.raises(CallTimeoutError) as caught:
        limit(hang)()
    assert vt.now == pytest.approx(0.1)
    assert (caught.value.clock, caught.value.limit, caught.value.name) == ("total", 0.1, "hangs")
    assert limit.abandoned == 1
    assert_no_leaks(limit)


def test_of_two_threads_it_is_the_outer_timeout_whose_time_was_up(vt, hang, monkeypatch):
    """The inner one, which hears of it first, says that a deadline has passed; the caller gets its own timeout."""
    wait, caller = pool._wait, threading.current_thread()

    def late(job, due_ns):
        wait(job, due_ns)
        if threading.current_thread() is caller:
            until(lambda: job.done)

    monkeypatch.setattr(pool, "_wait", late)
    inner, outer = timeout(LONG, thread=True), timeout("p99", ceiling=0.05, thread=True)
    with pytest.raises(CallTimeoutError) as caught:
        outer.call(inner(hang))
    assert caught.value.limit == 0.05
    assert isinstance(caught.value.__cause__, DeadlineExceededError)
    assert outer.learned_from == 1


def test_results_and_errors_come_through():
    """What a function returns or raises in time its caller gets, and nothing is wrapped."""
    limit = timeout(LONG, thread=True)
    error = KeyError("mine")

    @limit
    def call(*args, **kwargs):
        if not args:
            raise error
        return args, kwargs, threading.current_thread()

    args, kwargs, thread = call(1, 2, a=3)
    assert (args, kwargs) == ((1, 2), {"a": 3})
    assert thread is not threading.current_thread()
    assert thread.daemon
    with pytest.raises(KeyError) as caught:
        call()
    assert caught.value is error


def test_without_thread_a_function_is_rejected_where_it_is_decorated():
    """Nothing can stop a function that is not async: TypeError at decoration, in a pipeline and in a stack as well."""

    def call():
        """Do nothing."""

    def items():
        yield 1

    for rejected, instead in ((call, "thread=True"), (items, "async generator")):
        with pytest.raises(TypeError, match=instead):
            timeout(1.0)(rejected)
        with pytest.raises(TypeError, match=instead):
            pipeline(bulkhead(1), timeout(1.0))(rejected)
        with pytest.raises(TypeError, match=instead):
            timeout(1.0)(bulkhead(1)(rejected))
    with pytest.raises(TypeError, match="thread=True"):
        timeout(1.0).call(call)


# ---- TO-01, TO-02 ----------------------------------------------------------------------------------------------------


def test_to01_the_callees_own_timeout_error_passes_unchanged():
    """TO-01: a TimeoutError that the function raises is its own."""
    error = TimeoutError("the callee's")

    @timeout(LONG, thread=True)
    def call():
        raise error

    with pytest.raises(TimeoutError) as caught:
        call()
    assert caught.value is error


def test_to02_an_error_of_one_call_does_not_hurt_the_next():
    """TO-02: the thread in which a call raised, SystemExit included, serves the next call, unharmed."""
    limit = timeout(LONG, thread=True)

    @limit
    def call(error=None):
        if error is not None:
            raise error
        return threading.get_ident()

    served_by = call()
    for error in (TimeoutError(), ValueError(), SystemExit(3), KeyboardInterrupt()):
        with pytest.raises(type(error)):
            call(error)
        assert call() == served_by


def test_to02_a_function_whose_time_is_up_runs_to_its_end(vt, hang):
    """TO-02: an abandoned function is not interrupted, and what it returns in the end is dropped."""
    steps, let_go = [], threading.Event()
    limit = timeout(0.1, thread=True)

    @limit
    def call():
        hang(let_go=let_go)
        steps.append("to the end")
        return "too late"

    with pytest.raises(CallTimeoutError):
        call()
    assert (steps, limit.abandoned) == ([], 1)
    let_go.set()
    until(lambda: limit.abandoned == 0)
    assert steps == ["to the end"]


# ---- TO-03 -----------------------------------------------------------------------------------------------------------


def test_to03_context_variables_are_there():
    """TO-03: the function sees its caller's context variables, and what it sets stays inside."""
    variable = contextvars.ContextVar("variable", default="unset")

    @timeout(LONG, thread=True)
    def call():
        seen = variable.get()
        variable.set("the function's")
        return seen

    variable.set("the caller's")
    assert call() == "the caller's"
    assert variable.get() == "the caller's"


def test_to03_the_time_left_is_the_ambient_deadline_inside(vt):
    """TO-03: `remaining()` in the function is what is left of the timeout, or of a deadline outside that is nearer."""
    call = timeout(2.0, thread=True)(remaining)
    assert call() == pytest.approx(2.0)
    with deadline(1.0):
        assert call() == pytest.approx(1.0)
    assert remaining() is None


# ---- TO-04 -----------------------------------------------------------------------------------------------------------


def test_to04_hung_calls_do_not_starve_healthy_ones(vt, hang):
    """TO-04: while many calls hang, a healthy one answers at once, through the same policy."""
    limit = timeout(0.1, thread=True)
    for _ in range(10):
        with pytest.raises(CallTimeoutError):
            limit(hang)()
    assert limit.abandoned == 10
    assert limit.call(lambda: "healthy") == "healthy"


def test_to04_abandoned_threads_are_bounded(vt, monkeypatch):
    """TO-04: with as many abandoned threads as there may be calls are rejected at once, until one has ended."""
    monkeypatch.setattr(pool, "MOST_ABANDONED", 2)
    let_go, called = threading.Event(), []
    limit = timeout(0.1, thread=True, name="bounded")
    for _ in range(2):
        with pytest.raises(CallTimeoutError):
            limit.call(let_go.wait, LONG)
    before = vt.now
    with pytest.raises(OverloadedError) as rejected:
        limit.call(called.append, 1)
    error = rejected.value
    assert (error.policy, error.name, error.reason) == ("timeout", "bounded", "abandoned_threads")
    assert (error.measured, error.limit, error.called) == (2, 2, False)
    assert (called, vt.now) == ([], before)
    let_go.set()
    until(lambda: limit.abandoned == 0)
    limit.call(called.append, 2)
    assert called == [2]


def test_to04_threads_belong_to_one_policy(vt, hang, monkeypatch):
    """TO-04: the hung calls of one policy leave another alone."""
    monkeypatch.setattr(pool, "MOST_ABANDONED", 1)
    one, other = timeout(0.1, thread=True), timeout(0.1, thread=True)
    with pytest.raises(CallTimeoutError):
        one.call(hang)
    with pytest.raises(OverloadedError):
        one.call(hang)
    assert other.call(lambda: 1) == 1


def test_idle_threads_end(monkeypatch):
    """A thread that nobody has had a call for ends by itself."""
    monkeypatch.setattr(pool, "IDLE_SECONDS", 0.01)
    thread = timeout(LONG, thread=True).call(threading.current_thread)
    thread.join(LONG)
    assert not thread.is_alive()


def test_threads_serve_calls_that_come_as_they_end(monkeypatch):
    """Calls that come just as an idle thread gives up are served, by it or by another."""
    monkeypatch.setattr(pool, "IDLE_SECONDS", 0.0)
    limit = timeout(LONG, thread=True)
    assert [limit.call(int, n) for n in range(500)] == list(range(500))


def test_many_threads_call_at_once():
    """Calls from many threads at once each get their own answer."""
    limit = timeout(LONG, thread=True)
    answers = []

    def many(first):
        answers.extend(limit.call(int, first + n) for n in range(100))

    callers = [threading.Thread(target=many, args=(100 * n,)) for n in range(8)]
    for caller in callers:
        caller.start()
    for caller in callers:
        caller.join()
    assert sorted(answers) == list(range(800))
    assert limit.snapshot().successes == 800


def test_a_forked_child_has_threads_of_its_own(vt, in_child, hang):
    """After a fork neither idle nor abandoned threads are there: the child begins with none and serves calls."""
    limit = timeout(0.5, thread=True)
    limit.call(int)
    with pytest.raises(CallTimeoutError):
        limit.call(hang)

    def child():
        return limit.call(int, 7), limit.abandoned

    assert in_child(child) == (7, 0)
    assert limit.call(int, 8) == 8


def test_a_result_is_not_kept_alive():
    """Neither an idle thread nor the policy holds what the last call returned or raised."""
    limit = timeout(LONG, thread=True)
    alive = []

    class Value:
        def __init__(self):
            alive.append(1)

        def __del__(self):
            alive.pop()

    limit.call(Value)
    until(lambda: gc.collect() >= 0 and not alive)


# ---- with others -----------------------------------------------------------------------------------------------------


def test_a_deadline_outside_that_passes_first_is_what_is_raised(vt, hang):
    """The ambient deadline ends the wait for a thread too, and is told apart from the timeout."""
    limit = timeout(1.0, thread=True)
    with pytest.raises(DeadlineExceededError), deadline(0.5):
        limit.call(hang)
    assert vt.now == pytest.approx(0.5)


@pytest.mark.parametrize("seconds", [0.5, 1.0])
def test_a_wait_inside_ends_with_the_timeout(vt, seconds):
    """A queue inside of the timeout does not eat its time silently: the wait ends with it, as a timeout."""
    permits = bulkhead(1, max_queued=1, max_wait=10.0)
    limit = timeout(seconds, thread=True)
    with permits.permit(), pytest.raises(CallTimeoutError) as caught:
        pipeline(limit, permits).call(int)
    assert caught.value.limit == seconds
    assert vt.now <= seconds + 0.001
    until(lambda: limit.abandoned == 0)
    assert permits.snapshot().queued == 0
    assert_no_leaks(permits, limit)


def test_a_users_deadline_inside_stays_what_it_is(vt):
    """DeadlineExceededError by a nearer deadline that the function sets itself passes unchanged."""
    permits = bulkhead(1, max_queued=1, max_wait=10.0)

    @timeout(1.0, thread=True)
    def call():
        with deadline(0.2):
            permits.acquire()

    with permits.permit(), pytest.raises(DeadlineExceededError) as caught:
        call()
    assert caught.value.deadline == 0.2


def test_rejections_inside_pass(vt):
    """A gate inside that rejects is no timeout."""
    permits = bulkhead(1)
    with permits.permit(), pytest.raises(BulkheadFullError):
        pipeline(timeout(1.0, thread=True), permits).call(int)


def test_gates_inside_learn_a_failure_from_an_abandoned_call(vt, hang):
    """A breaker inside keeps the permit until the function ends, and then counts a failure whatever it returned."""
    breaker, let_go = circuit_breaker(), threading.Event()
    limit = timeout(0.1, thread=True)
    with pytest.raises(CallTimeoutError):
        pipeline(limit, breaker).call(hang, "too late", let_go)
    assert breaker.snapshot().inflight == 1
    let_go.set()
    until(lambda: breaker.snapshot().inflight == 0)
    assert (breaker.snapshot().failures, breaker.snapshot().successes) == (1, 0)


def test_a_retry_inside_of_an_abandoned_call_stops(vt):
    """When nobody waits any more, a retry inside makes no further attempts."""
    calls, let_go = [], threading.Event()
    limit = timeout(0.1, thread=True)

    @pipeline(limit, retry(on=ConnectionError, attempts=5, backoff=0.0))
    def call():
        calls.append(1)
        let_go.wait(LONG)
        raise ConnectionError

    with pytest.raises(CallTimeoutError):
        call()
    let_go.set()
    until(lambda: limit.abandoned == 0)
    assert len(calls) == 1


def test_a_retry_outside_tries_again_in_another_thread(vt):
    """A retry around the timeout makes its attempts, each with its own time."""
    calls, free = [], threading.Event()
    limit = timeout(0.1, thread=True)

    @pipeline(retry(on=TimeoutError, attempts=3, backoff=0.0), limit)
    def call():
        calls.append(threading.get_ident())
        if len(calls) < 3:
            free.wait(LONG)
        return "third"

    assert call() == "third"
    assert len(set(calls)) == 3
    free.set()


def test_try_call_gives_a_result(vt, hang):
    """`try_call` tells of a timeout without raising."""
    result = timeout(0.1, thread=True).try_call(hang)
    assert not result
    assert result.outcome == "failure"
    assert isinstance(result.error, CallTimeoutError)
