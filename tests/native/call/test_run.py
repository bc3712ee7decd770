"""Sync calls, permits, rejections and results: the faces of one run through the gates."""

from __future__ import annotations

import gc
import math
import pickle
import sys
import threading
from typing import Any, Self

import pytest

from resilio import CircuitOpenError, circuit_breaker
from resilio._native import core


@pytest.fixture
def breaker() -> Any:
    return circuit_breaker()


def counters(policy: Any) -> dict[str, int]:
    return policy.gates[0].counters()


def test_a_sync_call_is_counted_by_how_it_ends(breaker: Any) -> None:
    """A return is a success, an exception a failure and passes unchanged, an interrupt teaches nothing."""
    error = KeyError("mine")

    def fail(what: BaseException) -> None:
        raise what

    assert breaker.call(max, 1, 2) == 2
    with pytest.raises(KeyError) as caught:
        breaker.call(fail, error)
    assert caught.value is error
    for interrupt in (KeyboardInterrupt(), SystemExit(), GeneratorExit()):
        with pytest.raises(type(interrupt)):
            breaker.call(fail, interrupt)
    c = counters(breaker)
    assert (c["calls"], c["successes"], c["failures"], c["ignored"], c["inflight"]) == (5, 1, 1, 3, 0)


def test_a_nested_rejection_is_not_a_failure(breaker: Any) -> None:
    """A rejection of a guard inside, alone or in a group of rejections, says nothing about the callee."""
    inner = circuit_breaker()
    inner.force_open()

    def group(*errors: Exception) -> None:
        raise ExceptionGroup("several", errors)

    with pytest.raises(CircuitOpenError):
        breaker.call(inner.call, print)
    with pytest.raises(ExceptionGroup):
        breaker.call(group, CircuitOpenError("circuit_breaker"), CircuitOpenError("circuit_breaker"))
    with pytest.raises(ExceptionGroup):
        breaker.call(group, CircuitOpenError("circuit_breaker"), KeyError())
    assert (counters(breaker)["ignored"], counters(breaker)["failures"]) == (2, 1)


def test_wrong_shapes_are_rejected_with_the_fix(breaker: Any) -> None:
    """call of a coroutine function, of nothing, of something that cannot be called."""

    async def fetch() -> None: ...

    with pytest.raises(TypeError, match="acall"):
        breaker.call(fetch)
    for method in (breaker.call, breaker.acall, breaker.try_call):
        with pytest.raises(TypeError, match="first argument"):
            method()
        with pytest.raises(TypeError, match="must be given a function, not 3"):
            method(3)
    assert counters(breaker)["calls"] == 0


def test_an_async_context_manager_is_not_guarded_by_calling_its_maker(breaker: Any) -> None:
    """The body of such a block would run unguarded: TypeError that says what to do instead."""

    class Session:
        async def __aenter__(self) -> Self:
            return self

        async def __aexit__(self, *args: object) -> None: ...

    with pytest.raises(TypeError, match="async with policy"):
        breaker.call(Session)
    assert counters(breaker)["inflight"] == 0


def test_a_permit_ends_exactly_once(breaker: Any) -> None:
    """success, failure, ignore, cancel, raised, returned each end it; a second end is an error."""
    ends = [
        lambda p: p.success(),
        lambda p: p.failure(),
        lambda p: p.failure(KeyError()),
        lambda p: p.ignore(),
        lambda p: p.cancel(),
        lambda p: p.raised(KeyError()),
        lambda p: p.raised(KeyboardInterrupt()),
        lambda p: p.returned(1),
    ]
    for end in ends:
        permit = breaker.acquire()
        assert permit
        assert permit.admitted
        assert not permit.ended
        assert counters(breaker)["inflight"] == 1
        end(permit)
        assert permit.ended
        assert counters(breaker)["inflight"] == 0
        for again in ends:
            with pytest.raises(RuntimeError, match="exactly once"):
                again(permit)
    c = counters(breaker)
    assert (c["successes"], c["failures"], c["ignored"], c["cancelled"]) == (2, 3, 2, 1)


def test_a_permit_takes_only_exceptions_for_failures(breaker: Any) -> None:
    """failure("text") is a mistake that is told, and the permit stays held."""
    permit = breaker.acquire()
    with pytest.raises(TypeError):
        permit.failure("timeout")
    with pytest.raises(TypeError):
        permit.raised("timeout")
    assert not permit.ended
    permit.success()


def test_a_dropped_permit_is_given_back_without_a_verdict(breaker: Any) -> None:
    """Dropped at once, in a cycle, or in another thread's collection."""
    permit = breaker.acquire()
    del permit
    assert counters(breaker)["inflight"] == 0
    holder: list[Any] = [breaker.acquire()]
    holder.append(holder)
    del holder
    collector = threading.Thread(target=gc.collect)
    collector.start()
    collector.join()
    c = counters(breaker)
    assert (c["inflight"], c["ignored"]) == (0, 2)


@pytest.mark.untraced
def test_one_of_many_threads_ends_a_permit(breaker: Any) -> None:
    """Eight threads end the same permits: each ends once, the others are told."""
    rounds, threads = 200, 8
    permits = [breaker.acquire() for _ in range(rounds)]
    barrier, won, lost = threading.Barrier(threads), [], []

    def race() -> None:
        barrier.wait()
        for permit in permits:
            try:
                permit.success()
                won.append(1)
            except RuntimeError:
                lost.append(1)

    workers = [threading.Thread(target=race) for _ in range(threads)]
    for worker in workers:
        worker.start()
    for worker in workers:
        worker.join()
    assert (len(won), len(lost)) == (rounds, rounds * (threads - 1))
    assert counters(breaker)["successes"] == rounds


