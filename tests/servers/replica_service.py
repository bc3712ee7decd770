"""The program that a replica runs; see `replica.py`."""

from __future__ import annotations

import asyncio
import json
import ssl
from typing import Any

from servers.misbehaving import Exchange, Misbehaving

__all__ = ["main"]


class _Service(Misbehaving):
    """The routes of the misbehaving server, with a name, a delay and a memory."""

    def __init__(self, name: str, port: int, tls: ssl.SSLContext | None) -> None:
        super().__init__(port, tls)
        self.name = name
        self.delay = 0.0
        self.status = 0
        self.after = 0
        self.memory: list[dict[str, Any]] = []
        self.go = asyncio.Event()
        self.routes["/file"] = self._file
        self.routes["/halves"] = self._halves
        self.routes["/who"] = self._who
        self.routes["/_seen"] = self._seen
        self.routes["/_set"] = self._set
        self.routes["/_script"] = self._script

    def _handler(self, path: str) -> Any:
        handler = super()._handler(path)
        return handler if path.startswith("/_") else self._noting(handler)

    def _noting(self, handler: Any) -> Any:
        async def noting(exchange: Exchange) -> None:
            tls = exchange.writer.get_extra_info("ssl_object")
            self.memory.append(
                {
                    "method": exchange.method,
                    "target": exchange.target,
                    "headers": exchange.headers,
                    "body": exchange.body.decode("latin-1"),
                    "sni": None if tls is None else getattr(tls, "asked_name", None),
                }
            )
            if self.delay:
                await asyncio.sleep(self.delay)
            if self.status:
                after = {"retry-after": str(self.after)} if self.after else {}
                await exchange.answer(b"no", self.status, after)
            else:
                await handler(exchange)

        return noting

    async def _who(self, exchange: Exchange) -> None:
        cookies = {} if "cookie" not in exchange.query else {"set-cookie": f"{exchange.query['cookie']}; Path=/"}
        await exchange.answer(self.name.encode(), headers=cookies)

    async def _file(self, exchange: Exchange) -> None:
        """Send 26 bytes, or the rest of them; `break`: this replica dies after so many of them; `tag`: the ETag."""
        whole, tag = b"abcdefghijklmnopqrstuvwxyz", exchange.query.get(f"tag-{self.name}", '"v1"')
        asked = exchange.headers.get("range", "bytes=0-").removeprefix("bytes=").removesuffix("-")
        first = int(asked) if exchange.headers.get("if-range", tag) == tag else 0
        headers = {"etag": tag, "content-length": str(len(whole) - first)}
        if first:
            headers["content-range"] = f"bytes {first}-{len(whole) - 1}/{len(whole)}"
        await exchange.head(206 if first else 200, headers)
        sent = int(exchange.number(f"break-{self.name}", len(whole)))
        await exchange.raw(whole[first : first + sent])
        if sent < len(whole):
            exchange.cut()

    async def _halves(self, exchange: Exchange) -> None:
        """Send half of an answer, and the other half when `/_set?go=1` has come."""
        await exchange.head()
        await exchange.chunk(b"x")
        await self.go.wait()
        await exchange.chunk(b"x")
        await exchange.chunk(b"")

    async def _seen(self, exchange: Exchange) -> None:
        await exchange.answer(json.dumps(self.memory).encode())

    async def _set(self, exchange: Exchange) -> None:
        self.delay = exchange.number("delay", self.delay)
        self.status = int(exchange.number("status", self.status))
        self.after = int(exchange.number("after", 0))
        if "clear" in exchange.query:
            self.memory.clear()
            self.go.clear()
        if "go" in exchange.query:
            self.go.set()
        await exchange.answer(b"null")

    async def _script(self, exchange: Exchange) -> None:
        from servers import models

        asked = json.loads(exchange.body)
        wires = (models.OpenAI(), models.Responses(), models.Anthropic())
        wire = next(one for one in wires if type(one).__name__ == asked["wire"])
        made = [
            getattr(models, name)(*args, **options) if args or options else getattr(models, name)
            for name, args, options in asked["behaviours"]
        ]
        models.provide(self, wire, *made)
        await exchange.answer(b"null")


def _asked(tls: ssl.SSLObject, name: str | None, _context: ssl.SSLContext) -> None:
    tls.asked_name = name  # type: ignore[attr-defined]


def main(name: str, port: str, certificate_file: str | None = None) -> None:
    context = None
    if certificate_file is not None:
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.load_cert_chain(certificate_file)
        context.sni_callback = _asked  # type: ignore[assignment]
    """Serve until killed."""
    _Service(name, int(port), context)._run()
