"""The way of a failed call through the targets of a fallback, and what the targets have done with such calls."""

from __future__ import annotations

import sys
import threading
from collections.abc import Callable, Mapping, Sequence
from typing import Any, NamedTuple

import attrs

from resilio._failures.notes import note_failure, put_after
from resilio._failures.outcome import Outcome
from resilio._failures.replayable import HINT, used_up
from resilio._native.strategies import FallbackStage, locked
from resilio._support.after_fork import free_lock

__all__ = ["UNSERVED", "FallbackGate", "Step", "Target", "Trial"]

_counting = threading.RLock()  # for the counters of all fallbacks; reentrant: a finaliser may end a call meanwhile
free_lock(sys.modules[__name__], "_counting")

UNSERVED = (Outcome.FAILURE, Outcome.REFUSED)
"""The outcomes that lead to a target."""


@attrs.define(eq=False)
class Target:
    """
    An alternative to the primary, and the counters of its results.

    Args:
        function: A function of the primary's arguments; or the handler, which takes the primary's exception.
        name: Its name in notes and snapshots.
        is_async: Whether it is a coroutine function.
        rests_until_ns: The end of the rest after a recent failure; 0: it does not rest.
    """

    function: Callable[..., Any]
    name: str
    is_async: bool
    answered: int = 0
    failed: int = 0
    rests_until_ns: int = 0

    def rests(self, memory_ns: int, now_ns: int) -> bool:
        """
        Return True if the target failed recently.

        A rest longer than the memory does not count: the clock has jumped, or the memory changed.
        """
        return 0 < self.rests_until_ns - now_ns <= memory_ns


class Step(NamedTuple):
    """
    What a failed call does next: it calls a function, or ends.

    Attributes:
        function: The function; None: the call ends.
        argument: The function's one argument, in a tuple; None: it takes the call's own.
        value: The result of a call that ends, if there is no *error*.
        error: Its exception.
        outcome: Its outcome.
    """

    function: Callable[..., Any] | None = None
    argument: tuple[Any] | None = None
    value: Any = None
    error: BaseException | None = None
    outcome: int = Outcome.FAILURE


class _Set(NamedTuple):
    """What one `configure` has set; a call that falls back keeps it to its end."""

    config: Any
    targets: tuple[Target, ...]
    handler: Target | None

    @property
    def memory_ns(self) -> int:
        """How long a target that failed comes last, in ns."""
        memory: float = self.config.memory
        return round(memory * 1e9)


class FallbackGate(FallbackStage):
    """Takes failed calls to its targets in order; targets that failed recently come last."""

    def __init__(self, config: Any, targets: tuple[Target, ...], handler: Target | None) -> None:
        """Make a fallback with the options of :meth:`configure`."""
        self._counts = {"fell_back": 0, "defaulted": 0, "exhausted": 0}
        self.configure(config, targets, handler)

    def configure(self, config: Any, targets: tuple[Target, ...], handler: Target | None) -> None:
        """
        Take all options; calls that are falling back go on with the old ones.

        Args:
            config: A `FallbackConfig`.
            targets: A Target for each of its functions, in order.
            handler: A Target for its handler, which takes the primary's exception; or None.
        """
        self.options = _Set(config, targets, handler)

    def begin(
        self,
        error: Exception | None,
        value: Any,
        now_ns: int,
        spent: bool,
        func: Any,
        args: Sequence[Any],
        kwargs: Mapping[str, Any],
    ) -> Trial:
        """Return the trial of a call whose primary has failed; the native stage calls this."""
        rule = self.options.config.replayable
        return Trial(self, error, value, now_ns, spent, lambda: used_up(self, rule, func, args, kwargs))

    def count(self, what: str) -> None:
        """Count one more of a counter."""
        locked(_counting, self._add, what)

    def _add(self, what: str) -> None:
        self._counts[what] += 1

    def note(self, target: Target, failed: bool, rests_until_ns: int) -> None:
        """Note how a target has ended, and until when it rests."""
        locked(_counting, self._note, target, failed, rests_until_ns)

    @staticmethod
    def _note(target: Target, failed: bool, rests_until_ns: int) -> None:
        target.failed += failed
        target.answered += not failed
        target.rests_until_ns = rests_until_ns

    def resting(self, now_ns: int) -> list[bool]:
        """Return for each target, in order, whether it is tried last because it failed recently."""
        return [target.rests(self.options.memory_ns, now_ns) for target in self.options.targets]

    def forget_failures(self) -> None:
        """Forget the failures of all targets."""
        for target in self.options.targets:
            target.rests_until_ns = 0

    @property
    def fallback_counters(self) -> tuple[int, int, int]:
        """The number of calls whose primary failed, that got the default, and that had no target left."""
        counts = self._counts
        return counts["fell_back"], counts["defaulted"], counts["exhausted"]


