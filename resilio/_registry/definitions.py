"""Definition of a policy by name: the first one, an equal one, or the same one run anew."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from typing import Any, NoReturn, TypeVar, cast

from resilio._events import log
from resilio._events.delivery import postponed
from resilio._options.differences import differences
from resilio._registry import names
from resilio._registry.changes import changed
from resilio._registry.names import Entry, Key, look_up
from resilio._registry.places import Place, here

__all__ = ["all_or_nothing", "configured", "obtain"]

P = TypeVar("P")

_quiet = threading.local()  # the prefix of names whose owner logs the redefinition itself


def obtain(cls: type[Any], name: str | None, config: Any, make: Callable[[Any], P]) -> P:
    """
    Return the policy of this kind and name, made by `make(config)` unless it exists; without a name always a new one.

    Raises:
        ValueError: The name is taken by a policy with other options, defined elsewhere; both places are named.
    """
    if name is None:  # also during calls, for a new key: no wait for the lock of options
        policy = make(config)
        with names.listing:
            names.unnamed[id(policy)] = policy
        return policy
    key, place = (name, getattr(config, "kind", cls.kind)), here()
    entry = _made(key, config, make, place)
    if entry.place is not place:
        different = _differences(cls, entry, config)
        if place.is_again(entry.place):
            return cast("P", _define_again(key, entry, config, place, make, different))
        if different:
            _taken(key, entry, place, different)
    return cast("P", entry.policy)


def _made(key: Key, config: Any, make: Callable[[Any], Any], place: Place) -> Entry:
    """
    Return the entry of this name, made if there is none.

    The policy is made without the lock, as a user's factory may import modules that make policies, or wait for a thread
    that does. So two threads may make one each; the first to finish is kept. If its options change meanwhile, it is
    made anew.
    """
    entry, values = look_up(key)
    while entry is None:
        made, before = Entry(make(_configured(key, config, values)), config, place), values
        with names.lock:
            entry, values = look_up(key)
            if entry is None and values == before:
                entry = names.named[key] = made
                names.take(key)
    return entry


def _differences(cls: type[Any], entry: Entry, config: Any) -> str:
    if type(entry.policy) is not cls:
        return f"{type(entry.policy).__name__} against {cls.__name__}"
    return differences(entry.declared, config)


def _define_again(key: Key, entry: Entry, config: Any, place: Place, make: Callable[[Any], Any], different: str) -> Any:
    """Return the policy of a definition that is run anew: the existing one, with its state, if it can be changed."""
    before, known = entry.place, entry.policy
    full = _configured(key, config, look_up(key)[1])
    with postponed(), names.lock:
        kept = type(known.config) is type(config) and (config == entry.declared or known._redefine(full, different))
        if kept:
            entry.declared, entry.place = config, place
    if not kept:
        made = Entry(make(full), config, place)
        with names.lock:
            names.named[key] = made
        known = made.policy
    if different and not key[0].startswith(getattr(_quiet, "prefix", None) or "\0"):
        _say_defined_again(key, before, place, different, kept=kept)
    return known


def _say_defined_again(key: Key, before: Place, place: Place, different: str, *, kept: bool) -> None:
    what = "its state is kept" if kept else "it begins anew"
    fields = {"policy": key[1], "policy_name": key[0]}
    text = "%s is defined again at %s, before at %s, with %s; %s"
    log.say(log.WARNING, text, log.describe(key[1], key[0]), place, before, different, what, fields=fields)


def configured(key: Key, config: Any) -> Any:
    """Return the options with those that `configure` has set for this kind and name."""
    return _configured(key, config, look_up(key)[1])


def _configured(key: Key, config: Any, values: Mapping[str, Any]) -> Any:
    if not values:
        return config
    try:
        return changed(config, values)
    except (TypeError, ValueError) as error:
        raise type(error)(f"configure() for {key[0]!r}: {error}") from error


def _taken(key: Key, entry: Entry, place: Place, different: str) -> NoReturn:
    raise ValueError(
        f"the name {key[0]!r} is taken: a {key[1]} with {different} "
        f"(made at {entry.place}, asked for again at {place}); "
        "use another name, the same options, or reconfigure()"
    )


@contextmanager
def all_or_nothing(prefix: str) -> Iterator[None]:
    """Forget the names made inside that begin with *prefix*, the owner's, if the block raises."""
    with names.lock:
        before = frozenset(names.named)
    outer, _quiet.prefix = getattr(_quiet, "prefix", None), prefix
    try:
        yield
    except BaseException:
        with names.lock:
            for key in [one for one in names.named if one[0].startswith(prefix) and one not in before]:
                del names.named[key]
        raise
    finally:
        _quiet.prefix = outer
