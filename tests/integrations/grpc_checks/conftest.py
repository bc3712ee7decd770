"""What all checks of grpc.aio share: one event loop, for grpcio may yet have something to say to one that is closed."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from typing import TYPE_CHECKING

import pytest

import resilio

if TYPE_CHECKING:
    from servers.grpc_service import Served


def pytest_configure(config: pytest.Config) -> None:
    """Let calls of grpcio 1.62 raise when they are dropped: the error of the call, in any later test."""
    config.addinivalue_line(
        "filterwarnings", "ignore:.*InterceptedCall.__del__:pytest.PytestUnraisableExceptionWarning"
    )


@pytest.fixture(scope="session")
def anyio_backend() -> str:
    """The client runs on asyncio only."""
    return "asyncio"


@pytest.fixture(scope="session", autouse=True)
async def one_loop(anyio_backend: str) -> AsyncIterator[None]:
    """Keep the event loop of the first test until the last has ended."""
    yield
    await asyncio.sleep(0.05)


@pytest.fixture
async def served(anyio_backend: str) -> AsyncIterator[Served]:
    """A server without interceptors."""
    from servers.grpc_service import serve  # this file is read wherever tests are collected, grpcio or not

    running = await serve()
    yield running
    await running.server.stop(None)


@pytest.fixture
def breaker() -> resilio.CircuitBreaker:
    """A breaker that only counts."""
    return resilio.circuit_breaker(consecutive=1000, min_calls=200)
