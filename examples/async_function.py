"""A circuit breaker around an async function: `python examples/async_function.py`."""

from __future__ import annotations

import asyncio

from local_server import LocalServer

from resilio import CircuitOpenError, circuit_breaker


@circuit_breaker("forecast")
async def forecast(port: int) -> str:
    """Ask how the weather will be."""
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    writer.write(b"GET / HTTP/1.0\r\n\r\n")
    head, _, body = (await reader.read()).partition(b"\r\n\r\n")
    writer.close()
    if b" 200 " not in head:
        raise ConnectionError(head.splitlines()[0].decode())
    return body.decode()


async def main() -> None:
    """Ask while the server is well, while it is broken, and once it is mended."""
    with LocalServer() as server:
        print("while it is well:", await forecast(server.port))

        server.broken = True
        results = []
        for _ in range(20):  # batches of ten calls at once
            results += await asyncio.gather(*(forecast(server.port) for _ in range(10)), return_exceptions=True)
        rejected = [result for result in results if isinstance(result, CircuitOpenError)]
        failed = len(results) - len(rejected)
        print(f"while it is broken: {failed} calls failed, {len(rejected)} were rejected and never reached it")

        server.broken = False
        await asyncio.sleep(max(error.retry_after or 0.0 for error in rejected))
        print("once it is mended:", await forecast(server.port))


if __name__ == "__main__":
    asyncio.run(main())
