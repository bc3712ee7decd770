"""The dependency: HTTP spoken properly, every fate, queueing, and a process that does not outlive its parent."""

from __future__ import annotations

import asyncio
import json
import os
import signal
import subprocess
import sys
from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager
from pathlib import Path

import pytest

pytest.importorskip("h11")

from examples.demo._acts import Site
from examples.demo._schedule import Phase, Schedule
from examples.demo.server import Dependency

pytestmark = pytest.mark.anyio

HEALTHY = Schedule((Phase("healthy", 60.0),))
GET = b"GET /1 HTTP/1.1\r\nHost: x\r\n\r\n"


@pytest.fixture
def anyio_backend() -> str:
    return "asyncio"


@asynccontextmanager
async def serving(schedule: Schedule, **options: float) -> AsyncGenerator[tuple[Dependency, int]]:
    dependency = Dependency(7, Site(schedule, **{"workers": 2, "service": 0.001, **options}))
    server = await asyncio.start_server(dependency.serve, "127.0.0.1", 0)
    dependency.start()
    try:
        yield dependency, server.sockets[0].getsockname()[1]
    finally:
        server.close()
        await dependency.stop()


async def ask(port: int, request: bytes = GET) -> bytes:
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    try:
        writer.write(request)
        return await reader.readuntil(b"\r\n\r\n")
    finally:
        writer.close()


async def test_one_connection_serves_many_requests() -> None:
    """Keep-alive works: several requests, pipelined ones too, are answered in their order on one connection."""
    async with serving(HEALTHY) as (dependency, port):
        reader, writer = await asyncio.open_connection("127.0.0.1", port)
        writer.write(GET)
        assert (await reader.readuntil(b"}")).startswith(b"HTTP/1.1 200 ")
        writer.write(GET + GET)
        for _ in range(2):
            assert (await reader.readuntil(b"}")).startswith(b"HTTP/1.1 200 ")
        writer.close()
        stats = dependency.stats()
        assert sum(stats.pop("tenths")) == 3
        assert stats == {"arrived": {"healthy": 3}, "fates": {"answer": 3}, "wasted": 0}


async def test_connection_closes_where_the_client_wants_it() -> None:
    """`Connection: close` is honoured."""
    async with serving(HEALTHY) as (_, port):
        reader, writer = await asyncio.open_connection("127.0.0.1", port)
        writer.write(b"GET /1 HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n")
        assert (await reader.read()).startswith(b"HTTP/1.1 200 ")
        writer.close()


@pytest.mark.parametrize(
    ("request_", "status"),
    [(b"nonsense\r\n\r\n", b"400"), (b"POST / HTTP/1.1\r\nHost: x\r\nContent-Length: 9\r\n\r\n", b"405")],
    ids=["nonsense", "a body"],
)
async def test_what_it_does_not_speak_is_rejected(request_: bytes, status: bytes) -> None:
    """Broken requests and other methods get an answer that says so, and the connection ends."""
    async with serving(HEALTHY) as (dependency, port):
        assert (await ask(port, request_)).startswith(b"HTTP/1.1 " + status)
        assert dependency.stats()["arrived"] == {}


async def test_unavailable_is_503() -> None:
    """A request whose fate is to be rejected gets 503 at once."""
    async with serving(Schedule((Phase("down", 60.0, unavailable=1.0),))) as (dependency, port):
        assert (await ask(port)).startswith(b"HTTP/1.1 503 ")
        assert dependency.stats()["fates"] == {"unavailable": 1}


async def test_reset_is_a_reset() -> None:
    """A request whose fate is a reset sees its connection reset, not closed."""
    async with serving(Schedule((Phase("down", 60.0, reset=1.0),))) as (_, port):
        with pytest.raises(ConnectionResetError):
            await ask(port)


async def test_hanging_requests_are_worked_on_when_the_phase_ends() -> None:
    """A hang holds the request, and those behind it, until the outage is over; then they are answered."""
    schedule = Schedule((Phase("down", 0.2, hang=1.0), Phase("healthy", 60.0)))
    async with serving(schedule) as (dependency, port):
        heads = await asyncio.gather(*(ask(port, GET.replace(b"/1", b"/%d" % number)) for number in range(5)))
        assert all(head.startswith(b"HTTP/1.1 200 ") for head in heads)
        assert dependency.stats()["arrived"] == {"down": 5}
        assert dependency.elapsed >= 0.2


