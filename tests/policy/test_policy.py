"""What all policies share: blocks, permits, snapshots, reconfiguration, and how they show themselves."""

from __future__ import annotations

import contextlib
import copy
import gc
import os
import signal
import threading
from collections.abc import AsyncIterator, Iterator
from typing import Any

import anyio
import pytest

import resilio
from resilio import (
    BulkheadFullError,
    CircuitOpenError,
    Policy,
    bulkhead,
    circuit_breaker,
    deadline,
    keyed,
    pipeline,
    rate_limit,
)


@pytest.fixture
def policy() -> Any:
    return circuit_breaker("policy", consecutive=None)


def counts(policy: Any) -> tuple[int, int, int, int]:
    seen = policy.snapshot()
    return seen.successes, seen.failures, seen.ignored, seen.inflight


# ---- blocks -------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("block", ["sugar", "permit"])
def test_a_block_is_judged_like_a_call(policy: Any, block: str) -> None:
    """A normal end is a success, an exception a failure, a cancellation neither."""

    def enter() -> Any:
        return policy if block == "sugar" else policy.permit()

    with enter() as permit:
        assert permit.admitted
        assert policy.snapshot().inflight == 1
    with pytest.raises(OSError, match="boom"), enter():
        raise OSError("boom")
    with pytest.raises(KeyboardInterrupt), enter():
        raise KeyboardInterrupt
    with pytest.raises(BulkheadFullError), enter():
        raise BulkheadFullError("bulkhead")
    assert counts(policy) == (1, 1, 2, 0)


@pytest.mark.anyio
@pytest.mark.parametrize("block", ["sugar", "permit"])
async def test_an_async_block_is_judged_like_a_call(policy: Any, block: str) -> None:
    """The same on an event loop; a cancelled block is no outcome."""

    def enter() -> Any:
        return policy if block == "sugar" else policy.permit()

    async with enter() as permit:
        assert permit.admitted
        await anyio.lowlevel.checkpoint()
    with pytest.raises(OSError, match="boom"):
        async with enter():
            raise OSError("boom")
    with anyio.CancelScope() as scope:
        async with enter():
            scope.cancel()
            await anyio.sleep_forever()
    assert scope.cancelled_caught
    assert counts(policy) == (1, 1, 1, 0)


@pytest.mark.anyio
async def test_cb10_a_block_enforces(policy: Any) -> None:
    """CB-10: an open breaker rejects the block before its body runs, with and without await."""
    policy.force_open()
    for _ in range(2):
        with pytest.raises(CircuitOpenError), policy:
            pytest.fail("the body ran")
        with pytest.raises(CircuitOpenError):
            async with policy:
                pytest.fail("the body ran")
    assert policy.state == "forced_open"
    assert policy.snapshot().rejected == 4


@pytest.mark.anyio
async def test_cb10_overlapping_blocks_of_several_tasks_keep_their_own_permit(policy: Any, vt: Any) -> None:
    """CB-10: each is measured by its own time, whatever the order in which they end."""

    async def block(begin: float, lasts: float, fail: bool) -> None:
        await anyio.sleep(begin)
        with contextlib.suppress(OSError):
            async with policy:
                await anyio.sleep(lasts)
                if fail:
                    raise OSError

    plans = [(0.0, 10.0, False), (1.0, 2.0, True), (2.0, 5.0, False), (3.0, 0.5, True)]
    async with anyio.create_task_group() as tasks:
        for plan in plans:
            tasks.start_soon(block, *plan)
    assert counts(policy) == (2, 2, 0, 0)
    assert sorted(round(policy.latency.quantile(q), 1) for q in (0.25, 0.5, 0.75, 1.0)) == [0.5, 2.0, 5.0, 10.0]


def test_cb10_nested_blocks_end_inside_out(policy: Any, vt: Any) -> None:
    """CB-10: the same policy twice in one function is two permits, each with its own time and outcome."""
    with policy:
        vt.advance(1)
        with contextlib.suppress(OSError), policy:
            vt.advance(2)
            raise OSError
        vt.advance(4)
    assert counts(policy) == (1, 1, 0, 0)
    assert (policy.latency.quantile(0), policy.latency.quantile(1)) == (2.0, 7.0)


