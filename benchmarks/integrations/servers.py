"""
`python -m benchmarks.integrations.servers`: what the middlewares take of a server's throughput, on loopback.

One server process serves one app under two paths, with the middleware around it and without. `wrk` loads it, in slices
that take turns, so that what disturbs the machine disturbs both. Of each pair of neighbouring slices two ratios are
taken: requests in a second, and processor time of the server for each request, which other processes disturb less. The
figures are medians over the pairs, with the limits of 95 % from resampling them.

With `--single N` one client asks N times under each path, one request after the other, by turns: that is what a server
pays that has just slept, whose caches are cold. Processor time of the server, means of the middle half.
"""

from __future__ import annotations

import argparse
import os
import random
import re
import shutil
import socket
import statistics
import subprocess
import sys
import time
from collections.abc import Callable, Sequence
from contextlib import contextmanager
from typing import Any, NamedTuple

__all__ = ["main"]

BODY = b"x" * 512
HEADERS = [("content-type", "application/octet-stream"), ("content-length", str(len(BODY)))]
RESAMPLES = 2000
BLOCK, WARM = 100, 10
"""Requests between two readings of the processor time, and blocks that are not counted."""
ASKED = (
    "Host: a\r\nUser-Agent: benchmark/1.0\r\nAccept: */*\r\nAccept-Encoding: gzip, deflate\r\n"
    "X-Request-Id: 0123456789abcdef\r\nX-Forwarded-For: 10.1.2.3\r\n"
)
"""Headers of a request, as many as usual."""


class Slice(NamedTuple):
    """What one slice has measured."""

    per_second: float
    cpu_us: float


async def bare_asgi(scope: Any, receive: Any, send: Any) -> None:  # noqa: ARG001
    """Serve a small body."""
    pairs = [(name.encode(), value.encode()) for name, value in HEADERS]
    await send({"type": "http.response.start", "status": 200, "headers": pairs})
    await send({"type": "http.response.body", "body": BODY})


def bare_wsgi(environ: Any, start_response: Any) -> list[bytes]:  # noqa: ARG001
    """Serve a small body."""
    start_response("200 OK", HEADERS)
    return [BODY]


def starlette() -> Any:
    """Return an app of Starlette that serves the same."""
    from starlette.applications import Starlette
    from starlette.responses import Response
    from starlette.routing import Route

    async def served(request: Any) -> Any:  # noqa: ARG001
        return Response(BODY, media_type="application/octet-stream")

    return Starlette(routes=[Route("/guarded", served), Route("/bare", served)])


def _asgi(app: Any) -> Any:
    from resilio import load_shed
    from resilio.integrations.asgi import Middleware

    guarded = Middleware(app, load_shed())

    async def by_path(scope: Any, receive: Any, send: Any) -> None:
        if scope["type"] == "http":
            await (guarded if scope["path"] == "/guarded" else app)(scope, receive, send)

    return by_path


def _wsgi(app: Any) -> Any:
    from resilio import load_shed
    from resilio.integrations.wsgi import Middleware

    guarded = Middleware(app, load_shed())
    return lambda environ, start: (guarded if environ["PATH_INFO"] == "/guarded" else app)(environ, start)


def _uvicorn(app: Any, listener: socket.socket) -> None:
    import uvicorn

    config = uvicorn.Config(app, log_level="critical", access_log=False, lifespan="off", http="h11", loop="asyncio")
    uvicorn.Server(config).run(sockets=[listener])


def _werkzeug(app: Any, listener: socket.socket) -> None:
    from werkzeug.serving import WSGIRequestHandler, make_server

    class Handler(WSGIRequestHandler):
        protocol_version = "HTTP/1.1"

        def log(self, *args: Any, **more: Any) -> None:
            """Nothing to say."""

    make_server("", 0, app, threaded=True, request_handler=Handler, fd=listener.fileno()).serve_forever()


SERVERS: dict[str, Callable[[socket.socket], None]] = {
    "asgi": lambda listener: _uvicorn(_asgi(bare_asgi), listener),
    "starlette": lambda listener: _uvicorn(_asgi(starlette()), listener),
    "wsgi": lambda listener: _werkzeug(_wsgi(bare_wsgi), listener),
}


@contextmanager
def _serving(kind: str) -> Any:
    """Serve in a process of its own; gives its id and the port."""
    # Named, or asyncio does not know it for TCP, and leaves Nagle's algorithm on.
    listener = socket.socket(socket.AF_INET, socket.SOCK_STREAM, socket.IPPROTO_TCP)
    listener.bind(("127.0.0.1", 0))
    listener.listen(512)
    port = listener.getsockname()[1]
    child = os.fork()
    if child == 0:
        SERVERS[kind](listener)
        os._exit(0)
    listener.close()
    try:
        yield child, port
    finally:
        os.kill(child, 9)
        os.waitpid(child, 0)


