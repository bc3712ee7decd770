"""`resilio run` and `install`: a program tried out without an edit, against the real clients."""

from __future__ import annotations

import asyncio
import importlib
import os
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from servers.misbehaving import Misbehaving
from servers.models import answers, provide
from servers.processes import installed
from servers.sdks import SDKS, Sdk
from servers.valkey import Valkey

import resilio
from resilio._adoption.points import CLIENTS, POINTS, Point

Ask = Callable[[Any, str], list[int]]


@pytest.fixture
def shadow() -> Iterator[Any]:
    """A trial that changes nothing."""
    trial = resilio.install(shadow=True)
    yield trial
    trial.remove()


@pytest.fixture
def guard() -> Iterator[Any]:
    """A trial that is enforced."""
    trial = resilio.install()
    yield trial
    trial.remove()


def _in_threads(module: Any, url: str) -> list[int]:
    with module.Session() if hasattr(module, "Session") else module.Client(trust_env=False) as session:
        return [session.get(url).status_code for _ in range(15)]


def _by_httpx(module: Any, url: str) -> list[int]:
    async def ask() -> list[int]:
        async with module.AsyncClient(trust_env=False) as client:
            return [(await client.get(url)).status_code for _ in range(15)]

    return asyncio.run(ask())


def _by_aiohttp(module: Any, url: str) -> list[int]:
    async def ask() -> list[int]:
        found = []
        async with module.ClientSession() as session:
            for _ in range(15):
                async with session.get(url) as response:
                    await response.read()
                    found.append(response.status)
        return found

    return asyncio.run(ask())


CLIENTS_OF_HTTP = [
    pytest.param("httpx", _in_threads, id="httpx-threads"),
    pytest.param("httpx", _by_httpx, id="httpx"),
    pytest.param("httpx2", _in_threads, id="httpx2-threads"),
    pytest.param("httpx2", _by_httpx, id="httpx2"),
    pytest.param("requests", _in_threads, id="requests"),
    pytest.param("aiohttp", _by_aiohttp, id="aiohttp"),
]


@pytest.mark.parametrize(("name", "ask"), CLIENTS_OF_HTTP)
def test_shadow_changes_nothing_and_counts(name: str, ask: Ask, shadow: Any, server: Misbehaving) -> None:
    """Fifteen failures come as they are: each was sent once, and the report says what a breaker would have done."""
    module = pytest.importorskip(name)
    assert ask(module, f"{server.url}/status/503") == [503] * 15
    assert server.total == 15
    (row,) = shadow.report().hosts
    assert (row.client, row.calls, row.failed, row.rejected) == (name, 15, 15, 5)
    assert row.retried == 10
    assert f'standard("{server.url.removeprefix("http://")}", on="http")' in str(shadow.report())


@pytest.mark.real(2.0)
@pytest.mark.parametrize(("name", "ask"), CLIENTS_OF_HTTP)
def test_a_guard_rejects_by_the_client_s_own_error(name: str, ask: Ask, guard: Any, server: Misbehaving) -> None:
    """The breaker of a host opens, and the caller gets an exception that its client's handlers catch."""
    module = pytest.importorskip(name)
    error = getattr(module, "TransportError", None) or getattr(module, "RequestException", None) or module.ClientError
    with pytest.raises(error) as caught:
        ask(module, f"{server.url}/status/503")
    assert isinstance(caught.value, resilio.CircuitOpenError)
    assert server.total <= 15
    (row,) = guard.report().hosts
    assert row.rejected >= 1


@pytest.mark.parametrize("sdk", SDKS, ids=repr)
def test_a_client_of_a_model_is_guarded_once(sdk: Sdk, shadow: Any, server: Misbehaving) -> None:
    """The SDK's client is guarded as such, and the client of HTTP inside of it is left alone."""
    pytest.importorskip(sdk.wire.name)
    provide(server, sdk.wire, answers("hello"))
    with sdk.bare(server, is_async=False) as client:
        retries = client.max_retries
        assert sdk.text(sdk.ask(client)) == "hello"
        assert client.max_retries == retries > 0  # in shadow the SDK's own retries stay
    (row,) = shadow.report().hosts
    assert (row.client, row.preset, row.calls, server.total) == (sdk.wire.name, "model", 1, 1)


