"""Whose fault it is when a request of aiohttp raises: the dependency's, the caller's, or nobody's."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Any

from resilio._outcome import Outcome
from resilio.errors import ResilienceError
from resilio.integrations._aiohttp_lib import aiohttp

if TYPE_CHECKING:
    from types import TracebackType

__all__ = ["blame", "out_of_time"]

_MISTAKES = (ArithmeticError, AssertionError, AttributeError, LookupError, RuntimeError, TypeError, ValueError)


def out_of_time(subject: Any) -> bool:
    """Tell whether the client's own total timeout has cut a request or a response short."""
    return bool(getattr(getattr(subject, "_timer", None), "_cancelled", False))


def blame(error: BaseException, request: Any) -> BaseException | Outcome:
    """
    Return what an exception says of the dependency: an outcome, or what gates judge, itself or another.

    Args:
        error: What sending has raised. aiohttp's own total timeout is a cancellation in here, and a timeout only
            further out.

        request: The request.
    """
    if isinstance(error, asyncio.CancelledError):
        if not out_of_time(request):
            return error
        return Outcome.IGNORED if _waited_for_pool(error) else TimeoutError()
    return Outcome.IGNORED if _is_callers_fault(error) else error


def _is_callers_fault(error: BaseException) -> bool:
    """Tell what says nothing about the dependency: it never came to that, or the request could not be made."""
    if isinstance(error, (aiohttp.InvalidURL, aiohttp.NonHttpUrlClientError)):
        return True
    if isinstance(error, aiohttp.ConnectionTimeoutError):
        return _waited_for_pool(error)
    if type(error) is aiohttp.ClientConnectionError:  # the body's source has raised, or the connector is closed
        return not isinstance(error.__cause__, OSError)
    return isinstance(error, _MISTAKES) and not isinstance(error, (aiohttp.ClientError, OSError, ResilienceError))


def _waited_for_pool(error: BaseException) -> bool:
    """Tell whether time was up while the request waited for a free connection: aiohttp has one error for both."""
    seen: BaseException | None = error
    while seen is not None:
        traceback: TracebackType | None = seen.__traceback__
        while traceback is not None:
            if traceback.tb_frame.f_code.co_name == "_wait_for_available_connection":
                return True
            traceback = traceback.tb_next
        seen = seen.__cause__ or seen.__context__
    return False
