"""
Bad input: every parameter of everything that takes options rejects what makes no sense, naming parameter and value.

The tables below say of each parameter what it is; a parameter that they do not list fails a test of its own.
"""

from __future__ import annotations

import inspect
import math
from collections.abc import Callable, Iterator
from datetime import timedelta
from typing import Any

import pytest

import resilio
from resilio import (
    Endpoint,
    adaptive_limit,
    bulkhead,
    circuit_breaker,
    custom_gate,
    dns,
    pipeline,
    pool,
    probe_http,
    rate_limit,
    registry,
)
from resilio._options.validators import show
from resilio._policies.rate_limit.policy import Rate
from resilio.cost import spend_limit


class Odd:
    """A value of no type that anybody wants."""

    def __repr__(self) -> str:
        return "<odd>"


class BadRepr:
    """A value that cannot even be shown."""

    def __repr__(self) -> str:
        raise RuntimeError("no repr")


class Gate:
    """A gate of one's own that lets everything pass."""

    def admit(self, call: Any) -> None:
        """Admit."""

    def settle(self, call: Any, outcome: Any, seconds: float) -> None:
        """Learn nothing."""


async def an_async_function(*_: Any) -> int:
    """Answer later: too late for a predicate."""
    return 1


NOT_NUMBERS = [None, "1", b"1", [], {}, (), Odd(), BadRepr(), 1j, print, int, math]
NOT_FINITE = [math.nan, math.inf, -math.inf]
HUGE = [1e300, 10**30, 10**400]
ENDPOINT = Endpoint("a")
NOT_FUNCTIONS = [1, "f", [], Odd(), int, an_async_function]

NOTHING = object()

BAD: dict[str, list[Any]] = {
    "choice": [None, "", "FIFO", "other", 0, True, Odd(), ["fifo"], b"fifo"],
    "count": [*NOT_NUMBERS, *NOT_FINITE, *HUGE, True, False, -1, 1.0, 0, 0.5],
    "count_or_zero": [*NOT_NUMBERS, *NOT_FINITE, *HUGE, True, False, -1, 1.0, 0.5],
    "share": [*NOT_NUMBERS, *NOT_FINITE, *HUGE, True, False, -0.1, 0, 0.0, 1.0001],
    "enforce": [*NOT_NUMBERS, *NOT_FINITE, *HUGE, -0.1, 1.0001, 2],
    "seconds": [
        *NOT_NUMBERS,
        *NOT_FINITE,
        *HUGE,
        True,
        False,
        -1,
        -0.1,
        0,
        0.0,
        timedelta(0),
        timedelta(days=-1),
        1e-12,
    ],
    "seconds_or_zero": [*NOT_NUMBERS, *NOT_FINITE, *HUGE, True, False, -1, -0.1, timedelta(days=-1), 1e-12],
    "scope": [0, 1.5, True, [], {}, Odd(), b"host", "", "Host", "planet"],
    "name": [0, 1.5, True, [], {}, Odd(), BadRepr(), b"n", "", " x", "x ", "a\nb", "a\0b", "n" * 201],
    "rule": [
        0,
        True,
        "ValueError",
        Odd(),
        ValueError("an instance"),
        int,
        [int],
        (ValueError, int),
        an_async_function,
        None,
    ],
    "predicate": NOT_FUNCTIONS,
    "weight": [*NOT_FUNCTIONS[1:], *NOT_FINITE, *HUGE, None, True, False, -1, 0, 1.0, 0.5],
    "cost": [*NOT_FUNCTIONS[1:], *NOT_FINITE, *HUGE, None, True, False, -1, -0.5],
    "tokens": [*NOT_NUMBERS, *NOT_FINITE, *HUGE, True, False, -1, 0, 0.0, 1e-9],
    "window": [
        *NOT_NUMBERS,
        *NOT_FINITE,
        *HUGE,
        True,
        False,
        0,
        -1,
        1.5,
        "",
        "s",
        "0s",
        "-1s",
        "1 parsec",
        "nan s",
        "inf s",
        timedelta(0),
        timedelta(days=-1),
        (1, 2),
        ("1s", "2s"),
        (1,),
        (1, "1s", 1),
        (0, "1s"),
        (1.5, "1s"),
        (True, "1s"),
    ],
    "rate": [
        None,
        1,
        1.5,
        True,
        [],
        Odd(),
        BadRepr(),
        b"1/s",
        "",
        "1",
        "/s",
        "s/1",
        "0/s",
        "-1/s",
        "nan/s",
        "inf/s",
        "1/0s",
        "1/parsec",
        "1e400/s",
        "1e-9/s",
        "1//s",
        "1/s/s",
        "1/-1s",
    ],
    "unit": [None, 1, True, Odd(), b"requests", "", "two words", "1st", "a-b"],
    "gate": [None, 1, "gate", Odd(), Gate, print],
    "kind": [None, 1, True, Odd(), "", "Two", "two words", "1st", b"kind"],
    "reasons": [None, 1, "rejected", (), [], ("",), ("a", "a"), (1,), [None], tuple(f"r{i}" for i in range(17))],
    "policy": [None, 1, "breaker", Odd(), print, Gate(), circuit_breaker],
}

