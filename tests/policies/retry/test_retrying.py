"""What blocks that are run again promise: as much as functions that are retried."""

from __future__ import annotations

import gc
import sys
from contextlib import nullcontext
from contextvars import copy_context
from typing import Any

import anyio
import anyio.lowlevel
import pytest

from resilio import RetryBudget, constant, deadline, retry, retrying
from resilio._context import variables
from resilio.testing import assert_no_leaks, disabled, no_wait

BACKENDS = pytest.mark.parametrize("backend", ["asyncio", "trio"])


def block(policy: Any, failures: int, error: type[Exception] = ConnectionError) -> int:
    """Run a block that fails so many times; return the number of the attempt that did not."""
    for attempt in policy.retrying():
        with attempt:
            if attempt.number <= failures:
                raise error(attempt.number)
            return attempt.number
    raise AssertionError("a loop ends by a return or an exception")


async def ablock(policy: Any, failures: int, error: type[Exception] = ConnectionError) -> int:
    """The same with async for."""
    async for attempt in policy.retrying():
        with attempt:
            await anyio.lowlevel.checkpoint()
            if attempt.number <= failures:
                raise error(attempt.number)
            return attempt.number
    raise AssertionError("a loop ends by a return or an exception")


@pytest.mark.parametrize("mode", ["threads", "asyncio", "trio"])
class TestInEveryPlace:
    """In threads, on asyncio and on trio."""

    def run(self, vt, mode, *args):
        return block(*args) if mode == "threads" else vt.run(ablock, *args, backend=mode)

    def test_a_block_is_run_until_it_succeeds(self, vt, mode):
        """With the waits of the backoff, one withdrawal for each retry and one deposit."""
        policy = retry(on=ConnectionError, backoff=0.5, budget=RetryBudget(decay=None))
        assert self.run(vt, mode, policy, 2) == 3
        assert vt.now == 1.0
        assert (policy.budget.withdrawals, policy.budget.deposits) == (2, 1)
        seen = policy.snapshot()
        assert (seen.calls, seen.successes, seen.retries, seen.inflight) == (1, 1, 2, 0)

    def test_the_last_error_passes_with_the_trail(self, vt, mode):
        """As from a function."""
        policy = retry(on=ConnectionError)
        with pytest.raises(ConnectionError, match="3") as caught:
            self.run(vt, mode, policy, 9)
        assert caught.value.resilio.stop_reason == "attempts"
        assert len(caught.value.resilio.attempts) == 3
        assert policy.snapshot().failures == 1

    def test_another_error_passes_at_once(self, vt, mode):
        """What was not named is not retried."""
        with pytest.raises(ValueError, match="1"):
            self.run(vt, mode, retry(on=ConnectionError), 9, ValueError)

    def test_a_deadline_is_a_bound(self, vt, mode):
        """A wait that ends too late does not begin."""
        policy = retry(on=ConnectionError, backoff=2.0)
        with deadline(1.0), pytest.raises(ConnectionError) as caught:
            self.run(vt, mode, policy, 9)
        assert caught.value.resilio.stop_reason == "deadline"
        assert vt.now == 0.0

    def test_switched_off_it_runs_once(self, vt, mode):
        """And without waits, at once."""
        policy = retry(on=ConnectionError, backoff=60.0)
        with disabled(), pytest.raises(ConnectionError, match="1"):
            self.run(vt, mode, policy, 9)
        with no_wait():
            assert self.run(vt, mode, policy, 1) == 2
        assert vt.now == 0.0


class Response:
    """A result that is a failure, or not, and has to be closed."""

    def __init__(self, status: int, log: list[int]) -> None:
        self.status, self.log = status, log

    def close(self) -> None:
        self.log.append(self.status)


class AsyncResponse(Response):
    """Closed by a coroutine."""

    async def aclose(self) -> None:
        await anyio.lowlevel.checkpoint()
        self.log.append(self.status)
        if self.status == 502:
            raise OSError("already gone")


def failed(response: Response) -> bool:
    return response.status >= 500


def test_a_failed_result_is_closed_and_the_block_run_again(vt):
    """The last one is the caller's, failed or not."""
    log: list[int] = []
    policy = retry(on=(), failed_if=failed, backoff=1.0)
    for attempt in retrying(policy):
        with attempt:
            response = Response(503 if attempt.number < 3 else 200, log)
            attempt.result(response)
    assert (response.status, log, vt.now) == (200, [503, 503], 2.0)
    for attempt in policy.retrying():
        with attempt:
            response = Response(500, log)
            attempt.result(response)
    assert (response.status, log) == (500, [503, 503, 500])
    seen = policy.snapshot()
    assert (seen.successes, seen.failures, seen.stopped["budget"]) == (1, 1, 1)


