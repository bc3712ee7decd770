"""What all checks of grpc.aio share."""

from __future__ import annotations

from collections.abc import AsyncIterator

import pytest
from servers.grpc_service import Served, serve

import resilio


@pytest.fixture
def anyio_backend() -> str:
    """The client runs on asyncio only."""
    return "asyncio"


@pytest.fixture
async def served(anyio_backend: str) -> AsyncIterator[Served]:
    """A server without interceptors."""
    running = await serve()
    yield running
    await running.server.stop(None)


@pytest.fixture
def breaker() -> resilio.CircuitBreaker:
    """A breaker that only counts."""
    return resilio.circuit_breaker(consecutive=1000, min_calls=200)
