"""Copies of policies with changed options, and of stacks with changed parts."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, TypeVar, cast

import attrs

from resilio._composition.pipeline import Pipeline, Stack
from resilio._composition.standard import Standard, _Part
from resilio._composition.standard_pool import copied
from resilio._options.fields import options_of
from resilio._options.scope import PROCESS
from resilio._options.validators import meant, reject
from resilio._policies.deadline import Deadline
from resilio._policy.base import Policy, make

__all__ = ["override"]

P = TypeVar("P", bound="Policy[Any]")

_PART_OF = {
    "attempts": "retry",
    "backoff": "retry",
    "budget": "retry",
    "max_concurrent": "bulkhead",
    "rates": "rate_limit",
}
"""The part that has an option of `standard`; `deadline`, `fallback` and `timeout` are parts of the same name."""


def override(policy: P, **changes: Any) -> P:
    """
    Return a copy of a policy with changed options; of a pipeline or a standard stack, with changed parts.

    The new policy has no name, so it is not shared with other processes. The unchanged parts of a pipeline are the
    same objects, with their state: an endpoint that needs another timeout still shares the dependency's breaker.

    Args:
        policy: Any policy.

        changes: Options by name. Of a pipeline: parts by kind, each a policy of that kind in its place, its first
            option, a mapping of its changed options, or None to leave it out: `override(payments, timeout="30s",
            retry={"attempts": 1}, hedge=None)`. Of a standard stack also its own options: `override(payments,
            attempts=5)`. The pool may be another one, or a copy with other endpoints: `override(search,
            pool=["https://b.internal"])`.

    Raises:
        TypeError: There is no such option or part, or it is of a wrong type or kind.

        ValueError: An option out of range.
    """
    if not isinstance(policy, Policy):
        reject("policy", policy, "a policy, that of a function is policy_of(function)", TypeError)
    if isinstance(policy, _Part):
        return cast("P", override(policy._whole, **changes))
    if isinstance(policy, Pipeline):
        parts = _by_part(changes) if isinstance(policy, Standard) else changes
        config: Any = attrs.evolve(policy.config, policies=_replaced(policy.policies, parts))
    elif policy.kind == "pool":
        config = copied(policy.config, changes)
    else:
        config = policy._checked({"scope": PROCESS, **changes} if hasattr(policy.config, "scope") else changes)
    kind: Any = type(policy)  # not listed: a stack of decorators, and a deadline that is no stage
    made: P = kind(config) if isinstance(policy, (Stack, Deadline)) else make(kind, None, config)
    return made


def _by_part(changes: Mapping[str, Any]) -> dict[str, Any]:
    """Return the changes of a standard stack by kind, its own options put into mappings of their part's."""
    parts = {name: change for name, change in changes.items() if name not in _PART_OF}
    for name, change in changes.items():
        if name in _PART_OF:
            kind = _PART_OF[name]
            options = parts.setdefault(kind, {})
            if not isinstance(options, Mapping):
                reject(kind, options, f"a mapping, as {name} is an option of this part", TypeError)
            value = (change,) if name == "rates" and not isinstance(change, (list, tuple)) else change
            parts[kind] = {**options, name: value}
    return parts


def _replaced(policies: tuple[Policy[Any], ...], changes: Mapping[str, Any]) -> tuple[Policy[Any], ...]:
    kinds = [policy.kind for policy in policies]
    for kind in changes:
        if kinds.count(kind) != 1:
            single = ", ".join(sorted({one for one in kinds if kinds.count(one) == 1}))
            right = f"the kind of exactly one part ({single})"
            raise TypeError(f"changes must name {right}, not {kind!r}{_whose(kind, policies) or meant(kind, kinds)}")
    parts = (_change(policy, changes.get(policy.kind, policy)) for policy in policies)
    return tuple(part for part in parts if part is not None)


def _whose(option: str, policies: tuple[Policy[Any], ...]) -> str:
    """Return a hint at the parts that have an option of this name; "" if there are none."""
    parts = [f"{part.kind}={{{option!r}: ...}}" for part in policies if hasattr(part.config, option)]
    return f" (an option of a part: write {' or '.join(parts)})" if parts else ""


def _change(policy: Policy[Any], change: Any) -> Policy[Any] | None:
    if isinstance(change, Mapping):
        return override(policy, **change)
    if change is None:
        return None
    if not isinstance(change, Policy):
        return override(policy, **{_first_option(policy, change): change})
    most = 1 if policy.kind == "pool" else None  # what each endpoint has is the pool's own matter
    kinds = [gate.kind for gate in policy.gates[:most]]  # by gates, so that a keyed policy may replace a plain one
    if [gate.kind for gate in change.gates[:most]] != kinds:
        reject(policy.kind, change, f"a policy of this kind, {', '.join(kinds)}", TypeError)
    return change


def _first_option(policy: Policy[Any], change: object) -> str:
    """Return the name of the option that the policy's function takes first, like `total` of a timeout."""
    for field in options_of(type(policy.config)):
        if field.kw_only is False and "several" not in field.metadata:
            return field.name
    if policy.kind == "pool":
        return "endpoints"
    return reject(policy.kind, change, "a policy, a mapping of options, or None to leave it out", TypeError)
