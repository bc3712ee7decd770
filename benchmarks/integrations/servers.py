"""
`python -m benchmarks.integrations.servers`: what the middlewares take of a server's throughput, on loopback.

One server process serves one app under two paths, with the middleware around it and without. `wrk` loads it, in slices
that take turns, so that what disturbs the machine disturbs both. Of each pair of neighbouring slices two ratios are
taken: requests in a second, and processor time of the server for each request, which other processes disturb less. The
figures are medians over the pairs, with the limits of 95 % from resampling them.

With `--single N` one client asks N times under each path, one request after the other, in blocks that take turns: that
is what a server pays that has just slept, whose caches are cold. Ratios of the processor time of neighbouring blocks.
"""

from __future__ import annotations

import argparse
import random
import re
import shutil
import socket
import statistics
import subprocess
import sys
import time
from collections.abc import Sequence
from typing import NamedTuple

from benchmarks.integrations.served import ASKED, BODY, SERVERS, missing, serving

__all__ = ["main"]

RESAMPLES = 2000
BLOCK, WARM = 100, 10
"""Requests between two readings of the processor time, and blocks that are not counted."""
PATIENCE = 30.0


class Slice(NamedTuple):
    """What one slice has measured."""

    per_second: float
    cpu_us: float


def _cpu_seconds(pid: int) -> float:
    """Processor time of a process, all its threads, also those that have ended."""
    return time.clock_gettime_ns((~pid << 3) | 2) / 1e9  # the id of its clock, by clock_getcpuclockid(3)


def _load(url: str, pid: int, seconds: float, connections: int) -> Slice:
    """Load a URL for so long, and measure."""
    wrk = shutil.which("wrk") or sys.exit("wrk is not installed")
    before, began = _cpu_seconds(pid), time.perf_counter()
    command = [wrk, "-t1", f"-c{connections}", f"-d{seconds:g}s"]
    for line in ASKED.strip().split("\r\n")[1:]:  # the host it says by itself
        command += ["-H", line]
    said = subprocess.run([*command, url], check=True, capture_output=True, text=True).stdout
    took, used = time.perf_counter() - began, _cpu_seconds(pid) - before
    match = re.search(r"(\d+) requests in", said)
    if match is None or "Non-2xx" in said or "Socket errors" in said:
        sys.exit(f"the load failed:\n{said}")
    requests = int(match[1])
    return Slice(requests / took, used / requests * 1e6)


def _pairs(kind: str, count: int, seconds: float, connections: int) -> list[tuple[Slice, Slice]]:
    """Measure pairs of slices, bare and guarded, whose order alternates."""
    pairs = []
    with serving(kind) as (pid, port):
        url = f"http://127.0.0.1:{port}"
        _load(f"{url}/bare", pid, seconds, connections)
        _load(f"{url}/guarded", pid, seconds, connections)
        for at in range(count):
            order = ("bare", "guarded") if at % 2 else ("guarded", "bare")
            got = {path: _load(f"{url}/{path}", pid, seconds, connections) for path in order}
            pairs.append((got["bare"], got["guarded"]))
    return pairs


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
        read, end = b"", -1
        while end < 0 or len(read) < end:
            part = self._socket.recv(65536)
            if not part:
                sys.exit(f"the server broke off after {read!r}")
            read += part
            if end < 0 and b"\r\n\r\n" in read:
                end = read.index(b"\r\n\r\n") + 4 + len(BODY)
        if b" 200 OK\r\n" not in read or b"connection: close\r\n" in read.lower():
            self.close()
        if b" 200 OK\r\n" not in read:
            sys.exit(f"the server answered {read!r}")

    def close(self) -> None:
        """Close the connection."""
        if self._socket is not None:
            self._socket.close()
            self._socket = None


