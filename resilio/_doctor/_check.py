"""Building blocks of the checks, which are functions that raise if their protection does not work."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

__all__ = ["FOREVER", "SOON", "UnprotectedError", "must_raise", "require"]

SOON = 0.02
"""Seconds until a timer of the checks is due; a delay is no failure."""

FOREVER = 3600.0
"""Seconds of a wait that the protection has to end; if it fails, the watching process ends the wait much earlier."""


class UnprotectedError(Exception):
    """A protection did not work; the message describes what happened instead."""


def require(condition: object, otherwise: str) -> None:
    """Raise `UnprotectedError` with *otherwise* unless the condition holds."""
    if not condition:
        raise UnprotectedError(otherwise)


@contextmanager
def must_raise(expected: type[BaseException], otherwise: str) -> Iterator[None]:
    """Expect an exception in the block; if it ends in another way, raise `UnprotectedError` with *otherwise*."""
    try:
        yield
    except (expected, UnprotectedError) as error:
        if isinstance(error, UnprotectedError):
            raise
        return
    except Exception as error:
        raise UnprotectedError(f"{otherwise}; it raised {error!r}") from error
    raise UnprotectedError(otherwise)
