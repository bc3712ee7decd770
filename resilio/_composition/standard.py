"""
The recommended stack in one call; :func:`resilio.override` changes one part of it.

Why: the order of eight patterns, the budget of retries, and the calls that must not run twice are decided once, here.
When not: if one pattern is enough, or the right numbers are known. The stack is not tuned: its parts learn some values
(the time of an attempt, the start of a hedge), and all other limits are too wide for a healthy service to notice.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Any, ClassVar, Literal, cast

import attrs

from resilio import presets
from resilio._composition.pipeline import Pipeline, PipelineConfig, Stack, name_parts
from resilio._composition.standard_door import door_of_stack, join
from resilio._composition.standard_pool import breakers_of, pool_of_stack, servers
from resilio._composition.standard_timeout import PerAttempt, per_attempt, reject_plain, timeout_config
from resilio._failures.outcome import judge_error, judge_value
from resilio._native.gates import BulkheadGate
from resilio._options.fields import EnforcedOptions, Unset, changed, default_of, kept, option, record
from resilio._options.scope import PROCESS, Scope, checked_scope
from resilio._options.validators import flag, policy_name, positive_int, reject, seconds
from resilio._policies.bulkhead.policy import Bulkhead, bulkhead
from resilio._policies.circuit_breaker.policy import CircuitBreaker, circuit_breaker
from resilio._policies.deadline import Deadline
from resilio._policies.deadline import deadline as deadline_of
from resilio._policies.hedge import hedge
from resilio._policies.rate_limit.policy import Rate, RateLimit
from resilio._policies.retry.backoff import BackoffLike, backoff_option
from resilio._policies.retry.budget import RetryBudget
from resilio._policies.retry.policy import Retry, RetryConfig, budget_option, retry
from resilio._policies.timeout import Timeout
from resilio._policy.base import Policy, make
from resilio._policy.factory import makes
from resilio._policy.rules import is_preset, rule
from resilio._policy.types import Converted, Failures, SecondsOrNone, Time
from resilio._registry.definitions import all_or_nothing, configured
from resilio._registry.names import look_up
from resilio.presets import Preset

if TYPE_CHECKING:
    from resilio._composition.explain import Explanation
    from resilio._policies.fallback import Fallback
    from resilio._policies.pool.endpoint import Endpoint
    from resilio._policies.pool.policy import Pool
    from resilio._policy.decorate import Kind

__all__ = ["Standard", "standard"]

OF_PRESET: Any = Unset.OF_PRESET
"""The default of options whose value comes from the preset or the name."""
MOST_CONCURRENT = 1000
"""The default limit of concurrent calls: a thousand calls that hang are a leak, and no load."""


def _dependency(name: str, value: object) -> str:
    checked = policy_name(name, value)
    return checked or reject(name, value, "a name: a standard stack belongs to one dependency", TypeError)


def _of_preset(check: Callable[..., Any]) -> Callable[..., Any]:
    """Return a check that passes the default `OF_PRESET` unchanged."""

    def unless_of_preset(name: str, value: object, **limits: Any) -> Any:
        """Check a value that the user gave."""
        return value if value is OF_PRESET else check(name, value, **limits)

    return unless_of_preset


def _rates(name: str, given: Any) -> tuple[Any, ...]:
    if not isinstance(given, (str, Rate, list, tuple)):
        reject(name, given, "a rate like '100/s', or several", TypeError)
    return (given,) if isinstance(given, (str, Rate)) else tuple(given)


def _fallback(name: str, given: Any) -> Any:
    if given is not None and not (isinstance(given, Policy) and given.kind == "fallback"):
        reject(name, given, "fallback(...), or None", TypeError)
    return given


Backoffs = Converted[BackoffLike, Any]
Budget = Converted[RetryBudget | str | None, Any]
Rates = Converted[str | Rate | Sequence[str | Rate], tuple[str | Rate, ...]]


@record
class StandardConfig(EnforcedOptions):
    """
    The options of a standard stack, checked as far as its parts do not; :func:`standard` documents each.

    Attributes:
        policies: Its parts; not compared, as the options distinguish two stacks.

        defaults: The parts whose time comes from the preset, not from the caller.
    """

    name: str = option(_dependency, kw_only=False)
    on: Failures = option(rule)
    idempotent: bool = option(flag, default=False)
    fallback: Fallback | None = option(_fallback, default=None)
    deadline: SecondsOrNone = option(_of_preset(seconds), default=OF_PRESET, zero_ok=True, none_ok=True, unit="seconds")
    attempts: int | None = option(positive_int, default=default_of(RetryConfig, "attempts"), none_ok=True)
    backoff: Backoffs = option(backoff_option, default=default_of(RetryConfig, "backoff"))
    budget: Budget = option(_of_preset(budget_option), default=OF_PRESET)
    pool: Pool | Sequence[Endpoint | str] | None = option(servers, default=None)
    rates: Rates = option(_rates, default=())
    max_concurrent: int | None = option(positive_int, default=MOST_CONCURRENT, none_ok=True)
    timeout: PerAttempt | None = option(_of_preset(per_attempt), default=OF_PRESET, unit="seconds")
    scope: Literal["process", "host"] | Scope | None = option(checked_scope, default=None, none_ok=True)
    policies: tuple[Policy[Any], ...] = kept(factory=tuple, eq=False)
    defaults: tuple[Policy[Any], ...] = kept(factory=tuple, eq=False)


class Standard(Pipeline):
    """
    The recommended stack; see :func:`standard`, which makes one.

    A function that some part cannot guard honestly is guarded by the others. So a sync function is guarded by all parts
    but the hedge and the default timeout, which cannot stop it; an async generator by all but the hedge. A timeout that
    the caller has set is never left out: then a sync function raises a TypeError.
    """

    Config: ClassVar[type[Any]] = StandardConfig
    _owns_names = True  # its parts are called "name.retry" and so on
    _threaded: Policy[Any] | None = None  # the parts that `call` uses

    def __init__(self, config: StandardConfig, name: str | None = None) -> None:
        """
        Put a door before the parts, and let refusals of the server shut the limit among them.

        Args:
            config: The options, with the parts.

            name: The user's name, or None of a copy.
        """
        super().__init__(cast("Any", config), name)
        join(self.policies)

    def _checked(self, changes: Mapping[str, Any]) -> Any:
        """Return the options with another scope; the other options belong to the parts once those are made."""
        for name in changes:
            if name != "scope":
                part = f"{self.name}.retry"
                raise TypeError(
                    f"a standard's scope can be changed, not its {name}: change that of a part, as {part!r}"
                )
        for part in self._scoped(self._config):
            part._checked({"scope": _scope_of(part._sharing_gate(), changes["scope"])})
        return changed(self._config, **changes)

    def _apply(self, config: Any) -> None:
        """Do nothing: the scope, which alone can change, is a matter of the parts."""

    def _share(self, config: Any) -> None:
        """Let the parts have the scope, but for those whose own `configure` has set."""
        for part in self._scoped(config):
            scope = _scope_of(part._sharing_gate(), config.scope)
            if part.config.scope != scope and "scope" not in look_up((part.name, part.kind))[1]:
                part._swap(part._checked({"scope": scope}))

    def _scoped(self, config: Any) -> Iterator[Any]:
        """Yield the parts that can be shared, and the budget unless it is the caller's."""
        for part in config.policies:
            budget = part.config.budget if isinstance(part, Retry) else None
            if isinstance(budget, RetryBudget) and budget.name == f"{config.name}.budget":
                yield budget
            elif part.kind == "pool":
                yield from breakers_of(part)
            elif isinstance(part, (CircuitBreaker, Bulkhead)) or (isinstance(part, RateLimit) and part.config.rates):
                yield part

    def explain(self) -> Explanation:
        """Describe the parts, and name those that have a narrower scope than the stack."""
        explained = super().explain()
        config: Any = self._config
        narrower = tuple(
            f"{part.kind} of the {'process' if part.config.scope == PROCESS else 'host'}: no part of {config.scope!r}"
            for part in self._scoped(config)
            if config.scope is not None and part.config.scope != config.scope
        )
        return attrs.evolve(explained, notes=(*explained.notes, *narrower))

    def _apply_shared(self, config: Any) -> None:
        preset = _preset(config.on)
        self._gate.enforce = config.enforce
        errors, results = preset.part("failing")
        self._gate.judge_error, self._gate.judge_value = judge_error(errors), judge_value(results)
        for part in config.policies:  # one judge for both is asked once
            if isinstance(part, CircuitBreaker) and part.config.on is preset and part.config.failed_if is None:
                self._gate.judge_value = part._gate.judge_value

    if not TYPE_CHECKING:  # the types are those of any policy

        def call(self, fn: Any, /, *args: Any, **kwargs: Any) -> Any:
            """Call a plain function, guarded by the parts that can guard one."""
            part = self._for_threads(fn)
            return super().call(fn, *args, **kwargs) if part is self else part.call(fn, *args, **kwargs)

        def try_call(self, fn: Any, /, *args: Any, **kwargs: Any) -> Any:
            """Return a Result; a plain function is guarded by the parts that can guard one."""
            part = self._for_threads(fn)
            return super().try_call(fn, *args, **kwargs) if part is self else part.try_call(fn, *args, **kwargs)

    def _for_threads(self, fn: Any) -> Policy[Any]:
        if self._threaded is None:
            self._threaded = self._fit("sync", fn)
        return self._threaded

    def _fit(self, kind: Kind, fn: Any) -> Policy[Any]:
        for policy in self.policies:
            if isinstance(policy, Timeout) and policy not in self._defaults():
                reject_plain(self.label, policy, kind, fn)
        fitting = tuple(policy for policy in self.policies if _fits(policy, kind, fn))
        if len(fitting) == len(self.policies):
            return self
        return _Part(self, fitting)

    def _defaults(self) -> tuple[Policy[Any], ...]:
        config: Any = self._config
        defaults: tuple[Policy[Any], ...] = config.defaults
        return defaults


