"""What policies see of a call to a model: which model, how large, and what it will probably cost in tokens."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

import attrs

if TYPE_CHECKING:
    from resilio.integrations.llm._estimate import Estimates

__all__ = ["ModelCall", "call_of"]

_LIMITS = ("max_tokens", "max_completion_tokens", "max_output_tokens")
_ANSWERED_AT_ONCE = frozenset(
    {"completions", "compact", "count_tokens", "embeddings", "input_tokens", "messages", "moderations", "responses"}
)


@attrs.frozen(eq=False)
class ModelCall:
    """
    One call to a provider, as cost functions and keys of a client's policy are given it: their only argument.

    Attributes:
        provider: "openai" or "anthropic".

        host: Where it goes.

        endpoint: The path of the URL.

        model: The model asked for; None where a request names none.

        streamed: Whether the answer is asked for as a stream of events.

        whole: Whether the answer is read as a whole before the caller has any of it.

        max_tokens: The most that the answer may cost, if the request says so.

        size: Bytes of the request's body.

        estimate: Tokens that the call will probably cost: "input_tokens", "output_tokens" and "tokens", their sum.
    """

    provider: str
    host: str
    endpoint: str
    model: str | None = None
    streamed: bool = False
    whole: bool = False
    max_tokens: int | None = None
    size: int = 0
    estimate: dict[str, float] = attrs.field(factory=dict)
    exchange: Any = attrs.field(default=None, repr=False, kw_only=True)
    """What sends it; not for policies."""


class OneShotCall(ModelCall):
    """A call whose body can be sent once only, an upload's: like an iterator it is not for a second attempt."""

    def __next__(self) -> None:
        """Have nothing: what marks an argument as used up is that it has this method."""
        raise StopIteration


def _content(request: Any) -> bytes | None:
    """Return the bytes of the request's body; None if it is a stream, which can be sent once."""
    try:
        content: bytes = request.content
    except Exception:  # noqa: BLE001 - the client's own RequestNotRead, of a module that is not known here
        return None
    return content


def _object(request: Any, content: bytes) -> dict[str, Any]:
    """Return the request's JSON object, {} if it is none."""
    if request.method != "POST" or not content.startswith(b"{"):
        return {}
    try:
        body = json.loads(content)
    except ValueError:
        body = None
    return body if isinstance(body, dict) else {}


def _most_tokens(body: dict[str, Any]) -> int | None:
    given = [body[name] for name in _LIMITS if isinstance(body.get(name), int)]
    return min(given, default=None)


def call_of(provider: str, request: Any, estimates: Estimates, exchange: Any) -> ModelCall:
    """
    Return what a request says.

    Args:
        provider: "openai" or "anthropic".

        request: Of httpx or httpx2.

        estimates: What calls of late have cost.

        exchange: What will send it.
    """
    content = _content(request)
    body, size = _object(request, content or b""), len(content or b"")
    model = body.get("model") if isinstance(body.get("model"), str) else None
    streamed, most = body.get("stream") is True, _most_tokens(body)
    endpoint: str = request.url.path
    return (OneShotCall if content is None else ModelCall)(
        provider,
        request.url.host,
        endpoint,
        model,
        streamed,
        bool(body) and not streamed and endpoint.rsplit("/", 1)[-1] in _ANSWERED_AT_ONCE,
        most,
        size,
        estimates.of(model, size, most) if body else {},
        exchange=exchange,
    )
