"""asyncpg by itself against a real PostgreSQL: its pool behind a bulkhead, deadlines, conflicts, outages."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator, Callable
from typing import Any

import anyio
import pytest
from servers.postgres import Postgres

import resilio
from resilio import bulkhead, deadline, override, presets, standard
from resilio.integrations.asyncpg import connection, cut_late, transaction

asyncpg = pytest.importorskip("asyncpg")

DATABASE = presets.database
pytestmark = [pytest.mark.anyio, pytest.mark.parametrize("anyio_backend", ["asyncio"])]


def verdicts(error: BaseException) -> tuple[bool, bool, bool]:
    """Is the database unwell, may another attempt help, was surely nothing done?"""
    return bool(DATABASE.failing(error)), bool(DATABASE.momentary(error)), bool(DATABASE.unsent(error))


@contextlib.asynccontextmanager
async def pool_of(postgres: Postgres, size: int) -> AsyncIterator[Any]:
    pool = await asyncpg.create_pool(f"postgresql://{postgres.dsn}", min_size=0, max_size=size)
    try:
        yield pool
    finally:
        with resilio.detached():
            pool.terminate()


def in_use(pool: Any) -> int:
    """Connections that the pool has given out."""
    return pool.get_size() - pool.get_idle_size()


async def within(scope: Any, function: Callable[..., Any]) -> None:
    """End a function by resilio's timeout, at any point, or by anyio's scope, as soon as it is reached."""
    if scope is resilio.timeout:
        with pytest.raises(TimeoutError):
            await resilio.timeout(0.05).acall(function, lambda: None)
    else:
        with scope() as cancelling:
            await function(cancelling.cancel)


@pytest.mark.real(1.0)
async def test_a_block_that_two_tasks_share_is_rejected(postgres: Postgres) -> None:
    """Connections of all but the last were lost to the pool for good. One after the other may use it."""
    async with pool_of(postgres, 2) as pool:
        shared = transaction(pool)

        async def use() -> int:
            async with shared as connection:
                return int(await connection.fetchval("SELECT 1"))

        answers = await asyncio.gather(use(), use(), return_exceptions=True)
        assert answers[0] == 1
        assert isinstance(answers[1], RuntimeError)
        assert await use() == 1
        assert in_use(pool) == 0


@pytest.mark.parametrize("guard", [resilio.timeout, deadline])
async def test_an_interrupted_transaction_gives_its_connection_back(postgres: Postgres, guard: Any) -> None:
    """At once, and rolled back."""
    async with pool_of(postgres, 1) as pool:

        @guard(0.05)
        async def slow() -> None:
            async with transaction(pool) as borrowed:
                await borrowed.execute("CREATE TEMPORARY TABLE half_done (x int)")
                await borrowed.execute("SELECT pg_sleep(30)")

        for _ in range(3):
            with pytest.raises(TimeoutError):
                await slow()
            assert in_use(pool) == 0
        assert await pool.fetchval("SELECT to_regclass('half_done') IS NULL")


@pytest.mark.parametrize(("scope", "lost"), [(resilio.timeout, 0), (anyio.CancelScope, 3)])
async def test_cleanup_by_hand_is_not_cancelled_again(postgres: Postgres, scope: Any, lost: int) -> None:
    """An await before the release loses its connection for good under anyio's scopes, and not under ours."""
    async with pool_of(postgres, 3) as pool:

        async def by_hand(reached: Callable[[], None]) -> None:
            borrowed = await pool.acquire()
            try:
                reached()
                await borrowed.execute("SELECT pg_sleep(30)")
            finally:
                await asyncio.sleep(0)  # as a log or a metric that is awaited
                await pool.release(borrowed)

        for _ in range(3):
            await within(scope, by_hand)
        assert in_use(pool) == lost


async def test_a_serialization_failure_is_retried_as_a_whole(postgres: Postgres) -> None:
    """Two that read before either wrote: one is rolled back and runs again."""
    failures: list[str] = []
    both_read = asyncio.Barrier(2)
    async with pool_of(postgres, 3) as pool:
        await pool.execute("DROP TABLE IF EXISTS counter")
        await pool.execute("CREATE TABLE counter (n int)")
        await pool.execute("INSERT INTO counter VALUES (0)")

        @standard("counter", on="database", backoff=0.001)
        async def count() -> None:
            first = resilio.current().attempt == 1
            try:
                async with transaction(pool, isolation="serializable") as borrowed:
                    n = await borrowed.fetchval("SELECT n FROM counter")
                    if first:
                        await both_read.wait()
                    await borrowed.execute("UPDATE counter SET n = $1", n + 1)
            except asyncpg.PostgresError as error:
                failures.append(error.sqlstate)
                raise

        await asyncio.gather(count(), count())
        assert failures == ["40001"], "the transactions did not conflict"
        assert await pool.fetchval("SELECT n FROM counter") == 2


