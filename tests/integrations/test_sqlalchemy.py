"""SQLAlchemy over asyncpg and psycopg against a real PostgreSQL: killed, paused, restarted, deadlocked."""

from __future__ import annotations

import asyncio
import contextlib
import threading
from collections.abc import AsyncIterator, Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import anyio
import pytest
from servers.postgres import Postgres

import resilio
from resilio import deadline, override, presets, standard

pytest.importorskip("sqlalchemy")
pytest.importorskip("greenlet", reason="SQLAlchemy's asyncio needs greenlet")

import sqlalchemy
from sqlalchemy import create_engine, text
from sqlalchemy.ext.asyncio import AsyncEngine, create_async_engine
from sqlalchemy.pool import NullPool

from resilio.integrations._shared.lent import alarm
from resilio.integrations.sqlalchemy import pool_bulkhead, pool_capacity, send_deadline, time_connects

DATABASE = presets.database
FAILING, ROLLED_BACK, CALLERS, POOL = (
    (True, True, False),
    (False, True, True),
    (False, False, False),
    (False, True, True),
)
UNREACHED = (True, True, True)
ON_ASYNCIO = pytest.mark.parametrize("anyio_backend", ["asyncio"])


def verdicts(error: BaseException) -> tuple[bool, bool, bool]:
    """Is the database unwell, may another attempt help, was surely nothing done?"""
    return bool(DATABASE.failing(error)), bool(DATABASE.momentary(error)), bool(DATABASE.unsent(error))


def driver(name: str) -> str:
    pytest.importorskip(name)
    return name


@contextlib.asynccontextmanager
async def async_engine(postgres: Postgres, name: str, **options: Any) -> AsyncIterator[AsyncEngine]:
    engine = create_async_engine(f"postgresql+{driver(name)}://{postgres.dsn}", **options)
    try:
        yield engine
    finally:
        await engine.dispose()


@contextlib.contextmanager
def sync_engine(postgres: Postgres, **options: Any) -> Iterator[sqlalchemy.Engine]:
    engine = create_engine(f"postgresql+{driver('psycopg')}://{postgres.dsn}", **options)
    try:
        yield engine
    finally:
        engine.dispose()


def run(engine: sqlalchemy.Engine, statement: str, **options: Any) -> Any:
    with engine.begin() as connection:
        return connection.execution_options(**options).execute(text(statement)).fetchall()


def raised_by(function: Callable[..., Any], *arguments: Any) -> BaseException:
    try:
        function(*arguments)
    except Exception as error:
        return error
    raise AssertionError("nothing was raised")


@pytest.fixture
def accounts(postgres: Postgres) -> Iterator[sqlalchemy.Engine]:
    """Two accounts with 100 each."""
    with sync_engine(postgres) as engine:
        with engine.begin() as connection:
            connection.execute(text("DROP TABLE IF EXISTS account"))
            connection.execute(text("CREATE TABLE account (id int PRIMARY KEY, balance int NOT NULL)"))
            connection.execute(text("INSERT INTO account VALUES (1, 100), (2, 100)"))
        yield engine


# -- cancellation ------------------------------------------------------------------------------------------------------


@pytest.mark.anyio
@ON_ASYNCIO
@pytest.mark.parametrize("name", ["asyncpg", "psycopg"])
@pytest.mark.parametrize("guard", [resilio.timeout, deadline])
# SQLAlchemy 2.0 leaves to the collector what was interrupted while it connected, as on a busy machine it is
@pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")
async def test_an_interrupted_transaction_gives_its_connection_back(postgres: Postgres, name: str, guard: Any) -> None:
    """After a timeout or a deadline within a statement nothing is checked out, and the pool's one connection works."""
    async with async_engine(postgres, name, pool_size=1, max_overflow=0) as engine:

        @guard(0.05)
        async def slow() -> None:
            async with engine.begin() as connection:
                await connection.execute(text("CREATE TEMPORARY TABLE half_done (x int)"))
                await connection.execute(text("SELECT pg_sleep(30)"))

        for _ in range(3):
            with pytest.raises(TimeoutError):
                await slow()
            assert engine.pool.checkedout() == 0
        async with engine.begin() as connection:
            found = await connection.execute(text("SELECT to_regclass('half_done') IS NULL"))
            assert found.scalar() is True


