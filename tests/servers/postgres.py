"""A real PostgreSQL."""

from __future__ import annotations

import os
import signal
import socket
import struct
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from servers.processes import ServerProcess

_SETTINGS = {
    "listen_addresses": "127.0.0.1",
    "unix_socket_directories": "",
    "fsync": "off",
    "synchronous_commit": "off",
    "full_page_writes": "off",
    "shared_buffers": "16MB",
    "max_connections": "40",
    "autovacuum": "off",
    "deadlock_timeout": "20ms",
}


class Postgres(ServerProcess):
    """One database, `postgres`, whose user of the same name needs no password."""

    package = "postgresql"
    programs = ("initdb", "postgres")

    @property
    def dsn(self) -> str:
        """Where it is, without a scheme."""
        return f"postgres@127.0.0.1:{self.port}/postgres"

    def prepare(self) -> None:
        data = [
            "-D",
            str(self.folder / "data"),
            "-U",
            "postgres",
            "-A",
            "trust",
            "-E",
            "UTF8",
            "--locale=C",
            "--no-sync",
        ]
        self.run(self.binaries["initdb"], *data)

    def command(self) -> list[str]:
        options = [f"--{name}={value}" for name, value in _SETTINGS.items()]
        return [self.binaries["postgres"], "-D", str(self.folder / "data"), "-p", str(self.port), *options]

    @contextmanager
    def frozen(self) -> Iterator[None]:
        """Stop the processes of all connections; the server itself goes on, and accepts new ones."""
        stopped = [pid for pid in self.pids() if b"postgres: postgres postgres" in _command_of(pid)]
        assert stopped
        for pid in stopped:
            os.kill(pid, signal.SIGSTOP)
        try:
            yield
        finally:
            for pid in stopped:
                with suppress(ProcessLookupError):
                    os.kill(pid, signal.SIGCONT)

    def answers(self) -> bool:
        try:
            return self._greeting() == b"R"
        except OSError:
            return False

    def _greeting(self) -> bytes:
        """Return how the answer to a start-up packet begins: R (authentication) or E (an error, still starting)."""
        packet = struct.pack("!I", 196608) + b"user\0postgres\0database\0postgres\0\0"
        with socket.create_connection(("127.0.0.1", self.port), timeout=5) as connection:
            connection.sendall(struct.pack("!I", len(packet) + 4) + packet)
            return connection.recv(1)


def _command_of(pid: int) -> bytes:
    with suppress(OSError):
        return Path(f"/proc/{pid}/cmdline").read_bytes()
    return b""
