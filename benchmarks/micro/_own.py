"""The comparisons, each with the library's own subjects."""

from __future__ import annotations

import atexit
import shutil
import tempfile
from collections.abc import Callable
from functools import cache
from pathlib import Path
from typing import Any

import resilio
from benchmarks.micro import _loops, _work
from benchmarks.micro._attempts import attempts
from benchmarks.micro._comparison import Comparison
from benchmarks.micro._fleet import fleet_breaker, fleet_limit
from benchmarks.micro._subjects import async_comparison, subject
from resilio.sharing import host

__all__ = ["breaker", "comparisons", "rejecting", "stack", "try_acquire", "trying"]

_MEMORY = Path("/dev/shm")
_PLENTY_A_SECOND = 100_000_000
"""A rate that no loop here reaches: the limiter works, and never rejects."""


def breaker(**options: Any) -> Any:
    return resilio.circuit_breaker(_work.fresh_name(), **options)


def _limit() -> Any:
    return resilio.rate_limit(f"{_PLENTY_A_SECOND}/s", name=_work.fresh_name())


def _bulkhead() -> Any:
    return resilio.bulkhead(100, name=_work.fresh_name())


def _shedder() -> Any:
    return resilio.load_shed(max_concurrent=100, name=_work.fresh_name())


def stack(callee: Callable[[], Any]) -> Any:
    """Return the function guarded by three decorators, which fuse into one run of three gates."""
    return _limit()(breaker()(_bulkhead()(callee)))


def _pipeline() -> Any:
    return resilio.pipeline(_limit(), breaker(), _bulkhead())(_work.acallee())


def rejecting(callee: Callable[[], Any], *, asynchronous: bool) -> _work.Rejecting:
    return _work.Rejecting(breaker(open_for=600.0, max_open_for=600.0)(callee), resilio.CircuitOpenError, asynchronous)


def trying() -> _work.Trying:
    return _work.Trying(breaker(open_for=600.0, max_open_for=600.0).try_call, _work.failing())


def try_acquire() -> Callable[[], bool]:
    """Return the method that takes a token of a bucket with plenty."""
    return resilio.TokenBucket(_PLENTY_A_SECOND).try_acquire


def _async_breaker() -> Comparison:
    return async_comparison(
        "async_breaker",
        "Async circuit breaker on success",
        "Added to `await f()`.",
        [
            subject("resilio circuit_breaker", lambda: breaker()(_work.acallee()), "async_breaker"),
            subject(
                "resilio circuit_breaker, probabilistic",
                lambda: breaker(mode="probabilistic")(_work.acallee()),
                "probabilistic_breaker",
            ),
        ],
    )


def _async_breaker_of_three() -> Comparison:
    return Comparison(
        "async_breaker_of_three",
        "The same with three arguments",
        'Added to `await f(1, "two", three=3)`.',
        drive=_loops.awaits_arguments,
        check=_work.check_async_answer,
        base=lambda: _loops.awaits_arguments(_work.acallee_of_three()),
        own=[subject("resilio circuit_breaker", lambda: breaker()(_work.acallee_of_three()))],
        wrapper=lambda: _work.async_wrapper(_work.acallee_of_three()),
    )


def _async_stack() -> Comparison:
    return async_comparison(
        "async_stack",
        "Rate limit, circuit breaker and bulkhead around an async function",
        "Added to `await f()`.",
        [
            subject("resilio, three decorators", lambda: stack(_work.acallee()), "async_stack"),
            subject(
                "resilio pipeline of three", _pipeline, note="and a door, the fourth gate: drain, health, counters"
            ),
        ],
    )


def _async_limiter() -> Comparison:
    return async_comparison(
        "async_limiter",
        "Async rate limit on success",
        "Added to `await f()`.",
        [subject("resilio rate_limit", lambda: _limit()(_work.acallee()))],
    )


def _async_bulkhead() -> Comparison:
    return async_comparison(
        "async_bulkhead",
        "Async bulkhead on success",
        "Added to `await f()`; a permit is free.",
        [subject("resilio bulkhead", lambda: _bulkhead()(_work.acallee()))],
    )