@pytest.mark.anyio
@ON_ASYNCIO
async def test_a_storm_of_interrupted_transactions_leaves_the_pool_whole(postgres: Postgres) -> None:
    """Whatever statement the time runs out in, every connection is back at the end."""
    async with async_engine(postgres, "asyncpg", pool_size=3, max_overflow=2) as engine:

        async def transaction(seconds: float) -> None:
            async with engine.begin() as connection:
                for _ in range(4):
                    await connection.execute(text("SELECT pg_sleep(0.004)"))
                await asyncio.sleep(seconds)

        async def one(number: int) -> bool:
            try:
                await resilio.timeout(0.001 * (number % 40 + 1)).acall(transaction, 0.001 * (number % 7))
            except TimeoutError:
                return False
            return True

        done = await asyncio.gather(*(one(number) for number in range(200)))
        assert engine.pool.checkedout() == 0
        assert done.count(False) > 20, "the storm interrupted nothing"
        async with engine.connect() as connection:
            assert (await connection.execute(text("SELECT 1"))).scalar() == 1


@pytest.mark.anyio
@ON_ASYNCIO
@pytest.mark.parametrize(("scope", "lost"), [(resilio.timeout, 0), (anyio.CancelScope, 3)])
async def test_cleanup_by_hand_is_not_cancelled_again(postgres: Postgres, scope: Any, lost: int) -> None:
    """An await before the close keeps its connection from the pool under anyio's scopes, and not under ours."""
    async with async_engine(postgres, "asyncpg", pool_size=3, max_overflow=0) as engine:
        kept = []

        async def transaction(reached: Callable[[], None]) -> None:
            connection = await engine.connect()
            kept.append(connection)
            try:
                await connection.execute(text("SELECT 1"))
                reached()
                await anyio.sleep_forever()  # as another service that is asked in between
            finally:
                await asyncio.sleep(0)  # as a log or a metric that is awaited
                await connection.close()

        for _ in range(3):
            await _within(scope, transaction)
        assert engine.pool.checkedout() == lost
        for connection in kept:
            await connection.close()


async def _within(scope: Any, function: Callable[..., Any]) -> None:
    """End a function by resilio's timeout, at any point, or by anyio's scope, as soon as it is reached."""
    if scope is resilio.timeout:
        with pytest.raises(TimeoutError):
            await resilio.timeout(0.05).acall(function, lambda: None)
    else:
        with scope() as cancelling:
            await function(cancelling.cancel)


# -- transactions that conflict ----------------------------------------------------------------------------------------


@pytest.mark.anyio
@ON_ASYNCIO
@pytest.mark.parametrize("name", ["asyncpg", "psycopg"])
async def test_a_serialization_failure_is_retried_as_a_whole(
    postgres: Postgres, accounts: sqlalchemy.Engine, name: str
) -> None:
    """Two withdrawals that each saw enough money: one is rolled back, tried again, and then sees that there is not."""
    seen: list[int] = []
    failures: list[str | None] = []
    both_read = asyncio.Barrier(2)

    async with async_engine(postgres, name, isolation_level="SERIALIZABLE") as engine:

        @standard("bank", on="database", backoff=0.001)
        async def withdraw(account: int) -> bool:
            first = resilio.current().attempt == 1
            try:
                async with engine.begin() as connection:
                    total = (await connection.execute(text("SELECT sum(balance) FROM account"))).scalar()
                    seen.append(total)
                    if first:
                        await both_read.wait()
                    if total < 150:
                        return False
                    change = text("UPDATE account SET balance = balance - 150 WHERE id = :id")
                    await connection.execute(change, {"id": account})
                    return True
            except sqlalchemy.exc.DBAPIError as error:
                failures.append(error.orig.sqlstate)
                raise

        results = await asyncio.gather(withdraw(1), withdraw(2))
    assert failures == ["40001"], "the transactions did not conflict"
    assert sorted(results) == [False, True]
    assert sorted(seen) == [50, 200, 200]
    assert run(accounts, "SELECT sum(balance) FROM account")[0][0] == 50


