"""A chat completion of OpenAI's format, read to its end; litellm's answers have the same shape."""

from __future__ import annotations

from typing import Any

from benchmarks.failover._evidence import Answer

__all__ = ["STREAMED", "read"]

STREAMED = {"stream": True, "stream_options": {"include_usage": True}}
"""The options of a streamed answer that reports its usage."""


async def read(answer: Any, *, stream: bool) -> Answer:
    """
    Return a whole answer, or a streamed one once it has ended.

    Args:
        answer: Of `create`.

        stream: Whether it is streamed.
    """
    if stream:
        return await _read_stream(answer)
    return Answer(
        answer.choices[0].message.content or "", answer.model, answer.usage and answer.usage.completion_tokens
    )


async def _read_stream(answer: Any) -> Answer:
    parts, model, tokens = [], "", None
    async for chunk in answer:
        model = chunk.model or model
        if usage := getattr(chunk, "usage", None):
            tokens = usage.completion_tokens
        parts += [choice.delta.content or "" for choice in chunk.choices]
    return Answer("".join(parts), model, tokens)
