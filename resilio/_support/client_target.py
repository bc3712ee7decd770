"""Placeholder for a client in checks and error messages that expect a guarded function."""

from __future__ import annotations

from typing import Any, TypeVar

__all__ = ["HEEDS_TIME", "TO_HEADERS", "StandIn", "heeds_time", "instead_of", "mark_as_heeding_time"]

F = TypeVar("F")
HEEDS_TIME = "_resilio_heeds_time"
"""The attribute by which a function is marked; its value is True, or `TO_HEADERS` if it returns with the headers."""
TO_HEADERS = "to headers"


class StandIn:
    """
    Placeholder for the requests of a client that is not async; messages use the client's public name.

    Args:
        client: The name that users write, like "requests.Session".

        heeds_time: True if its sockets have no more time than timeouts and deadlines leave.

        instead: The alternative to each kind of policy that cannot guard it, as a sentence.
    """

    __slots__ = ("_client", "_resilio_heeds_time", "instead")

    def __init__(self, client: str, *, heeds_time: bool = False, **instead: str) -> None:
        self._client = client
        self._resilio_heeds_time = heeds_time
        self.instead: dict[str, str] = instead

    def __call__(self, request: Any) -> Any:
        """Return the request; the signature, of one parameter, is for checks of parameters."""
        return request

    def __repr__(self) -> str:
        return self._client


def instead_of(fn: Any, kind: str, usual: str) -> str:
    """
    Return the alternative to a kind of policy that cannot guard `fn`, as a sentence.

    Args:
        fn: A function, or a client's stand-in.

        kind: The kind of the policy.

        usual: The alternative for a function.
    """
    return fn.instead.get(kind, usual) if isinstance(fn, StandIn) else usual


def mark_as_heeding_time(fn: F, *, to_headers: bool = False) -> F:
    """
    Return `fn`, marked as one that ends by itself when the ambient deadline passes, although it is not async.

    Args:
        fn: A function of an integration, whose sockets have no more time than is left.

        to_headers: True if it returns with the headers of an answer: then the clock `first` bounds it as well.
    """
    setattr(fn, HEEDS_TIME, TO_HEADERS if to_headers else True)
    return fn


def heeds_time(fn: Any) -> bool:
    """
    Return True if `fn` ends by itself when the ambient deadline passes: timeouts may guard it without a thread.

    Args:
        fn: A function, or a client's stand-in.
    """
    return getattr(fn, HEEDS_TIME, False) in (True, TO_HEADERS)