def _scope_of(gate: Any, scope: Any) -> Any:
    """Return the scope of a part by its gate, and that of the stack."""
    if scope is None and (gate is BulkheadGate or isinstance(gate, BulkheadGate)):
        return PROCESS
    checked = checked_scope("scope", scope)
    return checked.of_part(gate) if isinstance(checked, Scope) else checked


class _Part(Pipeline):
    """The parts of a pipeline that can guard a function, behind the door of the whole, if it has one, to drain it."""

    def __init__(self, whole: Pipeline, policies: tuple[Policy[Any], ...]) -> None:
        door = () if isinstance(whole, Stack) else (whole._gate,)
        gates = (*door, *(gate for policy in policies for gate in policy.gates))
        Policy.__init__(self, gates[0], PipelineConfig(policies=policies), whole.name, gates=gates)
        self._whole = whole

    def explain(self) -> Explanation:
        """Describe these parts, and name those of the whole that are left out."""
        left_out = tuple(_why_left_out(policy) for policy in self._whole.policies if policy not in self.policies)
        explained = super().explain()
        return attrs.evolve(explained, notes=(*explained.notes, *left_out))

    def __repr__(self) -> str:
        return repr(self._whole)


def _why_left_out(policy: Policy[Any]) -> str:
    reason = "it cannot guard this kind of function"
    if isinstance(policy, Timeout):
        reason = "nothing can interrupt a function that is not async: the client that it calls has a timeout of its own"
    return f"{policy.kind} left out: {reason}"


