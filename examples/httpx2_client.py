"""A circuit breaker around the calls of an httpx2 client: `python examples/httpx2_client.py`."""

from __future__ import annotations

import asyncio

import httpx2
from local_server import LocalServer

from resilio import CircuitOpenError, circuit_breaker


@circuit_breaker("forecast", on="http")
async def forecast(client: httpx2.AsyncClient) -> str:
    """Ask how the weather will be."""
    response = await client.get("/today")
    return response.raise_for_status().text


async def main() -> None:
    """Ask while the server is well, while it is broken, and once it is mended."""
    with LocalServer() as server:
        async with httpx2.AsyncClient(base_url=server.url, timeout=2.0, trust_env=False) as client:
            print("while it is well:", await forecast(client))

            server.broken = True
            results = []
            for _ in range(20):  # batches of ten calls at once
                results += await asyncio.gather(*(forecast(client) for _ in range(10)), return_exceptions=True)
            rejected = [result for result in results if isinstance(result, CircuitOpenError)]
            failed = len(results) - len(rejected)
            print(f"while it is broken: {failed} calls failed, {len(rejected)} were rejected and never reached it")

            server.broken = False
            await asyncio.sleep(max(error.retry_after or 0.0 for error in rejected))
            print("once it is mended:", await forecast(client))


if __name__ == "__main__":
    asyncio.run(main())
