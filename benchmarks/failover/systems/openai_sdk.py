"""The OpenAI SDK alone, with the retries that it has by default; it knows one endpoint."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import openai

from benchmarks.failover._evidence import PRIMARY, Answer
from benchmarks.failover._play import PROMPT, Ask, Place
from benchmarks.failover.systems._chat import STREAMED, read

__all__ = ["BARE"]

_PATIENCE = 30.0  # seconds; its default of 600 would let the scenarios take hours


class _Bare:
    name = f"openai {openai.__version__}"
    has_fallback = False

    @asynccontextmanager
    async def opened(self, place: Place) -> AsyncIterator[Ask]:
        """Open a client of the primary."""
        timeout = openai.Timeout(_PATIENCE, connect=5.0)
        options: Any = STREAMED if place.stream else {}
        async with openai.AsyncOpenAI(base_url=f"{place.primary}/v1", api_key="key", timeout=timeout) as client:

            async def ask() -> Answer:
                answer = await client.chat.completions.create(model=PRIMARY, messages=PROMPT, **options)
                return await read(answer, stream=place.stream)

            yield ask


BARE = _Bare()
