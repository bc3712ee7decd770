"""What the presets for databases, for Redis and for MCP make of errors; the real ones are met in integrations/."""

from __future__ import annotations

import errno
from types import SimpleNamespace
from typing import Any

import pytest

from resilio import BulkheadFullError, adaptive_limit, circuit_breaker, presets, retry
from resilio._failures.causes import causes, never_connected, no_answer
from resilio._failures.outcome import Outcome
from resilio._failures.outcome_table import COUNTED

FAILING, TURNED_AWAY, CALLERS, POOL = (
    (True, True, False),
    (True, True, True),
    (False, False, False),
    (False, True, True),
)


def verdicts(preset: presets.Preset, error: BaseException) -> tuple[bool, bool, bool]:
    """Is it unwell, may another attempt help, was surely nothing done?"""
    return tuple(bool(rule(error)) for rule in (preset.failing, preset.momentary, preset.unsent))  # type: ignore[operator, return-value]


def redis_error(text: str, *names: str, module: str = "redis.exceptions") -> Exception:
    """An error of a class of this name, with its bases, outermost first."""
    kind: type[Exception] = Exception
    for name in reversed(names):
        kind = type(name, (kind,), {"__module__": module})
    return kind(text)


@pytest.mark.parametrize("module", ["redis.exceptions", "valkey.exceptions"])
@pytest.mark.parametrize(
    ("text", "names", "expected"),
    [
        ("Error 111 connecting to db:6379. Connect call failed.", ["ConnectionError"], TURNED_AWAY),
        ("Timeout connecting to server", ["TimeoutError"], TURNED_AWAY),
        ("Error 32 while writing to socket. Broken pipe.", ["ConnectionError"], FAILING),
        ("Connection closed by server.", ["ConnectionError"], FAILING),
        ("Timeout reading from db:6379", ["TimeoutError"], FAILING),
        ("max number of clients reached", ["ConnectionError"], TURNED_AWAY),
        ("Valkey is loading the dataset in memory", ["BusyLoadingError", "ConnectionError"], TURNED_AWAY),
        ("You can't write against a read only replica.", ["ReadOnlyError", "ResponseError"], TURNED_AWAY),
        ("The cluster is down", ["ClusterDownError", "ClusterError", "ResponseError"], TURNED_AWAY),
        ("Link with MASTER is down", ["MasterDownError", "ClusterDownError", "ResponseError"], TURNED_AWAY),
        ("command not allowed when used memory > 'maxmemory'.", ["OutOfMemoryError", "ResponseError"], TURNED_AWAY),
        ("BUSY Valkey is busy running a script.", ["ResponseError"], TURNED_AWAY),
        ("MISCONF Errors writing to the AOF file", ["ResponseError"], TURNED_AWAY),
        ("NOREPLICAS Not enough good replicas to write.", ["ResponseError"], TURNED_AWAY),
        ("Multiple keys request during rehashing of slot", ["TryAgainError", "ResponseError"], POOL),
        ("Command # 2 (INCR n) of pipeline caused error: BUSY running a script", ["ResponseError"], FAILING),
        ("Command # 2 (INCR n) of pipeline caused error: read only", ["ReadOnlyError", "ResponseError"], FAILING),
        ("Command # 2 (GET n) of pipeline caused error: WRONGTYPE", ["ResponseError"], CALLERS),
        ("Too many connections", ["MaxConnectionsError", "ConnectionError"], POOL),
        ("Too many connections", ["ConnectionError"], POOL),
        ("No connection available.", ["ConnectionError"], POOL),
        ("invalid username-password pair", ["AuthenticationError", "ConnectionError"], CALLERS),
        ("No matching script.", ["NoScriptError", "ResponseError"], CALLERS),
        ("BUSYGROUP Consumer Group name already exists", ["ResponseError"], CALLERS),
    ],
)
def test_what_errors_of_redis_mean(text: str, names: list[str], module: str, expected: tuple[bool, bool, bool]) -> None:
    """Of either client, by the class, and by the code before the text where there is no class."""
    assert verdicts(presets.redis, redis_error(text, *names, module=module)) == expected


def test_a_class_of_somebody_else_is_not_taken_for_redis() -> None:
    """The names are common ones."""
    stranger = redis_error("Too many connections", "ReadOnlyError", module="elsewhere")
    assert verdicts(presets.redis, stranger) == CALLERS
    assert verdicts(presets.redis, BulkheadFullError("bulkhead", None, "full")) == CALLERS
    assert verdicts(presets.redis, ConnectionRefusedError()) == TURNED_AWAY


class OperationalError(Exception):
    """As drivers call their own."""


def sql_error(
    name: str, text: str = "", state: str | None = None, module: str = "driver", base: type[Exception] = Exception
) -> Exception:
    error = type(name, (base,), {"__module__": module})(text)
    error.sqlstate = state
    return error


