"""redis-py and valkey-py against a real server that is killed, paused, restarted, and that turns commands away."""

from __future__ import annotations

import asyncio
import contextlib
import importlib
import threading
from collections.abc import Callable, Iterator
from types import ModuleType
from typing import Any

import pytest
from servers.processes import installed, kept_port
from servers.valkey import Valkey

import resilio
from resilio import RetryBudget, presets, standard
from resilio.integrations.redis import bounded, budget_retry

REDIS = presets.redis
Verdicts = tuple[bool, bool, bool]
FAILING, TURNED_AWAY, CALLERS, POOL = (
    (True, True, False),
    (True, True, True),
    (False, False, False),
    (False, True, True),
)


def verdicts(error: BaseException) -> Verdicts:
    """Is the server unwell, may another attempt help, was surely nothing done?"""
    return bool(REDIS.failing(error)), bool(REDIS.momentary(error)), bool(REDIS.unsent(error))


@pytest.fixture(scope="module")
def running() -> Iterator[Valkey]:
    with installed(Valkey) as server:
        yield server


@pytest.fixture
def server(running: Valkey) -> Iterator[Valkey]:
    """A server that runs and has nothing in it."""
    yield running
    running.restart()


@pytest.fixture(params=["redis", "valkey"])
def package(request: pytest.FixtureRequest) -> str:
    pytest.importorskip(request.param)
    return request.param


@pytest.fixture
def sync(package: str) -> ModuleType:
    return importlib.import_module(package)


@pytest.fixture
def aio(package: str) -> ModuleType:
    return importlib.import_module(f"{package}.asyncio")


def client_class(module: ModuleType) -> Any:
    return getattr(module, module.__name__.partition(".")[0].title())


@contextlib.contextmanager
def client_of(module: ModuleType, port: int, **options: Any) -> Iterator[Any]:
    """A synchronous client that gives up in time."""
    client = client_class(module)(host="127.0.0.1", port=port, **{**bounded(module), **options})
    try:
        yield client
    finally:
        client.close()
        client.connection_pool.disconnect()


@contextlib.asynccontextmanager
async def aclient_of(module: ModuleType, port: int, **options: Any) -> Any:
    client = client_class(module)(host="127.0.0.1", port=port, **{**bounded(module), **options})
    try:
        yield client
    finally:
        with resilio.detached():
            await client.aclose()
            await client.connection_pool.disconnect()


def taken_from(pool: Any) -> Any:
    try:
        return pool.get_connection()
    except TypeError:  # older versions want to know for what
        return pool.get_connection("PING")


def raised_by(function: Callable[..., Any], *arguments: Any) -> Exception:
    try:
        function(*arguments)
    except Exception as error:
        return error
    raise AssertionError("nothing was raised")


# -- bounded -----------------------------------------------------------------------------------------------------------


def test_a_closed_port_is_known_to_have_got_nothing(sync: ModuleType, nowhere: int) -> None:
    """Nobody listens: the server is unwell, and the command was surely not run."""
    with client_of(sync, nowhere) as client:
        error = raised_by(client.incr, "n")
    assert verdicts(error) == TURNED_AWAY
    assert "connecting to" in str(error)


@pytest.mark.anyio
@pytest.mark.parametrize("anyio_backend", ["asyncio"])
async def test_a_closed_port_is_known_to_have_got_nothing_by_the_async_client(aio: ModuleType, nowhere: int) -> None:
    """The async client words it as the other does."""
    async with aclient_of(aio, nowhere) as client:
        with pytest.raises(Exception, match="connecting to") as caught:
            await client.incr("n")
    assert verdicts(caught.value) == TURNED_AWAY


def test_a_server_that_hangs_is_given_up(sync: ModuleType, server: Valkey) -> None:
    """A paused server accepts the connection, and the command may be run when it goes on."""
    with client_of(sync, server.port, **bounded(sync, command=0.05)) as client:
        client.ping()
        server.pause()
        try:
            error = raised_by(client.incr, "n")
        finally:
            server.resume()
    assert type(error).__name__ == "TimeoutError"
    assert verdicts(error) == FAILING


def test_a_killed_server_leaves_open_what_was_done(sync: ModuleType, server: Valkey) -> None:
    """The connection ends while the answer is awaited."""
    with client_of(sync, server.port, socket_timeout=30) as client:
        client.ping()
        errors: list[Exception] = []
        waiting = threading.Thread(target=lambda: errors.append(raised_by(client.execute_command, "BLPOP", "none", 0)))
        waiting.start()
        while not server.info("blocked_clients"):
            pass
        server.kill()
        waiting.join()
        server.start()
    assert verdicts(errors[0]) == FAILING


