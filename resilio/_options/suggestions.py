"""Error messages for options that a function does not have."""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable
from functools import wraps
from typing import Any, NoReturn, TypeVar

from resilio._options.validators import meant

__all__ = ["names_its_options", "reject_unknown"]

F = TypeVar("F", bound=Callable[..., Any])
_ELSEWHERE = {
    "exceptions": "on",
    "exclude": "ignore",
    "expected_exception": "on",
    "fail_max": "consecutive",
    "failure_threshold": "consecutive",
    "max_tries": "attempts",
    "recovery_timeout": "open_for",
    "reset_timeout": "open_for",
    "retries": "attempts",
    "stop": "attempts",
    "tries": "attempts",
    "wait": "backoff",
    "wait_gen": "backoff",
}
"""Names of other libraries, and of other policies here, for which a similar spelling would mislead or not exist."""


def reject_unknown(factory: str, options: Iterable[str], known: Collection[str]) -> NoReturn:
    """
    Raise the TypeError about an option that does not exist, with all existing ones and the likely one.

    A user of another library writes `max_attempts` or `fail_max`; "unexpected keyword argument" would not help.

    Args:
        factory: The name of the function that makes the policy.

        options: The user's options, at least one of which does not exist.

        known: The options that exist.
    """
    name = next(name for name in options if name not in known)
    like = meant(_ELSEWHERE.get(name, name), known)
    raise TypeError(f"{factory}: no option {name!r}{like}; there are: {', '.join(sorted(known))}")


def names_its_options(factory: F) -> F:
    """
    Return a function like `factory` that calls `reject_unknown` for an option that does not exist.

    Args:
        factory: A Python function without `**options`.
    """
    code: Any = factory.__code__  # `inspect` takes longer to import than all of resilio
    known = frozenset(code.co_varnames[code.co_posonlyargcount : code.co_argcount + code.co_kwonlyargcount])

    @wraps(factory)
    def make(*args: Any, **options: Any) -> Any:
        if not options.keys() <= known:
            reject_unknown(factory.__name__, options, known)
        return factory(*args, **options)

    return make  # type: ignore[return-value]
