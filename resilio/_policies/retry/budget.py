"""
A retry budget bounds the load that retries and hedges add to a dependency, and spends nothing on one that is down.

Why: three attempts triple the load just when the dependency is failing, and layers multiply. When not: if the
dependency has a single caller (a file, a local process), the number of attempts is bound enough. It is not a rate limit
(it lets bursts of `cap` pass), nor a circuit breaker (first attempts always pass).

Successes pay into it, not requests, so during a total outage only savings and loans are spent. A retry costs as much
as the failed attempt has cost the dependency: a token for a timeout, a twentieth for an immediate rejection, whose
retry adds next to no work. While fewer than 44 in 100 attempts fail and successes are as quick as usual, a call that
succeeds pays back threefold the tokens it has taken. Each success then leaves one retry.

So failures by chance, and those of a replica that is down, are retried up to `attempts` times. An overload is not, if
its successes are slower than before, or half of the attempts fail slowly: then the load is at most
1 / (1 - ratio / 2). One case looks like a replica that is down: a server that rejects at once and that this client has
never seen healthy. There each failing call is tried `attempts` times, and less often if the server sends a Retry-After.

Savings above `initial` decay, and the reserve is armed only by a success, because both multiply by the number of
clients. `initial` does not decay: a client that calls once an hour has the retries of a new one. Calls in flight lend
the tokens that they will pay in if they succeed, so that a burst can retry; successes pay the loan back first.
"""

from __future__ import annotations

from collections.abc import Mapping
from inspect import Signature
from typing import TYPE_CHECKING, Any, Self, cast

import attrs

from resilio._native import budget as native
from resilio._native import core
from resilio._options.fields import NamedFirstOptions, ScopedOptions, option, record
from resilio._options.fleets import OnStoreDown, on_store_down
from resilio._options.scope import PROCESS, wanted
from resilio._options.validators import number, policy_name, reject, seconds
from resilio._policy.factory import Reading, takes
from resilio._policy.snapshot import Snapshot
from resilio._policy.types import SecondsOrNone
from resilio._registry import kinds, names
from resilio._registry.changes import changed
from resilio._registry.definitions import obtain

__all__ = ["RetryBudget", "RetryBudgetConfig", "RetryBudgetSnapshot"]

_MOST = 1_000_000


@record
class RetryBudgetConfig(NamedFirstOptions, ScopedOptions):
    """The options of a retry budget, checked; :class:`RetryBudget` documents each."""

    # .17 sends 1.2 times the calls where a half fails slowly, and answers .60 instead of .53 (computed).
    ratio: float = option(number, default=0.1, low=0.0, high=1.0)
    # Savings multiply by the number of clients: after an outage 200 of them needed up to 15.6 s with a cap of 10, up to
    # 13.7 s with 5 (`storm`, FIFO). An `initial` of 3 makes up for it where few attempts fail: of a hundred first calls
    # with 5 % failing, 99.96 to 99.97 % end well.
    cap: float = option(number, default=5.0, low=1.0, high=_MOST)
    initial: float = option(number, default=3.0, low=0.0)
    # In a study, a storm of 200 clients was over after 12.4, 12.8 and 12.9 s with 10, 30 and 60 s. But with 10 s only
    # .9905 of 1.4 calls a second were answered where 5 % of the attempts fail (four attempts).
    decay: SecondsOrNone = option(seconds, default=60.0, none_ok=True)
    reserve: float = option(number, default=0.1, low=0.0, high=_MOST)
    on_store_down: OnStoreDown | None = option(on_store_down, default=None, none_ok=True)

    def __attrs_post_init__(self) -> None:
        if self.initial > self.cap:
            reject("initial", self.initial, f"at most cap={self.cap:g}")


_WITHOUT_STORE = {
    "local": "each host has its share of it",
    "open": "each host has a reserve like it",
    "closed": "there is none",
}

_reading = Reading("RetryBudget", RetryBudgetConfig)


@attrs.frozen(kw_only=True)
class RetryBudgetSnapshot(Snapshot):
    """
    A retry budget at one moment; `limit` is the cap.

    Of the common counters, `calls` are all requests for a withdrawal, `rejected` those rejected, `cancelled` those
    returned unused, and `successes` the deposits.

    Attributes:
        balance: Tokens available, without the reserve; below 0: the loan of calls in flight.

        reserved: Withdrawals that the reserve paid for.

        failing: The share of the latest attempts that failed, 0 to 1; a half before the first one.

        repaid: Calls that succeeded after retries and got tokens back.
    """

    balance: float
    reserved: int
    failing: float
    repaid: int


