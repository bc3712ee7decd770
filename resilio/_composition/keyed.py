"""
One policy for each key: a host that is down does not shut out the others, and no tenant uses up the others' share.

Why: a breaker for a function that calls a hundred hosts mixes ninety-nine healthy ones with one that is down, and is
wrong for all of them. When not: keys without bound (a request's id) make a policy each that learns nothing. It is
neither a cache nor a limit across processes.

Bounded: a key is evicted when its policy's state equals that of a new one, and never before. If there is no room for a
key, its calls share one policy with all other such keys.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping
from typing import TYPE_CHECKING, Any, Generic, TypeVar, cast

import attrs

from resilio._composition.keyed_options import (
    NOT_NEW,
    KeyedConfig,
    make_of,
    parts_of,
    reject_names,
    takes_key,
)
from resilio._composition.pipeline import Pipeline
from resilio._events.delivery import postponed
from resilio._events.subscriptions import attach, detach
from resilio._native import core
from resilio._native.keyed import ByKey, Entry, KeyedGate, KeyedTable
from resilio._options.call_key import place_of_key
from resilio._options.differences import differences
from resilio._options.fields import changed
from resilio._options.scope import PROCESS, wanted
from resilio._options.validators import show
from resilio._policy.base import Policy, make, policies_made
from resilio._policy.factory import makes
from resilio._policy.snapshot import Health, Snapshot
from resilio._registry import names
from resilio._support.show import with_article

if TYPE_CHECKING:
    from resilio._native.primitives import LatencyHistogram
    from resilio._policy.decorate import Kind

__all__ = ["Keyed", "KeyedConfig", "KeyedSnapshot", "KeyedStage", "keyed"]

P = TypeVar("P", bound=Policy[Any])


@attrs.frozen(kw_only=True)
class KeyedSnapshot(Snapshot):
    """
    A keyed policy at one moment: the counters summed over all keys, evicted ones included.

    Attributes:
        keys: The number of keys now.

        states: The number of policies in each state, the shared one included once it is used; empty if they have no
            states.

        evicted: Keys that were evicted because their policy was as new.

        overflowed: Look-ups that returned the shared policy because there was no room for the key.

        errors: Calls that used the shared policy because they had no key: its function raised, or the key has no hash.
    """

    keys: int
    states: dict[str, int]
    evicted: int
    overflowed: int
    errors: int


class Keyed(ByKey, Policy[KeyedConfig[Any]], Generic[P]):
    """One policy for each key; see :func:`keyed`, which makes one."""

    kind = "keyed"
    Config = KeyedConfig
    if not TYPE_CHECKING:
        __new__ = Policy.__new__  # and not that of its first base
    _gate: KeyedGate

    def __init__(self, config: KeyedConfig[Any], name: str | None = None) -> None:
        """Make one without any keys."""
        self._takes_key = takes_key(config.factory)
        self._reported: set[type[BaseException]] = set()
        self._heirs: list[Any] = []  # metrics, which keep the counters of evicted keys
        self._table = KeyedTable(self, config.key)
        self._table.configure(config)
        self._config = config
        self._given = name
        self._called_after = None
        before = policies_made()
        shared = self._new(None, config)
        reject_names(shared)
        self._reject_one_object(shared, before)
        self._table.begin(shared)
        super().__init__(self._table.stages[0], config, name, gates=self._table.stages)
        self._stages = tuple(KeyedStage(self, stage) for stage in self._table.stages)
        self._name_stages()
        for stage in self._table.stages[1:]:
            stage.policy = self
            attach(stage)

    # ---- the keys

    if TYPE_CHECKING:

        def __getitem__(self, key: Any, /) -> P: ...

    def get(self, key: Any) -> P | None:
        """Return the policy of this key, None if there is none."""
        return cast("P | None", self._table.get(key))

    def __contains__(self, key: object) -> bool:
        return key in self._table

    def __len__(self) -> int:
        return len(self._table)

    def __bool__(self) -> bool:
        return True

    def __iter__(self) -> Iterator[Any]:
        return iter(self._table.all())

    def items(self) -> list[tuple[Any, P]]:
        """Return the keys with their policies."""
        return list(self._table.all().items())

    @property
    def overflow(self) -> P:
        """The shared policy: for keys without room, and for calls without a key."""
        return cast("P", self._table.overflow.policy)

    def reset(self) -> None:
        """
        Forget all keys and the state of their policies; counters stay, and calls in flight end in their old policies.
        The state of all keys of the host is reset, if its processes share them.

        Until they end, the sum counts them as in flight. It also counts later calls of an old policy that a caller
        still holds.
        """
        self._table.clear()
        self._table.overflow.policy._start_over()
        if self._link is not None:
            self._link.reset(self, self._make(None, self._config))

    # ---- the interface of a policy

    def snapshot(self) -> KeyedSnapshot:
        """Return the counters and states now, summed over all keys."""
        return self._snapshot(None, self._gate.counters())

    def _snapshot(self, state: str | None, counters: Mapping[str, Any]) -> KeyedSnapshot:
        common = attrs.asdict(super()._snapshot(state, counters), recurse=False)
        table = self._table
        return KeyedSnapshot(
            **common,
            keys=len(table),
            states=self._states(self._gate),
            evicted=table.evicted,
            overflowed=table.overflowed,
            errors=table.errors,
        )

    @property
    def latency(self) -> LatencyHistogram:
        """A copy of the latencies of all keys, in seconds."""
        return self._gate.latency()

    def health(self) -> Health:
        """Return ready: each key has a health of its own."""
        return Health(ready=True)

    def _checked(self, changes: Mapping[str, Any]) -> KeyedConfig[Any]:
        config = self._config.replaced(changes)
        if config.overrides:  # checked by existing policies: the user's factory must not run under this lock
            for policy in self._all():
                policy._checked(config.overrides)
        return config

    def _redefine(self, config: KeyedConfig[Any], different: str) -> bool:
        """Keep the keys if factory and key are the same; options changed since then stay too."""
        mine = self._config
        own = {"max_keys": config.max_keys, "idle": config.idle, "scope": config.scope}
        if differences(changed(mine, **own, overrides={}), config):
            return False
        if different:
            self._swap(changed(mine, **own))
        return True

    def _apply(self, config: KeyedConfig[Any]) -> None:
        self._config = config  # before existing keys: a key made meanwhile has it already, or catches up
        self._table.configure(config)
        for policy in self._all():
            self._change(policy)

    def _change(self, policy: Policy[Any]) -> None:
        if self._config.overrides:
            policy._swap(policy._checked(self._config.overrides))
            policy.gates[0].entry.keep_configs()
            if self._link is not None:
                self._link.give_key(self, policy, policy.gates[0].entry.key)

    def _apply_shared(self, config: KeyedConfig[Any]) -> None:
        """Do nothing: judges and `enforce` belong to the keys' policies."""

    def _share(self, config: KeyedConfig[Any]) -> None:
        """Share the policies of all keys, those made later too, in the scope of the options."""
        if self._link is not None or wanted(config.scope) != PROCESS:
            core.hook("share_keys")(self, config)

    def _all(self) -> list[P]:
        return [*self._table.all().values(), self.overflow]

    def _take_name(self, name: str) -> None:
        super()._take_name(name)
        self._name_stages()
        for policy in self._all():
            self._name_policy(policy)

    def _name_stages(self) -> None:
        for stage in self._table.stages:
            stage.name = self.name

    def _check_kind(self, kind: Kind, fn: Any) -> None:
        self.overflow._check_kind(kind, fn)
        self._table.learn(fn)

    def _start_over(self) -> None:
        self.reset()

    def _states(self, stage: KeyedGate) -> dict[str, int]:
        """Return the number of policies in each state; the shared one counts once it is in use."""
        shared = self._table.overflow.gates
        used = self._table.overflowed or self._table.errors
        gates = [gate for gate in stage.gates() if used or gate not in shared] if stage.states else []
        policies = [policy for gate in gates if (policy := gate.policy) is not None]  # another thread may evict one now
        return dict(Counter(state for policy in policies if (state := policy._state()) is not None))

    def _about(self) -> tuple[str, ...]:
        return f"{with_article(self.overflow.kind)} a key", f"{len(self)} keys"

    def _seen_through(self) -> tuple[Policy[Any], ...]:
        made = self.overflow
        return made.policies if isinstance(made, Pipeline) else (made,)

    def _metered(self) -> tuple[KeyedStage, ...]:
        return self._stages

    # ---- callbacks of the table

    def build(self, key: Any) -> Policy[Any]:
        """Return a new policy for this key, with the options changed since."""
        made = self._new(key, self._config)
        gates = self._table.overflow.gates
        if [gate.kind for gate in made.gates] != [gate.kind for gate in gates]:
            raise TypeError(
                f"factory must make the same kinds of policies for each key; for {show(key)} it made {made!r}"
            )
        if any(gate.entry is not None or gate in gates for gate in made.gates):
            raise ValueError(NOT_NEW)
        return made

    def _reject_one_object(self, shared: Policy[Any], before: int) -> None:
        """Raise a ValueError if the factory returns an older policy, or, if it takes no key, the same one twice."""
        old = any(part._number <= before for part in parts_of(shared))
        if not old and not self._takes_key:
            again = self._new(None, self._config)
            old = any(gate in shared.gates for gate in again.gates)
        if old:
            raise ValueError(NOT_NEW)

    def catch_up(self, policy: Policy[Any]) -> None:
        """Apply the options that were changed while a key's policy was made."""
        with postponed(), names.changing():
            self._change(policy)

    def is_new(self, policy: Policy[Any], configs: tuple[Any, ...]) -> bool:
        """Return True if a policy, whose gates equal new ones, still has the options it was made with."""
        return all(
            gate.policy.config is config and gate.policy._is_new()
            for gate, config in zip(policy.gates, configs, strict=True)
        )

    def goes(self, gates: tuple[Any, ...]) -> None:
        """Report a key that leaves the table to metric sweeps in progress; the lock of all tables is held."""
        for heir in self._heirs:
            heir.miss(gates)

    def gone(self, gates: tuple[Any, ...]) -> None:
        """Hand the counters of a dead policy to metrics; the lock of all tables is held."""
        for heir in self._heirs:
            heir.inherit(gates)

    def where(self, fn: Any) -> tuple[int, bool, Any]:
        """Return the position of the key in `fn` (-1: keyword only), True if it has a default, and that default."""
        return place_of_key(fn, cast("str", self._config.key))

    def report(self, error: BaseException) -> None:
        """Log that a call has no key, once for each kind of error."""
        if type(error) not in self._reported:
            self._reported.add(type(error))
            from resilio._events import log

            where = log.describe("keyed", self.name)
            text, fields = "%s: no key, or no policy for it; such calls share one policy", {"policy": "keyed"}
            log.say(log.WARNING, text, where, fields=fields | {"policy_name": self.name}, error=error)

    def _new(self, key: Any, config: KeyedConfig[Any]) -> Policy[Any]:
        made = self._make(key, config)
        if self._link is not None:
            self._link.give_key(self, made, key)
        return made

    def _make(self, key: Any, config: KeyedConfig[Any]) -> Policy[Any]:
        made = make_of(config, key, by_key=self._takes_key)
        if config.overrides:
            made._put(made._checked(config.overrides))
        for part in parts_of(made):
            names.unlist(part)
            detach(part.gates[0])
            self._share_config(part)
        self._name_policy(made)
        return made

    def _share_config(self, part: Policy[Any]) -> None:
        """Share one record of options between policies with equal options."""
        overflow: Entry | None = self._table.overflow  # None while the shared policy itself is made
        for gate in overflow.gates if overflow is not None else ():
            if type(gate.policy) is type(part) and gate.policy.config == part.config:
                part._config = gate.policy.config

    def _name_policy(self, policy: Policy[Any]) -> None:
        for part in parts_of(policy):
            part._called_after = self.name
            part.gates[0].name = self.name


