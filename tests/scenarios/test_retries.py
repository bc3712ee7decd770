"""The numbered scenarios of retries: what others got wrong, one promise each; in threads, on asyncio and on trio."""

from __future__ import annotations

import contextlib
import gc
import io
import weakref
from collections import Counter
from collections.abc import Callable
from datetime import timedelta
from typing import Any

import anyio
import anyio.lowlevel
import pytest

from resilio import (
    BulkheadFullError,
    RetryBudget,
    bulkhead,
    constant,
    current,
    deadline,
    fallback,
    full_jitter,
    pipeline,
    retry,
    timeout,
)
from resilio.testing import assert_no_leaks, record_events, seeded

MODES = pytest.mark.parametrize("mode", ["threads", "asyncio", "trio"])
BACKENDS = pytest.mark.parametrize("backend", ["asyncio", "trio"])


def call(vt: Any, mode: str, policy: Any, body: Callable[..., Any], *args: Any) -> Any:
    """Call *body* through *policy*: as it is, or as an async function."""
    if mode == "threads":
        return policy.call(body, *args)

    async def asynchronous(*args: Any) -> Any:
        return body(*args)

    async def main() -> Any:
        return await policy.acall(asynchronous, *args)

    return vt.run(main, backend=mode)


class Failing:
    """A body that raises what it is given, one after another, and then returns the number of its calls."""

    def __init__(self, *errors: BaseException) -> None:
        self.errors = list(errors)
        self.calls = 0

    def __call__(self) -> int:
        self.calls += 1
        if self.errors:
            raise self.errors.pop(0)
        return self.calls


class SaysWhen(ConnectionError):
    """An error of an HTTP client, more or less."""

    def __init__(self, **headers: str) -> None:
        super().__init__("503")
        self.headers = headers


# ---- RT-01: cancellation ---------------------------------------------------------------------------------------------


@BACKENDS
def test_rt01_a_cancellation_passes_after_one_attempt(vt, backend):
    """RT-01: whatever the predicate says, a cancelled call is not tried again, and ends cancelled."""
    calls = 0

    @retry(on=lambda error: True, attempts=5)
    async def fetch():
        nonlocal calls
        calls += 1
        await anyio.sleep(10)

    async def main():
        with anyio.move_on_after(1) as scope:
            await fetch()
        assert scope.cancelled_caught

    vt.run(main, backend=backend)
    assert (calls, vt.now) == (1, pytest.approx(1.0))


@BACKENDS
def test_rt01_a_cancellation_ends_the_sleep_and_gives_the_token_back(vt, backend):
    """RT-01: cancelled while it waits, a call makes no other attempt and has taken nothing out of the budget."""
    budget, body = RetryBudget(), Failing(ConnectionError(), ConnectionError())
    policy = retry(on=ConnectionError, backoff=10.0, budget=budget)

    async def fetch():
        return body()

    async def main():
        with anyio.move_on_after(1):
            await policy.acall(fetch)

    vt.run(main, backend=backend)
    assert (body.calls, budget.balance) == (1, pytest.approx(3.0, rel=0.05))
    assert policy.snapshot().ignored == 1
    assert_no_leaks(policy)


@MODES
@pytest.mark.parametrize("error", [KeyboardInterrupt, SystemExit, GeneratorExit])
def test_rt01_what_ends_a_program_is_not_retried(vt, mode, error):
    """RT-01: KeyboardInterrupt and its like end the first attempt and pass."""
    body = Failing(error())
    with pytest.raises(BaseException) as caught:
        call(vt, mode, retry(on=lambda error: True), body)
    assert body.calls == 1
    assert isinstance(caught.value, (error, RuntimeError))


# ---- RT-02: a deadline is a bound ------------------------------------------------------------------------------------


@MODES
def test_rt02_no_attempt_starts_after_the_deadline(vt, mode):
    """RT-02: a wait that would end too late does not begin; the last real error is raised at once."""
    policy = retry(on=ConnectionError, attempts=None, backoff=0.3, budget=None)

    def body():
        raise ConnectionError(vt.now)

    def bounded():
        with deadline(1.0):
            return policy.call(body)

    async def asynchronous():
        async def failing():
            body()

        async with deadline(1.0):
            await policy.acall(failing)

    with pytest.raises(ConnectionError) as caught:
        bounded() if mode == "threads" else vt.run(asynchronous, backend=mode)
    assert vt.now == pytest.approx(0.9)
    assert caught.value.resilio.stop_reason == "deadline"
    assert [attempt.number for attempt in caught.value.resilio.attempts] == [1, 2, 3, 4]


