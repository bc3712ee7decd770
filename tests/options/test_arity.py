"""Functions that are options: rejected where they are given if they cannot be called as they will be."""

from __future__ import annotations

import functools
import operator
from collections.abc import Callable
from typing import TYPE_CHECKING, Any
from unittest.mock import MagicMock

import pytest

import resilio
from resilio.integrations.asgi import Middleware

if TYPE_CHECKING:
    from nowhere import Missing  # type: ignore[import-not-found]

MAKES: dict[str, Callable[..., Any]] = {
    "on": lambda f: resilio.circuit_breaker(on=f),
    "ignore": lambda f: resilio.circuit_breaker(ignore=f),
    "failed_if": lambda f: resilio.retry(on=OSError, failed_if=f),
    "backoff": lambda f: resilio.retry(on=OSError, backoff=f),
    "handler": lambda f: resilio.fallback(on=OSError, handler=f),
    "discard": lambda f: resilio.hedge(idempotent=True, discard=f),
    "trust": lambda f: Middleware(print, resilio.bulkhead(3), trust=f),
    "exempt": lambda f: Middleware(print, resilio.bulkhead(3), exempt=f),
}


class Method:
    """Has the forms that a function may have."""

    def one(self, subject: Any) -> bool:
        """Take one."""
        return bool(subject)

    def __call__(self, subject: Any) -> bool:
        return bool(subject)

    @staticmethod
    def static(subject: Any) -> bool:
        """Take one."""
        return bool(subject)


def two(subject: Any, other: Any) -> bool:
    """Need two."""
    return bool(subject or other)


@functools.wraps(two)
def wrapper(subject: Any) -> bool:
    """Give the other one itself: `__wrapped__` needs two."""
    return two(subject, None)


def annotated(subject: Missing) -> bool:
    """Name a type that is not there when it runs."""
    return bool(subject)


RIGHT = {
    "one": lambda subject: subject == 1,
    "a default": lambda subject, other=None: bool(subject or other),
    "only a default": lambda subject=None: bool(subject),
    "any": lambda *subjects: bool(subjects),
    "keywords": lambda subject, *, other=None, **more: bool(subject or other or more),
    "a method": Method().one,
    "a static method": Method.static,
    "an object": Method(),
    "a partial": functools.partial(two, other=1),
    "a partial by position": functools.partial(two, 1),
    "a wrapper": wrapper,
    "annotated": annotated,
    "a builtin": operator.not_,
    "one without a signature": operator.attrgetter("status"),
    "a mock": MagicMock(),
}
WRONG = {
    "none": lambda: True,
    "two": two,
    "a keyword needed": lambda subject, *, other: bool(subject or other),
    "a method of the class": Method.one,
    "a partial of two given": functools.partial(two, 1, 2),
    "annotated, and two": lambda subject, other: bool(subject or other),
}


@pytest.mark.parametrize("name", RIGHT)
@pytest.mark.parametrize("option", MAKES)
def test_what_can_be_called_is_taken(option: str, name: str) -> None:
    """No form of a function that works is rejected."""
    MAKES[option](RIGHT[name])


@pytest.mark.parametrize("name", WRONG)
@pytest.mark.parametrize("option", MAKES)
def test_the_wrong_number_of_arguments_is_rejected(option: str, name: str) -> None:
    """`backoff=lambda: 1` failed at the first retry, and a predicate of two was one that ignored every failure."""
    with pytest.raises(TypeError, match=rf"{option} is called as {option}\(\w+\): .* takes \("):
        MAKES[option](WRONG[name])


def test_the_message_shows_what_is_expected_and_what_was_given() -> None:
    """Changing an option says the same."""
    policy = resilio.retry(on=OSError)
    with pytest.raises(
        TypeError, match=r"backoff is called as backoff\(attempt\): <function two at .*> takes \(subject: "
    ):
        policy.reconfigure(backoff=two)


OF_CALLS: dict[str, Callable[..., Any]] = {
    "key": lambda f: resilio.keyed(resilio.circuit_breaker, key=f),
    "cost": lambda f: resilio.rate_limit("9/s", cost=f),
    "cost of a rate": lambda f: resilio.rate_limit(resilio.Rate("9/s", cost=f)),
    "weight": lambda f: resilio.pipeline(resilio.circuit_breaker(), resilio.bulkhead(9, weight=f)),
    "tenant": lambda f: resilio.load_shed(tenant=f),
    "idempotent": lambda f: resilio.hedge(idempotent=f),
}


@pytest.mark.parametrize("option", OF_CALLS)
def test_a_function_of_the_calls_arguments_that_fits_no_call_is_rejected(option: str) -> None:
    """`key=lambda: ...` of a function with arguments had no key in any call, and all shared one policy."""

    async def none() -> None: ...

    async def both(host: str, path: str = "/") -> None: ...

    async def any_of(*args: Any, **more: Any) -> None: ...

    async def named(*, host: str) -> None: ...

    for wrong, fn in ((lambda: 1, both), (lambda a, b, c: 1, both), (lambda a: 1, none), (lambda a, b: 1, named)):
        with pytest.raises(
            TypeError, match=rf"{option.split(maxsplit=1)[0]} of an? \w+ is called with the arguments of .*and takes"
        ):
            OF_CALLS[option](wrong)(fn)
    for right, fn in (
        (lambda host: 1, both),
        (lambda host, path: 1, both),
        (lambda host="", path="", more="": 1, both),
        (lambda *args, **more: 1, both),
        (lambda: 1, none),
        (lambda a, b, c: 1, any_of),
        (lambda host: 1, named),
        (len, both),
    ):
        OF_CALLS[option](right)(fn)
