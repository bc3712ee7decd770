"""Policies of a stack in a scenario file: tables of options, named as in Python."""

from __future__ import annotations

import inspect
from collections.abc import Callable
from functools import partial
from itertools import count
from operator import attrgetter
from typing import Any, TypeVar, cast, get_args

import resilio
from resilio import CallTimeoutError, DeadlineExceededError, RejectedError, registry
from resilio._options.fields import options_of
from resilio._options.validators import show
from resilio._policies.pool.config import Balance, PoolConfig
from resilio._policy.base import Policy
from resilio.simulation._hosts import SCOPES, Host, client_fleet
from resilio.simulation._place import made_at, nowhere
from resilio.simulation._pools import client_zone, endpoints
from resilio.simulation._rivals import RIVALS, rival
from resilio.simulation._scenario import Policies
from resilio.simulation._table import Table
from resilio.simulation._work import ServerBusy, ServerDown, ServerError, SimulatedError

__all__ = ["policies"]

Make = Callable[[], Policy[Any]]
T = TypeVar("T")

_POLICIES = (
    "adaptive_limit",
    "bulkhead",
    "circuit_breaker",
    "deadline",
    "fallback",
    "hedge",
    "keyed",
    "load_shed",
    "pool",
    "rate_limit",
    "retry",
    "spend_limit",
    "standard",
    "timeout",
)
_BACKOFFS = ("constant", "decorrelated_jitter", "equal_jitter", "exponential", "full_jitter")
_ERRORS: dict[str, tuple[type[Exception], ...]] = {
    "any": (Exception,),
    "busy": (ServerBusy,),
    "down": (ServerDown,),
    "error": (ServerError,),
    "rejected": (RejectedError,),
    "timeout": (CallTimeoutError, DeadlineExceededError),
}
_FAILURES = (SimulatedError, CallTimeoutError)
_FIELDS = ("call", "key", "load", "priority", "shard", "task", "tenant")
_NOT_OF_POOLS = ("endpoints", "probe", "resolve", "zone")
_OF_REQUEST = ("affinity", "key", "task", "tenant")
"""Options that are functions of the request in Python; in a file, the name of one of its fields."""


def policies(owner: Table, key: str, value: Any) -> Policies | None:
    """
    Return a factory of the policies in a list of tables, after making them once as a check.

    Args:
        owner: The table that contains the list.

        key: Key of the list.

        value: The list.

    Raises:
        ScenarioError: An unknown policy, or an option that it does not take.
    """
    makes = [_one(table) for table in owner.tables(key, value)]
    if not makes:
        return None
    with registry.isolated(), Host().start().here(), made_at(nowhere()):  # their order may cause a warning
        owner.checked(lambda: resilio.pipeline(*[make() for make in makes]), key)
    return lambda: [make() for make in makes]


def _one(table: Table) -> Make:
    kind = table.choose("policy", [name for name in _POLICIES if name in resilio.__all__])
    return _choice(table) if kind == "pool" else _policy(table, kind, {})


def _choice(table: Table) -> Make:
    """Return what makes a pool, or a published way to choose a replica in its place."""
    if "client" not in table.path:
        table.reject(None, "belongs to the clients, which choose a replica with it")
    balance = table.choose("balance", (*RIVALS, *get_args(Balance)), "latency")
    return _rival(table, balance) if balance in RIVALS else _policy(table, "pool", {"balance": balance})


def _policy(table: Table, kind: str, given: dict[str, Any]) -> Make:
    """Return what makes a policy with the options in the table, and those that are given."""
    factory = getattr(resilio, kind)
    known = _options(factory, kind)
    if "each" in table.path and "scope" in known and "scope" in table:
        table.reject("scope", "belongs to the policy 'keyed', for all its keys")
    given |= {name: _value(table, name, _taken(table, name)) for name in known if name in table}
    table.end(known)
    make = _SPECIAL.get(kind, _plain)(table, _scoped(factory), _with_name(table, given))
    return _checked(table, make, given)


def _with_name(table: Table, given: dict[str, Any]) -> dict[str, Any]:
    """Return the options, with a name if the policy is shared: it needs one."""
    return {"name": ".".join(map(str, table.path)), **given} if _is_shared(given) else given


def _checked(table: Table, make: Callable[[], T], given: dict[str, Any]) -> Callable[[], T]:
    """Make a policy once, as a check, and return what makes others; the name of a shared one is its process's own."""
    with registry.isolated(), Host().start().here(), made_at(nowhere()):
        table.checked(make, *given)

    def make_alone() -> T:
        with registry.isolated():
            return make()

    return make_alone if _is_shared(given) else make


def _is_shared(given: dict[str, Any]) -> bool:
    return given.get("scope") in ("host", "fleet")


def _scoped(factory: Callable[..., Any]) -> Callable[..., Any]:
    """Return the same factory, for which the scope "fleet" is that of the process whose policies are being made."""

    def made(*args: Any, **options: Any) -> Any:
        return factory(*args, **{**options, "scope": client_fleet()} if options.get("scope") == "fleet" else options)

    return made


def _taken(table: Table, name: str) -> Any:
    return table.choose(name, SCOPES) if name == "scope" else table.take(name)


def _options(factory: Callable[..., Any], kind: str) -> list[str]:
    if kind == "pool":
        return ["name", *(field.name for field in options_of(PoolConfig) if field.name not in _NOT_OF_POOLS)]
    names = [name for name in inspect.signature(factory).parameters if name not in ("bare", "prices", "targets")]
    return [*names, "each"] if kind == "keyed" else [name for name in names if name != "factory"]