def test_a_deadlock_is_retried_in_threads(accounts: sqlalchemy.Engine) -> None:
    """Two transfers that lock in opposite order: the database picks one, which is tried again."""
    both_locked = threading.Barrier(2)
    failures: list[str | None] = []

    @standard("bank", on="database", backoff=0.001)
    def transfer(source: int, target: int) -> None:
        first = resilio.current().attempt == 1
        try:
            with accounts.begin() as connection:
                connection.execute(text("UPDATE account SET balance = balance - 10 WHERE id = :id"), {"id": source})
                if first:
                    both_locked.wait()
                connection.execute(text("UPDATE account SET balance = balance + 10 WHERE id = :id"), {"id": target})
        except sqlalchemy.exc.DBAPIError as error:
            failures.append(error.orig.sqlstate)
            raise

    with ThreadPoolExecutor(2) as threads:
        list(threads.map(transfer, (1, 2), (2, 1)))
    assert set(failures) == {"40P01"}, "there was no deadlock"  # who tries again may be quick enough for another
    assert run(accounts, "SELECT balance FROM account ORDER BY id") == [(100,), (100,)]


# -- outages -----------------------------------------------------------------------------------------------------------


@pytest.mark.anyio
@ON_ASYNCIO
async def test_the_breaker_opens_while_the_database_is_away_and_closes_when_it_is_back(postgres: Postgres) -> None:
    """A crash, rejections without a connection, a recovery by itself; no connection is lost on the way."""
    stack = standard("db", on="database", idempotent=True, backoff=0.001)
    breaker = next(policy for policy in stack.policies if policy.kind == "circuit_breaker")
    async with async_engine(postgres, "asyncpg", pool_size=2, max_overflow=0) as engine:

        @stack
        async def one() -> int:
            async with engine.begin() as connection:
                return (await connection.execute(text("SELECT 1"))).scalar()

        assert await one() == 1
        postgres.kill()
        errors: set[str] = set()
        while "CircuitOpenError" not in errors:
            with contextlib.suppress(Exception):
                await one()
            try:
                await one()
            except Exception as error:
                errors.add(type(error).__name__)
        postgres.start()
        while breaker.snapshot().state != "closed":
            with contextlib.suppress(Exception):
                await one()
            await asyncio.sleep(0.01)
        assert await one() == 1
        assert engine.pool.checkedout() == 0


@pytest.mark.anyio
@ON_ASYNCIO
async def test_a_database_that_hangs_is_given_up(postgres: Postgres) -> None:
    """A paused database answers nobody: the attempt's timeout ends the wait, and the connection is not used again."""
    async with async_engine(postgres, "asyncpg", pool_size=1, max_overflow=0) as engine:
        send_deadline(engine, cleanup=0.05)

        async def one() -> int:
            async with engine.begin() as connection:
                return (await connection.execute(text("SELECT 1"))).scalar()

        assert await one() == 1
        postgres.pause()
        try:
            with pytest.raises(resilio.CallTimeoutError):
                await resilio.timeout(0.1).acall(one)
            with pytest.raises(resilio.CallTimeoutError):  # and one that has to connect
                await resilio.timeout(0.1).acall(one)
        finally:
            postgres.resume()
        assert engine.pool.checkedout() == 0
        assert await one() == 1


# -- what failing means ------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("statement", "state", "expected"),
    [
        ("INSERT INTO account VALUES (1, 0) RETURNING id", "23505", CALLERS),
        ("SELECT * FROM nowhere", "42P01", CALLERS),
        ("SELECT 1 / 0", "22012", CALLERS),
        ("SELECT pg_sleep(30)", "57014", FAILING),
        ("SELECT pg_terminate_backend(pg_backend_pid())", "57P01", FAILING),
    ],
)
@pytest.mark.parametrize("name", ["asyncpg", "psycopg"])
@pytest.mark.anyio
@ON_ASYNCIO
async def test_what_failing_means_by_sqlstate(
    postgres: Postgres,
    accounts: sqlalchemy.Engine,
    name: str,
    statement: str,
    state: str,
    expected: tuple[bool, bool, bool],
) -> None:
    """A time limit of the database and a connection it closes are its failures; what the caller wrote is not."""
    async with async_engine(postgres, name) as engine:
        with pytest.raises(sqlalchemy.exc.DBAPIError) as caught:
            async with engine.begin() as connection:
                if state == "57014":
                    await connection.execute(text("SET LOCAL statement_timeout = 20"))
                await connection.execute(text(statement))
    # asyncpg loses the connection, and at times the message that came with it
    assert caught.value.orig.sqlstate in ({state, "08003"} if state == "57P01" else {state})
    assert verdicts(caught.value) == expected


