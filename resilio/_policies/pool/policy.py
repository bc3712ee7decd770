"""
A pool sends each call to one of several endpoints: elsewhere when a server, zone, region or provider is in trouble.

Why: one endpoint of several is slow or fails more often than all of them do, and the others can take its calls. When
not: behind a load balancer that knows more of the endpoints than this process, or for endpoints that hold different
data. It is no retry: a call that failed is made again only by a `retry` or a `hedge` around the pool, which then go
elsewhere.
"""

from __future__ import annotations

import threading
import weakref
from collections.abc import Callable, Mapping
from functools import partial
from typing import TYPE_CHECKING, Any, cast

from resilio._failures.outcome import judge_error, judge_value
from resilio._native.pool import PoolStage, PoolTable, Seat
from resilio._options.differences import differences
from resilio._options.fields import changed
from resilio._options.validators import show
from resilio._policies.circuit_breaker.policy import circuit_breaker
from resilio._policies.pool.affinity import KeyFaults, place_in_call
from resilio._policies.pool.chosen import Pick, given_first
from resilio._policies.pool.config import PoolConfig
from resilio._policies.pool.endpoint import Endpoint, checked_weight, endpoints_of
from resilio._policies.pool.face import PoolView, parts_of
from resilio._policies.pool.names import Following
from resilio._policies.pool.placed import Placed, raised_is_unserved
from resilio._policies.pool.prices import levels_of
from resilio._policies.pool.probes import Probing
from resilio._policies.pool.reports import ABSENT, changed_by_hand
from resilio._policies.pool.subset import MOST_PLACES, choose_anew_in_children, subset
from resilio._policies.pool.zones import ranked
from resilio._policy.base import Policy, make
from resilio._policy.factory import makes_named_of_several
from resilio._policy.misordered import warn_of
from resilio._policy.rules import ClientRule, resolved
from resilio._registry import names
from resilio._support.after_fork import free_lock

if TYPE_CHECKING:
    from resilio._native.primitives import LatencyHistogram
    from resilio._policy.decorate import Kind

__all__ = ["Pool", "PoolConfig", "pool"]

FAILURES = 5
"""The failures in a row that eject an endpoint, if `each` is not given."""