def _value(table: Table, name: str, value: Any) -> Any:
    """Return an option in the form that the policy accepts."""
    if name in ("on", "ignore"):
        return _errors(table, name, value)
    if name == "backoff" and isinstance(value, dict):
        inner = table.table(name, value)
        make = getattr(resilio, inner.choose("kind", _BACKOFFS, "full_jitter"))
        options = {key: inner.time(key, inner.take(key)) for key in inspect.signature(make).parameters if key in inner}
        inner.end()
        return inner.checked(lambda: make(**options), *options)
    if name == "pool":
        if value is not True or "client" not in table.path:
            table.reject(name, "must be true, and belongs to the clients: their server's replicas are the endpoints")
        return value
    if name == "budget" and not isinstance(value, str):
        return _budget(table, value)
    if name == "timezone" and value != "UTC":
        table.reject(name, "must be 'UTC': the simulated day begins at second 0")
    if name in _OF_REQUEST and isinstance(value, str):
        if value not in _FIELDS:
            table.reject(name, f"must be one of {', '.join(_FIELDS)}, not {show(value)}")
        return attrgetter(value)
    return tuple(value) if isinstance(value, list) else value


def _errors(table: Table, name: str, value: Any) -> tuple[type[Exception], ...]:
    found: list[type[Exception]] = []
    for each in value if isinstance(value, list) else [value]:
        if not isinstance(each, str) or each not in _ERRORS:
            table.reject(name, f"must be one or more of {', '.join(_ERRORS)}, not {show(each)}")
        found += _ERRORS[each]
    return tuple(found)


def _budget(table: Table, value: Any) -> Any:
    """Return a factory of the client's own budget for a table, or None for false."""
    if value is False:
        return None
    inner = table.table("budget", value)
    known = [name for name in inspect.signature(resilio.RetryBudget).parameters if name != "name"]
    options = {name: _taken(inner, name) for name in known if name in inner}
    inner.end(known)
    make = partial(_scoped(resilio.RetryBudget), **_with_name(inner, options))
    return _checked(inner, make, options)


def _rival(table: Table, rule: str) -> Make:
    given = {"max_ejected": table.take("max_ejected")} if "max_ejected" in table and rule == "envoy" else {}
    table.end()
    return _checked(table, partial(rival, rule, **given), given)


def _plain(table: Table, factory: Callable[..., Any], given: dict[str, Any]) -> Make:  # noqa: ARG001
    budget = given.get("budget")
    if not callable(budget):
        return lambda: factory(**given)
    return lambda: factory(**{**given, "budget": budget()})  # one for each client


def _on_failures(table: Table, factory: Callable[..., Any], given: dict[str, Any]) -> Make:
    return _plain(table, factory, {"on": _FAILURES, **given})


def _hedge(table: Table, factory: Callable[..., Any], given: dict[str, Any]) -> Make:
    return _plain(table, factory, {"idempotent": True, **given})


def _rate_limit(table: Table, factory: Callable[..., Any], given: dict[str, Any]) -> Make:  # noqa: ARG001
    rates = given.pop("rates", ())
    given_rates = (rates,) if isinstance(rates, str) else rates
    return lambda: factory(*given_rates, **given)


def _standard(table: Table, factory: Callable[..., Any], given: dict[str, Any]) -> Make:
    numbers, name, pooled = count(), given.pop("name", "standard"), given.pop("pool", False)
    make = {"on": _FAILURES, "idempotent": True, **given}

    def made() -> Policy[Any]:
        called = f"{name} {next(numbers)}"
        options = {**make, "pool": _replicas(called, make["on"])} if pooled else make
        return _plain(table, factory, {**options, "name": called})()

    return made


def _replicas(stack: str, on: Any) -> Policy[Any]:
    """Return the pool of a stack: of the server's replicas."""
    return resilio.pool(f"{stack}.pool", *endpoints(), zone=client_zone(), on=on)


def _keyed(table: Table, factory: Callable[..., Any], given: dict[str, Any]) -> Make:
    each = given.pop("each", None)
    if each is None:
        table.reject(None, "needs 'each': the policies that each key has")
    made = _each(table, each)
    return lambda: factory(made, **given)


def _each(table: Table, each: Any) -> Make:
    """Return what makes the policies of one key or endpoint, as a single policy."""
    make = policies(table, "each", list(each) if isinstance(each, tuple) else each)
    if make is None:
        table.reject("each", "must not be empty")

    def made() -> Policy[Any]:
        parts: Any = make()
        return cast("Policy[Any]", parts[0] if len(parts) == 1 else resilio.pipeline(*parts))

    return made


def _pool(table: Table, factory: Callable[..., Any], given: dict[str, Any]) -> Make:
    """Return what makes a pool of the server's replicas; each client's is named alike."""
    given = {"on": _FAILURES, **given}
    name = given.pop("name", "pool")
    if "each" in given:
        made = _each(table, given["each"])
        given["each"] = lambda _endpoint: made()

    def make() -> Policy[Any]:
        with registry.isolated():
            return cast("Policy[Any]", factory(name, *endpoints(), zone=client_zone(), **given))

    return make


_SPECIAL: dict[str, Callable[[Table, Callable[..., Any], dict[str, Any]], Make]] = {
    "fallback": _on_failures,
    "hedge": _hedge,
    "keyed": _keyed,
    "pool": _pool,
    "rate_limit": _rate_limit,
    "retry": _on_failures,
    "standard": _standard,
}
