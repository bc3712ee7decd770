"""A failure's own advice on retries, by the rows of `server_advice`: when, and whether at all."""

from __future__ import annotations

import math
import re
from collections.abc import Callable, Iterator
from datetime import UTC, datetime
from functools import partial
from typing import Any

import attrs

from resilio._failures import aws, retry_info
from resilio._failures.answer_parts import bodies_of, has_label, headers_of, holders, metadata_of, told_in
from resilio._failures.permanent import is_permanent
from resilio._failures.server_advice import FORBIDS, RETRY, UNTIL, WAIT, Advice, rows
from resilio._failures.sql import sqlstate_of
from resilio._failures.wire_times import READERS, Now, epoch_of, number

__all__ = [
    "FOR_CLIENT",
    "LONGEST_PAUSE",
    "Asked",
    "Noted",
    "asked_by",
    "kept_retry_after",
    "retry_after_of",
    "should_retry_of",
]

LONGEST_PAUSE = 60.0
"""
The longest pause in seconds that a policy makes for one answer; the default of retries and guarded clients.

A server that asks for an hour should not decide that on its own.
"""

FOR_CLIENT = "_resilio_for_client"
"""Attribute of a response whose `x-should-retry` an integration has set for the client's own retry, and no other."""
_BASE_BACKOFF_MS = 100.0
"""The first wait of MongoDB's drivers after an overload, where the reply names no other."""
_ATTRIBUTES = rows("attribute", WAIT, UNTIL)
_HEADERS = tuple(row for row in rows("header", WAIT, UNTIL) if row.meaning == WAIT or row.name == "retry-after")
_LIMITS = tuple(row for row in rows("header", UNTIL) if row not in _HEADERS)
_BODIES = rows("body", WAIT)
_RESULTS = rows("result", WAIT)
_METADATA = rows("metadata", WAIT)
_LABELS = rows("label", WAIT)
_VERDICT_HEADERS = rows("header", RETRY, FORBIDS)
_VERDICT_METADATA = rows("metadata", FORBIDS)
_VERDICT_LABELS = rows("label", RETRY, FORBIDS)
_CODES = rows("code", RETRY)


@attrs.frozen
class Asked:
    """A pause that a server asks for: seconds > 0, and the row of the table by which it does."""

    seconds: float
    row: Advice


@attrs.frozen
class Noted:
    """The pause that an answer has asked for, in seconds; kept after the answer itself is released."""

    retry_after: float


def kept_retry_after(answer: object) -> Noted | None:
    """Return the pause to keep of a failed answer for the policies that settle it, None if it asks for none."""
    asked = retry_after_of(answer)
    return None if asked is None else Noted(asked)


def retry_after_of(subject: object) -> float | None:
    """
    Return the seconds that `subject` asks to wait, None if it asks for none; see `asked_by`.

    Args:
        subject: The exception that a call raised, or a response that it returned.

    Returns:
        Finite seconds > 0. The caller bounds them: a header is foreign input.
    """
    asked = asked_by(subject)
    return None if asked is None else asked.seconds


def asked_by(subject: object) -> Asked | None:
    """
    Return the pause that `subject` asks for, None if it asks for none; for a group, the longest of its leaves.

    The first row of `server_advice` decides that has a time > 0, in this order: an attribute of the exception; headers
    of its `response`, then of itself; headers about limits that are used up, of which the longest time counts; a body
    that is read already; the structured content of a tool's result; metadata of gRPC; labels. A time of day is measured
    from the answer's own `date` header, as two clocks need not agree; without one, from the local clock. Malformed
    values are skipped. Never raises.

    Args:
        subject: The exception that a call raised, or a response that it returned.
    """
    if isinstance(subject, BaseExceptionGroup):
        found = filter(None, map(asked_by, subject.exceptions))
        return max(found, key=lambda asked: asked.seconds, default=None)
    return next(filter(None, (_first(source, subject) for source in _SOURCES)), None)


def _first(source: Callable[[object], Iterator[Asked]], subject: object) -> Asked | None:
    try:
        return next(source(subject), None)
    except Exception:  # noqa: BLE001 - a foreign object may raise anything
        return None


def should_retry_of(subject: object) -> bool | None:
    """
    Return True if `subject` asks for a retry, False if it forbids one, None if it does neither.

    The mark of :func:`resilio.permanent` forbids one. Else the first row of `server_advice` decides that applies, in
    this order: headers, metadata of gRPC, labels, codes. A group forbids a retry if one leaf does, and asks for one if
    all leaves do. Malformed values are skipped. Never raises.

    Args:
        subject: The exception that a call raised, or a response that it returned.
    """
    try:
        if isinstance(subject, BaseExceptionGroup):
            return _joint([should_retry_of(leaf) for leaf in subject.exceptions])
        if getattr(subject, "_resilio_replay", None) is False:  # set by an integration: not to be sent twice
            return False
        if is_permanent(subject):
            return False
        found = next(_verdicts(subject), None)
        return None if found is None else found.meaning == RETRY
    except Exception:  # noqa: BLE001 - a foreign object may raise anything
        return None