async def test_a_bulkhead_as_wide_as_the_pool_waits_in_its_place(postgres: Postgres) -> None:
    """Two connections and a queue of four for a burst of twelve: six are rejected, by name."""
    async with pool_of(postgres, 2) as pool:
        narrow = bulkhead(pool.get_max_size(), max_queued=4, max_wait=30.0, name="db.pool")
        stack = override(standard("db", on="database"), bulkhead=narrow)
        waiting = 0

        @stack
        async def one() -> int:
            nonlocal waiting
            waiting = max(waiting, len(pool._queue._getters))
            return await pool.fetchval("SELECT 1 FROM pg_sleep(0.02)")

        results = await asyncio.gather(*(one() for _ in range(12)), return_exceptions=True)
    rejected = [result for result in results if result != 1]
    assert len(rejected) == 6
    assert {(type(error), error.name) for error in rejected} == {(resilio.BulkheadFullError, "db.pool")}
    assert waiting == 0, "somebody waited in the pool itself"


async def test_the_breaker_opens_while_the_database_is_away_and_closes_when_it_is_back(postgres: Postgres) -> None:
    """A crash, rejections, a recovery by itself, with connections of the pool that are dead."""
    stack = standard("db", on="database", idempotent=True, backoff=0.001)
    breaker = next(policy for policy in stack.policies if policy.kind == "circuit_breaker")
    async with pool_of(postgres, 3) as pool:
        one = stack(lambda: pool.fetchval("SELECT 1"))
        assert await one() == 1
        postgres.kill()
        with pytest.raises(resilio.CircuitOpenError):
            while True:
                with contextlib.suppress(OSError, asyncpg.PostgresError, asyncpg.InterfaceError):
                    await one()
        postgres.start()
        while breaker.snapshot().state != "closed":
            with contextlib.suppress(Exception):
                await one()
            await asyncio.sleep(0.01)
        assert await one() == 1
        assert in_use(pool) == 0


@pytest.mark.parametrize("where", ["connecting", "beginning", "within", "without a transaction"])
async def test_a_database_that_hangs_is_given_up(postgres: Postgres, where: str) -> None:
    """A paused database answers nobody, not even the request to cancel: the connection is cut, and not the process."""
    async with pool_of(postgres, 1) as pool:

        async def one() -> None:
            if where == "without a transaction":
                async with connection(pool, cleanup=0.05) as borrowed:
                    await borrowed.fetchval("SELECT 1")
                    postgres.pause()
                    await borrowed.fetchval("SELECT 2")
            async with transaction(pool, cleanup=0.05) as borrowed:
                await borrowed.fetchval("SELECT 1")
                postgres.pause()
                await borrowed.fetchval("SELECT 2")

        if where != "connecting":
            await pool.fetchval("SELECT 1")
        if where in {"connecting", "beginning"}:
            postgres.pause()
        try:
            with pytest.raises(resilio.CallTimeoutError):
                await resilio.timeout(0.1).acall(one)
        finally:
            postgres.resume()
        assert in_use(pool) == 0
        assert await pool.fetchval("SELECT 1") == 1


@pytest.mark.parametrize("borrow", [transaction, connection])
@pytest.mark.parametrize(("cleanup", "whole"), [(0.05, None), (1.0, 0.4)])
async def test_frozen_backends_end_calls_by_their_time_and_open_the_breaker(
    postgres: Postgres, borrow: Any, cleanup: float, whole: float | None
) -> None:
    """
    The server accepts connections, and those that it has answer no more: five calls hung for as long as it stayed so.

    They come back within their timeout and the cleanup, each a failure, and the pool has all its places again. A
    cleanup that outlasted the deadline hid the failures from the breaker: it ends before.
    """
    async with pool_of(postgres, 5) as pool:
        name = f"frozen, by {borrow.__name__} within {whole}"
        breaker = resilio.circuit_breaker(name, on="database", consecutive=5)
        stack = override(standard(name, on="database", timeout=0.1, deadline=whole), circuit_breaker=breaker)

        async def one() -> int:
            async with borrow(pool, cleanup=cleanup) as borrowed:
                return int(await borrowed.fetchval("SELECT 1 FROM pg_sleep(0.01)"))

        guarded = stack(one)
        assert await asyncio.gather(*(one() for _ in range(5))) == [1] * 5
        with postgres.frozen():
            ended = await asyncio.gather(*(guarded() for _ in range(5)), return_exceptions=True)
            assert [type(error) for error in ended] == [resilio.CallTimeoutError] * 5
            assert breaker.state == "open"
        assert in_use(pool) == 0


async def test_a_transaction_is_committed_or_rolled_back(postgres: Postgres) -> None:
    """As asyncpg's own, with its options."""
    async with pool_of(postgres, 1) as pool:
        await pool.execute("DROP TABLE IF EXISTS letter")
        await pool.execute("CREATE TABLE letter (x int)")
        async with transaction(pool, isolation="serializable") as borrowed:
            await borrowed.execute("INSERT INTO letter VALUES (1)")
            assert await borrowed.fetchval("SHOW transaction_isolation") == "serializable"
        with pytest.raises(KeyError):
            async with transaction(pool) as borrowed:
                await borrowed.execute("INSERT INTO letter VALUES (2)")
                raise KeyError
        assert await pool.fetch("SELECT x FROM letter") == [(1,)]
        assert in_use(pool) == 0


