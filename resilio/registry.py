"""
Registry of policies: kind and name identify one; the same options return the same object, other options raise.

A definition that is repeated at the same place, as in a notebook or by a reload, replaces the one before and keeps its
state. Named policies are kept until :func:`forget` or :func:`clear`, so that their state outlives their callers.
Unnamed ones are named after the first function that they guard, and are held weakly.
"""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any, TypeVar, overload

from resilio._events.delivery import postponed
from resilio._registry import names
from resilio._registry.changes import Remembered, apply, check_later, options_by_name
from resilio._registry.kinds import known_kinds
from resilio._registry.names import Key, everything, key_of, unknown

if TYPE_CHECKING:
    from resilio._policy.base import Policy

__all__ = ["all", "clear", "configure", "forget", "from_env", "get", "isolated", "pending"]


def __dir__() -> list[str]:
    return sorted(__all__)


P = TypeVar("P", bound="Policy[Any]")

# ---- finding ---------------------------------------------------------------------------------------------------------


@overload
def get(name: str) -> Policy[Any]: ...
@overload
def get(name: str, kind: type[P]) -> P: ...
def get(name: str, kind: type[Any] | None = None) -> Any:
    """
    Return the policy called `name`.

    Args:
        name: The policy's name, also as "circuit_breaker:payments", or "module.qualname" of the first function that an
            unnamed policy guarded.

        kind: The class, like :class:`resilio.CircuitBreaker`, if policies of several kinds share the name.

    Raises:
        LookupError: No policy has that name, or several have it: pass the kind, or name the unnamed ones.
    """
    if kind is not None and not isinstance(kind, type):
        raise TypeError(f"kind must be the class of a policy, like CircuitBreaker, not {kind!r}")
    return names.find(name, kind)


def all() -> tuple[Policy[Any], ...]:  # noqa: A001 - used as registry.all()
    """Return every live policy (no budgets): the named ones in the order of their creation, then the unnamed ones."""
    return tuple(policy for policy in everything() if policy.kind != "retry_budget")


# ---- forgetting ------------------------------------------------------------------------------------------------------


def forget(name: str) -> None:
    """
    Forget the policy called `name`: the next definition makes a new one. A policy in use lives on, unregistered.

    The parts of a standard stack, called "name.retry" and so on, are forgotten with it. Options that
    :func:`configure` set for the name stay, and apply to the next policy.

    Args:
        name: The policy's name; "circuit_breaker:payments" if several kinds share it.

    Raises:
        LookupError: No policy has that name, or several kinds have it.
    """
    with names.lock:
        key = key_of(name)
        if key is None:
            raise LookupError(unknown(name))
        owned = [one for one in names.named if one[0].startswith(f"{key[0]}.")] if _owns(key) else []
        for one in (key, *owned):
            del names.named[one]
            names.give_back(one)


def _owns(key: Key) -> bool:
    return bool(getattr(names.named[key].policy, "_owns_names", False))


def clear() -> None:
    """Forget every name and every pending configuration (for tests: policies in use live on, unregistered)."""
    with names.lock, names.listing:
        names.named.clear()
        names.unnamed.clear()
        names.remembered.clear()


@contextmanager
def isolated() -> Iterator[None]:
    """Forget, at the block's end, every name and configuration made inside, and restore the earlier ones."""
    with names.lock:
        named, remembered = dict(names.named), {name: one.copy() for name, one in names.remembered.items()}
    try:
        yield
    finally:
        with names.lock:
            names.named.clear()
            names.named.update(named)
            names.remembered.clear()
            names.remembered.update(remembered)


# ---- configuring -----------------------------------------------------------------------------------------------------


def configure(options: Mapping[str, Mapping[str, Any]], *, strict: bool = False) -> None:
    """
    Change the options of many policies by name: all of them, or none if one is rejected.

    A name that no policy has yet is remembered: a policy made later under it starts with these options. Until then it
    is in :func:`pending`. State is kept.

    Args:
        options: `{name: {option: value}}`, as from a TOML table or :func:`from_env`. If policies of several kinds share
            a name, it is "circuit_breaker:payments". "none" stands for None, which TOML does not have.

        strict: True: reject a name that no policy has; for the end of start-up, when all policies have been made.

    Raises:
        TypeError: An option that the policy does not have, or a value of the wrong type.

        ValueError: A value out of range, a name that several kinds share or, with `strict`, one that no policy has. The
            message names policy, option and value.
    """
    with postponed(), names.lock:
        changes = options_by_name(options, {name for name, _ in names.named})
        keys = {name: _key_to_configure(name, strict=strict) for name in changes}
        plan = [
            (names.named[key].policy, _checked(key, changes[name])) for name, key in keys.items() if key is not None
        ]
        for name in (name for name, key in keys.items() if key is None):
            check_later(name, changes[name])
        plan.sort(key=lambda one: not getattr(one[0], "_owns_names", False))  # a part's own options count for it
        apply(plan)
        for name, values in changes.items():
            key = keys[name]
            remembered = names.remembered.setdefault(name if key is None else f"{key[1]}:{key[0]}", Remembered())
            remembered.options.update(values)
            remembered.kind = remembered.kind if key is None else key[1]


def _key_to_configure(name: str, *, strict: bool) -> Key | None:
    """Return the key of the policy with these options; None: a policy that is made later."""
    try:
        key = key_of(name)
    except LookupError as error:
        raise ValueError(str(error)) from None
    if key is None and strict:
        raise ValueError(unknown(name))
    return key


def _checked(key: Key, values: Mapping[str, Any]) -> Any:
    policy = names.named[key].policy
    try:
        return policy._checked(values)
    except (TypeError, ValueError) as error:
        raise type(error)(f"{policy.kind} {key[0]!r}: {error}") from error


def pending() -> dict[str, dict[str, Any]]:
    """Return the options that :func:`configure` set for names without a policy: misspelt ones, or not made yet."""
    with names.lock:
        return {name: dict(one.options) for name, one in names.remembered.items() if one.kind is None}


def from_env(prefix: str = "RESILIO__", environ: Mapping[str, str] | None = None) -> dict[str, dict[str, Any]]:
    """
    Return the options in the environment, for :func:`configure`.

    `RESILIO__PAYMENTS__OPEN_FOR=0.5` is `{"payments": {"open_for": 0.5}}`. A value is read as TOML (`0.5`, `true`,
    `[200, "60s"]`), or else as a plain string (`30s`). A name in capitals stands for the known policy that it spells
    with other signs for `_` ("payments-api" is PAYMENTS_API), or else for itself in lower case. A kind goes before the
    name: `RESILIO__CIRCUIT_BREAKER__PAYMENTS__OPEN_FOR` is of "circuit_breaker:payments".

    Args:
        prefix: The prefix of the variables' names.

        environ: The variables; `os.environ` if None.

    Raises:
        ValueError: A variable with the prefix that is not prefix, name, two underscores, option.
    """
    from resilio._options.environment import read

    with names.lock:
        known, kinds = {name for name, _ in names.named}, {kind for _, kind in names.named}
    return read(prefix, os.environ if environ is None else environ, known, kinds | known_kinds())