@MODES
def test_rt02_what_usually_takes_longer_than_is_left_is_not_begun(vt, mode):
    """RT-02: the wait and the median of successes must fit into what is left."""
    policy = retry(on=ConnectionError, backoff=0.1, budget=None)

    def work(fails: bool):
        vt.advance(0.5)
        if fails:
            raise ConnectionError

    for _ in range(20):
        policy.call(work, False)
    begun = vt.now
    with deadline(1.05), pytest.raises(ConnectionError) as caught:
        policy.call(work, True)
    assert vt.now - begun == pytest.approx(0.5)
    assert caught.value.resilio.stop_reason == "deadline"


# ---- RT-03: streams --------------------------------------------------------------------------------------------------


def test_rt03_a_generator_is_retried_before_its_first_item(vt):
    """RT-03: nobody has seen anything of an attempt that fails before the first item."""
    attempts = 0

    @retry(on=ConnectionError, backoff=0.5)
    def numbers(count):
        nonlocal attempts
        attempts += 1
        if attempts < 3:
            raise ConnectionError
        yield from range(count)
        return "end"

    def consume():
        return (yield from numbers(3))

    assert list(numbers(3)) == [0, 1, 2]
    assert (attempts, vt.now) == (3, 1.0)
    assert list(consume()) == [0, 1, 2]


@BACKENDS
def test_rt03_an_async_generator_is_retried_before_its_first_item(vt, backend):
    """RT-03: the same for async generators, through the gates of a stack, which let go before the wait."""
    attempts, held = 0, []
    pool = bulkhead(1)
    policy = retry(on=ConnectionError, backoff=0.5)

    @policy
    @pool
    async def numbers(count):
        nonlocal attempts
        attempts += 1
        held.append(pool.used)
        await anyio.lowlevel.checkpoint()
        if attempts < 3:
            raise ConnectionError
        for number in range(count):
            yield number

    async def main():
        items = [item async for item in numbers(3)]
        assert pool.used == 0
        return items

    assert vt.run(main, backend=backend) == [0, 1, 2]
    assert (attempts, vt.now, held) == (3, 1.0, [1, 1, 1])
    seen = policy.snapshot()
    assert (seen.successes, seen.failures, seen.retries) == (1, 0, 2)
    assert pool.snapshot().failures == 2


@MODES
def test_rt03_after_the_first_item_nothing_is_retried(vt, mode):
    """RT-03: an item is never seen twice; the failure passes."""
    attempts = 0
    policy = retry(on=ConnectionError)

    @policy
    def numbers():
        nonlocal attempts
        attempts += 1
        yield 1
        raise ConnectionError

    @policy
    async def later():
        for number in numbers.__wrapped__():
            yield number

    async def consume():
        async for item in later():
            seen.append(item)  # noqa: PERF401 - it raises in between

    seen = []
    with pytest.raises(ConnectionError):
        seen.extend(numbers()) if mode == "threads" else vt.run(consume, backend=mode)
    assert attempts == 1
    assert seen in ([], [1])
    assert policy.snapshot().failures == 1


# ---- RT-04: strange errors and parameters ----------------------------------------------------------------------------


@MODES
def test_rt04_errors_that_cause_each_other_are_no_trap(vt, mode):
    """RT-04: a cycle of causes changes nothing."""
    one, two = ConnectionError("one"), ConnectionError("two")
    one.__cause__, two.__cause__ = two, one
    body = Failing(one, two)
    assert call(vt, mode, retry(on=ConnectionError), body) == 3


@MODES
def test_rt04_of_a_group_all_must_be_what_is_retried(vt, mode):
    """RT-04: a group with one error of another kind is not tried again."""
    good = ExceptionGroup("", [ConnectionError(), ExceptionGroup("", [ConnectionError()])])
    bad = ExceptionGroup("", [ConnectionError(), ExceptionGroup("", [ValueError()])])
    body = Failing(good, bad)
    with pytest.raises(ExceptionGroup) as caught:
        call(vt, mode, retry(on=ConnectionError), body)
    assert body.calls == 2
    assert caught.value.resilio.stop_reason == "not_retryable"


