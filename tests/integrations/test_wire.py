"""Deadlines, priorities and Retry-After in headers: what is written, what is read, and what is ignored and counted."""

from __future__ import annotations

import math
from collections.abc import Iterator

import pytest
from hypothesis import given
from hypothesis import strategies as st

from resilio import BulkheadFullError, DeadlineExceededError, RateLimitedError
from resilio._context import priority
from resilio.integrations._shared import headers as _wire
from resilio.integrations._shared.headers import (
    check_header_name,
    ignored_headers,
    note_ignored,
    read_deadline,
    read_grpc_timeout,
    read_priority,
    retry_after_header,
    write_deadline,
    write_grpc_timeout,
)

NAMES = ["x-request-timeout", "x-timeout-ms", "grpc-timeout"]


@pytest.fixture(autouse=True)
def nothing_ignored() -> Iterator[None]:
    """Count from nothing."""
    before = dict(_wire._ignored), dict(priority._ignored)
    _wire._ignored.clear()
    priority._ignored.update(unknown=0, untrusted=0)
    yield
    _wire._ignored.update(before[0])
    priority._ignored.update(before[1])


@pytest.mark.parametrize(
    ("left", "seconds", "milliseconds", "grpc"),
    [
        (None, None, None, None),
        (math.nan, None, None, None),
        (math.inf, None, None, None),
        (1e12, None, None, None),
        (0.0, "0", "0", "1n"),
        (-3.0, "0", "0", "1n"),
        (0.25, "0.25", "250", "250000u"),
        (1.5, "1.5", "1500", "1500000u"),
        (30, "30", "30000", "30000000u"),
        (10.0, "10", "10000", "10000000u"),
        (0.0123456, "0.012", "12", "12345600n"),
        (200_000_000.0, "200000000", "200000000000", "3333333M"),
    ],
)
def test_a_deadline_is_written_in_each_form(left, seconds, milliseconds, grpc) -> None:
    """What is left is written as the header's name asks for, rounded down; no deadline gives no header."""
    assert [write_deadline(left, name) for name in NAMES] == [seconds, milliseconds, grpc]
    assert write_grpc_timeout(left) == grpc


@given(st.floats(0, 1e7))
def test_what_is_written_is_read_back_and_never_longer(left) -> None:
    """A callee is never told that there is more time than there is, nor a millisecond (in gRPC 0.1 %) less."""
    for name in NAMES:
        read = read_deadline(write_deadline(left, name), name)
        assert read is not None
        assert left - max(1e-3, left / 1e3) <= read <= max(left * (1 + 1e-12) + 1e-9, 1e-9)


@pytest.mark.parametrize(
    ("value", "why"),
    [
        ("", "empty"),
        (" \t", "empty"),
        ("-1", "negative"),
        ("-0.5", "negative"),
        ("nan", "malformed"),
        ("inf", "malformed"),
        ("1e3", "malformed"),
        ("+1", "malformed"),
        ("0x10", "malformed"),
        ("1_000", "malformed"),
        ("1 2", "malformed"),
        ("\u0661\u0662", "malformed"),
        ("\u00b2", "malformed"),
        (b"\xff\xfe", "malformed"),
        ("1\x00", "malformed"),
        ("9" * 30, "huge"),
        ("1" * 100_000, "huge"),
        ("1,2", "repeated"),
        (["1", "1"], "repeated"),
        ([b"1", b"2", b"3"], "repeated"),
        (12, "malformed"),
    ],
)
@pytest.mark.parametrize("name", NAMES)
def test_deadlines_from_strangers_are_ignored_and_counted(value, why, name) -> None:
    """A deadline that is not exactly what its form allows is as good as none, and counted under why."""
    assert read_deadline(value, name) is None
    counted = ignored_headers()
    if name == "grpc-timeout":
        assert sum(counted.values()) == 1
    else:
        assert counted == {("deadline", why): 1}


@pytest.mark.parametrize(
    ("value", "why"),
    [("-1S", "negative"), ("123456789S", "huge"), ("99999999H", "huge"), ("xS", "malformed"), ("S", "malformed")],
)
def test_grpc_timeouts_that_make_no_sense_are_counted(value, why) -> None:
    """A grpc-timeout has one to eight digits and one of six units; everything else is no deadline."""
    assert read_grpc_timeout(value) is None
    assert ignored_headers() == {("deadline", why): 1}