def _singles(kind: str, count: int) -> str:
    """Return a row: the processor time of a request, bare and guarded, where one comes after the other."""
    requests = {path: f"GET /{path} HTTP/1.1\r\n{ASKED}\r\n".encode() for path in ("bare", "guarded")}
    took: dict[str, list[float]] = {path: [] for path in requests}
    with serving(kind) as (pid, port):
        client = Client(port)
        # In blocks: of a process on another processor, the kernel tells the time up to its last tick or switch.
        for at in range(-WARM, max(count // BLOCK, 1)):
            for path in sorted(requests, reverse=bool(at % 2)):
                before = _cpu_seconds(pid)
                for _ in range(BLOCK):
                    client.ask(requests[path])
                if at >= 0:
                    took[path].append((_cpu_seconds(pid) - before) / BLOCK * 1e6)
        client.close()
    bare = statistics.median(took["bare"])
    pairs = list(zip(took["bare"], took["guarded"], strict=True))
    more = statistics.median(guarded - alone for alone, guarded in pairs)
    lost = _lost([guarded / alone for alone, guarded in pairs])
    return f"| {kind} ({SERVERS[kind].what}) | {bare:.1f} | {more:.2f} | {lost} |"


def _loaded(kind: str, count: int, seconds: float, connections: int) -> str:
    """Return a row: what is lost under load."""
    pairs = _pairs(kind, count, seconds, connections)
    per_second = statistics.median(bare.per_second for bare, _ in pairs)
    cpu_us = statistics.median(bare.cpu_us for bare, _ in pairs)
    throughput = _lost([guarded.per_second / bare.per_second for bare, guarded in pairs])
    cpu = _lost([guarded.cpu_us / bare.cpu_us for bare, guarded in pairs])
    return f"| {kind} ({SERVERS[kind].what}) | {per_second:.0f} | {cpu_us:.1f} | {throughput} | {cpu} |"


def _lost(ratios: list[float]) -> str:
    """What is lost by the median ratio, in per cent, with its limits."""
    draw = random.Random(1)
    medians = sorted(statistics.median(draw.choices(ratios, k=len(ratios))) for _ in range(RESAMPLES))
    low, high = medians[int(0.025 * RESAMPLES)], medians[int(0.975 * RESAMPLES)]
    median = statistics.median(ratios)
    return f"{100 * (median - 1):+.2f} % ({100 * (low - 1):+.2f} to {100 * (high - 1):+.2f})"


def main(arguments: Sequence[str] | None = None) -> int:
    """Measure and print; 0."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.integrations.servers", description=__doc__)
    parser.add_argument("--kinds", nargs="+", choices=list(SERVERS), default=list(SERVERS))
    parser.add_argument("--pairs", type=int, default=30, help="pairs of slices of each kind")
    parser.add_argument("--seconds", type=float, default=1, help="length of a slice, whole seconds")
    parser.add_argument("--connections", type=int, default=16)
    parser.add_argument("--single", type=int, metavar="N", help="requests under each path, one after the other")
    options = parser.parse_args(arguments)
    version = sys.version.split(maxsplit=1)[0]
    if options.single:
        print(f"Python {version}; {options.single} requests each, one after the other, in blocks of {BLOCK}\n")
        print("| app | bare, CPU us a request | guarded, us more | guarded, CPU time |")
        print("| --- | --- | --- | --- |")
    else:
        print(f"Python {version}; {options.pairs} pairs of {options.seconds:g} s, {options.connections} connections\n")
        print("| app | bare, requests/s | bare, CPU us a request | guarded, throughput | guarded, CPU time |")
        print("| --- | --- | --- | --- | --- |")
    for kind in options.kinds:
        if absent := missing(kind):
            print(f"| {kind} | skipped: {', '.join(absent)} not installed |", flush=True)
        elif options.single:
            print(_singles(kind, options.single), flush=True)
        else:
            print(_loaded(kind, options.pairs, options.seconds, options.connections), flush=True)
    return 0


if __name__ == "__main__":
    sys.exit(main())
