"""Attribution of an exception of an aiohttp request: to the dependency, to the caller, or to neither."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Any

from resilio._failures.outcome import Outcome
from resilio.errors import ResilienceError
from resilio.integrations._aiohttp.lib import aiohttp
from resilio.integrations._shared.raised_in import module_of, ways_of

if TYPE_CHECKING:
    from types import FrameType

__all__ = ["blame", "out_of_time"]

_WRITING = frozenset({"aiohttp.base_protocol", "aiohttp.http_writer"})
"""Modules that write a body to the connection."""
_MISTAKES = (ArithmeticError, AssertionError, AttributeError, LookupError, RuntimeError, TypeError, ValueError)


def out_of_time(subject: Any) -> bool:
    """Return True if the client's own total timeout has cut a request or a response short."""
    return bool(getattr(getattr(subject, "_timer", None), "_cancelled", False))


def blame(error: BaseException, request: Any) -> BaseException | Outcome:
    """
    Return the meaning of an exception for the dependency: an outcome, or an exception for gates to judge.

    Args:
        error: The exception of sending. aiohttp's own total timeout is a cancellation here; aiohttp turns it into a
            timeout further out.

        request: The request.
    """
    if isinstance(error, asyncio.CancelledError):
        if not out_of_time(request):
            return error
        return Outcome.IGNORED if _waited_for_pool(error) else TimeoutError()
    return Outcome.IGNORED if _is_callers_fault(error) else error


def _is_callers_fault(error: BaseException) -> bool:
    """Return True for an error that is no evidence about the dependency: nothing reached it, or the request is bad."""
    if isinstance(error, (aiohttp.InvalidURL, aiohttp.NonHttpUrlClientError)):
        return True
    if isinstance(error, aiohttp.ConnectionTimeoutError):
        return _waited_for_pool(error)
    if type(error) is aiohttp.ClientConnectionError:  # the body's source has raised, or the connector is closed
        return not isinstance(error.__cause__, OSError)
    if isinstance(error, OSError) and any(map(_is_of_the_body, ways_of(error))):
        return True
    return isinstance(error, _MISTAKES) and not isinstance(error, (aiohttp.ClientError, OSError, ResilienceError))


def _is_of_the_body(frames: list[FrameType]) -> bool:
    """Return True if these frames of an error show that the source of a request's body raised it."""
    for number, frame in enumerate(frames, 1):
        if frame.f_code.co_name == "write_bytes" and module_of(frame) == "aiohttp.client_reqrep":
            inside = frames[number:]  # empty if it waited for the server's 100 Continue
            return bool(inside) and not any(module_of(each) in _WRITING for each in inside)
    return False


def _waited_for_pool(error: BaseException) -> bool:
    """Return True if time ran out in the wait for a free connection; a slow connect raises the same error."""
    frames = (frame for way in ways_of(error) for frame in way)
    return any(frame.f_code.co_name == "_wait_for_available_connection" for frame in frames)
