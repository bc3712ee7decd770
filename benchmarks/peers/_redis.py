"""Valkeys, or Redises, of this process alone, for the peers that count in one."""

from __future__ import annotations

import atexit
import shutil
import signal
import socket
import subprocess
import time
from collections.abc import Iterator
from contextlib import contextmanager
from functools import cache

from benchmarks.micro._comparison import Unavailable

__all__ = ["server", "stopped"]

_SECONDS = 10.0


def server(number: int = 0) -> str:
    """
    Return the address of a server that ends with this process.

    Args:
        number: Of the server, where there is more than one.

    Raises:
        Unavailable: There is no server here, or it does not start.
    """
    return _started(number)[0]


@contextmanager
def stopped() -> Iterator[None]:
    """Stop the first server within the block: it takes connections and questions, and answers none."""
    process = _started(0)[1]
    process.send_signal(signal.SIGSTOP)
    try:
        yield
    finally:
        process.send_signal(signal.SIGCONT)


@cache
def _started(number: int) -> tuple[str, subprocess.Popen[bytes]]:  # noqa: ARG001 - for the cache
    binary = shutil.which("valkey-server") or shutil.which("redis-server")
    if binary is None:
        raise Unavailable("needs valkey-server or redis-server (Debian has both)")
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    options = ["--bind", "127.0.0.1", "--port", str(port), "--save", "", "--appendonly", "no"]
    process = subprocess.Popen([binary, *options], stdout=subprocess.DEVNULL)
    atexit.register(process.kill)
    end = time.monotonic() + _SECONDS
    while time.monotonic() < end:
        try:
            socket.create_connection(("127.0.0.1", port)).close()
        except OSError:
            time.sleep(0.01)
        else:
            return f"redis://127.0.0.1:{port}", process
    raise Unavailable(f"{binary} does not answer")
