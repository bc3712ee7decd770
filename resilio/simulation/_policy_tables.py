"""Policies of a stack in a scenario file: tables of options, named as in Python."""

from __future__ import annotations

import inspect
from collections.abc import Callable
from functools import partial
from itertools import count
from operator import attrgetter
from typing import Any, TypeVar

import resilio
from resilio import CallTimeoutError, DeadlineExceededError, RejectedError, registry
from resilio._options.validators import show
from resilio._policy.base import Policy
from resilio.simulation._hosts import SCOPES, Host
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
    "rate_limit",
    "retry",
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
_OF_REQUEST = ("key", "task", "tenant")
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
    with registry.isolated(), Host().start().here():  # the order of the policies may cause a warning
        owner.checked(lambda: resilio.pipeline(*[make() for make in makes]), key)
    return lambda: [make() for make in makes]


def _one(table: Table) -> Make:
    kind = table.choose("policy", [name for name in _POLICIES if name in resilio.__all__])
    factory = getattr(resilio, kind)
    known = _options(factory, kind)
    if "each" in table.path and "scope" in known and "scope" in table:
        table.reject("scope", "belongs to the policy 'keyed', for all its keys")
    given = {name: _value(table, name, _taken(table, name)) for name in known if name in table}
    table.end(known)
    make = _SPECIAL.get(kind, _plain)(table, factory, _with_name(table, given))
    return _checked(table, make, given)


def _with_name(table: Table, given: dict[str, Any]) -> dict[str, Any]:
    """Return the options, with a name if the policy is shared: it needs one."""
    return {"name": ".".join(map(str, table.path)), **given} if given.get("scope") == "host" else given


def _checked(table: Table, make: Callable[[], T], given: dict[str, Any]) -> Callable[[], T]:
    """Make a policy once, as a check, and return what makes others; the name of a shared one is its process's own."""
    with registry.isolated(), Host().start().here():
        table.checked(make, *given)

    def make_alone() -> T:
        with registry.isolated():
            return make()

    return make_alone if given.get("scope") == "host" else make


def _taken(table: Table, name: str) -> Any:
    return table.choose(name, SCOPES) if name == "scope" else table.take(name)


def _options(factory: Callable[..., Any], kind: str) -> list[str]:
    names = [name for name in inspect.signature(factory).parameters if name not in ("bare", "targets")]
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
    if name == "budget" and not isinstance(value, str):
        return _budget(table, value)
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
    make = partial(resilio.RetryBudget, **_with_name(inner, options))
    return _checked(inner, make, options)


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
    numbers, name = count(), given.pop("name", "standard")
    make = {"on": _FAILURES, "idempotent": True, **given}

    def made() -> Policy[Any]:
        return _plain(table, factory, {**make, "name": f"{name} {next(numbers)}"})()

    return made


def _keyed(table: Table, factory: Callable[..., Any], given: dict[str, Any]) -> Make:
    each = given.pop("each", None)
    if each is None:
        table.reject(None, "needs 'each': the policies that each key has")
    make = policies(table, "each", list(each) if isinstance(each, tuple) else each)
    if make is None:
        table.reject("each", "must not be empty")

    def made() -> Any:
        parts: Any = make()
        return parts[0] if len(parts) == 1 else resilio.pipeline(*parts)

    return lambda: factory(made, **given)


_SPECIAL: dict[str, Callable[[Table, Callable[..., Any], dict[str, Any]], Make]] = {
    "fallback": _on_failures,
    "hedge": _hedge,
    "keyed": _keyed,
    "rate_limit": _rate_limit,
    "retry": _on_failures,
    "standard": _standard,
}
