"""
A name identifies one policy: the same name and options give the same object, other options are refused.

Named policies are kept until :func:`clear`, so that their state outlives whoever asked for them. Unnamed ones are
called after the first function that they guard, and are held weakly.
"""

from __future__ import annotations

import os
import sys
import threading
import weakref
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any, NoReturn, TypeVar, cast

import attrs

from resilio._caller import outside
from resilio._config import meant, policy_name, show
from resilio._event_delivery import postponed
from resilio._sameness import differences

if TYPE_CHECKING:
    from resilio._policy import Policy

__all__ = ["all", "clear", "configure", "from_env", "get", "isolated"]

P = TypeVar("P", bound="Policy[Any]")


class Place:
    """Where a policy was made."""

    __slots__ = ("file", "line", "module")

    def __init__(self, file: str, line: int, module: str) -> None:
        """Remember file, line and module."""
        self.file = file
        self.line = line
        self.module = module

    def __str__(self) -> str:
        return f"{self.file}:{self.line}"


class _Entry:
    __slots__ = ("declared", "place", "policy")

    def __init__(self, policy: Policy[Any], declared: Any, place: Place) -> None:
        self.policy = policy
        self.declared = declared  # the options in the code, before configure() and reconfigure()
        self.place = place


_lock = threading.RLock()  # names and options: one lock, since options are changed by name; no factory runs under it
_listing = threading.RLock()  # the unnamed ones; taken last, nothing is made under it
_named: dict[str, _Entry] = {}
_unnamed: weakref.WeakValueDictionary[int, Policy[Any]] = weakref.WeakValueDictionary()
_pending: dict[str, dict[str, Any]] = {}


def get(name: str) -> Policy[Any]:
    """
    Return the policy called `name`.

    Args:
        name: A given name, or "module.qualname" of the first function that an unnamed policy guarded.

    Raises:
        LookupError: No policy has that name, or several unnamed ones do (they guard one function: give them names).
    """
    with _lock:
        if name in _named:
            return _named[name].policy
    found = [policy for policy in _all_unnamed() if policy.name == name]
    if len(found) == 1:
        return found[0]
    if found:
        kinds = ", ".join(sorted(policy.kind for policy in found))
        raise LookupError(f"{len(found)} unnamed policies are called {name!r} ({kinds}): give them names")
    raise LookupError(f"no policy is named {name!r}{meant(name, _named)}; known: {', '.join(sorted(_named)) or 'none'}")


def all() -> tuple[Policy[Any], ...]:  # noqa: A001 - used as registry.all()
    """Return every policy alive (no budgets): the named ones in the order they were made, then the unnamed ones."""
    return tuple(policy for policy in everything() if policy.kind != "retry_budget")


def everything() -> list[Policy[Any]]:
    """As `all`, with the budgets that have names."""
    with _lock:
        named = [entry.policy for entry in _named.values()]
    return [*named, *_all_unnamed()]


def _all_unnamed() -> list[Policy[Any]]:
    with _listing:
        return list(_unnamed.values())


def clear() -> None:
    """Forget every name and every configuration for later names (for tests: policies in use live on, nameless here)."""
    with _lock, _listing:
        _named.clear()
        _unnamed.clear()
        _pending.clear()


@contextmanager
def isolated() -> Iterator[None]:
    """Forget, at the block's end, every name and configuration made inside; those from before stand again."""
    with _lock:
        named, pending = dict(_named), {name: dict(values) for name, values in _pending.items()}
    try:
        yield
    finally:
        with _lock:
            _named.clear()
            _named.update(named)
            _pending.clear()
            _pending.update(pending)


@contextmanager
def all_or_nothing(prefix: str) -> Iterator[None]:
    """Forget the names that begin with *prefix* and are made inside, if the block raises."""
    with _lock:
        before = frozenset(_named)
    try:
        yield
    except BaseException:
        with _lock:
            for name in [one for one in _named if one.startswith(prefix) and one not in before]:
                del _named[name]
        raise


