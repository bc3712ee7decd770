"""`fleet()`: the processes of several hosts by name, and the engine that a client gets."""

from __future__ import annotations

from importlib import import_module
from typing import Any, NoReturn, TypedDict, cast

from resilio._options.scope import fleets
from resilio._options.validators import choice, flag, policy_name, positive_int, reject, seconds
from resilio._policy.types import Time
from resilio.sharing._fleet.engines import Engine
from resilio.sharing._fleet.fleet import Fleet, OnStoreDown
from resilio.sharing._make import host as group_of_host

__all__ = ["engine_of", "fleet", "without_password"]

CLIENT = (
    "an Engine, a client of valkey, redis or psycopg, or a URL like 'valkey://cache:6379', 'redis://cache:6379/0' or "
    "'postgresql://app@db/shop'"
)
ON_STORE_DOWN = ("local", "open", "closed")
MOST_PEERS = 1_000_000

_ENGINES: dict[str, str] = {
    "postgres": "resilio.integrations._stores.postgres",
    "postgresql": "resilio.integrations._stores.postgres",
    "psycopg": "resilio.integrations._stores.postgres",
    "redis": "resilio.integrations._stores.valkey",
    "rediss": "resilio.integrations._stores.valkey",
    "valkey": "resilio.integrations._stores.valkey",
    "valkeys": "resilio.integrations._stores.valkey",
}
"""
The module whose `engine(client, timeout)` makes an engine of a client, by the package that the client is from, or by
the scheme of a URL.
"""


def fleet(
    name: str,
    client: Any,
    *,
    tick: Time = 0.25,
    timeout: Time = 0.05,
    host: bool = True,
    peers: int | None = None,
    on_store_down: OnStoreDown = "local",
) -> Fleet:
    """
    Return the processes of several hosts, whose policies share their state through a store: `scope=fleet("shop", ...)`.

    No call waits for the store, and none fails because it is away: a thread of the process exchanges with it. Make it
    once, at import, and import it from there: the same name gives the same object, if client and options are the same.

    Args:
        name: The name of the fleet: the same in all processes that share.

        client: The store: a sync client of `valkey` or `redis` (one node, Sentinel, or a cluster), a connection of
            `psycopg`, a URL ("valkey://cache:6379", "postgresql://app@db/shop"), or an :class:`Engine`. The fleet makes
            a client of its own like this one, with `timeout` and without retries.

        tick: Seconds between two exchanges of all policies of a process, 0.01 to 10; a policy may need one sooner.

        timeout: Seconds for an exchange; what the store answers later is lost.

        host: True: the processes of this host draw on one lease together, and one of them exchanges for all, where
            memory can be shared (:func:`resilio.sharing.host`). False: each process by itself.

        peers: How many hosts (or processes, with `host=False`) share, as long as the store has not answered. None: 1.

        on_store_down: The way of policies without that option once the store's leases have ended. "local": each goes
            on by itself with its share. "open": calls pass. "closed": they are rejected.

    Raises:
        TypeError: An option of a wrong type; the message names it and the value.

        ValueError: An option out of range, or other options than before.
    """
    called = policy_name("name", name)
    if called is None or called in ("process", "host"):
        reject("name", name, "a name other than 'process' and 'host'")
    with_host = flag("host", host)
    options: _Options = {
        "tick": _tick(tick),
        "timeout": seconds("timeout", timeout),
        "peers": None if peers is None else positive_int("peers", peers, high=MOST_PEERS),
        "on_store_down": cast("OnStoreDown", choice("on_store_down", on_store_down, ON_STORE_DOWN)),
    }
    found = fleets.get(name)
    group = group_of_host() if with_host else None
    if isinstance(found, Fleet):
        return _same(found, client, group, options)
    made = Fleet(name, engine_of(client, options["timeout"]), client=client, group=group, **options)
    fleets[name] = made
    return made


class _Options(TypedDict):
    tick: float
    timeout: float
    peers: int | None
    on_store_down: OnStoreDown


def _tick(value: Time) -> float:
    found: float = seconds("tick", value)
    if not 0.01 <= found <= 10.0:
        reject("tick", value, "from 0.01 to 10 seconds")
    return found


def engine_of(client: Any, timeout: float) -> Engine:
    """Return the engine of a client, a URL, or of itself."""
    if isinstance(client, Engine):
        return client
    if isinstance(client, str):
        return _engine_at(client, timeout)
    packages = [one.__module__.partition(".")[0] for one in type(client).__mro__]
    module = next((_ENGINES[package] for package in packages if package in _ENGINES), None)
    if module is None:
        reject("client", client, CLIENT, TypeError)
    return _engine_in(module, client, timeout)


def _engine_at(url: str, timeout: float) -> Engine:
    """Return the engine of a URL; its password is in no message."""
    scheme, is_url, _ = url.partition("://")
    if not is_url or scheme not in _ENGINES:
        _reject_url(url, CLIENT if is_url else f"{CLIENT}, with the scheme in front")
    try:
        return _engine_in(_ENGINES[scheme], url, timeout)
    except ValueError as error:  # of the client, about a port or a number of a database
        _reject_url(url, f"the URL of a store ({error})")


def _engine_in(module: str, client: Any, timeout: float) -> Engine:
    engine: Engine = import_module(module).engine(client, timeout)
    return engine


def _reject_url(url: str, right: str) -> NoReturn:
    reject("client", without_password(url), right)


def without_password(url: str) -> str:
    """Return a URL without its query, and with three dots for its user and password: for messages."""
    scheme, separator, place = url.partition("?")[0].rpartition("://")
    shown = f"...@{place.rpartition('@')[2]}" if "@" in place else place
    return f"{scheme}{separator}{shown}"


def _same(found: Fleet, client: Any, group: Any, options: _Options) -> Fleet:
    """Return the fleet of this name, if it was made with the same options."""
    given = {**options, "host": group is not None}
    for name, value in given.items():
        before = found.has_host if name == "host" else getattr(found, name)
        if before != value:
            reject(name, value, f"{before!r}, as before, for the fleet {found.name!r}, or another name")
    is_same = found.client == client if isinstance(client, str) else found.client is client
    if not is_same or (group is not None and found.group is not group):
        what = "client" if not is_same else "group of this host"
        raise ValueError(
            f"{found!r} was made with another {what}: make it once, in one module, and import it from there, or use "
            "another name"
        )
    return found
