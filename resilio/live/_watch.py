"""`resilio watch`: the live page of a service of yours, run here, or of one that runs elsewhere."""

from __future__ import annotations

import argparse
import secrets
import sys
from collections.abc import Sequence
from http import HTTPStatus
from http.client import HTTPException
from typing import Any

import anyio.to_thread

from resilio.live._app import Live, live
from resilio.live._feed import Remote
from resilio.live._http import Answer, Receive, Rejected, Request, Scope, Send, Tokens
from resilio.live._hub import Hub
from resilio.live._serve import listen, serve
from resilio.live._targets import TargetError, check_asgi, is_address, load, remote

__all__ = ["Beside", "RemoteLive", "main"]

_EPILOG = """\
examples:
  resilio watch http://127.0.0.1:8000/resilio    the page mounted there, shown here
  resilio watch shop.main:app                    run this ASGI app here, with the page at /resilio/
  resilio watch shop.worker                      import this module, and show the policies it makes

RESILIO_LIVE_TOKEN (16 characters or more) allows operations, RESILIO_LIVE_READ_TOKEN is asked of who looks.
"""
_AT = "/resilio"


class RemoteLive(Live):
    """Read-only page of another process's policies; operations are possible on that process's own page."""

    def __init__(self, source: Remote, *, most: int = 64) -> None:
        """Serve the state of the other process."""
        hub = Hub(source, 1.0, secrets.token_hex(4), operations=False)
        super().__init__(hub, Tokens(None, None), hosts=None, most=most)
        self._source = source

    async def _data(self, request: Request) -> bytes:
        page = request.page + ("?" + request.query.decode("latin-1") if request.query else "")
        if not (page.isascii() and page.isprintable()) or " " in page:
            raise Rejected(400, "the query is not well-formed")
        try:
            status, body = await anyio.to_thread.run_sync(self._source.get, page)
        except (OSError, HTTPException) as error:
            raise Rejected(502, f"the process that is watched did not answer: {error}") from None
        if status != HTTPStatus.OK:
            raise Rejected(502 if status >= 500 else status, "the process that is watched rejected it")
        return body

    async def _operate(self, request: Request) -> Answer:  # noqa: ARG002 - the same for every request
        raise Rejected(403, "this page shows another process: operate on the page there")


class Beside:
    """
    Two ASGI apps as one: the page under a path, the other app everywhere else.

    Args:
        app: The other app.

        page: The live page.

        at: Path of the page.
    """

    def __init__(self, app: Any, page: Live, at: str = _AT) -> None:
        self._app = app
        self._page = page
        self._at = at

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Dispatch a request by its path."""
        path = scope.get("path", "")
        if scope["type"] == "http" and (path == self._at or path.startswith(f"{self._at}/")):
            await self._page({**scope, "root_path": self._at}, receive, send)
        else:
            await self._app(scope, receive, send)


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="resilio watch",
        description=__doc__,
        epilog=_EPILOG,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("target", help="an address, module:app, or a module")
    parser.add_argument("--host", default="127.0.0.1", help="where to listen (default: this machine only)")
    parser.add_argument("--port", type=int, default=8765, help="0: any that is free (default: 8765)")
    parser.add_argument("--show-keys", action="store_true", help="write out the keys of keyed policies")
    return parser


def main(argv: Sequence[str] | None = None) -> int:
    """
    Serve the page until Ctrl-C.

    Args:
        argv: The arguments without the program's name; None: those of the process.

    Returns:
        The exit code: 0, or 1 if the target cannot be watched or the port is in use.
    """
    options = _parser().parse_args(argv)
    try:
        app, path = _app(options)
    except TargetError as error:
        return _failed(str(error))
    try:
        sock = listen(options.host, options.port)
    except (OSError, OverflowError) as error:
        return _failed(f"cannot listen on {options.host}, port {options.port}: {error}")
    with sock:
        host = f"[{options.host}]" if ":" in options.host else options.host
        print(f"watching {options.target}: http://{host}:{sock.getsockname()[1]}{path}/", flush=True)
        try:
            serve(app, sock)
        except ImportError as error:
            return _failed(str(error))
    return 0


def _failed(why: str) -> int:
    print(f"resilio watch: {why}", file=sys.stderr)
    return 1


def _app(options: argparse.Namespace) -> tuple[Any, str]:
    """Return the app to serve and the path of the page."""
    if is_address(options.target):
        page: Live = RemoteLive(remote(options.target))
        page.listens_on(options.host)
        return page, ""
    try:
        page = live(show_keys=options.show_keys)
    except ValueError as error:  # a token of the environment
        raise TargetError(str(error)) from None
    page.listens_on(options.host)
    app = load(options.target)
    if app is None:
        return page, ""
    check_asgi(options.target, app)
    return Beside(app, page), _AT