def configure(options: Mapping[str, Mapping[str, Any]]) -> None:
    """
    Change the options of many policies by name: all of them, or none if one is refused.

    A name that no policy has yet is remembered: a policy made later under it starts with these options. State is kept.

    Args:
        options: `{name: {option: value}}`, as from a TOML table or :func:`from_env`.

    Raises:
        TypeError: An option that the policy does not have, or a value of the wrong type.

        ValueError: A value out of range. The message names policy, option and value.
    """
    if not isinstance(options, Mapping):
        raise TypeError(f"options must be a mapping of a policy's name to its options, not {show(options)}")
    with postponed(), _lock:
        changes = {_name(name): _options(name, values) for name, values in options.items()}
        plan = [(_named[name].policy, _checked(name, values)) for name, values in changes.items() if name in _named]
        later = {name: values for name, values in changes.items() if name not in _named}
        for name, values in later.items():
            _check_later(name, values)
        _apply(plan)
        for name, values in changes.items():
            _pending.setdefault(name, {}).update(values)


def _options(name: str, values: object) -> dict[str, Any]:
    if not isinstance(values, Mapping):
        raise TypeError(f"the options of {name!r} must be a mapping of option to value, not {show(values)}")
    found = {_str(f"an option of {name!r}", option): value for option, value in values.items()}
    for option, value in found.items():
        if isinstance(value, Mapping):
            _refuse_table(name, option)
    return found


def _name(value: object) -> str:
    name = policy_name("a policy's name", _str("a policy's name", value))
    return cast("str", name)


def _refuse_table(name: str, option: str) -> None:
    """A table that is no option's value is what TOML makes of a name with a dot in it."""
    from resilio._policy import known_options

    dotted = f"{name}.{option}"
    if dotted in _named or option not in known_options():
        raise TypeError(f'{name!r} has no table {option!r}: a name with a dot is in quotes in TOML, ["{dotted}"]')


def _str(what: str, value: object) -> str:
    if not isinstance(value, str):
        raise TypeError(f"{what} must be a string, not {show(value)}")
    return value


def _checked(name: str, values: Mapping[str, Any]) -> Any:
    policy = _named[name].policy
    try:
        return policy._checked(values)
    except (TypeError, ValueError) as error:
        raise type(error)(f"{policy.kind} {name!r}: {error}") from error


def _check_later(name: str, values: Mapping[str, Any]) -> None:
    """The kind is not known yet: refuse what no kind has. The rest is checked when the policy is made."""
    from resilio._policy import known_options

    known = known_options()
    for option in values:
        if option not in known:
            right = meant(option, known) or f"; known: {', '.join(sorted(known))}"
            raise TypeError(f"{name!r}: no policy has an option {option!r}{right}")


def _apply(plan: list[tuple[Policy[Any], Any]]) -> None:
    done: list[tuple[Policy[Any], Any]] = []
    try:
        for policy, config in plan:
            done.append((policy, policy.config))
            policy._swap(config)
    except BaseException:
        for policy, config in reversed(done):
            policy._swap(config)
        raise


def from_env(prefix: str = "RESILIO__", environ: Mapping[str, str] | None = None) -> dict[str, dict[str, Any]]:
    """
    Return the options in the environment, for :func:`configure`.

    `RESILIO__PAYMENTS__OPEN_FOR=0.5` is `{"payments": {"open_for": 0.5}}`. A value is read as TOML (`0.5`, `true`,
    `[200, "60s"]`), or else as a plain string (`30s`). A name in capitals stands for the known policy that it spells
    with other signs for `_` ("payments-api" is PAYMENTS_API), or else for itself in lower case.

    Args:
        prefix: What the variables begin with.

        environ: Where to look; `os.environ` if None.

    Raises:
        ValueError: A variable with the prefix that is not prefix, name, two underscores, option.
    """
    from resilio._environment import read

    with _lock:
        names = list(_named)
    return read(prefix, os.environ if environ is None else environ, names)


