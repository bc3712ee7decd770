"""
`python -m benchmarks.efficacy.shared_loopback`: one adaptive limit of eight real processes, before a real server.

The cell of `resilio simulate shared-limit` on loopback sockets and in real time, four times slower, so that two cores
carry it: a server process of ten workers, 40 ms each, and eight client processes that offer 1.2 to 3 times what it can
serve. Requests queue in the server, which works on each to its end: that a caller has gone is news to it. A worker is
free at a computed time, so that a late timer costs no capacity.

    Musts of one limit for the host: at least 97 % of the capacity, and a p99 of at most 60 % of the callers' patience.
"""

from __future__ import annotations

import argparse
import asyncio
import heapq
import json
import random
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack
from typing import Any

import attrs

from benchmarks.efficacy import _results
from resilio import RejectedError, adaptive_limit, pipeline, timeout
from resilio.sharing import host

__all__ = ["HEADER", "HOWS", "Trial", "main", "measured", "table"]

PROCESSES, WORKERS, MEAN = 8, 10, 0.04
CAPACITY, PATIENCE = WORKERS / MEAN, 10 * MEAN
LOADS = (1.2, 1.5, 2.0, 3.0)
HOWS = {"process": "a limit for each process", "host": "one for the host"}
HEADER = ("load", *HOWS.values())
_ME = [sys.executable, "-m", "benchmarks.efficacy.shared_loopback"]


@attrs.frozen
class Trial:
    """
    One run.

    Attributes:
        load: The load, as a multiple of the capacity.

        scope: "process" or "host", of the limits.

        warmup, seconds: How long it runs before it is measured, and then.
    """

    load: float
    scope: str
    warmup: float = 16.0
    seconds: float = 12.0


# ---- the server ------------------------------------------------------------------------------------------------------


