"""
`python -m benchmarks.integrations.servers`: what the middlewares take of a server's throughput, on loopback.

One server process serves one app under paths of its own: bare, within a middleware that does nothing, and within the
middleware of the library. One client loads it over
many connections, in short slices that take turns, so that what disturbs the machine disturbs both. Of each pair of
neighbouring slices two ratios are taken: requests in a second, and processor time of the server for each request, which
other processes disturb less. The figures are medians over the pairs, with the limits of 95 % from resampling them.

With `--single N` one client asks N times under each path, one request after the other, in blocks that take turns: that
is what a server pays that has just slept, whose caches are cold. Ratios of the processor time of neighbouring blocks.
"""

from __future__ import annotations

import argparse
import select
import socket
import statistics
import sys
import time
from collections.abc import Iterator, Sequence

from benchmarks.integrations._pairs import AGAIN, EMPTY, Pairs, Slice, lost, rows
from benchmarks.integrations.served import ASKED, BODY, SERVERS, missing, serving
from benchmarks.micro._results import Row, Skip

__all__ = ["main", "subject", "throughput"]

BLOCK, WARM = 100, 10
"""Requests between two readings of the processor time, and slices that are not counted."""
PATIENCE = 30.0
SLICE = 0.03
"""Seconds of a slice, about."""
REPORTED = {"asgi": "throughput_asgi", "starlette": None, "asgi-quick": None, "wsgi-gthread": "throughput_wsgi"}
"""What the report has, and what that is held against."""
UNKEPT = ("wsgi", "wsgi-sync")
"""Servers that end each connection with its request."""
LEAST = 10
"""Pairs, however long they take."""

GUARDS = {AGAIN: "again", EMPTY: "empty", "middleware": "guarded"}
"""Paths by what the report calls them."""
REQUESTS = {path: f"GET /{path} HTTP/1.1\r\n{ASKED}\r\n".encode() for path in ("bare", *GUARDS.values())}


def _cpu_seconds(pid: int) -> float:
    """Processor time of a process, all its threads, also those that have ended."""
    return time.clock_gettime_ns((~pid << 3) | 2) / 1e9  # the id of its clock, by clock_getcpuclockid(3)


class Load:
    """Asks over many connections at once, each of which the server keeps; the server is never without a request."""

    def __init__(self, pid: int, port: int, connections: int) -> None:
        self._pid = pid
        self._sockets = {}
        self._poll = select.epoll()
        for _ in range(connections):
            client = socket.create_connection(("127.0.0.1", port), timeout=PATIENCE)
            client.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            self._sockets[client.fileno()] = client
            self._poll.register(client, select.EPOLLIN)

    def slice(self, path: str, requests: int) -> Slice:
        """Ask so often, and measure."""
        request, unasked, unanswered = REQUESTS[path], requests, 0
        read = dict.fromkeys(self._sockets, b"")
        before, began = _cpu_seconds(self._pid), time.perf_counter()
        for client in list(self._sockets.values())[:requests]:
            client.sendall(request)
            unasked, unanswered = unasked - 1, unanswered + 1
        while unanswered:
            for at, _ in self._poll.poll(PATIENCE) or sys.exit("the server does not answer"):
                read[at] += self._sockets[at].recv(65536) or sys.exit("the server broke a connection off")
                if not _is_whole(read[at]):
                    continue
                read[at], unanswered = b"", unanswered - 1
                if unasked:
                    self._sockets[at].sendall(request)
                    unasked, unanswered = unasked - 1, unanswered + 1
        took, used = time.perf_counter() - began, _cpu_seconds(self._pid) - before
        return Slice(requests / took, used / requests * 1e6)

    def close(self) -> None:
        """Close all connections."""
        self._poll.close()
        for client in self._sockets.values():
            client.close()


def _is_whole(answer: bytes) -> bool:
    """Tell whether an answer is there to its end; one that is not as it should be ends the benchmark."""
    end = answer.find(b"\r\n\r\n")
    if end >= 0 and not answer.startswith(b"HTTP/1.1 200 OK\r\n"):
        sys.exit(f"the server answered {answer!r}")
    return end >= 0 and len(answer) >= end + 4 + len(BODY)


def _turns(count: int, seconds: float | None) -> Iterator[int]:
    """Count the pairs, until there are enough or the time is up."""
    until = None if seconds is None else time.perf_counter() + seconds
    for at in range(count):
        if until is not None and at >= LEAST and time.perf_counter() > until:
            return
        yield at