@pytest.mark.parametrize(
    ("error", "expected"),
    [
        (sql_error("QueryCanceled", state="57014"), FAILING),
        (sql_error("AdminShutdown", state="57P01"), FAILING),
        (sql_error("CannotConnectNow", state="57P03"), TURNED_AWAY),
        (sql_error("DiskFull", state="53100"), FAILING),
        (sql_error("DeadlockDetected", state="40P01"), POOL),
        (sql_error("UniqueViolation", state="23505"), CALLERS),
        (sql_error("IdleInTransactionSessionTimeout", state="25P03"), CALLERS),
        (sql_error("OperationalError", "connection failed: Connection refused"), TURNED_AWAY),
        (sql_error("OperationalError", 'connection to server at "db" failed: rejected'), TURNED_AWAY),
        (sql_error("ConnectionTimeout", "connection timeout expired", base=OperationalError), TURNED_AWAY),
        (sql_error("OperationalError", "server closed the connection unexpectedly"), FAILING),
        (sql_error("InterfaceError", "cannot perform operation: connection is closed"), FAILING),
        (sql_error("InterfaceError", "cannot perform operation: another operation is in progress"), CALLERS),
        (sql_error("PoolTimeout", "couldn't get a connection after 1 sec", base=OperationalError), POOL),
        (sql_error("TimeoutError", "QueuePool limit reached", module="sqlalchemy.exc"), POOL),
        (TimeoutError(), FAILING),
    ],
)
def test_what_errors_of_databases_mean(error: Exception, expected: tuple[bool, bool, bool]) -> None:
    """By SQLSTATE, and by name and words where the driver gives none."""
    assert verdicts(presets.database, error) == expected


IN_A_PIPELINE = "Command # 2 (INCR n) of pipeline caused error: "


@pytest.mark.parametrize(
    ("preset", "error", "expected"),
    [
        ("redis", redis_error("max number of clients reached", "ConnectionError"), Outcome.REFUSED),
        ("redis", redis_error("used memory > 'maxmemory'.", "OutOfMemoryError", "ResponseError"), Outcome.REFUSED),
        ("redis", redis_error("Multiple keys request", "TryAgainError", "ResponseError"), Outcome.REFUSED),
        ("redis", redis_error("MISCONF Errors writing to the AOF file", "ResponseError"), Outcome.REFUSED),
        ("redis", redis_error("NOREPLICAS Not enough good replicas", "ResponseError"), Outcome.REFUSED),
        ("redis", redis_error("loading the dataset", "BusyLoadingError", "ConnectionError"), Outcome.FAILURE),
        ("redis", redis_error("BUSY Valkey is busy running a script.", "ResponseError"), Outcome.FAILURE),
        ("redis", redis_error("The cluster is down", "ClusterDownError", "ResponseError"), Outcome.FAILURE),
        ("redis", redis_error(f"{IN_A_PIPELINE}OOM", "OutOfMemoryError", "ResponseError"), Outcome.FAILURE),
        ("redis", redis_error(f"{IN_A_PIPELINE}MISCONF Errors writing", "ResponseError"), Outcome.FAILURE),
        ("redis", redis_error("Too many connections", "ConnectionError"), Outcome.SUCCESS),
        ("database", sql_error("TooManyConnections", state="53300"), Outcome.REFUSED),
        ("database", sql_error("CannotConnectNow", state="57P03"), Outcome.FAILURE),
        ("database", sql_error("DiskFull", state="53100"), Outcome.FAILURE),
        ("database", sql_error("UniqueViolation", state="23505"), Outcome.SUCCESS),
    ],
)
def test_a_store_that_serves_others_has_refused(preset: str, error: Exception, expected: Outcome) -> None:
    """It opens no breaker: one without room for a write reads on. One that serves nothing now has failed."""
    breaker = circuit_breaker(on=preset, consecutive=1)

    def fails() -> None:
        raise error

    breaker.try_call(fails)
    found = breaker.snapshot()
    counted = {"successes": found.successes, "failures": found.failures, "refused": found.refused}
    assert counted == {name: COUNTED[expected][name] for name in counted}
    limit = adaptive_limit(on=preset)
    limit.try_call(fails)
    assert limit.snapshot().refused == (expected is Outcome.REFUSED)
    attempts: list[int] = []

    def again() -> None:
        attempts.append(1)
        raise error

    if expected is Outcome.REFUSED:  # nothing was done, so any call may be made again
        retry(on=presets.ALL[preset], idempotent=False, attempts=2, backoff=0, budget=None).try_call(again)
        assert len(attempts) == 2


def mcp_error(code: int, text: str = "", data: object = None, name: str = "MCPError") -> Exception:
    """An error of MCP's SDK: `MCPError` of version 2, `McpError` of version 1."""
    error = type(name, (Exception,), {})(text)
    error.error = SimpleNamespace(code=code, message=text, data=data)
    return error


REJECTED_THERE = {"reason": "overload", "retry_after": 2}