async def _serve() -> None:
    free_at = [0.0] * WORKERS
    draw = random.Random(1)
    loop = asyncio.get_running_loop()

    async def connection(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        while line := await _line(reader):
            end = max(loop.time(), heapq.heappop(free_at)) + draw.expovariate(1 / MEAN)
            heapq.heappush(free_at, end)
            loop.call_at(end, writer.write, line)

    server = await asyncio.start_server(connection, "127.0.0.1", 0)
    print(server.sockets[0].getsockname()[1], flush=True)
    await server.serve_forever()


async def _line(reader: asyncio.StreamReader) -> bytes:
    """Return a line; empty at the end, however the other process has ended."""
    try:
        return await reader.readline()
    except ConnectionError:
        return b""


# ---- a client process ------------------------------------------------------------------------------------------------


class _Line:
    """A connection that many calls share."""

    def __init__(self, writer: asyncio.StreamWriter) -> None:
        self._writer = writer
        self._waiting: dict[bytes, asyncio.Future[None]] = {}
        self._sent = 0

    async def call(self) -> None:
        """Send a request, and wait for its answer."""
        self._sent += 1
        number = b"%d\n" % self._sent
        self._waiting[number] = answer = asyncio.get_running_loop().create_future()
        self._writer.write(number)
        try:
            await answer
        finally:
            del self._waiting[number]

    async def read(self, reader: asyncio.StreamReader) -> None:
        """Give the answers to the calls that still wait."""
        while line := await _line(reader):
            answer = self._waiting.get(line)
            if answer is not None and not answer.done():
                answer.set_result(None)


async def _call(port: int, rate: float, scope: str, group: str, begin: float, seconds: float, seed: int) -> None:
    """Make calls from now on, and print the seconds that each answer took that came in the measured time."""
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    line, draw, took = _Line(writer), random.Random(seed), list[float]()
    reading = asyncio.create_task(line.read(reader))
    where = host("loopback", directory=group) if scope == "host" else "process"
    guarded = pipeline(adaptive_limit(name="upstream", scope=where), timeout(PATIENCE))(line.call)

    async def one() -> None:
        begun = time.monotonic()
        try:
            await guarded()
        except (RejectedError, TimeoutError):
            return
        now = time.monotonic()
        if begin <= now < begin + seconds:
            took.append(now - begun)

    due, calls = time.monotonic(), set[asyncio.Task[None]]()
    while due < begin + seconds:
        due += draw.expovariate(rate)
        await asyncio.sleep(max(0.0, due - time.monotonic()))
        task = asyncio.create_task(one())
        calls.add(task)
        task.add_done_callback(calls.discard)
    await asyncio.gather(*calls)
    reading.cancel()
    print(json.dumps(took))


# ---- a run -----------------------------------------------------------------------------------------------------------


def measured(trial: Trial, seed: int) -> tuple[float, float]:
    """Return the share of the capacity that is answered in time, and the p99 of answers as a share of the patience."""
    with ExitStack() as stack:
        group = stack.enter_context(tempfile.TemporaryDirectory(dir="/dev/shm"))  # memory
        server = _started(stack, "--serve")
        assert server.stdout is not None
        port = server.stdout.readline().strip()
        begin = time.monotonic() + trial.warmup
        rate = trial.load * CAPACITY / PROCESSES
        clients = [
            _started(stack, "--call", port, rate, trial.scope, group, begin, trial.seconds, seed * 100 + number)
            for number in range(PROCESSES)
        ]
        took = sorted(second for client in clients for second in json.loads(client.communicate()[0]))
    in_time = [second for second in took if second <= PATIENCE]
    tail = in_time[int(0.99 * len(in_time))] if in_time else PATIENCE
    return len(in_time) / trial.seconds / CAPACITY, tail / PATIENCE


def _started(stack: ExitStack, *arguments: object) -> subprocess.Popen[str]:
    process = subprocess.Popen([*_ME, *map(str, arguments)], stdout=subprocess.PIPE, text=True)
    stack.callback(_end, process)
    return process


def _end(process: subprocess.Popen[str]) -> None:
    process.kill()
    process.wait()
    if process.stdout is not None:
        process.stdout.close()


def table(seeds: Sequence[int], measure: Callable[[Trial, int], tuple[float, float]] = measured) -> Iterator[Any]:
    """Yield the rows under `HEADER`: the least share of the capacity, in brackets the longest p99 in ms."""
    for load in LOADS:
        runs: dict[str, list[tuple[float, float]]] = {scope: [] for scope in HOWS}
        for seed in seeds:  # in turns: what else the machine does, it does to both
            for scope in HOWS:
                runs[scope].append(measure(Trial(load, scope), seed))
        yield f"{load:g} x", *(_written(found) for found in runs.values())


def _written(runs: Sequence[tuple[float, float]]) -> str:
    shares, tails = zip(*runs, strict=True)
    return f"{min(shares):.1%} ({1000 * PATIENCE * max(tails):.0f} ms)"


def main(arguments: Sequence[str] | None = None) -> None:
    """Print the table, or be one of the processes."""
    parser = _results.command("One adaptive limit of eight processes before a real server.")
    parser.add_argument("--seeds", type=int, default=2, help="runs of each cell (2)")
    parser.add_argument("--serve", action="store_true", help=argparse.SUPPRESS)
    parser.add_argument("--call", nargs=7, help=argparse.SUPPRESS)
    options = parser.parse_args(arguments)
    if options.serve:
        return asyncio.run(_serve())
    if options.call:
        port, rate, scope, group, begin, seconds, seed = options.call
        return asyncio.run(_call(int(port), float(rate), scope, group, float(begin), float(seconds), int(seed)))
    text = _results.section(_ABOUT, HEADER, table(range(1, options.seeds + 1)))
    _results.show("R11 a limit for a host, over sockets", text, recorded=options.record)
    return None


_ABOUT = (
    "Real processes and loopback sockets: eight processes call a server of ten workers of 40 ms; calls answered within "
    "400 ms as a share of the capacity, and the p99 of answers. The worst of the runs."
)

if __name__ == "__main__":
    main()
