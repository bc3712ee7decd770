"""What options are checked with: every parameter rejects bad values, naming parameter and value."""

from __future__ import annotations

import functools
from datetime import timedelta
from typing import Any

import attrs
import pytest
from hypothesis import given
from hypothesis import strategies as st

from resilio._options.fields import Window, option, parse_window
from resilio._options.validators import (
    choice,
    cost,
    enforce,
    exceptions,
    flag,
    fraction,
    function,
    number,
    parse_duration,
    policy_name,
    positive_int,
    seconds,
    show,
    weight,
)

NAN, INF = float("nan"), float("inf")


async def async_function(value: object) -> int:
    return 1


class AsyncCall:
    async def __call__(self, value: object) -> int:
        return 1


BAD_VALUES = {
    seconds: [
        "1",
        "1 parsec",
        "-1s",
        NAN,
        INF,
        -INF,
        -1,
        -1e-300,
        0,
        0.0,
        1e-10,
        4e8,
        10**400,
        timedelta(0),
        timedelta(days=-1),
    ],
    positive_int: [0, -1, 10**10, 10**5000],
    fraction: [NAN, INF, 0, -0.1, 1.1, 2],
    enforce: [NAN, INF, -0.1, 1.1, 2],
    number: [NAN, INF, -INF, 10**400],
    weight: [0, -1, 10**10],
    cost: [-1, 10**10],
    parse_window: [
        0,
        -1,
        "0s",
        "",
        "60",
        "s",
        "-1s",
        "1y",
        "1e9s",
        "99999d",
        (1,),
        (1, 2),
        ("1s", "2s"),
        (1, 2, 3),
        (),
    ],
    policy_name: ["", " ", " a", "a ", "a\nb", "\x00", "x" * 201],
    functools.partial(choice, options=("fifo", "lifo")): ["", "FIFO", "other"],
}
BAD_TYPES = {
    seconds: [True, False, None, [], object(), 1j],
    positive_int: [True, False, 1.0, "1", None, NAN],
    fraction: [True, False, "0.5", None],
    enforce: ["0.5", None],
    number: [True, "1", None],
    flag: [0, 1, "true", None],
    weight: [True, 1.0, "1", None, async_function, AsyncCall(), int],
    cost: [True, 1.0, "1", None, async_function, AsyncCall(), int],
    parse_window: [1.5, 60.0, True, None, NAN, [1.5, "1s"], (True, "1s"), {}, b"1s"],
    policy_name: [1, True, b"a", object()],
    function: [1, "f", async_function, AsyncCall(), functools.partial(async_function), int],
    exceptions: [None, 1, "ValueError", ValueError("instance"), (ValueError, 1), int, (int,), async_function],
    functools.partial(choice, options=("fifo", "lifo")): [None, 1, True],
}


def cases(table: dict[Any, list[Any]]) -> list[Any]:
    return [
        pytest.param(check, value, id=f"{getattr(check, '__name__', 'choice')}-{show(value)[:20]}")
        for check, values in table.items()
        for value in values
    ]


@pytest.mark.parametrize(("check", "value"), cases(BAD_VALUES))
def test_a_bad_value_is_rejected_by_name_and_value(check: Any, value: Any) -> None:
    """Out of range is a ValueError that names the parameter and shows the value."""
    with pytest.raises(ValueError, match="my_option must be") as error:
        check("my_option", value)
    assert show(value) in str(error.value)


@pytest.mark.parametrize(("check", "value"), cases(BAD_TYPES))
def test_a_bad_type_is_rejected_by_name_and_value(check: Any, value: Any) -> None:
    """A wrong type, bool for a number included, is a TypeError that names the parameter and shows the value."""
    with pytest.raises(TypeError, match="my_option must be") as error:
        check("my_option", value)
    assert show(value) in str(error.value)