@BACKENDS
def test_a_failed_result_is_awaited_while_it_closes(vt, backend):
    """What closing raises is nobody's business."""
    log: list[int] = []

    async def main():
        async for attempt in retrying(on=(), failed_if=failed, backoff=0.0, budget=None):
            with attempt:
                response = AsyncResponse([503, 502, 200][attempt.number - 1], log)
                attempt.result(response)
        return response.status

    assert vt.run(main, backend=backend) == 200
    assert log == [503, 502]


def test_break_and_return_are_successes(vt):
    """A block that raises nothing has succeeded, however it is left."""
    policy = retry(on=ConnectionError)
    for attempt in policy.retrying():
        with attempt:
            break
    assert policy.snapshot().successes == 1
    assert_no_leaks(policy)


def test_a_loop_that_is_left_with_a_failed_result_is_ignored(vt):
    """Nobody has asked for another attempt, so none was taken out of the budget."""
    policy = retry(on=(), failed_if=lambda value: True)
    for attempt in policy.retrying():
        with attempt:
            attempt.result(1)
            break
    del attempt
    gc.collect()
    assert (policy.snapshot().ignored, policy.snapshot().inflight, policy.budget.withdrawals) == (1, 0, 0)


@BACKENDS
def test_a_cancellation_passes_and_teaches_nothing(vt, backend):
    """In the block and in the wait; the token of an attempt that was not made goes back."""
    policy = retry(on=lambda error: True, backoff=10.0, budget=RetryBudget(decay=None))

    async def main():
        for sleeps in (True, False):
            with anyio.move_on_after(1) as scope:
                async for attempt in policy.retrying():
                    with attempt:
                        if sleeps:
                            await anyio.sleep(10)
                        raise ConnectionError
            assert scope.cancelled_caught

    vt.run(main, backend=backend)
    seen = policy.snapshot()
    assert (seen.ignored, seen.inflight, policy.budget.balance) == (2, 0, 3.0)


def test_a_ctrl_c_passes(vt, monkeypatch):
    """In the block, and in the wait."""
    from resilio import _backends

    def interrupted(seconds):
        raise KeyboardInterrupt

    policy = retry(on=lambda error: True, backoff=1.0, budget=RetryBudget(decay=None))
    with pytest.raises(KeyboardInterrupt):
        block(policy, 1, KeyboardInterrupt)
    monkeypatch.setattr(_backends, "sleep", interrupted)
    with pytest.raises(KeyboardInterrupt):
        block(policy, 1)
    assert (policy.snapshot().ignored, policy.budget.balance) == (2, 3.0)


def test_a_loop_that_the_collector_finds_leaves_nothing():
    """An attempt dropped in a cycle with the error before it: retries in that context stood aside for it, for ever."""
    policy, other = retry(on=ConnectionError, backoff=0.0, budget=None), retry(on=ConnectionError, backoff=0.0)

    def abandon():
        loop = iter(policy.retrying())
        with next(loop):
            raise ConnectionError  # leads to this frame, which leads to the loop
        next(loop).__enter__()

    gc.disable()
    abandon()
    assert variables.retry_scope.get() is not None
    gc.enable()
    gc.collect()
    if sys.version_info >= (
        3,
        12,
    ):  # before, it may run within the code of a context variable
        assert variables.retry_scope.get() is None
    assert block(other, 2) == 3
    assert variables.retry_scope.get() is None


def test_a_copied_context_does_not_keep_what_has_ended():
    """A task that a block has started kept its retry for good, and each of its calls looked for retries around."""
    policy, other = retry(on=ConnectionError, budget=None), retry(on=ConnectionError, budget=None)
    for attempt in policy.retrying():
        with attempt:
            context = copy_context()
    del attempt
    assert context.run(variables.retry_scope.get) is not None
    context.run(other.call, int)
    assert context.run(variables.retry_scope.get) is None


def test_retries_inside_stand_aside(vt):
    """Functions and blocks in a block: one budget, one deposit, as many attempts as the outermost has."""
    outer, inner = (retry(on=ConnectionError, backoff=0.0, budget=RetryBudget(decay=None)) for _ in range(2))
    calls = 0

    def body():
        nonlocal calls
        calls += 1
        if calls < 3:
            raise ConnectionError
        return block(inner, 0)

    for attempt in outer.retrying():
        with attempt:
            assert inner.call(body) == 1
    assert calls == 3
    assert (outer.budget.withdrawals, outer.budget.deposits) == (2, 1)
    assert (inner.budget.withdrawals, inner.budget.deposits) == (0, 0)