BAD["label_mapping"] = [1, "labels", [], Odd(), {1: 2}]
BAD["target"] = [None, 0, 1.5, True, [], {}, Odd(), BadRepr(), b"n", "", "a b", "a\nb", "a\0b", "n" * 2001]
BAD["level"] = [*NOT_NUMBERS, *NOT_FINITE, *HUGE, True, False, -1, 1.0, 0.5, 32]
BAD["endpoint_weight"] = [*NOT_NUMBERS, *NOT_FINITE, *HUGE, True, False, -1, 0, 0.0, 1e-9]
BAD["endpoints"] = [None, 0, "https://a", [], Odd(), BadRepr(), Endpoint, circuit_breaker()]
BAD["call_key"] = [0, 1.5, True, "", "a b", [], {}, Odd()]
BAD["overprovision"] = [*NOT_NUMBERS, *NOT_FINITE, *HUGE, True, False, -1, 0, 0.99, 101]
BAD["flag"] = [None, 0, 1, 1.0, "yes", [], Odd()]
BAD["each"] = [*NOT_FUNCTIONS, lambda: None, lambda a, b: circuit_breaker()]
BAD["probe"] = [1, "/health", [], Odd(), int]
BAD["lookup"] = [1, "search.internal", [], Odd(), int]
BAD["condition"] = [0, True, "below", 0.2, [], Odd(), int, spend_limit]
BAD["amount_of_money"] = [None, 0, 1.5, True, [], Odd(), b"1 USD/day", "", "50", "USD/day", "0 USD/day"]
BAD["amount_of_money"] += ["-1 USD/day", "1 USD/parsec"]
BAD["reserve"] = [None, True, [], Odd(), b"max", "", "most", "p0", "p101", -1, math.nan, math.inf]
BAD["timezone"] = [None, 0, [], Odd(), b"UTC", "", "Europe/Atlantis"]
BAD["prices"] = [0, True, "prices.toml", [], {}, Odd()]
BAD["host"] = [None, 0, [], Odd(), b"a", "", " a", "a/b", "https://a", "a\nb"]
BAD["port"] = [*NOT_NUMBERS, *NOT_FINITE, *HUGE, True, False, -1, 0, 1.0, 65536]
BAD["path"] = [None, 0, [], Odd(), b"/", "", "health", "/a b", "/a\n"]
BAD["context"] = [0, "strict", True, Odd()]
BAD["permits"] = [value for value in BAD["count"] if not callable(value)]  # a function: see the bare decorators below

