"""The names of policies, and the options that `configure` set by name: the tables behind `registry`, and their lock."""

from __future__ import annotations

import sys
import threading
import weakref
from typing import Any

from resilio._options.validators import meant
from resilio._registry.changes import Remembered, split
from resilio._registry.places import Place
from resilio._support.after_fork import free_lock
from resilio._support.show import with_article

__all__ = [
    "Entry",
    "Key",
    "changing",
    "everything",
    "find",
    "give_back",
    "key_of",
    "keys_of",
    "look_up",
    "place_of",
    "restore",
    "shared",
    "take",
    "unknown",
    "unlist",
]

Key = tuple[str, str]
"""Name and kind."""


class Entry:
    """A policy that has a name."""

    __slots__ = ("declared", "place", "policy")

    def __init__(self, policy: Any, declared: Any, place: Place) -> None:
        """
        List a policy.

        Args:
            policy: The policy.

            declared: The options in the code, before configure() and reconfigure().

            place: The place in the code that made it.
        """
        self.policy = policy
        self.declared = declared
        self.place = place


lock = threading.RLock()  # one lock for names and options, as options are changed by name; no factory runs under it
listing = threading.RLock()  # for unnamed policies; taken last, no policy is made under it
named: dict[Key, Entry] = {}
unnamed: weakref.WeakValueDictionary[int, Any] = weakref.WeakValueDictionary()
remembered: dict[str, Remembered] = {}  # by "kind:name", or by the name alone while no policy has it


def keys_of(name: str) -> list[Key]:
    """Return the keys of the policies with this name; `lock` is held."""
    found = [key for key in named if key[0] == name]
    if found or ":" not in name:
        return found
    kind, rest = split(name, {key[1] for key in named})
    return [(rest, kind)] if kind is not None and (rest, kind) in named else []


def key_of(name: str, fix: str = "write {}") -> Key | None:
    """
    Return the key of the policy with this name, None if there is none; `lock` is held.

    Raises:
        LookupError: Several kinds share the name.
    """
    keys = keys_of(name)
    if len(keys) > 1:
        raise LookupError(shared(name, keys, fix))
    return keys[0] if keys else None


def shared(name: str, keys: list[Key], fix: str) -> str:
    """Return the message for a name that several kinds have; `fix` has {} for the names with their kinds."""
    kinds = [kind for _, kind in keys]
    written = " or ".join(repr(f"{kind}:{name}") for kind in kinds)
    return f"{len(keys)} policies are named {name!r} ({', '.join(kinds)}): {fix.format(written)}"


def unknown(name: str) -> str:
    """Return the message for a name that no policy has."""
    known = sorted({one for one, _ in named})
    return f"no policy is named {name!r}{meant(name, known)}; known: {', '.join(known) or 'none'}"


def look_up(key: Key) -> tuple[Entry | None, dict[str, Any]]:
    """
    Return the entry of this name, None if there is none, and the options that `configure` set for it.

    Raises:
        ValueError: `configure` was not given a kind, and a policy of another kind has taken the options.
    """
    name, kind = key
    with lock:
        entry, bare, full = named.get(key), remembered.get(name), remembered.get(f"{kind}:{name}")
        if entry is None and bare is not None and bare.kind not in (None, kind):
            raise ValueError(
                f"configure() has options for {name!r}, which {with_article(bare.kind)} and {with_article(kind)} are "
                f"called: write '{bare.kind}:{name}' or '{kind}:{name}' there"
            )
        return entry, {**(bare.options if bare else {}), **(full.options if full else {})}


def take(key: Key) -> None:
    """Assign the options that `configure` set to the policy that was just made; `lock` is held."""
    name, kind = key
    for one in (remembered.get(name), remembered.get(f"{kind}:{name}")):
        if one is not None:
            one.kind = kind


def give_back(key: Key) -> None:
    """Release the options that `configure` set to the next policy of this name; `lock` is held."""
    name, kind = key
    for one in (remembered.get(name), remembered.get(f"{kind}:{name}")):
        if one is not None and one.kind == kind:
            one.kind = None


def find(name: str, kind: type[Any] | None = None) -> Any:
    """
    Return the policy called `name`, of that class if one is given.

    Raises:
        LookupError: No policy has that name, or several have it.
    """
    with lock:
        keys = [key for key in keys_of(name) if kind is None or isinstance(named[key].policy, kind)]
        if len(keys) == 1:
            return named[keys[0]].policy
    if keys:
        raise LookupError(shared(name, keys, "pass the class as well, as in get(name, CircuitBreaker), or write {}"))
    found = [one for one in _all_unnamed() if one.name == name and (kind is None or isinstance(one, kind))]
    if len(found) == 1:
        return found[0]
    if found:
        kinds = ", ".join(sorted(policy.kind for policy in found))
        raise LookupError(f"{len(found)} unnamed policies are called {name!r} ({kinds}): give them names")
    raise LookupError(unknown(name))


def everything() -> list[Any]:
    """Return every policy alive and every budget that has a name, the named ones first, as they were made."""
    with lock:
        with_names = [entry.policy for entry in named.values()]
    return [*with_names, *_all_unnamed()]


def _all_unnamed() -> list[Any]:
    with listing:  # references are listed in one step: without the GIL a policy may go while values() is iterated
        return [policy for policy in (reference() for reference in unnamed.valuerefs()) if policy is not None]


def place_of(name: str, kind: str | None = None) -> Place | None:
    """Return the place where the policy called `name` was made, of any kind if `kind` is None; None if unknown."""
    with lock:
        found = [entry for key, entry in named.items() if key[0] == name and kind in (None, key[1])]
    return found[0].place if found else None


def restore(name: str, module: str, kind: str | None = None) -> Any:
    """Return the policy called `name`, importing the module that makes it (for unpickling in another process)."""
    import importlib

    full = name if kind is None else f"{kind}:{name}"
    try:
        return find(full)
    except LookupError:
        if module in sys.modules:
            raise
        importlib.import_module(module)
        return find(full)


def unlist(policy: Any) -> None:
    """Take an unnamed policy off the list: another policy shows it together with others."""
    with listing:
        unnamed.pop(id(policy), None)


def changing() -> threading.RLock:
    """Return the lock under which options change. It is that of the names, as two locks could deadlock."""
    return lock


free_lock(sys.modules[__name__], "lock")
free_lock(sys.modules[__name__], "listing")
