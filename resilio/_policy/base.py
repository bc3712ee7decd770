"""
Base class of all policies: the Python face of a native pipeline.

A policy is used in four ways: as a decorator, as a block (`with p:`, `async with p.permit(...)`), by calling through
it (`call`, `acall`, `try_call`, `try_acall`), and by hand (`try_acquire`, `acquire`, `aacquire`). The last seven
are native.
"""

from __future__ import annotations

import itertools
import re
from collections.abc import Callable, Iterable, Iterator, Mapping
from typing import TYPE_CHECKING, Any, ClassVar, Generic, Self, TypeVar, cast

import attrs

from resilio import events
from resilio._context.blocks import OpenBlocks
from resilio._events.delivery import postponed
from resilio._events.subscriptions import attach
from resilio._failures.outcome import judge_error, judge_value, judging_for
from resilio._native import core
from resilio._native.custom import latency_of
from resilio._options.arity import check_for_calls
from resilio._options.scope import PROCESS, wanted
from resilio._options.validators import policy_name
from resilio._policy.blocks import UsedAsBlock
from resilio._policy.rules import ClientRule, client_rule, resolved
from resilio._policy.snapshot import Health, Sharing, Snapshot
from resilio._registry import names
from resilio._registry.changes import changed
from resilio._registry.definitions import obtain
from resilio._registry.kinds import loaded

if TYPE_CHECKING:
    from resilio._native.primitives import LatencyHistogram
    from resilio._policy.decorate import Kind

__all__ = ["Policy", "make", "policies_made"]

C = TypeVar("C")
F = TypeVar("F")
P = TypeVar("P", bound="Policy[Any]")

_made = itertools.count(1)