def test_a_database_without_room_is_unwell(postgres: Postgres, accounts: sqlalchemy.Engine) -> None:
    """Too many connections of a role: nothing was done."""
    with contextlib.suppress(sqlalchemy.exc.ProgrammingError), accounts.begin() as connection:
        connection.execute(text("CREATE ROLE crowded LOGIN CONNECTION LIMIT 0"))
    engine = create_engine(f"postgresql+psycopg://crowded@127.0.0.1:{postgres.port}/postgres", poolclass=NullPool)
    assert verdicts(raised_by(run, engine, "SELECT 1"))[:2] == (True, True)


@pytest.mark.anyio
@ON_ASYNCIO
@pytest.mark.parametrize("name", ["asyncpg", "psycopg"])
@pytest.mark.parametrize("host", ["127.0.0.1", "localhost"])
async def test_a_closed_port_is_known_to_have_got_nothing(name: str, host: str, nowhere: int) -> None:
    """Nobody listens, on one address or on several."""
    engine = create_async_engine(f"postgresql+{driver(name)}://postgres@{host}:{nowhere}/postgres")
    with pytest.raises(Exception, match=r"refused|Connect call failed|Multiple exceptions") as caught:
        async with engine.begin():
            pass
    assert verdicts(caught.value) == UNREACHED


def test_a_wait_for_the_pool_is_not_the_databases_fault(postgres: Postgres) -> None:
    """SQLAlchemy's own TimeoutError says that the pool is too small."""
    with sync_engine(postgres, pool_size=1, max_overflow=0, pool_timeout=0.01) as engine, engine.connect():
        error = raised_by(run, engine, "SELECT 1")
    assert isinstance(error, sqlalchemy.exc.TimeoutError)
    assert verdicts(error) == POOL


# -- pool_bulkhead -----------------------------------------------------------------------------------------------------


@pytest.mark.anyio
@ON_ASYNCIO
async def test_the_bulkhead_waits_in_the_pools_place(postgres: Postgres) -> None:
    """A burst of twelve over two connections with a queue of four: six are rejected by name, and none by the pool."""
    async with async_engine(postgres, "asyncpg", pool_size=1, max_overflow=1, pool_timeout=0.001) as engine:
        narrow = pool_bulkhead(engine, name="db.pool", max_queued=4, max_wait=30.0)
        stack = override(standard("db", on="database"), bulkhead=narrow, deadline=None)

        @stack
        async def one() -> int:
            async with engine.begin() as connection:
                return (await connection.execute(text("SELECT 1 FROM pg_sleep(0.02)"))).scalar()

        results = await asyncio.gather(*(one() for _ in range(12)), return_exceptions=True)
    rejected = [result for result in results if result != 1]
    assert len(rejected) == 6
    assert {(type(error), error.name) for error in rejected} == {(resilio.BulkheadFullError, "db.pool")}
    assert narrow.snapshot().limit == 2


def test_a_pool_without_a_size_is_rejected(postgres: Postgres) -> None:
    """There is nothing that a bulkhead could be as wide as."""
    url = f"postgresql+{driver('psycopg')}://{postgres.dsn}"
    with pytest.raises(TypeError, match="pool has a size, as QueuePool, not NullPool"):
        pool_capacity(create_engine(url, poolclass=NullPool))
    with pytest.raises(ValueError, match="limited max_overflow"):
        pool_capacity(create_engine(url, max_overflow=-1))
    with pytest.raises(TypeError, match="engine must be an Engine or an AsyncEngine of SQLAlchemy, not 'db'"):
        pool_bulkhead("db", name="db.pool")
    assert pool_bulkhead(create_engine(url), name="db.strict", max_queued=0).config.max_queued == 0


# -- send_deadline -----------------------------------------------------------------------------------------------------


def test_a_thread_that_waits_for_a_query_is_freed_by_the_database(postgres: Postgres) -> None:
    """The deadline of the thread is the database's; what it ends is told as the deadline's."""
    with sync_engine(postgres) as engine:
        send_deadline(engine)
        with pytest.raises(resilio.DeadlineExceededError), deadline(0.05):
            run(engine, "SELECT pg_sleep(30)")
        assert engine.pool.checkedout() == 0
        assert run(engine, "SHOW statement_timeout") == [("0",)]


