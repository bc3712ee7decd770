"""The wire formats of the two providers: bodies and events, for an answer of sixty tokens."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from typing import Any, Protocol

__all__ = ["ANSWER", "WIRES", "Wire"]

_TOKENS = tuple(f"token{number}" for number in range(60))
ANSWER = " ".join(_TOKENS)
"""The one answer: a part of it is never taken for the whole."""
_KINDS = {400: "invalid_request_error", 429: "rate_limit_error"}
_MESSAGE = "the scripted fault of a benchmark"


class Wire(Protocol):
    """One provider's format."""

    path: str

    def whole(self, model: str, prompt: int) -> dict[str, Any]:
        """Return the body of a whole answer."""
        ...

    def error(self, status: int, code: str | None) -> dict[str, Any]:
        """Return the body of an error."""
        ...

    def opening(self, model: str, prompt: int) -> list[bytes]:
        """Return the events before the first token."""
        ...

    def tokens(self, model: str) -> Iterable[bytes]:
        """Yield one event for each token."""
        ...

    def closing(self, model: str, prompt: int, *, ended: bool) -> list[bytes]:
        """Return the events after the last token."""
        ...


def _event(data: Any, name: str | None = None) -> bytes:
    text = data if isinstance(data, str) else json.dumps(data)
    return (f"event: {name}\n" if name else "").encode() + f"data: {text}\n\n".encode()


def _spaced() -> Iterable[str]:
    yield _TOKENS[0]
    yield from (f" {token}" for token in _TOKENS[1:])


class _OpenAI(Wire):
    """Chat completions, whose streams end with `[DONE]`."""

    path = "/v1/chat/completions"

    def whole(self, model: str, prompt: int) -> dict[str, Any]:
        message = {"role": "assistant", "content": ANSWER}
        choices = [{"index": 0, "message": message, "finish_reason": "stop"}]
        return self._object("chat.completion", model, choices=choices, usage=self._usage(prompt))

    def error(self, status: int, code: str | None) -> dict[str, Any]:
        kind = _KINDS.get(status, "server_error")
        return {"error": {"message": _MESSAGE, "type": kind, "code": code, "param": None}}

    def opening(self, model: str, prompt: int) -> list[bytes]:
        del prompt
        return [self._chunk(model, {"role": "assistant", "content": ""})]

    def tokens(self, model: str) -> Iterable[bytes]:
        return (self._chunk(model, {"content": text}) for text in _spaced())

    def closing(self, model: str, prompt: int, *, ended: bool) -> list[bytes]:
        usage = self._object("chat.completion.chunk", model, choices=[], usage=self._usage(prompt))
        return [self._chunk(model, {}, "stop"), _event(usage), *([_event("[DONE]")] if ended else [])]

    def _chunk(self, model: str, delta: Mapping[str, str], reason: str | None = None) -> bytes:
        choices = [{"index": 0, "delta": delta, "finish_reason": reason}]
        return _event(self._object("chat.completion.chunk", model, choices=choices))

    def _object(self, kind: str, model: str, **fields: Any) -> dict[str, Any]:
        return {"id": "chat", "object": kind, "created": 1, "model": model, **fields}

    def _usage(self, prompt: int) -> dict[str, int]:
        return {"prompt_tokens": prompt, "completion_tokens": len(_TOKENS), "total_tokens": prompt + len(_TOKENS)}


class _Anthropic(Wire):
    """Messages, whose streams end with `message_stop`."""

    path = "/v1/messages"

    def whole(self, model: str, prompt: int) -> dict[str, Any]:
        usage = {"input_tokens": prompt, "output_tokens": len(_TOKENS)}
        return self._message(model, [{"type": "text", "text": ANSWER}], "end_turn", usage)

    def error(self, status: int, code: str | None) -> dict[str, Any]:
        kind = {**_KINDS, 503: "overloaded_error"}.get(status, "api_error")
        return {"type": "error", "error": {"type": kind, "message": _MESSAGE, "details": {"error_code": code}}}

    def opening(self, model: str, prompt: int) -> list[bytes]:
        message = self._message(model, [], None, {"input_tokens": prompt, "output_tokens": 1})
        block = {"index": 0, "content_block": {"type": "text", "text": ""}}
        return [self._event("message_start", message=message), self._event("content_block_start", **block)]

    def tokens(self, model: str) -> Iterable[bytes]:
        del model
        deltas = ({"type": "text_delta", "text": text} for text in _spaced())
        return (self._event("content_block_delta", index=0, delta=delta) for delta in deltas)

    def closing(self, model: str, prompt: int, *, ended: bool) -> list[bytes]:
        del model, prompt
        usage = {"output_tokens": len(_TOKENS)}
        delta = self._event("message_delta", delta={"stop_reason": "end_turn", "stop_sequence": None}, usage=usage)
        events = [self._event("content_block_stop", index=0), delta]
        return [*events, self._event("message_stop")] if ended else events

    def _message(self, model: str, content: list[Any], reason: str | None, usage: Mapping[str, int]) -> dict[str, Any]:
        known = {"id": "message", "type": "message", "role": "assistant", "stop_sequence": None}
        return {**known, "model": model, "content": content, "stop_reason": reason, "usage": usage}

    def _event(self, kind: str, **fields: Any) -> bytes:
        return _event({"type": kind, **fields}, kind)


WIRES: Mapping[str, Wire] = {"anthropic": _Anthropic(), "openai": _OpenAI()}
