"""What a failure may say about when to come back."""

from __future__ import annotations

import re
from datetime import UTC, datetime, timedelta
from types import SimpleNamespace

import httpx2
import pytest
from hypothesis import given
from hypothesis import strategies as st

from resilio._failures.retry_after import retry_after_of, should_retry_of


def failure(**attributes):
    """An exception with the attributes that a client's error would have."""
    error = RuntimeError("failed")
    for name, value in attributes.items():
        setattr(error, name, value)
    return error


def answered(**headers):
    """An exception that carries a response with these headers."""
    named = {name.replace("_", "-"): value for name, value in headers.items()}
    return failure(response=httpx2.Response(503, headers=named))


@pytest.mark.parametrize(
    ("error", "seconds"),
    [
        (failure(), None),
        (failure(retry_after=2), 2.0),
        (failure(retry_after=0.25), 0.25),
        (failure(retry_after=timedelta(milliseconds=300)), 0.3),
        (failure(retry_after="1.5"), 1.5),
        (answered(Retry_After="7"), 7.0),
        (answered(Retry_After="7", Retry_After_Ms="6500"), 6.5),
        (answered(Retry_After="Wed, 21 Oct 2015 07:28:30 GMT", Date="Wed, 21 Oct 2015 07:28:00 GMT"), 30.0),
        (answered(Retry_After="Wed Oct 21 07:28:30 2015", Date="Wed, 21 Oct 2015 07:28:00 GMT"), 30.0),
        (answered(Retry_After="Wed, 21 Oct 2015 07:28:30 GMT", Date="Wed, 21 Oct 2015 07:28:00 -0000"), 30.0),
        (answered(Retry_After="7", Retry_After_Ms="soon", Date="Wed, 21 Oct 2015 07:28:00 GMT"), 7.0),
        (answered(Retry_After="7, 5"), 7.0),
        (failure(headers=httpx2.Headers([("Retry-After", "5"), ("Retry-After", "7")])), 7.0),
        (failure(headers={"Retry-After": "3"}), 3.0),
        (failure(response=SimpleNamespace(headers={"retry-after": b"4"})), 4.0),
        (ExceptionGroup("both", [failure(retry_after=1), failure(retry_after=5), failure()]), 5.0),
    ],
)
def test_seconds_milliseconds_and_dates_are_understood(error, seconds):
    """An attribute, a header of the response or of the error itself; of a group the longest."""
    assert retry_after_of(error) == seconds


def test_of_several_headers_the_longest_counts_in_aiohttp_too():
    """Its `get` gives the first."""
    multidict = pytest.importorskip("multidict", reason="aiohttp is not installed")
    headers = multidict.CIMultiDict([("Retry-After", "5"), ("Retry-After", "7")])
    assert retry_after_of(failure(headers=headers)) == 7.0


@pytest.mark.parametrize("value", [0, -1, float("nan"), float("inf"), True, None, "soon", "-3", object(), 10**400])
def test_what_makes_no_sense_is_passed_over(value):
    """A foreign value never makes the breaker raise or wait for nonsense."""
    assert retry_after_of(failure(retry_after=value)) is None


@pytest.mark.parametrize(
    "text",
    [
        "5,nan", "1_0", "5,", ",5", "+5", "0x5", "inf", "1e", "5 6", "5;6", "\u0665", "5,\u0665", "\uff15", "5\u2003",
        "", "Wed, \u0662\u0661 Oct 2015 07:28:30 GMT",
    ],
)  # fmt: skip
def test_only_ascii_digits_are_a_number(text):
    """`float` takes "1_0" for ten and digits of any script, and of "5,nan" the largest was what came first."""
    dated = {"Date": "Wed, 21 Oct 2015 07:28:00 GMT"}
    assert retry_after_of(failure(retry_after=text)) is None
    assert retry_after_of(failure(headers={"Retry-After": text, **dated})) is None
    assert retry_after_of(failure(headers={"Retry-After-Ms": text, **dated})) is None


