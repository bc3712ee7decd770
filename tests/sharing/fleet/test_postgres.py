"""A fleet's store in a real Postgres: the Python rules under a row lock, killed, stopped, and used at once."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from typing import Any

import pytest
from exchanges import PATIENT, answers, ask, granted
from servers.postgres import Postgres
from servers.processes import installed
from servers.valkey_groups import until

from resilio.sharing import Engine, StoreError, fleet

psycopg = pytest.importorskip("psycopg")


@pytest.fixture(scope="module")
def running() -> Iterator[Postgres]:
    with installed(Postgres) as server:
        yield server


@pytest.fixture
def server(running: Postgres) -> Postgres:
    """A server that runs, without our table."""
    with psycopg.connect(f"postgresql://{running.dsn}", autocommit=True) as connection:
        connection.execute("DROP TABLE IF EXISTS resilio_fleet")
    return running


def engine_of(client: Any, timeout: float = PATIENT) -> Engine:
    return fleet(f"of {id(client)} {timeout}", client, timeout=timeout, host=False).engine


def by_url(server: Postgres, timeout: float = PATIENT) -> Engine:
    return engine_of(f"postgresql://{server.dsn}", timeout)


@pytest.mark.real(1.0)
def test_leases_are_kept_by_the_rules(server: Postgres) -> None:
    """All policies are one transaction; two asks about one key in it are answered one after the other."""
    engine = by_url(server)
    assert granted(engine, ask(1, 0, want=600), ask(1, 0, asker=2, want=600), ask(1, 0, key="other", want=7)) == [
        600,
        400,
        7,
    ]
    assert granted(engine, ask(2, 1, left=500)) == [0]
    assert granted(engine, ask(2, 1, asker=2, want=1000)) == [500]


def test_a_connection_names_the_database(server: Postgres) -> None:
    """A service hands in the connection that it has; the fleet opens one of its own, and leaves that one alone."""
    with psycopg.connect(f"postgresql://{server.dsn}") as connection:
        assert granted(engine_of(connection), ask(1, 0, want=600)) == [600]
        assert connection.info.transaction_status == psycopg.pq.TransactionStatus.IDLE


def test_a_connection_that_waits_in_a_loop_is_rejected() -> None:
    """No trip is made in a user's event loop."""
    with pytest.raises(TypeError, match=r"client must be a psycopg\.Connection, or a URL"):
        fleet("aio", object.__new__(psycopg.AsyncConnection))


def test_processes_that_exchange_at_once_share_the_burst(server: Postgres) -> None:
    """The row is locked from its reading to its writing: eight that ask at once get no token twice, nor the table."""
    got: list[int | None] = []

    def run(asker: int) -> None:
        engine = by_url(server)
        for n in range(1, 21):
            keys = ["k", "l"] if asker % 2 else ["l", "k"]  # in any order: none waits for another in a ring
            got.extend(granted(engine, *(ask(n, n - 1, key=key, asker=asker, want=20) for key in keys)))
        engine.close()  # type: ignore[attr-defined]

    threads = [threading.Thread(target=run, args=(asker,)) for asker in range(1, 9)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(got) == 8 * 20 * 2
    assert sum(one or 0 for one in got) == 2 * 1000


def test_a_server_that_restarts_is_found_again(server: Postgres) -> None:
    """A crash empties a table that is not logged: what is out is not given a second time."""
    engine = by_url(server)
    assert granted(engine, ask(1, 0, want=600)) == [600]
    server.restart()
    with pytest.raises(StoreError):
        granted(engine, ask(2, 1))
    until(lambda: answers(engine))
    assert granted(engine, ask(3, 1, left=500, want=1000)) == [0]


def test_a_stopped_server_is_an_error(server: Postgres) -> None:
    """A client of Postgres waits for its answer for good: the courier would never ask again."""
    engine = by_url(server)
    assert granted(engine, ask(1, 0, want=600)) == [600]
    server.pause()
    try:
        with pytest.raises(StoreError):
            engine.exchange([ask(2, 1)], 0.1)
    finally:
        server.resume()
    until(lambda: answers(engine))


def test_a_state_that_has_ended_is_as_none(server: Postgres) -> None:
    """A limit of last month must not stay in the table, nor be empty when it is used again."""
    engine = by_url(server)
    assert granted(engine, ask(1, 0, want=1000)) == [1000]
    with psycopg.connect(f"postgresql://{server.dsn}", autocommit=True) as connection:
        connection.execute("UPDATE resilio_fleet SET ends_us = 1")
    assert granted(engine, ask(1, 0, asker=2, want=1000)) == [1000]
