"""Warnings about policies that do not work in their order."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from itertools import combinations
from typing import TYPE_CHECKING, Any

import attrs

if TYPE_CHECKING:
    from resilio._policy.base import Policy

__all__ = ["LintWarning", "lint", "seen_through"]


@attrs.frozen(kw_only=True)
class LintWarning:
    """
    A pair of policies that does not work in this order.

    Attributes:
        rule: The rule's name, for filters: "bulkhead-outside-breaker", ...

        outer: The position of the outer policy, 1 is outermost.

        inner: The position of the inner one; the same for what stands inside of a policy, as in `each` of a pool.

        message: The effect of this order, and the remedy.
    """

    rule: str
    outer: int
    inner: int
    message: str


def seen_through(policies: Sequence[Policy[Any]]) -> list[Policy[Any]]:
    """Return the policies, one a step, with keyed ones replaced by the policies of one key."""
    return [part for policy in policies for part in policy._seen_through()]


# Outer and inner kinds of wrong pairs, with rule and effect. An inner fallback without default or handler is exempt.
_WRONG = {
    ("bulkhead", "circuit_breaker"): (
        "bulkhead-outside-breaker",
        "a call waits for a permit only to be rejected by the open breaker; put the breaker outside",
    ),
    ("circuit_breaker", "rate_limit"): (
        "limit-inside-breaker",
        "a probe that the limit holds back or rejects keeps the breaker half open; put the limit outside",
    ),
    ("adaptive_limit", "circuit_breaker"): (
        "adaptive-outside-breaker",
        "the rejections of an open breaker are drops and shrink the limit; put the breaker outside",
    ),
    ("adaptive_limit", "retry"): (
        "retry-inside-adaptive",
        "attempts and the sleeps between them count as one latency; put the retry outside",
    ),
    ("bulkhead", "retry"): (
        "retry-inside-bulkhead",
        "a permit is held idle while the retry sleeps; put the retry outside",
    ),
    ("circuit_breaker", "retry"): (
        "retry-inside-breaker",
        "the breaker hears of a call once it has failed for good, and stops no attempt; put the retry outside",
    ),
    ("rate_limit", "retry"): (
        "retry-inside-limit",
        "only the first attempt pays tokens; put the retry outside",
    ),
    ("rate_limit", "hedge"): (
        "hedge-inside-limit",
        "copies pay no tokens; put the hedge outside",
    ),
    ("spend_limit", "hedge"): (
        "hedge-inside-spend-limit",
        "what copies cost is not charged, as each runs apart from the call; put the hedge outside",
    ),
    ("circuit_breaker", "spend_limit"): (
        "limit-inside-breaker",
        "a probe that the limit rejects keeps the breaker half open; put the limit outside",
    ),
    ("hedge", "retry"): (
        "retry-inside-hedge",
        "each copy tries again by itself, and sleeps count as latency; put the retry outside",
    ),
    ("retry", "fallback"): (
        "fallback-inside-retry",
        "what the fallback has answered is not tried again; put the fallback outside",
    ),
    ("circuit_breaker", "fallback"): (
        "fallback-inside-breaker",
        "the breaker does not hear of failures that the fallback has answered; put the fallback outside",
    ),
    ("pool", "retry"): (
        "retry-inside-pool",
        "all attempts go to the endpoint that was chosen first; put the retry outside",
    ),
    ("pool", "hedge"): (
        "hedge-inside-pool",
        "copies go to the endpoint of their primary; put the hedge outside",
    ),
    ("circuit_breaker", "pool"): (
        "breaker-outside-pool",
        "failures of one endpoint open it for all of them; leave it out, since each endpoint has one (each=...)",
    ),
    ("pool", "circuit_breaker"): (
        "breaker-inside-pool",
        "failures of one endpoint open it for all of them; make it in each=..., one for each endpoint",
    ),
    **{
        ("pool", kind): (
            "limit-inside-pool",
            "a call that it rejects does not go elsewhere; put it outside, or make one for each endpoint in each=...",
        )
        for kind in ("adaptive_limit", "bulkhead", "load_shed", "rate_limit", "spend_limit")
    },
}


def lint(policies: Sequence[Policy[Any]]) -> Iterator[LintWarning]:
    """Yield a warning for every pair in an order that does not work; the first policy is outermost."""
    for at, policy in enumerate(seen_through(policies), 1):
        for rule, message in policy._misplaced_within():
            yield LintWarning(rule=rule, outer=at, inner=at, message=f"{policy.kind} ({at}): {message}")
    for (outer_at, outer), (inner_at, inner) in combinations(enumerate(seen_through(policies), 1), 2):
        for rule, message in _problems(outer, inner):
            text = f"{outer.kind} ({outer_at}) around {inner.kind} ({inner_at}): {message}"
            yield LintWarning(rule=rule, outer=outer_at, inner=inner_at, message=text)


def _problems(outer: Policy[Any], inner: Policy[Any]) -> Iterator[tuple[str, str]]:
    if outer is inner:
        yield "twice", "the same policy twice takes two permits for a call and counts it twice; leave one out"
        return
    yield from _misplaced(outer, inner)


def _misplaced(outer: Policy[Any], inner: Policy[Any]) -> Iterator[tuple[str, str]]:
    kinds = (outer.kind, inner.kind)
    if kinds in _WRONG and getattr(inner.config, "answers", True):
        yield _WRONG[kinds]
    if kinds == ("bulkhead", "load_shed") and getattr(outer.config, "max_queued", None):
        yield (
            "shed-inside-bulkhead",
            "calls wait in the bulkhead, where nothing sees or rejects them; put the load shedder outside",
        )
    if kinds == ("adaptive_limit", "rate_limit") and getattr(inner.config, "max_wait", None):
        yield (
            "limit-inside-adaptive",
            "waiting for tokens counts as latency of the dependency; put the rate limit outside",
        )
    if kinds == ("bulkhead", "rate_limit") and getattr(inner.config, "max_wait", None):
        yield (
            "limit-inside-bulkhead",
            "permits are held idle while calls wait for tokens; put the limit outside",
        )
