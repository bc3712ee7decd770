"""
The parts of an error or an answer that may hold advice: headers, body, structured content, metadata and labels.

No part is read from a connection: a body counts only if the client has read it already.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any

from resilio._failures import aws
from resilio._failures.server_advice import HEADERS

__all__ = ["HINTS", "bodies_of", "has_label", "headers_of", "holders", "metadata_of", "told_in"]

HINTS = (
    "retry_after",
    "response",
    "headers",
    "trailing_metadata",
    "details",
    "body",
    "has_error_label",
    "structured_content",
    "structuredContent",
    "error",
)
"""The attributes by which an error or an answer holds advice; one without any of them has none."""

_LONGEST_BODY = 16 * 1024
_BUSY = frozenset({429, 503})


def holders(subject: object) -> Iterator[Any]:
    """Yield the objects that may hold the parts: the response of an exception, then the exception or answer itself."""
    response = getattr(subject, "response", None)
    if response is not None:
        yield response
    yield subject


def headers_of(holder: Any) -> dict[str, Any]:
    """
    Return those headers that the table knows, by their names in lower case.

    Several headers of one name, as proxies add them, are joined by commas.

    Args:
        holder: A response or an exception with `headers`, or an answer of botocore.
    """
    headers: Any = aws.headers_of(holder) if isinstance(holder, dict) else getattr(holder, "headers", None)
    found: dict[str, Any] = {}
    for key, value in headers.items() if hasattr(headers, "items") else ():
        name = str(_text(key)).lower()
        if name in HEADERS:
            found[name] = f"{found[name]},{_text(value)}" if name in found else _text(value)
    return found


def _text(value: Any) -> Any:
    return value.decode("ascii", "replace") if isinstance(value, bytes) else value


def bodies_of(holder: Any) -> Iterator[Any]:
    """Yield the parsed bodies of a 429 or a 503: those that an SDK's error keeps, or the JSON of a response."""
    statuses = [getattr(holder, name, None) for name in ("status_code", "status", "code")]
    if not any(isinstance(status, int) and status in _BUSY for status in statuses):
        return
    for name in ("details", "body"):
        yield getattr(holder, name, None)
    content = _content(holder)
    if content.lstrip()[:1] in (b"{", b"["):
        yield json.loads(content)


def _content(response: Any) -> bytes:
    """Return a body that is here, empty if it is not or is too long."""
    raw = getattr(response, "raw", None)  # in requests, where `content` would wait for the connection
    if raw is not None and getattr(raw, "closed", False) is not True:
        return b""
    try:
        content = getattr(response, "content", None)
    except Exception:  # noqa: BLE001 - httpx raises if the body is not read
        return b""
    return content if isinstance(content, bytes) and len(content) <= _LONGEST_BODY else b""


def told_in(subject: Any) -> dict[str, Any]:
    """Return the structured content of a tool's result, or the data of an error of MCP; empty if it is no object."""
    found = getattr(subject, "structured_content", None) or getattr(subject, "structuredContent", None)
    if found is None:
        found = getattr(getattr(subject, "error", None), "data", None)
    return found if isinstance(found, dict) else {}


def metadata_of(holder: Any, name: str) -> Any:
    """Return the value of trailing metadata of gRPC, None if there is none."""
    metadata = getattr(holder, "trailing_metadata", None)
    if not callable(metadata):
        return None
    pairs: Any = metadata() or ()
    return next((value for key, value in pairs if key == name), None)


def has_label(holder: Any, label: str) -> bool:
    """Return True if an error of MongoDB has a label."""
    ask = getattr(holder, "has_error_label", None)
    return callable(ask) and ask(label) is True
