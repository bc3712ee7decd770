"""
A fleet's store in Postgres (>= 12), over `psycopg`: for services that have no Valkey or Redis.

The rules are Python functions; they run here, while the rows of their states are locked. All policies of a process go
in one transaction of three statements a tick. The table is made at the first exchange. It is not logged: after a crash
of the server it is empty, and leases begin anew as after any loss.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from typing import Any

from resilio._options.validators import reject
from resilio._support.extras import missing
from resilio.integrations._shared.lent import Alarm
from resilio.sharing import Answer, Ask, StoreError, StoreProblem, exchange, keeps_us
from resilio.sharing._fleet.rules.rows import State, from_text, text_of

__all__ = ["PostgresEngine", "engine"]

MAKE = """
CREATE UNLOGGED TABLE IF NOT EXISTS resilio_fleet (key text PRIMARY KEY, state text NOT NULL, ends_us bigint NOT NULL)
WITH (fillfactor = 50)
"""
BEGIN = "INSERT INTO resilio_fleet SELECT one, '', 0 FROM unnest(%s::text[]) AS one ON CONFLICT DO NOTHING"
READ = """
SELECT key, state, ends_us, floor(extract(epoch FROM clock_timestamp()) * 1000000)::bigint
FROM resilio_fleet WHERE key = ANY(%s) ORDER BY key FOR UPDATE
"""
WRITE = """
UPDATE resilio_fleet AS old SET state = new.state, ends_us = new.ends_us
FROM unnest(%s::text[], %s::text[], %s::bigint[]) AS new (key, state, ends_us) WHERE old.key = new.key
"""
SWEEP = "DELETE FROM resilio_fleet WHERE ends_us < floor(extract(epoch FROM clock_timestamp()) * 1000000)::bigint"
SWEEP_EVERY = 1000
"""Exchanges after which rows that have ended are removed."""


def engine(client: Any, timeout: float) -> PostgresEngine:
    """
    Return an engine with a connection of its own to the database of this client.

    Args:
        client: A `psycopg.Connection`, or a URL: "postgresql://...".

        timeout: Seconds for an exchange.

    Raises:
        TypeError: A connection that waits in an event loop.
    """
    try:
        import psycopg
        import psycopg.conninfo
    except ImportError as error:
        raise missing("resilio.sharing.fleet", "postgres", error) from error
    if isinstance(client, str):
        return PostgresEngine(psycopg, client, timeout)
    if not isinstance(client, psycopg.Connection):
        reject("client", client, "a psycopg.Connection, or a URL: 'postgresql://...'", TypeError)
    password = {"password": client.info.password} if client.info.password else {}
    return PostgresEngine(psycopg, psycopg.conninfo.make_conninfo(client.info.dsn, **password), timeout)


class PostgresEngine:
    """
    A store in a table of Postgres.

    Args:
        psycopg: The module.

        conninfo: Where the database is.

        timeout: Seconds after which the server gives up a statement.
    """

    def __init__(self, psycopg: Any, conninfo: str, timeout: float) -> None:
        """Connect with the first exchange."""
        ms = max(1, round(timeout * 1000))
        bounds = f"-c statement_timeout={ms} -c lock_timeout={ms} -c idle_in_transaction_session_timeout={20 * ms}"
        self._psycopg = psycopg
        self._conninfo = psycopg.conninfo.make_conninfo(conninfo, connect_timeout=2, options=bounds)
        self._connection: Any = None
        self._exchanges = 0

    def exchange(self, asks: Sequence[Ask], timeout: float) -> Sequence[Answer | StoreProblem]:
        """Exchange all asks in one transaction, with their rows locked in the order of their keys."""
        try:
            connection = self._connect()
            with _ended(connection, timeout), connection.transaction(), connection.cursor() as cursor:
                return self._exchange(cursor, asks)
        except (self._psycopg.Error, OSError) as error:
            self.close()
            raise StoreError(f"{type(error).__name__}: {error}") from error

    def _connect(self) -> Any:
        if self._connection is None:
            self._connection = self._psycopg.connect(self._conninfo, autocommit=True)
            errors = self._psycopg.errors
            # another process makes it at this moment: which name the server finds taken is chance
            with suppress(errors.UniqueViolation, errors.DuplicateObject, errors.DuplicateTable):
                self._connection.execute(MAKE)
        return self._connection

    def _exchange(self, cursor: Any, asks: Sequence[Ask]) -> list[Answer | StoreProblem]:
        keys = sorted({ask.key for ask in asks})
        cursor.execute(BEGIN, (keys,))
        cursor.execute(READ, (keys,))
        now_us = 0
        before: dict[str, str] = {}
        for key, text, ends_us, read_us in cursor.fetchall():
            now_us = max(now_us, read_us)
            before[key] = text if ends_us > read_us else ""
        states: dict[str, State] = {}
        ends: dict[str, int] = {}
        answers: list[Answer | StoreProblem] = []
        for ask in asks:
            try:
                state = states[ask.key] if ask.key in states else _state_of(before[ask.key])
                states[ask.key], answer = exchange(state, ask, now_us)
            except Exception as error:  # noqa: BLE001 - rows that no rule has written; other keys have answers
                answers.append(StoreProblem(f"{type(error).__name__}: {error}"))
                continue
            ends[ask.key] = now_us + keeps_us(ask)
            answers.append(answer)
        texts = [json.dumps({field: text_of(row) for field, row in state.items()}) for state in states.values()]
        cursor.execute(WRITE, (list(states), texts, [ends[key] for key in states]))
        self._exchanges += 1
        if self._exchanges % SWEEP_EVERY == 0:
            cursor.execute(SWEEP)
        return answers

    def close(self) -> None:
        """Close the connection; the next exchange opens another."""
        connection, self._connection = self._connection, None
        if connection is not None:
            connection.close()


def _state_of(text: str) -> State | None:
    return from_text(json.loads(text)) if text else None


@contextmanager
def _ended(connection: Any, timeout: float) -> Iterator[None]:
    """End the connection if the block takes longer: a client of Postgres would wait for a server that is stopped."""
    alarm = Alarm(connection.fileno(), 2 * timeout)
    try:
        yield
    finally:
        alarm.end()