class Pool(PoolView):
    """Several endpoints, of which each call goes to one; see :func:`pool`, which makes one."""

    kind = "pool"
    Config = PoolConfig
    _client_rule = ClientRule.PLACED
    _gate: PoolStage

    def __init__(self, config: PoolConfig, name: str | None = None) -> None:
        """Make the pool with the endpoints of `config`."""
        self._table = PoolTable()
        self._placed = {}
        self._within = weakref.ref(self)
        self._changing = threading.RLock()
        free_lock(self, "_changing")
        self._given = name
        self._called_after = None
        self._config = config
        self._reported = KeyFaults(self)
        self._offered, used = config.endpoints, self._part_of(config.endpoints)
        first = self._policy_of(used[0] if used else Endpoint("none"))
        self._table.begin(first.gates)
        super().__init__(self._table.stages[0], config, name, gates=self._table.stages)
        for stage in self._table.stages[1:]:
            stage.policy = self
            stage.name = self.name
        self._apply(config)
        for endpoint in used:
            self._place(endpoint, first if endpoint is used[0] else self._policy_of(endpoint))
        self._arrange()
        self._upkeep = self._upkeep_of(config)
        for part in self._upkeep:
            part.begin()
        for rule, message in self._misplaced_within():
            warn_of(rule, f"pool: {message}")

    def _upkeep_of(self, config: PoolConfig) -> list[Following | Probing]:
        following = [] if config.resolve is None else [Following(self, config.resolve)]
        probing = [] if config.probe is None else [Probing(self, config.probe)]
        return [*following, *probing]

    # ---- calls

    def call(self, fn: Callable[..., Any], /, *args: Any, **kwargs: Any) -> Any:
        """Return `fn(endpoint, *args, **kwargs)`, with the endpoint that is chosen for this call. May block."""
        return super().call(given_first(self, fn), *args, **kwargs)

    def acall(self, fn: Callable[..., Any], /, *args: Any, **kwargs: Any) -> Any:
        """Await `fn(endpoint, *args, **kwargs)`, with the endpoint that is chosen for this call."""
        return super().acall(given_first(self, fn), *args, **kwargs)

    def try_call(self, fn: Callable[..., Any], /, *args: Any, **kwargs: Any) -> Any:
        """Call as `call` does, and return a Result instead of raising."""
        return super().try_call(given_first(self, fn), *args, **kwargs)

    def try_acall(self, fn: Callable[..., Any], /, *args: Any, **kwargs: Any) -> Any:
        """Await as `acall` does, and return a Result instead of raising."""
        return super().try_acall(given_first(self, fn), *args, **kwargs)

    def pick(self, /, *args: Any, **kwargs: Any) -> Pick:
        """
        Return a block that holds a permit for an endpoint: `with p.pick() as endpoint:`, or `async with`.

        An exception that leaves the block counts as the rules of the pool and of the endpoint's policy say.
        """
        return Pick(self, args, kwargs)

    # ---- endpoints

    def __getitem__(self, name: str) -> Policy[Any]:
        """Return the policy of the endpoint of this name."""
        return self._named(name).policy

    def __contains__(self, name: object) -> bool:
        return name in self._placed

    def __len__(self) -> int:
        return len(self._placed)

    def __bool__(self) -> bool:
        return True

    def add(self, endpoint: Endpoint) -> None:
        """
        Add an endpoint; calls may go there from now on.

        Raises:
            ValueError: There is one of this name, or no room for more.
        """
        policy = self._policy_of(endpoint)
        with self._changing:
            if endpoint.name in self._placed:
                raise ValueError(f"endpoint must have a new name, not {endpoint.name!r}: remove that one before")
            self._place(endpoint, policy).seat.warm_up()
            self._arrange()
        changed_by_hand(self, endpoint.name, ABSENT, "well")

    def remove(self, name: str) -> None:
        """Remove an endpoint; calls in flight end there. A KeyError names the endpoints if there is none such."""
        with self._changing:
            state = self._named(name).state
            del self._placed[name]
            self._offered = tuple(one for one in self._offered if one.name != name)
            self._arrange()
        changed_by_hand(self, name, state, ABSENT)

    def drain(self, name: str) -> None:
        """Send no new calls to this endpoint until `undrain`; calls in flight go on."""
        self._set(name, drained=True)

    def undrain(self, name: str) -> None:
        """Send calls to this endpoint again."""
        self._set(name, drained=False)

    def weigh(self, name: str, weight: float) -> None:
        """Give an endpoint another weight."""
        self._set(name, weight=checked_weight(weight))

    def _set(self, name: str, **changes: Any) -> None:
        with self._changing:
            placed = self._named(name)
            before = placed.state
            for field, value in changes.items():
                setattr(placed, field, value)
            self._arrange()
            after = placed.state
        if "drained" in changes:
            changed_by_hand(self, name, before, after)

    def reset(self) -> None:
        """
        Let all endpoints be well, and forget what is known of them; counters stay, also of calls in flight.

        Their own policies are reset, drained ones are called again; those added and removed since stay so.
        """
        with self._changing:
            for placed in list(self._placed.values()):
                placed.policy._start_over()
                del self._placed[placed.name]
                self._place(placed.endpoint, placed.policy).weight = placed.weight
            self._arrange()

    def _start_over(self) -> None:
        """Reset, with the endpoints of the definition; those of a look-up stay."""
        if self._config.resolve is None:
            self._follow(self._config.endpoints)
        self.reset()

    def _follow(self, endpoints: tuple[Endpoint, ...]) -> None:
        """Remove endpoints and add others, so that there are these; one that stays keeps its policy."""
        with self._changing:
            used = self._part_of(endpoints)
            for gone in set(self.endpoints) - set(used):
                self.remove(gone.name)
            for endpoint in used:
                if endpoint.name not in self._placed:
                    self.add(endpoint)
                else:
                    self.weigh(endpoint.name, endpoint.weight)
            self._offered = endpoints

    def _part_of(self, endpoints: tuple[Endpoint, ...]) -> tuple[Endpoint, ...]:
        """Return those that this process uses: of too many some."""
        used = subset(endpoints)
        self._unused = len(endpoints) - len(used)
        if self._unused:
            choose_anew_in_children(self)
        return used

    def _choose_anew(self) -> None:
        """Use the part of a forked child in place of its parent's."""
        used = {one.name: one for one in self._part_of(self._offered)}
        with self._changing:
            for left in [one.name for one in self._offered if one.name in self._placed and one.name not in used]:
                del self._placed[left]
            for name in used.keys() - self._placed.keys():
                self._place(used[name], self._policy_of(used[name]))
            self._arrange()

    def _redefine(self, config: PoolConfig, different: str) -> bool:
        """Keep the endpoints that stay, unless each, probe or resolve are others."""
        own = {"each": config.each, "probe": config.probe, "resolve": config.resolve}
        if differences(self._config, changed(self._config, **own)):
            return False
        if different:
            self._follow(config.endpoints)
            self._swap(changed(config, each=self._config.each, probe=self._config.probe, resolve=self._config.resolve))
        return True

    def _named(self, name: str) -> Placed:
        try:
            return cast("Placed", self._placed[name])
        except KeyError:
            known = ", ".join(map(repr, self._placed)) or "none"
            raise KeyError(f"the pool has no endpoint {name!r}; it has: {known}") from None

    def _policy_of(self, endpoint: Endpoint) -> Policy[Any]:
        config = self._config
        if config.each is None:
            rules = {"on": config.on, "ignore": config.ignore, "failed_if": config.failed_if}
            made: Any = circuit_breaker(consecutive=FAILURES, **rules)
        else:
            made = config.each(endpoint)
        self._check_made(endpoint, made)
        policy: Policy[Any] = made
        for part in {made: None, **dict.fromkeys(parts_of(made))}:  # a pipeline is no part of itself
            if part._given is None:
                names.unlist(part)
                part._within = self._within
                part._called_after = f"{self.name or self.kind}/{endpoint.name}"
                part.gates[0].name = part._called_after
        return policy

    def _check_made(self, endpoint: Endpoint, made: Any) -> None:
        if not isinstance(made, Policy):
            raise TypeError(f"each must make a policy of an endpoint; {show(self._config.each)} made {show(made)}")
        if any(hasattr(gate, "table") for gate in made.gates):
            raise TypeError("each must make no policy with keys or endpoints of its own: put that around the pool")
        kinds = [gate.kind for gate in made.gates]
        before = [gate.kind for gate in self._table.stages[1:]]
        if self._table.stages and kinds != before:
            raise ValueError(f"each must make the same kinds of policies for each endpoint, {before}; it made {kinds}")
        others = [placed.endpoint.name for placed in self._placed.values() if {*placed.gates} & {*made.gates}]
        if others:
            raise ValueError(
                f"each must make a policy of its own for each endpoint; {endpoint.name!r} has that of {others[0]!r}: "
                "put one that they share around the pool"
            )

    def _place(self, endpoint: Endpoint, policy: Policy[Any]) -> Placed:
        taken = {placed.place for placed in self._placed.values()}
        place = next((at for at in range(MOST_PLACES) if at not in taken), None)
        if place is None:
            raise ValueError(
                f"a pool has at most {MOST_PLACES} endpoints, and {endpoint.name!r} would be one more: remove another "
                "one before, or pass all to pool(), of which a process uses a part"
            )
        placed = self._placed[endpoint.name] = Placed(Seat(self._table, endpoint), policy, place)
        placed.belong_to(self)
        return placed

    def follows(self) -> None:
        """Take the levels anew: the condition of `cheaper` has changed."""
        with self._changing:
            self._arrange()

    def _arrange(self) -> None:
        """Pass the endpoints to the table, by level."""
        placed = list(self._placed.values())
        ranks = ranked(levels_of([one.endpoint for one in placed], self._zone(), self._config.cheaper))
        zones = {zone: at for at, zone in enumerate(dict.fromkeys(one.endpoint.zone for one in placed), 1) if zone}
        rows = [
            (one, one.place, rank, one.weight, zones.get(one.endpoint.zone or "", 0), one.drained)
            for one, rank in zip(placed, ranks, strict=True)
        ]
        self._table.arrange(sorted(rows, key=lambda row: row[2]))

    # ---- the interface of a policy

    @property
    def latency(self) -> LatencyHistogram:
        """A copy of the latencies of all endpoints, in seconds."""
        return self._gate.latency()

    def _apply(self, config: PoolConfig) -> None:
        self._config = config
        self._table.configure(config)
        self._table.go_by(config.affinity, partial(place_in_call, config.affinity), self._reported.note)
        self._arrange()
        if config.cheaper is not None:
            config.cheaper.follow(self)

    def _checked(self, changes: Mapping[str, Any]) -> PoolConfig:
        fixed = {"endpoints", "each", "resolve", "probe"} & changes.keys()
        if fixed:
            raise TypeError(f"{min(fixed)} of a pool cannot be changed; endpoints are by add, remove, drain and weigh")
        return changed(self._config, **changes)

    def _apply_shared(self, config: Any) -> None:
        super()._apply_shared(config)
        on, failed_if = resolved(config, "endpoint")
        self._gate.judge_error = raised_is_unserved(judge_error(on, config.ignore))
        self._gate.judge_value = judge_value(failed_if)
        for placed in self._placed.values():
            placed.judge_as(self._gate)

    def _check_kind(self, kind: Kind, fn: Any) -> None:
        super()._check_kind(kind, fn)
        self._table.learn(fn)

    def _take_name(self, name: str) -> None:
        super()._take_name(name)
        for stage in self._table.stages[1:]:
            stage.name = self.name


