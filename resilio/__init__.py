"""
Circuit breakers, bulkheads and rate limits, correct under cancellation, with a native hot path.

A part is loaded when it is first named (`from resilio import bulkhead`): nobody waits for those not used.
"""

import sys
from importlib import import_module
from typing import TYPE_CHECKING, Any

from resilio import _hooks
from resilio._native import core
from resilio._native.core import Permit, Refusal, Result, Segments, current, phase
from resilio._native.primitives import LatencyHistogram, TokenBucket
from resilio.errors import (
    BulkheadFullError,
    CallTimeoutError,
    CircuitOpenError,
    DeadlineExceededError,
    OverloadedError,
    RateLimitedError,
    RejectedError,
    ResilienceError,
)

if TYPE_CHECKING:
    from resilio import events, gates, laws, presets, registry
    from resilio._ambient import carry, detached
    from resilio._backoff import constant, decorrelated_jitter, equal_jitter, exponential, full_jitter
    from resilio._blocking import WouldBlockWarning, allow_blocking
    from resilio._budget import RetryBudget
    from resilio._deadline import remaining
    from resilio._dropped import PermitWarning
    from resilio._keyed import Keyed, keyed
    from resilio._outcome import Outcome
    from resilio._pipeline import Pipeline, PipelineWarning, pipeline
    from resilio._policies.adaptive_limit import AdaptiveLimit, adaptive_limit
    from resilio._policies.bulkhead import Bulkhead, bulkhead
    from resilio._policies.circuit_breaker import CircuitBreaker, circuit_breaker
    from resilio._policies.deadline import Deadline, deadline
    from resilio._policies.fallback import Fallback, fallback
    from resilio._policies.hedge import Hedge, hedge
    from resilio._policies.load_shed import LoadShed, load_shed
    from resilio._policies.rate_limit import Rate, RateLimit, rate_limit
    from resilio._policies.retry import Retry, Retrying, retry
    from resilio._policies.timeout import Timeout, timeout
    from resilio._policy import Policy, policy_of
    from resilio._priority import current_priority, ignored_priorities, priority, priority_from
    from resilio._retry_blocks import RetryAttempt
    from resilio._retrying import retrying
    from resilio._snapshot import Health, Snapshot
    from resilio._standard import Standard, override, standard
    from resilio._stream_timeout import StreamTimeout, stream_timeout
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
    "Fallback",
    "Health",
    "Hedge",
    "Keyed",
    "LatencyHistogram",
    "LoadShed",
    "Outcome",
    "OverloadedError",
    "Permit",
    "PermitWarning",
    "Pipeline",
    "PipelineWarning",
    "Policy",
    "Rate",
    "RateLimit",
    "RateLimitedError",
    "Refusal",
    "RejectedError",
    "ResilienceError",
    "Result",
    "Retry",
    "RetryAttempt",
    "RetryBudget",
    "Retrying",
    "Segments",
    "Snapshot",
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
    "current",
    "current_priority",
    "custom_gate",
    "deadline",
    "decorrelated_jitter",
    "detached",
    "equal_jitter",
    "events",
    "exponential",
    "fallback",
    "full_jitter",
    "gates",
    "hedge",
    "ignored_priorities",
    "keyed",
    "laws",
    "load_shed",
    "override",
    "phase",
    "pipeline",
    "policy_of",
    "presets",
    "priority",
    "priority_from",
    "rate_limit",
    "registry",
    "remaining",
    "retry",
    "retrying",
    "standard",
    "stream_timeout",
    "timeout",
]

_hooks.register()

_LATER = {
    "AdaptiveLimit": "_policies.adaptive_limit",
    "Bulkhead": "_policies.bulkhead",
    "CircuitBreaker": "_policies.circuit_breaker",
    "Deadline": "_policies.deadline",
    "Fallback": "_policies.fallback",
    "Health": "_snapshot",
    "Hedge": "_policies.hedge",
    "Keyed": "_keyed",
    "LoadShed": "_policies.load_shed",
    "Outcome": "_outcome",
    "PermitWarning": "_dropped",
    "Pipeline": "_pipeline",
    "PipelineWarning": "_pipeline",
    "Policy": "_policy",
    "Rate": "_policies.rate_limit",
    "RateLimit": "_policies.rate_limit",
    "Retry": "_policies.retry",
    "RetryAttempt": "_retry_blocks",
    "RetryBudget": "_budget",
    "Retrying": "_policies.retry",
    "Snapshot": "_snapshot",
    "Standard": "_standard",
    "StreamTimeout": "_stream_timeout",
    "Timeout": "_policies.timeout",
    "WouldBlockWarning": "_blocking",
    "adaptive_limit": "_policies.adaptive_limit",
    "allow_blocking": "_blocking",
    "bulkhead": "_policies.bulkhead",
    "carry": "_ambient",
    "circuit_breaker": "_policies.circuit_breaker",
    "configure": "registry",
    "constant": "_backoff",
    "current_priority": "_priority",
    "custom_gate": "gates",
    "deadline": "_policies.deadline",
    "decorrelated_jitter": "_backoff",
    "detached": "_ambient",
    "equal_jitter": "_backoff",
    "exponential": "_backoff",
    "fallback": "_policies.fallback",
    "full_jitter": "_backoff",
    "hedge": "_policies.hedge",
    "ignored_priorities": "_priority",
    "keyed": "_keyed",
    "load_shed": "_policies.load_shed",
    "override": "_standard",
    "pipeline": "_pipeline",
    "policy_of": "_policy",
    "priority": "_priority",
    "priority_from": "_priority",
    "rate_limit": "_policies.rate_limit",
    "remaining": "_deadline",
    "retry": "_policies.retry",
    "retrying": "_retrying",
    "standard": "_standard",
    "stream_timeout": "_stream_timeout",
    "timeout": "_policies.timeout",
}
_MODULES = {"events", "gates", "laws", "presets", "registry"}


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
