"""What policies see of a call to a model: which model, how large, and what it will probably cost in tokens."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import attrs

from resilio._native.sse import members

if TYPE_CHECKING:
    from resilio.integrations.llm._estimate import Estimates

__all__ = ["ModelCall", "call_of"]

_LIMITS = (b"max_tokens", b"max_completion_tokens", b"max_output_tokens")
_NOTHING = (None, None)
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

    _resilio_replay = False
    """Not for one either where a retry says `replayable=True`: the body would be empty."""

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
    body, endpoint = content or b"", request.url.path
    asks, size = body.startswith(b"{") and request.method == "POST", len(body)
    model, stream, *limits = members(body, b"model", b"stream", *_LIMITS) if asks else _NOTHING
    model, streamed = model if isinstance(model, str) else None, stream is True
    most = min((limit for limit in limits if isinstance(limit, int)), default=None)
    return (OneShotCall if content is None else ModelCall)(
        provider,
        request.url.host,
        endpoint,
        model,
        streamed,
        asks and not streamed and endpoint.rsplit("/", 1)[-1] in _ANSWERED_AT_ONCE,
        most,
        size,
        estimates.of(model, size, most) if asks else {},
        exchange=exchange,
    )
