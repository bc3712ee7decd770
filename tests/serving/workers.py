"""Servers of several worker processes, started as people start them, on a socket that the test has made."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

import pytest
from servers.processes import die_with_parent

from serving.sockets import Raw, listening, until

__all__ = ["KINDS", "Workers", "workers"]

_GUNICORN = ("gunicorn", "--preload", "--workers", "2", "--log-level", "error", "--graceful-timeout", "30")
_WSGI, _ASGI = "serving.preloaded:served_by_wsgi", "serving.preloaded:served_by_asgi"
KINDS = {
    "gunicorn-sync": (*_GUNICORN, "--bind", "fd://{fd}", _WSGI),
    "gunicorn-gthread": (*_GUNICORN, "--threads", "3", "--bind", "fd://{fd}", _WSGI),
    "gunicorn-uvicorn": (*_GUNICORN, "-k", "uvicorn.workers.UvicornWorker", "--bind", "fd://{fd}", _ASGI),
    "uvicorn": ("uvicorn", "--workers", "2", "--log-level", "error", "--fd", "{fd}", _ASGI),
    "hypercorn": ("hypercorn", "--workers", "2", "--bind", "fd://{fd}", "--graceful-timeout", "30", _ASGI),
}


class Workers:
    """A server with two workers: what it answers, and who of them holds a request."""

    def __init__(self, kind: str, process: subprocess.Popen[bytes], port: int, folder: Path) -> None:
        self.kind = kind
        self.process = process
        self.port = port
        self.folder = folder

    def counts(self) -> dict[str, int]:
        """What one of the workers counts, whichever has answered."""
        with Raw(self.port) as client:
            client.say("GET /counts HTTP/1.1\nHost: a\nConnection: close\n\n")
            return json.loads(client.body(client.head()))  # type: ignore[no-any-return]

    def inflight_of_each(self) -> list[int]:
        """How many requests each of the two holds."""
        seen: dict[int, int] = {}
        while len(seen) < 2:
            counted = self.counts()
            seen[counted["pid"]] = counted["inflight"]
        return list(seen.values())

    def holders(self) -> set[int]:
        """The processes that hold a request, or have."""
        return {int(path.name.removeprefix("held-")) for path in self.folder.glob("held-*")}

    def hold(self) -> tuple[Raw, int]:
        """Have a request held by a worker that holds none, and return it with the worker's id."""
        before = self.holders()
        while True:
            client = Raw(self.port)
            client.say("GET /hold HTTP/1.1\nHost: a\nConnection: close\n\n")
            client.socket.settimeout(0.002)
            while not self.holders() - before:
                with suppress(TimeoutError):
                    client.socket.recv(1)  # rejected: it went to one that holds a request already
                    break
            else:
                client.socket.settimeout(None)
                return client, (self.holders() - before).pop()
            client.socket.close()

    def release(self) -> None:
        """Let all that is held go on."""
        (self.folder / "go").touch()

    def keep(self) -> None:
        """Have what is asked from now on held again, by whoever."""
        (self.folder / "go").unlink()
        for path in self.folder.glob("held-*"):
            path.unlink()

    def stop(self) -> None:
        """Ask the server to stop, as service managers do."""
        self.process.send_signal(signal.SIGTERM)


@contextmanager
def workers(kind: str, folder: Path) -> Iterator[Workers]:
    """Serve until the block ends."""
    pytest.importorskip(KINDS[kind][0], reason=f"{KINDS[kind][0]} is not installed")
    listener = listening()
    tests = Path(__file__).parents[1]
    environment = {
        **os.environ,
        "PYTHONPATH": os.pathsep.join([str(tests), *filter(None, sys.path)]),
        "PYTHONWARNINGS": "ignore",
        "RESILIO_TEST_FOLDER": str(folder),
        "RESILIO_TEST_PRELOADED": str(int(kind.startswith("gunicorn"))),
    }
    command = [sys.executable, "-m", *(part.format(fd=listener.fileno()) for part in KINDS[kind])]
    with (folder / "log").open("wb") as log:
        process = subprocess.Popen(
            command,
            env=environment,
            stdout=log,
            stderr=log,
            pass_fds=[listener.fileno()],
            preexec_fn=die_with_parent,  # noqa: PLW1509 - it calls the kernel, and nothing of Python's
        )
    try:
        until(lambda: _answers(process, listener.getsockname()[1], folder))
        yield Workers(kind, process, listener.getsockname()[1], folder)
    finally:
        process.terminate()
        with suppress(subprocess.TimeoutExpired):
            process.wait(20)
        process.kill()
        process.wait()
        listener.close()


def _answers(process: subprocess.Popen[bytes], port: int, folder: Path) -> bool:
    """The socket is there before the server: what is asked waits there until it is."""
    assert process.poll() is None, (folder / "log").read_text()
    with Raw(port) as client:
        client.socket.settimeout(0.2)
        client.say("GET /counts HTTP/1.1\nHost: a\nConnection: close\n\n")
        with suppress(TimeoutError, AssertionError):
            return " 200" in client.head()
    time.sleep(0.01)
    return False