@pytest.mark.parametrize(
    ("value", "seconds"), [("1S", 1.0), ("100m", 0.1), ("2M", 120.0), ("1H", 3600.0), ("8u", 8e-6), ("5n", 5e-9)]
)
def test_grpc_timeouts_are_read_in_all_units(value, seconds) -> None:
    """All units of gRPC are known."""
    assert read_grpc_timeout(value) == pytest.approx(seconds)


@pytest.mark.parametrize(
    ("value", "seconds"),
    [("1", 1.0), (b"2.5", 2.5), (" 3 ", 3.0), ([b"4"], 4.0), (".5", 0.5), ("6.", 6.0), ("0", 0.0), ([], None)],
)
def test_a_deadline_is_read_from_text_and_bytes(value, seconds) -> None:
    """Text, bytes, blanks around it and a list of one are the same; an absent header is not counted."""
    assert read_deadline(value) == seconds
    assert read_deadline(None) is None
    assert ignored_headers() == {}


def test_priorities_are_the_four_classes() -> None:
    """A class is read in any case; what is none is ignored and counted."""
    assert [read_priority(v) for v in ("critical", b"Sheddable", ["background"], " STANDARD ")] == [
        "critical",
        "sheddable",
        "background",
        "standard",
    ]
    assert read_priority(None) is None
    bad = ["", "urgent", "9" * 100, "-1", "critical,critical", ["critical", "standard"], "cr\u00edtical", b"\xff", 1]
    assert [read_priority(value) for value in bad] == [None] * len(bad)
    assert sum(ignored_headers().values()) == len(bad)
    assert {header for header, _ in ignored_headers()} == {"priority"}


def test_what_priority_from_has_ignored_is_counted_too() -> None:
    """One look shows all ignored headers, those that were read by hand with `priority_from` included."""
    from resilio import priority_from

    before = ignored_headers().get(("priority", "untrusted"), 0)
    assert priority_from("critical") == "standard"
    assert ignored_headers()["priority", "untrusted"] == before + 1


def test_retry_after_is_whole_seconds_never_early_and_spread() -> None:
    """Clients come back no earlier than the rejection says, and not all in the same second."""
    for asked in (0.2, 1.0, 7.3, 60.0):
        sent = [int(retry_after_header(RateLimitedError("rate_limit", retry_after=asked))) for _ in range(300)]
        assert min(sent) >= asked
        assert max(sent) <= 1.5 * math.ceil(asked) + 1
        assert len(set(sent)) > 1


def test_retry_after_where_the_rejection_knows_none() -> None:
    """A rejection without a time gets the default, a passed deadline gets no header: coming back is no help."""
    unknown = BulkheadFullError("bulkhead")
    assert retry_after_header(unknown) in ("1", "2")
    assert retry_after_header(unknown, default=None) is None
    assert retry_after_header(DeadlineExceededError(1.0)) is None
    assert retry_after_header(RateLimitedError("rate_limit", retry_after=1e300)) is not None


def test_a_header_name_is_checked() -> None:
    """What cannot be a header's name is rejected where it is given, by its parameter's name."""
    assert check_header_name("deadline_header", "X-Budget-MS") == "x-budget-ms"
    assert check_header_name("deadline_header", None, none_ok=True) is None
    with pytest.raises(TypeError, match="deadline_header must be a header's name"):
        check_header_name("deadline_header", None)
    with pytest.raises(TypeError, match="or None, not 3"):
        check_header_name("priority_header", 3, none_ok=True)
    for bad in ("", "a b", "a:b", "caf\u00e9", "\u212aelvin", "x" * 65):
        with pytest.raises(ValueError, match="deadline_header"):
            check_header_name("deadline_header", bad)


TEXT = st.binary().map(lambda raw: raw.decode("utf-8", "replace"))  # st.text() takes a minute to begin on some builds


@given(st.one_of(TEXT, st.binary(), st.lists(TEXT, max_size=3), st.integers(), st.none()))
def test_reading_never_raises_and_gives_only_what_can_be_used(value) -> None:
    """Whatever a stranger sends, a deadline is None or finite seconds >= 0, a priority None or a class."""
    for name in NAMES:
        read = read_deadline(value, name)
        assert read is None or 0 <= read <= 4e8
    assert read_priority(value) in (None, "critical", "standard", "sheddable", "background")


def test_a_label_can_be_counted_from_elsewhere() -> None:
    """Servers count the headers of those they do not trust."""
    note_ignored("deadline", "untrusted")
    assert ignored_headers() == {("deadline", "untrusted"): 1}
