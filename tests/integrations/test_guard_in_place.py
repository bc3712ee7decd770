"""Clients that are guarded in place, when a version of theirs keeps its transports elsewhere."""

from __future__ import annotations

from typing import Any

import pytest

from resilio import circuit_breaker

SENT = pytest.importorskip("httpx2")


@pytest.mark.parametrize("kind", ["AsyncClient", "Client"])
@pytest.mark.parametrize("name", ["_transport", "_mounts"])
def test_a_client_that_keeps_its_transports_elsewhere_is_rejected(kind: str, name: str) -> None:
    """The list of private names said that it is rejected; what came was an AttributeError from the middle of it."""
    from resilio.integrations.httpx import guard_client

    client = getattr(SENT, kind)()
    delattr(client, name)
    with pytest.raises(TypeError, match=rf"has no {name}.*Transport\(policy\)"):
        guard_client(client, circuit_breaker())


@pytest.mark.parametrize("inside", [False, True], ids=["http client", "transports"])
def test_a_model_client_that_keeps_its_http_client_elsewhere_is_rejected(inside: bool) -> None:
    """The same for the clients of models, before anything of theirs is changed."""
    openai: Any = pytest.importorskip("openai")
    from resilio.integrations.llm.openai import guard

    client = openai.AsyncOpenAI(api_key="none", base_url="http://127.0.0.1:1")
    if inside:
        del client._client._mounts
    else:
        del client._client
    with pytest.raises(TypeError, match=r"it cannot be guarded in place; use a transport of"):
        guard(client, circuit_breaker())
