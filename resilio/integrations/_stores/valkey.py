"""
A fleet's store in Valkey or Redis (>= 5), over the sync client of either: one node, behind Sentinel, or a cluster.

The engine makes a client of its own from the user's, with timeouts of its own and without retries: a courier asks again
by itself. One node is asked for all policies at once, by one script, over a connection that the engine keeps: the pool
would test it before each trip. Once the client has had an answer over it, later trips use its socket: the client's own
way to read a text is longer. A cluster is asked key by key, since each may be elsewhere, by the client's own command.
"""

from __future__ import annotations

import os
import time
from collections.abc import Mapping, Sequence
from importlib import import_module
from typing import Any
from urllib.parse import urlsplit

from resilio._native.gates import answers_of, command_of
from resilio._options.validators import reject
from resilio._support.extras import missing
from resilio.integrations.redis import bounded
from resilio.sharing import Answer, Ask, StoreError, StoreProblem
from resilio.sharing._fleet.script import SCRIPT, SHA

__all__ = ["ValkeyEngine", "engine"]

CONNECT = 0.25
"""Seconds for a connection at least: calls do not wait for it."""

TOGETHER = 50
"""Asks of one run of the script: two milliseconds of the server's time."""

MOST = 1 << 16
"""Bytes to read at once."""


def engine(client: Any, timeout: float) -> ValkeyEngine:
    """
    Return an engine over a client of its own, made like this one; or over one for a URL.

    Args:
        client: A sync client of `valkey` or `redis`, or a URL: "valkey://...", "redis://...".

        timeout: Seconds for each answer.

    Raises:
        TypeError: An asynchronous client, or none that has a node.
    """
    if isinstance(client, str):
        client = _from_url(client)
    package = _package(client)
    if ".asyncio" in "".join(one.__module__ for one in type(client).__mro__):
        right = f"a client that does not wait in a loop, as {package}.{package.title()}.from_url(url)"
        reject("client", client, right, TypeError)
    module = import_module(package)
    settings = bounded(module, connect=max(timeout, CONNECT), command=timeout)
    if hasattr(client, "nodes_manager"):
        return ValkeyEngine(_cluster(client, settings), package, is_cluster=True)
    return ValkeyEngine(_node(client, settings), package)


def _from_url(url: str) -> Any:
    """Return a client for a URL; the packages themselves take the database 0 for a path that is no number."""
    database = urlsplit(url).path.strip("/")
    if database and not database.isdecimal():
        raise ValueError(f"a database has a number, like /0, and no name like /{database}")
    package = "redis" if url.startswith("redis") else "valkey"
    try:
        module = import_module(package)
    except ImportError as error:
        raise missing("resilio.sharing.fleet", package, error) from error
    return getattr(module, package.title()).from_url(url)


def _package(client: Any) -> str:
    """Return "redis" or "valkey": the package that the client, or the class that it extends, is from."""
    packages = [one.__module__.partition(".")[0] for one in type(client).__mro__]
    return next(one for one in packages if one in ("redis", "valkey"))


def _node(client: Any, settings: Mapping[str, Any]) -> Any:
    """Return a client of one node, or of the master that Sentinel names, with these settings."""
    pool = client.connection_pool
    kept = {name: value for name, value in pool.connection_kwargs.items() if name not in ("connection_pool", "retry")}
    options = {**kept, **settings, "decode_responses": False, "max_connections": 2}
    if hasattr(pool, "sentinel_manager"):
        own = type(pool)(pool.service_name, pool.sentinel_manager, is_master=True, **options)
    else:
        own = type(pool)(connection_class=pool.connection_class, **options)
    return type(client)(connection_pool=own)


def _cluster(client: Any, settings: Mapping[str, Any]) -> Any:
    """Return a client of the same cluster with these settings; it follows slots that move, and repeats nothing."""
    left_out = ("connection_pool", "retry", "host", "port")
    kept = {name: value for name, value in client.nodes_manager.connection_kwargs.items() if name not in left_out}
    nodes_class = type(client.get_default_node())
    nodes = [nodes_class(node.host, node.port) for node in client.get_nodes()]
    options = {**kept, **settings, "decode_responses": False, "require_full_coverage": False}
    return type(client)(startup_nodes=nodes, **options)


