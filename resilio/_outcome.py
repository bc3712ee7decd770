"""
How a call's end is judged: success, failure or ignored.

The judges made here are called by the native core when a call has raised or returned; what they do not decide, the core
does. A cancellation is never an outcome: whatever is not an `Exception` (CancelledError, trio.Cancelled, GeneratorExit,
KeyboardInterrupt, SystemExit, and a group that holds one, which is a plain BaseExceptionGroup then) is ignored.
"""

from __future__ import annotations

import enum
from collections.abc import Callable, Iterator
from typing import Any

from resilio.errors import RejectedError

__all__ = ["Outcome", "judge_error", "judge_value"]


class Outcome(enum.IntEnum):
    """What a call's end says about its dependency; a predicate may return one instead of a bool."""

    SUCCESS = 0
    FAILURE = 1
    IGNORED = 2


Judge = Callable[[Any], Outcome]
Matcher = Callable[[BaseException], Outcome]


def judge_error(on: Any, ignore: Any = ()) -> Judge | None:
    """
    Return the judge of exceptions: refusals, then `ignore`, then `on`; the rest is success.

    Args:
        on: Exception types as a tuple, or a predicate that returns a bool (True: failure) or an :class:`Outcome`.

        ignore: Exception types as a tuple, or a predicate (True: ignored).

    Returns:
        None for the rule that the native core applies by itself (every Exception but a refusal is a failure).
    """
    if on == (Exception,) and ignore == ():
        return None
    failed, ignored = _matcher(on, Outcome.FAILURE), _matcher(ignore, Outcome.IGNORED)
    refusals = tuple(kind for kind in on if issubclass(kind, RejectedError)) if isinstance(on, tuple) else ()
    whole = tuple(kind for kind in on if issubclass(kind, BaseExceptionGroup)) if isinstance(on, tuple) else ()

    def leaf(error: BaseException) -> Outcome:
        if not isinstance(error, Exception):
            return Outcome.IGNORED
        if isinstance(error, RejectedError) and not isinstance(error, refusals):
            return Outcome.IGNORED
        return Outcome.IGNORED if ignored(error) is Outcome.IGNORED else failed(error)

    def judge(error: BaseException) -> Outcome:
        if not isinstance(error, BaseExceptionGroup) or not isinstance(error, Exception):
            return leaf(error)
        if whole and isinstance(error, whole):
            return Outcome.FAILURE
        return _worst({leaf(one) for one in _leaves(error)})

    return judge


def _matcher(rule: Any, matched: Outcome) -> Matcher:
    """Whether an exception matches types or a predicate: `matched`, another outcome of the predicate's own, or success."""
    if isinstance(rule, tuple):
        return lambda error: matched if isinstance(error, rule) else Outcome.SUCCESS
    return _safe(rule, matched)


def judge_value(failed_if: Callable[[Any], object] | None) -> Judge | None:
    """Return the judge of results: a failure where `failed_if(result)` says so; None if there is none."""
    return None if failed_if is None else _safe(failed_if, Outcome.FAILURE)


def _safe(predicate: Callable[[Any], object], matched: Outcome) -> Judge:
    """A predicate as a judge: one that raises means ignored, and never changes the call."""

    def judge(subject: Any) -> Outcome:
        try:
            answer = predicate(subject)
            return answer if isinstance(answer, Outcome) else matched if answer else Outcome.SUCCESS
        except Exception:
            return Outcome.IGNORED

    return judge


def _leaves(group: BaseExceptionGroup[Any]) -> Iterator[BaseException]:
    pending: list[BaseException] = list(group.exceptions)
    while pending:
        error = pending.pop()
        if isinstance(error, BaseExceptionGroup):
            pending.extend(error.exceptions)
        else:
            yield error


def _worst(outcomes: set[Outcome]) -> Outcome:
    for outcome in (Outcome.FAILURE, Outcome.IGNORED):
        if outcome in outcomes:
            return outcome
    return Outcome.SUCCESS
