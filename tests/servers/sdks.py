"""The SDKs of model providers, spoken to in one way, against a provider on loopback."""

from __future__ import annotations

import importlib
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, contextmanager, suppress
from typing import Any

import pytest
from servers.misbehaving import Misbehaving
from servers.models import Anthropic, OpenAI, Responses, Wire

__all__ = ["SDKS", "Sdk", "one_sdk"]

for _name in ("openai", "anthropic"):  # seconds, which are no test's
    with suppress(ImportError):
        importlib.import_module(_name)

SAID = [{"role": "user", "content": "say something"}]


class Sdk:
    """One SDK in one wire format; `module` and `llm` (ours) are imported when they are asked for."""

    def __init__(self, name: str, wire: Wire, asynchronous: str, synchronous: str) -> None:
        self.name = name
        self.wire = wire
        self._classes = {True: asynchronous, False: synchronous}

    @property
    def module(self) -> Any:
        return importlib.import_module(self.wire.name)

    @property
    def llm(self) -> Any:
        return importlib.import_module(f"resilio.integrations.llm.{self.wire.name}")

    @property
    def http(self) -> Any:
        """The HTTP client's module that the SDK prefers."""
        classes = self.module.DefaultAsyncHttpxClient.__mro__
        return importlib.import_module(
            next(name for name in (cls.__module__.partition(".")[0] for cls in classes) if name.startswith("httpx"))
        )

    def bare(self, server: Misbehaving, *, is_async: bool = True, **options: Any) -> Any:
        """A client that nothing guards."""
        base = server.url if self.wire.name == "anthropic" else f"{server.url}/v1"
        return getattr(self.module, self._classes[is_async])(base_url=base, api_key="key", **options)

    @asynccontextmanager
    async def client(self, server: Misbehaving, policy: Any, **options: Any) -> AsyncIterator[Any]:
        """A guarded client, to be closed."""
        async with self.llm.guard(self.bare(server), policy, **options) as client:
            yield client

    @contextmanager
    def sync_client(self, server: Misbehaving, policy: Any, **options: Any) -> Iterator[Any]:
        """The same for threads."""
        with self.llm.guard(self.bare(server, is_async=False), policy, **options) as client:
            yield client

    def endpoint(self, client: Any) -> Any:
        """What of a client is asked."""
        if isinstance(self.wire, Responses):
            return client.responses
        return client.chat.completions if isinstance(self.wire, OpenAI) else client.messages

    @property
    def asked(self) -> dict[str, Any]:
        """What it is asked."""
        if isinstance(self.wire, Responses):
            return {"model": "m", "input": "say something"}
        asked = {"model": "m", "messages": SAID}
        return asked if isinstance(self.wire, OpenAI) else {**asked, "max_tokens": 64}

    def ask(self, client: Any, **more: Any) -> Any:
        """Ask for a whole answer; to be awaited if the client is async."""
        return self.endpoint(client).create(**{**self.asked, **more})

    def stream(self, client: Any, **more: Any) -> Any:
        """Ask for a stream."""
        return self.ask(client, stream=True, **more)

    def text(self, answer: Any) -> str:
        """What a whole answer says."""
        if isinstance(self.wire, Responses):
            return str(answer.output_text)
        if isinstance(self.wire, OpenAI):
            return str(answer.choices[0].message.content)
        return str(answer.content[0].text)

    def said(self, event: Any) -> str:
        """What one event adds to the answer."""
        if isinstance(self.wire, Responses):
            return str(event.delta) if event.type == "response.output_text.delta" else ""
        if isinstance(self.wire, OpenAI):
            return str(event.choices[0].delta.content or "") if event.choices else ""
        return str(event.delta.text) if event.type == "content_block_delta" else ""

    def __repr__(self) -> str:
        return self.name


SDKS = [
    Sdk("openai", OpenAI(), "AsyncOpenAI", "OpenAI"),
    Sdk("openai-responses", Responses(), "AsyncOpenAI", "OpenAI"),
    Sdk("anthropic", Anthropic(), "AsyncAnthropic", "Anthropic"),
]

one_sdk = pytest.mark.parametrize("sdk", SDKS[:1], indirect=True, ids=repr)
"""For a scene that is ours: what an SDK does in it, other tests ask of each, by a request or two."""