TABLE: dict[str, tuple[Callable[..., Any], dict[str, Any], dict[str, str]]] = {
    "circuit_breaker": (
        circuit_breaker,
        {},
        {
            "failure_rate": "share or_none",
            "window": "window",
            "min_calls": "count",
            "consecutive": "count or_none",
            "slow_call": "seconds or_none",
            "slow_rate": "share or_none",
            "open_for": "seconds",
            "max_open_for": "seconds",
            "probes": "count",
            "closing_probes": "count or_none",
            "probe_lease": "seconds or_none",
            "ramp": "seconds or_none",
            "mode": "choice",
            "on": "rule",
            "ignore": "rule",
            "failed_if": "predicate or_none",
            "scope": "scope",
            "enforce": "enforce",
            "initial": "choice",
            "name": "name",
        },
    ),
    "adaptive_limit": (
        adaptive_limit,
        {"max_queued": 5, "max_wait": 1.0},
        {
            "law": "choice",
            "start": "count",
            "floor": "count",
            "ceiling": "count",
            "max_queued": "count_or_zero",
            "max_wait": "seconds_or_zero",
            "on": "rule",
            "ignore": "rule",
            "failed_if": "predicate or_none",
            "scope": "scope",
            "enforce": "enforce",
            "name": "name",
        },
    ),
    "bulkhead": (
        bulkhead,
        {"max_concurrent": 3, "max_queued": 5, "max_wait": 1.0},
        {
            "max_concurrent": "permits",
            "max_queued": "count_or_zero",
            "max_wait": "seconds_or_zero",
            "order": "choice",
            "weight": "weight",
            "on_store_down": "choice or_none",
            "scope": "scope",
            "enforce": "enforce",
            "name": "name",
        },
    ),
    "rate_limit": (
        lambda rates="5/s", **options: rate_limit(rates, **options),
        {},
        {
            "rates": "rate",
            "burst": "tokens or_none",
            "cost": "cost",
            "max_wait": "seconds_or_zero",
            "max_queued": "count_or_zero",
            "accuracy": "choice",
            "on_store_down": "choice or_none",
            "scope": "scope",
            "enforce": "enforce",
            "name": "name",
        },
    ),
    "spend_limit": (
        lambda limit="50 USD/day", **options: spend_limit(limit, **options),
        {},
        {
            "limit": "amount_of_money",
            "prices": "prices or_none",
            "reserve": "reserve",
            "soft": "share or_none",
            "timezone": "timezone",
            "burst": "tokens or_none",
            "scope": "scope",
            "enforce": "enforce",
            "on_store_down": "choice or_none",
            "name": "name",
        },
    ),
    "Rate": (
        Rate,
        {"rate": "5/s"},
        {"rate": "rate", "unit": "unit", "cost": "cost", "burst": "tokens or_none"},
    ),
    "pipeline": (
        lambda policies=NOTHING, **options: pipeline(circuit_breaker() if policies is NOTHING else policies, **options),
        {},
        {"policies": "policy", "name": "name", "enforce": "enforce"},
    ),
    "pool": (
        lambda name=None, endpoints=ENDPOINT, **options: pool(name, endpoints, **options),
        {},
        {
            "name": "name",
            "endpoints": "endpoints",
            "zone": "name",
            "each": "each or_none",
            "balance": "choice",
            "affinity": "call_key or_none",
            "overprovision": "overprovision",
            "max_ejected": "share",
            "warm_up": "seconds or_none",
            "probe": "probe or_none",
            "spill": "flag",
            "resolve": "lookup or_none",
            "cheaper": "condition or_none",
            "on": "rule",
            "ignore": "rule",
            "failed_if": "predicate or_none",
        },
    ),
    "Endpoint": (
        Endpoint,
        {"target": "a"},
        {
            "target": "target",
            "name": "name",
            "zone": "name",
            "level": "level or_none",
            "weight": "endpoint_weight",
            "labels": "label_mapping",
        },
    ),
    "dns": (
        dns,
        {"host": "search.internal", "port": 443},
        {"host": "host", "port": "port", "every": "seconds", "keep": "seconds_or_zero"},
    ),
    "probe_http": (
        probe_http,
        {"path": "/health"},
        {"path": "path", "every": "seconds", "timeout": "seconds", "context": "context or_none"},
    ),
    "custom_gate": (
        custom_gate,
        {"gate": Gate()},
        {
            "gate": "gate",
            "kind": "kind or_none",
            "reasons": "reasons or_none",
            "on": "rule",
            "ignore": "rule",
            "failed_if": "predicate or_none",
            "enforce": "enforce",
            "name": "name",
        },
    ),
}
PUBLIC = {
    "adaptive_limit": adaptive_limit,
    "circuit_breaker": circuit_breaker,
    "bulkhead": bulkhead,
    "rate_limit": rate_limit,
    "spend_limit": spend_limit,
    "Rate": Rate,
    "pipeline": pipeline,
    "custom_gate": custom_gate,
    "pool": pool,
    "Endpoint": Endpoint,
    "dns": dns,
    "probe_http": probe_http,
}
CHANGEABLE = {"adaptive_limit", "bulkhead", "circuit_breaker", "custom_gate", "pool", "rate_limit", "spend_limit"}


