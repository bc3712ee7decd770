"""The apps that worker processes serve: one policy, made when this is imported, and what a test asks of it."""

from __future__ import annotations

import json
import os
import time
from pathlib import Path
from typing import Any

import anyio
from servers.processes import die_with_parent

from resilio import bulkhead
from resilio.integrations import asgi, wsgi

gate = bulkhead(1, name="preloaded")
FOLDER = Path(os.environ["RESILIO_TEST_FOLDER"])
PRELOADED = os.environ.get("RESILIO_TEST_PRELOADED") == "1"
if PRELOADED:  # what the parent holds at the fork, the children do not
    held = gate.try_acquire()
os.register_at_fork(after_in_child=die_with_parent)
die_with_parent()  # where workers are spawned


def _counts() -> bytes:
    seen = gate.snapshot()
    return json.dumps({"pid": os.getpid(), "inflight": seen.inflight, "calls": seen.calls}).encode()


def _note_held() -> None:
    (FOLDER / f"held-{os.getpid()}").touch()


def _may_go() -> bool:
    return (FOLDER / "go").exists()


def _wsgi(environ: Any, start_response: Any) -> list[bytes]:
    path = environ["PATH_INFO"]
    if path == "/hold":
        _note_held()
        while not _may_go():
            time.sleep(0.002)
    body = _counts() if path == "/counts" else b"served"
    start_response("200 OK", [("Content-Type", "text/plain"), ("Content-Length", str(len(body)))])
    return [body]


async def _asgi(scope: Any, receive: Any, send: Any) -> None:
    if scope["type"] == "lifespan":
        while True:
            said = (await receive())["type"]
            await send({"type": f"{said}.complete"})
            if said == "lifespan.shutdown":
                return
    if scope["path"] == "/hold":
        _note_held()
        while not _may_go():  # noqa: ASYNC110 - it is another process that says so
            await anyio.sleep(0.002)
    body = _counts() if scope["path"] == "/counts" else b"served"
    headers = [(b"content-length", str(len(body)).encode())]
    await send({"type": "http.response.start", "status": 200, "headers": headers})
    await send({"type": "http.response.body", "body": body})


served_by_wsgi = wsgi.Middleware(_wsgi, gate, exempt=["/counts"])
served_by_asgi = asgi.Middleware(_asgi, gate, exempt=["/counts"])