def test_cb10_blocks_of_generators_that_take_turns_keep_their_own_permit(policy: Any, vt: Any) -> None:
    """CB-10: they share one context, and are told apart by where the block is."""

    def generator() -> Iterator[None]:
        with policy:
            yield

    first, second = generator(), generator()
    next(first)
    vt.advance(1)
    next(second)
    vt.advance(2)
    list(first)
    vt.advance(4)
    list(second)
    assert [policy.latency.quantile(q) for q in (0, 1)] == [3.0, 6.0]
    assert counts(policy) == (2, 0, 0, 0)


def test_blocks_on_exit_stacks_of_generators_that_take_turns_keep_their_own_permit(policy: Any) -> None:
    """The frame that counted was contextlib's, which is gone at the end: the latest block of the context was ended."""
    permits: list[Any] = []

    def generator() -> Iterator[None]:
        with contextlib.ExitStack() as stack:
            permits.append(stack.enter_context(policy))
            yield

    first, second = generator(), generator()
    next(first)
    next(second)
    list(first)
    assert [permit.ended for permit in permits] == [True, False]
    list(second)
    assert counts(policy) == (2, 0, 0, 0)


def test_a_block_in_a_dropped_generator_gives_its_permit_back(policy: Any) -> None:
    """The collector closes it, and the exit finds its block."""

    def generator() -> Iterator[None]:
        with policy:
            yield

    dropped = generator()
    next(dropped)
    assert policy.snapshot().inflight == 1
    del dropped
    gc.collect()
    assert counts(policy) == (0, 0, 1, 0)


@pytest.mark.anyio
async def test_a_block_in_an_async_generator_that_another_task_closes_gives_its_permit_back(policy: Any) -> None:
    """An async generator may end in another task and context than it began in."""

    async def generator() -> AsyncIterator[None]:
        async with policy:
            yield

    one = generator()
    await one.__anext__()
    async with anyio.create_task_group() as tasks:
        tasks.start_soon(one.aclose)
    assert counts(policy) == (0, 0, 1, 0)


@pytest.mark.anyio
async def test_blocks_entered_by_an_exit_stack_keep_their_own_permit(policy: Any, vt: Any) -> None:
    """An ExitStack enters and leaves from other functions; then the task tells whose block it is."""

    async def block(lasts: float, fail: bool) -> None:
        with contextlib.suppress(OSError):
            async with contextlib.AsyncExitStack() as stack:
                await stack.enter_async_context(policy)
                stack.enter_context(policy)
                await anyio.sleep(lasts)
                if fail:
                    raise OSError

    async with anyio.create_task_group() as tasks:
        for lasts, fail in ((3, True), (1, False), (2, True)):
            tasks.start_soon(block, lasts, fail)
    assert counts(policy) == (2, 4, 0, 0)
    assert [policy.latency.quantile(q) for q in (0, 1)] == [1.0, 3.0]


def test_a_block_left_in_another_thread_gives_its_permit_back(policy: Any) -> None:
    """Entered here, left there: the last resort is any block that is open."""
    stack = contextlib.ExitStack()
    stack.enter_context(policy)
    thread = threading.Thread(target=stack.close)
    thread.start()
    thread.join()
    assert counts(policy) == (1, 0, 0, 0)


def test_a_block_that_was_never_entered_is_not_left(policy: Any) -> None:
    """A clear error, and nothing has changed."""
    with pytest.raises(RuntimeError, match="never entered"):
        policy.__exit__(None, None, None)
    assert counts(policy) == (0, 0, 0, 0)


def test_a_permit_settled_inside_its_block_is_left_alone(policy: Any) -> None:
    """Who ends it by hand has the last word, also if the block then raises."""
    with policy as permit:
        permit.failure(OSError())
    with pytest.raises(OSError, match="late"), policy.permit() as permit:
        permit.success()
        raise OSError("late")
    assert counts(policy) == (1, 1, 0, 0)


