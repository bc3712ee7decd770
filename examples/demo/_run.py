"""One run: start the server, offer it the load through the service, stop the server, keep what happened."""

from __future__ import annotations

import asyncio
import json
import os
import ssl
import sys
import time
from collections.abc import AsyncGenerator, Mapping, Sequence
from contextlib import asynccontextmanager, suppress
from pathlib import Path
from typing import Any

import attrs
import httpx2

from examples.demo._acts import Act, Site
from examples.demo._load import Arrival
from examples.demo._records import Record
from examples.demo._service import Service, service_of

__all__ = ["Run", "Server", "execute", "serve_dependencies"]

_PATIENCE = 60.0  # seconds for the server to start or to answer


@attrs.define
class Run:
    """
    What happened in one run.

    Attributes:
        name: "bare" or "guarded".

        act: What it is a run of.

        offered: How many requests are offered.

        started: On the monotonic clock, or None before the start.

        ended: On the monotonic clock, or None while it goes on.

        records: One for each request that has ended, in the order of their ends.

        server: The server's own counts, or None until it has told them.

        complete: True if all offered requests have ended.
    """

    name: str
    act: Act
    offered: int
    started: float | None = None
    ended: float | None = None
    records: list[Record] = attrs.field(factory=list[Record])
    server: dict[str, Any] | None = None
    complete: bool = False

    @property
    def seconds(self) -> float:
        """How long load is offered."""
        return self.act.schedule.seconds

    @property
    def elapsed(self) -> float:
        """Seconds from the start of the load to now or to the end of the run; 0 before it."""
        return 0.0 if self.started is None else (self.ended or time.monotonic()) - self.started


class Server:
    """The server process, spoken to over its standard input and output."""

    def __init__(self, process: asyncio.subprocess.Process) -> None:
        self._process = process
        self._asked = 0
        self.ports: dict[str, int] = {}

    @property
    def pid(self) -> int:
        """The process id."""
        return self._process.pid

    async def ask(self, command: str, **arguments: Any) -> dict[str, Any]:
        """
        Send a command and wait for its answer.

        Args:
            command: "open", "start" or "stats".

            arguments: Whatever JSON can say.

        Returns:
            The answer.

        Raises:
            RuntimeError: If the server has ended.
        """
        stdin, stdout = self._process.stdin, self._process.stdout
        assert stdin is not None
        assert stdout is not None
        self._asked += 1
        stdin.write(json.dumps({"number": self._asked, "command": command, **arguments}).encode() + b"\n")
        async with asyncio.timeout(_PATIENCE):
            while line := await stdout.readline():
                answer: dict[str, Any] = json.loads(line)
                if answer["number"] == self._asked:  # else that of a question whose asker was cancelled
                    return answer
        raise RuntimeError("the demo's server process has ended; its error output is above")

    async def stop(self) -> None:
        """End the process: closed input is its sign; one that does not see it is killed."""
        assert self._process.stdin is not None
        self._process.stdin.close()
        try:
            async with asyncio.timeout(_PATIENCE):
                await self._process.wait()
        finally:
            if self._process.returncode is None:
                self._process.kill()
                await self._process.wait()


@asynccontextmanager
async def serve_dependencies(seed: int, sites: Mapping[str, Site]) -> AsyncGenerator[Server]:
    """
    Start the server process for the time of a block.

    Args:
        seed: For its draws.

        sites: Which servers it has.

    Yields:
        The server, whose ports are known.
    """
    pipe = asyncio.subprocess.PIPE
    # The same package as here, and not another one that happens to be in the current folder.
    path = os.pathsep.join(entry or str(Path.cwd()) for entry in sys.path)
    process = await asyncio.create_subprocess_exec(
        *(sys.executable, "-P", "-m", "examples.demo.server"),
        stdin=pipe,
        stdout=pipe,
        env={**os.environ, "PYTHONPATH": path},
    )
    server = Server(process)
    try:
        server.ports = (await _open(server, seed, sites))["ports"]
        yield server
    finally:
        await server.stop()


async def _open(server: Server, seed: int, sites: Mapping[str, Site]) -> dict[str, Any]:
    return await server.ask("open", seed=seed, sites={name: site.to_json() for name, site in sites.items()})


async def _serve(service: Service, run: Run, started: float, arrival: Arrival) -> None:
    due = started + arrival.at
    begun = time.monotonic()
    outcome = await service.handle(arrival.dependency, arrival.request)
    latency = time.monotonic() - due
    if outcome == "ok" and latency > run.act.patience:
        outcome = "late"
    run.records.append(Record(arrival.at, arrival.dependency, outcome, latency, begun - due))


async def _offer(service: Service, run: Run, arrivals: Sequence[Arrival]) -> None:
    """Begin each request when it is due, whether or not those before it have ended."""
    run.started = started = time.monotonic()
    async with asyncio.TaskGroup() as tasks:
        for arrival in arrivals:
            await asyncio.sleep(started + arrival.at - time.monotonic())
            tasks.create_task(_serve(service, run, started, arrival))


async def execute(run: Run, seed: int, arrivals: Sequence[Arrival], retries: int = 1) -> None:
    """
    Make a run, from a fresh server to its end; no process and no connection outlives it.

    Args:
        run: Is filled in as the run goes on, so a cancelled one holds what happened until then.

        seed: For the server's draws.

        arrivals: The offered load.

        retries: Of a failed call, where the act leaves it open.
    """
    act = run.act
    limits = httpx2.Limits(max_connections=act.pool, max_keepalive_connections=act.pool)
    no_certificates = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)  # to read those would hold up a run beside this one
    async with (
        serve_dependencies(seed, act.sites) as server,
        httpx2.AsyncClient(timeout=act.timeout, limits=limits, trust_env=False, verify=no_certificates) as client,
    ):
        service = service_of(act, client, server.ports, guarded=run.name == "guarded", retries=retries)
        await server.ask("start")
        try:
            await _offer(service, run, arrivals)
            run.complete = True
        finally:
            run.ended = time.monotonic()
            with suppress(RuntimeError, TimeoutError, OSError):
                run.server = (await server.ask("stats"))["stats"]
