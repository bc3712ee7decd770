"""
A provider of models on loopback, in both wire formats: routes for the misbehaving server.

Each request takes the next behaviour of the script; the last one stays. A behaviour is an
`async def behaviour(exchange, wire)`, where `wire` says how the provider asked for writes.
"""

from __future__ import annotations

import asyncio
import json
from collections.abc import Awaitable, Callable, Iterable
from typing import Any

from servers.misbehaving import Exchange, Misbehaving

__all__ = ["Anthropic", "Behaviour", "OpenAI", "Responses", "Wire", "answers", "fails", "provide", "streams"]


class Wire:
    """How one provider writes."""

    name: str
    path: str

    def answer(self, text: str, tokens: tuple[int, int]) -> dict[str, Any]:
        raise NotImplementedError

    def error(self, kind: str, code: str | None) -> dict[str, Any]:
        raise NotImplementedError

    def opening(self, tokens: tuple[int, int]) -> Iterable[bytes]:
        raise NotImplementedError

    def delta(self, text: str) -> bytes:
        raise NotImplementedError

    def ping(self) -> bytes:
        raise NotImplementedError

    def failing(self, kind: str, code: str | None) -> bytes:
        raise NotImplementedError

    def closing(self, tokens: tuple[int, int]) -> Iterable[bytes]:
        raise NotImplementedError


def event(data: Any, name: str | None = None) -> bytes:
    """One event as bytes."""
    text = data if isinstance(data, str) else json.dumps(data)
    return (f"event: {name}\n" if name else "").encode() + f"data: {text}\n\n".encode()


class OpenAI(Wire):
    """Chat completions."""

    name = "openai"
    path = "/v1/chat/completions"

    def answer(self, text: str, tokens: tuple[int, int]) -> dict[str, Any]:
        message = {"role": "assistant", "content": text}
        return {
            "id": "c",
            "object": "chat.completion",
            "created": 1,
            "model": "m",
            "choices": [{"index": 0, "message": message, "finish_reason": "stop"}],
            "usage": self._usage(tokens),
        }

    def _usage(self, tokens: tuple[int, int]) -> dict[str, int]:
        return {"prompt_tokens": tokens[0], "completion_tokens": tokens[1], "total_tokens": sum(tokens)}

    def error(self, kind: str, code: str | None) -> dict[str, Any]:
        return {"error": {"message": "no", "type": kind, "code": code, "param": None}}

    def _chunk(self, delta: dict[str, Any], reason: str | None = None) -> dict[str, Any]:
        choices = [{"index": 0, "delta": delta, "finish_reason": reason}]
        return {"id": "c", "object": "chat.completion.chunk", "created": 1, "model": "m", "choices": choices}

    def opening(self, tokens: tuple[int, int]) -> Iterable[bytes]:
        return [event(self._chunk({"role": "assistant", "content": ""}))]

    def delta(self, text: str) -> bytes:
        return event(self._chunk({"content": text}))

    def ping(self) -> bytes:
        return b": ping\n\n"

    def failing(self, kind: str, code: str | None) -> bytes:
        return event(self.error(kind, code))

    def closing(self, tokens: tuple[int, int]) -> Iterable[bytes]:
        return [
            event(self._chunk({}, "stop")),
            event({**self._chunk({}), "choices": [], "usage": self._usage(tokens)}),
            event("[DONE]"),
        ]


class Responses(OpenAI):
    """OpenAI's responses."""

    path = "/v1/responses"

    def _response(self, tokens: tuple[int, int] | None = None, **more: Any) -> dict[str, Any]:
        usage = tokens and {
            "input_tokens": tokens[0],
            "input_tokens_details": {"cached_tokens": 0},
            "output_tokens": tokens[1],
            "output_tokens_details": {"reasoning_tokens": 0},
            "total_tokens": sum(tokens),
        }
        return {"id": "r", "object": "response", "created_at": 1, "model": "m", "output": [], "usage": usage, **more}

    def answer(self, text: str, tokens: tuple[int, int]) -> dict[str, Any]:
        content = [{"type": "output_text", "text": text, "annotations": []}]
        output = [{"type": "message", "id": "o", "role": "assistant", "status": "completed", "content": content}]
        return self._response(tokens, output=output, status="completed")

    def opening(self, tokens: tuple[int, int]) -> Iterable[bytes]:
        return [
            event({"type": "response.created", "response": self._response(), "sequence_number": 0}, "response.created")
        ]

    def delta(self, text: str) -> bytes:
        kind = "response.output_text.delta"
        place = {"item_id": "o", "output_index": 0, "content_index": 0, "sequence_number": 1}
        return event({"type": kind, "delta": text, **place}, kind)

    def failing(self, kind: str, code: str | None) -> bytes:
        response = self._response(status="failed", error={"code": code, "message": "no"})
        return event({"type": "response.failed", "response": response, "sequence_number": 2}, "response.failed")

    def closing(self, tokens: tuple[int, int]) -> Iterable[bytes]:
        response = self._response(tokens, status="completed")
        kind = "response.completed"
        return [event({"type": kind, "response": response, "sequence_number": 3}, kind)]


