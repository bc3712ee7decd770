"""Static files of the page: HTML, modules, a style sheet and an icon, with entity tags for the browser's cache."""

from __future__ import annotations

from functools import cache
from hashlib import blake2s
from importlib.resources import files
from pathlib import PurePath

import attrs

from resilio.live._http import Answer, Request

__all__ = ["answer", "names"]

_KINDS = {
    ".html": "text/html; charset=utf-8",
    ".css": "text/css; charset=utf-8",
    ".js": "text/javascript; charset=utf-8",
    ".svg": "image/svg+xml",
}


@attrs.frozen
class _File:
    body: bytes
    kind: str
    tag: str  # a hash of the contents


@cache
def _all() -> dict[str, _File]:
    found = {}
    for file in files("resilio.live").joinpath("static").iterdir():
        body = file.read_bytes()
        name = "" if file.name == "index.html" else file.name
        found[name] = _File(body, _KINDS[PurePath(file.name).suffix], f'"{blake2s(body, digest_size=10).hexdigest()}"')
    return found


def names() -> frozenset[str]:
    """Return the last path segments that name the files; the page itself has the empty one."""
    return frozenset(_all())


def answer(request: Request) -> Answer:
    """Return the requested file, or 304 if the browser's entity tag still matches; browsers revalidate each time."""
    file = _all()[request.page]
    headers = ((b"cache-control", b"no-cache"), (b"etag", file.tag.encode()))
    if file.tag in request.header("if-none-match"):
        return Answer(b"", file.kind, 304, headers)
    return Answer(file.body, file.kind, 200, headers)
