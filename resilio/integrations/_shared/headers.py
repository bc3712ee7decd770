"""
Deadlines, priorities and Retry-After in headers: one reader and one writer for all clients and servers.

A deadline is sent as the time left, never as a time of day, because two clocks need not agree. A header is foreign
input: a malformed value is ignored and counted. Reading never raises.
"""

from __future__ import annotations

import math
import random
import re
import sys
import threading
from typing import Any

from resilio._context import priority
from resilio._options.validators import ABSURD_SECONDS, reject
from resilio._support.after_fork import free_lock
from resilio._support.random_seed import seed64

__all__ = [
    "DEADLINE_HEADER",
    "check_header_name",
    "ignored_headers",
    "note_ignored",
    "read_deadline",
    "read_grpc_timeout",
    "read_priority",
    "read_tenant",
    "retry_after_header",
    "write_deadline",
    "write_grpc_timeout",
]

DEADLINE_HEADER = "x-request-timeout"
"""Default header for deadlines: the seconds left, as a decimal."""

LONGEST = 64
"""Longest value that is read, in characters."""

_DECIMAL = re.compile(r"[0-9]+(\.[0-9]*)?|\.[0-9]+", re.ASCII)
_NEGATIVE = re.compile(r"-([0-9]+(\.[0-9]*)?|\.[0-9]+)", re.ASCII)
_GRPC = re.compile(r"([0-9]{1,8})([HMSmun])", re.ASCII)
_GRPC_NS = {"n": 1, "u": 1_000, "m": 1_000_000, "S": 10**9, "M": 60 * 10**9, "H": 3600 * 10**9}
_GRPC_MOST = 99_999_999
_TOKEN = re.compile(r"[a-z0-9!#$%&'*+.^_`|~-]+", re.ASCII)

_ignored: dict[tuple[str, str], int] = {}
_counting = threading.Lock()
free_lock(sys.modules[__name__], "_counting")
_UNSAID: Any = object()
_random = random.Random(seed64())  # noqa: S311 - spreads clients, keeps no secret


def check_header_name(name: str, value: object, *, none_ok: bool = False) -> str | None:
    """
    Return a header's name in lower case; None stays None where `none_ok`.

    Args:
        name: The parameter, for the message.

        value: A token by RFC 9110, of any case.

        none_ok: Whether None is allowed.

    Raises:
        TypeError: Not a string.

        ValueError: Not a header's name.
    """
    if value is None and none_ok:
        return None
    right = "a header's name, like 'x-request-timeout'" + (", or None" if none_ok else "")
    if not isinstance(value, str):
        reject(name, value, right, TypeError)
    if _TOKEN.fullmatch(value.lower()) is None or not value.isascii() or len(value) > LONGEST:
        reject(name, value, right)
    return value.lower()


def note_ignored(header: str, why: str) -> None:
    """
    Count a header that is ignored.

    Args:
        header: The purpose of the header: "deadline", "priority" or "tenant".

        why: A label from a closed set: "untrusted", "repeated", "empty", "malformed", "negative", "huge".
    """
    with _counting:
        _ignored[header, why] = _ignored.get((header, why), 0) + 1


def ignored_headers() -> dict[tuple[str, str], int]:
    """Return the number of ignored headers by purpose and reason, like `("deadline", "huge")`."""
    with _counting:
        found = dict(_ignored)
    for why, count in priority.ignored_priorities().items():
        if count:
            found["priority", why] = found.get(("priority", why), 0) + count
    return found


# ---- deadlines -------------------------------------------------------------------------------------------------------


def write_deadline(left: float | None, name: str = DEADLINE_HEADER) -> str | None:
    """
    Return the value of a deadline header; None if there is no deadline, or a very distant one.

    It is rounded down, so that the callee never gets more time than is left. A deadline that has passed is "0".

    Args:
        left: Seconds, as from `remaining()`; None, NaN and infinity: no deadline.

        name: The header's name, which decides the form: "grpc-timeout" has gRPC's; a name that ends in "-ms" has
            milliseconds; all others have seconds as a decimal.
    """
    if name == "grpc-timeout":
        return write_grpc_timeout(left)
    if left is None or not math.isfinite(left):
        return None
    milliseconds = max(0, math.floor(left * 1e3 + 1e-6))
    if milliseconds > ABSURD_SECONDS * 1e3:
        return None
    if name.endswith("-ms"):
        return str(milliseconds)
    whole, part = divmod(milliseconds, 1000)
    return f"{whole}.{part:03}".rstrip("0").rstrip(".")