def bad_values(what: str) -> Iterator[Any]:
    """Yield what a parameter of that sort rejects."""
    sort, _, optional = what.partition(" ")
    for value in BAD[sort]:
        if not (optional and value is None):
            yield value


def rows(changing: bool) -> list[Any]:
    """Return every parameter with its kind of value; `changing`: those that `reconfigure` takes."""
    return [
        pytest.param(function, parameter, id=f"{function}-{parameter}")
        for function, (_, _, parameters) in TABLE.items()
        for parameter in parameters
        if not changing or (function in CHANGEABLE and parameter != "name")
    ]


def error_of(call: Callable[[], Any], value: Any) -> str:
    """Return the text of the error that a bad value raises; it is a TypeError or ValueError and no subclass of one."""
    with pytest.raises((TypeError, ValueError)) as caught:
        pytest.fail(f"{show(value)} was accepted: {call()!r}")
    assert type(caught.value) in (TypeError, ValueError), (show(value), caught.value)
    return str(caught.value)


@pytest.mark.parametrize(("function", "parameter"), rows(changing=False))
def test_bad_values_are_rejected_by_name(function: str, parameter: str) -> None:
    """The error is a TypeError or ValueError whose text has the parameter's name and the value."""
    factory, good, parameters = TABLE[function]
    for value in bad_values(parameters[parameter]):
        text = error_of(lambda value=value: factory(**{**good, parameter: value}), value)
        assert parameter in text, text
        shown = [show(value), *(show(part) for part in value)] if isinstance(value, tuple) else [show(value)]
        assert any(part in text for part in shown), text


@pytest.mark.parametrize("function", list(TABLE))
def test_every_parameter_is_in_the_table(function: str) -> None:
    """A new parameter has to say what it rejects."""
    parameters = set(inspect.signature(PUBLIC[function]).parameters) - {"bare", "use"}
    assert parameters == set(TABLE[function][2])


@pytest.mark.parametrize(("function", "parameter"), rows(changing=True))
def test_reconfigure_rejects_the_same_and_changes_nothing(function: str, parameter: str) -> None:
    """What the constructor rejects, `reconfigure` rejects too, and the options stay as they were."""
    factory, good, parameters = TABLE[function]
    policy = factory(**good)
    before = policy.config
    for value in bad_values(parameters[parameter]):
        given = (value,) if parameter == "rates" else value
        assert parameter in error_of(lambda given=given: policy.reconfigure(**{parameter: given}), value)
        assert policy.config is before


@pytest.mark.parametrize("function", ["adaptive_limit", "bulkhead", "circuit_breaker", "pool", "rate_limit"])
def test_an_unknown_option_is_rejected_by_name(function: str) -> None:
    """Constructor, `reconfigure` and `configure` name an option that there is none of."""
    factory, good, _ = TABLE[function]
    with pytest.raises(TypeError, match="no_such_option"):
        factory(**good, no_such_option=1)
    policy = factory(**good, name="policy")
    with pytest.raises(TypeError, match="no_such_option"):
        policy.reconfigure(no_such_option=1)
    for name in ("policy", "later"):
        with pytest.raises(TypeError, match="no_such_option"):
            registry.configure({name: {"no_such_option": 1}})


