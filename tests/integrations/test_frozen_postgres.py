"""A PostgreSQL that is stopped where it is, under asyncpg, SQLAlchemy and psycopg: calls end, connections come back."""

from __future__ import annotations

import asyncio
import contextlib
import socket
import threading
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from typing import Any, NamedTuple

import pytest
from servers.postgres import Postgres

import resilio
from resilio import override, standard
from resilio.integrations._shared.lent import Alarm, TaskLoan
from resilio.integrations.asyncpg import cut_late

pytest.importorskip("asyncpg")
pytest.importorskip("sqlalchemy")
pytest.importorskip("greenlet", reason="SQLAlchemy's asyncio needs greenlet")

import asyncpg
from sqlalchemy import create_engine, text
from sqlalchemy.ext.asyncio import AsyncSession, create_async_engine

from resilio.integrations.sqlalchemy import send_deadline

pytestmark = pytest.mark.anyio
SIZE = 5
CLEANUP = 0.05
FOREVER = 20.0
ONE = text("SELECT 1")


@pytest.fixture
def anyio_backend() -> str:
    return "asyncio"


class Client(NamedTuple):
    """A pool of five open connections, as a program uses it."""

    one: Callable[[], Any]
    """A transaction with one statement, which returns 1."""
    held: Callable[[asyncio.Event], Awaitable[None]]
    """A transaction that has done its statement, and is left only by a cancellation; it sets the event."""
    in_use: Callable[[], int]
    in_threads: bool = False


def skip_what_cannot_be_cut(driver: str) -> None:
    pytest.importorskip(driver)
    if driver == "asyncpg" and tuple(map(int, asyncpg.__version__.split(".")[:2])) < (0, 32):
        pytest.skip("asyncpg before 0.32 waits for a connection that is cut all the same")


@contextlib.asynccontextmanager
async def of_asyncpg(postgres: Postgres, form: str) -> AsyncIterator[Client]:
    """Forms that asyncpg documents, and that no block of ours is around."""
    skip_what_cannot_be_cut("asyncpg")
    setup = cut_late(cleanup=CLEANUP)
    # No minimum: the pool would connect anew by itself, and be interrupted by the end of the test.
    pool = await asyncpg.create_pool(f"postgresql://{postgres.dsn}", min_size=0, max_size=SIZE, setup=setup)
    async with contextlib.AsyncExitStack() as opened:
        for _ in range(SIZE):
            await opened.enter_async_context(pool.acquire())

    async def shorthand() -> int:
        return int(await pool.fetchval("SELECT 1"))

    async def acquired() -> int:
        async with pool.acquire() as connection:
            return int(await connection.fetchval("SELECT 1"))

    async def nested() -> int:
        async with pool.acquire() as connection, connection.transaction(), connection.transaction():
            return int(await connection.fetchval("SELECT 1"))

    async def held(reached: asyncio.Event) -> None:
        async with pool.acquire() as connection, connection.transaction():
            await connection.fetchval("SELECT 1")
            reached.set()
            await asyncio.Event().wait()

    forms = {"shorthand": shorthand, "acquire": acquired, "savepoint": nested}
    try:
        yield Client(forms[form], held, lambda: pool.get_size() - pool.get_idle_size())
    finally:
        pool.terminate()


@contextlib.asynccontextmanager
async def of_engine(postgres: Postgres, form: str) -> AsyncIterator[Client]:
    """An AsyncEngine of SQLAlchemy over a driver, by itself or with a session."""
    driver, _, session = form.partition(" ")
    skip_what_cannot_be_cut(driver)
    engine = create_async_engine(f"postgresql+{driver}://{postgres.dsn}", pool_size=SIZE, max_overflow=0)
    send_deadline(engine, cleanup=CLEANUP)
    async with contextlib.AsyncExitStack() as opened:
        for _ in range(SIZE):
            await opened.enter_async_context(engine.connect())

    async def one() -> int:
        async with AsyncSession(engine) if session else engine.begin() as connection:
            return int((await connection.execute(ONE)).scalar())

    async def held(reached: asyncio.Event) -> None:
        async with engine.begin() as connection:
            await connection.execute(ONE)
            reached.set()
            await asyncio.Event().wait()

    try:
        yield Client(one, held, engine.pool.checkedout)
    finally:
        await engine.dispose()


