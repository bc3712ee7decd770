"""
A fallback answers failed calls by other means: another target, a function, or a default.

Why: an older answer, a smaller model or an empty list is often better than an error. When not: a fallback that is
hardly ever used is hardly ever right, and one that all callers use at once must bear all their load. An answer that
must be correct, or an effect that must happen, has no substitute. It is not a retry, which goes to the same place
again, nor load balancing: the primary comes first, unless a circuit breaker inside the fallback rejects the call.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any

import attrs

from resilio._failures.outcome import judge_error, judge_value
from resilio._failures.replayable import Replayable, replayable_option
from resilio._native import clock, core
from resilio._options.arity import check_arity
from resilio._options.fields import NamedOptions, Unset, option, record, several
from resilio._options.validators import exceptions, function, reject, seconds, show
from resilio._policy.base import Policy, make
from resilio._policy.factory import makes_of_several
from resilio._policy.rules import ClientRule, resolved, rule
from resilio._policy.snapshot import Snapshot
from resilio._policy.types import Failures, Judged, Seconds, Unjudged
from resilio._strategies.fallback import FallbackGate, Target

if TYPE_CHECKING:
    from resilio._policy.decorate import Kind

__all__ = ["Fallback", "FallbackConfig", "FallbackSnapshot", "TargetSnapshot", "fallback"]


UNSET: Any = Unset.NO_DEFAULT
"""The default of `default`, which may be None."""


def _targets(name: str, value: Any) -> tuple[Callable[..., Any], ...]:
    return tuple(_callable(name, target) for target in value)


def _callable(name: str, value: Any) -> Any:
    if not callable(value) or isinstance(value, core.Pipeline):
        reject(name, value, "functions that can take the primary's arguments", TypeError)
    return value


def _anything(_: str, value: object) -> Any:
    return value


def _handler(name: str, value: object) -> Any:
    if value is not None and (not callable(value) or isinstance(value, core.Pipeline)):
        reject(name, value, "a function of the exception, or None", TypeError)
    if value is not None:
        check_arity(name, value, ("exception",))
    return value


@record
class FallbackConfig(NamedOptions):
    """The options of a fallback, checked; :func:`fallback` documents each."""

    targets: tuple[Callable[..., Any], ...] = several(_targets, default=())
    on: Failures = option(rule)
    ignore: Unjudged = option(exceptions, default=())
    failed_if: Judged | None = option(function, default=None, takes=("result",))
    default: Any = option(_anything, default=UNSET)
    handler: Judged | None = option(_handler, default=None)
    memory: Seconds = option(seconds, default=5.0, zero_ok=True)
    replayable: Replayable = option(replayable_option, default=None)

    def __attrs_post_init__(self) -> None:
        if self.default is not UNSET and self.handler is not None:
            right = f"left out where there is a handler ({show(self.handler)}), which would never come to it"
            reject("default", self.default, right, TypeError)
        if not self.targets and self.default is UNSET and self.handler is None:
            raise TypeError(
                "fallback needs somewhere to go: write @fallback(other_function, on=ConnectionError), or give a "
                "`default` or a `handler`"
            )

    @property
    def has_default(self) -> bool:
        """True if there is a default, which may be None."""
        return self.default is not UNSET

    @property
    def answers(self) -> bool:
        """True if there is an answer when every target has failed."""
        return self.default is not UNSET or self.handler is not None


@attrs.frozen(kw_only=True)
class TargetSnapshot:
    """
    One target of a fallback at one moment.

    Attributes:
        name: The function's name.

        answered: The number of calls that it has answered.

        failed: The number of calls in which it raised, or returned a failure by `failed_if`.

        resting: True if it has failed recently, so that it is tried last.
    """

    name: str
    answered: int
    failed: int
    resting: bool = False


@attrs.frozen(kw_only=True)
class FallbackSnapshot(Snapshot):
    """
    A fallback at one moment; `successes` counts calls that ended well, whatever the target.

    Attributes:
        fell_back: Calls whose primary had failed.

        targets: The targets in order; the handler, if there is one, is last.

        defaulted: Calls that returned the default.

        exhausted: Calls without any target left, which ended with the primary's failure.
    """

    fell_back: int
    targets: tuple[TargetSnapshot, ...]
    defaulted: int
    exhausted: int


class Fallback(Policy[FallbackConfig]):
    """Sends failed calls to other targets; see :func:`fallback`, which makes one."""

    kind = "fallback"
    Config = FallbackConfig
    _gate: FallbackGate

    def __init__(self, config: FallbackConfig, name: str | None = None) -> None:
        """Make a fallback without any failed target."""
        self._targets: tuple[Target, ...] = ()
        self._handler: Target | None = None
        super().__init__(FallbackGate(config, *self._known(config)), config, name)

    def reset(self) -> None:
        """Forget which targets have failed recently; the counters stay."""
        self._gate.forget_failures()

    def _about(self) -> list[str]:
        config = self._config
        last = [name for name, there in (("default", config.has_default), ("handler", config.handler)) if there]
        return [f"to {', '.join([*(target.name for target in self._targets), *last])}"]

    def _is_new(self) -> bool:
        return not any(self._gate.resting(clock.now_ns()))

    def _known(self, config: FallbackConfig) -> tuple[tuple[Target, ...], Target | None]:
        """Return targets and handler; a target that stays keeps its state."""
        known = {id(target.function): target for target in self._targets}
        self._targets = tuple(known.get(id(one)) or _target(one) for one in config.targets)
        self._handler = None if config.handler is None else _target(config.handler)
        return self._targets, self._handler

    def _apply(self, config: FallbackConfig) -> None:
        self._gate.configure(config, *self._known(config))

    def _apply_shared(self, config: FallbackConfig) -> None:
        super()._apply_shared(config)
        on, failed_if = resolved(config, "elsewhere")
        self._gate.judge_error = judge_error(on, config.ignore, rejections=True)
        self._gate.judge_value = judge_value(failed_if)
        self._gate.value_rule = ClientRule.OWN

    def _check_kind(self, kind: Kind, fn: Any) -> None:
        default = self._config.default
        streams = kind in ("generator", "async_generator")
        if streams and default is not UNSET and not hasattr(default, "__iter__"):
            raise TypeError(
                f"fallback cannot guard {fn!r}: instead of its items it would give those of {show(default)}"
            )
        if kind not in ("sync", "generator"):
            return
        for target in (*self._targets, *([self._handler] if self._handler else ())):
            if target.is_async:
                what = "handler" if target is self._handler else "target"
                raise TypeError(
                    f"fallback cannot guard {fn!r}, which is not async, as its {what} {target.name} is: make both async"
                )

    def _snapshot(self, state: str | None, counters: Any) -> FallbackSnapshot:
        fell_back, defaulted, exhausted = self._gate.fallback_counters
        resting = self._gate.resting(clock.now_ns())
        targets = [_shown(target, rests) for target, rests in zip(self._targets, resting, strict=False)]
        if self._handler is not None:
            targets.append(_shown(self._handler, False))
        common = attrs.asdict(super()._snapshot(state, counters), recurse=False)
        return FallbackSnapshot(
            **common, fell_back=fell_back, targets=tuple(targets), defaulted=defaulted, exhausted=exhausted
        )


def _target(fn: Callable[..., Any]) -> Target:
    from resilio._policy.decorate import innermost, kind_of

    runs = innermost(fn)
    name = getattr(runs, "__qualname__", None) or type(runs).__qualname__
    return Target(fn, name, kind_of(fn) in ("coroutine", "async_generator"))


def _shown(target: Target, resting: bool) -> TargetSnapshot:
    return TargetSnapshot(name=target.name, answered=target.answered, failed=target.failed, resting=resting)


@makes_of_several(_targets, FallbackConfig)
def fallback(config: FallbackConfig, name: str | None) -> Fallback:
    """
    Return a policy that sends a call to other targets when its function, the primary, has failed.

    The targets are tried in order until one succeeds, then comes the handler or the default. If there is neither, the
    primary's own exception is raised, with a note about each target. A cancellation never causes a fallback.

    Args:
        targets: Functions that take the primary's arguments. In an async call they may be async or not.
        on: Exceptions that lead to a target: types, a predicate `exception -> bool | Outcome`, or a preset: "model"
            covers failures that another provider may not have. Rejections are judged like all others: `on=Exception`
            covers an open breaker inside, and so does a preset. Any other exception is raised, a target's too.
        ignore: Exceptions matched by `on` that lead to no target: the same forms.
        failed_if: Results that lead to a target: a predicate `result -> bool | Outcome`; None: the preset's rule. If
            nothing else is left, the primary's result is returned.
        default: The result if every target has failed. It is the same object each time; for a mutable value, like a
            list, use a handler that makes a new one.
        handler: A function of the primary's exception (or of its result, if that was the failure); its result is
            returned, its exception raised. It may be async in an async call.
        memory: Seconds for which a target that has failed is tried after those that have not; a success ends that. 0:
            always in order.
        replayable: Whether the primary's arguments may be passed to a target after the primary has used them: True,
            False, or a function of them. None: by inspection: iterators, streams and files that were read may not be;
            a method's `self`, database cursors, consumers of messages, rewound files and mocks may be.
        name: What it is called; the same name and options give the same fallback.

    Raises:
        TypeError: Nothing to fall back to, or an option of a wrong type; the message names it and the value.
        ValueError: An option out of range, or a name that belongs to another policy.
    """
    return make(Fallback, name, config)
