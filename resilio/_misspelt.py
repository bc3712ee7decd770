"""What a function that makes policies says of an option that it does not have."""

from __future__ import annotations

from collections.abc import Callable
from functools import wraps
from typing import Any, TypeVar

from resilio._config import meant

__all__ = ["names_its_options"]

F = TypeVar("F", bound=Callable[..., Any])
_ELSEWHERE = {
    "exceptions": "on",
    "exclude": "ignore",
    "expected_exception": "on",
    "fail_max": "consecutive",
    "failure_threshold": "consecutive",
    "idempotent": "replay_safe",
    "max_tries": "attempts",
    "recovery_timeout": "open_for",
    "replay_safe": "idempotent",
    "reset_timeout": "open_for",
    "retries": "attempts",
    "stop": "attempts",
    "tries": "attempts",
    "wait": "backoff",
    "wait_gen": "backoff",
}
"""Names of other libraries, and of other policies here, where the letters alone would lead astray or nowhere."""


def names_its_options(factory: F) -> F:
    """
    Have an option that does not exist answered with those that do, and with the one that may be meant.

    Who comes from another library writes `max_attempts` or `fail_max`; "unexpected keyword argument" would leave them
    alone with it. All else about the function stays what it was.

    Args:
        factory: A Python function without `**options`.
    """
    code: Any = factory.__code__  # `inspect` takes longer to import than all of resilio
    names = code.co_varnames[code.co_posonlyargcount : code.co_argcount + code.co_kwonlyargcount]
    known = frozenset(names)

    @wraps(factory)
    def make(*args: Any, **options: Any) -> Any:
        if not options.keys() <= known:
            name = next(name for name in options if name not in known)
            like = meant(_ELSEWHERE.get(name, name), known)
            raise TypeError(f"{factory.__name__}: no option {name!r}{like}; there are: {', '.join(sorted(known))}")
        return factory(*args, **options)

    return make  # type: ignore[return-value]
