"""
A pool of two guarded clients.

The guard of a client repeats at the same provider what may be over in a moment, and gives a silent provider up. The
pool goes to the other provider with all that is left, unless the request is at fault wherever it goes. What it repeats
is a function that reads the answer to its end, so a stream that broke begins again from the start.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from typing import Any

import anthropic
import attrs
import openai

from benchmarks.failover._evidence import FALLBACK, PRIMARY, Answer
from benchmarks.failover._play import PROMPT, Ask, Place
from benchmarks.failover.systems._chat import STREAMED, read
from resilio import Endpoint, Policy, circuit_breaker, pipeline, pool, retry, timeout
from resilio.integrations import llm
from resilio.integrations.llm import anthropic as guarded_anthropic
from resilio.integrations.llm import openai as guarded_openai

__all__ = ["POOL", "Pooled"]

Chat = Callable[[str], Awaitable[Answer]]
"""Asks one provider, by the name of a model."""
_SILENCE = 10.0  # seconds until the first token, and between two; or until a whole answer


def _guards(label: str, stream: bool) -> Policy[Any]:
    silent = (TimeoutError, openai.APITimeoutError, anthropic.APITimeoutError)
    again = retry(on="model", idempotent=True, ignore=silent, name=f"{label} again")
    clocks: Any = {"first": _SILENCE, "idle": _SILENCE} if stream else {"total": _SILENCE}
    return pipeline(again, timeout(**clocks, name=f"{label} silence"))


def _helps_elsewhere(error: BaseException) -> bool:
    """Return True for what a guard has given up, unless the request is at fault; another model may have more room."""
    return llm.given_up(error) and (
        llm.meaning_of(error) != "terminal" or "context_length_exceeded" in str(getattr(error, "body", ""))
    )


@asynccontextmanager
async def _openai(label: str, url: str, stream: bool) -> AsyncIterator[Chat]:
    bare = openai.AsyncOpenAI(base_url=f"{url}/v1", api_key="key")
    async with guarded_openai.guard(bare, _guards(label, stream)) as client:

        async def chat(model: str) -> Answer:
            options: Any = STREAMED if stream else {}
            answer = await client.chat.completions.create(model=model, messages=PROMPT, **options)
            return await read(answer, stream=stream)

        yield chat


@asynccontextmanager
async def _anthropic(label: str, url: str, stream: bool) -> AsyncIterator[Chat]:
    bare = anthropic.AsyncAnthropic(base_url=url, api_key="key")
    async with guarded_anthropic.guard(bare, _guards(label, stream)) as client:

        async def chat(model: str) -> Answer:
            options: Any = {"model": model, "messages": PROMPT, "max_tokens": 100}
            if stream:
                async with client.messages.stream(**options) as answer:
                    message = await answer.get_final_message()
            else:
                message = await client.messages.create(**options)
            text = "".join(part.text for part in message.content if part.type == "text")
            return Answer(text, message.model, message.usage.output_tokens)

        yield chat


_Opened = Callable[[str, str, bool], AbstractAsyncContextManager[Chat]]
_SDKS: Mapping[str, _Opened] = {"anthropic": _anthropic, "openai": _openai}


@attrs.frozen
class Pooled:
    """
    The system under test: two providers, each with its SDK.

    Attributes:
        primary: The SDK of the endpoint on the first level: "anthropic" or "openai".

        fallback: That of the other one.
    """

    primary: str = "openai"
    fallback: str = "openai"
    name: str = "resilio"
    has_fallback: bool = True

    @asynccontextmanager
    async def opened(self, place: Place) -> AsyncIterator[Ask]:
        """Open both clients and a pool of them."""
        first = _SDKS[self.primary](f"{place.label} first", place.primary, place.stream)
        other = _SDKS[self.fallback](f"{place.label} other", place.fallback, place.stream)
        async with first as primary, other as fallback:
            models = pool(
                place.label,
                Endpoint(PRIMARY, level=0, use=primary),
                Endpoint(FALLBACK, level=1, use=fallback),
                each=lambda e: circuit_breaker(f"{place.label} {e.name}", on="model", consecutive=3),
            )
            elsewhere = retry(on=_helps_elsewhere, attempts=2, backoff=0.0, budget=None, name=f"{place.label} retry")

            @pipeline(elsewhere, models)
            async def ask(*, endpoint: Endpoint) -> Answer:
                answer: Answer = await endpoint.use(endpoint.target)
                return answer

            yield ask


POOL = Pooled()
