"""
Requests through a policy whose permits outlive the call: until the body or the stream of its answer has ended.

A client's hook returns when the headers are there; what comes then takes most of the time, and may fail. So the gates
of a policy are not asked by one native call with its strategies: neighbouring strategies are one native call, and
neighbouring gates give a permit, which the answer's `Lease` keeps.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Awaitable, Callable
from contextlib import suppress
from functools import partial
from typing import TYPE_CHECKING, Any

from resilio._config import refuse
from resilio._native import core
from resilio._outcome import Outcome
from resilio._policy import Policy
from resilio._priority import priority
from resilio.integrations._body import Held, tell, untold
from resilio.integrations._way import one_of, segments_of

if TYPE_CHECKING:
    from resilio._native.core import Permit

__all__ = ["Exchange", "Lease", "Once", "Route", "Spent", "settle"]


class Lease(Held):
    """
    The permits of one answer, which end together, once: by whatever ends the answer first, in any thread.

    A permit that is added after that ends at once, in the same way.
    """

    __slots__ = ("_error", "_how")

    def __init__(self, label: str) -> None:
        """
        Hold nothing yet.

        Args:
            label: What is abandoned, for the log.
        """
        super().__init__(label)
        self._how: str | None = None
        self._error: BaseException | None = None

    @property
    def over(self) -> bool:
        """Whether the answer has ended."""
        return self._how is not None

    def take(self, permit: Permit, answer: Any) -> None:
        """Hold a permit, whose gates judge the answer by what there is of it."""
        permit.answered(answer)
        self.hold(permit)

    def hold(self, permit: Permit) -> None:
        """Hold a permit."""
        self.add(permit)
        if self._how is not None:
            self._settle()

    def end(self, how: str, error: BaseException | None = None) -> None:
        """
        End all permits, unless that was done before.

        Args:
            how: "ended", "failed", "aborted" or "abandoned", as `Held` has it; or "success", "failure" or "ignore": the
                verdict for all gates.

            error: What the answer has ended with.
        """
        if self._how is None:
            self._error = error
            self._how = how
            self._settle()

    def _settle(self) -> None:
        how, error = self._how, self._error
        if how in ("ended", "aborted", "abandoned"):
            getattr(self, how)()
        elif how == "failed" and error is not None:
            self.failed(error)
        else:
            while permit := self._next():
                with suppress(RuntimeError):  # ended by hand
                    permit.failure(error) if how == "failure" else getattr(permit, str(how))()


class Exchange(ABC):
    """
    One logical call: how a try is made, and every answer that it was given, of which its caller gets at most one.

    A client's subclass says how a try is made, what an error says, and how an answer is let go of.
    """

    __slots__ = ("_leases", "over")

    _leases: list[tuple[Any, Lease]] | None
    over: bool

    def __init__(self) -> None:
        """Begin without answers."""
        self._leases = None
        self.over = False

    @abstractmethod
    def attempt(self, request: Any) -> Awaitable[Any]:
        """
        Return an answer, made known by `answered`.

        Args:
            request: The request, or what stands for it.
        """

    @abstractmethod
    def close(self, answer: Any) -> None:
        """Let go of an answer that nobody will see, which ends its lease."""

    @abstractmethod
    def blame(self, error: BaseException) -> BaseException | Outcome:
        """Return what an exception says of the dependency: an outcome, or what gates judge, itself or another."""

    def answered(self, answer: Any, lease: Lease) -> None:
        """Remember an answer and its lease; one that comes too late is let go of at once."""
        if self.over:
            self.close(answer)
        elif self._leases is None:
            self._leases = [(answer, lease)]
        else:
            self._leases.append((answer, lease))

    def lease_of(self, answer: Any) -> Lease | None:
        """Return the lease of an answer; None for what has none: it is whole, or came from elsewhere."""
        for one, lease in self._leases or ():
            if one is answer:
                return lease
        return None

    def finish(self, chosen: Any = None) -> None:
        """Let go of all answers but one, those that are still to come included."""
        self.over = True
        leases, self._leases = self._leases, None
        for answer, lease in leases or ():
            if answer is not chosen and not lease.over:
                self.close(answer)


class Once:
    """A request that is gone once sent, as strategies see it; everything else about it is the request's."""

    def __init__(self, request: Any) -> None:
        """Stand for `request`."""
        self.request = request

    def __getattr__(self, name: str) -> Any:
        return getattr(self.request, name)

    def sent(self, *, undone: bool = False) -> None:
        """It is sent now; `undone`: its server says that it has done nothing."""
        object.__setattr__(self, "__class__", Once if undone else Spent)