@makes_named_of_several(endpoints_of, PoolConfig, '@pool("search", Endpoint("https://a.internal"))')
def pool(config: PoolConfig, name: str | None) -> Pool:
    """
    Return a pool of endpoints: each call goes to one of them, and elsewhere if that one rejects it.

    A call goes to the lowest level of which enough is well; there to the better one of two endpoints that are drawn by
    weight and were not tried before by this call. Put `retry` and `hedge` outside: their attempts go elsewhere.

    Args:
        name: What it is called.
        endpoints: The endpoints at the beginning, each an :class:`Endpoint` with a name of its own. Of more than 64 a
            process uses 32, each process others.
        zone: The zone of this process, like "eu-1a"; None: that of the variable `RESILIO_ZONE`. An endpoint in it has
            level 0, one in its region 1, any other 2, unless it has a level of its own.
        each: A function of an endpoint that returns its policy, or pipeline, of the same kinds for all; without names,
            or with different ones. None: `circuit_breaker(consecutive=5)` with the rules of this pool.
        balance: What the better one of two is: "latency": the lower latency x (in flight + 1) / weight, where a failure
            counts as 30 medians; "inflight": the same without the latency; "order": the first one that admits the call.
        affinity: The name of a parameter that has the key of a call, like a conversation, or a function of the call's
            arguments that returns it: calls of one key go to one endpoint of their level, in place of `balance`. Beyond
            1.25 times the mean of the calls in flight they go to the next one in the key's order. None: to any.
        overprovision: The factor by which the health of a level counts, 1 to 100: with 1.4, a level takes all its calls
            until less than 72 % of it is well.
        max_ejected: The share of the weight that may be ejected by statistics, (0, 1]; never the last endpoint. A
            breaker that is open because nothing works is obeyed.
        warm_up: Seconds in which the share of a new endpoint, and of one that is back, rises; None: at once.
        probe: What :func:`probe_http` returns, or a function `endpoint -> bool`, sync or async: asked of ejected
            endpoints as soon as their breaker admits a probe. None: the first call is the probe.
        spill: Whether a call that all endpoints of its level reject goes to the next level.
        resolve: What :func:`dns` returns, or a function without arguments that returns endpoints: looked up in a
            thread, and followed. None: the endpoints change by hand alone.
        cheaper: A condition like `spend_limit(...).below(.2, until=.3)`: while it is true, the levels are those of the
            prices, the cheapest first: of an endpoint's label `price`, else the limit's price of its label `model`.
            None: levels never go by price.
        on: Exceptions that are failures: types, a predicate `exception -> bool | Outcome`, or a preset: "http",
            "model", "database", "redis", "mcp". Left out: every exception, and in a client's transport failing answers
            too.
        ignore: Exceptions matched by `on` that do not count at all: types, or a predicate, called only for those.
        failed_if: Results that are failures: a predicate `result -> bool | Outcome`; None: the preset's rule.

    Raises:
        TypeError: An option of a wrong type, or endpoints whose policies are of different kinds.
        ValueError: An option out of range, two endpoints of one name, or a name that belongs to another policy.
    """
    return make(Pool, name, config)