def test_nothing_is_sent_after_the_deadline(postgres: Postgres) -> None:
    """Between two statements the deadline passed: the second is rejected, the transaction rolled back."""
    with sync_engine(postgres) as engine, resilio.testing.virtual_time() as clock:
        send_deadline(engine)
        with deadline(1.0):
            with pytest.raises(resilio.DeadlineExceededError), engine.begin() as connection:
                connection.execute(text("CREATE TABLE late (x int)"))
                clock.advance(2.0)
                connection.execute(text("SELECT 1"))
            assert engine.pool.checkedout() == 0
            with pytest.raises(resilio.DeadlineExceededError):
                run(engine, "SELECT 1")
        assert run(engine, "SELECT to_regclass('late')") == [(None,)]


@pytest.mark.parametrize(("most", "left", "expected"), [(5, 60, "5s"), (60, 5, "5s"), (None, 5, "5s"), (5, None, "5s")])
def test_the_shorter_of_deadline_and_limit_is_set(
    postgres: Postgres, most: float | None, left: float | None, expected: str
) -> None:
    """For the transaction only."""
    with sync_engine(postgres) as engine, resilio.testing.virtual_time():
        send_deadline(engine, most=most)
        with contextlib.nullcontext() if left is None else deadline(left):
            assert run(engine, "SHOW statement_timeout") == [(expected,)]


@pytest.mark.anyio
@ON_ASYNCIO
@pytest.mark.parametrize("name", ["asyncpg", "psycopg"])
async def test_the_database_knows_the_deadline_of_a_task(postgres: Postgres, name: str) -> None:
    """The ambient deadline is seen through SQLAlchemy's greenlets."""
    async with async_engine(postgres, name) as engine:
        send_deadline(engine)
        async with deadline(3600.0), engine.begin() as connection:
            found = (await connection.execute(text("SELECT current_setting('statement_timeout')"))).scalar()
        assert found in {"1h", "3600s", "3600000ms"} or 3590_000 < int(found.removesuffix("ms")) <= 3600_000


def test_a_driver_that_cannot_be_cut_is_named_once(caplog: pytest.LogCaptureFixture) -> None:
    """A thread's connection without a descriptor was left alone, silently; the log says so, once a driver."""

    class Driver:
        pass

    with deadline(60.0):
        assert [alarm(Driver(), 0.05), alarm(Driver(), 0.05)] == [None, None]
    assert [record.levelname for record in caplog.records] == ["WARNING"]
    assert "Driver) is not cut after its deadline" in caplog.text
    assert "no attribute 'fileno'" in caplog.text


def test_only_postgresql_has_a_statement_timeout() -> None:
    """Others are rejected when it is set up, and not at the first query."""
    with pytest.raises(TypeError, match="engine must be an engine for PostgreSQL"):
        send_deadline(create_engine("sqlite://"))


def test_a_cleanup_has_a_time() -> None:
    """Which is checked when it is set up."""
    pytest.importorskip("psycopg")
    with pytest.raises(ValueError, match=r"cleanup must be .* not 0"):
        send_deadline(create_engine("postgresql+psycopg://"), cleanup=0)


# -- time_connects -----------------------------------------------------------------------------------------------------


@pytest.mark.anyio
@ON_ASYNCIO
async def test_the_ledger_knows_what_connecting_took(postgres: Postgres) -> None:
    """The first transaction connects, the second finds the connection in the pool; in tasks and in threads."""
    seen: list[float] = []
    guard = resilio.bulkhead(1)
    async with async_engine(postgres, "asyncpg", pool_size=1) as engine:
        time_connects(engine)

        @guard
        async def one() -> None:
            async with engine.begin() as connection:
                await connection.execute(text("SELECT 1"))
            seen.append(resilio.current().segments.connect)

        await one()
        await one()
    with sync_engine(postgres) as engine:
        time_connects(engine)

        @guard
        def other() -> None:
            run(engine, "SELECT 1")
            seen.append(resilio.current().segments.connect)

        other()
        other()
    assert [connect > 0 for connect in seen] == [True, False, True, False]
