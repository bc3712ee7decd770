"""How each provider writes: errors, usage, what of a stream its caller sees, and how a stream ends."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any

from resilio.integrations.llm._classify import meaning_by_codes
from resilio.integrations.llm._headers import Left, anthropic_left, openai_left
from resilio.integrations.llm._sse import Event

__all__ = ["ANTHROPIC", "OPENAI", "Dialect"]

Usage = dict[str, float]


def _number(value: Any) -> float | None:
    fits = isinstance(value, (int, float)) and not isinstance(value, bool) and 0 <= value < 1e9
    return float(value) if fits else None


def _mapping(value: Any) -> Mapping[str, Any]:
    return value if isinstance(value, Mapping) else {}


def _summed(usage: Mapping[str, Any], *names: str) -> float | None:
    counts = [count for count in (_number(usage.get(name)) for name in names) if count is not None]
    return sum(counts) if counts else None


class Dialect:
    """What the two have in common."""

    provider: str
    overloaded = 503

    def status_of(self, error: Mapping[str, Any]) -> int:
        """Return the status of an error that came inside of a 200, from its codes."""
        meaning = meaning_by_codes(error)
        if meaning is None:
            return 400 if error.get("type") == "invalid_request_error" else 500
        return {"rate": 429, "quota": 429, "overloaded": self.overloaded}.get(meaning, 500)

    def error_body(self, error: Mapping[str, Any]) -> dict[str, Any]:
        """Return the JSON of an error response."""
        return {"error": dict(error)}

    def refusal(self, text: str, status: int) -> dict[str, Any]:
        """Return the JSON that stands for a refusal of ours."""
        kind = "rate_limit_exceeded" if status == 429 else "server_overloaded"
        return self.error_body({"message": text, "type": "resilio_refusal", "code": kind, "param": None})

    def left(self, headers: Mapping[str, str]) -> Left:
        """Return what the headers of a response say about the limits."""
        raise NotImplementedError

    def usage(self, body: Mapping[str, Any]) -> Usage:
        """Return "input_tokens" and "output_tokens", as far as an answer, or an event, says them."""
        raise NotImplementedError

    def only_says_more(self, block: bytes) -> bool:
        """
        Tell whether an event is surely one of the many that only say some more of a stream that has begun.

        They are told by their bytes, since the SDK parses each of them already. A key that matters is seen wherever it
        stands, because within a text its quotes are escaped.

        Args:
            block: Its lines.
        """
        raise NotImplementedError

    def error_in(self, event: Event) -> tuple[Mapping[str, Any], bool] | None:
        """Return the error that an event brings, and whether the SDK raises it; None if it brings none."""
        raise NotImplementedError

    def is_ping(self, event: Event) -> bool:
        """Tell whether an event only keeps the connection alive."""
        raise NotImplementedError

    def is_visible(self, event: Event) -> bool:
        """Tell whether an event is the first of those that the caller sees as a part of the answer."""
        raise NotImplementedError

    def begins(self, event: Event) -> bool:
        """Tell whether an event belongs to a stream of which it is known how it ends."""
        raise NotImplementedError

    def ends(self, event: Event) -> bool:
        """Tell whether the answer is whole with this event."""
        raise NotImplementedError


_UNSEEN_RESPONSES = frozenset(
    {
        "keepalive",
        "response.content_part.added",
        "response.created",
        "response.in_progress",
        "response.output_item.added",
        "response.queued",
        "response.reasoning_summary_part.added",
    }
)
_ENDS_RESPONSES = frozenset({"response.cancelled", "response.completed", "response.failed", "response.incomplete"})


_DELTA_OF_RESPONSES = re.compile(rb'event: (response\.\w+\.delta)\ndata: \{"type": ?"\1"')


def _has_none(block: bytes, key: bytes) -> bool:
    """Tell whether whatever has this key there is null."""
    found = block.count(key)
    return not found or found == block.count(key + b":null") + block.count(key + b": null")


def _is_one_line(block: bytes, begins: int = 0) -> bool:
    return block.find(b"\n", begins) < 0 and b"\r" not in block


class _OpenAI(Dialect):
    provider = "openai"

    def only_says_more(self, block: bytes) -> bool:
        if b'"error"' in block or not _has_none(block, b'"usage"'):
            return False
        if block.startswith(b'data: {"'):
            known = b'"choices"' in block and b'"type"' not in block and _is_one_line(block)
            return known and _has_none(block, b'"finish_reason"')
        delta = _DELTA_OF_RESPONSES.match(block)
        return delta is not None and _is_one_line(block, delta.end())

    def left(self, headers: Mapping[str, str]) -> Left:
        return openai_left(headers)

    def usage(self, body: Mapping[str, Any]) -> Usage:
        told = _mapping(body.get("usage")) or _mapping(_mapping(body.get("response")).get("usage"))
        counts = {
            "input_tokens": _summed(told, "prompt_tokens", "input_tokens"),
            "output_tokens": _summed(told, "completion_tokens", "output_tokens"),
        }
        if told and counts["output_tokens"] is None:  # embeddings have no output
            counts["output_tokens"] = 0.0
        return {unit: count for unit, count in counts.items() if count is not None} if told else {}

    def error_in(self, event: Event) -> tuple[Mapping[str, Any], bool] | None:
        error = event.data.get("error")
        if isinstance(error, Mapping) and error:
            return error, True
        kind = event.data.get("type")
        if kind == "response.failed":
            return _mapping(_mapping(event.data.get("response")).get("error")), False
        return (event.data, False) if kind == "error" else None

    def is_ping(self, event: Event) -> bool:
        return event.data.get("type") == "keepalive" or (not event.text and not event.data)

    def is_visible(self, event: Event) -> bool:
        if "choices" in event.data:
            return any(_has_content(choice) for choice in event.data["choices"] or ()) or "usage" in self._last(event)
        return event.data.get("type") not in _UNSEEN_RESPONSES and not self.is_ping(event)

    def _last(self, event: Event) -> Mapping[str, Any]:
        """The event, if it is the last one of a chat, which has usage and no choices."""
        return event.data if not event.data["choices"] and event.data.get("usage") else {}

    def begins(self, event: Event) -> bool:
        return "choices" in event.data or str(event.data.get("type", "")).startswith("response.")

    def ends(self, event: Event) -> bool:
        if event.text.startswith("[DONE]"):
            return True
        return event.data.get("type") in _ENDS_RESPONSES


def _has_content(choice: Any) -> bool:
    """Whether a piece of a chat says more than who speaks."""
    choice = _mapping(choice)
    delta = _mapping(choice.get("delta"))
    return bool(choice.get("finish_reason") or choice.get("text") or any(delta[key] for key in delta if key != "role"))


def says_why_it_ends(event: Event) -> bool:
    """Tell whether a piece of a chat has a reason why the answer ends, which some servers send as the last event."""
    choices = event.data.get("choices")
    return isinstance(choices, list) and any(_mapping(choice).get("finish_reason") for choice in choices)


_UNSEEN_MESSAGES = frozenset({"content_block_start", "content_block_stop", "message_start", "ping"})


_DELTA = re.compile(rb'event: content_block_delta\ndata: \{"type": ?"content_block_delta"')


class _Anthropic(Dialect):
    provider = "anthropic"
    overloaded = 529

    def only_says_more(self, block: bytes) -> bool:
        delta = _DELTA.match(block)
        return (
            delta is not None
            and b'"error"' not in block
            and b'"usage"' not in block
            and b'"message"' not in block
            and _is_one_line(block, delta.end())
        )

    def error_body(self, error: Mapping[str, Any]) -> dict[str, Any]:
        return {"type": "error", "error": dict(error)}

    def refusal(self, text: str, status: int) -> dict[str, Any]:
        kind = "rate_limit_error" if status == 429 else "overloaded_error"
        return self.error_body({"type": kind, "message": text})

    def left(self, headers: Mapping[str, str]) -> Left:
        return anthropic_left(headers)

    def usage(self, body: Mapping[str, Any]) -> Usage:
        told = _mapping(body.get("usage")) or _mapping(_mapping(body.get("message")).get("usage"))
        counts = {
            "input_tokens": _summed(told, "input_tokens", "cache_creation_input_tokens"),
            "output_tokens": _number(told.get("output_tokens")),
        }
        return {unit: count for unit, count in counts.items() if count is not None}

    def error_in(self, event: Event) -> tuple[Mapping[str, Any], bool] | None:
        if event.name != "error" and event.data.get("type") != "error":
            return None
        return _mapping(event.data.get("error")), event.name == "error"

    def is_ping(self, event: Event) -> bool:
        return "ping" in (event.name, event.data.get("type"))

    def is_visible(self, event: Event) -> bool:
        return event.data.get("type", event.name) not in _UNSEEN_MESSAGES

    def begins(self, event: Event) -> bool:
        return event.data.get("type") == "message_start"

    def ends(self, event: Event) -> bool:
        return event.data.get("type") == "message_stop"


ANTHROPIC: Dialect = _Anthropic()
OPENAI: Dialect = _OpenAI()
