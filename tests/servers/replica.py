"""
Replicas of one service, each a process of its own: killed, paused by SIGSTOP, slowed, and brought back on its port.

The program is `replica_service.py`. `/who` answers the replica's name; whatever a replica sees it tells at
`/_seen`, with the name that TLS was asked for; the routes of `misbehaving.py` and a model's provider are there too.
"""

from __future__ import annotations

import http.client
import json
import shutil
import ssl
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any
from urllib.parse import urlencode

from servers.processes import ServerProcess

__all__ = ["Replica", "certificate", "replicas"]

PATIENCE = 60.0
_PROGRAM = f"""
import ctypes, signal, sys
if hasattr(libc := ctypes.CDLL(None), "prctl"):
    libc.prctl(1, signal.SIGKILL)  # when the parent has gone
sys.path.insert(0, {str(Path(__file__).parents[1])!r})
from {{module}} import main
main(*sys.argv[1:])
"""


class Replica(ServerProcess):
    """One of them; its control requests are not counted, and answered at once however slow it is."""

    package = "replica"
    programs = ()
    ends_with_parent = True
    module = "servers.replica_service"

    def __init__(self, name: str, *, tls: Path | None = None) -> None:
        super().__init__()
        self._as = {}  # it reads this tree
        self.name = name
        self.tls = tls

    def command(self) -> list[str]:
        """Return what starts it."""
        tls = [] if self.tls is None else [str(self.tls)]
        return [sys.executable, "-c", _PROGRAM.format(module=self.module), self.name, str(self.port), *tls]

    def answers(self) -> bool:
        """Return True once it serves."""
        with suppress(OSError, http.client.HTTPException):
            return bool(self.control("/_seen") is not None)
        return False

    @property
    def url(self) -> str:
        """The target of its endpoint."""
        return f"{'http' if self.tls is None else 'https'}://127.0.0.1:{self.port}"

    @property
    def host(self) -> str:
        """The `Host` of its requests."""
        return f"127.0.0.1:{self.port}"

    def control(self, path: str, body: Any = None) -> Any:
        """Ask it for something that does not belong to the service."""
        if self.tls is None:
            connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=PATIENCE)
        else:
            context = ssl._create_unverified_context()
            connection = http.client.HTTPSConnection("127.0.0.1", self.port, timeout=PATIENCE, context=context)
        try:
            connection.request("POST", path, json.dumps(body), {"connection": "close"})
            return json.loads(connection.getresponse().read())
        finally:
            connection.close()

    def slow(self, seconds: float) -> None:
        """Have each answer of the service take so long."""
        self.control("/_set?" + urlencode({"delay": seconds}))

    def fail(self, status: int, retry_after: int = 0) -> None:
        """Have each answer of the service be an error; 0: none. `retry_after`: and ask for so many seconds."""
        self.control(f"/_set?status={status}&after={retry_after}")

    def go_on(self) -> None:
        """Have it send the second halves of the answers at `/halves`."""
        self.control("/_set?go=1")

    def script(self, wire: str, *behaviours: tuple[str, list[Any], dict[str, Any]]) -> None:
        """Have it be a provider of models: functions of `models.py` by name, for one request after the other."""
        self.control("/_script", {"wire": wire, "behaviours": behaviours})

    @property
    def seen(self) -> list[dict[str, Any]]:
        """The requests since it was fresh: method, target, headers, body, and the name that TLS was asked for."""
        found: list[dict[str, Any]] = self.control("/_seen")
        return found

    def fresh(self) -> None:
        """Bring it to the state of a new one, running."""
        if not self.pids():
            self.start()
        self.resume()
        self.control("/_set?delay=0&status=0&clear=1")


@contextmanager
def replicas(*names: str, tls: Path | None = None, kind: type[Replica] = Replica) -> Iterator[tuple[Replica, ...]]:
    """Start replicas, which end with the block."""
    made = tuple(kind(name, tls=tls) for name in names)
    try:
        for one in made:
            one.__enter__()
        yield made
    finally:
        for one in made:
            one.close()


def certificate(folder: Path, *names: str) -> Path | None:
    """Make a certificate and its key for these names, in one file; None where openssl is not installed."""
    program = shutil.which("openssl")
    if program is None:
        return None
    key, made, both = folder / "key.pem", folder / "cert.pem", folder / "both.pem"
    alternatives = ",".join(f"DNS:{name}" for name in names) + ",IP:127.0.0.1"
    options = [
        "-days",
        "3650",
        "-nodes",
        "-subj",
        "/CN=replica",
        "-addext",
        f"subjectAltName={alternatives}",
        "-addext",
        "keyUsage=digitalSignature,keyCertSign",
    ]
    made_by = [program, "req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", *options]
    subprocess.run([*made_by, "-keyout", str(key), "-out", str(made)], check=True, capture_output=True)
    both.write_text(key.read_text() + made.read_text())
    return both