class KeyedStage:
    """One stage of a keyed policy as metrics see it: the gates of all keys as one."""

    def __init__(self, owner: Keyed[Any], gate: KeyedGate) -> None:
        """Make the view of a stage of `owner`."""
        self._owner = owner
        self.gates = (gate,)
        self.kind = gate.kind

    @property
    def label(self) -> str:
        """The name for metrics."""
        return self._owner.label

    @property
    def _link(self) -> Any:
        """How its owner is shared with other processes."""
        return self._owner._link

    @property
    def latency(self) -> LatencyHistogram:
        """The latencies of all keys."""
        return self.gates[0].latency()

    def snapshot(self) -> KeyedSnapshot:
        """Return the counters and states of this stage now."""
        return attrs.evolve(self._owner.snapshot(), kind=self.kind, states=self._owner._states(self.gates[0]))


@makes(KeyedConfig)
def keyed(config: KeyedConfig[P], name: str | None) -> Keyed[P]:
    """
    Return a policy that has a separate one for each key, such as a host or a tenant.

    `per_host = keyed(circuit_breaker, key="host")` is used like any other policy; `per_host["example.org"]` is the
    policy of one key.

    Args:
        factory: Makes the policy, or pipeline, of a key. If it has a parameter without a default it gets the key, and
            None for the policy that keys share for which there is no room. What it makes has no name.
        key: A function of exactly the arguments of the call (of a method, `self` is the first) that returns what can be
            hashed; or the name of a parameter. A call without a key (the function raises) shares a policy with others.
        max_keys: How many there may be, >= 1. A key beyond them shares a policy too, unless one that is as new can go.
        idle: Seconds after which an unused key is forgotten if its policy is as new: a closed breaker with nothing in
            its window, a bulkhead without calls, a full bucket. Counters and latencies are kept in the sum.
        name: What it is called, and all its policies; metrics show the sum under this name.
        scope: "host": one state for each key in all processes of the service on this host; or what
            :func:`resilio.sharing.host` or :func:`resilio.sharing.fleet` returns. None: that of the variable
            `RESILIO_SCOPE`, "process" by default. What the factory makes has no scope of its own.

    Raises:
        TypeError: An option of a wrong type, a factory that makes no policy, or one with a key inside.
        ValueError: An option out of range, a named policy, or a name that belongs to another policy.
    """
    return cast("Keyed[P]", make(Keyed, name, config))