def test_the_consumer_of_a_generator_is_not_inside_of_its_block(vt):
    """Between two items the retry in the generator is none of its consumer's business."""
    outer, inner = (
        retry(on=ConnectionError, backoff=0.0, budget=None),
        retry(on=ConnectionError, backoff=0.0, budget=None),
    )

    def items():
        for attempt in outer.retrying():
            with attempt:
                yield 1
                assert inner.try_call(int, "x" * 0 or "1").value == 1
                return

    async def aitems():
        async for attempt in outer.retrying():
            with attempt:
                yield 1
                return

    calls = []

    def failing():
        calls.append(1)
        raise ConnectionError

    for _ in items():
        inner.try_call(failing)
    assert len(calls) == 3

    async def main():
        async for _ in aitems():
            inner.try_call(failing)

    vt.run(main)
    assert len(calls) == 6


def test_an_earlier_error_of_the_callee_goes_on_instead_of_a_rejection(vt):
    """The last own error, not the rejection of the attempt after it."""
    from resilio import BulkheadFullError, bulkhead

    pool = bulkhead(1)
    policy = retry(on=ConnectionError, backoff=0.0)
    with pytest.raises(ConnectionError, match="own") as caught:
        for attempt in policy.retrying():
            with attempt:
                if attempt.number == 1:
                    raise ConnectionError("own")
                with pool.permit(), pool.permit():
                    pass
    assert caught.value.resilio.stop_reason == "rejected"
    with pytest.raises(BulkheadFullError), pool.permit():
        for attempt in policy.retrying():
            with attempt, pool.permit():
                pass
    assert policy.snapshot().ignored == 1


def test_misuse_is_told(vt):
    """An attempt that is not entered, entered twice, or given a result outside of its block."""
    policy = retry(on=ConnectionError)
    with pytest.raises(RuntimeError, match="was not run"):
        for _ in policy.retrying():
            pass
    loop = iter(policy.retrying())
    attempt = next(loop)
    with attempt:
        with pytest.raises(RuntimeError, match="was not run"):
            next(loop)
        with pytest.raises(RuntimeError, match="one block"):
            attempt.__enter__()
    with pytest.raises(RuntimeError, match="inside"):
        attempt.result(1)
    assert next(loop, None) is None
    assert iter(loop) is loop
    with pytest.raises(TypeError, match="retrying takes"):
        retrying(3)  # type: ignore[call-overload]
    with pytest.raises(TypeError, match="retrying takes"):
        retrying(policy, on=ConnectionError)  # type: ignore[call-overload]
    assert repr(attempt) == "<RetryAttempt 1>"
    assert repr(retrying(policy)) == f"retrying({policy!r})"


def test_loops_in_one_place_share_a_budget(vt):
    """Each call of the function around would have a new one, and so no bound."""
    seen = []

    def request(failures, **options):
        loop = retrying(on=ConnectionError, backoff=0.0, **options)
        seen.append(loop.policy)
        return block(loop.policy, failures)

    assert request(2) == 3
    with pytest.raises(ConnectionError) as caught:
        request(2)
    assert caught.value.resilio.stop_reason == "budget"
    assert seen[0] is seen[1]
    assert seen[0].name.endswith("test_loops_in_one_place_share_a_budget.<locals>.request")
    with pytest.raises(ConnectionError):
        request(2, failed_if=lambda value: False)
    assert seen[2] is not seen[0]
    assert seen[2].budget is seen[0].budget
    assert request(2, budget=None) == 3
    assert request(1, name="named", budget=RetryBudget("own")) == 2
    assert retrying(on=ConnectionError).policy.budget is not seen[0].budget


def test_async_iterators_are_their_own(vt):
    """Each loop is a call of its own, and its iterator may be taken by hand."""
    loop = retrying(retry(on=ConnectionError)).__aiter__()
    assert loop.__aiter__() is loop


@pytest.mark.filterwarnings("ignore::resilio.WouldBlockWarning")
@pytest.mark.parametrize("raises", [True, False])
def test_a_loop_does_not_block_the_event_loop_that_runs_in_its_thread(vt, raises):
    """A plain `for` loop in a coroutine makes one attempt, by an error or a failed result: to sleep would stop all."""
    policy = retry(on=ConnectionError, failed_if=lambda value: value is None, backoff=constant(0.5), budget=None)
    numbers = []

    async def main():
        for attempt in retrying(policy):
            with attempt:
                numbers.append(attempt.number)
                if raises:
                    raise ConnectionError
                attempt.result(None)

    with pytest.raises(ConnectionError) if raises else nullcontext():
        vt.run(main)
    assert (numbers, policy.snapshot().stopped["would_block"]) == ([1], 1)
