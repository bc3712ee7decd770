"""What a policy is shown where it asks what it guards, and that is no function of the user's but a client."""

from __future__ import annotations

from typing import Any

__all__ = ["StandIn", "instead_of"]


class StandIn:
    """
    Stands for the requests of a client that is not async; messages call it as the user does.

    Args:
        client: What the user has written, like "requests.Session".

        instead: What to do in place of each kind of policy that cannot guard it, as a sentence.
    """

    __slots__ = ("_client", "instead")

    def __init__(self, client: str, **instead: str) -> None:
        self._client = client
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