async def test_errors_of_begin_and_commit_are_the_callers_to_see(postgres: Postgres) -> None:
    """And the connection is back."""
    async with pool_of(postgres, 1) as pool:
        with pytest.raises(ValueError, match="isolation"):
            async with transaction(pool, isolation="none"):
                pass
        await pool.execute("DROP TABLE IF EXISTS part, whole")
        await pool.execute("CREATE TABLE whole (id int PRIMARY KEY)")
        await pool.execute("CREATE TABLE part (id int REFERENCES whole DEFERRABLE INITIALLY DEFERRED)")
        with pytest.raises(asyncpg.ForeignKeyViolationError):
            async with transaction(pool) as borrowed:
                await borrowed.execute("INSERT INTO part VALUES (1)")
        assert in_use(pool) == 0


@pytest.mark.parametrize("step", ["rollback", "release"])
async def test_an_error_of_the_cleanup_is_not_hidden(
    postgres: Postgres, step: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As long as the connection is there."""

    async def fail(*_: Any, **__: Any) -> None:
        raise LookupError(step)

    async with pool_of(postgres, 1) as pool:
        monkeypatch.setattr(
            *((asyncpg.transaction.Transaction, step) if step == "rollback" else (asyncpg.pool.Pool, step)), fail
        )
        with pytest.raises(LookupError, match=step):
            async with transaction(pool):
                raise KeyError
        monkeypatch.undo()


async def test_a_connection_that_was_lost_hides_no_error(postgres: Postgres) -> None:
    """The caller sees what was raised inside, and not that there was nothing left to roll back."""
    async with pool_of(postgres, 1) as pool:
        with pytest.raises(KeyError):
            async with transaction(pool) as borrowed:
                borrowed.terminate()
                raise KeyError
        assert in_use(pool) == 0


async def test_wrong_arguments_are_named() -> None:
    """Before anything is borrowed."""
    with pytest.raises(TypeError, match="pool must be a pool of asyncpg, not None"):
        connection(None)
    with pytest.raises(ValueError, match=r"cleanup must be .* not 0"):
        transaction(asyncpg.create_pool("postgresql://"), cleanup=0)
    with pytest.raises(ValueError, match=r"cleanup must be .* not 0"):
        cut_late(cleanup=0)


async def test_an_asyncpg_that_cannot_be_cut_is_rejected(monkeypatch: pytest.MonkeyPatch) -> None:
    """Before 0.32 it waits for the answer to its request to cancel, on a connection that has gone."""
    monkeypatch.setattr("resilio.integrations.asyncpg.version", lambda _: "0.31.0")
    with pytest.raises(RuntimeError, match=r"needs asyncpg 0\.32, not 0\.31\.0"):
        cut_late()


@pytest.mark.parametrize(
    ("statement", "expected"),
    [
        ("SELECT 1 / 0", (False, False, False)),
        ("SELECT nonsense", (False, False, False)),
        ("SELECT $1::int", (False, False, False)),  # without its argument: asyncpg's InterfaceError
        ("SELECT pg_cancel_backend(pg_backend_pid()), pg_sleep(30)", (True, True, False)),
        ("SELECT pg_terminate_backend(pg_backend_pid())", (True, True, False)),
    ],
)
async def test_what_failing_means(postgres: Postgres, statement: str, expected: tuple[bool, bool, bool]) -> None:
    """What the caller wrote is not the database's fault, and a connection that it closed is."""
    async with pool_of(postgres, 1) as pool:
        with pytest.raises((asyncpg.PostgresError, asyncpg.InterfaceError)) as caught:
            await pool.fetchval(statement)
    assert verdicts(caught.value) == expected


async def test_a_connection_that_had_gone_is_the_databases_failure(postgres: Postgres) -> None:
    """An InterfaceError in asyncpg's words."""
    alone = await asyncpg.connect(f"postgresql://{postgres.dsn}")
    alone.terminate()
    with pytest.raises(asyncpg.InterfaceError) as caught:
        await alone.fetchval("SELECT 1")
    assert verdicts(caught.value) == (True, True, False)


@pytest.mark.parametrize("host", ["127.0.0.1", "localhost"])
async def test_a_closed_port_is_known_to_have_got_nothing(host: str, nowhere: int) -> None:
    """Nobody listens, on one address or on several."""
    with pytest.raises(OSError, match=r"Connect call failed|Multiple exceptions") as caught:
        await asyncpg.connect(f"postgresql://postgres@{host}:{nowhere}/postgres")
    assert verdicts(caught.value) == (True, True, True)
