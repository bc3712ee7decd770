"""
Several policies around one call, first is outermost: one native run of gates, one clock reading in and one out.

All gates admit a call, or none does. A pipeline made by :func:`pipeline` also has a door, its outermost gate. The door
counts the calls inside and can be shut: for `drain`, `health` and counters of its own. A stack of decorators has none.
"""

from __future__ import annotations

import weakref
from collections import Counter
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

import attrs

from resilio import events
from resilio._native import clock
from resilio._native.custom import DoorGate
from resilio._options import validators
from resilio._options.suggestions import names_its_options
from resilio._options.validators import reject, seconds
from resilio._policy.base import Policy, make
from resilio._policy.misordered import PipelineWarning, warn_of
from resilio._policy.snapshot import Health, Snapshot
from resilio._policy.types import Time

if TYPE_CHECKING:
    from resilio._composition.explain import Explanation
    from resilio._native import core
    from resilio._policy.decorate import Kind

__all__ = [
    "Pipeline",
    "PipelineConfig",
    "PipelineWarning",
    "Stack",
    "all_stacks",
    "name_parts",
    "pipeline",
    "stacked",
]

MOST_GATES = 16


@attrs.frozen(kw_only=True)
class PipelineConfig:
    """The policies of a pipeline, outermost first, as passed by the user."""

    policies: tuple[Policy[Any], ...]


class Pipeline(Policy[PipelineConfig]):
    """Several policies as one; see :func:`pipeline`, which makes one."""

    kind = "pipeline"
    Config = PipelineConfig
    REJECTING = frozenset({"draining", "drained"})
    _gate: DoorGate

    def __init__(self, config: PipelineConfig, name: str | None = None) -> None:
        """
        Put a door before the gates of all policies.

        Args:
            config: The policies, checked.

            name: The user's name, or None.
        """
        door = DoorGate()
        super().__init__(door, config, name, gates=(door, *_gates(config.policies)))

    @property
    def policies(self) -> tuple[Policy[Any], ...]:
        """The policies, outermost first; a pipeline inside is replaced by its policies."""
        return _flat(self._config.policies)

    def explain(self) -> Explanation:
        """Return a description of the pipeline, as data that prints as a table."""
        from resilio._composition.explain import explain

        return explain(self.name, self.policies)

    def snapshot(self) -> Snapshot:
        """
        Return the calls through this pipeline, and the snapshots of its policies, which others may share.

        A stack of decorators has no counters of its own and shows those of its outermost policy.
        """
        parts = tuple(policy.snapshot() for policy in self.policies)
        return attrs.evolve(super().snapshot(), parts=parts)

    def health(self) -> Health:
        """Return if a call made now can be admitted: neither drained, nor rejected by one of the policies."""
        doors = [gate.policy for gate in self.gates if type(gate) is DoorGate]  # its own, and those of pipelines inside
        parts = [*(_open(door) for door in doors), *(policy.health() for policy in self.policies)]
        reasons = tuple(reason for part in parts for reason in part.reasons)
        return Health(all(part.ready for part in parts), reasons)

    def drain(self, timeout: Time | None = None) -> bool:
        """
        Reject new calls (reason "draining") and block until those in flight have ended.

        Args:
            timeout: The longest wait in seconds; None without limit.

        Returns:
            True if all have ended. New calls stay rejected either way, until `resume()`.

        Raises:
            RuntimeError: Called in a thread that runs an event loop; use `adrain` there.
        """
        from resilio._composition.drain import drain

        return drain(self._gate, seconds("timeout", timeout, zero_ok=True, none_ok=True))

    async def adrain(self, timeout: Time | None = None) -> bool:  # noqa: ASYNC109 - the answer is no error
        """Reject new calls and wait, in this task, until those in flight have ended; as `drain`."""
        from resilio._composition.drain import adrain

        return await adrain(self._gate, seconds("timeout", timeout, zero_ok=True, none_ok=True))

    def resume(self) -> None:
        """Admit calls again after `drain`."""
        self._gate.open(clock.now_ns())
        events.deliver(self._gate)

    def _check_kind(self, kind: Kind, fn: Any) -> None:
        for policy in self.policies:
            policy._check_kind(kind, fn)

    def _state(self) -> str | None:
        return self._gate.state

    def _about(self) -> list[str]:
        state = self._state()
        return [" > ".join(policy.kind for policy in self.policies), *([state] if state in self.REJECTING else [])]

    def reset(self) -> None:
        """Admit calls again, and reset each policy that has `reset`, also for others that share it; counters stay."""
        self._let_in()
        for policy in self.policies:
            reset = getattr(policy, "reset", None)
            if callable(reset):
                reset()

    def _let_in(self) -> None:
        self.resume()

    def _start_over(self) -> None:
        self._let_in()
        for policy in self.policies:  # those of a key are not shared
            policy._start_over()

    def _redefine(self, config: PipelineConfig, different: str) -> bool:  # noqa: ARG002
        """Return True for the same policies: a pipeline's gates and state belong to its policies."""
        return not different

    def _checked(self, changes: Mapping[str, Any]) -> PipelineConfig:  # noqa: ARG002
        raise TypeError("a pipeline has no options to change: change those of its policies")


