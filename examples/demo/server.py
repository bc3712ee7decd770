"""
The dependencies of the demo, in a process of their own: HTTP/1.1 servers, flaky or healthy.

Run as `python -m examples.demo.server`. Its parent talks to it by lines of JSON on standard input and reads the answers
on standard output:

    {"number": 1, "command": "open", "seed": 7, "sites": {...}}  ->  {"number": 1, "ports": {"checkout": 40001, ...}}
    {"number": 2, "command": "start"}                             ->  {"number": 2}    the schedule begins now
    {"number": 3, "command": "stats"}                             ->  {"number": 3, "stats": {"checkout": {...}, ...}}

It ends at the end of its standard input, so it dies with its parent however that dies, and by itself after
`LIFETIME` seconds.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import signal
import socket
import struct
import sys
import threading
import time
from collections import Counter
from typing import Any

from examples.demo._acts import Site
from examples.demo._schedule import Fate, Phase, fate_of, service_seconds
from resilio._support.extras import missing

try:
    import h11
except ImportError as error:
    raise missing("examples.demo.server", "httpx", error, "h11") from error

__all__ = ["LIFETIME", "Dependency", "main"]

LIFETIME = 120.0  # seconds; no run of the demo takes half of that
_IDLE = 30.0  # seconds that a connection may stay without a request
_READ = 16_384
_CONNECTIONS = 2_000  # at once, for each dependency


class Dependency:
    """
    A server with few workers and a bounded queue, so that overload is real: work queues up in the order of arrival.

    As most servers do, it works on a request to the end even when the caller has gone.

    Args:
        seed: Of the run.

        site: What it can do, and what happens to it.
    """

    def __init__(self, seed: int, site: Site) -> None:
        self._seed = seed
        self._schedule = site.schedule
        self._service = site.service
        self._queue: asyncio.Queue[tuple[str, asyncio.Future[None]]] = asyncio.Queue(site.queue)
        self._workers = [asyncio.create_task(self._work()) for _ in range(site.workers)]
        self._arrived: Counter[str] = Counter()
        self._tenths: Counter[int] = Counter()
        self._fates: Counter[str] = Counter()
        self._wasted = 0
        self._connections = 0
        self._started: float | None = None

    def start(self) -> None:
        """Begin the schedule; until then all is as at its beginning."""
        self._started = time.monotonic()

    @property
    def elapsed(self) -> float:
        """Seconds since the schedule began, 0 before that."""
        return 0.0 if self._started is None else time.monotonic() - self._started

    async def stop(self) -> None:
        """Send the workers home; requests under way stay without an answer."""
        for worker in self._workers:
            worker.cancel()
        await asyncio.gather(*self._workers, return_exceptions=True)

    async def _thaw(self) -> tuple[Phase, float]:
        """Wait while the dependency hangs; give phase and progress of the moment when work can begin."""
        while True:
            elapsed = self.elapsed
            phase, progress = self._schedule.at(elapsed)
            if not phase.hang or progress >= 1.0:
                return phase, progress
            await asyncio.sleep(max(0.001, phase.seconds * (1.0 - progress)))

    async def _work(self) -> None:
        while True:
            request, done = await self._queue.get()
            phase, progress = await self._thaw()
            await asyncio.sleep(service_seconds(self._seed, request, self._service, phase, progress))
            if not done.done():
                done.set_result(None)

    async def answer(self, request: str) -> tuple[Fate, int]:
        """
        Let a request meet its fate.

        Args:
            request: Its identity.

        Returns:
            Its fate, and the status for the answer: 200, or 503 if it was rejected.
        """
        elapsed = self.elapsed
        phase, _ = self._schedule.at(elapsed)
        fate = fate_of(self._seed, request, phase)
        self._arrived[phase.name] += 1
        self._tenths[int(10 * elapsed)] += 1
        if fate in ("answer", "hang"):
            done: asyncio.Future[None] = asyncio.get_running_loop().create_future()
            try:
                self._queue.put_nowait((request, done))
            except asyncio.QueueFull:
                fate = "unavailable"
            else:
                self._fates[fate] += 1
                await done
                return fate, 200
        self._fates[fate] += 1
        return fate, 503

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        """Serve one connection to its end; no error of the peer's leaves it."""
        self._connections += 1
        try:
            if self._connections <= _CONNECTIONS:
                await self._converse(reader, writer)
        except (OSError, h11.ProtocolError):
            await _hang_up(writer)  # the peer has gone, stays silent, or speaks something else
        except asyncio.CancelledError:
            await _hang_up(writer)  # the process ends; asyncio would print a cancellation that leaves this function
        finally:
            self._connections -= 1
            writer.close()

    async def _converse(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        connection = h11.Connection(h11.SERVER, max_incomplete_event_size=_READ)
        while True:
            try:
                request = await _read_request(connection, reader)
            except h11.RemoteProtocolError as error:
                writer.write(_response(connection, error.error_status_hint, last=True))
                return
            if request is None:
                return
            if request.method != b"GET":
                writer.write(_response(connection, 405, last=True))
                return
            fate, status = await self.answer(request.target.decode("ascii"))
            if fate == "reset":
                _reset(writer)
                return
            if reader.at_eof() or writer.is_closing():
                self._wasted += 1
                return
            writer.write(_response(connection, status))
            await writer.drain()
            if connection.our_state is not h11.DONE:
                return
            connection.start_next_cycle()

    def stats(self) -> dict[str, Any]:
        """Give the counts so far: requests by phase, tenth of a second and fate; answers that nobody waited for."""
        return {
            "arrived": dict(self._arrived),
            "tenths": [self._tenths[tenth] for tenth in range(max(self._tenths, default=-1) + 1)],
            "fates": dict(self._fates),
            "wasted": self._wasted,
        }


async def _read_request(connection: h11.Connection, reader: asyncio.StreamReader) -> h11.Request | None:
    """Read a request, to its end if it has no business with a body; None if the peer has closed the connection."""
    request: h11.Request | None = None
    while True:
        event = connection.next_event()
        if event is h11.NEED_DATA:
            async with asyncio.timeout(_IDLE):
                connection.receive_data(await reader.read(_READ))
        elif isinstance(event, h11.Request):
            request = event
            if request.method != b"GET":
                return request
        elif isinstance(event, h11.EndOfMessage):
            return request
        elif isinstance(event, h11.ConnectionClosed):
            return None


def _response(connection: h11.Connection, status: int, *, last: bool = False) -> bytes:
    body = b"" if last else b'{"ok": true}' if status == 200 else b'{"ok": false}'
    headers = [("content-type", "application/json"), ("content-length", str(len(body)))]
    if last:
        headers.append(("connection", "close"))
    parts = (h11.Response(status_code=status, headers=headers), h11.Data(data=body), h11.EndOfMessage())
    return b"".join(connection.send(part) or b"" for part in parts)


async def _hang_up(writer: asyncio.StreamWriter) -> None:
    """Close a connection without an answer, and retrieve its error: asyncio logs an error that is not retrieved."""
    writer.transport.abort()
    with contextlib.suppress(OSError):
        await writer.wait_closed()


def _reset(writer: asyncio.StreamWriter) -> None:
    """Send the peer a TCP reset instead of an orderly end."""
    raw = writer.get_extra_info("socket")
    if raw is not None:
        raw.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    writer.transport.abort()


def _say(message: dict[str, Any]) -> None:
    sys.stdout.write(json.dumps(message) + "\n")
    sys.stdout.flush()


def _read_commands(loop: asyncio.AbstractEventLoop, commands: asyncio.Queue[dict[str, Any] | None]) -> None:
    """Hand the lines of standard input to the loop, and None at their end. Runs in a thread of its own."""
    # Not sys.stdin: its lock, held by this thread, would be fatal to the interpreter's shutdown.
    with open(0, "rb", buffering=0, closefd=False) as lines:
        for line in lines:
            loop.call_soon_threadsafe(commands.put_nowait, json.loads(line))
    with contextlib.suppress(RuntimeError):  # the loop has ended before its parent did
        loop.call_soon_threadsafe(commands.put_nowait, None)


async def _open(seed: int, sites: dict[str, Any]) -> tuple[dict[str, Dependency], dict[str, int]]:
    """Start all dependencies; give them and their ports by name."""
    dependencies = {name: Dependency(seed, Site.from_json(site)) for name, site in sites.items()}
    ports: dict[str, int] = {}
    for name, dependency in dependencies.items():
        server = await asyncio.start_server(dependency.serve, "127.0.0.1", 0, backlog=512)
        ports[name] = server.sockets[0].getsockname()[1]
    return dependencies, ports


async def _run(commands: asyncio.Queue[dict[str, Any] | None]) -> None:
    dependencies: dict[str, Dependency] = {}
    while (command := await commands.get()) is not None:
        answer: dict[str, Any] = {"number": command["number"]}
        match command["command"]:
            case "open":
                dependencies, answer["ports"] = await _open(command["seed"], command["sites"])
            case "start":
                for dependency in dependencies.values():
                    dependency.start()
            case _:
                answer["stats"] = {name: dependency.stats() for name, dependency in dependencies.items()}
        _say(answer)


async def _main() -> None:
    commands: asyncio.Queue[dict[str, Any] | None] = asyncio.Queue()
    reader = threading.Thread(target=_read_commands, args=(asyncio.get_running_loop(), commands), daemon=True)
    reader.start()
    with contextlib.suppress(TimeoutError):
        async with asyncio.timeout(LIFETIME):
            await _run(commands)


def main() -> None:
    """Serve until standard input ends; Ctrl-C is left to the parent, which then closes it."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    with contextlib.suppress(BrokenPipeError):
        asyncio.run(_main())


if __name__ == "__main__":
    main()