class Trial:
    """One call of a failed function, on its way through the targets."""

    def __init__(
        self,
        gate: FallbackGate,
        error: Exception | None,
        value: Any,
        now_ns: int,
        spent: bool,
        one_shot: Callable[[], str | None],
    ) -> None:
        """
        Begin with the failure of the primary.

        Args:
            gate: The fallback.
            error: The primary's exception; None: it returned *value*, which is a failure.
            value: Its result.
            now_ns: The time on the native clock.
            spent: Whether it was called, and has used the arguments.
            one_shot: Returns the argument that cannot be passed again; "": none may be, None: all may.
        """
        options = gate.options
        gate.count("fell_back")
        self._gate, self._options, self._one_shot = gate, options, one_shot
        self._error, self._value, self._spent = error, value, spent
        ordered = sorted(options.targets, key=lambda target: target.rests(options.memory_ns, now_ns))
        self._ahead = ordered[::-1]  # targets still to be tried, the next one last
        self._current: Target | None = None  # in progress; None: none yet, or the default
        self._failures: list[tuple[str, BaseException | str | None]] = []

    def ended(
        self, error: Exception | None, outcome: int, now_ns: int, deadline_ns: int, may_await: bool
    ) -> Step | None:
        """
        Learn from the end of the current target or the handler, and choose the next step.

        Args:
            error: Its exception; None: it returned.
            outcome: Its outcome by the fallback's rules.
            now_ns: The time on the native clock.
            deadline_ns: The deadline of the call on that clock.
            may_await: Whether the call is async.

        Returns:
            The step; None: the call ends as this has.
        """
        target = self._current
        if target is None:  # a stream of the default's items
            return None
        unserved = outcome in UNSERVED
        self._gate.note(target, unserved or error is not None, now_ns + self._options.memory_ns if unserved else 0)
        if not unserved or target is self._options.handler:
            if error is not None:
                put_after(error, self._error)
            return None
        self._failures.append((target.name, error))
        return self.go_on(now_ns, deadline_ns, may_await)

    def go_on(self, now_ns: int, deadline_ns: int, may_await: bool) -> Step:
        """Return the next step after a failure; see :meth:`ended`."""
        handler = self._options.handler
        if self._ahead and self._may_call(now_ns, deadline_ns):
            return self._call(self._ahead.pop(), None, may_await)
        self._ahead.clear()
        if handler is not None:
            return self._call(handler, (self._value if self._error is None else self._error,), may_await)
        if self._options.config.has_default:
            self._gate.count("defaulted")
            self._current = None
            return Step(value=self._options.config.default, outcome=Outcome.SUCCESS)
        self._gate.count("exhausted")
        for name, failure in self._failures:
            note_failure(self._error, name, failure)
        return Step(value=self._value, error=self._error)

    def _may_call(self, now_ns: int, deadline_ns: int) -> bool:
        """Return True if there is time left for a target, and the arguments are not used up."""
        name = None
        if deadline_ns <= now_ns:
            why = "the deadline has passed"
        elif not self._spent or (name := self._one_shot()) is None:
            return True
        else:
            why = f"{name} can be used only once, and has been; {HINT}" if name else "replayable=... says no"
        self._failures.append(("targets", f"not called: {why}"))
        return False

    def _call(self, target: Target, argument: tuple[Any] | None, may_await: bool) -> Step:
        if target.is_async and not may_await:
            error = TypeError(f"fallback to {target.name}, which is async, from a call that is not")
            put_after(error, self._error)
            return Step(error=error)
        self._current = target
        self._spent = True
        return Step(target.function, argument)