def test_a_rejection_is_a_false_value_that_knows_why(breaker: Any) -> None:
    """try_acquire never raises: its rejection carries what the exception would."""
    breaker.force_open()
    rejection = breaker.try_acquire()

    assert not rejection
    assert not rejection.admitted
    assert (rejection.policy, rejection.name, rejection.reason) == ("circuit_breaker", None, "forced_open")
    error = rejection.error
    assert isinstance(error, CircuitOpenError)
    assert error is not rejection.error
    assert (error.policy, error.reason, error.called) == ("circuit_breaker", "forced_open", False)
    assert "forced_open" in repr(rejection)


def test_rejections_are_fresh_and_pickle(breaker: Any) -> None:
    """CB-13, CB-14: no exception object is shared, and each survives pickling with its fields."""
    breaker.force_open()
    caught = []
    for _ in range(3):
        with pytest.raises(CircuitOpenError) as info:
            breaker.call(print)
        caught.append(info.value)
    assert len({id(error) for error in caught}) == 3
    for error in caught:
        copy = pickle.loads(pickle.dumps(error))
        assert (type(copy), str(copy), copy.reason) == (type(error), str(error), error.reason)


def test_try_call_answers_instead_of_raising(breaker: Any) -> None:
    """Value, error, ignored and rejected, each with its outcome; interrupts still pass."""
    ok = breaker.try_call(max, 1, 2)
    assert (ok.ok, bool(ok), ok.error, ok.outcome, ok.called) == (True, True, None, "success", True)
    assert ok.value == ok.unwrap() == 2
    failed = breaker.try_call(lambda: 1 / 0)
    assert (failed.ok, failed.value, failed.outcome, failed.called) == (False, None, "failure", True)
    assert isinstance(failed.error, ZeroDivisionError)
    with pytest.raises(ZeroDivisionError):
        failed.unwrap()

    def interrupt() -> None:
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        breaker.try_call(interrupt)
    breaker.force_open()
    rejected = breaker.try_call(print)
    assert (rejected.ok, rejected.value, rejected.outcome, rejected.called) == (False, None, "rejected", False)
    assert isinstance(rejected.error, CircuitOpenError)
    assert rejected.error is rejected.error
    with pytest.raises(CircuitOpenError):
        rejected.unwrap()
    for result in (ok, failed, rejected):
        assert result.outcome in repr(result)


@pytest.mark.anyio
async def test_try_acall_is_awaited(breaker: Any) -> None:
    """The same answers from an awaitable, through the policy and through the guarded function."""

    @breaker
    async def divide(a: int, b: int) -> float:
        return a / b

    assert (await divide.try_acall(4, 2)).value == 2
    assert (await breaker.try_acall(divide.__wrapped__, 1, b=0)).outcome == "failure"
    breaker.force_open()
    assert (await divide.try_acall(4, 2)).outcome == "rejected"


def test_a_pipeline_checks_its_gates(breaker: Any) -> None:
    """What is not a gate, too many gates and gates given twice are rejected."""
    with pytest.raises(TypeError, match="item 1"):
        core.Pipeline((breaker.gates[0], 3))
    with pytest.raises(TypeError, match="item 0"):
        core.Pipeline((core.Gate(),))
    with pytest.raises(ValueError, match="at most 32"):
        core.Pipeline(breaker.gates * 33)
    pipeline = core.Pipeline(breaker.gates)
    with pytest.raises(RuntimeError, match="once"):
        pipeline.__init__(breaker.gates)
    with pytest.raises(ValueError, match="kind"):
        core.Guard(pipeline, print, "nothing")
    with pytest.raises(TypeError, match="callable"):
        core.Guard(pipeline, 3, "sync")
    with pytest.raises(TypeError, match="stream"):
        core.Guard(pipeline, print, "generator")


def test_a_gates_share_of_enforcement_is_checked(breaker: Any) -> None:
    """enforce is a share from 0 to 1; quantiles too; before the first call there is no latency."""
    gate = breaker.gates[0]
    gate.enforce = 0.25
    assert gate.enforce == 0.25
    for wrong in (math.nan, -0.1, 1.5):
        with pytest.raises(ValueError, match="enforce"):
            gate.enforce = wrong
        with pytest.raises(ValueError, match="quantile"):
            gate.quantile(wrong)
    assert math.isnan(gate.quantile(0.5))
    breaker.call(print, end="")
    assert gate.quantile(0.5) > 0


def test_a_permit_has_room_for_what_it_holds() -> None:
    """With one gate it fits what the interpreter keeps ready for small objects; with many it ends them all."""
    with_one, with_many = circuit_breaker(), [circuit_breaker() for _ in range(20)]
    permit = with_one.try_acquire()
    assert sys.getsizeof(permit) <= 512
    permit.success()
    permit = core.Pipeline(tuple(breaker.gates[0] for breaker in with_many)).try_acquire()
    assert [breaker.snapshot().inflight for breaker in with_many] == [1] * 20
    permit.success()
    assert [(breaker.snapshot().inflight, breaker.snapshot().successes) for breaker in with_many] == [(0, 1)] * 20
