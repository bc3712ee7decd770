"""A mark for exceptions that no further attempt can help against."""

from __future__ import annotations

from typing import TypeVar

from resilio._options.validators import reject

__all__ = ["is_permanent", "permanent"]

E = TypeVar("E", bound=BaseException)
_MARK = "_resilio_permanent"


def permanent(error: E) -> E:
    """
    Return an exception marked as permanent, to raise it: no retry and no hedge runs the call again.

    The caller gets the exception itself, of its own class. All else judges it as without the mark: a breaker counts it
    by its `on` and `ignore`, a fallback goes on to its targets. The mark stays with the exception, and counts in each
    retry that it passes; an exception that is raised `from` a marked one is another exception.

    Args:
        error: The exception, not its class.

    Raises:
        TypeError: No exception, or one whose class allows no attributes.
    """
    if not isinstance(error, BaseException):
        reject("error", error, "an exception, like permanent(ValueError('no such user'))", TypeError)
    try:
        setattr(error, _MARK, True)
    except AttributeError:
        raise TypeError(f"error must be of a class that allows attributes, not {type(error).__name__}") from None
    return error


def is_permanent(error: object) -> bool:
    """Return True if an exception has the mark."""
    return getattr(error, _MARK, False) is True
