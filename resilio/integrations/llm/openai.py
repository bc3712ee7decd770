"""
The OpenAI SDK under guard: `client = guard(AsyncOpenAI(), standard("openai", on="model"))`.

Each request is one call of the policy, until the last byte of its answer. A rejection is the SDK's own exception, after
exactly one attempt. Not covered: realtime sessions over WebSockets, and tokens that a background request costs after
its response.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any, Literal, TypeVar

from resilio._failures.retry_after import LONGEST_PAUSE
from resilio._options.validators import reject
from resilio._policy.types import Time
from resilio._support.extras import missing
from resilio.integrations.llm._dialects import OPENAI
from resilio.integrations.llm._guard import guard_client, guard_of

try:
    sdk: Any = import_module("openai")
except ImportError as _error:
    raise missing("llm.openai", "openai", _error) from _error

if TYPE_CHECKING:
    from resilio._policy.base import Policy

__all__ = ["guard", "guard_of"]

C = TypeVar("C")


def guard(
    client: C,
    policy: Policy[Any],
    *,
    whole_answers: bool = True,
    max_pause: Time = LONGEST_PAUSE,
    resume: Literal["restart"] | None = None,
) -> C:
    """
    Guard a client by a policy, in place, and return it; copies made by its `with_options` are guarded too.

    If the policy has a retry, `max_retries` becomes 0: each logical call has one owner of retries and one budget.

    Args:
        client: `OpenAI()`, `AsyncOpenAI()` or one of their kind, with any HTTP client of its own.
        policy: The policy; its cost functions and keys receive a :class:`resilio.integrations.llm.ModelCall`. The
            endpoints of a pool have a client of this SDK each, in `use`, and the model's name there as label `model`.
        whole_answers: Raise `APIConnectionError` if a stream ends before its answer does; False: do not raise.
        max_pause: Most seconds, >= 0, for which a 429's Retry-After stops all calls of the policy's rate limits.
        resume: What is done for a stream that breaks after its first byte. None: its reader gets the error. "restart":
            the answer is shown once it is whole, so that a retry of the policy can begin it anew.

    Raises:
        TypeError: Not a client of this SDK, or not a policy.
        ValueError: The client is guarded already, or the policy has a fallback.
    """
    if not isinstance(client, (sdk.OpenAI, sdk.AsyncOpenAI)):
        reject("client", client, "an OpenAI or AsyncOpenAI", TypeError)
    return guard_client(client, policy, OPENAI, sdk, whole_answers=whole_answers, max_pause=max_pause, resume=resume)