def test_a_client_that_is_given_to_an_sdk_is_guarded_once(shadow: Any, server: Misbehaving) -> None:
    """LangChain gives openai a client of HTTP of its own making: each call stood in the report twice."""
    sdk = next(one for one in SDKS if one.wire.name == "openai")
    pytest.importorskip("openai")
    provide(server, sdk.wire, answers("hello"))
    with sdk.http.Client(trust_env=False) as http, sdk.bare(server, is_async=False, http_client=http) as client:
        assert sdk.text(sdk.ask(client)) == "hello"
    assert [(row.client, row.calls) for row in shadow.report().hosts] == [("openai", 1)]


@pytest.mark.real(1.0)
@pytest.mark.parametrize("name", ["redis", "valkey"])
def test_commands_of_a_store(name: str, shadow: Any, nowhere: int) -> None:
    """A command is one call, of threads and of event loops; one that waits by itself is none."""
    module = pytest.importorskip(name)
    with installed(Valkey) as store:
        with getattr(module, name.title())(port=store.port) as client:
            client.set("key", "value")
            assert client.get("key") == b"value"
            assert client.blpop(["none"], timeout=0.01) is None

        async def ask() -> None:
            asynchronous = importlib.import_module(f"{name}.asyncio")
            async with getattr(asynchronous, name.title())(port=store.port) as client:
                assert await client.get("key") == b"value"
            async with getattr(asynchronous, name.title())(port=nowhere) as client:
                with pytest.raises(module.ConnectionError):
                    await client.get("key")

        asyncio.run(ask())
    rows = {row.host: row for row in shadow.report().hosts}
    assert rows[f"localhost:{store.port}"].calls == 3
    assert (rows[f"localhost:{nowhere}"].calls, rows[f"localhost:{nowhere}"].failed) == (1, 1)


def test_a_transport_of_the_user_s_own_is_left_alone(shadow: Any) -> None:
    """A fake of a test, or a guard that the code has already, keeps its place."""
    httpx = pytest.importorskip("httpx2")
    with httpx.Client(transport=httpx.MockTransport(lambda _: httpx.Response(204))) as client:
        assert client.get("http://example.invalid").status_code == 204
    assert shadow.report().hosts == ()


def test_an_error_of_ours_lets_the_call_pass(shadow: Any, server: Misbehaving, caplog: Any) -> None:
    """A name that is taken by a policy of the program: the host is left alone, and the log says so once."""
    httpx = pytest.importorskip("httpx2")
    taken = resilio.circuit_breaker(f"{server.url.removeprefix('http://')}.circuit_breaker")
    with httpx.Client(trust_env=False) as client:
        assert [client.get(f"{server.url}/ok").status_code for _ in range(2)] == [200, 200]
    assert [record.message for record in caplog.records if "not guarded" in record.message] != []
    assert len([record for record in caplog.records if "not guarded" in record.message]) == 1
    assert taken.snapshot().calls == 0


@pytest.mark.parametrize("point", POINTS, ids=lambda point: f"{point.module}")
def test_what_is_changed_is_put_back(point: Point) -> None:
    """Each name of the table is the client's own, changed while a trial is on, and as before when it is over."""
    module = pytest.importorskip(point.module)

    def now() -> list[Any]:
        found = []
        for name in point.names:
            owner: Any = module
            *path, last = name.split(".")
            for part in path:
                owner = getattr(owner, part)
            found.append(getattr(owner, last))
        return found

    before = now()
    trial = resilio.install(shadow=True)
    try:
        assert all(new is not old for new, old in zip(now(), before, strict=True))
        with pytest.raises(RuntimeError, match="remove"):
            resilio.install()
    finally:
        trial.remove()
    assert now() == before


PROGRAM = """
import sys
import httpx2
with httpx2.Client(trust_env=False) as client:
    print([client.get(sys.argv[1]).status_code for _ in range(3)], __name__, sys.argv[2:])
"""


def _run(*arguments: str, cwd: Path) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "resilio", "run", *arguments]
    environment = {**os.environ, "PYTHONPATH": str(Path(resilio.__file__).parents[1])}
    return subprocess.run(command, cwd=cwd, env=environment, capture_output=True, text=True, check=False)


