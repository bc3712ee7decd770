"""
A request through a policy, with permits that outlive it: the one place where clients meet policies.

A client's call returns with the headers; its permits must last until the body ends. So the policy's gates become a
pipeline with the hook `hand_over(held)`: each run of neighbouring gates gives one permit, which the client puts with
the answer. Strategies judge an attempt by its headers, gates hold on to the end. One native call does that, awaited or
not.

The function that is sent and the hook are the client's. `request.py` has both where a request may have several
answers; what holds the permits is in `held_permits.py`.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from resilio._native import core
from resilio._options.validators import reject
from resilio._policies.pool.chosen import pool_of
from resilio._policy.base import Policy

if TYPE_CHECKING:
    from resilio._native.core import Gate, Held
    from resilio._support.client_target import StandIn
    from resilio.integrations._shared.judges import Judges

__all__ = ["GuardedCall", "first_with", "gates_of", "one_of", "reject_clocks_alone"]


class GuardedCall:
    """
    A policy as one client uses it: `send(function, request)` calls the function through it, awaited but for threads.

    Attributes:
        policy: The policy.

        pipe: The pipeline of the policy's gates, which are called.

        hedged: Whether it may send copies of a request.

        replays: Whether it has strategies at all.

        holds: Whether it has gates whose permits are handed over.

        send: Calls a function with a request, which keys, weights and costs are functions of.
    """

    __slots__ = ("hedged", "holds", "pipe", "policy", "replays", "send")

    def __init__(
        self,
        policy: Policy[Any],
        hand_over: Callable[[Held], object] | None,
        *,
        sync: StandIn | None = None,
        hedged: bool = True,
        pooled: bool = True,
        judges: Judges | None = None,
    ) -> None:
        """
        Prepare a policy for a client.

        Args:
            policy: Any policy, pipeline, standard stack or keyed policy.

            hand_over: The hook: gets what neighbouring gates hold of a call that has returned or raised.
                None: answers are whole, and permits end with the call.

            sync: Placeholder for the client, where threads send its requests: a standard stack then leaves out what
                needs an event loop. None: they are awaited.

            hedged: Whether its hedges are wanted; they are left out for threads.

            pooled: Whether its pool is wanted; it is left out for requests to other servers.

            judges: The meaning of the client's answers for policies without a rule of their own; None: they have none.

        Raises:
            TypeError: No policy, or one that cannot guard such requests.
        """
        if not isinstance(policy, Policy):
            reject("policy", policy, "a policy, like `circuit_breaker()` or `standard(...)`", TypeError)
        gates = tuple(policy.gates if sync is None else policy._fit("sync", sync).gates)
        if sync is not None or not hedged:
            gates = tuple(gate for gate in gates if not _is_hedge(gate))
        if not pooled:
            pool = pool_of(policy)
            gates = tuple(gate for gate in gates if gate.policy is not pool)
        self.policy: Policy[Any] = policy
        self.hedged: bool = any(map(_is_hedge, gates))
        self.replays: bool = any(map(_is_strategy, gates))
        self.holds: bool = not all(map(_is_strategy, gates))
        self.pipe: core.Pipeline = core.Pipeline(gates, judges, hand_over)
        self.send: Callable[..., Any] = self.pipe.acall if sync is None else self.pipe.call


def _is_strategy(gate: Gate) -> bool:
    return any(hasattr(one_of(gate), method) for method in ("stream", "astream", "run", "arun"))


def _is_hedge(gate: Gate) -> bool:
    return one_of(gate).kind == "hedge"


def one_of(gate: Any) -> Gate:
    """Return the gate; of a keyed policy's stage the one that keys share, of a pool's one of its endpoints."""
    shown: Gate = gate
    if hasattr(gate, "table"):
        overflow = getattr(gate.table, "overflow", None)
        shown = next(iter(gate.gates()), gate) if overflow is None else overflow.gates[gate.index]
    return shown


def gates_of(policy: Policy[Any], kind: str) -> list[Any]:
    """Return the policy's stages of one kind."""
    return [gate for gate in map(one_of, policy.gates) if gate.kind == kind]


def first_with(gates: list[Any], clock: str) -> Any:
    """Return the first of these stages that has such a clock, "first" or "idle"; None if none has."""
    return next((gate for gate in gates if getattr(gate, clock) is not None), None)


def reject_clocks_alone(policy: Policy[Any]) -> None:
    """
    Reject timeouts that would limit nothing, for clients whose answers are not timed part by part.

    Args:
        policy: Checked.

    Raises:
        TypeError: One that has `first` or `idle`, and no `total`.
    """
    if any(gate.total is None for gate in gates_of(policy, "timeout")):
        raise TypeError("`first` and `idle` of a timeout do not limit calls of this client: give `total`")
