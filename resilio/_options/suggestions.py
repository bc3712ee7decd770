"""Error messages for options that a function does not have."""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable
from functools import wraps
from typing import Any, NoReturn, TypeVar

from resilio._options.validators import meant

__all__ = ["hint", "names_its_options", "reject_unknown"]

F = TypeVar("F", bound=Callable[..., Any])


def hint(name: str, known: Collection[str]) -> str:
    """Return, in brackets, what to write in place of an option that does not exist; "" if nothing resembles it."""
    from resilio._options.elsewhere import advice  # a long table, needed only for a message

    instead = advice(name, known)
    return f" ({instead})" if instead else meant(name, known)


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
    raise TypeError(f"{factory}: no option {name!r}{hint(name, known)}; there are: {', '.join(sorted(known))}")


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
