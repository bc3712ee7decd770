"""Which files are mutated, which modules are built from each, and which tests cover it: the quickest first."""

from __future__ import annotations

from dataclasses import dataclass

_POLICIES, _SCENES = "tests/policies", "tests/scenarios/test"
_OF_FLEET = "tests/sharing/fleet/test"
_BREAKER = (f"{_POLICIES}/circuit_breaker", f"{_SCENES}_circuit_breaker.py")
_BULKHEAD = (f"{_POLICIES}/bulkhead", f"{_SCENES}_bulkhead.py")
_RATE = (f"{_POLICIES}/rate_limit", f"{_SCENES}_rate_limit.py")
_SHED = tuple(f"{_POLICIES}/test_load_shed{part}.py" for part in ("", "_learns", "_machine"))
_SHED += (f"{_SCENES}_load_shed.py",)
_ADAPTIVE = (f"{_POLICIES}/test_adaptive_limit.py", f"{_POLICIES}/test_adaptive_limit_machine.py")
_ADAPTIVE += (f"{_SCENES}_adaptive_limit.py", f"{_POLICIES}/test_closed_loops.py")
_RETRY = (f"{_POLICIES}/retry", f"{_SCENES}_retries.py", "tests/time_ledger/test_retrying.py")
_HEDGE = tuple(f"{_POLICIES}/test_hedge{part}.py" for part in ("", "_races", "_losers", "_table"))
_HEDGE += (f"{_SCENES}_hedges.py", "tests/time_ledger/test_hedges.py")
_FALLBACK = (f"{_POLICIES}/test_fallback.py",)
_TIMEOUT = (f"{_POLICIES}/test_timeout.py", f"{_SCENES}_timeouts.py", "tests/context/test_deadline.py")
_TIMEOUT += (f"{_SCENES}_deadlines.py", f"{_SCENES}_deadline_stages.py", f"{_SCENES}_timeouts_in_threads.py")
_STREAM = (f"{_POLICIES}/test_stream_timeout.py", f"{_SCENES}_stream_times.py", "tests/time_ledger/test_streams.py")
_KEYED = ("tests/composition/test_keyed.py", "tests/composition/test_keyed_machine.py")
_KEYED += ("tests/metrics/test_keyed_numbers.py",)
_PIPELINE = ("tests/composition/test_pipeline.py", "tests/composition/test_standard.py", "tests/policy")
_PIPELINE += ("tests/options",)
_POOL = tuple(
    f"{_POLICIES}/pool/test_{part}.py" for part in ("calls", "law", "zones_that_fail", "seen", "pool_machine")
)
_BUDGET = ("tests/native/algorithms/test_budget.py", "tests/sharing/test_host_budget.py", f"{_POLICIES}/retry")
_BUDGET += (f"{_OF_FLEET}_budget.py",)
_SHARING = tuple(f"tests/sharing/test_{part}.py" for part in ("host_bulkhead", "host_adaptive_limit", "host_budget"))
_SHARING += ("tests/sharing/test_host_breaker.py", "tests/sharing/test_shared_rate_limit.py")
_BREAKER_OF_FLEET = tuple(f"{_OF_FLEET}_breaker{part}.py" for part in ("", "_calls", "_rule", "_of_keys"))
_LIMIT_OF_FLEET = tuple(f"{_OF_FLEET}_limit{part}.py" for part in ("", "_rule", "_of_keys"))
_SLOTS_OF_FLEET = tuple(f"{_OF_FLEET}_slots{part}.py" for part in ("", "_rule", "_store_down"))
_SPEND = (f"{_POLICIES}/spend_limit", f"{_OF_FLEET}_spend.py")
_CALLS = ("tests/native/call", f"{_SCENES}_decorators.py", "tests/policy", "tests/composition", "tests/time_ledger")
_CALLS += (
    "tests/native/context/test_greenlets.py",
    "tests/native/engine",
    "tests/robustness/test_raising_hooks.py",
    "tests/robustness/test_recursion.py",
)
_ENGINE = ("tests/native/engine", "tests/native/call", *_BULKHEAD, "tests/policy", *_RATE, "tests/time_ledger")
_ENGINE += ("tests/policies", "tests/registry", "tests/events", "tests/robustness/test_loops.py")
_CONTEXT = (
    "tests/context",
    "tests/native/context",
    "tests/native/call/test_endings.py",
    f"{_SCENES}_deadlines.py",
    f"{_SCENES}_deadline_stages.py",
    "tests/native/engine/test_no_memory.py",
)
_TIMERS = ("tests/native/timers", "tests/policies/test_timeout.py", f"{_SCENES}_timeouts.py", "tests/testing")
_WINDOW = "tests/native/algorithms/test_outcome_window.py"
_BUCKET = "tests/native/algorithms/test_token_bucket.py"
_LAWS = "tests/native/algorithms/test_laws.py"
_HISTOGRAM = "tests/native/algorithms/test_histogram.py"