def test_after_a_restart_the_pool_is_used_on(sync: ModuleType, server: Valkey) -> None:
    """Without retries too: the clients look at a pooled connection before they use it."""
    with client_of(sync, server.port) as client:
        client.set("a", 1)
        server.restart()
        assert client.set("a", 2)


@pytest.mark.parametrize(("name", "value"), [("connect", 0), ("command", -1.0)])
def test_settings_out_of_range_are_rejected(sync: ModuleType, name: str, value: float) -> None:
    """The message names the parameter and the value."""
    with pytest.raises(ValueError, match=f"{name} must be .*{value}"):
        bounded(sync, **{name: value})


def test_only_a_client_is_taken_for_one() -> None:
    """A class or another module says what is wanted."""
    for wrong in (asyncio, "redis", object):
        with pytest.raises(TypeError, match=r"client must be one of the modules redis, redis\.asyncio"):
            bounded(wrong)  # type: ignore[arg-type]


# -- what failing means ------------------------------------------------------------------------------------------------


def oom(server: Valkey, nowhere: int) -> None:
    server.send("CONFIG", "SET", "maxmemory", "1")


def read_only(server: Valkey, nowhere: int) -> None:
    server.send("REPLICAOF", "127.0.0.1", str(nowhere))


def master_down(server: Valkey, nowhere: int) -> None:
    server.send("CONFIG", "SET", "replica-serve-stale-data", "no")
    read_only(server, nowhere)


def too_few_replicas(server: Valkey, nowhere: int) -> None:
    server.send("CONFIG", "SET", "min-replicas-to-write", "1")


def wrong_type(server: Valkey, nowhere: int) -> None:
    server.send("LPUSH", "n", "x")


def password(server: Valkey, nowhere: int) -> None:
    server.send("CONFIG", "SET", "requirepass", "secret")


@pytest.mark.parametrize(
    ("trouble", "expected"),
    [
        (oom, TURNED_AWAY),
        (read_only, TURNED_AWAY),
        (master_down, TURNED_AWAY),
        (too_few_replicas, TURNED_AWAY),
        (wrong_type, CALLERS),
        (password, CALLERS),
    ],
)
def test_what_the_server_turns_away(
    sync: ModuleType, server: Valkey, nowhere: int, trouble: Callable[[Valkey, int], None], expected: Verdicts
) -> None:
    """What says that the server is unwell was not begun; what the caller did wrong says nothing about it."""
    with client_of(sync, server.port) as client:
        trouble(server, nowhere)
        assert verdicts(raised_by(client.incr, "n")) == expected


def test_a_pipeline_that_was_turned_away_in_part_is_not_tried_again(
    sync: ModuleType, server: Valkey, nowhere: int
) -> None:
    """Its other commands may have been run."""
    with client_of(sync, server.port) as client:
        read_only(server, nowhere)
        pipeline = client.pipeline(transaction=False)
        pipeline.get("n")
        pipeline.incr("n")
        assert verdicts(raised_by(pipeline.execute)) == FAILING


def test_a_cluster_without_its_slots_is_unwell(sync: ModuleType) -> None:
    """
    CLUSTERDOWN: no node serves the key.

    The bus has a port of its own: that of a node and 10,000 more is none where the node's is above 55,535. Five free
    ports in a row were, once in 70,000 tests.
    """
    with kept_port() as bus:
        options = ["--cluster-enabled", "yes", "--cluster-port", str(bus.getsockname()[1])]
        with installed(Valkey, options=options) as server, client_of(sync, server.port) as client:
            assert verdicts(raised_by(client.incr, "n")) == TURNED_AWAY


def test_a_server_with_no_room_for_clients_is_unwell(sync: ModuleType) -> None:
    """It closes the connection with a word; neither client says which it was."""
    with installed(Valkey, options=["--maxclients", "1"]) as server, client_of(sync, server.port) as first:
        first.ping()
        with client_of(sync, server.port) as second:
            assert verdicts(raised_by(second.incr, "n"))[:2] == (True, True)


@pytest.mark.real(1.5)
def test_a_server_that_loads_its_data_is_unwell(sync: ModuleType) -> None:
    """LOADING: it answers, and does nothing yet."""
    with installed(Valkey) as server:
        server.send("EVAL", "for i = 1, 5000 do redis.call('SET', 'key' .. i, i) end", "0")
        server.send("SAVE")
        server.options = ["--key-load-delay", "2000", "--loading-process-events-interval-bytes", "1024"]
        server.greeting = b"-LOADING"
        server.restart()
        with client_of(sync, server.port) as client:
            assert verdicts(raised_by(client.incr, "n"))[:2] == (True, True)