def read_deadline(value: object, name: str = DEADLINE_HEADER) -> float | None:
    """
    Return the seconds left, >= 0, from a deadline header; None if there is no valid value.

    Args:
        value: The header's value as text or bytes, or a list of all its values, which is invalid if it has several;
            None or an empty list: there was no header.

        name: The header's name; see :func:`write_deadline`.
    """
    text, why = _text(value)
    if text is None:
        seconds = None
    elif name == "grpc-timeout":
        seconds, why = _grpc_seconds(text)
    elif _DECIMAL.fullmatch(text):
        seconds, why = _bounded(float(text) / 1e3 if name.endswith("-ms") else float(text))
    else:
        seconds, why = None, _why_not(text)
    if why is not None:
        note_ignored("deadline", why)
    return seconds


def write_grpc_timeout(left: float | None) -> str | None:
    """
    Return the value of `grpc-timeout` in the finest unit that holds it, rounded down; None if there is no deadline.

    A deadline that has passed is "1n", the shortest value.

    Args:
        left: Seconds; None, NaN and infinity: no deadline.

    Source: gRPC over HTTP/2, "Timeout".
    """
    if left is None or not math.isfinite(left) or left > ABSURD_SECONDS:
        return None
    left_ns = max(1, math.floor(left * 1e9))
    for unit, ns in _GRPC_NS.items():
        if left_ns // ns <= _GRPC_MOST:
            return f"{left_ns // ns}{unit}"
    return None  # pragma: no cover - ten years are fewer hours than fit


def read_grpc_timeout(value: object) -> float | None:
    """Return the seconds of a `grpc-timeout`, >= 0; None if there is no valid value; see `read_deadline`."""
    return read_deadline(value, "grpc-timeout")


def _grpc_seconds(text: str) -> tuple[float | None, str | None]:
    match = _GRPC.fullmatch(text)
    return _bounded(int(match[1]) * _GRPC_NS[match[2]] / 1e9) if match else (None, _why_not(text[:-1]))


def _bounded(seconds: float) -> tuple[float | None, str | None]:
    return (seconds, None) if seconds <= ABSURD_SECONDS else (None, "huge")


def _why_not(text: str) -> str:
    if _NEGATIVE.fullmatch(text):
        return "negative"
    return "huge" if text.isascii() and text.isdigit() else "malformed"


# ---- priorities ------------------------------------------------------------------------------------------------------


def read_priority(value: object) -> priority.PriorityClass | None:
    """
    Return the priority class that the value names, else None. The caller checks beforehand that the sender is trusted.

    Args:
        value: As for :func:`read_deadline`.
    """
    text, why = _text(value)
    named = text.lower() if text is not None else None
    for level in priority.CLASSES:
        if named == level:
            return level
    if why is not None or named is not None:
        note_ignored("priority", why or "malformed")
    return None


def read_tenant(value: object) -> str | None:
    """Return the tenant in a value, printable ASCII of at most 64 characters, or None; see `read_deadline`."""
    text, why = _text(value)
    if text is not None and not (text.isascii() and text.isprintable()):
        text, why = None, "malformed"
    if why is not None:
        note_ignored("tenant", why)
    return text


# ---- Retry-After -----------------------------------------------------------------------------------------------------


def retry_after_header(error: object, *, default: float | None = 1.0) -> str | None:
    """
    Return the value of Retry-After for a rejection: whole seconds, never less than its `retry_after`, and spread.

    Clients that were rejected together must not return together. So each gets a random extra of up to half the time, or
    up to one second if that is more.

    Args:
        error: The rejection, with its `retry_after`. An error without the attribute, such as a passed deadline, returns
            None, because a later attempt does not help.

        default: Seconds for a rejection whose `retry_after` is None; None: no header.

    Source: RFC 9110, section 10.2.3.
    """
    said = getattr(error, "retry_after", _UNSAID)
    base = default if said is None else said
    if base is _UNSAID or base is None:
        return None
    soonest = max(1, math.ceil(min(base, ABSURD_SECONDS)))
    return str(soonest + _random.randint(0, math.ceil(soonest / 2)))


# ---- foreign text ----------------------------------------------------------------------------------------------------


def _text(value: object) -> tuple[str | None, str | None]:
    """Return the only value, stripped, or the reason why it is invalid; (None, None) without a value."""
    if isinstance(value, (list, tuple)):
        if len(value) > 1:
            return None, "repeated"
        value = value[0] if value else None
    text = value.decode("latin-1") if isinstance(value, bytes) else value
    if not isinstance(text, str):
        return None, None if text is None else "malformed"
    if len(text) > LONGEST:
        return None, "huge"
    text = text.strip(" \t")
    if "," in text:
        return None, "repeated"
    return (text, None) if text else (None, "empty")