def _async_shedder() -> Comparison:
    def learning() -> Any:
        return resilio.load_shed(name=_work.fresh_name())(_work.acallee())

    def important() -> Any:
        return resilio.priority("critical")(_work.acallee())

    return async_comparison(
        "async_shedder",
        "Async load shedder on success",
        "Added to `await f()`; a permit is free, and no priority is set.",
        [
            subject("resilio load_shed", lambda: _shedder()(_work.acallee()), "async_shedder"),
            subject("resilio load_shed, limit learnt", learning, "async_shedder"),
            subject("rate_limit + breaker + bulkhead + load_shed, fused", _stack_with_shedder, "shedder_in_stack"),
            subject("resilio priority, no policy", important),
        ],
    )


def _adaptive() -> Any:
    return resilio.adaptive_limit(name=_work.fresh_name())


def _full_limit() -> _work.UsedUp:
    limit = resilio.adaptive_limit(start=1, ceiling=1, name=_work.fresh_name())
    return _work.UsedUp(limit(_work.afailing()), resilio.OverloadedError, True, limit.acquire())


def _async_adaptive() -> Comparison:
    def stack_with_adaptive() -> Any:
        return _limit()(breaker()(_bulkhead()(_adaptive()(_work.acallee()))))

    return async_comparison(
        "async_adaptive",
        "Async adaptive limit on success",
        "Added to `await f()`; a permit is free, and every call teaches.",
        [
            subject("resilio adaptive_limit", lambda: _adaptive()(_work.acallee()), "async_adaptive"),
            subject(
                "rate_limit + breaker + bulkhead + adaptive_limit, fused", stack_with_adaptive, "adaptive_in_stack"
            ),
        ],
    )


def _stack_with_shedder() -> Any:
    return _limit()(breaker()(_bulkhead()(_shedder()(_work.acallee()))))


def _sync_breaker() -> Comparison:
    return Comparison(
        "sync_breaker",
        "Sync circuit breaker on success",
        "Added to `f()`.",
        drive=_loops.calls,
        check=_work.check_answer,
        base=lambda: _loops.calls(_work.callee()),
        own=[subject("resilio circuit_breaker", lambda: breaker()(_work.callee()), "sync_breaker")],
        wrapper=lambda: _work.sync_wrapper(_work.callee()),
    )


def _rejection() -> Comparison:
    return Comparison(
        "rejection",
        "Rejection by an open breaker, sync",
        "Nanoseconds a rejection: raised through the decorator and caught.",
        drive=lambda rejecting: rejecting.loop(),
        check=lambda rejecting: rejecting.check(),
        base=_loops.idles,
        own=[
            subject("resilio circuit_breaker", lambda: rejecting(_work.failing(), asynchronous=False), "rejection"),
            subject("resilio, through try_call", trying, "try_call_rejected", "returned, not raised"),
        ],
    )


def _async_rejection() -> Comparison:
    return Comparison(
        "async_rejection",
        "Rejection by an open breaker, an adaptive limit and a load shedder, async",
        "Nanoseconds a rejection: raised out of `await` and caught.",
        drive=lambda rejecting: rejecting.loop(),
        check=lambda rejecting: rejecting.check(),
        base=_loops.idles,
        own=[
            subject("resilio circuit_breaker", lambda: rejecting(_work.afailing(), asynchronous=True)),
            subject("resilio adaptive_limit", _full_limit, "adaptive_rejection"),
            subject("resilio load_shed, queue full of more important calls", _work.CrowdedShedder, "shed_rejection"),
        ],
    )


def _try_acquire() -> Comparison:
    return Comparison(
        "try_acquire",
        "Take a token without waiting",
        "Nanoseconds a call from Python; the token is there.",
        drive=_loops.calls,
        check=_work.check_taken,
        base=_loops.idles,
        own=[subject("resilio TokenBucket.try_acquire", try_acquire, "try_acquire")],
    )


@cache
def _of_host() -> Any:
    """Return a group of processes, in memory that goes with this one."""
    folder = tempfile.mkdtemp(dir=_MEMORY if _MEMORY.is_dir() else None)
    atexit.register(shutil.rmtree, folder, ignore_errors=True)
    return host("bench", directory=folder)