@pytest.mark.untraced  # others trace the same lines in less time
@MODES
def test_rt04_thousands_of_attempts_neither_overflow_nor_grow(vt, mode):
    """RT-04: exponential waits stay at their cap, and attempts at once do not pile up on the stack."""
    policy = retry(on=ConnectionError, attempts=None, backoff=0.0, budget=None)
    assert call(vt, mode, policy, Failing(*(ConnectionError() for _ in range(20_000)))) == 20_001
    policy = retry(on=ConnectionError, attempts=None, backoff=full_jitter(base=1, cap=1), budget=None)
    assert call(vt, mode, policy, Failing(*(ConnectionError() for _ in range(1200)))) == 1201


@pytest.mark.parametrize("value", [float("nan"), float("inf"), True, -1, 0, "3"])
def test_rt04_bad_attempts_are_rejected(value):
    """RT-04: NaN, infinity, bool, zero, negative and text."""
    with pytest.raises((TypeError, ValueError), match="attempts must be"):
        retry(on=ConnectionError, attempts=value)


@pytest.mark.parametrize("value", [float("nan"), float("inf"), True, -1, "3", [], [float("nan")], full_jitter])
def test_rt04_bad_backoffs_are_rejected(value):
    """RT-04: the same for waits; a backoff that was not called yet is told so."""
    with pytest.raises((TypeError, ValueError), match="backoff must be"):
        retry(on=ConnectionError, backoff=value)


# ---- RT-05: what may be run twice ------------------------------------------------------------------------------------


@MODES
def test_rt05_only_what_was_named_is_retried(vt, mode):
    """RT-05: there is no default for `on`; another error passes after one attempt."""
    with pytest.raises(TypeError, match=r"retry needs on, like .*: on must be"):
        retry()  # type: ignore[call-overload]
    body = Failing(ValueError("no such thing"))
    with pytest.raises(ValueError, match="no such thing") as caught:
        call(vt, mode, retry(on=ConnectionError), body)
    assert (body.calls, caught.value.resilio.stop_reason) == (1, "not_retryable")


def use_up(body: Any) -> None:
    """Read all that can be read in a body."""
    if isinstance(body, (dict, list, tuple)):
        for part in body.values() if isinstance(body, dict) else body:
            use_up(part)
    elif not isinstance(body, (str, bytes)):
        list(body)


@MODES
@pytest.mark.parametrize(
    "stream",
    [
        iter([1]),
        (one for one in [1]),
        io.StringIO("a file"),
        {"file": io.BytesIO(b"a file")},
        {"file": ("name.txt", io.BytesIO(b"a file"), "text/plain")},
        [("file", io.BytesIO(b"a file"))],
        (b"head", iter([b"tail"])),
    ],
)
def test_rt05_a_body_that_is_used_up_is_never_sent_empty(vt, mode, stream):
    """RT-05: an argument that one attempt uses up is rejected for a second one, and named."""
    calls = 0

    def send(url, body):
        nonlocal calls
        calls += 1
        use_up(body)
        raise ConnectionError

    with pytest.raises(ConnectionError) as caught:
        if mode == "threads":
            retry(on=ConnectionError)(send)("/", body=stream)
        else:
            call(vt, mode, retry(on=ConnectionError), send, "/", stream)
    assert calls == 1
    trail = caught.value.resilio
    assert trail.stop_reason == "not_replayable"
    assert trail.one_shot == ("body" if mode == "threads" else "argument 2")
    assert "can be used only once" in caught.value.__notes__[0]


@MODES
def test_rt05_containers_that_can_be_read_again_are_sent_again(vt, mode):
    """RT-05: lists and dicts are looked into, and what can be read again, or holds itself, is no reason to reject."""
    ring: list[Any] = []
    ring.append(ring)
    for body in ({"a": [1, (2, {})]}, [b"x"] * 100, ring):
        calls: list[Any] = []

        def send(content: Any, calls: list[Any] = calls) -> None:
            calls.append(content)
            raise ConnectionError

        with pytest.raises(ConnectionError):
            call(vt, mode, retry(on=ConnectionError, backoff=0.0), send, body)
        assert calls == [body] * 3


# ---- RT-06: bounded by default ---------------------------------------------------------------------------------------


