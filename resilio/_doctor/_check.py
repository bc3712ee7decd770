"""What a check of the self-test is: a function that raises where its protection does not work."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

__all__ = ["FOREVER", "SOON", "UnprotectedError", "must_raise", "require"]

SOON = 0.02
"""Seconds after which a timer of the checks is due. How much later it fires is not judged."""

FOREVER = 3600.0
"""Seconds that a wait may take which has to be ended by something else; the watching process ends it much earlier."""


class UnprotectedError(Exception):
    """A protection did not do what it promises; the message says what happened instead."""


def require(condition: object, otherwise: str) -> None:
    """Raise `UnprotectedError` with *otherwise* unless the condition holds."""
    if not condition:
        raise UnprotectedError(otherwise)


@contextmanager
def must_raise(expected: type[BaseException], otherwise: str) -> Iterator[None]:
    """Expect an exception of the block; where it ends otherwise, raise `UnprotectedError` with *otherwise*."""
    try:
        yield
    except (expected, UnprotectedError) as error:
        if isinstance(error, UnprotectedError):
            raise
        return
    except Exception as error:
        raise UnprotectedError(f"{otherwise}; it raised {error!r}") from error
    raise UnprotectedError(otherwise)