class Policy(UsedAsBlock, Generic[C]):
    """
    A policy: one state for one dependency, for any number of functions, threads, tasks and event loops.

    Policies are made by their lower-case functions (`circuit_breaker(...)`), not by calling this class. A subclass sets
    `kind` and `Config`, takes `(config, name)`, builds its gate, and passes it a changed configuration in `_apply`.
    """

    kind: str = "policy"
    Config: ClassVar[type[Any]]
    REJECTING: ClassVar[frozenset[str]] = frozenset()
    """The states in which every call made now is rejected."""
    _client_rule: ClassVar[ClientRule] = ClientRule.FAILING
    """The rule that judges answers in a client's pipeline if the policy has no `failed_if` of its own."""
    _link: Any = None  # to the scope that it is shared in, of resilio.sharing
    _within: Any = None  # weakly, the pool that it is, or whose endpoint it belongs to without a name of its own
    _latest_reason: str | None = None  # of its latest change of state, if it belongs to an endpoint
    _trouble: str | None = None  # shown in red on the live page: a predicate that raises

    def __new__(cls, *args: Any, **kwargs: Any) -> Self:
        """Raise a TypeError for `CircuitBreaker("payments")`: the function of that name checks the options."""
        config = args[0] if args else kwargs.get("config")
        if not isinstance(config, cls.__dict__.get("Config", object)):
            made_by = re.sub(r"(?<!^)(?=[A-Z])", "_", cls.__name__).lower()
            raise TypeError(f"{cls.__name__} is the class of what {made_by}(...) makes: call that")
        return core.Pipeline.__new__(cls)

    def __init_subclass__(cls, **kwargs: Any) -> None:
        super().__init_subclass__(**kwargs)
        if "kind" in cls.__dict__:
            loaded[cls.kind] = cls

    def __init__(
        self, gate: core.Gate, config: C, name: str | None = None, *, gates: tuple[core.Gate, ...] | None = None
    ) -> None:
        """
        Attach the Python face to its gate.

        Args:
            gate: The native gate, made for `config`.

            config: The options, an attrs-frozen record.

            name: The user's name; None: named after the first function guarded.

            gates: All gates that a call passes, outermost first; None: `gate` alone.
        """
        super().__init__((gate,) if gates is None else gates)
        self._gate = gate
        self._config = config
        self._given = name
        self._called_after: str | None = None
        self._blocks = OpenBlocks()
        self._number = next(_made)
        if gate.policy is None:  # a stack of decorators has no gate of its own
            gate.policy = self
            gate.name = name
            self._judge_by(config)
            attach(gate)
            self._share(config)

    @property
    def name(self) -> str | None:
        """The name given, or "module.qualname" of the first function guarded, or None."""
        return self._given or self._called_after

    @property
    def label(self) -> str:
        """The name for metrics: "unnamed" for a policy that only lambdas or local functions gave a name."""
        name = self.name
        return "unnamed" if name is None or (self._given is None and "<" in name) else name

    @property
    def config(self) -> C:
        """The options in force, checked and in their internal form."""
        return self._config

    def __call__(self, fn: F) -> F:
        """
        Return `fn` guarded: same signature, same kind (async stays async, a generator stays a generator).

        Raises:
            TypeError: `fn` cannot be guarded honestly: a class, a context manager's function, a property, ...
        """
        from resilio._policy.decorate import reject_unguardable

        if isinstance(fn, (staticmethod, classmethod)):
            return cast("F", type(fn)(self(fn.__func__)))
        if type(fn) is core.Guard:
            return cast("F", self._fuse(cast("Any", fn)))
        reject_unguardable(fn)
        self._call_after(fn)
        return cast("F", self._guard(cast("Any", fn)))

    def _fuse(self, inner: core.Guard[..., Any]) -> core.Guard[..., Any]:
        """Guard the innermost function by one run of gates: this policy's, then those that guard it already."""
        self._call_after(inner.__wrapped__)
        guarded: core.Guard[..., Any] = core.hook("stacked")(self, inner.pipeline)._guard(inner.__wrapped__)
        guarded.__dict__.update(inner.__dict__)
        return guarded

    def _guard(self, fn: Callable[..., Any]) -> core.Guard[..., Any]:
        from resilio._policy.decorate import kind_of, wrap

        kind = kind_of(fn)
        check_for_calls(self, fn)
        return wrap(self._fit(kind, fn), self._taking_endpoint(fn), kind)

    def _taking_endpoint(self, fn: Callable[..., Any]) -> Callable[..., Any]:
        """Return the function to run: with a pool, one that is given the endpoint that was chosen."""
        pooled = any(gate.kind == "pool" for gate in self.gates)
        return cast("Callable[..., Any]", core.hook("with_endpoint")(self, fn)) if pooled else fn

    def _check_kind(self, kind: Kind, fn: Any) -> None:
        """Raise a TypeError with the remedy if this policy cannot guard such a function honestly."""

    def _fit(self, kind: Kind, fn: Any) -> Policy[Any]:
        """Return the policy that guards such a function: this one, or the part of it that can."""
        self._check_kind(kind, fn)
        return self

    def snapshot(self) -> Snapshot:
        """Return the state and the counters now, which are consistent with each other."""
        while True:
            state = self._state()
            counters = self._gate.counters()
            if self._state() == state:
                return self._snapshot(state, counters)

    def _snapshot(self, state: str | None, counters: Mapping[str, Any]) -> Snapshot:
        known = {key: value for key, value in counters.items() if key in _COUNTERS}
        limit, sharing = self._limit(), self._sharing()
        return Snapshot(kind=self.kind, name=self.name, state=state, limit=limit, sharing=sharing, **known)

    def _sharing(self) -> Sharing | None:
        """Return how the state is shared with other processes, None if it is not."""
        return None if self._link is None else cast("Sharing", self._link.sharing_of(self))

    def _state(self) -> str | None:
        """Return the state now, for policies that have one."""
        return None

    def _limit(self) -> float | None:
        """Return the limit of `inflight`, for policies that have one."""
        return None

    @property
    def latency(self) -> LatencyHistogram:
        """A copy of the latencies of successes and failures, in seconds."""
        return latency_of(self._gate)

    @property
    def call_seconds(self) -> dict[str, float]:
        """
        Time of calls in seconds by segment, those of `Segments`; "wasted" overlaps the others.

        Only calls whose outermost policy this is are counted: all calls of a pipeline, none of a policy inside it. So
        the sum over all policies counts no call twice.
        """
        return self._gate.seconds()

    @property
    def waited_seconds(self) -> float:
        """Seconds that calls have waited for this policy to admit them, whatever their outermost policy was."""
        return self._gate.waited

    def on_event(
        self, listener: Callable[[Any], object], kinds: Iterable[type] = (events.StateChanged,)
    ) -> Callable[[], None]:
        """Call `listener(event)` for each of this policy's events; return a function that ends it."""
        return events.subscribe(listener, policy=self, kinds=kinds)

    def reconfigure(self, **changes: Any) -> None:
        """
        Change options while calls are in flight; the state is kept, and either all changes take effect or none.

        Args:
            changes: Options of the policy's factory function by name.

        Raises:
            TypeError: An option that the policy does not have, or a value of the wrong type.

            ValueError: A value out of range.
        """
        with postponed(), names.changing():
            self._swap(self._checked(changes))

    def _checked(self, changes: Mapping[str, Any]) -> C:
        result: C = changed(self._config, changes)
        return result

    def _swap(self, config: C) -> None:
        with names.changing():
            self._put(config)

    def _put(self, config: C) -> None:
        """Swap the configuration as `_swap` does, of a policy that is not published yet."""
        self._apply(config)
        self._judge_by(config)
        self._config = config
        self._share(config)

    def _share(self, config: Any) -> None:
        """Share the state in the scope of the options, if that is wider than the process or was."""
        if self._link is not None or (hasattr(config, "scope") and wanted(config.scope) != PROCESS):
            core.hook("share")(self, config)

    def _sharing_gate(self) -> Any:
        """Return the shared part: the gate."""
        return self._gate

    def _redefine(self, config: C, different: str) -> bool:  # noqa: ARG002
        """
        Take the options of a repeated definition and keep the state; return False if that is not possible.

        Args:
            config: The options.

            different: The options that have changed, for messages; empty: only functions were defined again.
        """
        self._swap(config)
        return True

    def _apply(self, config: C) -> None:
        """Pass the options of `config` to the gate, which keeps its state; must not fail on a checked configuration."""
        gate: Any = self._gate
        gate.configure(config)

    def _judge_by(self, config: Any) -> None:
        """Make the gate's judges anew, in this policy's name, and clear its trouble."""
        self._trouble = None
        with judging_for(self):
            self._apply_shared(config)

    def _apply_shared(self, config: Any) -> None:
        """Pass the shared options to the gate: `enforce`, and `on`, `ignore` and `failed_if` if the policy has them."""
        gate = self._gate
        on, failed_if = resolved(config)
        gate.enforce = getattr(config, "enforce", 1.0)
        gate.judge_error = judge_error(on, getattr(config, "ignore", ()))
        gate.judge_value = judge_value(failed_if)
        gate.value_rule = client_rule(config, (Exception,), self._client_rule)

    def health(self) -> Health:
        """Return if a call made now can be admitted, and the reasons if not."""
        state = self._state()
        if state not in self.REJECTING or getattr(self._config, "enforce", 1.0) == 0.0:
            return Health(ready=True)
        return Health(ready=False, reasons=(f"{self.kind} {self.label} is {state}",))

    def _start_over(self) -> None:
        """Reset to the initial state, except for counters and calls in flight; used between two tests."""
        reset = getattr(self, "reset", None)
        if callable(reset):
            reset()

    def _seen_through(self) -> tuple[Policy[Any], ...]:
        """Return the policies that a view of a pipeline shows in place of this one."""
        return (self,)

    def _misplaced_within(self) -> Iterable[tuple[str, str]]:
        """Return the rule and the effect of each policy that is misplaced inside of this one."""
        return ()

    def _metered(self) -> tuple[Any, ...]:
        """Return the objects for metrics: itself, or its stages, each with kind, label, gates, latency, snapshot()."""
        return (self,)

    def _reason_of(self, key: Any, reason: str) -> str:  # noqa: ARG002 - a pool's answer depends on it
        """Note the reason of a change of state, of a policy that belongs to an endpoint; return it."""
        self._latest_reason = reason
        return reason

    def _is_new(self) -> bool:
        """Return True if the Python state equals that of a new policy; the gate's state is checked as well."""
        return True

    def _call_after(self, fn: Any) -> None:
        """Take the name of the first function guarded, unless the user gave one."""
        if self._given is None and self._called_after is None:
            from resilio._policy.decorate import innermost

            runs = innermost(fn)
            named = runs if hasattr(runs, "__qualname__") else type(runs)
            module = getattr(named, "__module__", None)  # a method of a built-in type has none
            self._take_name(f"{module}.{named.__qualname__}" if module else named.__qualname__)

    def _take_name(self, name: str) -> None:
        """Take the name of what the policy belongs to, as the user gave none."""
        self._called_after = name
        if self._gate.policy is self:
            self._gate.name = name

    def __repr__(self) -> str:
        about = ", ".join([*self._about(), *self._load()])
        return f"<{' '.join(filter(None, (type(self).__name__, repr(self.name) if self.name else '', about)))}>"

    def _about(self) -> Iterable[str]:
        """Return what the repr shows besides the load: what the policy does, and its state."""
        state = self._state()
        return () if state is None else (state,)

    def _load(self) -> Iterator[str]:
        counters, limit = self._gate.counters(), self._limit()
        if limit is not None:
            yield f"{counters['inflight']} of {limit:g} in flight"
        if counters["queued"]:
            yield f"{counters['queued']} queued"

    def __reduce__(self) -> tuple[Any, ...]:
        """Pickle by name: in another process it is that process's policy of the same name."""
        if self._given is not None:
            place = names.place_of(self._given, self.kind)
            return names.restore, (self._given, place.module if place else "__main__", self.kind)
        raise TypeError(f"{self!r} cannot be pickled: give it a name, which is what is pickled of a policy")

    def __copy__(self) -> Policy[C]:
        return self

    def __deepcopy__(self, memo: object) -> Policy[C]:
        return self


_COUNTERS = frozenset(field.name for field in attrs.fields(Snapshot)) - {
    "kind",
    "name",
    "state",
    "limit",
    "parts",
    "sharing",
}


def make(cls: type[P], name: object, config: Any) -> P:
    """
    Return the policy of this class, name and options: the existing one of a known name, else a new one.

    Args:
        cls: The policy's class, called as `cls(config, name)`.

        name: The user's name, or None.

        config: The checked options, an attrs-frozen record.

    Raises:
        ValueError: The name belongs to another kind of policy, or to other options.
    """
    checked = policy_name("name", name)
    return obtain(cls, checked, config, lambda current: cls(current, checked))


def policies_made() -> int:
    """Return a number above those of the policies made so far, and below those of later ones."""
    return next(_made)