@pytest.mark.parametrize("name", ["retry-after", "Retry-After", "RETRY-AFTER", "rETRY-aFTER", b"Retry-After"])
def test_names_of_headers_may_be_in_any_case_in_a_plain_dict(name):
    """`RETRY-AFTER` in a dict, as some servers behind CGI write it, was not found."""
    assert retry_after_of(failure(response=SimpleNamespace(headers={"X-Other": "1", None: "2", name: "3"}))) == 3.0


@pytest.fixture
def at_2015(monkeypatch):
    """The clock here stands still."""
    moment = datetime(2015, 10, 21, 7, 28, tzinfo=UTC)
    fixed = type("Fixed", (datetime,), {"now": classmethod(lambda cls, zone: moment)})
    monkeypatch.setattr("resilio._failures.retry_after.datetime", fixed)


@pytest.mark.parametrize("date", [{}, {"Date": "soon"}, {"Date": "Wed, 99 Oct 99999 25:61:61 GMT"}])
@pytest.mark.parametrize("said", ["Wed, 21 Oct 2015 07:28:30 GMT", "Wed Oct 21 07:28:30 2015"])
@pytest.mark.usefixtures("at_2015")
def test_a_date_without_a_date_to_measure_from_is_measured_from_the_clock_here(said, date):
    """Without `Date` a time of day was passed over, where every other library goes by its own clock."""
    assert retry_after_of(failure(headers={"Retry-After": said, **date})) == 30.0
    assert retry_after_of(failure(retry_after=said)) == 30.0


@pytest.mark.parametrize("said", ["tomorrow", "Wed, 21 Oct 2015 07:27:59 GMT", "Fri, 31 Dec 9999 23:59:59 -2359"])
@pytest.mark.usefixtures("at_2015")
def test_what_is_no_date_or_past_is_passed_over(said):
    """Neither a date that is over nor one that cannot be says when to come back."""
    assert retry_after_of(answered(Retry_After=said, Date="Wed, 21 Oct 2015 07:28:00 GMT")) is None
    assert retry_after_of(answered(Retry_After=said)) is None


@given(st.text(alphabet="0123456789.,_+-eE \t\u0665\uff15nafi", max_size=12))
def test_what_counts_as_seconds_is_what_the_grammar_says(text):
    """A number has one form only: whatever is taken for seconds is made of ASCII digits, a point and an exponent."""
    said = retry_after_of(failure(retry_after=text))
    items = [item.strip(" \t") for item in text.split(",")]
    if said is not None:
        assert all(re.fullmatch(r"([0-9]+\.?[0-9]*|\.[0-9]+)([eE][+-]?[0-9]+)?", item) for item in items)
        assert said == max(map(float, items))


def test_an_attribute_that_raises_is_passed_over():
    """Whatever a foreign exception does, looking at it is safe."""

    class HostileError(RuntimeError):
        @property
        def retry_after(self):
            raise ValueError("no")

    assert retry_after_of(HostileError()) is None


# ---- RT-07: whether to come back at all ----------------------------------------------------------------------------


def rpc_error(*metadata):
    """An error like that of a gRPC call."""
    return failure(trailing_metadata=lambda: metadata)


def test_rt07_a_returned_response_is_read_as_a_raised_one():
    """RT-07: a result that will be retried says when, too: seconds, milliseconds and dates."""
    assert retry_after_of(httpx2.Response(429, headers={"Retry-After": "7"})) == 7.0
    assert retry_after_of(httpx2.Response(503, headers={"Retry-After-Ms": "250"})) == 0.25
    dates = {"Retry-After": "Wed, 21 Oct 2015 07:28:30 GMT", "Date": "Wed, 21 Oct 2015 07:28:00 GMT"}
    assert retry_after_of(httpx2.Response(503, headers=dates)) == 30.0
    for nothing in (None, 5, "text", {"status": 503}, object()):
        assert retry_after_of(nothing) is None
        assert should_retry_of(nothing) is None