@pytest.mark.anyio
async def test_one_permit_block_is_open_once(policy: Any) -> None:
    """Entering it again while it is open would lose a permit; after its end it may be used again."""
    block = policy.permit()
    with block, pytest.raises(RuntimeError, match="once for each block"):
        block.__enter__()
    async with block:
        with pytest.raises(RuntimeError, match="once for each block"):
            await block.__aenter__()
    assert counts(policy) == (2, 0, 0, 0)


def test_permit_shows_its_arguments_to_weight_functions() -> None:
    """They are what the call's arguments would be."""
    pool = bulkhead(10, weight=lambda size, *, double=False: size * (2 if double else 1))
    with pool.permit(3), pool.permit(2, double=True):
        assert pool.used == 7
    assert pool.used == 0


@pytest.mark.anyio
async def test_leaving_an_async_block_never_waits(policy: Any) -> None:
    """BH-05: the exit has no checkpoint in which a cancellation could hit it."""
    entered = policy.permit()
    await entered.__aenter__()
    for leave in (entered.__aexit__, policy.__aexit__):
        if leave == policy.__aexit__:
            await policy.__aenter__()
        with pytest.raises(StopIteration):
            leave(None, None, None).send(None)
    assert counts(policy) == (2, 0, 0, 0)


@pytest.mark.skipif(not hasattr(os, "fork"), reason="no fork on this system")
@pytest.mark.filterwarnings("ignore:.*fork:DeprecationWarning")
def test_a_forked_child_leaves_its_parents_block_and_holds_nothing(policy: Any) -> None:
    """The child starts with no permits held; leaving a block that was entered before is no error there."""
    with policy:
        child = os.fork()
        if child == 0:
            signal.alarm(20)
    if child == 0:
        with policy:
            inside = policy.snapshot().inflight
        os._exit(0 if (inside, policy.snapshot().inflight) == (1, 0) else 1)
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0
    assert counts(policy) == (1, 0, 0, 0)


# ---- snapshots, options, faces ------------------------------------------------------------------------------------


def test_every_policy_has_one_vocabulary() -> None:
    """The fields of a snapshot are the same for all; what a policy does not have is None or 0."""
    made = [
        circuit_breaker("a"),
        bulkhead(2, name="b"),
        rate_limit("10/s", name="c"),
        resilio.pipeline(circuit_breaker("d"), name="e"),
    ]
    words = {
        "state",
        "inflight",
        "queued",
        "limit",
        "calls",
        "successes",
        "failures",
        "ignored",
        "rejected",
        "would_reject",
    }
    for policy in made:
        policy.call(lambda: 1)
        seen = policy.snapshot()
        assert isinstance(seen, resilio.Snapshot)
        assert words <= {field for field in dir(seen) if not field.startswith("_")}
        assert (seen.kind, seen.name, seen.calls, seen.successes, seen.inflight) == (policy.kind, policy.name, 1, 1, 0)


def test_a_snapshot_is_consistent_under_threads() -> None:
    """Its counters were read together: what was admitted has ended or is under way."""
    policy, stop, torn = bulkhead(50), threading.Event(), []

    def call() -> None:
        while not stop.is_set():
            policy.call(int)

    threads = [threading.Thread(target=call) for _ in range(3)]
    for thread in threads:
        thread.start()
    for _ in range(3000):
        seen = policy.snapshot()
        if seen.calls != seen.successes + seen.failures + seen.ignored + seen.rejected + seen.inflight:
            torn.append(seen)
    stop.set()
    for thread in threads:
        thread.join()
    assert torn == []


def test_reconfigure_validates_swaps_and_keeps_the_state() -> None:
    """Either all changes take effect or none; calls under way and the state go on."""
    policy = circuit_breaker("payments")
    with policy:
        policy.reconfigure(open_for=0.5, on=OSError)
        assert (policy.config.open_for, policy.config.on, policy.snapshot().inflight) == (0.5, (OSError,), 1)
        before = policy.config
        for changes, error, message in (
            ({"open_for": 1, "min_calls": 0}, ValueError, "min_calls must be .* not 0"),
            ({"open_for": 1, "nonsense": 0}, TypeError, "no option 'nonsense'; there are: .*open_for"),
        ):
            with pytest.raises(error, match=message):
                policy.reconfigure(**changes)
        assert policy.config is before
    policy.try_call(int, "not a number")
    assert counts(policy) == (2, 0, 0, 0)