@pytest.mark.parametrize(
    ("subject", "expected", "again", "unsent"),
    [
        (mcp_error(-32001, "Timed out"), Outcome.FAILURE, True, False),
        (mcp_error(408, "Timed out", name="McpError"), Outcome.FAILURE, True, False),
        (mcp_error(-32000, "Connection closed"), Outcome.FAILURE, True, False),
        (type("ClosedResourceError", (Exception,), {})(), Outcome.FAILURE, True, False),
        (mcp_error(-32603, "Internal error"), Outcome.FAILURE, True, False),
        (mcp_error(-32050, "of the server's own"), Outcome.FAILURE, True, False),
        (mcp_error(32600, "Session terminated", name="McpError"), Outcome.FAILURE, False, False),
        (mcp_error(-32600, "Session terminated"), Outcome.FAILURE, False, False),
        (mcp_error(-32600, "Invalid request"), Outcome.IGNORED, False, False),
        (mcp_error(-32601, "Method not found"), Outcome.IGNORED, False, False),
        (mcp_error(-32602, "Invalid params"), Outcome.IGNORED, False, False),
        (mcp_error(-32042, "open a URL first"), Outcome.IGNORED, False, False),
        (mcp_error(-32050, "rejected", REJECTED_THERE), Outcome.REFUSED, True, True),
        (ConnectionRefusedError(), Outcome.FAILURE, True, True),
        (RuntimeError("Invalid structured content returned"), Outcome.SUCCESS, False, False),
        (SimpleNamespace(is_error=True, structured_content=None), Outcome.FAILURE, True, False),
        (SimpleNamespace(isError=True, structuredContent=None), Outcome.FAILURE, True, False),
        (SimpleNamespace(is_error=True, structured_content=REJECTED_THERE), Outcome.REFUSED, True, True),
        (SimpleNamespace(isError=True, structuredContent=REJECTED_THERE), Outcome.REFUSED, True, True),
        (SimpleNamespace(is_error=False, structured_content=REJECTED_THERE), Outcome.SUCCESS, False, False),
        (SimpleNamespace(isError=False, structuredContent=None), Outcome.SUCCESS, False, False),
    ],
)
def test_what_results_and_errors_of_mcp_mean(subject: Any, expected: Outcome, again: bool, unsent: bool) -> None:
    """A call that the request's fault has ended is no evidence; a rejection by a guarded server is a refusal."""
    breaker, calls = circuit_breaker(on="mcp"), []

    def call() -> Any:
        calls.append(1)
        if isinstance(subject, Exception):
            raise subject
        return subject

    breaker.try_call(call)
    found = breaker.snapshot()
    counted = {"successes": found.successes, "failures": found.failures, "refused": found.refused}
    assert counted == {name: COUNTED[expected][name] for name in counted}
    for idempotent, allowed in ((True, again), (False, unsent)):
        calls.clear()
        retry(on="mcp", idempotent=idempotent, attempts=2, backoff=0, budget=None).try_call(call)
        assert len(calls) == 1 + allowed, idempotent


@pytest.mark.parametrize(
    ("subject", "expected"),
    [
        (mcp_error(-32001, "Timed out"), Outcome.FAILURE),
        (mcp_error(-32602, "Invalid params"), Outcome.IGNORED),
        (SimpleNamespace(is_error=True, structured_content=None), Outcome.IGNORED),
        (SimpleNamespace(is_error=True, structured_content=REJECTED_THERE), Outcome.REFUSED),
        (SimpleNamespace(is_error=False), Outcome.SUCCESS),
    ],
)
def test_what_is_overload_of_an_mcp_server(subject: Any, expected: Outcome) -> None:
    """A timeout and a rejection shrink an adaptive limit; how fast a tool fails is no sample."""
    errors, results = presets.mcp.part("drops")
    judge: Any = errors if isinstance(subject, Exception) else results
    assert judge(subject) == expected


def test_a_name_with_several_addresses_was_not_connected_to() -> None:
    """asyncio and trio raise a plain OSError then."""
    several = OSError(
        "Multiple exceptions: [Errno 111] Connect call failed ('::1', 1), [Errno 111] Connect call failed"
    )
    assert never_connected(several)
    assert never_connected(OSError("all attempts to connect to db:5432 failed"))
    assert not never_connected(OSError("disk full"))
    for preset in (presets.database, presets.http, presets.redis):
        assert verdicts(preset, several) == TURNED_AWAY


def test_an_unreachable_host_is_no_answer() -> None:
    """Though something may have been sent before."""
    assert no_answer(OSError(errno.EHOSTUNREACH, "No route to host"))
    assert not no_answer(OSError(errno.ENOSPC, "No space left"))
    assert not never_connected(OSError(errno.EHOSTUNREACH, "No route to host"))


def test_causes_end() -> None:
    """In a circle, and after eight."""
    assert list(causes(None)) == []
    first, second = ValueError(), KeyError()
    first.__cause__, second.__context__ = second, first
    assert list(causes(first)) == [first, second]
    last: BaseException = ValueError()
    for _ in range(20):
        outer = ValueError()
        outer.__cause__ = last
        last = outer
    assert len(list(causes(last))) == 8
