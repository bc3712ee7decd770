"""A call to a model as policies see it: the model, the size, and the estimated cost in tokens."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import attrs

from resilio._native.sse import members

if TYPE_CHECKING:
    from resilio._policies.pool.endpoint import Endpoint
    from resilio.integrations.llm._estimate import Estimates

__all__ = ["ModelCall", "call_of"]

_LIMITS = (b"max_tokens", b"max_completion_tokens", b"max_output_tokens")
_NOTHING = (None, None, None)
_ANSWERED_AT_ONCE = frozenset(
    {"completions", "compact", "count_tokens", "embeddings", "input_tokens", "messages", "moderations", "responses"}
)


@attrs.frozen(eq=False)
class ModelCall:
    """
    One call to a provider, the only argument of cost functions and keys of a client's policy.

    Attributes:
        provider: "openai" or "anthropic".

        host: The host of the URL.

        endpoint: The path of the URL.

        model: The requested model; None if the request has none.

        streamed: Whether the request asks for a stream of events.

        whole: Whether the whole answer is read before the caller receives any of it.

        max_tokens: Upper bound on the answer's tokens, of all its choices; None if the request has none.

        size: Bytes of the request's body.

        estimate: Expected cost in tokens: "input_tokens", "output_tokens" and their sum, "tokens".
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
    """The exchange that sends the call; not for policies."""

    @property
    def endpoints(self) -> tuple[Endpoint, ...]:
        """The endpoints of the client's pool, any of which may answer; none without a pool."""
        providers = self.exchange.guard.providers
        return () if providers is None else providers.pool.endpoints


class OneShotCall(ModelCall):
    """A call whose body can be sent only once, like that of an upload; it is not replayable."""

    _resilio_replay = False
    """Not even with `replayable=True` of a retry: the body would be empty."""

    def __next__(self) -> None:
        """Raise StopIteration. An argument that has this method counts as used up after one attempt."""
        raise StopIteration


def _content(request: Any) -> bytes | None:
    """Return the bytes of the request's body; None if it is a stream, which can be sent once."""
    try:
        content: bytes = request.content
    except Exception:  # noqa: BLE001 - RequestNotRead of httpx or httpx2, which are not imported here
        return None
    return content


def call_of(provider: str, request: Any, estimates: Estimates, exchange: Any) -> ModelCall:
    """
    Return the call that a request makes.

    Args:
        provider: "openai" or "anthropic".

        request: A request of httpx or httpx2.

        estimates: Recent cost of the models' calls.

        exchange: The exchange that will send the request.
    """
    content = _content(request)
    body, endpoint = content or b"", request.url.path
    asks, size = body.startswith(b"{") and request.method == "POST", len(body)
    model, stream, choices, *limits = members(body, b"model", b"stream", b"n", *_LIMITS) if asks else _NOTHING
    model, streamed = model if isinstance(model, str) else None, stream is True
    most = min((limit for limit in limits if isinstance(limit, int)), default=None)
    if most is not None and isinstance(choices, int):  # each choice may have as many
        most *= max(choices, 1)
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