class RetryBudget(native.RetryBudget):
    """
    Tokens for retries and hedges: a success pays in `ratio`, a hedge takes 1, a retry the cost of the failed attempt.

    That cost is its time as a share of a success's time, at least a twentieth, and 1 if next to nothing succeeds. A
    retry that the dependency asked for by Retry-After takes a quarter at most. A call that succeeds pays back threefold
    the tokens it has taken, while fewer than 44 in 100 attempts fail. Calls in flight lend `ratio` each. Where other
    calls fail in a row too, savings do not pay for slow failures.

    One budget may serve any number of policies, threads and event loops. The same name and options give the same
    budget; one without a name is always new. In the child of a fork it holds at most `initial`.

    Args:
        name: The name, unique among budgets; None: it has none.

        ratio: Tokens that one successful call pays in, 0 to 1: the share of extra load in the long run.

        cap: The most tokens that can be saved, >= 1: retries in one burst.

        initial: Tokens at the beginning, 0 to `cap`, which do not decay. They multiply by the number of clients.

        decay: Seconds in which savings above `initial` shrink to 1/e, > 0; None: they stay.

        reserve: Withdrawals a second, >= 0, that are possible at any balance, for clients that call too seldom to save:
            a floor, not on top of what the savings pay for. Each needs a success since the one before. 0: none. With
            a fleet as scope: for all hosts together.

        on_store_down: In a fleet, what is left of the reserve while its store is away: "local": this host's share;
            "open": all of it, for each host; "closed": nothing. None: as the fleet was made.

        scope: "host": one budget for all processes of the service on this host, found by name; or what
            :func:`resilio.sharing.host` or :func:`resilio.sharing.fleet` returns: each host saves for itself, and the
            reserve is one. None: that of the variable `RESILIO_SCOPE`, "process" by default.

    Raises:
        TypeError: An option of a wrong type; the message names it and the value.

        ValueError: An option out of range, or a name that is taken with other options or by a policy.
    """

    kind = "retry_budget"
    Config = RetryBudgetConfig
    _config: RetryBudgetConfig
    _link: Any  # to the scope that it is shared in, of resilio.sharing
    _name: str | None

    __signature__: Signature = _reading.signature

    if TYPE_CHECKING:

        @takes(RetryBudgetConfig)
        def __init__(self, config: RetryBudgetConfig) -> None: ...

    def __new__(cls, *args: Any, **options: Any) -> Self:
        """Return the budget of this name, or a new one."""
        config, name = _reading.read(args, options)
        checked = policy_name("name", name)
        if checked is None:
            return cls._new(config, None)
        found: Any = obtain(cast("Any", cls), checked, config, lambda current: cls._new(current, checked))
        return cast("Self", found)

    @classmethod
    def _new(cls, config: RetryBudgetConfig, name: str | None) -> Self:
        self = super().__new__(cls)
        self._name = name
        self._link = None
        self._configure(config)
        self.reset()  # before it is shared: a worker that begins resets none of the others
        self._swap(config)
        return self

    @property
    def name(self) -> str | None:
        """The user's name, or None."""
        return self._name

    @property
    def config(self) -> RetryBudgetConfig:
        """The options in force, checked and in their internal form."""
        return self._config

    def reconfigure(self, **changes: Any) -> None:
        """
        Change options at once and keep the balance, up to the new cap; either all changes take effect or none.

        Args:
            changes: Options of the constructor by name.

        Raises:
            TypeError: An option that does not exist, or a value of the wrong type.

            ValueError: A value out of range.
        """
        with names.changing():
            self._swap(self._checked(changes))

    def _checked(self, changes: Mapping[str, Any]) -> RetryBudgetConfig:
        return cast("RetryBudgetConfig", changed(self._config, changes))

    def _swap(self, config: RetryBudgetConfig) -> None:
        self._configure(config)
        self._config = config
        if self._link is not None or wanted(config.scope) != PROCESS:
            core.hook("share")(self, config)

    def _sharing_gate(self) -> Any:
        """Return the part that is shared: the budget itself."""
        return self

    @property
    def _given(self) -> str | None:
        return self._name

    def _redefine(self, config: RetryBudgetConfig, different: str) -> bool:  # noqa: ARG002
        """Take the options of a repeated definition, as policies do."""
        self._swap(config)
        return True

    def _start_over(self) -> None:
        self.reset()

    def snapshot(self) -> RetryBudgetSnapshot:
        """Return the balance and the counters of one moment."""
        status = self._status()
        return RetryBudgetSnapshot(
            kind=self.kind,
            name=self.name,
            limit=self.config.cap,
            calls=status["withdrawals"] + status["rejected"],
            successes=status["deposits"],
            rejected=status["rejected"],
            cancelled=status["refunds"],
            sharing=None if self._link is None else self._link.sharing_of(self),
            balance=status["balance"],
            reserved=status["reserved"],
            failing=status["failing"],
            repaid=status["repaid"],
        )

    def _numbers_of_all(self) -> dict[str, dict[str, float]]:
        return {"tokens": {"retries": self.balance}}

    def _about_sharing(self) -> str | None:
        """Return with how many it is shared, and how; None: it is not."""
        if self._link is None:
            return None
        sharing, fleet = self._link.sharing(), getattr(self._link, "fleet", None)
        if fleet is None or fleet.is_alone:
            return f"savings and reserve are {sharing}"
        down = _WITHOUT_STORE[self._config.on_store_down or fleet.on_store_down]
        return f"the savings are each host's, the reserve is {sharing}; while the store is away {down}"

    def __repr__(self) -> str:
        name = f"{self.name!r} " if self.name else ""
        return f"<RetryBudget {name}{self.balance:.3g} of {self.config.cap:g} tokens>"

    def __reduce__(self) -> tuple[Any, ...]:
        """Pickle by name: in another process it is that process's budget of the same name."""
        place = names.place_of(self._name, self.kind) if self._name else None
        if place is None:
            raise TypeError(f"{self!r} cannot be pickled: give it a name, which is what is pickled of a budget")
        return names.restore, (self._name, place.module, self.kind)

    def __copy__(self) -> Self:
        return self

    def __deepcopy__(self, memo: object) -> Self:
        return self


kinds.loaded[RetryBudget.kind] = RetryBudget  # configure() looks up the options there