def test_reconfigure_may_turn_a_rule_off_again() -> None:
    """The rule of the design comes back when `on` and `failed_if` do."""
    policy = circuit_breaker("payments", on=OSError, failed_if=lambda result: result == 0)
    policy.try_call(int)
    policy.try_call(int, "x")
    policy.reconfigure(on=Exception, failed_if=None)
    policy.try_call(int)
    policy.try_call(int, "x")
    assert counts(policy) == (2, 2, 0, 0)


def test_enforcement_can_be_turned_on_while_calls_go_on() -> None:
    """The safe way to roll out: watch in shadow mode, then enforce."""
    policy = circuit_breaker("payments", enforce=False)
    policy.force_open()
    assert policy.call(lambda: "let through") == "let through"
    policy.reconfigure(enforce=True)
    with pytest.raises(CircuitOpenError):
        policy.call(lambda: "rejected")
    assert policy.snapshot().would_reject == 1


def test_a_policy_shows_its_class_name_and_state() -> None:
    """What one wants to see in a debugger."""
    assert repr(circuit_breaker("payments")) == "<CircuitBreaker 'payments' closed>"
    assert repr(rate_limit("1/s")) == "<RateLimit 1/s, burst 1>"


class Registered:
    """A mixin that takes an argument of the class statement."""

    team: str

    def __init_subclass__(cls, team: str, **kwargs: Any) -> None:
        super().__init_subclass__(**kwargs)
        cls.team = team


def test_a_policy_class_with_a_mixin_passes_on_what_its_statement_gives() -> None:
    """The mixin comes after the policy in the order of methods, and must not be left out."""

    class Own(Policy[Any], Registered, team="payments"):
        """One with an owner."""

    assert Own.team == "payments"


def test_a_policy_is_its_own_copy() -> None:
    """State is never doubled by copying a configuration that holds a policy."""
    policy = circuit_breaker("payments")
    assert copy.copy(policy) is policy
    assert copy.deepcopy({"guard": [policy]})["guard"][0] is policy


def test_a_name_in_metrics_is_never_that_of_a_lambda_or_local_function() -> None:
    """A label is a name given, a module's function or method, or "unnamed"."""
    named, local, unused, method = circuit_breaker("payments"), circuit_breaker(), circuit_breaker(), circuit_breaker()
    local(lambda: 1)
    method(contextlib.ExitStack.pop_all)
    assert [policy.label for policy in (named, local, unused, method)] == [
        "payments",
        "unnamed",
        "unnamed",
        "contextlib._BaseExitStack.pop_all",
    ]


def test_latency_is_a_copy() -> None:
    """What is done to it does not reach the policy."""
    policy = circuit_breaker("payments")
    policy.call(int)
    policy.latency.record(5)
    assert policy.latency.count == 1


def test_call_rejects_a_coroutine_function() -> None:
    """It would say that the call had succeeded before it began."""

    async def later() -> None: ...

    with pytest.raises(TypeError, match="acall"):
        circuit_breaker().call(later)
    with pytest.raises(TypeError, match="acall"):
        circuit_breaker().call(circuit_breaker(later))


def test_a_keyword_called_self_is_the_functions():
    """No method that takes a call's arguments has a name of its own among them."""
    for policy in (bulkhead(1), deadline(5.0), pipeline(bulkhead(1), deadline(5.0))):
        assert policy.call(lambda **given: given, self=1, fn=2) == {"self": 1, "fn": 2}
        assert policy.try_call(lambda **given: given, self=1).unwrap() == {"self": 1}
    with keyed(lambda: bulkhead(1), key="self").permit(self="key") as permit:
        assert permit.admitted


def test_a_method_of_a_built_in_type_can_be_guarded() -> None:
    """It has no module, and so an unnamed policy around it raised an AttributeError of its own."""
    breaker = circuit_breaker()
    assert breaker(int.__add__)(2, 3) == 5
    assert breaker.name == "int.__add__"
