"""A server of another project as a process of the test's own: started, killed, paused, and gone when the test is."""

from __future__ import annotations

import ctypes
import os
import pwd
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time
from abc import ABC, abstractmethod
from contextlib import suppress
from pathlib import Path
from typing import Any, Self, TypeVar

import pytest

S = TypeVar("S", bound="ServerProcess")
_LIBC = ctypes.CDLL(None)
_PATIENCE = 60.0  # for a machine that is busy; a start takes far less

# A child of a server that is stopped would never learn that the server has died with the test: this one does.
_WATCHER = """
import os, signal, sys
sys.stdin.read()
folder = os.path.realpath(sys.argv[1])
for pid in filter(str.isdigit, os.listdir("/proc")):
    try:
        if (os.readlink(f"/proc/{pid}/cwd") + "/").startswith(folder + "/"):
            os.kill(int(pid), signal.SIGKILL)
    except OSError:
        pass
"""


class Unavailable(RuntimeError):
    """The program is not installed; says which package of Debian's has it."""


class ServerProcess(ABC):
    """
    A server on an ephemeral loopback port with its data in a folder of its own.

    `kill` leaves the data and the port, so that `start` brings the same server back. The port is kept from before the
    first start to the end: no other socket of this machine gets it meanwhile, and while no server runs it refuses.
    """

    package: str
    programs: tuple[str, ...]
    ends_with_parent = False
    """Whether the program asks by itself to end with this process: it is started without a fork, which gRPC forbids."""

    def __init__(self) -> None:
        self.binaries = {name: _program(name, self.package) for name in self.programs}
        self.folder = Path(tempfile.mkdtemp(prefix=f"resilio-{self.package}-"))
        self.port = 0
        self._keeper: socket.socket | None = None
        self._process: subprocess.Popen[bytes] | None = None
        self._watcher: subprocess.Popen[bytes] | None = None
        self._log = self.folder / "log"
        self._as = _nobody() if os.geteuid() == 0 else {}
        if self._as:
            os.chown(self.folder, self._as["user"], self._as["group"])

    @abstractmethod
    def command(self) -> list[str]:
        """Return what starts the server on `self.port`."""

    @abstractmethod
    def answers(self) -> bool:
        """Does it answer as a whole, and not only accept a connection?"""

    def prepare(self) -> None:  # noqa: B027 - most need nothing
        """Make what the first start needs."""

    def __enter__(self) -> Self:
        self._keeper = kept_port()
        self.port = self._keeper.getsockname()[1]
        try:
            self.prepare()
            self.start()
        except BaseException:
            self.close()
            raise
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def start(self) -> None:
        """Start it, and wait until it answers."""
        with self._log.open("ab") as log:
            self._process = subprocess.Popen(
                self.command(),
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                cwd=self.folder,
                # It calls the kernel, and nothing of Python's.
                preexec_fn=None if self.ends_with_parent else die_with_parent,  # noqa: PLW1509
                **self._as,
            )
        latest = time.monotonic() + _PATIENCE
        while not self.answers():
            if self._process.poll() is not None:
                raise ChildProcessError(f"{self.package} ended with {self._process.returncode}: {self.log()}")
            if time.monotonic() > latest:
                raise TimeoutError(f"{self.package} does not answer: {self.log()}")
            time.sleep(0.02)

    def run(self, *command: str) -> None:
        """Run a helper to its end as the server's user."""
        done = subprocess.run(command, capture_output=True, text=True, check=False, cwd=self.folder, **self._as)
        assert done.returncode == 0, f"{command}: {done.stdout}{done.stderr}"

    def log(self) -> str:
        """What it wrote so far."""
        return self._log.read_text(errors="replace") if self._log.exists() else ""

    def pids(self) -> list[int]:
        """The process and its descendants."""
        return [] if self._process is None else _family(self._process.pid)

    def pause(self) -> None:
        """Stop it where it is: the kernel goes on to accept connections, and nobody answers."""
        if self._watcher is None:
            self._watcher = subprocess.Popen([sys.executable, "-c", _WATCHER, self.folder], stdin=subprocess.PIPE)
        for pid in self.pids():
            with suppress(ProcessLookupError):
                os.kill(pid, signal.SIGSTOP)

    def resume(self) -> None:
        """Let it run on."""
        for pid in self.pids():
            with suppress(ProcessLookupError):
                os.kill(pid, signal.SIGCONT)

    def kill(self) -> None:
        """End it and all of its children at once, as a crash does."""
        family = self.pids()
        for pid in family:
            with suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)
        if self._process is not None:
            self._process.wait()
            self._process = None
        while any(_alive(pid) for pid in family):
            time.sleep(0.005)
        if self._watcher is not None:
            watcher, self._watcher = self._watcher, None
            watcher.communicate()

    def restart(self) -> None:
        """Kill and start it: every connection is lost."""
        self.kill()
        self.start()

    def close(self) -> None:
        """End it, give its port back, and remove its data."""
        self.kill()
        if self._keeper is not None:
            self._keeper.close()
        shutil.rmtree(self.folder, ignore_errors=True)


def installed(server: type[S], **options: Any) -> S:
    """Return a server, to be started by `with`, or skip the test and name the missing package."""
    try:
        return server(**options)
    except Unavailable as error:
        pytest.skip(str(error))


def die_with_parent(parent: int | None = None) -> None:
    """
    Ask the kernel to end this process when the thread that has started it has gone, killed or not.

    Args:
        parent: Its process ID, where it may have gone already: then this process ends at once.
    """
    if hasattr(_LIBC, "prctl"):
        _LIBC.prctl(1, signal.SIGKILL)
    if parent is not None and os.getppid() != parent:
        os._exit(1)


def kept_port() -> socket.socket:
    """
    Return a socket that keeps a loopback port until it is closed.

    It is bound, and nobody listens, so that the port refuses connections. A server that reuses addresses, as all do,
    may listen there beside it: Linux allows that while no other socket listens, and gives the port to nobody else.
    """
    keeper = socket.socket()
    keeper.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    keeper.bind(("127.0.0.1", 0))
    return keeper


def _program(name: str, package: str) -> str:
    places = [*sorted(map(str, Path("/usr/lib/postgresql").glob("*/bin")), reverse=True)]
    found = shutil.which(name) or shutil.which(name, path=os.pathsep.join(places))
    if found is None:
        raise Unavailable(f"{name} is missing: apt install {package}")
    return found


def _nobody() -> dict[str, Any]:
    """Return whom root starts a server as: PostgreSQL rejects to run as root."""
    user = pwd.getpwnam("nobody")
    return {"user": user.pw_uid, "group": user.pw_gid, "extra_groups": []}


def _parents() -> dict[int, tuple[int, str]]:
    """Return parent and state of every process."""
    found = {}
    for entry in Path("/proc").glob("[0-9]*/stat"):
        with suppress(OSError):
            state, parent = entry.read_text().rpartition(")")[2].split()[:2]
            found[int(entry.parent.name)] = (int(parent), state)
    return found


def _family(root: int) -> list[int]:
    parents, family = _parents(), [root]
    for one in family:  # grows
        family += [pid for pid, (parent, _) in parents.items() if parent == one]
    return family


def _alive(pid: int) -> bool:
    return _parents().get(pid, (0, "Z"))[1] not in "ZX"
