"""
Circuit breakers, bulkheads and rate limits, correct under cancellation, with a native hot path.

A part is loaded when it is first named (`from resilio import bulkhead`), so unused parts cost no import time.
"""

import sys
from importlib import import_module
from typing import TYPE_CHECKING, Any

__distribution__ = "resilio-sdk"  # another one has a package of this name: resilio/_support/one_package.py

from resilio._composition import hooks
from resilio._native import core
from resilio._native.core import Permit, Rejection, Result, Segments, current, phase
from resilio._native.primitives import LatencyHistogram, OutcomeWindow, TokenBucket
from resilio.errors import (
    BulkheadFullError,
    CallTimeoutError,
    CircuitOpenError,
    DeadlineExceededError,
    NoEndpointError,
    OverloadedError,
    RateLimitedError,
    RejectedError,
    ResilienceError,
)

if TYPE_CHECKING:
    from resilio import cost, events, gates, laws, presets, registry
    from resilio._adoption.install import install
    from resilio._composition.keyed import Keyed, keyed
    from resilio._composition.override import override
    from resilio._composition.pipeline import Pipeline, pipeline
    from resilio._composition.standard import Standard, standard
    from resilio._context.blocking import WouldBlockWarning, allow_blocking
    from resilio._context.deadline import remaining
    from resilio._context.detached import carry, detached
    from resilio._context.priority import current_priority, ignored_priorities, priority, priority_from
    from resilio._failures.outcome import Outcome
    from resilio._failures.permanent import permanent
    from resilio._failures.retry_trail import RetryTrail, trail_of
    from resilio._policies.adaptive_limit import AdaptiveLimit, adaptive_limit
    from resilio._policies.bulkhead.policy import Bulkhead, bulkhead
    from resilio._policies.circuit_breaker.policy import CircuitBreaker, circuit_breaker
    from resilio._policies.deadline import Deadline, deadline
    from resilio._policies.fallback import Fallback, fallback
    from resilio._policies.hedge import Hedge, hedge
    from resilio._policies.load_shed import LoadShed, load_shed
    from resilio._policies.pool.endpoint import Endpoint
    from resilio._policies.pool.names import dns
    from resilio._policies.pool.policy import Pool, pool
    from resilio._policies.pool.probes import probe_http
    from resilio._policies.pool.snapshot import EndpointSnapshot, PoolSnapshot
    from resilio._policies.rate_limit.policy import Rate, RateLimit, rate_limit
    from resilio._policies.retry.backoff import constant, decorrelated_jitter, equal_jitter, exponential, full_jitter
    from resilio._policies.retry.blocks import RetryAttempt
    from resilio._policies.retry.budget import RetryBudget
    from resilio._policies.retry.policy import Retry, Retrying, retry
    from resilio._policies.retry.retrying import retrying
    from resilio._policies.spend_limit.policy import SpendLimit, spend_limit
    from resilio._policies.stream_timeout import StreamTimeout, stream_timeout
    from resilio._policies.timeout import Timeout, timeout
    from resilio._policy.base import Policy
    from resilio._policy.dropped import PermitWarning
    from resilio._policy.lookup import policy_of
    from resilio._policy.misordered import PipelineWarning
    from resilio._policy.snapshot import Health, Snapshot
    from resilio._time_ledger.ledger import segments_of
    from resilio.gates import custom_gate
    from resilio.registry import configure

__all__ = [
    "AdaptiveLimit",
    "Bulkhead",
    "BulkheadFullError",
    "CallTimeoutError",
    "CircuitBreaker",
    "CircuitOpenError",
    "Deadline",
    "DeadlineExceededError",
    "Endpoint",
    "EndpointSnapshot",
    "Fallback",
    "Health",
    "Hedge",
    "Keyed",
    "LatencyHistogram",
    "LoadShed",
    "NoEndpointError",
    "Outcome",
    "OutcomeWindow",
    "OverloadedError",
    "Permit",
    "PermitWarning",
    "Pipeline",
    "PipelineWarning",
    "Policy",
    "Pool",
    "PoolSnapshot",
    "Rate",
    "RateLimit",
    "RateLimitedError",
    "RejectedError",
    "Rejection",
    "ResilienceError",
    "Result",
    "Retry",
    "RetryAttempt",
    "RetryBudget",
    "RetryTrail",
    "Retrying",
    "Segments",
    "Snapshot",
    "SpendLimit",
    "Standard",
    "StreamTimeout",
    "Timeout",
    "TokenBucket",
    "WouldBlockWarning",
    "adaptive_limit",
    "allow_blocking",
    "bulkhead",
    "carry",
    "circuit_breaker",
    "configure",
    "constant",
    "cost",
    "current",
    "current_priority",
    "custom_gate",
    "deadline",
    "decorrelated_jitter",
    "detached",
    "dns",
    "equal_jitter",
    "events",
    "exponential",
    "fallback",
    "full_jitter",
    "gates",
    "hedge",
    "ignored_priorities",
    "install",
    "keyed",
    "laws",
    "load_shed",
    "override",
    "permanent",
    "phase",
    "pipeline",
    "policy_of",
    "pool",
    "presets",
    "priority",
    "priority_from",
    "probe_http",
    "rate_limit",
    "registry",
    "remaining",
    "retry",
    "retrying",
    "segments_of",
    "spend_limit",
    "standard",
    "stream_timeout",
    "timeout",
    "trail_of",
]

