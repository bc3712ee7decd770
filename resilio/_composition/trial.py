"""Trials of a whole stack: copies of its policies that are enforced for a share of the calls, beside the policies."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import attrs

from resilio._options.scope import PROCESS
from resilio._policy.base import Policy, make

if TYPE_CHECKING:
    from collections.abc import Iterable

__all__ = ["trials_of"]


def trials_of(policies: Iterable[Policy[Any]], share: float) -> tuple[Policy[Any], ...]:
    """
    Return the policies of a stack that is tried out.

    A policy with the option `enforce` is replaced by a copy with a state of its own, named "name.trial", which counts
    for this process alone. The others reject nothing, and are the same objects.

    Args:
        policies: The policies, outermost first.

        share: The share of calls for which the copies are enforced, at most; 0: none.

    Raises:
        TypeError: The policies of a pool or of keys are made elsewhere.
    """
    return tuple(_trial(policy, share) for policy in policies)


def _trial(policy: Policy[Any], share: float) -> Policy[Any]:
    config, kind = policy.config, type(policy)
    if hasattr(config, "policies"):  # a pipeline inside
        changes: dict[str, Any] = {"policies": trials_of(config.policies, share)}
        if hasattr(config, "enforce"):
            changes["enforce"] = min(config.enforce, share)
        return make(kind, None, attrs.evolve(config, **changes))
    if any(hasattr(gate, "table") for gate in policy.gates):
        raise TypeError(f"enforce: {policy!r} makes its own policies: give enforce={share:g} to each that it makes")
    if not hasattr(config, "enforce"):
        return policy
    changes = {"enforce": min(config.enforce, share)}
    if hasattr(config, "scope"):
        changes["scope"] = PROCESS
    return make(kind, f"{policy.name}.trial" if policy.name else None, policy._checked(changes))
