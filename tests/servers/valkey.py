"""A real Valkey, or Redis where only that is installed."""

from __future__ import annotations

import shutil
import socket
from collections.abc import Sequence

from servers.processes import ServerProcess


class Valkey(ServerProcess):
    """One node without persistence; `send` speaks to it past every client library.

    Args:
        options: Of the command line.

        greeting: How it answers a PING when it has started.
    """

    package = "valkey-server"
    programs = (
        ("valkey-server",) if shutil.which("valkey-server") or not shutil.which("redis-server") else ("redis-server",)
    )

    def __init__(self, options: Sequence[str] = (), greeting: bytes = b"+PONG") -> None:
        super().__init__()
        self.options = options
        self.greeting = greeting

    def command(self) -> list[str]:
        fixed = ["--bind", "127.0.0.1", "--port", str(self.port), "--save", "", "--appendonly", "no"]
        return [self.binaries[self.programs[0]], *fixed, "--dir", str(self.folder), *self.options]

    def answers(self) -> bool:
        try:
            return self.send("PING").startswith(self.greeting)
        except OSError:
            return False

    def send(self, *words: str) -> bytes:
        """Return the first bytes of the answer to a command."""
        parts = [f"*{len(words)}\r\n", *(f"${len(word.encode())}\r\n{word}\r\n" for word in words)]
        with socket.create_connection(("127.0.0.1", self.port), timeout=5) as connection:
            connection.sendall("".join(parts).encode())
            return connection.recv(65536)

    def info(self, field: str) -> int:
        """Return one number of INFO."""
        lines = self.send("INFO").decode().splitlines()
        return next(int(line.partition(":")[2]) for line in lines if line.startswith(f"{field}:"))