def test_a_server_busy_with_a_script_is_unwell(sync: ModuleType, server: Valkey) -> None:
    """BUSY: everybody else is turned away until the script ends."""
    server.send("CONFIG", "SET", "busy-reply-threshold", "1")
    with client_of(sync, server.port) as client, client_of(sync, server.port, socket_timeout=30) as endless:
        client.ping()
        running = threading.Thread(target=lambda: raised_by(endless.eval, "while true do end", 0))
        running.start()
        while not server.send("PING").startswith(b"-BUSY"):
            pass
        error = raised_by(client.incr, "n")
        server.send("SCRIPT", "KILL")
        running.join()
    assert verdicts(error) == TURNED_AWAY


def test_a_wait_for_the_pool_is_not_the_servers_fault(sync: ModuleType, server: Valkey) -> None:
    """Both kinds of pools; nothing was sent."""
    for pool_class, options in (("ConnectionPool", {}), ("BlockingConnectionPool", {"timeout": 0.01})):
        pool = getattr(sync, pool_class)(host="127.0.0.1", port=server.port, max_connections=1, **options)
        client = client_class(sync)(connection_pool=pool)
        taken = taken_from(pool)
        try:
            assert verdicts(raised_by(client.incr, "n")) == POOL
        finally:
            pool.release(taken)
            client.close()
            pool.disconnect()


def test_what_is_not_of_the_client_is_judged_by_itself() -> None:
    """A rejection says nothing, a refused connection all, a bug nothing."""
    assert verdicts(resilio.BulkheadFullError("bulkhead", None, "full")) == CALLERS
    assert verdicts(ConnectionRefusedError()) == TURNED_AWAY
    assert verdicts(KeyError()) == CALLERS


# -- the stack ---------------------------------------------------------------------------------------------------------


@pytest.mark.anyio
@pytest.mark.parametrize("anyio_backend", ["asyncio"])
@pytest.mark.real(1.0)
async def test_the_breaker_opens_while_the_server_is_away_and_closes_when_it_is_back(
    aio: ModuleType, server: Valkey
) -> None:
    """While it is away most calls are rejected without a connection; nobody has to restart anything."""
    stack = standard("cache", on="redis", idempotent=True)
    breaker = next(policy for policy in stack.policies if policy.kind == "circuit_breaker")
    async with aclient_of(aio, server.port) as client:
        await stack.acall(client.set, "a", "1")
        server.kill()
        with pytest.raises(resilio.CircuitOpenError):
            while True:
                with contextlib.suppress(aio.ConnectionError, aio.TimeoutError):
                    await stack.acall(client.get, "a")
        rejected = breaker.snapshot().rejected
        server.start()
        while breaker.snapshot().state != "closed":
            with contextlib.suppress(aio.ConnectionError, resilio.CircuitOpenError):
                await stack.acall(client.set, "a", "2")
            await asyncio.sleep(0.01)
        assert await stack.acall(client.get, "a") == b"2"
    assert rejected


@pytest.mark.anyio
@pytest.mark.parametrize("anyio_backend", ["asyncio"])
async def test_what_is_not_idempotent_is_repeated_only_where_it_was_not_run(aio: ModuleType, server: Valkey) -> None:
    """An answer that was lost is not asked for again; a connection refused is."""
    stack = standard("counter", on="redis", timeout=None, budget=None)
    calls = 0

    async def count(client: Any) -> Any:
        nonlocal calls
        calls += 1
        return await client.incr("n")

    async with aclient_of(aio, server.port, socket_timeout=0.05) as client:
        while True:  # connected, however many tries a busy machine needs
            with contextlib.suppress(aio.TimeoutError):
                await client.ping()
                break
        server.pause()
        with pytest.raises(aio.TimeoutError) as hung:
            await stack.acall(count, client)
        server.resume()
        server.kill()
        with pytest.raises(aio.ConnectionError) as gone:
            await stack.acall(count, client)
    assert hung.value.resilio.stop_reason == "not_retryable"
    assert gone.value.resilio.stop_reason == "attempts"
    assert calls == 1 + 3
    server.start()


