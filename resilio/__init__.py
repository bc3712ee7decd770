"""Circuit breakers, bulkheads and rate limits, correct under cancellation, with a native hot path."""

from resilio import events, gates, registry
from resilio._explain import PipelineWarning
from resilio._native.core import Permit, Refusal, Result, current
from resilio._native.primitives import LatencyHistogram, TokenBucket
from resilio._outcome import Outcome
from resilio._pipeline import Pipeline, pipeline
from resilio._policies.bulkhead import Bulkhead, bulkhead
from resilio._policies.circuit_breaker import CircuitBreaker, circuit_breaker
from resilio._policies.rate_limit import Rate, RateLimit, rate_limit
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
from resilio.gates import custom_gate
from resilio.registry import configure

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