_GATES, _STRATEGIES = ("gates",), ("strategies",)
_BOTH = ("gates", "primitives")
_BACKOFF, _BUDGETS = ("budget", "gates"), ("budget", "gates", "strategies")


@dataclass(frozen=True)
class Cover:
    """Modules to build, none for Python, and paths of tests in the order in which they are run."""

    modules: tuple[str, ...]
    tests: tuple[str, ...]


_NATIVE = "src_c/resilio/_native"
# The longest beginning of a path that is listed decides.
_COVERS = {
    "resilio/_composition/": Cover((), (*_PIPELINE, *_KEYED)),
    "resilio/_composition/keyed.py": Cover((), (*_KEYED, *_PIPELINE)),
    "resilio/_policies/": Cover((), _PIPELINE),
    "resilio/_policies/adaptive_limit.py": Cover((), (*_ADAPTIVE, *_PIPELINE)),
    "resilio/_policies/bulkhead/": Cover((), (*_BULKHEAD, *_PIPELINE)),
    "resilio/_policies/circuit_breaker/": Cover((), (*_BREAKER, *_PIPELINE)),
    "resilio/_policies/deadline.py": Cover((), (*_TIMEOUT, *_PIPELINE)),
    "resilio/_policies/fallback.py": Cover((), (*_FALLBACK, *_PIPELINE)),
    "resilio/_policies/hedge.py": Cover((), (*_HEDGE, *_PIPELINE)),
    "resilio/_policies/pool/": Cover((), (f"{_POLICIES}/pool", *_PIPELINE)),
    "resilio/_policies/load_shed.py": Cover((), (*_SHED, *_PIPELINE)),
    "resilio/_policies/rate_limit/": Cover((), (*_RATE, *_PIPELINE)),
    "resilio/_policies/retry/": Cover((), (*_RETRY, *_PIPELINE)),
    "resilio/_policies/spend_limit/": Cover((), (*_SPEND, *_PIPELINE)),
    "resilio/_policies/stream_timeout.py": Cover((), (*_STREAM, *_PIPELINE)),
    "resilio/_policies/timeout.py": Cover((), (*_TIMEOUT, *_PIPELINE)),
    "resilio/_policy/snapshot.py": Cover((), ("tests/sharing/test_seen.py", "tests/policy", "tests/composition")),
    "resilio/_policy/": Cover((), ("tests/policy", "tests/policies", f"{_SCENES}_decorators.py", "tests/composition")),
    "resilio/_strategies/": Cover((), (*_STREAM, *_HEDGE, *_TIMEOUT, *_FALLBACK, *_RETRY)),
    "resilio/_strategies/fallback.py": Cover((), _FALLBACK),
    "resilio/_strategies/fallback_streams.py": Cover((), ("tests/time_ledger", *_FALLBACK)),
    "resilio/_strategies/stream_clocks.py": Cover((), _STREAM),
    "src_c/algorithms/shared/token_bucket.h": Cover(_BOTH, (_BUCKET, *_RATE)),
    "src_c/include/": Cover(("core", "gates"), _ENGINE),
    "src_c/include/backoff.h": Cover(_BACKOFF, (*_RETRY, *_BREAKER)),
    "src_c/include/buckets.h": Cover(_GATES, _RATE),
    "src_c/include/budget": Cover(_BUDGETS, _BUDGET),
    "src_c/include/clock": Cover(("clock",), ("tests/native/algorithms/test_clock.py", "tests/testing")),
    "src_c/include/clock.h": Cover(("clock", "core", "gates"), ("tests/native/algorithms", "tests/testing")),
    "src_c/include/host_": Cover(_GATES, _SHARING),
    "src_c/include/hedging.h": Cover(_STRATEGIES, _HEDGE),
    "src_c/include/law": Cover(_BOTH, (_LAWS, *_ADAPTIVE)),
    "src_c/include/loglinear": Cover(("core", "primitives", "strategies"), (_HISTOGRAM, *_HEDGE, *_BREAKER)),
    "src_c/include/loglinear_bytes.h": Cover(("primitives",), (_HISTOGRAM,)),
    "src_c/include/own_bucket.h": Cover(_BOTH, (_BUCKET, *_RATE)),
    "src_c/include/pace.h": Cover(_STRATEGIES, (f"{_POLICIES}/retry/test_pauses.py", *_RETRY)),
    "src_c/include/pool": Cover(("pool",), _POOL),
    "src_c/include/shed": Cover(_GATES, _SHED),
    "src_c/include/sliding_log.h": Cover(_GATES, _RATE),
    "src_c/include/span.h": Cover(_GATES, ("tests/native/algorithms/test_span.py", *_BREAKER)),
    "src_c/include/strategy.h": Cover(("core", "strategies"), (*_RETRY, *_HEDGE)),
    "src_c/include/throttle.h": Cover(_GATES, (f"{_POLICIES}/retry/test_throttle.py", *_BREAKER)),
    "src_c/include/try_hold.h": Cover(("core",), _CONTEXT),
    "src_c/include/waiters.h": Cover(_GATES, (*_BULKHEAD, *_RATE, *_SHED)),
    "src_c/include/wheel.h": Cover(("core",), _TIMERS),
    "src_c/include/window.h": Cover(_BOTH, (_WINDOW, *_BREAKER)),
    f"{_NATIVE}/backoff.pxi": Cover(("budget",), _RETRY),
    f"{_NATIVE}/budget.pyx": Cover(("budget",), _BUDGET),
    f"{_NATIVE}/clock.pyx": Cover(("clock",), ("tests/native/algorithms/test_clock.py", "tests/testing")),
    f"{_NATIVE}/core/": Cover(("core",), _CALLS),
    f"{_NATIVE}/core/api.c": Cover(("core",), (*_RETRY, *_HEDGE)),
    f"{_NATIVE}/core/private.c": Cover(("core",), ("tests/native", "tests/private_names", *_CALLS)),
    f"{_NATIVE}/core/call/permit.c": Cover(("core",), (*_CALLS, *_POOL, f"{_POLICIES}/pool/test_retry_after.py")),
    f"{_NATIVE}/core/call/timer.c": Cover(("core",), (*_TIMERS, *_TIMEOUT)),
    f"{_NATIVE}/core/call/stages.c": Cover(("core",), (*_CALLS, *_RETRY, *_HEDGE)),
    f"{_NATIVE}/core/context/": Cover(("core",), _CONTEXT),
    f"{_NATIVE}/core/context/priority.c": Cover(("core",), (*_CONTEXT, *_SHED)),
    f"{_NATIVE}/core/engine/": Cover(("core",), _ENGINE),
    f"{_NATIVE}/core/engine/judge.c": Cover(("core",), ("tests/policy/test_rules.py", "tests/failures", *_ENGINE)),
    f"{_NATIVE}/core/engine/answer_judge.c": Cover(("core",), ("tests/policy/test_rules.py", *_ENGINE)),
    f"{_NATIVE}/core/engine/ledger": Cover(("core",), ("tests/time_ledger", *_CALLS)),
    f"{_NATIVE}/core/engine/segments": Cover(("core",), ("tests/time_ledger", *_CALLS)),
    f"{_NATIVE}/core/engine/elsewhere.c": Cover(("core",), _POOL),
    f"{_NATIVE}/core/timers/": Cover(("core",), _TIMERS),
    f"{_NATIVE}/core/timers/running_loop.c": Cover(("core",), ("tests/private_names", *_TIMERS)),
    f"{_NATIVE}/custom.pyx": Cover(("custom",), ("tests/policy/test_gates.py", "tests/policy", "tests/composition")),
    f"{_NATIVE}/gates/adaptive": Cover(_GATES, (*_ADAPTIVE, "tests/sharing/test_host_adaptive_limit.py")),
    f"{_NATIVE}/gates/breaker": Cover(_GATES, (*_BREAKER, f"{_POLICIES}/retry/test_throttle.py")),
    f"{_NATIVE}/gates/breaker.pxi": Cover(_GATES, (*_BREAKER, *_SHARING, *_BREAKER_OF_FLEET)),
    f"{_NATIVE}/gates/bulkhead": Cover(_GATES, _BULKHEAD),
    f"{_NATIVE}/gates/bulkhead_host": Cover(_GATES, _SHARING),
    f"{_NATIVE}/gates/breaker_fleet": Cover(_GATES, _BREAKER_OF_FLEET),
    f"{_NATIVE}/gates/breaker_host": Cover(_GATES, _SHARING),
    f"{_NATIVE}/gates/bulkhead_fleet": Cover(_GATES, _SLOTS_OF_FLEET),
    f"{_NATIVE}/gates/bulkhead_slots": Cover(_GATES, _SLOTS_OF_FLEET),
    f"{_NATIVE}/gates/adaptive_host": Cover(_GATES, _SHARING),
    f"{_NATIVE}/gates/host": Cover(_GATES, _SHARING),
    f"{_NATIVE}/gates/limiter_fleet": Cover(_GATES, _LIMIT_OF_FLEET),
    f"{_NATIVE}/gates/courier": Cover(_GATES, ("tests/sharing/fleet/test_courier.py", *_LIMIT_OF_FLEET)),
    f"{_NATIVE}/gates/limiter_asks": Cover(_GATES, ("tests/sharing/fleet/test_asks.py", *_LIMIT_OF_FLEET)),
    f"{_NATIVE}/gates/limiter_tie": Cover(_GATES, _LIMIT_OF_FLEET),
    f"{_NATIVE}/gates/limiter_wants": Cover(_GATES, _LIMIT_OF_FLEET),
    f"{_NATIVE}/gates/limiter_host": Cover(_GATES, _SHARING),
    f"{_NATIVE}/gates/limiter": Cover(_GATES, _RATE),
    f"{_NATIVE}/gates/pool": Cover(("pool",), _POOL),
    f"{_NATIVE}/pool": Cover(("pool",), _POOL),
    f"{_NATIVE}/gates/shedder": Cover(_GATES, _SHED),
    f"{_NATIVE}/keyed": Cover(("keyed",), _KEYED),
    f"{_NATIVE}/primitives": Cover(("primitives",), ("tests/native/algorithms",)),
    f"{_NATIVE}/strategies/computed_times": Cover(_STRATEGIES, (*_HEDGE, *_TIMEOUT)),
    f"{_NATIVE}/strategies/fallback": Cover(_STRATEGIES, _FALLBACK),
    f"{_NATIVE}/strategies/hedge": Cover(_STRATEGIES, _HEDGE),
    f"{_NATIVE}/strategies/retry": Cover(_STRATEGIES, _RETRY),
    f"{_NATIVE}/strategies/strategy": Cover(_STRATEGIES, (*_RETRY, *_HEDGE)),
    f"{_NATIVE}/strategies/time_limit": Cover(_STRATEGIES, ("tests/integrations/test_time_of_threads.py", *_TIMEOUT)),
    f"{_NATIVE}/strategies/timing": Cover(_STRATEGIES, (*_TIMEOUT, *_STREAM)),
}
REST = ("policies", "native", "policy", "composition", "context", "time_ledger", "scenarios", "failures", "registry")
REST = tuple(f"tests/{folder}" for folder in REST)
"""Run against what the tests listed for a file do not catch; they take a minute."""
ENDINGS = (".py", ".pyx", ".pxi", ".c", ".h")


def cover(path: str) -> Cover | None:
    """Return what to build and to run for a file, or None for one that is not mutated."""
    if not path.endswith(ENDINGS):
        return None
    return next((_COVERS[start] for start in sorted(_COVERS, key=len, reverse=True) if path.startswith(start)), None)


def all_tests() -> set[str]:
    """Return each path of tests that is named here."""
    return {path for entry in _COVERS.values() for path in entry.tests} | set(REST)
