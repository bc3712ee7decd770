"""Check for leaks: permits, places in queues, leases of probes, and capacity that are still held."""

from __future__ import annotations

import gc
from collections.abc import Iterator
from typing import Any

from resilio import registry
from resilio._native import core
from resilio._options.validators import reject

__all__ = ["assert_no_leaks"]

HELD = ("inflight", "queued", "probes", "reserved")
"""Fields of a snapshot that are 0 when no call is in flight."""


def assert_no_leaks(*policies: Any) -> None:
    """
    Assert that no permit, place or lease of these policies is held, after a garbage collection.

    The check acquires nothing: counters, histories and events stay as they are.

    Args:
        policies: Policies or pipelines; none: every policy that is alive.

    Raises:
        TypeError: An argument is no policy.

        AssertionError: A policy leaks. The message names it, the numbers held, and the calls and permits that hold.
    """
    for policy in policies:
        if not isinstance(policy, core.Pipeline):
            reject("policies", policy, "policies; policy_of(function) gives that of a guarded function", TypeError)
    for _ in range(2):  # an object that a finaliser releases may be a cycle itself
        gc.collect()
    gates = {id(gate): gate for policy in policies or registry.all() for gate in policy.gates}
    found = [text for gate in gates.values() for text in _leaks(gate)]
    if found:
        raise AssertionError("\n".join(["resilio: something is still held:", *found]))


def _leaks(gate: core.Gate) -> Iterator[str]:
    snapshot = gate.policy.snapshot() if gate.policy is not None else None
    counters = gate.counters()
    held = {field: counters.get(field, getattr(snapshot, field, 0)) for field in HELD}
    capacity = _missing_capacity(gate)
    if any(held.values()) or capacity:
        numbers = [f"{field} {value}" for field, value in held.items() if value]
        title = f"{gate.kind} {gate.name!r}" if gate.name else f"unnamed {gate.kind}"
        yield f"  {title}: {', '.join([*numbers, *capacity])}"
        yield from (f"    held by {holder}" for holder in _holders(gate))


def _missing_capacity(gate: core.Gate) -> list[str]:
    in_use = getattr(gate, "used", 0)
    return [f"permits in use {in_use}"] if in_use else []


def _holders(gate: core.Gate) -> Iterator[str]:
    kinds = {core.Call, core.Permit}
    for candidate in gc.get_objects():
        if type(candidate) in kinds and _holds(candidate) and _is_of(candidate, gate):
            yield repr(candidate)


def _holds(candidate: Any) -> bool:
    return candidate.cr_suspended or candidate.cr_running if type(candidate) is core.Call else not candidate.ended


def _is_of(candidate: Any, gate: core.Gate) -> bool:
    return any(gate in pipeline.gates for pipeline in _pipelines(candidate))


def _pipelines(candidate: Any) -> Iterator[core.Pipeline]:
    for part in gc.get_referents(candidate):
        if isinstance(part, core.Pipeline):
            yield part
        elif type(part) is core.Guard:
            yield part.pipeline