def _shared_limit() -> Any:
    return resilio.rate_limit(f"{_PLENTY_A_SECOND}/s", name=_work.fresh_name(), scope=_of_host())


def _shared_keys() -> Any:
    limits = resilio.keyed(
        lambda: resilio.rate_limit(f"{_PLENTY_A_SECOND}/s"),
        key=lambda: "key",
        name=_work.fresh_name(),
        scope=_of_host(),
        max_keys=1000,
    )
    return limits(_work.callee())


def _host_limit() -> Comparison:
    return Comparison(
        "host_limit",
        "A rate limit for all processes of a host, and for one",
        "Added to `f()`, nanoseconds on the wall: what a call waits for a server or a file is counted.",
        drive=_loops.calls_on_the_wall,
        check=_work.check_answer,
        base=lambda: _loops.calls_on_the_wall(_work.callee()),
        own=[
            subject("resilio rate_limit, host", lambda: _shared_limit()(_work.callee())),
            subject("resilio keyed(rate_limit), host", _shared_keys),
            subject("resilio rate_limit", lambda: _limit()(_work.callee()), note="each process counts for itself"),
        ],
    )


def _histogram_record() -> Comparison:
    seconds = _work.latencies(4096)
    return Comparison(
        "histogram_record",
        "Record a latency",
        "Nanoseconds a call from Python; 4,096 log-normal latencies in turn, each subject in the unit it takes.",
        drive=lambda recording: _loops.feeds(recording.record, recording.values),
        check=_work.check_recording,
        base=lambda: _loops.idles_feeding(seconds),
        own=[
            subject(
                "resilio LatencyHistogram.record",
                lambda: _work.Recording(resilio.LatencyHistogram().record, seconds),
                "histogram_record",
            )
        ],
    )


def _filled() -> resilio.LatencyHistogram:
    histogram = resilio.LatencyHistogram()
    for value in _work.latencies(_work.QUANTILE_OF):
        histogram.record(value)
    return histogram


def _histogram_quantile() -> Comparison:
    return Comparison(
        "histogram_quantile",
        "Ask a histogram of 20,000 latencies for its p99",
        "Nanoseconds a call from Python.",
        drive=lambda quantile: _loops.feeds(quantile, [0.99]),
        check=_work.check_quantile,
        base=lambda: _loops.idles_feeding([0.99]),
        own=[subject("resilio LatencyHistogram.quantile", lambda: _filled().quantile, "histogram_quantile")],
    )


def _parts() -> Comparison:
    policy, guarded = breaker(), breaker()(_work.callee())
    pool = resilio.pool(None, *[resilio.Endpoint(f"e{at}") for at in range(64)])

    def picked() -> None:
        permit = pool.try_acquire()
        assert isinstance(permit, resilio.Permit)
        permit.success()

    def by_hand() -> None:
        policy.try_acquire().success()

    def block() -> None:
        with policy:
            pass

    return Comparison(
        "parts",
        "Smaller parts, from Python",
        "Nanoseconds a call.",
        drive=_loops.calls,
        check=_work.check_callable,
        base=_loops.idles,
        own=[
            subject("resilio.current(), outside a call", lambda: resilio.current),
            subject("breaker.try_acquire().success()", lambda: by_hand, note="with the function around it"),
            subject("pool of 64 endpoints: try_acquire().success()", lambda: picked, note="breakers included"),
            subject("with breaker: ...", lambda: block, note="with the function around it"),
            subject("breaker.snapshot()", lambda: policy.snapshot),
            subject(
                "resilio.policy_of(f)", lambda: lambda: resilio.policy_of(guarded), note="with the function around it"
            ),
        ],
    )


def comparisons() -> tuple[Comparison, ...]:
    """Return every comparison, in the order in which a report shows them."""
    return (
        _async_breaker(),
        _async_breaker_of_three(),
        _async_bulkhead(),
        _async_limiter(),
        _async_adaptive(),
        _async_shedder(),
        _async_stack(),
        *attempts(),
        _sync_breaker(),
        _rejection(),
        _async_rejection(),
        _try_acquire(),
        _host_limit(),
        fleet_limit(),
        fleet_breaker(),
        _histogram_record(),
        _histogram_quantile(),
        _parts(),
    )
