"""
One request as its client's exchange: what belongs to it alone, and travels with it through the policy.

A policy may send a request several times, one after the other or at once. So there may be several answers, of which
the caller gets one at most; what they hold is let go of here.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from typing import TYPE_CHECKING, Any

from resilio._native import core
from resilio.integrations._body import Lease, settle

if TYPE_CHECKING:
    from collections.abc import Awaitable

    from resilio._native.core import Permit
    from resilio._outcome import Outcome
    from resilio.integrations._way import Way

__all__ = ["Exchange"]


class Exchange(core.Exchange, ABC):
    """
    One logical call: how a try is made, and every answer that it was given, of which its caller gets at most one.

    A client's subclass says how a try is made, what an error says, and how an answer is let go of. The native call
    calls `finish` when it is over, however that comes, unless there is nothing to let go of.
    """

    __slots__ = ()

    @abstractmethod
    def close(self, answer: Any) -> None:
        """Let go of an answer that nobody will see, which ends its lease."""

    @abstractmethod
    def blame(self, error: BaseException) -> BaseException | Outcome:
        """Return what an exception says of the dependency: an outcome, or what gates judge, itself or another."""

    def told(self, error: BaseException) -> BaseException:
        """Return an error as the client's users know errors."""
        return error

    def answered(self, answer: Any, lease: Lease) -> None:
        """Remember an answer and its lease; one that comes too late is let go of at once."""
        if self.over:
            self.close(answer)
        else:
            self.leases = (*(self.leases or ()), (answer, lease))

    def lease_of(self, answer: Any) -> Lease | None:
        """Return the lease of an answer; None for what has none: it is whole, or came from elsewhere."""
        for one, lease in self.leases or ():
            if one is answer:
                found: Lease = lease
                return found
        return None

    def through(self, way: Way, request: Any) -> Awaitable[Any]:
        """
        Return, awaited, the answer to a request that goes through a policy; whatever else is answered is let go of.

        Args:
            way: The policy.

            request: What keys, weights and costs are functions of.
        """
        sent: Awaitable[Any] = way.send(self, request)
        return sent

    def hold(self, permit: Permit, answer: Any) -> None:
        """Put a permit into the lease of an answer; one without is whole, and ends it."""
        lease = self.lease_of(answer)
        if lease is not None:
            lease.take(permit, answer)
        elif self.over:
            permit.ignore()
        else:
            permit.returned(answer)

    def settle(self, permit: Permit, error: BaseException) -> None:
        """End the permit of an attempt that has raised, by what that says."""
        settle(permit, error, self.blame(error))

    def finish(self, chosen: Any = None) -> None:
        """Let go of all answers but one, those that are still to come included."""
        self.over = True
        leases, self.leases = self.leases, ()
        for answer, lease in leases or ():
            if answer is not chosen and not lease.over:
                self.close(answer)
