"""
Circuit breakers, bulkheads and rate limits, correct under cancellation, with a native hot path.

A pattern is loaded when it is first named (`from resilio import bulkhead`), so that nobody waits for those not used.
"""

from importlib import import_module
from typing import TYPE_CHECKING, Any

from resilio import events, registry
from resilio._native.core import Permit, Refusal, Result, current
from resilio._native.primitives import LatencyHistogram, TokenBucket
from resilio._outcome import Outcome
from resilio._pipeline import Pipeline, PipelineWarning, pipeline
from resilio._policy import Policy, policy_of
from resilio._snapshot import Health, Snapshot
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
from resilio.registry import configure

if TYPE_CHECKING:
    from resilio import gates
    from resilio._policies.bulkhead import Bulkhead, bulkhead
    from resilio._policies.circuit_breaker import CircuitBreaker, circuit_breaker
    from resilio._policies.rate_limit import Rate, RateLimit, rate_limit
    from resilio.gates import custom_gate

__all__ = [
    "Bulkhead",
    "BulkheadFullError",
    "CallTimeoutError",
    "CircuitBreaker",
    "CircuitOpenError",
    "DeadlineExceededError",
    "Health",
    "LatencyHistogram",
    "Outcome",
    "OverloadedError",
    "Permit",
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
    "Snapshot",
    "TokenBucket",
    "bulkhead",
    "circuit_breaker",
    "configure",
    "current",
    "custom_gate",
    "events",
    "gates",
    "pipeline",
    "policy_of",
    "rate_limit",
    "registry",
]

_LATER = {
    "Bulkhead": "resilio._policies.bulkhead",
    "CircuitBreaker": "resilio._policies.circuit_breaker",
    "Rate": "resilio._policies.rate_limit",
    "RateLimit": "resilio._policies.rate_limit",
    "bulkhead": "resilio._policies.bulkhead",
    "circuit_breaker": "resilio._policies.circuit_breaker",
    "custom_gate": "resilio.gates",
    "rate_limit": "resilio._policies.rate_limit",
}


def __getattr__(name: str) -> Any:
    if name == "gates":
        return import_module("resilio.gates")
    if name not in _LATER:
        raise AttributeError(f"module 'resilio' has no attribute {name!r}")
    value = getattr(import_module(_LATER[name]), name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return [*__all__, *(name for name in globals() if name.startswith("__"))]
