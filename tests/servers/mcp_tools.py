"""
A server of MCP with tools that fail, wait and tell what they saw, and clients of it over each transport.

`python -m servers.mcp_tools` serves on standard input and output, `reject` as an argument with a rate limit of nothing.
"""

from __future__ import annotations

import os
import sys
import threading
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, contextmanager
from pathlib import Path
from typing import Any

import anyio
import mcp

import resilio
from resilio.integrations.mcp import guard, guard_server, plain

__all__ = ["FIRST", "client", "data", "failed", "make", "served", "told"]

FIRST = not hasattr(mcp, "MCPError")
"""Whether version 1 of the SDK is installed."""
ROOT = Path(__file__).parents[1]


def make() -> Any:
    """Return a server; its tool `seen` returns what the others noted since it was called last."""
    if FIRST:
        from mcp.server.fastmcp import FastMCP as Server
        from mcp.types import ToolAnnotations

        repeatable, reading = ToolAnnotations(idempotentHint=True), ToolAnnotations(readOnlyHint=True)
    else:
        from mcp.server.mcpserver import MCPServer as Server
        from mcp_types import ToolAnnotations

        repeatable, reading = ToolAnnotations(idempotent_hint=True), ToolAnnotations(read_only_hint=True)
    server, noted = Server("tools"), []

    async def wait(seconds: float, note: str) -> dict[str, float]:
        noted.append(note)
        try:
            await anyio.sleep(seconds)
        except BaseException:
            noted.append("cancelled")
            raise
        return {"waited": seconds}

    @server.tool(annotations=repeatable)
    async def fail_safely() -> dict[str, float]:
        noted.append("fail_safely")
        raise ValueError("boom")

    @server.tool()
    async def fail() -> dict[str, float]:
        noted.append("fail")
        raise ValueError("boom")

    @server.tool()
    async def write(seconds: float) -> dict[str, float]:
        return await wait(seconds, "write")

    @server.tool(annotations=reading)
    async def read(seconds: float) -> dict[str, float]:
        return await wait(seconds, "read")

    @server.tool()
    async def ambient() -> dict[str, str]:
        return {"priority": resilio.current_priority(), "left": str(resilio.remaining())}

    @server.tool()
    async def leave() -> None:
        os._exit(1)

    @server.tool()
    async def seen() -> dict[str, list[str]]:
        found = list(noted)
        noted.clear()
        return {"seen": found}

    return server


def data(result: Any) -> Any:
    """Return the structured content of a result."""
    return result.structuredContent if FIRST else result.structured_content


def failed(result: Any) -> bool:
    """Return whether a result is an error."""
    return bool(result.isError if FIRST else result.is_error)


async def told(client: Any) -> list[str]:
    """Return what the tools of the server have noted."""
    found: list[str] = data(await client.call_tool("seen", {}))["seen"]
    return found


@contextmanager
def served(server: Any) -> Iterator[str]:
    """Serve over streamable HTTP on loopback, and yield the URL."""
    import uvicorn

    running = uvicorn.Server(uvicorn.Config(server.streamable_http_app(), port=0, log_level="error"))
    thread = threading.Thread(target=running.run)
    thread.start()
    while not running.started:
        threading.Event().wait(0.005)
    try:
        yield f"http://127.0.0.1:{running.servers[0].sockets[0].getsockname()[1]}/mcp"
    finally:
        running.should_exit = running.force_exit = True
        thread.join()


@asynccontextmanager
async def client(way: str, policy: Any, server: Any = None, *arguments: str, **options: Any) -> AsyncIterator[Any]:
    """Open a guarded client over "memory", "stdio" or "http"."""
    if way == "http":
        with served(server or make()) as url:
            async with _opened(way, url, policy, options) as opened:
                yield opened
        return
    paths = os.pathsep.join([str(ROOT), *(path for path in sys.path if path)])
    environment = {**os.environ, "PYTHONPATH": paths}
    command = {"command": sys.executable, "args": ["-m", "servers.mcp_tools", *arguments], "env": environment}
    target = (server or make()) if way == "memory" else mcp.StdioServerParameters(**command)
    async with _opened(way, target, policy, options) as opened:
        yield opened


@asynccontextmanager
async def _opened(way: str, target: Any, policy: Any, options: dict[str, Any]) -> AsyncIterator[Any]:
    if not FIRST:
        async with guard(mcp.Client(target), policy, **options) as opened:
            yield opened
        return
    from mcp.client.stdio import stdio_client
    from mcp.client.streamable_http import streamable_http_client
    from mcp.shared.memory import create_connected_server_and_client_session

    with plain():
        if way == "memory":
            async with create_connected_server_and_client_session(target) as session:
                yield guard(session, policy, **options)
            return
        async with (
            stdio_client(target) if way == "stdio" else streamable_http_client(target) as (reading, writing, *_),
            guard(mcp.ClientSession(reading, writing), policy, **options) as session,
        ):
            await session.initialize()
            yield session


if __name__ == "__main__":
    tools = make()
    if sys.argv[1:] == ["reject"]:
        guard_server(tools, resilio.rate_limit("1/h"), tools=("write",))
    tools.run()
