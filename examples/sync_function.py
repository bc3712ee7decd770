"""A circuit breaker around a plain function: `python examples/sync_function.py`."""

from __future__ import annotations

import time
import urllib.error
import urllib.request

from local_server import LocalServer

from resilio import CircuitOpenError, circuit_breaker


@circuit_breaker("forecast")
def forecast(url: str) -> str:
    """Ask how the weather will be."""
    with urllib.request.urlopen(url, timeout=2.0) as response:  # noqa: S310  # the server below
        answer: bytes = response.read()
        return answer.decode()


def main() -> None:
    """Ask while the server is well, while it is broken, and once it is mended."""
    with LocalServer() as server:
        print("while it is well:", forecast(server.url))

        server.broken = True
        failed = rejected = 0
        wait = 0.0
        for _ in range(1_000):
            try:
                forecast(server.url)
            except CircuitOpenError as error:
                rejected += 1
                wait = error.retry_after or wait
            except urllib.error.HTTPError as error:
                error.close()
                failed += 1
            if rejected == 100:
                break
        print(f"while it is broken: {failed} calls failed, {rejected} were rejected and never reached it")

        server.broken = False
        time.sleep(wait)
        print("once it is mended:", forecast(server.url))


if __name__ == "__main__":
    main()