@MODES
def test_rt06_the_defaults_are_bounded_and_jittered(vt, mode):
    """RT-06: three attempts, waits that differ and add up to little; bare use says what to write."""
    with pytest.raises(TypeError, match="@retry\\(on=ConnectionError\\)"):
        retry(lambda: None)  # type: ignore[call-arg]
    waits = []
    for _ in range(5):
        body = Failing(*(ConnectionError() for _ in range(10)))
        with pytest.raises(ConnectionError) as caught:
            call(vt, mode, retry(on=ConnectionError), body)
        assert body.calls == 3
        waits += [attempt.waited for attempt in caught.value.resilio.attempts[:-1]]
    assert len(set(waits)) == 10
    assert max(waits) <= 0.2


# ---- RT-07: Retry-After ----------------------------------------------------------------------------------------------


@MODES
@pytest.mark.parametrize(
    ("headers", "wait"),
    [
        ({"retry-after": "2"}, 2.0),
        ({"retry-after-ms": "1500"}, 1.5),
        ({"retry-after": "Wed, 21 Oct 2015 07:28:05 GMT", "date": "Wed, 21 Oct 2015 07:28:00 GMT"}, 5.0),
    ],
)
def test_rt07_never_earlier_than_asked(vt, mode, headers, wait):
    """RT-07: seconds, milliseconds and dates are waited for, however short the backoff is, and up to as long again."""
    assert call(vt, mode, retry(on=ConnectionError, backoff=0.1), Failing(SaysWhen(**headers))) == 2
    assert wait <= vt.now <= 2 * wait


@pytest.mark.parametrize("backoff", [0.0, 0.01, full_jitter(0.1)])
def test_rt07_callers_that_were_told_the_same_do_not_return_at_once(vt, backoff):
    """RT-07: 30 callers told half a second came back within a millisecond: the next outage of that server."""
    returned = []

    async def caller():
        async def body():
            if not tries:
                tries.append(vt.now)
                raise SaysWhen(**{"retry-after": "0.5"})
            returned.append(vt.now)

        tries = []
        await policy.acall(body)

    async def main():
        async with anyio.create_task_group() as group:
            for _ in range(400):
                group.start_soon(caller)

    policy = retry(on=ConnectionError, backoff=backoff, budget=None)
    with seeded(7):
        vt.run(main)
    assert len(returned) == 400
    assert min(returned) >= 0.5
    assert max(returned) <= 1.0
    tenths = Counter(int((moment - 0.5) * 20) for moment in returned)  # of the half second that they spread over
    assert all(20 <= tenths[tenth] <= 65 for tenth in range(10))


@MODES
@pytest.mark.parametrize("asked", [0.5, 0.9])
def test_rt07_the_share_is_what_cap_and_deadline_leave(vt, mode, asked):
    """RT-07: the spread never asks for more time than there is, and never takes from what was asked for."""
    for policy, left in ((retry(on=ConnectionError, backoff=0.0, max_retry_after=1.0), None),
                         (retry(on=ConnectionError, backoff=0.0), 1.0)):  # fmt: skip
        began = vt.now
        with contextlib.nullcontext() if left is None else deadline(left):
            assert call(vt, mode, policy, Failing(SaysWhen(**{"retry-after": str(asked)}))) == 2
        assert asked <= vt.now - began <= 1.0


def test_rt07_the_spread_repeats_with_its_seed(vt):
    """RT-07: it is drawn where backoffs draw, so a seed makes it the same in every run."""

    def waits():
        began = vt.now
        call(vt, "threads", retry(on=ConnectionError, backoff=0.0), Failing(SaysWhen(**{"retry-after": "2"})))
        return vt.now - began

    with seeded(5):
        first = waits()
    with seeded(5):
        assert waits() == pytest.approx(first)
    assert 2.0 < first < 4.0


@MODES
def test_rt07_a_longer_backoff_is_kept(vt, mode):
    """RT-07: Retry-After is the least to wait, not the most."""
    call(vt, mode, retry(on=ConnectionError, backoff=3.0), Failing(SaysWhen(**{"retry-after": "1"})))
    assert vt.now == pytest.approx(3.0)


@MODES
@pytest.mark.parametrize("said", ["61", "1e300"])
def test_rt07_what_asks_for_too_long_is_given_up_at_once(vt, mode, said):
    """RT-07: beyond the cap the call fails now, and the error says how long was asked for."""
    body = Failing(SaysWhen(**{"retry-after": said}))
    with pytest.raises(SaysWhen) as caught:
        call(vt, mode, retry(on=ConnectionError), body)
    assert (body.calls, vt.now) == (1, 0.0)
    assert caught.value.resilio.stop_reason == "retry_after"
    assert caught.value.resilio.retry_after == 61 or said != "61"