def _fits(policy: Policy[Any], kind: Kind, fn: Any) -> bool:
    try:
        policy._check_kind(kind, fn)
    except TypeError:
        return False
    return True


def _preset(on: Any) -> Preset:
    checked = rule("on", on)
    return checked if is_preset(checked) else presets.of(checked)


@makes(StandardConfig, '@standard("payments", on="http")')
def standard(config: StandardConfig, _: str | None) -> Standard:
    """
    Return the recommended stack for one dependency.

    From outside in: fallback, deadline, retry, hedge, rate limit, circuit breaker, bulkhead, timeout. With several
    servers: rate limit, bulkhead, pool, timeout; each server has a breaker of its own, and retries go elsewhere.

    Safe without tuning: a call that is not idempotent is neither hedged, nor retried after a failure in which it may
    have been executed. `print(stack.explain())` shows the parts, :func:`override` changes one of them.

    Args:
        name: The name of the dependency; its parts are "name.retry" and so on.
        on: Exceptions that are failures: "http", "model", "database", "redis", "mcp", a
            :class:`resilio.presets.Preset`, exception types, or a predicate `exception -> bool`.
        idempotent: Whether calls may be run twice. False: no hedge, and retries only if nothing was done.
        fallback: A :func:`resilio.fallback` for calls that fail in spite of the other parts; None: no fallback.
        deadline: Seconds for a call with all its attempts and waits; None for no limit; the default is the preset's.
        attempts: Attempts of a call in all, >= 1.
        backoff: Wait between attempts, as for :func:`resilio.retry`.
        budget: The budget that pays for retries and hedges; the default is one called "name.budget"; None: they are
            free.
        pool: Several servers of the dependency: endpoints or URLs, of which each has a circuit breaker; or a
            :func:`resilio.pool`. None: there is one.
        rates: Limits like "100/s", as for :func:`resilio.rate_limit`; a call waits for its turn up to a second,
            a call of a model as long as its deadline allows. Without them too, a refusal that names a time, like a 429
            with a Retry-After, stops all calls for so long, at most a minute: those whose deadline leaves time wait,
            the others are rejected. Not with a pool, which leaves the one server alone.
        max_concurrent: The number of concurrent calls; None for no limit.
        timeout: Seconds that an attempt may take. A multiple of a quantile of the recent successes, like "p99*3", or a
            function of the call's arguments that returns a time: at most the preset's time. A :func:`resilio.timeout`,
            or a mapping of its options like `{"total": "p99*3", "ceiling": 20.0}`. None for no limit. The default is
            "p99.9*3", at least one second and at most the preset's time.
        scope: "host": breaker, limits and budget are one for all processes of the service on this host, `rates` and
            `max_concurrent` too; or what :func:`resilio.sharing.host` or :func:`resilio.sharing.fleet` returns: what a
            fleet does not share is the host's then. None: that of the variable `RESILIO_SCOPE`, "process" by default,
            and "process" for `max_concurrent`.
        enforce: False: no part rejects anything, and each counts what it would have rejected; 0 to 1: this share.

    Raises:
        TypeError: An option of a wrong type; the message names it and the value.
        ValueError: An option out of range, or a name that belongs to another policy.
    """
    name = config.name
    with all_or_nothing(f"{name}."):
        made_by = changed(configured((name, Standard.kind), config), scope=config.scope)  # `_share` passes that on
        parts = _policies(made_by)
        of_preset = [
            kind for kind, given in (("deadline", made_by.deadline), ("timeout", made_by.timeout)) if given is OF_PRESET
        ]
        defaults = tuple(part for part in parts if part.kind in of_preset)
        made = make(Standard, name, changed(config, policies=parts, defaults=defaults))
        name_parts(made)  # a fallback of the caller's has no name yet
        return made