def obtain(cls: type[P], name: str | None, config: Any, make: Callable[[Any], P]) -> P:
    """
    Return the policy called `name`, made by `make(config)` unless it is there; without a name always a new one.

    Raises:
        ValueError: The name is taken by a policy of another kind or with other options; both places are named.
    """
    if name is None:  # also in calls, for a new key: they wait for nobody who changes options
        policy = make(config)
        with _listing:
            _unnamed[id(policy)] = policy
        return policy
    place = _place()
    entry = _made(name, config, make, place)
    known = entry.policy
    if type(known) is not cls:
        _taken(name, entry, place, f"a {known.kind}, and here it would be a {cls.kind}")
    different = differences(entry.declared, config)
    if different:
        _taken(name, entry, place, f"a {known.kind} with {different}")
    return known


def _made(name: str, config: Any, make: Callable[[Any], Any], place: Place) -> _Entry:
    """
    Return what has this name, made if nothing has.

    It is made without the lock: a factory of the user's may import what makes policies, or wait for who does. So two
    threads may make one each; the one that is done first is kept. If its options change meanwhile it is made anew.
    """
    entry, values = _look_up(name)
    while entry is None:
        made, before = _Entry(make(_configured(name, config, values)), config, place), values
        with _lock:
            entry, values = _look_up(name)
            if entry is None and values == before:
                entry = _named[name] = made
    return entry


def _look_up(name: str) -> tuple[_Entry | None, dict[str, Any]]:
    """Return what has this name, and what `configure` has said of it."""
    with _lock:
        return _named.get(name), dict(_pending.get(name, ()))


def unlist(policy: Policy[Any]) -> None:
    """Take an unnamed policy off the list: somebody shows it together with others."""
    with _listing:
        _unnamed.pop(id(policy), None)


def changing() -> threading.RLock:
    """Return the lock under which options change, that of the names: two would wait for each other."""
    return _lock


def _configured(name: str, config: Any, values: Mapping[str, Any]) -> Any:
    if not values:
        return config
    try:
        return changed(config, values)
    except (TypeError, ValueError) as error:
        raise type(error)(f"configure() for {name!r}: {error}") from error


def changed(config: Any, values: Mapping[str, Any]) -> Any:
    """Return `config` with `values` changed and checked; an option it does not have is refused by name."""
    if hasattr(config, "changed"):  # it knows of options that are not its own
        return config.changed(values)
    known = {field.name for field in attrs.fields(type(config))}
    for option in values:
        if option not in known:
            raise TypeError(f"no option {option!r}{meant(option, known)}; there are: {', '.join(sorted(known))}")
    return attrs.evolve(config, **values)


def _taken(name: str, entry: _Entry, place: Place, why: str) -> NoReturn:
    raise ValueError(
        f"the name {name!r} is taken: {why} (made at {entry.place}, asked for again at {place}); "
        "use another name, the same options, or reconfigure()"
    )


def _place() -> Place:
    _, frame = outside(sys._getframe())
    if frame is None:
        return Place("<unknown>", 0, "__main__")
    return Place(frame.f_code.co_filename, frame.f_lineno, frame.f_globals.get("__name__", "__main__"))


def place_of(name: str) -> Place | None:
    """Return where the policy called `name` was made, None if there is none."""
    with _lock:
        entry = _named.get(name)
    return None if entry is None else entry.place


def restore(name: str, module: str) -> Policy[Any]:
    """Return the policy called `name`, importing the module that makes it (for unpickling in another process)."""
    import importlib

    try:
        return get(name)
    except LookupError:
        if module in sys.modules:
            raise
        importlib.import_module(module)
        return get(name)


def _after_fork() -> None:
    """A child has no other threads: locks that they held are free."""
    global _lock, _listing
    _lock, _listing = threading.RLock(), threading.RLock()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_after_fork)