@MODES
def test_rt07_what_asks_for_more_than_the_deadline_is_given_up_at_once(vt, mode):
    """RT-07: the same for what is left of a deadline."""
    with deadline(1.0), pytest.raises(SaysWhen) as caught:
        call(vt, mode, retry(on=ConnectionError), Failing(SaysWhen(**{"retry-after": "2"})))
    assert (caught.value.resilio.stop_reason, caught.value.resilio.retry_after) == ("retry_after", 2.0)


@MODES
def test_rt07_x_should_retry_forbids(vt, mode):
    """RT-07: a server that says that a retry is of no use is believed."""
    body = Failing(SaysWhen(**{"x-should-retry": "false"}))
    with pytest.raises(SaysWhen):
        call(vt, mode, retry(on=ConnectionError), body)
    assert body.calls == 1


# ---- RT-08: one budget -----------------------------------------------------------------------------------------------


@MODES
def test_rt08_functions_that_name_one_budget_share_it(vt, mode):
    """RT-08: what one function has used up is missing for the other; the last error says so."""
    RetryBudget("shared", initial=2, cap=2)
    first, second = (retry(on=ConnectionError, attempts=4, backoff=0.0, budget=RetryBudget("shared", initial=2, cap=2))
                     for _ in range(2))  # fmt: skip
    with pytest.raises(ConnectionError):
        call(vt, mode, first, Failing(*(ConnectionError() for _ in range(9))))
    body = Failing(ConnectionError("the second"))
    with pytest.raises(ConnectionError, match="the second") as caught:
        call(vt, mode, second, body)
    assert (body.calls, caught.value.resilio.stop_reason) == (1, "budget")
    assert first.budget is second.budget


@MODES
def test_rt08_nested_retries_do_not_multiply(vt, mode):
    """RT-08: of three layers only the outermost retries, and a success pays in once."""
    budgets = [RetryBudget(decay=None) for _ in range(3)]
    layers = [retry(on=ConnectionError, backoff=0.0, budget=budget) for budget in budgets]
    calls = 0

    def body():
        nonlocal calls
        calls += 1
        raise ConnectionError

    outer, middle, inner = layers
    nested = pipeline(outer, middle, inner)
    with pytest.raises(ConnectionError) as caught:
        call(vt, mode, nested, body)
    assert calls == 3
    assert [budget.balance for budget in budgets] == [1.0, 3.0, 3.0]
    assert caught.value.resilio.stop_reason == "attempts"
    assert inner.snapshot().stopped["nested"] + middle.snapshot().stopped["nested"] == 6
    call(vt, mode, nested, int)
    assert [round(budget.balance, 6) for budget in budgets] == [1.1, 3.0, 3.0]


@MODES
def test_rt08_an_inner_retry_stands_aside_only_for_what_the_outer_retries(vt, mode):
    """RT-08: what the outer one would not try again is the inner one's, out of the outer one's budget."""
    outer = retry(on=ValueError, backoff=0.0, budget=RetryBudget(decay=None))
    inner = retry(on=ConnectionError, backoff=0.0, budget=RetryBudget(decay=None))
    body = Failing(ConnectionError(), ConnectionError())
    assert call(vt, mode, pipeline(outer, inner), body) == 3
    assert (outer.snapshot().retries, inner.snapshot().retries) == (0, 2)
    assert (outer.budget.withdrawals, inner.budget.withdrawals) == (2, 0)
    assert (outer.budget.deposits, inner.budget.deposits) == (1, 0)


@BACKENDS
@pytest.mark.parametrize("shape", ["call", "second attempt", "block"])
def test_rt08_tasks_pay_in_once_with_a_retry_that_they_can_know(vt, backend, shape):
    """RT-08: tasks of a first attempt are on their own; those of a second one, and of a block, belong to its call."""
    shared = RetryBudget(decay=None)
    outer, inner = (retry(on=ConnectionError, backoff=0.0, budget=shared) for _ in range(2))
    attempts = 0

    @inner
    async def part():
        return 1

    async def fan_out():
        nonlocal attempts
        attempts += 1
        if shape == "second attempt" and attempts == 1:
            raise ConnectionError
        async with anyio.create_task_group() as tasks:
            for _ in range(10):
                tasks.start_soon(part)

    async def main():
        if shape != "block":
            await outer(fan_out)()
            return
        async for attempt in outer.retrying():
            with attempt:
                await fan_out()

    vt.run(main, backend=backend)
    assert shared.deposits == (11 if shape == "call" else 1)