def _policies(config: StandardConfig) -> tuple[Policy[Any], ...]:
    """Return the parts of the stack, outermost first."""
    name, preset = config.name, _preset(config.on)
    shared: dict[str, Any] = {"enforce": config.enforce, "scope": config.scope}
    whole = preset.deadline if config.deadline is OF_PRESET else config.deadline
    asked = config.deadline is not OF_PRESET
    paid = RetryBudget(f"{name}.budget", scope=config.scope) if config.budget is OF_PRESET else config.budget
    tries: dict[str, Any] = {"attempts": config.attempts, "backoff": config.backoff, "budget": paid}
    attempt = timeout_config(preset, config.timeout)
    parts: list[Policy[Any] | None] = [
        config.fallback,
        None if whole is None else _deadline(f"{name}.deadline", whole, asked=asked),
        retry(on=preset, idempotent=config.idempotent, **tries, name=f"{name}.retry"),
        hedge(idempotent=True, on=preset, name=f"{name}.hedge") if config.idempotent else None,
        door_of_stack(name, config, preset, MOST_CONCURRENT),
        *_admitting(config, preset, shared),
        None if attempt is None else make(Timeout, f"{name}.timeout", attempt),
    ]
    return tuple(part for part in parts if part is not None)


def _admitting(config: StandardConfig, preset: Preset, shared: dict[str, Any]) -> list[Policy[Any] | None]:
    """Return breaker and bulkhead, or, for several servers, bulkhead and pool: a limit inside would be a server's."""
    name, most = config.name, config.max_concurrent
    of_bulkhead = {"scope": _scope_of(BulkheadGate, config.scope)}
    limit = None if most is None else bulkhead(most, name=f"{name}.bulkhead", **shared | of_bulkhead)
    if config.pool is None:
        return [circuit_breaker(f"{name}.circuit_breaker", on=preset, **shared), limit]
    return [limit, pool_of_stack(name, config.pool, preset, shared)]


def _deadline(name: str, seconds: Time, *, asked: bool) -> Deadline:
    """Return the stack's deadline; it has no name in the registry, but lists of policies show the stack's."""
    stage = deadline_of(seconds, tasks=False)
    stage.bounds_bodies = asked  # a long download is not ended by a number that the caller has never seen
    stage._as_stage()
    stage._called_after = stage._gate.name = name
    return stage