@pytest.mark.real(2.0)
def test_a_program_runs_as_it_is(server: Misbehaving, tmp_path: Path) -> None:
    """Its arguments and its name are its own; a client that it imports is guarded then, and the report comes last."""
    pytest.importorskip("httpx2")
    (tmp_path / "app.py").write_text(PROGRAM)
    url = f"{server.url}/status/503"
    by_file = _run("--shadow", "app.py", url, "--port", "1", cwd=tmp_path)
    by_name = _run("--shadow", "-m", "app", url, cwd=tmp_path)
    assert by_file.stdout == "[503, 503, 503] __main__ ['--port', '1']\n"
    assert by_name.stdout == "[503, 503, 503] __main__ []\n"
    assert "3 calls to 1 host" in by_file.stderr
    assert "nothing was changed" in by_name.stderr


OVER_GRPC = """
import asyncio
import grpc

def same(data):
    return data

async def main():
    async def answer(request, context):
        await context.abort(grpc.StatusCode.UNAVAILABLE, "busy")

    handlers = {"Ask": grpc.unary_unary_rpc_method_handler(answer, same, same)}
    server = grpc.aio.server()
    server.add_generic_rpc_handlers((grpc.method_handlers_generic_handler("shop.Shop", handlers),))
    port = server.add_insecure_port("127.0.0.1:0")
    await server.start()
    async with grpc.aio.insecure_channel(f"127.0.0.1:{port}") as channel:
        ask = channel.unary_unary("/shop.Shop/Ask", same, same)
        for _ in range(2):
            try:
                await ask(b"one")
            except grpc.aio.AioRpcError as error:
                print(error.code().name)
    await server.stop(None)

asyncio.run(main())
"""


@pytest.mark.real(2.0)
def test_channels_of_grpc(tmp_path: Path) -> None:
    """A channel is guarded by the stack of its target; in a process of its own, as grpc keeps threads."""
    pytest.importorskip("grpc")
    (tmp_path / "app.py").write_text(OVER_GRPC)
    ended = _run("--shadow", "app.py", cwd=tmp_path)
    assert ended.stdout == "UNAVAILABLE\nUNAVAILABLE\n"
    assert "2 calls to 1 host" in ended.stderr


@pytest.mark.real(2.0)
def test_what_is_written_wrongly_is_said(tmp_path: Path) -> None:
    """A file that is not there, a key and an option that do not exist: one line, and the program is not begun."""
    (tmp_path / "app.py").write_text("print('begun')")
    (tmp_path / "key.toml").write_text("shadw = true")
    (tmp_path / "option.toml").write_text('[hosts."api.example.com"]\nmax_attempts = 3')
    (tmp_path / "client.toml").write_text('clients = ["htpx"]')
    for arguments, text in (
        (["gone.py"], "no file 'gone.py'"),
        (["--config", "key.toml", "app.py"], "unknown key 'shadw'"),
        (["--config", "option.toml", "app.py"], "no option 'max_attempts'"),
        (["--config", "client.toml", "app.py"], "clients must be"),
    ):
        ended = _run(*arguments, cwd=tmp_path)
        assert (ended.returncode, ended.stdout) == (2, "")
        assert text in ended.stderr


def test_options_by_host(server: Misbehaving, tmp_path: Path) -> None:
    """A host is left alone, or has options of `standard`."""
    httpx = pytest.importorskip("httpx2")
    host = server.url.removeprefix("http://")
    (tmp_path / "r.toml").write_text(f'clients = ["httpx2"]\n[hosts."{host}"]\nattempts = 1\nmax_concurrent = 7\n')
    trial = resilio.install(tmp_path / "r.toml")
    try:
        with httpx.Client(trust_env=False) as client:
            assert client.get(f"{server.url}/status/503").status_code == 503
        assert server.total == 1
        assert resilio.registry.get(f"{host}.bulkhead").snapshot().limit == 7
    finally:
        trial.remove()
    (tmp_path / "r.toml").write_text('shadow = true\n[hosts."127.0.0.1"]\nskip = true\n')
    trial = resilio.install(tmp_path / "r.toml")
    try:
        with httpx.Client(trust_env=False) as client:
            client.get(f"{server.url}/ok")
        assert trial.shadow
        assert trial.report().hosts == ()
    finally:
        trial.remove()


def test_each_client_has_a_row() -> None:
    """What the table knows is what the docstring of `install` says."""
    said = str(resilio.install.__doc__)
    assert [client for client in CLIENTS if client not in said] == []
