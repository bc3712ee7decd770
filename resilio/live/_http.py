"""HTTP for the page: requests, responses in one piece, and access control."""

from __future__ import annotations

import hmac
import json
from collections.abc import Awaitable, Callable, Iterable, Mapping
from ipaddress import ip_address
from typing import Any

import attrs

__all__ = [
    "HEADERS",
    "Answer",
    "Rejected",
    "Request",
    "Tokens",
    "check_sendable",
    "is_loopback",
    "no_cross_site",
    "read_json",
]

Scope = Mapping[str, Any]
Receive = Callable[[], Awaitable[Mapping[str, Any]]]
Send = Callable[[dict[str, Any]], Awaitable[None]]

MOST_BYTES = 8192
"""Maximum size of a request's body."""

LEAST_TOKEN = 16
"""Minimum number of characters: shorter tokens can be guessed."""

_POLICY = (
    "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self'; connect-src 'self'; "
    "base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
)
HEADERS: tuple[tuple[bytes, bytes], ...] = (
    (b"content-security-policy", _POLICY.encode()),
    (b"x-content-type-options", b"nosniff"),
    (b"x-frame-options", b"DENY"),
    (b"referrer-policy", b"no-referrer"),
    (b"cross-origin-resource-policy", b"same-origin"),
    (b"cache-control", b"no-store"),
)
"""Headers of every response, unless it sets its own."""


class Rejected(Exception):  # noqa: N818 - an answer, not a defect
    """
    The request is answered with an error.

    Args:
        status: The HTTP status.

        text: The reason, in a sentence.

        headers: Further headers of the response.
    """

    def __init__(self, status: int, text: str, headers: Iterable[tuple[bytes, bytes]] = ()) -> None:
        super().__init__(text)
        self.status = status
        self.text = text
        self.headers = tuple(headers)


@attrs.frozen
class Answer:
    """A response in one piece."""

    body: bytes
    kind: str = "application/json"
    status: int = 200
    headers: tuple[tuple[bytes, bytes], ...] = ()

    async def send(self, send: Send, *, head: bool = False) -> None:
        """Send the response, without its body for a HEAD request."""
        length = (b"content-length", str(len(self.body)).encode())
        kind = (b"content-type", self.kind.encode())
        own = {name for name, _ in self.headers}
        headers = [kind, length, *(header for header in HEADERS if header[0] not in own), *self.headers]
        await send({"type": "http.response.start", "status": self.status, "headers": headers})
        await send({"type": "http.response.body", "body": b"" if head else self.body})

    @classmethod
    def of(cls, error: Rejected) -> Answer:
        """Return the response for an error."""
        return cls(json.dumps({"error": error.text}).encode(), status=error.status, headers=error.headers)


class Request:
    """One request to the page."""

    def __init__(self, scope: Scope, receive: Receive) -> None:
        """Parse the head of a request; the body is not read."""
        self.receive = receive
        self.method: str = scope["method"]
        self.headers: dict[bytes, bytes] = {}
        for name, value in scope["headers"]:
            lower = name.lower()
            self.headers[lower] = self.headers[lower] + b", " + value if lower in self.headers else value
        self.query: bytes = scope.get("query_string", b"")
        root, path = scope.get("root_path", "") or "", scope["path"]
        self.path: str = path
        self.rest: str = path[len(root) :] if root and path.startswith(root) else path
        self.client: str = (scope.get("client") or ("unknown",))[0]

    def header(self, name: str) -> str:
        """Return a header's value, or an empty string; ASGI headers are always Latin-1."""
        return self.headers.get(name.encode(), b"").decode("latin-1")

    @property
    def host(self) -> str:
        """Name in the Host header, in lower case and without a port; of an IPv6 address without its brackets."""
        named = self.header("host").lower()
        before, _, port = named.rpartition(":")
        return (before if port.isdecimal() else named).strip("[]")

    @property
    def page(self) -> str:
        """Last segment of the path, so that the app works wherever it is mounted."""
        return self.rest.rpartition("/")[2]


