"""What every policy shows of itself, in one vocabulary."""

from __future__ import annotations

import attrs

__all__ = ["Health", "Snapshot"]


@attrs.frozen(kw_only=True)
class Snapshot:
    """
    A policy at one moment; the counters were read together under the gate's lock.

    Attributes:
        kind: What the policy is: "circuit_breaker", "bulkhead", "rate_limit", "pipeline", ...

        name: Its name; None while it has none.

        state: Its state in its own terms ("closed", "open", ...); None for a policy without states.

        inflight: Calls admitted and not yet ended; passes in shadow mode excluded.

        queued: Calls that wait to be admitted.

        limit: What `inflight` is held under; None for a policy that does not limit it.

        calls: Calls that asked: admitted, refused, given up, and those that enforcement would have refused.

        successes: Calls that ended well.

        failures: Calls that ended badly.

        ignored: Calls whose end says nothing about the dependency.

        rejected: Calls refused.

        would_reject: Calls that shadow mode let pass and enforcement would have refused.

        would_wait: Calls that shadow mode let pass and enforcement would have queued.

        cancelled: Calls that gave up before the callee was called.

        abandoned: Of those ignored, calls whose permit was dropped: streams and blocks that nobody has closed.

        parts: The snapshots of a pipeline's policies, outermost first.
    """

    kind: str
    name: str | None = None
    state: str | None = None
    inflight: int = 0
    queued: int = 0
    limit: float | None = None
    calls: int = 0
    successes: int = 0
    failures: int = 0
    ignored: int = 0
    rejected: int = 0
    would_reject: int = 0
    would_wait: int = 0
    cancelled: int = 0
    abandoned: int = 0
    parts: tuple[Snapshot, ...] = ()


@attrs.frozen
class Health:
    """
    Whether calls are let through, and why not: what a readiness probe should ask.

    Attributes:
        ready: Whether a call made now has a chance.

        reasons: Why not, and what is degraded, one short text each.
    """

    ready: bool
    reasons: tuple[str, ...] = ()

    def __bool__(self) -> bool:
        return self.ready