@contextlib.asynccontextmanager
async def of_threads(postgres: Postgres, driver: str) -> AsyncIterator[Client]:
    """An Engine of SQLAlchemy in threads."""
    pytest.importorskip(driver)
    bounds = {"connect_timeout": 2}
    engine = create_engine(f"postgresql+{driver}://{postgres.dsn}", pool_size=SIZE, max_overflow=0, connect_args=bounds)
    send_deadline(engine, cleanup=CLEANUP)
    with contextlib.ExitStack() as opened:
        for _ in range(SIZE):
            opened.enter_context(engine.connect())

    def one() -> int:
        with engine.begin() as connection:
            return int(connection.execute(ONE).scalar())

    try:
        yield Client(one, NotImplemented, engine.pool.checkedout, in_threads=True)
    finally:
        engine.dispose()


@contextlib.contextmanager
def stopped(postgres: Postgres, *, whole: bool) -> Iterator[None]:
    """Stop the connections' processes, or the server as a whole; fail if it has to go on for the block to end."""
    with contextlib.ExitStack() as frozen:
        if whole:
            frozen.callback(postgres.resume)
            postgres.pause()
        else:
            frozen.enter_context(postgres.frozen())
        gave_up = threading.Event()
        alarm = threading.Timer(FOREVER, lambda: (gave_up.set(), postgres.resume()))
        alarm.daemon = True
        alarm.start()
        try:
            yield
        finally:
            alarm.cancel()
    assert not gave_up.is_set(), "a call waited for the database"


CLIENTS = {
    "asyncpg, shorthand": (of_asyncpg, "shorthand"),
    "asyncpg, acquire": (of_asyncpg, "acquire"),
    "asyncpg, savepoint": (of_asyncpg, "savepoint"),
    "engine, asyncpg": (of_engine, "asyncpg"),
    "session, asyncpg": (of_engine, "asyncpg session"),
    "engine, psycopg": (of_engine, "psycopg"),
    "threads, psycopg": (of_threads, "psycopg"),
    "threads, psycopg2": (of_threads, "psycopg2"),
}
EVERY_DAY = {"asyncpg, shorthand", "engine, asyncpg", "engine, psycopg", "threads, psycopg"}
SCENES = [
    pytest.param(name, whole, id=f"{name}, {'whole' if whole else 'backends'}", marks=marks)
    for name in CLIENTS
    for whole in (False, True)
    for marks in [() if name in EVERY_DAY and not whole else pytest.mark.slow]
]
ROLLED_BACK = [
    "engine, asyncpg",
    *(pytest.param(name, marks=pytest.mark.slow) for name in ("asyncpg, acquire", "engine, psycopg")),
]


@pytest.mark.parametrize(("name", "whole"), SCENES)
async def test_calls_of_a_stopped_server_end_and_open_the_breaker(postgres: Postgres, name: str, whole: bool) -> None:
    """
    Each call ends by its time, as a failure; after five the breaker is open, and no connection is lost.

    The shorthands and blocks of asyncpg, and threads, hung for as long as the server was stopped. SQLAlchemy came
    back 2 s late over asyncpg, and 5 to 10 s late over psycopg.
    """
    make, form = CLIENTS[name]
    async with make(postgres, form) as client:
        times = {"deadline": 0.1} if client.in_threads else {"timeout": 0.1, "deadline": 1.5}
        label = f"stopped {name}, {whole}"
        breaker = resilio.circuit_breaker(label, on="database", consecutive=SIZE)
        stack = override(standard(label, on="database", **times), circuit_breaker=breaker)
        for _ in range(20):  # what a call usually takes
            await _answers(client, breaker)
        one = (lambda: asyncio.to_thread(stack.call, client.one)) if client.in_threads else stack(client.one)
        with stopped(postgres, whole=whole):
            ended = await asyncio.gather(*(one() for _ in range(SIZE)), return_exceptions=True)
            late = resilio.DeadlineExceededError if client.in_threads else resilio.CallTimeoutError
            assert [type(error) for error in ended] == [late] * SIZE
            assert breaker.state == "open"
            assert client.in_use() == 0
        breaker.reset()
        for _ in range(2):
            await asyncio.gather(*(_answers(client, breaker) for _ in range(SIZE)))
        assert client.in_use() == 0