TOGETHER = [
    (lambda: adaptive_limit(max_queued=3), "max_wait"),
    (lambda: adaptive_limit(max_wait=3), "max_wait"),
    (lambda: adaptive_limit(floor=9, ceiling=8), "ceiling"),
    (lambda: bulkhead(2, max_queued=3), "max_wait"),
    (lambda: bulkhead(2, max_wait=3), "max_wait"),
    (lambda: bulkhead(2, weight=3), "weight"),
    (rate_limit, "rates"),
    (lambda: rate_limit(*["1/s"] * 9), "rates"),
    (lambda: rate_limit("1/s", burst=2, cost=3), "burst"),
    (lambda: circuit_breaker(open_for=5.0, max_open_for=1.0), "max_open_for"),
    (lambda: circuit_breaker(window=10, min_calls=11), "min_calls"),
    (pipeline, "policies"),
    (lambda: pipeline(*[circuit_breaker() for _ in range(17)]), "policies"),
]


@pytest.mark.filterwarnings(f"ignore::{resilio.PipelineWarning.__module__}.PipelineWarning")
@pytest.mark.parametrize(("make", "parameter"), TOGETHER)
def test_what_does_not_fit_together_is_rejected_by_name(make: Callable[[], Any], parameter: str) -> None:
    """Values that are good alone and senseless together."""
    with pytest.raises((TypeError, ValueError), match=parameter):
        make()


METHODS: list[tuple[Callable[[Any], Any], str]] = [
    (lambda value: bulkhead(2).drain(value), "timeout"),
    (lambda value: pipeline(bulkhead(2)).drain(value), "timeout"),
]


@pytest.mark.parametrize(("call", "parameter"), METHODS)
def test_methods_that_take_a_time_reject_the_same(call: Callable[[Any], Any], parameter: str) -> None:
    """A time-out of a method is checked as an option is."""
    for value in bad_values("seconds_or_zero or_none"):
        assert parameter in error_of(lambda value=value: call(value), value)


@pytest.mark.parametrize("value", [math.nan, math.inf, -1, True, "1", None, Odd()], ids=show)
def test_reservations_reject_amounts_that_are_none(value: Any) -> None:
    """What is reserved and what is settled are numbers of tokens."""
    limit = rate_limit("100/s")
    with pytest.raises((TypeError, ValueError), match="requests"):
        limit.reserve(requests=value)
    with limit.reserve(requests=1) as reservation, pytest.raises((TypeError, ValueError), match="requests"):
        reservation.settle(requests=value)
    with pytest.raises((TypeError, ValueError), match="no_such_unit"):
        limit.reserve(no_such_unit=1)


@pytest.mark.parametrize("factory", [adaptive_limit, bulkhead, rate_limit])
def test_a_bare_decorator_says_what_to_write(factory: Callable[..., Any]) -> None:
    """`@bulkhead` and `@rate_limit` without options say how they are used."""
    with pytest.raises(TypeError, match=f"@{factory.__name__}\\("):

        @factory
        def function() -> None:
            """Be guarded."""


@pytest.mark.parametrize("function", ["bulkhead", "circuit_breaker", "rate_limit", "custom_gate"])
def test_what_is_no_function_cannot_be_guarded(function: str) -> None:
    """A policy put on something that is no function says so."""
    factory, good, _ = TABLE[function]
    policy = factory(**good)
    for value in (1, "f", None, Odd(), property(print), Gate):
        with pytest.raises(TypeError):
            policy(value)


@pytest.mark.parametrize(
    "make",
    [
        lambda: resilio.retry(3, on=ValueError),
        lambda: resilio.hedge(3, idempotent=True),
        lambda: resilio.adaptive_limit(3),
    ],
)
def test_an_option_by_position_is_rejected(make: Callable[[], Any]) -> None:
    """Where all options have names a value without one is not ignored: `retry(3, on=...)` would mean three attempts."""
    with pytest.raises(TypeError, match=r"takes its options by name, like .*, not 3 by position"):
        make()