def _cpu_seconds(pid: int) -> float:
    """Processor time of a process, all its threads, also those that have ended."""
    return time.clock_gettime_ns((~pid << 3) | 2) / 1e9  # the id of its clock, by clock_getcpuclockid(3)


def _load(url: str, pid: int, seconds: float, connections: int) -> Slice:
    """Load a URL for so long, and measure."""
    wrk = shutil.which("wrk") or sys.exit("wrk is not installed")
    before, began = _cpu_seconds(pid), time.perf_counter()
    command = [wrk, "-t1", f"-c{connections}", f"-d{seconds:g}s", url]
    said = subprocess.run(command, check=True, capture_output=True, text=True).stdout
    took, used = time.perf_counter() - began, _cpu_seconds(pid) - before
    match = re.search(r"(\d+) requests in", said)
    if match is None or "Non-2xx" in said or "Socket errors" in said:
        sys.exit(f"the load failed:\n{said}")
    requests = int(match[1])
    return Slice(requests / took, used / requests * 1e6)


def _pairs(kind: str, count: int, seconds: float, connections: int) -> list[tuple[Slice, Slice]]:
    """Measure pairs of slices, bare and guarded, whose order alternates."""
    pairs = []
    with _serving(kind) as (pid, port):
        url = f"http://127.0.0.1:{port}"
        _load(f"{url}/bare", pid, seconds, connections)
        _load(f"{url}/guarded", pid, seconds, connections)
        for at in range(count):
            order = ("bare", "guarded") if at % 2 else ("guarded", "bare")
            got = {path: _load(f"{url}/{path}", pid, seconds, connections) for path in order}
            pairs.append((got["bare"], got["guarded"]))
    return pairs


def _ask(client: socket.socket, request: bytes) -> None:
    """Ask, and read the answer to its end."""
    client.sendall(request)
    read, end = b"", -1
    while end < 0 or len(read) < end:
        read += client.recv(65536)
        if end < 0 and b"\r\n\r\n" in read:
            end = read.index(b"\r\n\r\n") + 4 + len(BODY)


def _singles(kind: str, count: int) -> str:
    """Return a row: the processor time of a request, bare and guarded, where one comes after the other."""
    requests = {path: f"GET /{path} HTTP/1.1\r\n{ASKED}\r\n".encode() for path in ("bare", "guarded")}
    took: dict[str, list[float]] = {path: [] for path in requests}
    with _serving(kind) as (pid, port), socket.create_connection(("127.0.0.1", port)) as client:
        client.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        # In blocks: of a process on another processor, the kernel tells the time up to its last tick or switch.
        for at in range(-WARM, count // BLOCK):
            for path in sorted(requests, reverse=bool(at % 2)):
                before = _cpu_seconds(pid)
                for _ in range(BLOCK):
                    _ask(client, requests[path])
                if at >= 0:
                    took[path].append((_cpu_seconds(pid) - before) / BLOCK * 1e6)
    bare, guarded = (statistics.median(took[path]) for path in ("bare", "guarded"))
    return f"| {kind} | {bare:.1f} | {guarded - bare:.2f} | {100 * (guarded / bare - 1):+.2f} % |"


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
        print(f"Python {version}; {options.single} requests each, one after the other\n")
        print("| app | bare, CPU us a request | guarded, us more | guarded, CPU time |")
        print("| --- | --- | --- | --- |")
        for kind in options.kinds:
            print(_singles(kind, options.single), flush=True)
        return 0
    print(f"Python {version}; {options.pairs} pairs of {options.seconds:g} s, {options.connections} connections\n")
    print("| app | bare, requests/s | bare, CPU us a request | guarded, throughput | guarded, CPU time |")
    print("| --- | --- | --- | --- | --- |")
    for kind in options.kinds:
        pairs = _pairs(kind, options.pairs, options.seconds, options.connections)
        per_second = statistics.median(bare.per_second for bare, _ in pairs)
        cpu_us = statistics.median(bare.cpu_us for bare, _ in pairs)
        throughput = _lost([guarded.per_second / bare.per_second for bare, guarded in pairs])
        cpu = _lost([guarded.cpu_us / bare.cpu_us for bare, guarded in pairs])
        print(f"| {kind} | {per_second:.0f} | {cpu_us:.1f} | {throughput} | {cpu} |", flush=True)
    return 0


if __name__ == "__main__":
    sys.exit(main())