hooks.register()

_LATER = {
    "AdaptiveLimit": "_policies.adaptive_limit",
    "Bulkhead": "_policies.bulkhead.policy",
    "CircuitBreaker": "_policies.circuit_breaker.policy",
    "Deadline": "_policies.deadline",
    "Endpoint": "_policies.pool.endpoint",
    "EndpointSnapshot": "_policies.pool.snapshot",
    "Fallback": "_policies.fallback",
    "Health": "_policy.snapshot",
    "Hedge": "_policies.hedge",
    "Keyed": "_composition.keyed",
    "LoadShed": "_policies.load_shed",
    "Outcome": "_failures.outcome",
    "PermitWarning": "_policy.dropped",
    "Pipeline": "_composition.pipeline",
    "PipelineWarning": "_policy.misordered",
    "Policy": "_policy.base",
    "Pool": "_policies.pool.policy",
    "PoolSnapshot": "_policies.pool.snapshot",
    "Rate": "_policies.rate_limit.policy",
    "RateLimit": "_policies.rate_limit.policy",
    "Retry": "_policies.retry.policy",
    "RetryAttempt": "_policies.retry.blocks",
    "RetryBudget": "_policies.retry.budget",
    "RetryTrail": "_failures.retry_trail",
    "Retrying": "_policies.retry.policy",
    "Snapshot": "_policy.snapshot",
    "SpendLimit": "_policies.spend_limit.policy",
    "Standard": "_composition.standard",
    "StreamTimeout": "_policies.stream_timeout",
    "Timeout": "_policies.timeout",
    "WouldBlockWarning": "_context.blocking",
    "adaptive_limit": "_policies.adaptive_limit",
    "allow_blocking": "_context.blocking",
    "bulkhead": "_policies.bulkhead.policy",
    "carry": "_context.detached",
    "circuit_breaker": "_policies.circuit_breaker.policy",
    "configure": "registry",
    "constant": "_policies.retry.backoff",
    "current_priority": "_context.priority",
    "custom_gate": "gates",
    "deadline": "_policies.deadline",
    "decorrelated_jitter": "_policies.retry.backoff",
    "detached": "_context.detached",
    "dns": "_policies.pool.names",
    "equal_jitter": "_policies.retry.backoff",
    "exponential": "_policies.retry.backoff",
    "fallback": "_policies.fallback",
    "full_jitter": "_policies.retry.backoff",
    "hedge": "_policies.hedge",
    "ignored_priorities": "_context.priority",
    "install": "_adoption.install",
    "keyed": "_composition.keyed",
    "load_shed": "_policies.load_shed",
    "override": "_composition.override",
    "permanent": "_failures.permanent",
    "pipeline": "_composition.pipeline",
    "policy_of": "_policy.lookup",
    "pool": "_policies.pool.policy",
    "priority": "_context.priority",
    "priority_from": "_context.priority",
    "probe_http": "_policies.pool.probes",
    "rate_limit": "_policies.rate_limit.policy",
    "remaining": "_context.deadline",
    "retry": "_policies.retry.policy",
    "retrying": "_policies.retry.retrying",
    "segments_of": "_time_ledger.ledger",
    "spend_limit": "_policies.spend_limit.policy",
    "standard": "_composition.standard",
    "stream_timeout": "_policies.stream_timeout",
    "timeout": "_policies.timeout",
    "trail_of": "_failures.retry_trail",
}
_MODULES = {"cost", "events", "gates", "laws", "presets", "registry"}


def _load_kinds() -> None:
    """Load every kind of policy: `configure` checks the names of options against all of them."""
    for module in set(_LATER.values()):
        import_module(f"resilio.{module}")


core.set_hooks(lambda: sys.modules[__name__], "_load_kinds")


def __getattr__(name: str) -> Any:
    if name in _MODULES:
        return import_module(f"resilio.{name}")
    if name not in _LATER:
        raise AttributeError(f"module 'resilio' has no attribute {name!r}")
    value = getattr(import_module(f"resilio.{_LATER[name]}"), name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return [*__all__, *(name for name in globals() if name.startswith("__"))]