# ---- RT-09: the failed result is released ----------------------------------------------------------------------------


class Response:
    """Holds a connection until it is closed."""

    def __init__(self, status: int, log: list[Any]) -> None:
        self.status = status
        self.log = log

    def close(self) -> None:
        self.log.append(self.status)


class AsyncResponse(Response):
    """The same, closed by a coroutine, which may fail."""

    def close(self) -> None:
        raise RuntimeError("a response of an async client")

    async def aclose(self) -> None:
        await anyio.sleep(0.25)
        self.log.append(self.status)
        if self.status == 502:
            raise OSError("already gone")


def failed(response: Any) -> bool:
    return response.status >= 500


@MODES
def test_rt09_a_failed_response_is_closed_before_the_wait(vt, mode):
    """RT-09: the connection is free while the retry waits; the last response is returned as it is."""
    log, statuses = [], iter([503, 502, 500])
    policy = retry(on=ConnectionError, failed_if=failed, backoff=1.0)
    answer = call(vt, mode, policy, lambda: Response(next(statuses), log))
    assert (answer.status, log, vt.now) == (500, [503, 502], 2.0)
    assert policy.snapshot().stopped["attempts"] == 1


@BACKENDS
def test_rt09_a_response_that_closes_asynchronously_is_awaited(vt, backend):
    """RT-09: with nothing held meanwhile; what its closing raises is nobody's business."""
    log, statuses, pool = [], iter([503, 502, 200]), bulkhead(1)
    policy = pipeline(retry(on=ConnectionError, failed_if=failed, backoff=1.0), pool)

    async def fetch():
        return AsyncResponse(next(statuses), log)

    async def watch():
        await anyio.sleep(0.1)
        assert pool.used == 0

    async def main():
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(watch)
            return (await policy.acall(fetch)).status

    assert vt.run(main, backend=backend) == 200
    assert (log, vt.now) == ([503, 502], 2.0)


@BACKENDS
def test_rt09_cancelled_while_it_closes_the_call_ends_cancelled(vt, backend):
    """RT-09: the closing of a response is part of the call."""
    log = []
    policy = retry(on=ConnectionError, failed_if=failed)

    async def fetch():
        return AsyncResponse(503, log)

    async def main():
        with anyio.move_on_after(0.1) as scope:
            await policy.acall(fetch)
        assert scope.cancelled_caught

    vt.run(main, backend=backend)
    assert (log, policy.snapshot().inflight) == ([], 0)


# ---- RT-10: nothing is shared, nothing is left -----------------------------------------------------------------------


@BACKENDS
def test_rt10_concurrent_calls_count_their_own_attempts(vt, backend):
    """RT-10: a call of one attempt beside one of four says one."""
    seen: dict[str, list[int]] = {"slow": [], "quick": []}
    policy = retry(on=ConnectionError, attempts=4, backoff=1.0)

    async def fetch(name, failures):
        seen[name].append(current().attempt)
        await anyio.sleep(0.1)
        if len(seen[name]) <= failures:
            raise ConnectionError

    async def main():
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(policy.acall, fetch, "slow", 3)
            await anyio.sleep(1.5)
            tasks.start_soon(policy.acall, fetch, "quick", 0)

    vt.run(main, backend=backend)
    assert seen == {"slow": [1, 2, 3, 4], "quick": [1]}


@MODES
@pytest.mark.parametrize("ends_well", [True, False])
def test_rt10_no_cycle_keeps_an_exception(vt, mode, ends_well):
    """RT-10: with the collector off, the errors and their frames go with the call."""
    policy, alive = retry(on=ConnectionError, backoff=0.0, budget=None), []

    class Kept(ConnectionError):
        def __init__(self):
            alive.append(weakref.ref(self))

    def body():
        if not ends_well or len(alive) < 2:
            raise Kept

    gc.collect()
    gc.disable()
    try:
        if mode == "threads":
            policy.try_call(body)
        else:

            async def asynchronous():
                return body()

            async def main():
                with contextlib.suppress(Kept):
                    await policy.acall(asynchronous)

            vt.run(main, backend=mode)
        if mode == "trio":
            gc.collect()  # trio's own
        assert [reference() for reference in alive] == [None] * len(alive)
    finally:
        gc.enable()


