"""Servers that do next to nothing, for clients that are measured."""

from __future__ import annotations

import asyncio
import os
import signal
import socket
from collections.abc import Iterator
from contextlib import contextmanager

__all__ = ["serving"]


@contextmanager
def serving(protocol: type[asyncio.Protocol]) -> Iterator[str]:
    """Serve by *protocol*, in a process of its own; gives the URL."""
    listener = socket.create_server(("127.0.0.1", 0), backlog=512)
    url = f"http://127.0.0.1:{listener.getsockname()[1]}"
    child = os.fork()
    if child == 0:
        asyncio.run(_serve(protocol, listener))
        os._exit(0)
    listener.close()
    try:
        yield url
    finally:
        os.kill(child, signal.SIGKILL)
        os.waitpid(child, 0)


async def _serve(protocol: type[asyncio.Protocol], listener: socket.socket) -> None:
    server = await asyncio.get_running_loop().create_server(protocol, sock=listener)
    await server.serve_forever()