@pytest.mark.anyio
@pytest.mark.parametrize("anyio_backend", ["asyncio"])
async def test_a_command_that_was_interrupted_leaves_no_answer_behind(aio: ModuleType, server: Valkey) -> None:
    """The next command on the pool's connection gets its own answer, and not that of the one before."""
    quick = resilio.timeout(0.05)
    async with aclient_of(aio, server.port, socket_timeout=30, max_connections=1) as client:
        await client.set("mine", "1")
        await client.set("other", "2")
        server.pause()
        with pytest.raises(resilio.CallTimeoutError):
            await quick.acall(client.get, "mine")
        server.resume()
        for _ in range(3):
            assert await client.get("other") == b"2"


@pytest.mark.anyio
@pytest.mark.parametrize("anyio_backend", ["asyncio"])
async def test_a_bulkhead_below_the_pools_size_waits_in_its_place(aio: ModuleType, server: Valkey) -> None:
    """A rejection names the bulkhead; nobody meets the pool's own limit."""
    narrow = resilio.bulkhead(2, max_queued=2, max_wait=30.0, name="cache.pool")
    async with aclient_of(aio, server.port, socket_timeout=30, max_connections=2) as client:
        results = await asyncio.gather(
            *(narrow.acall(client.blpop, ["never"], 0.05) for _ in range(8)), return_exceptions=True
        )
    rejected = [result for result in results if isinstance(result, resilio.BulkheadFullError)]
    assert [result for result in results if result not in rejected] == [None] * 4
    assert {error.name for error in rejected} == {"cache.pool"}


# -- budget_retry ------------------------------------------------------------------------------------------------------


def test_the_budget_pays_for_the_clients_retries(sync: ModuleType, nowhere: int) -> None:
    """Three retries are saved, and no more are made; the error is the client's."""
    budget = RetryBudget(initial=3, reserve=0)
    again = budget_retry(sync, budget, attempts=3, backoff=0.001)
    with client_of(sync, nowhere, **bounded(sync, retry=again)) as client:
        for _ in range(5):
            with pytest.raises(sync.ConnectionError):
                client.get("a")
    assert (budget.withdrawals, budget.rejected > 0) == (3, True)


def test_successes_pay_in(sync: ModuleType, server: Valkey) -> None:
    """What the client does when it is well lets it try again when it is not."""
    budget = RetryBudget(initial=0, reserve=0, ratio=0.5, decay=None)
    with client_of(sync, server.port, **bounded(sync, retry=budget_retry(sync, budget, backoff=0.001))) as client:
        for _ in range(10):
            client.set("a", 1)
        saved = budget.balance
        server.kill()
        with pytest.raises(sync.ConnectionError):
            client.get("a")
    assert saved == budget.config.cap
    assert budget.withdrawals >= 2
    server.start()


@pytest.mark.anyio
@pytest.mark.parametrize("anyio_backend", ["asyncio"])
async def test_the_budget_pays_for_the_async_clients_retries(aio: ModuleType, server: Valkey) -> None:
    """A restart in between is not noticed; an outage costs what was saved."""
    budget = RetryBudget(initial=2, reserve=0)
    again = budget_retry(aio, budget, attempts=50, backoff=[0.01])
    async with aclient_of(aio, server.port, **bounded(aio, retry=again)) as client:
        await client.set("a", 1)
        assert budget.deposits
        server.kill()
        with pytest.raises(aio.ConnectionError):
            await client.get("a")
    assert (budget.withdrawals, budget.rejected > 0) == (2, True)
    server.start()


def test_no_retry_sleeps_past_the_deadline(sync: ModuleType, nowhere: int) -> None:
    """The error comes at once, and the budget keeps what it has."""
    budget = RetryBudget(initial=3, reserve=0)
    again = budget_retry(sync, budget, backoff=60.0)
    with (
        client_of(sync, nowhere, **bounded(sync, retry=again)) as client,
        resilio.deadline(30.0),
        pytest.raises(sync.ConnectionError),
    ):
        client.get("a")
    assert budget.withdrawals == 0


def test_other_errors_are_not_the_clients_to_retry(sync: ModuleType, server: Valkey) -> None:
    """A command that makes no sense is sent once."""
    budget = RetryBudget(initial=3, reserve=0)
    again = budget_retry(sync, budget)
    with client_of(sync, server.port, **bounded(sync, retry=again)) as client, pytest.raises(sync.ResponseError):
        client.execute_command("NONSENSE")
    assert budget.withdrawals == 0


def test_a_retry_without_a_budget_is_rejected(sync: ModuleType) -> None:
    """The message says what is wanted."""
    with pytest.raises(TypeError, match="budget must be a RetryBudget, not None"):
        budget_retry(sync, None)  # type: ignore[arg-type]
    with pytest.raises(ValueError, match="attempts must be an int from 1"):
        budget_retry(sync, RetryBudget(), attempts=0)