class Stack(Pipeline):
    """The pipeline of a stack of decorators: it has no door, so neither `drain` nor counters of its own."""

    def __init__(self, config: PipelineConfig, name: str | None = None) -> None:
        """
        Join the gates of all policies.

        Args:
            config: The policies.

            name: None: a stack is named after the function.
        """
        gates = _gates(config.policies)
        Policy.__init__(self, gates[0], config, name, gates=gates)

    def drain(self, timeout: Time | None = None) -> bool:  # noqa: ARG002
        """Raise TypeError: make the pipeline with `pipeline(...)`, which has a door."""
        raise TypeError("a stack of decorators has no door to shut: guard with one pipeline(...) to drain it")

    async def adrain(self, timeout: Time | None = None) -> bool:  # noqa: ASYNC109
        """Raise TypeError: make the pipeline with `pipeline(...)`, which has a door."""
        return self.drain(timeout)

    def resume(self) -> None:
        """Raise TypeError: make the pipeline with `pipeline(...)`, which has a door."""
        self.drain()

    def _let_in(self) -> None:
        """Do nothing: there is no door."""

    def _state(self) -> None:
        return None


@names_its_options
def pipeline(*policies: Policy[Any], name: str | None = None, enforce: float = True) -> Pipeline:
    """
    Return one policy that applies several to a call, first is outermost; all admit it, or none.

    Recommended order: rate_limit, circuit_breaker, bulkhead. An order that does not work raises a warning.

    Args:
        policies: At least one; a pipeline inside is replaced by its policies.

        name: The pipeline's name; the same name and policies give the same pipeline. Its parts without a name of their
            own take it: "name.retry" and so on.

        enforce: False: no policy rejects anything, and each counts what it would have rejected; 0 to 1: they reject
            this share. Copies called "name.trial" do so. The policies themselves, which other pipelines may enforce,
            learn nothing.

    Raises:
        TypeError: An argument that is no policy; a keyed policy or a pool in a pipeline that is not enforced.

        ValueError: No policies, or more than 16 gates.
    """
    _check(policies)
    share = validators.enforce("enforce", enforce)
    if share < 1.0:
        from resilio._composition.trial import trials_of

        policies = trials_of(policies, share)
    made = make(Pipeline, name, PipelineConfig(policies=policies))
    name_parts(made)
    _warn(made.policies)
    return made


def name_parts(whole: Pipeline) -> None:
    """Name the parts of a named pipeline after it, as "name.retry"; those that have a name keep it."""
    if whole._given is not None:
        _name(whole._given, whole.config.policies, Counter())


def _name(name: str, policies: tuple[Policy[Any], ...], known: Counter[str]) -> None:
    for policy in policies:
        if policy.name is None:
            known[policy.kind] += 1
            count = known[policy.kind]
            policy._take_name(f"{name}.{policy.kind}" if count == 1 else f"{name}.{policy.kind}{count}")
            if isinstance(policy, Pipeline):
                _name(name, policy.config.policies, known)


def stacked(outer: Policy[Any], inner: Any) -> Stack:
    """Return the pipeline of a decorator's policy and those of the function that is guarded already."""
    policies = (outer, *(inner.config.policies if isinstance(inner, Stack) else (inner,)))
    _check(policies)
    stack = Stack(PipelineConfig(policies=policies))
    _stacks[stack._number] = stack
    _warn(stack.policies, new=len(_flat((outer,))))
    return stack


_stacks: weakref.WeakValueDictionary[int, Stack] = weakref.WeakValueDictionary()


def all_stacks() -> list[Stack]:
    """Return the stacks of decorators of all guarded functions, as they were made."""
    return [stack for alive in _stacks.valuerefs() if (stack := alive()) is not None]


def _check(policies: tuple[Any, ...]) -> None:
    for policy in policies:
        if not isinstance(policy, Policy):
            how = " given one by one, as *policies" if isinstance(policy, (list, tuple)) else ""
            reject("policies", policy, f"policies{how}, like circuit_breaker() and bulkhead(10)", TypeError)
    gates = _gates(policies)
    if not 1 <= len(gates) <= MOST_GATES:
        raise ValueError(f"policies must have from 1 to {MOST_GATES} gates in all, not {len(gates)}")


def _open(door: Any) -> Health:
    """Return the health of a door; a shut door rejects calls in shadow mode too."""
    state = door._state()
    if state not in door.REJECTING:
        return Health(ready=True)
    return Health(ready=False, reasons=(f"{door.kind} {door.label} is {state}",))


def _gates(policies: tuple[Policy[Any], ...]) -> tuple[core.Gate, ...]:
    return tuple(gate for policy in policies for gate in policy.gates)


def _flat(policies: tuple[Policy[Any], ...]) -> tuple[Policy[Any], ...]:
    flat: list[Policy[Any]] = []
    for policy in policies:
        flat += policy.policies if isinstance(policy, Pipeline) else (policy,)
    return tuple(flat)


def _warn(policies: tuple[Policy[Any], ...], new: int | None = None) -> None:
    """Warn at the user's code. With `new`: only about pairs of one of the first `new` policies and a later one."""
    if len(policies) < 2:  # no pair, no import
        return
    from resilio._composition.lint import lint, seen_through

    new = None if new is None else len(seen_through(policies[:new]))
    for warning in lint(policies):
        if warning.outer < warning.inner and (new is None or warning.outer <= new < warning.inner):
            warn_of(warning.rule, warning.message)
