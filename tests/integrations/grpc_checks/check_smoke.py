"""One guarded channel, as `test_smoke.py` asks of every client."""

from __future__ import annotations

import pytest
from grpc import aio
from servers.grpc_service import Code, Served, ends

from resilio import CircuitOpenError, circuit_breaker
from resilio.integrations.grpc import interceptors

pytestmark = pytest.mark.anyio


async def test_a_guarded_channel(served: Served) -> None:
    """A call that succeeds, one that fails, and one that an open breaker rejects."""
    breaker = circuit_breaker(consecutive=1)
    async with served.channel(interceptors(breaker)) as channel:
        assert await channel.unary_unary("/s/echo")(b"a") == b"a"
        with pytest.raises(aio.AioRpcError) as failed:
            await channel.unary_unary("/s/aborts")(b"UNAVAILABLE")
        with pytest.raises(CircuitOpenError):
            await channel.unary_unary("/s/echo")(b"a")
    assert failed.value.code() is Code.UNAVAILABLE
    assert ends(breaker) == (1, 1, 0)
    assert served.service.calls == {"echo": 1, "aborts": 1}