@pytest.mark.parametrize(
    ("subject", "verdict"),
    [
        (answered(X_Should_Retry="true"), True),
        (answered(X_Should_Retry="FALSE"), False),
        (answered(X_Should_Retry=" True "), True),
        (answered(X_Should_Retry="maybe"), None),
        (answered(X_Should_Retry="1"), None),
        (answered(), None),
        (httpx2.Response(503, headers={"x-should-retry": "false"}), False),
        (failure(headers={"X-Should-Retry": "true"}), True),
        (failure(headers={"x-should-retry": b"false"}), False),
        (failure(headers={"x-should-retry": b"\xff"}), None),
        (failure(headers={"x-should-retry": 1}), None),
        (rpc_error(("other", "1"), ("grpc-retry-pushback-ms", "-1")), False),
        (rpc_error(("grpc-retry-pushback-ms", b"soon")), False),
        (rpc_error(("grpc-retry-pushback-ms", "1500")), None),
        (rpc_error(("grpc-retry-pushback-ms", 3)), None),
        (rpc_error(), None),
        (failure(trailing_metadata=lambda: None), None),
        (failure(trailing_metadata="none"), None),
        (ExceptionGroup("both", [answered(X_Should_Retry="true"), answered(X_Should_Retry="false")]), False),
        (ExceptionGroup("both", [answered(X_Should_Retry="true"), failure()]), None),
        (ExceptionGroup("both", [answered(X_Should_Retry="true"), answered(X_Should_Retry="true")]), True),
    ],
)
def test_rt07_x_should_retry_is_a_verdict(subject, verdict):
    """RT-07: true, false, or not said; in a group one that forbids is enough."""
    assert should_retry_of(subject) is verdict


def test_rt07_a_pushback_says_when():
    """RT-07: gRPC's pushback in milliseconds is a Retry-After; one that forbids has no time."""
    assert retry_after_of(rpc_error(("grpc-retry-pushback-ms", "1500"))) == 1.5
    assert retry_after_of(rpc_error(("grpc-retry-pushback-ms", "-1"))) is None


NAMES = st.sampled_from(["retry-after", "retry-after-ms", "x-should-retry", "date", "Retry-After", "X-Should-Retry"])
VALUES = st.one_of(
    st.text(max_size=30),
    st.binary(max_size=10),
    st.floats(),
    st.integers(),
    st.none(),
    st.booleans(),
    st.sampled_from(["9" * 400, "1e999", "-0", "nan", "soon", "true", "FALSE"]),
    st.sampled_from(["Wed, 21 Oct 2015 07:28:30 -0000", "Wed, 99 Oct 99999 25:61:61 GMT"]),
)


@given(
    headers=st.one_of(VALUES, st.dictionaries(NAMES, VALUES)),
    retry_after=VALUES,
    metadata=st.one_of(VALUES, st.lists(st.one_of(VALUES, st.tuples(st.just("grpc-retry-pushback-ms"), VALUES)))),
)
def test_rt07_malformed_answers_never_raise(headers, retry_after, metadata):
    """RT-07: whatever a server sends, there is a finite time above zero or none, and a verdict or none."""
    response = SimpleNamespace(headers=headers)
    for subject in (
        failure(response=response),
        failure(headers=headers, retry_after=retry_after),
        response,
        failure(trailing_metadata=lambda: metadata),
    ):
        seconds = retry_after_of(subject)
        assert seconds is None or (0 < seconds < float("inf"))
        assert should_retry_of(subject) in {True, False, None}


def test_rt07_headers_that_raise_are_passed_over():
    """RT-07: a foreign object may raise at every look."""

    class Hostile:
        def __getattr__(self, name):
            raise RuntimeError(name)

    assert should_retry_of(Hostile()) is None
    assert retry_after_of(Hostile()) is None
