"""What users hang in, and raises: it changes no call's result and loses no permit."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import suppress
from typing import Any

import anyio
import pytest

from resilio import PipelineWarning, bulkhead, circuit_breaker, custom_gate, events, pipeline, rate_limit
from resilio._policies.rate_limit.policy import Rate
from resilio.events import Rejected, Settled, StateChanged
from resilio.testing import VirtualTime, assert_no_leaks

ERRORS = [ValueError, RuntimeError, SystemExit, GeneratorExit, StopIteration, MemoryError]


class CalleeError(Exception):
    """What the callee raises."""


def raising(error: type[BaseException]) -> Callable[..., Any]:
    """Return a function that raises whatever it is given."""

    def hook(*_: Any, **__: Any) -> Any:
        raise error("from the hook")

    return hook


class RaisingGate:
    """A gate of one's own whose methods raise."""

    def __init__(self, error: type[BaseException], *methods: str) -> None:
        for method in ("admit", "settle", "cancel"):
            setattr(self, method, raising(error) if method in methods else lambda *_: None)


HOOKS: dict[str, Callable[[type[BaseException]], Any]] = {
    "breaker on": lambda error: circuit_breaker(on=raising(error)),
    "breaker ignore": lambda error: circuit_breaker(ignore=raising(error)),
    "breaker failed_if": lambda error: circuit_breaker(failed_if=raising(error)),
    "bulkhead weight": lambda error: bulkhead(3, weight=raising(error)),
    "rate_limit cost": lambda error: rate_limit("100/s", cost=raising(error)),
    "Rate cost": lambda error: rate_limit(Rate("100/s", unit="tokens", cost=raising(error))),
    "gate admit": lambda error: custom_gate(RaisingGate(error, "admit")),
    "gate settle": lambda error: custom_gate(RaisingGate(error, "settle")),
    "gate cancel": lambda error: custom_gate(RaisingGate(error, "cancel")),
    "gate on": lambda error: custom_gate(RaisingGate(error), on=raising(error)),
    "gate failed_if": lambda error: custom_gate(RaisingGate(error), failed_if=raising(error)),
}


def callee(fail: bool) -> str:
    """Return or raise."""
    if fail:
        raise CalleeError
    return "result"


async def async_callee(fail: bool) -> str:
    """Return or raise, later."""
    await anyio.sleep(0.01)
    return callee(fail)


@pytest.fixture(params=[pytest.param(error, id=error.__name__) for error in ERRORS])
def error(request: pytest.FixtureRequest) -> type[BaseException]:
    """Return what the hooks raise."""
    return request.param


@pytest.mark.parametrize("hook", list(HOOKS))
def test_a_raising_hook_changes_no_result(hook: str, error: type[BaseException]) -> None:
    """The callee's result and the callee's exception come out, in every form of a call, and nothing is held after."""
    policy = HOOKS[hook](error)
    guarded = policy(callee)
    for call in (guarded, lambda fail: policy.call(callee, fail), lambda fail: policy.try_call(callee, fail).unwrap()):
        assert call(False) == "result"
        with pytest.raises(CalleeError):
            call(True)
    with policy.permit(False):
        pass
    with pytest.raises(CalleeError), policy.permit(True):
        raise CalleeError
    permit = policy.acquire(False)
    permit.returned("result")
    assert_no_leaks(policy)


@pytest.mark.anyio
@pytest.mark.parametrize("hook", list(HOOKS))
async def test_a_raising_hook_changes_no_async_result(hook: str, error: type[BaseException], vt: VirtualTime) -> None:
    """The same for async calls."""
    policy = HOOKS[hook](error)
    guarded = policy(async_callee)
    for fail in (False, True):
        result = await policy.try_acall(async_callee, fail)
        assert result.value == (None if fail else "result")
        assert isinstance(result.error, CalleeError) == fail
    assert await guarded(False) == "result"
    with pytest.raises(CalleeError):
        await guarded(True)
    assert_no_leaks(policy)


def test_a_raising_predicate_means_ignored(error: type[BaseException]) -> None:
    """A call whose judge raises teaches nothing: the breaker stays closed."""
    breaker = circuit_breaker(on=raising(error), consecutive=1)
    for _ in range(5):
        with pytest.raises(CalleeError):
            breaker.call(callee, True)
    snapshot = breaker.snapshot()
    assert (snapshot.state, snapshot.ignored, snapshot.failures) == ("closed", 5, 0)


@pytest.mark.filterwarnings(f"ignore::{PipelineWarning.__module__}.PipelineWarning")
def test_a_raising_cancel_does_not_keep_what_outer_gates_gave(error: type[BaseException]) -> None:
    """A rejection further in undoes all outer gates, also past one that raises while it is undone."""
    outer = bulkhead(1)
    gate = custom_gate(RaisingGate(error, "cancel"))
    closed = circuit_breaker(initial="forced_open")
    stack = pipeline(outer, gate, closed)
    for _ in range(3):
        assert not stack.try_acquire()
    assert outer.available == 1
    assert_no_leaks(stack)


@pytest.fixture
def raising_listener(error: type[BaseException]) -> Iterator[None]:
    """Have a listener to everything, which raises."""
    unsubscribe = events.subscribe(raising(error), kinds=(StateChanged, Rejected, Settled))
    yield
    unsubscribe()


@pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")
def test_a_raising_listener_changes_nothing(raising_listener: None, error: type[BaseException]) -> None:
    """Trips, rejections and ends go their way."""
    breaker = circuit_breaker(consecutive=1)
    assert breaker.call(callee, False) == "result"
    with pytest.raises(CalleeError):
        breaker.call(callee, True)
    assert breaker.snapshot().state == "open"
    assert not breaker.try_acquire()
    assert not breaker.try_call(callee, False).called
    with suppress(error):  # what is no Exception goes on to whoever changed the state by hand
        breaker.reset()
    assert breaker.call(callee, False) == "result"
    assert_no_leaks(breaker)


@pytest.mark.anyio
@pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")
async def test_a_raising_listener_changes_no_queue(raising_listener: None, vt: VirtualTime) -> None:
    """Waiters are granted and rejected as ever."""
    pool = bulkhead(1, max_queued=3, max_wait=0.015)
    results = []

    async def one() -> None:
        results.append((await pool.try_acall(async_callee, False)).outcome)

    async with anyio.create_task_group() as group:
        for _ in range(5):
            group.start_soon(one)
    assert sorted(results) == ["rejected"] * 3 + ["success"] * 2
    assert_no_leaks(pool)


def test_a_raising_exporter_loses_nothing() -> None:
    """A scrape that dies half-way changes no policy, and the next one has all the numbers."""
    prometheus = pytest.importorskip("resilio.metrics.prometheus")
    from prometheus_client import CollectorRegistry, generate_latest

    breaker = circuit_breaker("scraped")
    registry = CollectorRegistry()
    prometheus.ResilioCollector(registry, [breaker])
    collector = prometheus.ResilioCollector(CollectorRegistry(), [breaker])
    breaker.call(callee, False)
    scrape = collector.collect()
    next(scrape)
    scrape.close()
    breaker.call(callee, False)
    text = generate_latest(registry).decode()
    assert 'resilio_calls_total{kind="circuit_breaker",outcome="success",policy="scraped"} 2.0' in text
    assert_no_leaks(breaker)