def _joint(verdicts: list[bool | None]) -> bool | None:
    if False in verdicts:
        return False
    return None if None in verdicts else True


# ---- when --------------------------------------------------------------------------------------------------------


def _asked(row: Advice, seconds: float | None) -> Iterator[Asked]:
    if seconds is not None and math.isfinite(seconds) and seconds > 0:
        yield Asked(seconds, row)


def _local() -> float:
    return datetime.now(UTC).timestamp()  # wall clock: an answer without a date has no other reference


def _by_attributes(subject: object) -> Iterator[Asked]:
    for row in _ATTRIBUTES:
        yield from _asked(row, READERS[row.unit](getattr(subject, row.name, None), _local))


def _by_headers(subject: object) -> Iterator[Asked]:
    for holder in holders(subject):
        headers = headers_of(holder)
        now = partial(_date, headers)
        for row in _HEADERS if headers else ():
            yield from _asked(row, READERS[row.unit](headers.get(row.name), now))
        limits = [asked for row in _LIMITS if headers for asked in _used_up(row, headers, now)]
        yield from sorted(limits, key=lambda asked: asked.seconds, reverse=True)


def _date(headers: dict[str, Any]) -> float:
    """Return the server's time of day by its `date` header, else the local one."""
    there = epoch_of(headers.get("date"))
    return _local() if there is None else there


def _used_up(row: Advice, headers: dict[str, Any], now: Now) -> Iterator[Asked]:
    if not row.left or number(headers.get(row.left)) == 0:
        yield from _asked(row, READERS[row.unit](headers.get(row.name), now))


def _by_bodies(subject: object) -> Iterator[Asked]:
    for holder in holders(subject):
        for body in bodies_of(holder):
            for row in _BODIES:
                yield from _asked(row, retry_info.in_json(body))


def _by_results(subject: object) -> Iterator[Asked]:
    for row in _RESULTS:
        yield from _asked(row, READERS[row.unit](told_in(subject).get(row.name), _local))


def _by_metadata(subject: object) -> Iterator[Asked]:
    for holder in holders(subject):
        for row in _METADATA:
            value = metadata_of(holder, row.name)
            if row.unit == "RetryInfo":
                yield from _asked(row, retry_info.in_protobuf(value) if isinstance(value, bytes) else None)
            elif (text := _digits(value)) is not None:
                yield from _asked(row, READERS[row.unit](text, _local))


def _digits(value: Any) -> str | None:
    text = value.decode("ascii", "replace") if isinstance(value, bytes) else value
    return text if isinstance(text, str) and re.fullmatch("[0-9]+", text) else None


def _by_labels(subject: object) -> Iterator[Asked]:
    for row in _LABELS:
        if has_label(subject, row.name):
            reply = getattr(subject, "details", None)
            base = reply.get("baseBackoffMS") if isinstance(reply, dict) else None
            asked = READERS["milliseconds"](base, _local) if isinstance(base, (int, float)) else None
            yield from _asked(row, _BASE_BACKOFF_MS / 1000 if asked is None else asked)


_SOURCES: tuple[Callable[[object], Iterator[Asked]], ...] = (
    _by_attributes,
    _by_headers,
    _by_bodies,
    _by_results,
    _by_metadata,
    _by_labels,
)


# ---- whether -----------------------------------------------------------------------------------------------------


def _verdicts(subject: object) -> Iterator[Advice]:
    """Yield the rows that ask for a retry or forbid one, in the order of their precedence."""
    if not getattr(getattr(subject, "response", None), FOR_CLIENT, False):
        for holder in holders(subject):
            headers = headers_of(holder)
            yield from (row for row in _VERDICT_HEADERS if _lower(headers.get(row.name)) == row.unit)
    for row in _VERDICT_METADATA:
        for holder in holders(subject):
            value = metadata_of(holder, row.name)
            if isinstance(value, (str, bytes)) and _digits(value) is None:
                yield row
    for row in _VERDICT_LABELS:
        if has_label(subject, row.name) and not (row.without and has_label(subject, row.without)):
            yield row
    code = aws.code_of(getattr(subject, "response", subject)) or _state_of(subject)
    yield from (row for row in _CODES if row.name == code)


def _lower(value: Any) -> str | None:
    return value.strip().lower() if isinstance(value, str) else None


def _state_of(subject: object) -> str | None:
    return sqlstate_of(subject) if isinstance(subject, BaseException) else None
