"""
A retry repeats calls after momentary failures, within a budget, so that it does no harm during lasting ones.

Why: connections break, servers restart, a limit is hit for a second; most of that is over by the next attempt. When
not: a call that is not idempotent must not run twice; an overloaded dependency needs fewer calls, not more (hence the
budget), and one that is down needs a circuit breaker inside the retry. It cannot make a permanently failing dependency
reliable. It is not a queue either: work that has not succeeded in a few seconds belongs into one.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any

import attrs

from resilio._failures.outcome import Judge, judge_error, judge_value
from resilio._failures.replayable import Replayable, replayable_option
from resilio._failures.retry_after import LONGEST_PAUSE
from resilio._native.strategies import RetryGate
from resilio._options.fields import NamedOptions, Unset, option, record
from resilio._options.validators import exceptions, flag, function, policy_name, positive_int, reject, seconds
from resilio._policies.retry.backoff import Backoff, BackoffLike, Schedule, backoff_option, full_jitter
from resilio._policies.retry.blocks import AsyncAttempts, Attempts
from resilio._policies.retry.budget import RetryBudget
from resilio._policy.base import Policy, make
from resilio._policy.factory import makes
from resilio._policy.rules import ClientRule, client_rule, is_preset, resolved, rule
from resilio._policy.snapshot import Snapshot
from resilio._policy.types import Converted, Failures, Judged, Seconds, Time, Unjudged
from resilio.errors import DeadlineExceededError, RejectedError

if TYPE_CHECKING:
    from resilio.presets import Part

__all__ = ["OWN", "Retry", "RetryConfig", "RetrySnapshot", "Retrying", "retry"]

Waits = Converted[BackoffLike, Backoff | Schedule | Callable[..., Time]]


OWN: Any = Unset.OWN_BUDGET
"""The default of `budget`: one for the policy, shared by all its functions."""


def budget_option(name: str, value: object) -> Any:
    """Return the budget of an option: a RetryBudget, the one of a name, None for none, or the default `OWN`."""
    if value is None or value is OWN or isinstance(value, RetryBudget):
        return value
    if isinstance(value, str):
        return RetryBudget(policy_name(name, value))
    return reject(name, value, "a RetryBudget, the name of one, or None for none", TypeError)


@record
class RetryConfig(NamedOptions):
    """The options of a retry, checked; :func:`retry` documents each."""

    on: Failures = option(rule)
    ignore: Unjudged = option(exceptions, default=())
    failed_if: Judged | None = option(function, default=None, takes=("result",))
    idempotent: bool = option(flag, default=False)
    attempts: int | None = option(positive_int, default=3, none_ok=True)  # a fifth fails by chance: .99 are answered
    # Without the reach three attempts are over in .3 s: of 500 clients that a starting server rejects none is answered.
    backoff: Waits = option(backoff_option, default=full_jitter(reach=0.125))
    max_retry_after: Seconds = option(seconds, default=LONGEST_PAUSE, zero_ok=True)
    budget: RetryBudget | str | None = option(budget_option, default=OWN)
    replayable: Replayable = option(replayable_option, default=None)

    def __attrs_post_init__(self) -> None:
        if self.idempotent and not is_preset(self.on):
            reject(
                "idempotent", True, "left out where `on` is no preset: exception types and predicates say all there is"
            )

    @property
    def same_first(self) -> bool:
        """Whether it leaves to the client of a pool's endpoint what that one repeats by itself."""
        return is_preset(self.on) and bool(self.on.same_first)

    def named(self) -> tuple[type[BaseException], ...]:
        """Return the classes of rejections and passed deadlines that `on` names."""
        listed = self.on if isinstance(self.on, tuple) else ()
        return tuple(kind for kind in listed if issubclass(kind, (RejectedError, DeadlineExceededError)))


@attrs.frozen(kw_only=True)
class RetrySnapshot(Snapshot):
    """
    A retry at one moment.

    Attributes:
        retries: Attempts after the first.

        stopped: The number of calls that were not retried, by the reason.
    """

    retries: int
    stopped: dict[str, int]


