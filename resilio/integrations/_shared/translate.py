"""
Rejections in a client's terms: each derives from resilio's class and from the client's base class of failed requests.

An existing `except httpx.TransportError` keeps catching all errors after a policy is added. A retry that lists
`ConnectError` or `ReadTimeout` does not match, because nothing was connected or read. The classes are made once for
each client, at its first rejection.
"""

from __future__ import annotations

import importlib
from collections.abc import Callable
from functools import cache
from typing import Any

from resilio.errors import CallTimeoutError, DeadlineExceededError, RateLimitedError, RejectedError
from resilio.integrations._shared.headers import retry_after_header

__all__ = ["as_answer", "in_terms_of", "rejection_class"]

Path = tuple[str, str]
_STATUS: dict[type[Exception], int] = {RateLimitedError: 429, DeadlineExceededError: 504}
_OURS = (RejectedError, CallTimeoutError, DeadlineExceededError)


def in_terms_of(error: Exception, base: Path, timeout: Path | None = None) -> Exception:
    """
    Return `error` in its client's terms, with its attributes, cause and traceback.

    Args:
        error: An error that resilio raised; any other error is returned unchanged.

        base: Module and name of the client's base class of requests that were not completed.

        timeout: Module and name of its base class of timeouts, for calls that took too long; None: `base`.
    """
    if isinstance(error, _Translated) or not isinstance(error, _OURS):
        return error
    wanted = timeout if timeout is not None and isinstance(error, CallTimeoutError) else base
    made: Exception = _copy(error, _class(type(error), *wanted))
    made.__cause__, made.__context__ = error.__cause__, error.__context__
    made.__suppress_context__ = error.__suppress_context__
    return made.with_traceback(error.__traceback__)


def as_answer(error: Exception) -> tuple[int, dict[str, str]]:
    """
    Return the status and the headers of an answer that represents a rejection, and that SDKs do not retry at once.

    Args:
        error: The rejection, or the error of a passed deadline.
    """
    headers = {"content-type": "text/plain; charset=utf-8", "x-should-retry": "false"}
    after = retry_after_header(error)
    if after is not None:
        headers["retry-after"] = after
    return next((status for kind, status in _STATUS.items() if isinstance(error, kind)), 503), headers


class _Translated(Exception):  # noqa: N818 - a private marker
    """Marker of translated errors, which makes them picklable."""

    __slots__ = ()
    _client_class: Path
    _kind: type[Exception]

    def __reduce__(self) -> tuple[Any, ...]:
        fields, *state = _reduced(self._kind, self)
        return (_restore, (self._kind, self._client_class, fields), *state)

    def __str__(self) -> str:
        return self._kind.__str__(self)


@cache
def rejection_class(kind: type[Exception], module: str, name: str) -> type[Any]:
    """
    Return a class that derives from `kind` and from the client's class of that name.

    Args:
        kind: A class of `resilio.errors`, or a class derived from one.

        module: The client's module.

        name: Name of the client's class; dots separate attributes.
    """
    theirs: Any = importlib.import_module(module)
    for part in name.split("."):
        theirs = getattr(theirs, part)
    members = {
        "__module__": __name__,
        "__doc__": kind.__doc__,
        "__init__": kind.__init__,
        "_kind": kind,
        "_client_class": (module, name),
        "_request": None,  # read by httpx when it adds the request
    }
    return type(kind.__name__, (_Translated, kind, theirs), members)


_class: Callable[..., type[Any]] = rejection_class  # type checkers doubt that exception classes are hashable


def _reduced(kind: Any, error: BaseException) -> tuple[Any, ...]:
    _, *reduced = kind.__reduce__(error)
    return tuple(reduced)


def _copy(error: Exception, kind: type[Any]) -> Any:
    fields, *state = _reduced(type(error), error)
    made = kind(*fields)
    if state and isinstance(state[0], dict):
        made.__dict__.update(state[0])
    return made


def _restore(kind: type[Exception], client_class: Path, fields: tuple[Any, ...]) -> Any:
    try:
        wanted = _class(kind, *client_class)
    except (ImportError, AttributeError):  # unpickled where the client is not installed
        wanted = kind
    return wanted(*fields)
