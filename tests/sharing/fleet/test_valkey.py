"""A fleet's store in a real Valkey, by both clients: alone, killed, stopped, flushed, failed over, and as a cluster."""

from __future__ import annotations

import importlib
import os
from collections.abc import Iterator
from contextlib import closing
from types import ModuleType
from typing import Any

import pytest
from exchanges import PATIENT, answers, ask, granted
from servers.processes import installed
from servers.valkey import Valkey
from servers.valkey_groups import Cluster, Watched, until

from resilio.integrations._stores.valkey import _reply
from resilio.sharing import Engine, StoreError, fleet


@pytest.fixture(scope="module")
def running() -> Iterator[Valkey]:
    with installed(Valkey) as server:
        yield server


@pytest.fixture
def server(running: Valkey) -> Valkey:
    """A server that runs and has nothing in it."""
    running.send("FLUSHALL")
    running.send("SCRIPT", "FLUSH")
    running.send("CONFIG", "RESETSTAT")
    return running


@pytest.fixture(params=["valkey", "redis"])
def package(request: pytest.FixtureRequest) -> str:
    pytest.importorskip(request.param)
    return str(request.param)


@pytest.fixture
def module(package: str) -> ModuleType:
    return importlib.import_module(package)


def client_of(module: ModuleType, **options: Any) -> Any:
    return getattr(module, module.__name__.title())(**options)


def cluster_client(module: ModuleType, cluster: Cluster) -> Any:
    classes = importlib.import_module(f"{module.__name__}.cluster")
    return getattr(classes, f"{module.__name__.title()}Cluster")(host="127.0.0.1", port=cluster.nodes[0].port)


def engine_of(client: Any, timeout: float = PATIENT) -> Engine:
    """Return the engine that a fleet makes of a client."""
    return fleet(f"of {id(client)}", client, timeout=timeout, host=False).engine


def test_all_policies_are_one_command(server: Valkey, module: ModuleType) -> None:
    """Ten policies would be ten round trips a tick, of each process: they are one script, also of a str client."""
    engine = engine_of(client_of(module, port=server.port, decode_responses=True))
    for n in (1, 2, 3):
        assert granted(engine, *(ask(n, n - 1, key=f"{{k{i}}}", want=100) for i in range(10))) == [100] * 10
    assert b"cmdstat_evalsha:calls=3," in server.send("INFO", "COMMANDSTATS")
    assert b"cmdstat_eval:calls=1," in server.send("INFO", "COMMANDSTATS")


def test_many_keys_are_several_runs_of_the_script(server: Valkey, module: ModuleType) -> None:
    """A keyed limit may ask for a thousand keys: one run for all would hold up the server's other clients."""
    engine = engine_of(client_of(module, port=server.port))
    asks = [ask(1, 0, key=f"{{k{i}}}", want=i % 7) for i in range(1000)]
    assert granted(engine, *asks) == [i % 7 for i in range(1000)]
    assert b"cmdstat_evalsha:calls=20," in server.send("INFO", "COMMANDSTATS")


def test_a_url_is_enough(server: Valkey, package: str) -> None:
    """A service that has no client of its own names the place only."""
    engine = fleet("by url", f"{package}://127.0.0.1:{server.port}/0", timeout=PATIENT).engine
    assert granted(engine, ask(1, 0, want=7)) == [7]


def test_a_server_that_restarts_is_sent_the_script_again(server: Valkey, module: ModuleType) -> None:
    """The cache of scripts is lost: litellm went on without its script, silently, with a limit for each pod."""
    engine = engine_of(client_of(module, port=server.port))
    assert granted(engine, ask(1, 0, want=1000)) == [1000]
    server.restart()
    until(lambda: answers(engine))
    assert granted(engine, ask(2, 1, want=1000)) == [0], "and its key is lost: what is out is not given again"


def test_a_connection_that_is_closed_between_two_trips_costs_none(server: Valkey, module: ModuleType) -> None:
    """A server, or a balancer before it, closes connections that rest: the trip after it was lost once."""
    engine = engine_of(client_of(module, port=server.port))
    for n in (1, 2):
        assert granted(engine, ask(n, n - 1, want=100)) == [100]
    assert int(server.send("CLIENT", "KILL", "TYPE", "normal").strip(b":\r\n")) >= 1
    assert granted(engine, ask(3, 2, want=100)) == [100]


