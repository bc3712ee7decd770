"""One call of a channel through a policy, which may send it several times; grpcio is not needed here."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from resilio.errors import ResilienceError
from resilio.integrations._shared.held_permits import settle
from resilio.integrations._shared.request import Request

if TYPE_CHECKING:
    from resilio._failures.outcome import Outcome
    from resilio._native.core import Held
    from resilio.integrations._shared.guarded_call import GuardedCall

__all__ = ["Exchange", "hand_over"]


class Exchange(Request):
    """
    One call and all of its answers.

    A subclass has the attempt, the meaning of errors, and the way to close an answer.
    """

    __slots__ = ()

    def blame(self, error: BaseException) -> BaseException | Outcome:
        """Return the meaning of an exception for the dependency: an outcome, or an exception for gates to judge."""
        raise NotImplementedError

    def translated(self, error: ResilienceError) -> BaseException:
        """Return an error of resilio's as one that users of the client catch."""
        return error

    async def through(self, call: GuardedCall, shown: Any) -> Any:
        """
        Make the call through a policy, and return the answer that the policy chooses; all others are closed.

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


def hand_over(held: Held) -> None:
    """
    Put the permit of an answer into its lease; end that of an attempt that has raised: the hook of pipelines.

    Args:
        held: Of a call of `attempt`. The gates judge an answer without a lease by their own rules: it is
            whole, or came from elsewhere, as that of a hedge's other target.
    """
    request, error = getattr(held.function, "__self__", None), held.error
    if not isinstance(request, Exchange):
        return
    if error is not None:
        settle(held.take(), error, request.blame(error))
    elif request.leases and (lease := request.lease_of(held.answer)) is not None:
        lease.take(held.take(), held.answer)
    elif request.over:
        held.take().ignore()
