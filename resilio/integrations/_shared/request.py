"""
One request of a client: its attempts, its answers, and the permits that answers hold until their bodies have ended.

A policy may send a request several times, one after the other or at once. So there may be several answers, of which
the caller gets one at most; the others are closed here.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from resilio.errors import ResilienceError
from resilio.integrations._shared.held_permits import Lease, settle

if TYPE_CHECKING:
    from resilio._failures.outcome import Outcome
    from resilio._native.core import Held
    from resilio.integrations._shared.guarded_call import GuardedCall

__all__ = ["Request", "hand_over"]


class Request:
    """
    One request, and all of its answers, of which the caller gets one at most.

    A client's subclass has the attempt, the meaning of errors, and the way to close an answer.

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

    def blame(self, error: BaseException) -> BaseException | Outcome:
        """Return the meaning of an exception for the dependency: an outcome, or an exception for gates to judge."""
        raise NotImplementedError

    def translated(self, error: ResilienceError) -> BaseException:
        """Return an error of resilio's as one that users of the client catch."""
        return error

    async def through(self, call: GuardedCall, shown: Any) -> Any:
        """
        Send the request through a policy, and return the answer that the policy chooses; all others are closed.

        Args:
            call: The policy.

            shown: The argument of key, weight and cost functions.
        """
        answer = None
        try:
            answer = await call.send(self.attempt, shown)
        except ResilienceError as error:
            raise self.translated(error) from error.__cause__
        finally:
            self.finish(answer)
        return answer

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


def hand_over(held: Held) -> None:
    """
    Put the permit of an answer into its lease; end that of an attempt that has raised: the hook of pipelines.

    Args:
        held: Of a call of a request's `attempt`. The gates judge an answer without a lease by their own rules: it is
            whole, or came from elsewhere, as that of a hedge's other target.
    """
    request, error = getattr(held.function, "__self__", None), held.error
    if not isinstance(request, Request):
        return
    if error is not None:
        settle(held.take(), error, request.blame(error))
    elif request.leases and (lease := request.lease_of(held.answer)) is not None:
        lease.take(held.take(), held.answer)
    elif request.over:
        held.take().ignore()
