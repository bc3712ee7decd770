"""What a policy is shown where it asks what it guards, and that is no function of the user's but a client."""

from __future__ import annotations

from typing import Any, TypeVar

__all__ = ["StandIn", "heeds_time", "instead_of", "mark_as_heeding_time", "returns_with_headers"]

F = TypeVar("F")


class StandIn:
    """
    Stands for the requests of a client that is not async; messages call it as the user does.

    Args:
        client: What the user has written, like "requests.Session".

        heeds_time: Whether it gives its sockets no more time than timeouts and deadlines leave.

        instead: What to do in place of each kind of policy that cannot guard it, as a sentence.
    """

    __slots__ = ("_client", "_resilio_heeds_time", "instead")

    def __init__(self, client: str, *, heeds_time: bool = False, **instead: str) -> None:
        self._client = client
        self._resilio_heeds_time = heeds_time
        self.instead = instead

    def __call__(self, request: Any) -> Any:
        """Return the request: a function of one, for who looks for parameters."""
        return request

    def __repr__(self) -> str:
        return self._client


def instead_of(fn: Any, kind: str, usual: str) -> str:
    """
    Return what to do where a kind of policy cannot guard `fn`.

    Args:
        fn: A function, or what stands for a client.

        kind: Of the policy.

        usual: What to do with a function.
    """
    return fn.instead.get(kind, usual) if isinstance(fn, StandIn) else usual


def mark_as_heeding_time(fn: F, *, to_headers: bool = False) -> F:
    """
    Return `fn`, marked as one that ends by itself when the ambient deadline passes, although it is not async.

    Args:
        fn: A function of an integration, which gives its sockets no more time than is left.

        to_headers: Whether it returns with the headers of an answer: then the clock `first` bounds it as well.
    """
    fn._resilio_heeds_time = "to headers" if to_headers else True  # type: ignore[attr-defined]
    return fn


def heeds_time(fn: Any) -> bool:
    """
    Return whether `fn` ends by itself when the ambient deadline passes: timeouts may guard it without a thread.

    Args:
        fn: A function, or what stands for a client.
    """
    return getattr(fn, "_resilio_heeds_time", False) in (True, "to headers")


def returns_with_headers(fn: Any) -> bool:
    """
    Return whether `fn` is marked as one that returns with the headers of an answer.

    Args:
        fn: A function.
    """
    return getattr(fn, "_resilio_heeds_time", False) == "to headers"