class Retry(Policy[RetryConfig]):
    """Retries failed calls within a budget; see :func:`retry`, which makes one."""

    kind = "retry"
    Config = RetryConfig
    _gate: RetryGate

    def __init__(self, config: RetryConfig, name: str | None = None) -> None:
        """Make a retry that has not retried yet."""
        self._own = RetryBudget()
        super().__init__(RetryGate(config, self._paying(config)), config, name)

    @property
    def budget(self) -> RetryBudget | None:
        """The budget that pays for retries; None: they are free."""
        return self._paying(self._config)

    def retrying(self) -> Retrying:
        """Return a loop that retries a block: `for attempt in policy.retrying(): with attempt: ...`, or `async for`."""
        return Retrying(self)

    def _belong_to(self, name: str, other: Retry) -> None:
        """Take this name, unless the policy has one, and share the budget of `other`, unless the user set one."""
        if self._called_after is None:
            self._take_name(name)
        if self is not other and self._config.budget is OWN:
            self._own = other._own
            self._apply(self._config)

    def _explained(self) -> str:
        return f"{self._price()}; a Retry-After of up to {self._config.max_retry_after:g} s is kept, and spread"

    def _price(self) -> str:
        """Return what a retry costs now, and why."""
        paying = self.budget
        if paying is None:
            return "retries are free: what they add to an overload has no bound but `attempts`"
        latest, usual, slow = self._gate.pace
        if not latest:
            return "a retry costs a token until it is known what a success takes"
        least, comes_back = paying._terms(quick=not slow)
        price = f"the share of a success's {latest:.3g} s that the failed attempt took, at least {least:.2g}"
        if slow:
            price = f"a token: successes are slow, {latest:.3g} s instead of {usual:.3g} s"
        elif least >= 1:
            price = "a token: next to nothing succeeds"
        refund = f"it comes back {comes_back} times if the call succeeds" if comes_back else "none comes back"
        return f"a retry costs {price}; {refund}; {paying.snapshot().failing:.0%} of the latest attempts fail"

    def reset(self) -> None:
        """Fill the policy's own budget and forget the learned times of attempts; a shared or named budget stays."""
        self._gate.forget()
        self._own.reset()

    def _paying(self, config: RetryConfig) -> RetryBudget | None:
        budget: Any = config.budget
        return self._own if budget is OWN else budget

    def _about(self) -> tuple[str, ...]:
        attempts = self._config.attempts
        return (f"{attempts} attempts" if attempts else "any number of attempts", str(self._config.backoff))

    def _is_new(self) -> bool:
        return self._config.budget is not OWN or self._own._is_new()  # a shared budget outlives it

    def _apply(self, config: RetryConfig) -> None:
        self._gate.configure(config, self._paying(config))

    def _apply_shared(self, config: RetryConfig) -> None:
        super()._apply_shared(config)
        gate = self._gate
        gate.judge_error, gate.judge_value = _judges(config, "momentary" if config.idempotent else "unsent")
        gate.replay_error, gate.replay_value = _judges(config, "momentary") if is_preset(config.on) else (None, None)
        gate.value_rule = client_rule(config, config.on, ClientRule.DOUBT)

    def _snapshot(self, state: str | None, counters: Any) -> RetrySnapshot:
        retries, stopped = self._gate.retry_counters
        common = attrs.asdict(super()._snapshot(state, counters), recurse=False)
        return RetrySnapshot(**common, retries=retries, stopped=stopped)


def _judges(config: RetryConfig, part: Part) -> tuple[Judge | None, Judge | None]:
    on, failed_if = resolved(config, part)
    return judge_error(on, config.ignore, every=True), judge_value(failed_if)


class Retrying:
    """Loop over a block under one retry; see :func:`retrying`, which makes one. Each loop over it is one call."""

    __slots__ = ("_policy",)

    def __init__(self, policy: Retry) -> None:
        """Make the loop of a policy."""
        self._policy = policy

    @property
    def policy(self) -> Retry:
        """The retry."""
        return self._policy

    def __iter__(self) -> Attempts:
        """Begin a call; waits block the thread."""
        return Attempts(self._policy)

    def __aiter__(self) -> AsyncAttempts:
        """Begin a call; waits suspend the task."""
        return AsyncAttempts(self._policy)

    def __repr__(self) -> str:
        return f"retrying({self._policy!r})"


@makes(RetryConfig, "@retry(on=ConnectionError)")
def retry(config: RetryConfig, name: str | None) -> Retry:
    """
    Return a policy that retries failed calls.

    Args:
        on: Exceptions to retry: types, a predicate `exception -> bool | Outcome`, or a preset: "http", "model",
            "database", "redis", "mcp". An exception group is retried only if all of its exceptions are.
        ignore: Exceptions matched by `on` that are not retried: the same forms.
        failed_if: Results to retry: a predicate `result -> bool | Outcome`; None: the preset's rule. The last one is
            returned.
        idempotent: With a preset, True if the call may run twice: failures after which it may have been executed are
            retried too. False: only failures that prove that nothing was done, like no connection or a 429. A client's
            transport decides by each request instead.
        attempts: Attempts of a call in all, >= 1; None: as many as the budget and the deadline allow.
        backoff: Wait before the next attempt: `full_jitter(...)` and its kin, seconds, a sequence of them, or a
            function of the attempt, from 1, that returns seconds. If it has a parameter `error`, it gets the exception
            there, or the failed result.
        max_retry_after: The longest wait in seconds that a dependency may ask for; if it asks for more, the call fails.
        budget: The budget that pays for retries: a :class:`RetryBudget`, or the name of one; the default is one for
            this policy; None: they are free.
        replayable: Whether a call's arguments may be passed again: True, False, or a function of them. None: by
            inspection: iterators, streams and files that were read may not be; a method's `self`, database cursors,
            consumers of messages, rewound files and mocks may be.
        name: What it is called; the same name and options give the same retry.

    Raises:
        TypeError: An option of a wrong type; the message names it and the value.
        ValueError: An option out of range, or a name that belongs to another policy.
    """
    return make(Retry, name, config)
