"""
The delay in `google.rpc.RetryInfo`, as JSON in the body of an answer, and as protobuf in metadata of gRPC.

Two messages with five fields are read here, so that neither protobuf nor googleapis needs to be installed.

Source: google/rpc/status.proto, google/rpc/error_details.proto; protobuf's encoding, "Message Structure".
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from resilio._failures.server_advice import RETRY_INFO
from resilio._failures.wire_times import duration

__all__ = ["in_json", "in_protobuf"]

_WIDTHS = {1: 8, 5: 4}
"""Bytes of values of fixed width, by wire type."""
_VARINT, _BYTES = 0, 2


def in_json(body: Any) -> float | None:
    """
    Return the longest delay in the parsed body of an error; None: it has none.

    Args:
        body: The JSON, with or without its outer "error", or a list of one, as Gemini answers in OpenAI's format.
    """
    if isinstance(body, list):
        body = body[0] if len(body) == 1 else None
    error = body.get("error", body) if isinstance(body, dict) else None
    details = error.get("details") if isinstance(error, dict) else None
    delays = (_delay_of(one) for one in details) if isinstance(details, list) else ()
    return max((delay for delay in delays if delay is not None), default=None)


def _delay_of(detail: Any) -> float | None:
    kind = detail.get("@type") if isinstance(detail, dict) else None
    return duration(detail.get("retryDelay")) if _is_retry_info(kind) else None


def _is_retry_info(kind: Any) -> bool:
    return isinstance(kind, str) and kind.rpartition("/")[2] == RETRY_INFO


def in_protobuf(status: bytes) -> float | None:
    """
    Return the longest delay in a serialised `google.rpc.Status`; None: it has none.

    Raises:
        ValueError: It is malformed.

        IndexError: It is cut off.
    """
    delays = []
    for number, detail in _fields(status):
        if number == 3:  # `details`: an Any has a URL and a message
            parts = dict(_fields(detail))
            if _is_retry_info(parts[1].decode("ascii")):
                time = dict(_fields(dict(_fields(parts[2]))[1]))
                delays.append(_signed(time.get(1, 0)) + time.get(2, 0) / 1e9)
    return max(delays, default=None)


def _fields(message: bytes) -> Iterator[tuple[int, Any]]:
    """Yield the number and the value of each field: an int for a varint, else bytes."""
    at = 0
    while at < len(message):
        tag, at = _varint(message, at)
        if tag & 7 == _VARINT:
            value, at = _varint(message, at)
            yield tag >> 3, value
            continue
        width, at = _varint(message, at) if tag & 7 == _BYTES else (_WIDTHS[tag & 7], at)
        if at + width > len(message):
            raise ValueError("a field reaches beyond its message")
        yield tag >> 3, message[at : at + width]
        at += width


def _varint(message: bytes, at: int) -> tuple[int, int]:
    """Return a number in groups of seven bits, the lowest first, and the place behind it."""
    value = 0
    for shift in range(0, 70, 7):
        byte = message[at]
        at += 1
        value |= (byte & 0x7F) << shift
        if byte < 0x80:
            return value, at
    raise ValueError("a number is longer than ten bytes")


def _signed(value: int) -> int:
    return value - 2**64 if value >= 2**63 else value