class Anthropic(Wire):
    """Messages."""

    name = "anthropic"
    path = "/v1/messages"

    def _message(self, content: list[Any], tokens: tuple[int, int], reason: str | None) -> dict[str, Any]:
        return {
            "id": "m",
            "type": "message",
            "role": "assistant",
            "model": "m",
            "content": content,
            "stop_reason": reason,
            "stop_sequence": None,
            "usage": {"input_tokens": tokens[0], "output_tokens": tokens[1]},
        }

    def answer(self, text: str, tokens: tuple[int, int]) -> dict[str, Any]:
        return self._message([{"type": "text", "text": text}], tokens, "end_turn")

    def error(self, kind: str, code: str | None) -> dict[str, Any]:
        details = {} if code is None else {"details": {"error_code": code}}
        return {"type": "error", "error": {"type": kind, "message": "no", **details}}

    def _event(self, kind: str, **fields: Any) -> bytes:
        return event({"type": kind, **fields}, kind)

    def opening(self, tokens: tuple[int, int]) -> Iterable[bytes]:
        block = {"type": "text", "text": ""}
        return [
            self._event("message_start", message=self._message([], (tokens[0], 1), None)),
            self._event("content_block_start", index=0, content_block=block),
        ]

    def delta(self, text: str) -> bytes:
        return self._event("content_block_delta", index=0, delta={"type": "text_delta", "text": text})

    def ping(self) -> bytes:
        return self._event("ping")

    def failing(self, kind: str, code: str | None) -> bytes:
        return event(self.error(kind, code), "error")

    def closing(self, tokens: tuple[int, int]) -> Iterable[bytes]:
        return [
            self._event("content_block_stop", index=0),
            self._event("message_delta", delta={"stop_reason": "end_turn"}, usage={"output_tokens": tokens[1]}),
            self._event("message_stop"),
        ]


Behaviour = Callable[[Exchange, Wire], Awaitable[None]]
JSON = {"content-type": "application/json"}


def answers(text: str = "hello", *, tokens: tuple[int, int] = (7, 5), **headers: str) -> Behaviour:
    """Give a whole answer, with headers whose names have _ in place of -."""

    async def behave(exchange: Exchange, wire: Wire) -> None:
        body = json.dumps(wire.answer(text, tokens)).encode()
        await exchange.answer(body, headers={**JSON, **named(headers)})

    return behave


def fails(status: int, kind: str = "server_error", code: str | None = None, **headers: str) -> Behaviour:
    """Answer with an error; a status of 200 is one inside of a 200."""

    async def behave(exchange: Exchange, wire: Wire) -> None:
        body = json.dumps(wire.error(kind, code)).encode()
        await exchange.answer(body, status, {**JSON, **named(headers)})

    return behave


def streams(
    *texts: str,
    tokens: tuple[int, int] = (7, 5),
    before: tuple[str, ...] = (),
    end: str = "whole",
    error: tuple[str, str | None] = ("overloaded_error", None),
    at_once: bool = False,
    **headers: str,
) -> Behaviour:
    """
    Give an answer as events.

    Args:
        texts: The deltas; "ping" is a ping.

        tokens: The usage.

        before: What comes before the first delta: "ping", "hang", or "die".

        end: After them: "whole", "error", "die", "hang", "close" (the body ends well, the answer does not) or "pings"
            (for ever).

        error: Kind and code.

        at_once: In one piece.

        headers: Of the response.
    """

    async def behave(exchange: Exchange, wire: Wire) -> None:
        await exchange.head(headers={"content-type": "text/event-stream", **named(headers)})
        pieces = list(wire.opening(tokens))
        pieces += [wire.ping() for what in before if what == "ping"]
        if before and before[-1] in ("hang", "die", "pings", "error"):
            await send(exchange, pieces, at_once)
            await finish(exchange, wire, before[-1], error)
            return
        pieces += [wire.ping() if text == "ping" else wire.delta(text) for text in texts]
        pieces += wire.closing(tokens) if end == "whole" else ()
        if end == "error" and at_once:
            pieces.append(wire.failing(*error))
        await send(exchange, pieces, at_once)
        await finish(exchange, wire, "close" if at_once else end, error)

    return behave


async def send(exchange: Exchange, pieces: list[bytes], at_once: bool) -> None:
    """Send chunks."""
    for piece in [b"".join(pieces)] if at_once else pieces:
        await exchange.chunk(piece)


async def finish(exchange: Exchange, wire: Wire, end: str, error: tuple[str, str | None]) -> None:
    """End a body, well or not."""
    if end == "hang":
        await exchange.hang()
    elif end == "die":
        exchange.cut()
    elif end == "pings":
        while True:
            await exchange.chunk(wire.ping())
            await asyncio.sleep(0.005)
    else:
        if end == "error":
            await exchange.chunk(wire.failing(*error))
        await exchange.chunk(b"")


def named(headers: dict[str, str]) -> dict[str, str]:
    """Headers by their real names."""
    return {name.replace("_", "-"): text for name, text in headers.items()}


async def hangs(exchange: Exchange, wire: Wire) -> None:
    """Hang before the headers."""
    del wire
    await exchange.hang()


async def cuts(exchange: Exchange, wire: Wire) -> None:
    """Close the connection before the headers."""
    del wire
    exchange.cut()


def provide(server: Misbehaving, wire: Wire, *script: Behaviour) -> list[Behaviour]:
    """
    Have the server be a provider; return the script, which a test may change.

    Args:
        server: The server.

        wire: How it writes.

        script: What it does, request by request; the last one stays.
    """
    left = list(script)

    async def handle(exchange: Exchange) -> None:
        behave = left.pop(0) if len(left) > 1 else left[0]
        await behave(exchange, wire)

    server.routes[wire.path] = handle
    return left
