"""What the live page costs the process that has it: processor time of its two threads, with policies under load."""

from __future__ import annotations

import importlib.util
import os
import selectors
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from typing import Any

import resilio
from benchmarks.micro._results import Row, Skip, Table
from benchmarks.micro._work import fresh_name

__all__ = ["live_table", "look"]

POLICIES = 500
VIEWERS = 10
SETTLE = 1.5  # seconds: the first reading is another thing
_CALLS = 5  # of each policy between two readings
_THREADS = ("resilio-live", "resilio-page")


def live_table(seconds: float) -> Table:
    """
    Return the table of the live page's cost, in percent of one processor.

    Args:
        seconds: That each measurement lasts.
    """
    title, about = "Live page", f"Processor time of the page's threads with {POLICIES} policies, all of them called."
    missing = "uvicorn is not installed" if importlib.util.find_spec("uvicorn") is None else None
    if missing is None and not hasattr(time, "pthread_getcpuclockid"):
        missing = "this system tells no processor time of a thread"
    if missing is not None:
        return Table("live", title, about, skips=(Skip("resilio live page", missing),))
    rows = (
        Row(f"{VIEWERS} viewers", measure(VIEWERS, seconds), "%", target="live_page"),
        Row("1 viewer", measure(1, seconds), "%"),
        Row("nobody", measure(0, seconds), "%"),
    )
    return Table("live", title, about, rows)


def measure(viewers: int, seconds: float) -> float:
    """Return the percentage of one processor that the page takes with so many viewers."""
    from resilio.live import live
    from resilio.live._serve import listen, serving

    earlier = {thread.ident or 0 for thread in threading.enumerate()}
    policies = [resilio.circuit_breaker(fresh_name()) for _ in range(POLICIES)]
    page = live(lambda: tuple(policies))
    with serving(page, listen("127.0.0.1", 0)) as port, _calling(policies), _looking(port, viewers):
        _wait_for(lambda: len(page.hub) == viewers)
        time.sleep(SETTLE)
        before, begun = _spent(earlier), time.monotonic()
        time.sleep(seconds)
        after, lasted = _spent(earlier), time.monotonic() - begun
    return 100 * sum(after[thread] - before[thread] for thread in after) / lasted


def _spent(earlier: set[int]) -> dict[int, float]:
    """Processor seconds of each of the page's threads so far; not of those of a page before."""
    threads = [thread.ident or 0 for thread in threading.enumerate() if thread.name in _THREADS]
    threads = [thread for thread in threads if thread not in earlier]
    return {thread: time.clock_gettime(time.pthread_getcpuclockid(thread)) for thread in threads}


def _wait_for(met: Any) -> None:
    until = time.monotonic() + 20
    while not met():
        if time.monotonic() > until:
            raise RuntimeError("the viewers did not come")
        time.sleep(0.01)


@contextmanager
def _calling(policies: list[Any]) -> Iterator[None]:
    """Call each policy a few times between two readings, so that every one has news."""
    ended = threading.Event()

    def call() -> None:
        while not ended.wait(1 / _CALLS):
            for policy in policies:
                policy.call(int)

    thread = threading.Thread(target=call, daemon=True)
    thread.start()
    try:
        yield
    finally:
        ended.set()
        thread.join()


@contextmanager
def _looking(port: int, viewers: int) -> Iterator[None]:
    """Let viewers in another process read the stream."""
    command = [sys.executable, "-c", f"from benchmarks.micro._live import look; look({port}, {viewers})"]
    path = os.pathsep.join(entry or os.getcwd() for entry in sys.path)  # noqa: PTH109
    process = subprocess.Popen(command, env={**os.environ, "PYTHONPATH": path})
    try:
        yield
    finally:
        process.terminate()
        process.wait()


def look(port: int, viewers: int) -> None:
    """Read the stream by so many connections until the server closes them."""
    selector = selectors.DefaultSelector()
    for _ in range(viewers):
        connection = socket.create_connection(("127.0.0.1", port))
        connection.sendall(b"GET /stream HTTP/1.1\r\nhost: 127.0.0.1\r\n\r\n")
        selector.register(connection, selectors.EVENT_READ)
    while selector.get_map():
        for key, _ in selector.select():
            with suppress(OSError):
                if key.fileobj.recv(1 << 18):  # type: ignore[union-attr]
                    continue
            selector.unregister(key.fileobj)
            key.fileobj.close()  # type: ignore[union-attr]
