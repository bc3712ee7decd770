"""Snapshots and health of policies, in one vocabulary for all kinds."""

from __future__ import annotations

from collections.abc import Mapping

import attrs

from resilio._context.process_switch import switched_off

__all__ = ["Health", "Sharing", "Snapshot"]


@attrs.frozen(kw_only=True)
class Sharing:
    """
    How a policy shares its state with other processes, at one moment.

    Attributes:
        scope: The scope and the name of the group: "host:shop", "fleet:shop".

        peers: Processes that share and live, this one included; of a fleet, the hosts or processes that exchange with
            its store; 1 if this one does not share.

        leader: True if this process learns for all, where one does (an adaptive limit); of a fleet, if it makes the
            trips to the store for this policy.

        degraded: Why the policy is this process's own for now: "no_slot", "no_region", "store_down", ...; None: it is
            shared.

        since: Seconds since that last changed.

        used: Permits that the calls of all processes hold, of a policy with permits (`limit` is theirs too); else None.

        tokens: Tokens that all processes have now, by unit, of a rate limit or a retry budget; else None.

        state: The state of all processes, of a circuit breaker; else None.

        alone: Keys, of a keyed policy, whose state is this process's own, because the memory has no room for them or
            they have no form that all processes agree on.

        regime: How it takes from its fleet now: "leased", "asked", "exact", ...; None: it has one way, or no fleet.

        age: Seconds since the fleet's store answered last; None: never, or no fleet.

        outstanding: Tokens or permits that are here on lease and not used; None: it has no leases.

        trips: Exchanges of this process with its fleet's store, for all policies.

        lost: Those of them that had no answer.
    """

    scope: str
    peers: int = 1
    leader: bool = False
    degraded: str | None = None
    since: float = 0.0
    used: int | None = None
    tokens: Mapping[str, float] | None = None
    state: str | None = None
    alone: int = 0
    regime: str | None = None
    age: float | None = None
    outstanding: float | None = None
    trips: int = 0
    lost: int = 0

    def __str__(self) -> str:
        """Return with how many processes or hosts the policy is shared, or why it is not."""
        if self.degraded == "store_down":
            return f"not shared in {self.scope} for now ({self.degraded})"
        if self.degraded is not None and self.peers == 1:
            return f"the process's own for now ({self.degraded}), not shared in {self.scope}"
        aside = f", but for {self.alone} keys" if self.alone else ""
        return f"shared by {self.peers} of {self.scope}{aside}"


@attrs.frozen(kw_only=True)
class Snapshot:
    """
    A policy at one moment; the counters are read together under the gate's lock.

    Attributes:
        kind: The kind of the policy: "circuit_breaker", "bulkhead", "rate_limit", "pipeline", ...

        name: Its name; None while it has none.

        state: Its state in its own terms ("closed", "open", ...); None for a policy without states.

        inflight: Calls admitted and not yet ended; passes in shadow mode excluded.

        queued: Calls that wait to be admitted.

        limit: The limit of `inflight`; None for a policy that has none.

        calls: All calls: admitted, rejected, given up, and those that enforcement would have rejected.

        successes: Calls that succeeded.

        failures: Calls that failed.

        ignored: Calls whose end is no evidence about the dependency.

        rejected: Calls rejected.

        would_reject: Calls that shadow mode let pass and enforcement would have rejected.

        would_wait: Calls that shadow mode let pass and enforcement would have queued.

        cancelled: Calls that gave up before the callee was called.

        abandoned: Ignored calls whose permit was dropped: streams and blocks that were never closed.

        refused: Ignored calls that the server refused: it was up and did nothing, like that of a 429.

        sharing: How the policy shares its state with other processes; None: it does not, its scope is the process.

        disabled: True if `RESILIO_DISABLED` is set for this process: guarded calls run without their policies.

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
    refused: int = 0
    sharing: Sharing | None = None
    disabled: bool = attrs.field(factory=switched_off)
    parts: tuple[Snapshot, ...] = ()


@attrs.frozen
class Health:
    """
    Readiness of a policy, for a readiness probe.

    Attributes:
        ready: True if a call made now can be admitted.

        reasons: One short text for each policy that rejects or is degraded.
    """

    ready: bool
    reasons: tuple[str, ...] = ()

    def __bool__(self) -> bool:
        return self.ready
