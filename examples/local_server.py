"""A dependency for the examples: a small HTTP server on this machine that can be told to break."""

from __future__ import annotations

import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from types import TracebackType
from typing import Any, Self


class LocalServer:
    """
    Serves while its block lasts: 200, or 503 while `broken` is true.

    Attributes:
        url: Where it is.

        port: The port alone, on 127.0.0.1.

        broken: Set it to break the server, clear it to mend it.

        requests: How many requests have reached it.
    """

    def __init__(self) -> None:
        self.broken = False
        self.requests = 0
        outer = self

        class Handler(BaseHTTPRequestHandler):
            def do_GET(self) -> None:
                outer.requests += 1
                body = b"out of order" if outer.broken else b"sunny"
                self.send_response(503 if outer.broken else 200)
                self.send_header("Content-Length", str(len(body)))
                self.end_headers()
                self.wfile.write(body)

            def log_message(self, format: str, *_arguments: Any) -> None:  # noqa: A002  # as the base has it
                """Say nothing: the example speaks."""

        self._server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self._server.daemon_threads = True
        self.port = self._server.server_port
        self.url = f"http://127.0.0.1:{self.port}"

    def __enter__(self) -> Self:
        threading.Thread(target=self._server.serve_forever, args=(0.05,), daemon=True).start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._server.shutdown()
        self._server.server_close()