# ---- RT-11: the permit while it waits --------------------------------------------------------------------------------


@MODES
def test_rt11_inner_permits_are_free_during_the_wait_and_a_rejection_reaches_the_fallback(vt, mode):
    """RT-11: who takes the place meanwhile keeps it; the call falls back, with the dependency's own error."""
    pool = bulkhead(1, name="pool")
    stolen, errors = [], []

    def steal(attempt):
        stolen.append(pool.acquire())
        return 0.5

    inner = retry(on=ConnectionError, backoff=steal, name="retry")
    stack = pipeline(fallback(on=Exception, handler=lambda error: errors.append(error) or "fallback"), inner, pool)
    with record_events() as events:
        assert call(vt, mode, stack, Failing(ConnectionError("refused by the peer"))) == "fallback"
    assert [str(error) for error in errors] == ["refused by the peer"]
    assert errors[0].resilio.stop_reason == "rejected"
    assert isinstance(errors[0].__notes__, list)
    assert events.reasons("pool") == {"full": 1}
    assert inner.budget.balance == pytest.approx(3.0, rel=0.02)  # the token of an attempt that was not made
    stolen[0].success()
    assert pool.used == 0


@MODES
def test_rt11_a_rejection_is_retried_only_if_it_is_named(vt, mode):
    """RT-11: by default a rejection is final, also for `on=Exception`; by its class it is tried again."""
    pool = bulkhead(1)
    with pool.permit():
        for on, retries in ((Exception, 0), (BulkheadFullError, 2)):
            policy = retry(on=on, backoff=0.1)
            with pytest.raises(BulkheadFullError):
                call(vt, mode, pipeline(policy, pool), int)
            assert policy.snapshot().retries == retries


# ---- RT-12: clocks and loops -----------------------------------------------------------------------------------------


def test_rt12_trios_own_virtual_clock_is_slept_by():
    """RT-12: under trio's MockClock a wait of an hour takes no time."""
    import trio
    import trio.testing

    body = Failing(ConnectionError(), ConnectionError())
    policy = retry(on=ConnectionError, backoff=constant(timedelta(hours=1)), budget=None)

    async def fetch():
        return body()

    async def main():
        begun = trio.current_time()
        assert await policy.acall(fetch) == 3
        return trio.current_time() - begun

    took = trio.run(main, clock=trio.testing.MockClock(autojump_threshold=0))
    assert took == pytest.approx(7200, abs=60)  # a wait is shorter by the real time since its failure


@MODES
def test_rt12_waits_and_deadlines_are_of_one_virtual_clock(vt, mode):
    """RT-12: after a hundred virtual seconds a deadline of ten has passed."""
    policy = retry(on=ConnectionError, backoff=100.0, budget=None)
    with deadline(10.0), pytest.raises(ConnectionError):
        call(vt, mode, policy, Failing(ConnectionError(), ConnectionError()))
    assert vt.now == 0.0
    assert call(vt, mode, policy, Failing(ConnectionError())) == 2
    assert vt.now == 100.0


@BACKENDS
def test_rt12_a_timeout_of_each_attempt_is_retried(vt, backend):
    """RT-12: the timeout inside bounds an attempt, the retry tries again."""
    calls = 0

    async def fetch():
        nonlocal calls
        calls += 1
        await anyio.sleep(0.2 if calls == 3 else 5)
        return calls

    async def main():
        return await pipeline(retry(on=TimeoutError, backoff=0.0), timeout(1.0)).acall(fetch)

    assert vt.run(main, backend=backend) == 3
    assert vt.now == pytest.approx(2.2)


def test_rt12_a_thread_that_runs_a_loop_is_not_put_to_sleep(vt):
    """RT-12: a sync function in a coroutine is not retried after a wait, which would stop the loop; at once it is."""
    sleepy, quick = (retry(on=ConnectionError, backoff=wait) for wait in (1.0, 0.0))

    async def main():
        body = Failing(ConnectionError())
        with pytest.raises(ConnectionError) as caught:
            sleepy.call(body)
        assert caught.value.resilio.stop_reason == "would_block"
        with pytest.raises(ConnectionError):
            for attempt in sleepy.retrying():
                with attempt:
                    Failing(ConnectionError())()
        assert quick.call(Failing(ConnectionError())) == 2

    vt.run(main)