GOOD = [
    (seconds, 1, 1.0),
    (seconds, 0.5, 0.5),
    (seconds, timedelta(milliseconds=250), 0.25),
    (functools.partial(seconds, zero_ok=True), 0, 0.0),
    (functools.partial(seconds, none_ok=True), None, None),
    (positive_int, 3, 3),
    (functools.partial(positive_int, zero_ok=True), 0, 0),
    (functools.partial(positive_int, none_ok=True), None, None),
    (fraction, 1, 1.0),
    (functools.partial(fraction, zero_ok=True), 0, 0.0),
    (functools.partial(fraction, none_ok=True), None, None),
    (enforce, True, 1.0),
    (enforce, False, 0.0),
    (enforce, 0.25, 0.25),
    (flag, True, True),
    (functools.partial(choice, options=("a", "b")), "b", "b"),
    (policy_name, None, None),
    (policy_name, "payments api/v2", "payments api/v2"),
    (parse_window, 100, Window(calls=100)),
    (parse_window, "30s", Window(seconds=30.0)),
    (parse_window, "500ms", Window(seconds=0.5)),
    (parse_window, " 1.5 m ", Window(seconds=90.0)),
    (parse_window, timedelta(minutes=1), Window(seconds=60.0)),
    (parse_window, (200, "60s"), Window(calls=200, seconds=60.0)),
    (parse_window, ["60s", 200], Window(calls=200, seconds=60.0)),
    (weight, 2, 2),
    (weight, len, len),
    (cost, 0, 0),
    (function, None, None),
    (function, len, len),
    (exceptions, ValueError, (ValueError,)),
    (exceptions, (), ()),
    (exceptions, [ValueError, OSError], (ValueError, OSError)),
    (exceptions, callable, callable),
]


@pytest.mark.parametrize(("check", "value", "result"), GOOD)
def test_a_good_value_is_taken_in_its_one_form_and_taken_again(check: Any, value: Any, result: Any) -> None:
    """The internal form is accepted too, so that a changed record checks the rest once more."""
    assert check("my_option", value) == result
    assert check("my_option", result) == result


def test_a_window_that_was_made_by_hand_is_checked_too() -> None:
    """There is no way around the check."""
    for window in (Window(), Window(calls=0), Window(seconds=NAN), Window(calls=1, seconds=-1.0)):
        with pytest.raises(ValueError, match="window"):
            parse_window("window", window)


@pytest.mark.parametrize(
    ("text", "expected"),
    [("1ns", 1e-9), ("2us", 2e-6), ("3ms", 3e-3), ("4s", 4), ("5min", 300), ("1h", 3600), ("1d", 86400)],
)
def test_every_unit_of_time(text: str, expected: float) -> None:
    """ns, us, ms, s, m or min, h, d."""
    assert parse_duration("window", text) == pytest.approx(expected)


@given(st.one_of(st.floats(), st.integers(), st.booleans(), st.text(max_size=5), st.none(), st.timedeltas()))
def test_seconds_gives_finite_positive_seconds_or_rejects(value: Any) -> None:
    """Whatever comes in, what comes out is a time that fits into nanoseconds."""
    try:
        result = seconds("open_for", value)
    except (TypeError, ValueError) as error:
        assert "open_for" in str(error)  # noqa: PT017 - it may be one error, or the other, or none
    else:
        assert isinstance(result, float)
        assert 1e-9 <= result <= 10 * 366 * 86400


def test_a_value_that_cannot_show_itself_is_shown_by_its_type() -> None:
    """A broken or endless repr does not hide the message."""

    class Broken:
        def __repr__(self) -> str:
            raise RuntimeError

    assert show(Broken()) == "<Broken>"
    assert len(show("x" * 1000)) == 80


@attrs.frozen(kw_only=True)
class Options:
    open_for: float = option(seconds, default=timedelta(seconds=2))
    probes: int = option(positive_int, default=1, high=10)
    window: Window = option(parse_window)


def test_a_declared_option_is_converted_and_checked_under_its_own_name() -> None:
    """Defaults are written as users write them; evolving a record checks again."""
    options = Options(window="1s")
    assert (options.open_for, options.window) == (2.0, Window(seconds=1.0))
    assert attrs.evolve(options, probes=10).probes == 10
    for wrong in ({"open_for": -1}, {"probes": 11}, {"window": 0}):
        with pytest.raises(ValueError, match=f"^{next(iter(wrong))} must be"):
            attrs.evolve(options, **wrong)
