"""Wire formats of the providers: errors, usage, the visible events of a stream, and its end."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from resilio._native.sse import BEGINS, ENDS, FAILS, PING, UNSEEN, Kinds, members
from resilio.integrations.llm._classify import meaning_by_codes
from resilio.integrations.llm._headers import Left, left_of

__all__ = ["ANTHROPIC", "OPENAI", "Dialect"]

Usage = dict[str, float]
_ANTHROPIC_COUNTS = (b"input_tokens", b"cache_creation_input_tokens", b"output_tokens", b"cache_read_input_tokens")
_OPENAI_COUNTS = (b"prompt_tokens", b"input_tokens", b"completion_tokens", b"output_tokens")
_OPENAI_DETAILS = (b"prompt_tokens_details", b"input_tokens_details")

_BOTH = {"input_tokens", "output_tokens"}


def _summed(one: Any, other: Any = None) -> float | None:
    """Return the sum of those values that are numbers of tokens; None if neither is."""
    if not _counts(one):
        return float(other) if _counts(other) else None
    return float(one + other) if _counts(other) else float(one)


def _counts(value: Any) -> bool:
    return type(value) in (int, float) and 0 <= value < 1e9


def _mapping(value: Any) -> Mapping[str, Any]:
    return value if isinstance(value, Mapping) else {}


def _usage(asked: float | None, answered: float | None, **cache: float | None) -> Usage:
    usage = {name: count for name, count in cache.items() if count is not None}
    if asked is not None:
        usage["input_tokens"] = asked
    if answered is not None:
        usage["output_tokens"] = answered
    return usage


class Dialect:
    """
    Common part of the providers' wire formats.

    Attributes:
        provider: The provider's name.

        kinds: Meanings of its events, by type.

        overloaded: The HTTP status of an overloaded provider.
    """

    provider: str
    kinds: Kinds
    overloaded = 503

    def status_of(self, error: Mapping[str, Any]) -> int:
        """Return the HTTP status for an error inside a 200, by its codes."""
        meaning = meaning_by_codes(error)
        if meaning is None:
            return 400 if error.get("type") == "invalid_request_error" else 500
        return {"rate": 429, "quota": 429, "overloaded": self.overloaded}.get(meaning, 500)

    def error_body(self, error: Mapping[str, Any]) -> dict[str, Any]:
        """Return the JSON of an error response."""
        return {"error": dict(error)}

    def rejection(self, text: str, status: int) -> dict[str, Any]:
        """Return the JSON body that represents a rejection by a policy."""
        kind = "rate_limit_exceeded" if status == 429 else "server_overloaded"
        return self.error_body({"message": text, "type": "resilio_rejection", "code": kind, "param": None})

    def left(self, headers: Mapping[str, str]) -> Left:
        """Return the remaining limits from the headers of a response."""
        return left_of(headers, self.provider)

    def usage(self, data: bytes) -> Usage:
        """
        Return "input_tokens" and "output_tokens", as far as an answer's usage, in JSON, has them.

        Of the input, "cached_tokens" were read from the provider's cache and "written_tokens" were written to it.
        """
        raise NotImplementedError

    def billed(self, usage: Usage) -> dict[str, float] | None:
        """Return an answer's usage as it is billed, each token once; None while a part of it is unknown."""
        raise NotImplementedError

    def error_in(self, named: bool, data: Mapping[str, Any]) -> tuple[Mapping[str, Any], bool] | None:
        """
        Return the error in an event, and whether the SDK raises it; None if there is no error.

        Args:
            named: Whether the event's name is "error".

            data: The event's JSON object.
        """
        raise NotImplementedError

    def shows(self, data: Mapping[str, Any]) -> bool:
        """Return True if a piece of a chat contains a part of the answer that its caller can see."""
        choices = data.get("choices")
        if choices and isinstance(choices, list):
            return any(map(_has_content, choices))
        return bool(data.get("usage"))


def _has_content(choice: Any) -> bool:
    """Return True if a choice contains more than the role of the speaker."""
    choice = _mapping(choice)
    delta = _mapping(choice.get("delta"))
    return bool(choice.get("finish_reason") or choice.get("text") or any(delta[key] for key in delta if key != "role"))


class _OpenAI(Dialect):
    provider = "openai"
    kinds = Kinds(
        {
            "response.*": BEGINS,
            "response.created": UNSEEN,
            "response.queued": UNSEEN,
            "response.in_progress": UNSEEN,
            "response.output_item.added": UNSEEN,
            "response.content_part.added": UNSEEN,
            "response.reasoning_summary_part.added": UNSEEN,
            "response.completed": ENDS,
            "response.incomplete": ENDS,
            "response.cancelled": ENDS,
            "response.failed": ENDS | FAILS,
            "keepalive": PING,
            "error": FAILS,
        }
    )

    def usage(self, data: bytes) -> Usage:
        asked, read, answered, written, *details = members(data, *_OPENAI_COUNTS, *_OPENAI_DETAILS)
        asked, answered = _summed(asked, read), _summed(answered, written)
        if asked is not None and answered is None:  # embeddings have no output
            answered = 0.0
        cached = [members(found, b"cached_tokens")[0] for found in details if type(found) is bytes]
        return _usage(asked, answered, cached_tokens=_summed(*cached[:1]) if cached else None)

    def billed(self, usage: Usage) -> dict[str, float] | None:
        if not usage.keys() >= _BOTH:
            return None
        cached = min(usage.get("cached_tokens", 0.0), usage["input_tokens"])  # a part of the input
        return {"input": usage["input_tokens"] - cached, "cached": cached, "output": usage["output_tokens"]}

    def error_in(self, named: bool, data: Mapping[str, Any]) -> tuple[Mapping[str, Any], bool] | None:  # noqa: ARG002
        error = data.get("error")
        if isinstance(error, Mapping) and error:
            return error, True
        kind = data.get("type")
        if kind == "response.failed":
            return _mapping(_mapping(data.get("response")).get("error")), False
        return (data, False) if kind == "error" else None


class _Anthropic(Dialect):
    provider = "anthropic"
    overloaded = 529
    kinds = Kinds(
        {
            "message_start": BEGINS | UNSEEN,
            "content_block_start": UNSEEN,
            "content_block_stop": UNSEEN,
            "ping": PING,
            "message_stop": ENDS,
            "error": FAILS,
        }
    )

    def error_body(self, error: Mapping[str, Any]) -> dict[str, Any]:
        return {"type": "error", "error": dict(error)}

    def rejection(self, text: str, status: int) -> dict[str, Any]:
        kind = "rate_limit_error" if status == 429 else "overloaded_error"
        return self.error_body({"type": kind, "message": text})

    def usage(self, data: bytes) -> Usage:
        asked, written, answered, cached = members(data, *_ANTHROPIC_COUNTS)
        found = _summed(asked, written)
        return _usage(found, _summed(answered), cached_tokens=_summed(cached), written_tokens=_summed(written))

    def billed(self, usage: Usage) -> dict[str, float] | None:
        if not usage.keys() >= _BOTH:
            return None
        cached, written = (
            usage.get("cached_tokens", 0.0),
            usage.get("written_tokens", 0.0),
        )  # the latter is in the input
        asked = max(usage["input_tokens"] - written, 0.0)
        return {"input": asked, "cached": cached, "written": written, "output": usage["output_tokens"]}

    def error_in(self, named: bool, data: Mapping[str, Any]) -> tuple[Mapping[str, Any], bool] | None:
        if not named and data.get("type") != "error":
            return None
        return _mapping(data.get("error")), named


ANTHROPIC: Dialect = _Anthropic()
OPENAI: Dialect = _OpenAI()