def _pairs(kind: str, count: int, connections: int, seconds: float | None = None) -> dict[str, Pairs]:
    """Measure slices of all paths, whose order alternates; pairs of them by guard, each with the bare one beside it."""
    paths = ("bare", *GUARDS.values())
    with serving(kind) as (pid, port):
        load = Load(pid, port, connections)
        warm = [load.slice(path, BLOCK).per_second for path in paths * (WARM // 2)]
        requests = max(round(max(warm) * SLICE), BLOCK)
        found = [
            {path: load.slice(path, requests) for path in (paths if at % 2 else paths[::-1])}
            for at in _turns(count, seconds)
        ]
        load.close()
    return {guard: [(got["bare"], got[path]) for got in found] for guard, path in GUARDS.items()}


def subject(kind: str) -> str:
    """Return what the report calls it."""
    named = {"asgi": "ASGI", "wsgi": "WSGI", "starlette": "Starlette"}
    return f"{named[kind.partition('-')[0]]}, {SERVERS[kind].what}"


def throughput(seconds: float) -> list[Row | Skip]:
    """
    Return what the middlewares take of the throughput of servers.

    Args:
        seconds: That all of it may take.
    """
    found: list[Row | Skip] = []
    for kind, target in REPORTED.items():
        if absent := missing(kind):
            found.append(Skip(subject(kind), f"{', '.join(absent)} not installed"))
            continue
        pairs = _pairs(kind, 1000, 16, seconds / len(REPORTED) * 0.7)
        found += rows(subject(kind), pairs, beside_empty={"middleware": target})
    return found


class Client:
    """Asks one thing after the other, on one connection for as long as the server keeps it."""

    def __init__(self, port: int) -> None:
        self._port = port
        self._socket: socket.socket | None = None

    def ask(self, request: bytes) -> None:
        """Ask, and read the answer to its end."""
        if self._socket is None:
            self._socket = socket.create_connection(("127.0.0.1", self._port), timeout=PATIENCE)
            self._socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self._socket.sendall(request)
        read = b""
        while not _is_whole(read):
            read += self._socket.recv(65536) or sys.exit(f"the server broke off after {read!r}")
        if b"connection: close\r\n" in read.lower():
            self.close()

    def close(self) -> None:
        """Close the connection."""
        if self._socket is not None:
            self._socket.close()
            self._socket = None


def _singles(kind: str, count: int) -> str:
    """Return a row: the processor time of a request, bare and guarded, where one comes after the other."""
    took: dict[str, list[float]] = {path: [] for path in ("bare", "guarded")}
    with serving(kind) as (pid, port):
        client = Client(port)
        # In blocks: of a process on another processor, the kernel tells the time up to its last tick or switch.
        for at in range(-WARM, max(count // BLOCK, 1)):
            for path in sorted(took, reverse=bool(at % 2)):
                before = _cpu_seconds(pid)
                for _ in range(BLOCK):
                    client.ask(REQUESTS[path])
                if at >= 0:
                    took[path].append((_cpu_seconds(pid) - before) / BLOCK * 1e6)
        client.close()
    bare = statistics.median(took["bare"])
    pairs = list(zip(took["bare"], took["guarded"], strict=True))
    more = statistics.median(guarded - alone for alone, guarded in pairs)
    time_lost = lost([guarded / alone for alone, guarded in pairs])
    return f"| {kind} ({SERVERS[kind].what}) | {bare:.1f} | {more:.2f} | {time_lost} |"


def _loaded(kind: str, count: int, connections: int) -> str:
    """Return a row for each guard: what is lost under load."""
    lines = []
    for guard, pairs in _pairs(kind, count, connections).items():
        per_second = statistics.median(bare.per_second for bare, _ in pairs)
        cpu_us = statistics.median(bare.cpu_us for bare, _ in pairs)
        rate = lost([guarded.per_second / bare.per_second for bare, guarded in pairs])
        cpu = lost([guarded.cpu_us / bare.cpu_us for bare, guarded in pairs])
        lines.append(f"| {kind} ({SERVERS[kind].what}) | {guard} | {per_second:.0f} | {cpu_us:.1f} | {rate} | {cpu} |")
    return "\n".join(lines)


def main(arguments: Sequence[str] | None = None) -> int:
    """Measure and print; 0."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.integrations.servers", description=__doc__)
    parser.add_argument("--kinds", nargs="+", choices=list(SERVERS), default=list(SERVERS))
    parser.add_argument("--pairs", type=int, default=300, help="pairs of slices of each kind")
    parser.add_argument("--connections", type=int, default=16)
    parser.add_argument("--single", type=int, metavar="N", help="requests under each path, one after the other")
    options = parser.parse_args(arguments)
    version = sys.version.split(maxsplit=1)[0]
    if options.single:
        print(f"Python {version}; {options.single} requests each, one after the other, in blocks of {BLOCK}\n")
        print("| app | bare, CPU us a request | guarded, us more | guarded, CPU time |")
        print("| --- | --- | --- | --- |")
    else:
        print(f"Python {version}; {options.pairs} pairs of {SLICE:g} s, {options.connections} connections\n")
        print("| app | guard | bare, requests/s | bare, CPU us a request | guarded, throughput | guarded, CPU time |")
        print("| --- | --- | --- | --- | --- | --- |")
    for kind in options.kinds:
        if absent := missing(kind):
            print(f"| {kind} | skipped: {', '.join(absent)} not installed |", flush=True)
        elif not options.single and kind in UNKEPT:
            print(f"| {kind} | skipped: it keeps no connection: see --single |", flush=True)
        elif options.single:
            print(_singles(kind, options.single), flush=True)
        else:
            print(_loaded(kind, options.pairs, options.connections), flush=True)
    return 0


if __name__ == "__main__":
    sys.exit(main())