class Spent(Once):
    """One that has been sent: nothing can be called with it again."""

    def __next__(self) -> Any:
        """Say by being there, as an iterator does, that this argument is gone once used."""
        raise StopIteration


class Route:
    """The way of requests through one policy: what is native stays so, and permits go into the answers' leases."""

    __slots__ = ("_run", "acquire", "hedged", "label", "replays")

    def __init__(self, policy: Policy[Any]) -> None:
        """
        Take a policy apart.

        Args:
            policy: Any policy.

        Raises:
            TypeError: `policy` is no policy.
        """
        if not isinstance(policy, Policy):
            refuse("policy", policy, "a policy, like circuit_breaker() or standard('name', on='http')", TypeError)
        runs = segments_of(policy.gates)
        self.label = policy.label
        self.hedged = any(one_of(gate).kind == "hedge" for gate in policy.gates)
        self.replays = any(acts for acts, _ in runs)
        self.acquire = None if self.replays else runs[0][1].aacquire
        run: Inside = _attempt
        for acts, pipeline in reversed(runs):
            run = _strategies(pipeline, run) if acts else _gates(pipeline, run)
        self._run = run

    async def run(self, exchange: Exchange, request: Any) -> Any:
        """
        Return the answer to `request`, with its permits in its lease.

        Args:
            exchange: A new one, which makes the attempts.

            request: What keys, weights and costs are functions of.
        """
        answer = None
        try:
            answer = await self._run(exchange, request)
        finally:
            exchange.finish(answer)
        return answer


Inside = Callable[["Exchange", Any], Awaitable[Any]]


def _attempt(exchange: Exchange, request: Any) -> Awaitable[Any]:
    return exchange.attempt(request)


def _strategies(pipeline: core.Pipeline, inside: Inside) -> Inside:
    """Return neighbouring strategies around what is inside of them: one native call."""
    acall = pipeline.acall

    def through(exchange: Exchange, request: Any) -> Awaitable[Any]:
        return acall(partial(inside, exchange), request)

    return through


def _gates(pipeline: core.Pipeline, inside: Inside) -> Inside:
    """Return neighbouring gates, which all admit, or none, around what is inside of them."""
    acquire, current = pipeline.aacquire, core.current

    async def through(exchange: Exchange, request: Any) -> Any:
        if untold():
            tell()
        call = current()
        permit = await acquire(request) if call is None or not call.hedge else _for_copy(pipeline, request)
        try:
            answer = await inside(exchange, request)
        except BaseException as error:
            settle(permit, error, exchange.blame(error))
            raise
        lease = exchange.lease_of(answer)
        if lease is not None:
            lease.take(permit, answer)
        elif exchange.over:
            permit.ignore()
        else:
            permit.returned(answer)
        return answer

    return through


def _for_copy(pipeline: core.Pipeline, request: Any) -> Permit:
    """Return a permit for a hedge, which may be shed, and waits for nothing."""
    with priority("sheddable"):
        permit = pipeline.try_acquire(request)
    if isinstance(permit, core.Refusal):
        raise permit.error
    return permit


def settle(permit: Permit, error: BaseException, blamed: BaseException | Outcome) -> None:
    """
    End the permit of an attempt that has raised.

    Args:
        permit: It was held for the attempt.

        error: What was raised.

        blamed: What that says of the dependency, as `Exchange.blame` has it.
    """
    if isinstance(blamed, BaseException):
        permit.raised(blamed)  # here, where the strategies around are: they know whose cancellation it is
    elif blamed is Outcome.FAILURE:
        permit.failure(error)
    elif blamed is Outcome.SUCCESS:
        permit.success()
    else:
        permit.ignore()