class ValkeyEngine:
    """
    A store in Valkey or Redis.

    Args:
        client: The engine's own client: bounded, without retries, with answers as bytes.

        package: "valkey" or "redis".

        is_cluster: True if keys are on several nodes.
    """

    def __init__(self, client: Any, package: str, *, is_cluster: bool = False) -> None:
        """Use a client of the engine's own."""
        errors = import_module(f"{package}.exceptions")
        self._client = client
        self._is_cluster = is_cluster
        self._connection: Any = None  # of one node, kept between the trips
        self._socket: Any = None  # of the connection, once the client has had an answer over it
        self._pid = 0  # of the process that has opened it
        self._missing: type[Exception] = errors.NoScriptError
        self._closed: type[Exception] = errors.ConnectionError
        self._errors: tuple[type[Exception], ...] = (getattr(errors, f"{package.title()}Error"), OSError)

    def exchange(self, asks: Sequence[Ask], timeout: float) -> Sequence[Answer | StoreProblem]:
        """Exchange all asks by one script; in a cluster, one after the other until `timeout`."""
        if not self._is_cluster:
            try:
                return self._together(asks)
            except self._errors as error:
                raise StoreError(f"{type(error).__name__}: {error}") from error
        return self._one_by_one(asks, time.monotonic() + timeout)

    # ---- one node

    def _together(self, asks: Sequence[Ask]) -> list[Answer | StoreProblem]:
        if self._connection is not None and self._pid == os.getpid():
            try:
                connected = self._socket
                if connected is not None and len(asks) <= TOGETHER:
                    return self._straight(connected, list(asks))
                return self._over(self._connection, asks)
            except self._closed:  # by the server, since the trip before: an ask that arrives again counts once
                self._connection = None
        self._connection, self._pid = _connection_of(self._client.connection_pool), os.getpid()
        return self._over(self._connection, asks)

    def _straight(self, connected: Any, asks: list[Ask]) -> list[Answer | StoreProblem]:
        """Exchange over the socket alone; any other reply than a text counts as the end of the connection."""
        try:
            return answers_of(asks, _reply(connected, command_of("EVALSHA", SHA, asks)))
        except BaseException as error:
            self._drop(self._connection)
            if isinstance(error, OSError) and not isinstance(error, TimeoutError):
                raise self._closed(str(error)) from error
            raise

    def _over(self, connection: Any, asks: Sequence[Ask]) -> list[Answer | StoreProblem]:
        """Exchange over a connection, which goes back to its pool after an error: it may have answers in it."""
        first, rest = list(asks[:TOGETHER]), list(asks[TOGETHER:])
        try:
            connection.send_packed_command([command_of("EVALSHA", SHA, first)])
            try:
                answers = answers_of(first, connection.read_response())
            except self._missing:  # a server that has restarted: proxies forbid SCRIPT LOAD
                connection.send_packed_command([command_of("EVAL", SCRIPT, first)])
                answers = answers_of(first, connection.read_response())
            if rest:  # many keys: the server does other work between the parts
                parts = [rest[i : i + TOGETHER] for i in range(0, len(rest), TOGETHER)]
                connection.send_packed_command([command_of("EVALSHA", SHA, part) for part in parts])
                answers += [answer for part in parts for answer in answers_of(part, connection.read_response())]
        except BaseException:
            self._drop(connection)
            raise
        self._socket = getattr(connection, "_sock", None)
        return answers

    def _drop(self, connection: Any) -> None:
        self._connection = self._socket = None
        connection.disconnect()
        self._client.connection_pool.release(connection)

    # ---- a cluster

    def _one_by_one(self, asks: Sequence[Ask], until: float) -> Sequence[Answer | StoreProblem]:
        answers: list[Answer | StoreProblem] = []
        for ask in asks:
            if time.monotonic() >= until:
                break
            try:
                answers += answers_of([ask], self._by_client(ask))
            except self._errors as error:  # of one node: others may answer
                answers.append(StoreProblem(f"{type(error).__name__}: {error}"))
        return answers + [StoreProblem("no time was left to ask")] * (len(asks) - len(answers))

    def _by_client(self, ask: Ask) -> bytes:
        words = ("1", ask.key, ask.text())
        try:
            found: bytes = self._client.execute_command("EVALSHA", SHA, *words)
        except self._missing:
            found = self._client.execute_command("EVAL", SCRIPT, *words)
        return found

    def close(self) -> None:
        """Close the engine's connections; it opens others when it is used again."""
        if self._is_cluster:
            self._client.disconnect_connection_pools()
        else:
            self._socket = None  # the connection opens another
            self._client.connection_pool.disconnect()


def _connection_of(pool: Any) -> Any:
    """Return a connection of a pool; those of valkey, and of redis before 5.3, want the name of a command."""
    try:
        return pool.get_connection()
    except TypeError:
        return pool.get_connection("EVALSHA")


def _reply(connected: Any, command: bytes) -> bytes:
    """Send a command over a socket, and return the text that is its reply; ConnectionError: there is another one."""
    connected.sendall(command)
    head, end, text = connected.recv(MOST).partition(b"\r\n")
    if not end or head[:1] != b"$" or not head[1:].isdigit():
        raise ConnectionError(f"no text, but {head[:100]!r}")
    size = int(head[1:])
    while len(text) < size + 2:
        more = connected.recv(MOST)
        if not more:
            raise ConnectionError("closed within a reply")
        text += more
    if len(text) > size + 2 or text[size:] != b"\r\n":
        raise ConnectionError("more than one reply")
    return bytes(text[:size])