def test_a_reply_that_is_no_answer_is_asked_for_again(server: Valkey, module: ModuleType) -> None:
    """The engine reads plain texts alone from the socket: an error of the server is the client's to read."""
    engine = engine_of(client_of(module, port=server.port))
    for n in (1, 2):
        assert granted(engine, ask(n, n - 1, want=100)) == [100]
    server.send("SCRIPT", "FLUSH")
    for n in (3, 4):
        assert granted(engine, ask(n, n - 1, want=100)) == [100]
    server.send("CONFIG", "RESETSTAT")
    assert granted(engine, ask(5, 4, want=100)) == [100]
    assert b"cmdstat_evalsha:calls=1," in server.send("INFO", "COMMANDSTATS")


def test_a_client_whose_socket_is_not_known_sends_and_reads_itself(
    server: Valkey, module: ModuleType, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The name of the socket is the client's own: another release may have none."""
    connections = importlib.import_module(f"{module.__name__}.connection")
    read = connections.Connection.read_response
    seen: list[bytes] = []

    def watched(*args: Any, **options: Any) -> bytes:
        seen.append(read(*args, **options))
        return seen[-1]

    monkeypatch.setattr(connections.Connection, "read_response", watched)
    engine = engine_of(client_of(module, port=server.port))
    assert granted(engine, ask(1, 0, want=100)) == [100]
    seen.clear()
    assert granted(engine, ask(2, 1, want=100)) == [100]
    assert not seen, "the engine reads"
    monkeypatch.setattr(engine, "_socket", None)
    assert granted(engine, ask(3, 2, want=100)) == [100]
    assert len(seen) == 1, "the client reads"


def test_an_engine_that_was_closed_opens_again(server: Valkey, module: ModuleType) -> None:
    """A fleet that is closed and used again has one connection, however often: its pool has two at most."""
    engine = engine_of(client_of(module, port=server.port))
    for n in range(1, 9):
        assert granted(engine, ask(n, n - 1, want=100)) == [100]
        if n % 2 == 0:
            engine.close()  # type: ignore[attr-defined]
    assert server.send("CLIENT", "LIST").count(b"cmd=evalsha") <= 1


class _Parts:
    """A socket that gives a reply in these parts."""

    def __init__(self, *parts: bytes) -> None:
        self.parts = list(parts)
        self.sent = b""

    def sendall(self, data: bytes) -> None:
        self.sent += data

    def recv(self, most: int) -> bytes:
        return self.parts.pop(0) if self.parts else b""


def test_a_reply_may_come_in_parts() -> None:
    """A reply of fifty answers is longer than a packet."""
    connected = _Parts(b"$11\r\nhe", b"llo\n", b"wor", b"ld\r", b"\n")
    assert _reply(connected, b"command") == b"hello\nworld"
    assert connected.sent == b"command"


@pytest.mark.parametrize(
    "parts",
    [
        (b"",),
        (b"-NOSCRIPT No matching script\r\n",),
        (b"$-1\r\n",),
        (b">2\r\n$10\r\ninvalidate\r\n*0\r\n",),
        (b"$2\r\nok\r\n$5\r\nother\r\n",),
        (b"$5\r\nhe",),
        (b"$5", b"\r\nhello"),
        (b"$5\r\nhello--",),
    ],
)
def test_what_is_not_one_text_is_no_reply(parts: tuple[bytes, ...]) -> None:
    """What the engine does not understand must not be taken for an answer, or left in the connection for the next."""
    with pytest.raises(ConnectionError):
        _reply(_Parts(*parts), b"command")


def test_the_child_of_a_fork_has_a_connection_of_its_own(server: Valkey, module: ModuleType) -> None:
    """The engine keeps its connection: two processes that read from it would have each other's answers."""
    engine = engine_of(client_of(module, port=server.port))
    assert granted(engine, ask(1, 0, want=100)) == [100]
    before, opened = server.send("CLIENT", "LIST").count(b"cmd=eval"), 0
    child = os.fork()
    if child == 0:
        try:
            if granted(engine, ask(1, 0, asker=2, want=100)) == [100]:
                opened = server.send("CLIENT", "LIST").count(b"cmd=eval") - before
        finally:
            os._exit(opened)
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 1
    assert granted(engine, ask(2, 1, want=100)) == [100]


def test_a_flushed_server_gives_nothing_twice(server: Valkey, module: ModuleType) -> None:
    """After FLUSHALL the burst is not there a second time for those that hold it."""
    engine = engine_of(client_of(module, port=server.port))
    assert granted(engine, ask(1, 0, want=600)) == [600]
    server.send("FLUSHALL")
    assert granted(engine, ask(2, 1, left=500, want=1000)) == [0]


def test_a_stopped_server_is_an_error_and_its_late_work_comes_back(server: Valkey, module: ModuleType) -> None:
    """
    A request that a stopped server reads later is done after its asker has given up: the grant that no process has
    got comes back with the asker's next ask.
    """
    engine, hasty = (engine_of(client_of(module, port=server.port), timeout) for timeout in (PATIENT, 0.1))
    assert granted(engine, ask(1, 0, want=100)) == [100]
    until(lambda: answers(hasty))
    server.pause()
    try:
        with pytest.raises(StoreError, match="Timeout"):
            granted(hasty, ask(2, 1, left=100, want=900))
    finally:
        server.resume()
    until(lambda: answers(engine))
    until(lambda: server.send("HGET", "{k}", "1").split(b"\r\n")[1].startswith(b"2 "))
    assert granted(engine, ask(3, 1, want=1000)) == [1000]


def test_a_server_that_is_gone_is_an_error(module: ModuleType) -> None:
    """A courier must learn of it at once, without the client's own retries."""
    with installed(Valkey) as gone:
        engine = engine_of(client_of(module, port=gone.port))
    with pytest.raises(StoreError, match="ConnectionError"):
        granted(engine, ask(1, 0, want=100))


def test_a_client_that_waits_in_a_loop_is_rejected(package: str) -> None:
    """No trip is made in a user's event loop; the error has the line that makes a client for it."""
    aio = importlib.import_module(f"{package}.asyncio")
    with pytest.raises(TypeError, match=rf"client must be a client that .*, as {package}\.{package.title()}\.from_url"):
        fleet("aio", getattr(aio, package.title())(port=1))


@pytest.mark.slow
def test_sentinel_names_the_master_after_a_failover(module: ModuleType, request: pytest.FixtureRequest) -> None:
    """The replica that has become the master has the leases too: they are written as effects, and arrive there."""
    sentinel = importlib.import_module(f"{module.__name__}.sentinel")
    with Watched() as watched:
        manager = sentinel.Sentinel([("127.0.0.1", watched.sentinel.port)], socket_timeout=PATIENT)
        request.addfinalizer(manager.sentinels[0].connection_pool.disconnect)
        engine = engine_of(manager.master_for("shop"))
        assert granted(engine, ask(1, 0, want=600)) == [600]
        until(lambda: watched.replica.send("HEXISTS", "{k}", "1") == b":1\r\n")
        watched.fail_over()
        until(lambda: answers(engine))
        assert granted(engine, ask(1, 0, asker=2, want=1000)) == [400]
        assert granted(engine, ask(2, 1, left=600)) == [0]


@pytest.mark.real(2.0)
def test_a_cluster_has_each_policy_on_its_node(module: ModuleType) -> None:
    """Of a cluster one node may be away: only the policies whose keys it has get no answer."""
    with Cluster() as cluster, closing(cluster_client(module, cluster)) as client:
        keys = [f"{{k{n}}}" for n in range(16)]
        slots = {key: client.keyslot(key) for key in keys}
        engine = engine_of(client)
        assert granted(engine, *(ask(1, 0, key=key, want=100) for key in keys)) == [100] * 16
        away = cluster.nodes[1]
        there = [cluster.node_of(slots[key]) is not away for key in keys]
        assert any(there)
        assert not all(there)
        away.kill()
        found = granted(engine, *(ask(2, 1, key=key, want=100, left=100) for key in keys))
        assert found == [100 if near else None for near in there]


@pytest.mark.real(2.0)
def test_a_slot_that_moves_takes_its_leases_with_it(module: ModuleType) -> None:
    """While a slot moves its keys are here or there, and the client is sent from one to the other (ASK, MOVED)."""
    with Cluster() as cluster, closing(cluster_client(module, cluster)) as client:
        slot = client.keyslot("{k}")
        engine = engine_of(client)
        assert granted(engine, ask(1, 0, want=600)) == [600]
        cluster.begin_move(slot)
        assert granted(engine, ask(2, 1, left=500, want=500)) == [500]
        cluster.move_keys(slot)
        assert granted(engine, ask(3, 2, left=400, want=400)) == [400]
        before = cluster.node_of(slot)
        cluster.end_move(slot)
        until(lambda: cluster.node_of(slot) is not before)
        assert granted(engine, ask(4, 3, left=300, want=300)) == [300]
        assert granted(engine, ask(1, 0, asker=2, want=1000)) == [400]