async def test_overload_is_real() -> None:
    """One worker and a queue for two: of many requests at once the rest is rejected with 503."""
    async with serving(HEALTHY, workers=1, service=0.05, queue=2) as (_, port):
        heads = await asyncio.gather(*(ask(port) for _ in range(10)))
        rejected = sum(head.startswith(b"HTTP/1.1 503 ") for head in heads)
        assert 0 < rejected < 10


async def test_arrivals_are_counted_by_tenths_of_a_second() -> None:
    """The book says when requests arrived, with zeros for the tenths in which none did."""
    async with serving(HEALTHY) as (dependency, port):
        await ask(port)
        await asyncio.sleep(0.25)
        await ask(port)
        tenths = dependency.stats()["tenths"]
    assert sum(tenths) == 2
    assert len(tenths) >= 3
    assert tenths[-1] == 1


async def wasted(service: float) -> bool:
    """Return whether the answer came after its caller had gone; on a busy machine it may come before."""
    async with serving(HEALTHY, service=service) as (dependency, port):
        _, writer = await asyncio.open_connection("127.0.0.1", port)
        writer.write(GET)
        await writer.drain()
        while not dependency.stats()["arrived"]:  # noqa: ASYNC110  # the server tells nobody
            await asyncio.sleep(0.001)
        writer.close()
        await writer.wait_closed()
        while dependency._connections:  # noqa: ASYNC110  # the server tells nobody
            await asyncio.sleep(0.01)
        return bool(dependency.stats()["wasted"])


async def test_work_for_a_caller_who_has_gone_is_done_all_the_same() -> None:
    """
    As in most servers, a request is worked on to its end, and the server's book says that it was in vain.

    On a busy machine the work of 0.05 s was done before the caller had gone, and this waited for ever.
    """
    for service in (0.05, 1.0, 10.0):
        if await wasted(service):
            return
    pytest.fail("each answer came before its caller had gone")


def start(*, parent: str | None = None) -> subprocess.Popen[bytes]:
    path = os.pathsep.join(entry or str(Path.cwd()) for entry in sys.path)
    command = ("-m", "examples.demo.server") if parent is None else ("-c", parent)
    pipe = subprocess.PIPE
    environment = {**os.environ, "PYTHONPATH": path}
    return subprocess.Popen([sys.executable, "-P", *command], stdin=pipe, stdout=pipe, stderr=pipe, env=environment)


def test_process_answers_and_ends_with_its_input() -> None:
    """The protocol on standard input works, and the end of the input ends the process without a word."""
    with start() as process:
        sites = {name: Site(HEALTHY, 2, 0.02).to_json() for name in ("recommendations", "checkout")}
        opened = json.dumps({"number": 1, "command": "open", "seed": 7, "sites": sites})
        output, errors = process.communicate(f'{opened}\n{{"number": 2, "command": "stats"}}\n'.encode())
    assert (process.returncode, errors) == (0, b"")
    first, second = (json.loads(line) for line in output.splitlines())
    assert set(first["ports"]) == {"recommendations", "checkout"}
    assert second["stats"]["checkout"] == {"arrived": {}, "tenths": [], "fates": {}, "wasted": 0}


PARENT = """
import asyncio
from examples.demo._acts import acts
from examples.demo._run import serve_dependencies

async def main():
    async with serve_dependencies(7, acts(quick=True)[0].sites) as server:
        print(server.pid, flush=True)
        await asyncio.sleep(3600)

asyncio.run(main())
"""


@pytest.mark.skipif(not hasattr(signal, "SIGKILL"), reason="no SIGKILL here")
def test_process_dies_with_a_parent_that_was_killed() -> None:
    """A killed parent cannot clean up; the server ends by itself."""
    pytest.importorskip("httpx2")
    with start(parent=PARENT) as process:
        assert int(process.stdout.readline()) != process.pid
        process.kill()
        # The server inherited these pipes: they end only when it has ended too.
        process.communicate()
