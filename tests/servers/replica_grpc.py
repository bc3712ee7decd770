"""A replica that speaks gRPC: the program, and how a test talks to it; see `replica.py`."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator
from contextlib import contextmanager
from typing import Any

import grpc
from servers.grpc_service import Code, Service
from servers.replica import PATIENCE, Replica, replicas

__all__ = ["GrpcReplica", "grpc_replicas", "main"]


class GrpcReplica(Replica):
    """One of them."""

    module = "servers.replica_grpc"

    def answers(self) -> bool:
        """Return True once it serves."""
        try:
            return bool(self.control("/_seen") is not None)
        except grpc.RpcError:
            return False

    @property
    def url(self) -> str:
        """The target of its endpoint."""
        return self.host

    def control(self, path: str, body: Any = None) -> Any:
        """Ask it for something that does not belong to the service."""
        asked = {"path": path, "body": body}
        with grpc.insecure_channel(self.host) as channel:
            return json.loads(channel.unary_unary("/s/control")(json.dumps(asked).encode(), timeout=PATIENCE))


@contextmanager
def grpc_replicas(*names: str) -> Any:
    """Start replicas, which end with the block."""
    with replicas(*names, kind=GrpcReplica) as found:
        yield found


class _Service(Service):
    """The methods of `grpc_service.py`, with a name, a delay and a memory."""

    def __init__(self, name: str) -> None:
        super().__init__()
        self.name = name
        self.delay = 0.0
        self.status = 0
        self.seen: list[str] = []
        self.methods["control"] = grpc.unary_unary_rpc_method_handler(self.control)
        self.methods["who"] = grpc.unary_unary_rpc_method_handler(self.who)
        self.methods["whos"] = grpc.unary_stream_rpc_method_handler(self.whos)

    def service(self, handler_call_details: Any) -> Any:
        method = handler_call_details.method.rsplit("/", 1)[1]
        if method != "control":
            self.seen.append(method)
        return super().service(handler_call_details)

    async def control(self, request: bytes, context: Any) -> bytes:
        """Tell what was seen, or change what is done: `/_set?delay=0.1&status=14&clear=1`."""
        path, _, query = json.loads(request)["path"].partition("?")
        given = dict(pair.split("=") for pair in query.split("&") if pair)
        self.delay = float(given.get("delay", self.delay))
        self.status = int(given.get("status", self.status))
        if "clear" in given:
            self.seen.clear()
        return json.dumps(self.seen if path == "/_seen" else None).encode()

    async def who(self, request: bytes, context: Any) -> bytes:
        await self._before(context)
        return self.name.encode()

    async def whos(self, request: bytes, context: Any) -> AsyncIterator[bytes]:
        """Tell the name as many times as the request says; 0: for ever."""
        await self._before(context)
        left = int(request)
        endless = left == 0
        while left or endless:
            left -= 1
            yield self.name.encode()
            await asyncio.sleep(0.01)

    async def _before(self, context: Any) -> None:
        if self.delay:
            await asyncio.sleep(self.delay)
        if self.status:
            await context.abort(next(code for code in Code if code.value[0] == self.status), "as set")


def main(name: str, port: str) -> None:
    """Serve until killed."""
    asyncio.run(_serve(name, int(port)))


async def _serve(name: str, port: int) -> None:
    server = grpc.aio.server(options=(("grpc.so_reuseport", 0),))
    server.add_generic_rpc_handlers((_Service(name),))
    if server.add_insecure_port(f"127.0.0.1:{port}") != port:
        raise SystemExit(1)
    await server.start()
    await server.wait_for_termination()
