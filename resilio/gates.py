"""
Custom gates: a user's object that admits calls and learns from their outcomes, as a full policy.

Why: a rule that no pattern here has, like a maintenance window or a brown-out switch. When not: a rule that a wrapper
around the function expresses as well. It is not native, and costs a few Python calls on each guarded call.
"""

from __future__ import annotations

import inspect
from typing import Any, Protocol, runtime_checkable

import attrs

from resilio._failures.outcome import Outcome
from resilio._native.custom import GateCall, PythonGate
from resilio._options import validators
from resilio._options.fields import GateOptions, option, record
from resilio._policy.base import Policy, make
from resilio._policy.factory import makes
from resilio._policy.types import Converted

__all__ = ["CustomGate", "CustomGateConfig", "GateCall", "GateProtocol", "Outcome", "Reject", "custom_gate"]


def __dir__() -> list[str]:
    return sorted(__all__)


MOST_REASONS = 16


@attrs.frozen
class Reject:
    """
    The value that `admit` returns to reject a call.

    Attributes:
        reason: One of the gate's `reasons`.

        retry_after: Seconds after which a new call may be admitted, > 0; None if unknown.

        measured: The measured value, in the unit of `limit`; None if there is nothing to report.

        limit: The limit that it was compared with.
    """

    reason: str = "rejected"
    retry_after: float | None = attrs.field(default=None, kw_only=True)
    measured: float | None = attrs.field(default=None, kw_only=True)
    limit: float | None = attrs.field(default=None, kw_only=True)


@runtime_checkable
class GateProtocol(Protocol):
    """
    Interface of a custom gate. Its methods must be quick: they run on every call, in the caller's thread.

    They may be called from several threads at once. Their exceptions are counted, logged once, and change no call: a
    gate that raises in `admit` has admitted.

    A method `cancel(call)` is optional. It is called, instead of `settle`, for a call that was admitted here and then
    not made, as another policy rejected it or it was cancelled while it waited. It undoes the effects of `admit`. The
    attributes `kind` (str) and `reasons` (tuple of str), also optional, name the gate and its rejections.
    """

    def admit(self, call: GateCall, /) -> Reject | None:
        """
        Admit a call, or reject it with a reason.

        Args:
            call: The call, with `args` and `kwargs`; `data` is free for the gate, and kept until `settle`.

        Returns:
            None to admit, a :class:`Reject` to reject.
        """

    def settle(self, call: GateCall, outcome: Outcome, seconds: float, /) -> None:
        """
        Record the end of an admitted call.

        Args:
            call: The object that was passed to `admit`.

            outcome: SUCCESS, FAILURE or IGNORED.

            seconds: The call's duration (of a stream: until its first item).
        """


def _target(name: str, value: object) -> Any:
    right = "an object with admit(call) and settle(call, outcome, seconds)"
    for method in ("admit", "settle", "cancel"):
        function = getattr(value, method, None)
        if function is None and method == "cancel":
            continue
        if not callable(function) or isinstance(value, type):
            validators.reject(name, value, right, TypeError)
        if inspect.iscoroutinefunction(function):
            validators.reject(name, value, f"{right}; {method} must answer at once, so not be async", TypeError)
    return value


def _reasons(name: str, value: object) -> tuple[str, ...] | None:
    if value is None:
        return None
    right = f"1 to {MOST_REASONS} different non-empty strings"
    if not isinstance(value, (tuple, list)) or not all(isinstance(reason, str) for reason in value):
        validators.reject(name, value, right, TypeError)
    if not 1 <= len(value) <= MOST_REASONS or len(set(value)) != len(value) or not all(value):
        validators.reject(name, value, right)
    return tuple(value)


def _kind(name: str, value: object) -> str | None:
    if value is None:
        return None
    if not isinstance(value, str):
        validators.reject(name, value, "a lower-case identifier", TypeError)
    if not value.isidentifier() or value != value.lower():
        validators.reject(name, value, "a lower-case identifier")
    return value


Kind = Converted[str | None, str]
Reasons = Converted[tuple[str, ...] | None, tuple[str, ...]]


@record
class CustomGateConfig(GateOptions):
    """The options of a custom gate, checked; :func:`custom_gate` documents each."""

    gate: GateProtocol = option(_target, kw_only=False)
    kind: Kind = option(_kind, default=None)
    reasons: Reasons = option(_reasons, default=None)
    on: Any = option(validators.exceptions, default=Exception)
    ignore: Any = option(validators.exceptions, default=())
    failed_if: Any = option(validators.function, default=None, takes=("result",))

    def __attrs_post_init__(self) -> None:
        for name, check, usual in (("kind", _kind, "custom"), ("reasons", _reasons, ("rejected",))):
            if getattr(self, name) is None:
                object.__setattr__(self, name, check(name, getattr(self.gate, name, usual)))


class CustomGate(Policy[CustomGateConfig]):
    """A policy around a custom gate; see :func:`custom_gate`, which makes one."""

    kind: str = "custom"
    Config = CustomGateConfig
    _gate: PythonGate

    def __init__(self, config: CustomGateConfig, name: str | None = None) -> None:
        """
        Wrap the user's object in a native gate.

        Args:
            config: The checked options.

            name: The user's name, or None.
        """
        self.kind = config.kind
        super().__init__(PythonGate(config.gate, config.kind, config.reasons), config, name)

    @property
    def gate(self) -> Any:
        """The user's object."""
        return self._config.gate

    @property
    def errors(self) -> int:
        """The number of exceptions that methods of the object have raised."""
        return self._gate.errors

    def _state(self) -> str | None:
        state = getattr(self._config.gate, "state", None)
        return state if isinstance(state, str) else None

    def _checked(self, changes: Any) -> CustomGateConfig:
        for fixed in ("gate", "kind", "reasons"):
            if fixed in changes:
                raise TypeError(f"{fixed} of a custom gate cannot be changed, not to {validators.show(changes[fixed])}")
        return super()._checked(changes)

    def _redefine(self, config: CustomGateConfig, different: str) -> bool:
        """Return False for another object: the state is in the object, so it is another policy."""
        mine = self._config
        fixed = (mine.gate is config.gate, mine.kind == config.kind, mine.reasons == config.reasons)
        return all(fixed) and super()._redefine(config, different)

    def _apply(self, config: CustomGateConfig) -> None:
        """Do nothing: `enforce` and the judges are applied as for all policies."""


@makes(CustomGateConfig)
def custom_gate(config: CustomGateConfig, name: str | None) -> CustomGate:
    """
    Return a policy that lets an object of the user admit calls.

    Args:
        gate: The object, see :class:`GateProtocol`.

        kind: What it is, for metrics and logs: a lower-case identifier; None: the object's `kind`, or "custom".

        reasons: The closed set of its reasons, 1 to 16; None: the object's `reasons`, or "rejected" alone.

        on: What counts as a failure: exception types, or a predicate `exception -> bool | Outcome`.

        ignore: What does not count at all: the same forms.

        failed_if: Which results are failures: a predicate `result -> bool | Outcome`.

        name: What it is called; the same name and options give the same policy.

        enforce: False: reject nothing and count what would have been rejected; 0 to 1: reject this share.

    Raises:
        TypeError: `gate` lacks a method, or has an async one.

        ValueError: An option out of range, or more than 16 kinds of gates of one's own.
    """
    return make(CustomGate, name, config)