async def _answers(client: Client, breaker: Any) -> None:
    """The client works, without a limit in time."""
    guarded = breaker(client.one)
    assert (await asyncio.to_thread(guarded) if client.in_threads else await guarded()) == 1


@pytest.mark.parametrize("name", ROLLED_BACK)
async def test_a_rollback_ends_that_a_stopped_server_does_not_answer(postgres: Postgres, name: str) -> None:
    """The task is cancelled between two statements, by its client that has left: the cleanup has no time limit."""
    make, form = CLIENTS[name]
    async with make(postgres, form) as client:
        reached = [asyncio.Event() for _ in range(SIZE)]
        tasks = [asyncio.create_task(client.held(event)) for event in reached]
        for event in reached:
            await event.wait()
        assert client.in_use() == SIZE
        with stopped(postgres, whole=False):
            for task in tasks:
                task.cancel()
            await asyncio.gather(*tasks, return_exceptions=True)
            assert client.in_use() == 0
        assert await client.one() == 1


async def test_a_cancellation_that_is_caught_cuts_nothing() -> None:
    """Neither does one from before the loan, nor one of a task whose connection is back."""
    task, cuts = asyncio.current_task(), []
    assert task is not None
    task.cancel()
    with contextlib.suppress(asyncio.CancelledError):
        await asyncio.sleep(0)
    loan = TaskLoan(task, lambda: cuts.append(loan), 60.0, lambda: back)
    back = False
    loan._give_up()  # after the cancellation from before
    task.uncancel()
    loan._give_up()
    task.cancel()
    with contextlib.suppress(asyncio.CancelledError):
        await asyncio.sleep(0)
    loan._look()
    assert cuts == []
    assert task.uncancel() == 0
    loan._give_up()
    assert cuts == []
    task.cancel()
    back = True
    loan._give_up()
    assert cuts == []
    back = False
    loan._give_up()  # so it would have been cut
    loan.end()
    task.uncancel()
    assert cuts == [loan]
    with contextlib.suppress(asyncio.CancelledError):
        await asyncio.sleep(0)


async def test_the_cut_comes_before_the_deadline() -> None:
    """Whatever the cleanup: else the deadline would hide the failures from the breaker."""
    loop, task = asyncio.get_running_loop(), asyncio.current_task()
    assert task is not None
    with resilio.deadline(30.0):
        loan = TaskLoan(task, list, 1000.0, bool)
    longest = loop.time() + 30.0
    assert loan._timer.when() <= longest - 22.0
    with resilio.deadline(1.0):
        task.cancel()
        loan._look()
        task.uncancel()
    with contextlib.suppress(asyncio.CancelledError):
        await asyncio.sleep(0)
    assert loan._timer.when() <= longest - 14.0
    loan.end()


def test_an_alarm_that_has_ended_cuts_nothing() -> None:
    """Not if its thread was about to, either: the connection is another caller's."""
    here, there = socket.socketpair()
    with here, there:
        ended = Alarm(here.fileno(), 60.0)
        ended.end()
        ended._cut()
        here.sendall(b"x")
        due = Alarm(here.fileno(), 60.0)
        due._cut()
        due.end()
        with pytest.raises(OSError):
            here.sendall(b"x")