class Tokens:
    """
    Access control by bearer tokens, for viewing and for operating.

    Args:
        operate: Token required for operations; None: operations are disabled.

        read: Token required for viewing; None: any client may view.

    Raises:
        ValueError: A token has fewer than 16 characters, or cannot be sent in a header.
    """

    def __init__(self, operate: str | None, read: str | None) -> None:
        for name, token in (("token", operate), ("read_token", read)):
            if token is not None:
                check_sendable(name, token)
                if len(token) < LEAST_TOKEN:
                    raise ValueError(f"{name} must have at least {LEAST_TOKEN} characters, not {len(token)}")
        self._operate = operate
        self._read = read

    @property
    def operations(self) -> bool:
        """True if operations are enabled."""
        return self._operate is not None

    def check_read(self, request: Request) -> None:
        """Raise Rejected unless the client may view the page; the operate token suffices."""
        if self._read is not None and not _has(request, self._read, self._operate):
            raise _unauthorized("to look takes the read token: Authorization: Bearer ...")

    def check_operate(self, request: Request) -> None:
        """Raise Rejected unless the client may operate."""
        if self._operate is None:
            raise Rejected(403, "this page is read-only: no token is configured")
        if not _has(request, self._operate):
            raise _unauthorized("operations take the token: Authorization: Bearer ...")


def is_loopback(host: str) -> bool:
    """Return True for an address of this machine alone, and for a name that browsers never ask a server for."""
    try:
        return ip_address(host.strip("[]")).is_loopback
    except ValueError:
        return f".{host.lower()}".endswith(".localhost")


def check_sendable(name: str, token: str) -> None:
    """Raise ValueError for a token that no header can carry, such as one with the newline of the file it came from."""
    if not (token.isascii() and token.isprintable()) or token != token.strip():
        raise ValueError(f"{name} must be printable ASCII without blanks at its ends, to be sent in a header")


def _has(request: Request, *tokens: str | None) -> bool:
    """Return True if the request carries one of the tokens; compares them in constant time."""
    scheme, _, given = request.header("authorization").partition(" ")
    sent = given.strip().encode("latin-1") if scheme.lower() == "bearer" else b""
    same = [hmac.compare_digest(sent, token.encode()) for token in tokens if token is not None]
    return any(same)


def _unauthorized(text: str) -> Rejected:
    return Rejected(401, text, [(b"www-authenticate", b'Bearer realm="resilio"')])


def no_cross_site(request: Request) -> None:
    """Raise Rejected for a request from another site's page, by the headers that browsers set."""
    site, origin = request.header("sec-fetch-site"), request.header("origin")
    if site == "same-origin":
        return
    if site or (origin and origin.partition("://")[2] != request.header("host")):
        raise Rejected(403, "operations are rejected from other sites")


async def read_json(request: Request) -> Any:
    """
    Return the body, parsed as JSON of at most 8192 bytes.

    Raises:
        Rejected: Another content type, more than 8192 bytes (by Content-Length, or read so far), or no JSON.
    """
    if request.header("content-type").partition(";")[0].strip().lower() != "application/json":
        raise Rejected(415, "send application/json")
    length = request.header("content-length")
    if length and (not length.isdecimal() or len(length) > 9 or int(length) > MOST_BYTES):
        raise Rejected(413, f"send at most {MOST_BYTES} bytes")
    body, more = b"", True
    while more:
        message = await request.receive()
        if message["type"] == "http.disconnect":
            raise Rejected(400, "the request ended before its body")
        body += message.get("body", b"")
        more = message.get("more_body", False)
        if len(body) > MOST_BYTES:
            raise Rejected(413, f"send at most {MOST_BYTES} bytes")
    try:
        return json.loads(body)
    except (ValueError, RecursionError):
        raise Rejected(400, "the body is no JSON") from None
