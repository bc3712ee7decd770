"""
One request of a client: its attempts, its answers, and the permits that answers hold until their bodies have ended.

A policy may send a request several times, one after the other or at once. So there may be several answers, of which
the caller gets one at most; the others are closed here.
"""

from __future__ import annotations

from typing import Any

from resilio.integrations._shared.held_permits import Lease

__all__ = ["Request"]


class Request:
    """
    One request, and all of its answers, of which the caller gets one at most.

    A client's subclass has the attempt, and the way to close an answer.

    Attributes:
        leases: Answers with a body to come, each with the lease that holds its permits.

        over: Whether the caller has its answer, or is gone: answers that come later are closed.
    """

    __slots__ = ("leases", "over")

    def __init__(self) -> None:
        """Begin without an answer."""
        self.leases: tuple[tuple[Any, Lease], ...] = ()
        self.over = False

    def attempt(self, shown: Any, /) -> Any:
        """Return, awaited, the answer to the request, sent once; `shown` is the request as policies see it."""
        raise NotImplementedError

    def close(self, answer: Any) -> None:
        """Close an answer that nothing reads, which ends its lease."""
        raise NotImplementedError

    def answered(self, answer: Any, lease: Lease) -> None:
        """Remember an answer with a body to come, and its lease; one that comes too late is closed."""
        if self.over:
            self.close(answer)
        else:
            self.leases = (*self.leases, (answer, lease))

    def lease_of(self, answer: Any) -> Lease | None:
        """Return the lease of an answer; None for one that is whole, or came from elsewhere."""
        return next((lease for one, lease in self.leases if one is answer), None)

    def finish(self, chosen: Any = None) -> None:
        """Close all answers but one, those that are still to come included."""
        self.over = True
        leases, self.leases = self.leases, ()
        for answer, lease in leases:
            if answer is not chosen and not lease.over:
                self.close(answer)
