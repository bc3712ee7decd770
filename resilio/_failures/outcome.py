"""
Judges of a call's end: success, failure, refused or ignored.

The native core calls these judges when a call has raised or returned, and decides the cases that they leave open. A
cancellation is no evidence about the callee. So a `BaseException` that is no `Exception` is ignored: CancelledError,
trio.Cancelled, GeneratorExit, KeyboardInterrupt, SystemExit, and a group that holds one (a plain BaseExceptionGroup).
"""

from __future__ import annotations

import enum
import threading
import weakref
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

from resilio._native.core import AnswerJudge
from resilio.errors import DeadlineExceededError, RejectedError

__all__ = ["Judge", "Outcome", "is_rejection", "judge_error", "judge_value", "judging_for"]


class Outcome(enum.IntEnum):
    """
    The verdict of a call's end on its dependency; a predicate may return one instead of a bool.

    REFUSED: the server is up and did nothing, like that of a 429. The module `outcome_table` lists what each part does.
    """

    SUCCESS = 0
    FAILURE = 1
    IGNORED = 2
    REFUSED = 3


_BY_WEIGHT = (Outcome.FAILURE, Outcome.REFUSED, Outcome.IGNORED, Outcome.SUCCESS)
Judge = Callable[[Any], Outcome]
_Matcher = Callable[[Any], Outcome | None]
MOST_REPORTED = 100
"""The number of kinds of subjects and errors for which one broken predicate is logged."""


class _Owner(threading.local):
    """The policy for which this thread makes judges; their log lines name it."""

    policy: weakref.ref[Any] | None = None


_owner = _Owner()


@contextmanager
def judging_for(policy: Any) -> Iterator[None]:
    """
    Name this policy, in the log and on the live page, if a predicate of a judge made in the block raises.

    Args:
        policy: With `kind` and `name`, which may change; held weakly. `_trouble` is set to a description of the error.
    """
    before, _owner.policy = _owner.policy, weakref.ref(policy)
    try:
        yield
    finally:
        _owner.policy = before


def judge_error(on: Any, ignore: Any = (), *, every: bool = False, rejections: bool = False) -> Judge | None:
    """
    Return the judge of exceptions: rejections, then `ignore`, then `on`; the rest is success.

    A predicate as `ignore` is called last, and only for exceptions that `on` judges a failure or refused. So it may
    rely on what `on` has checked, for example that the exception has a `status`.

    A rejection is ignored unless its class is listed in `on` (`Exception` does not list it). A group is judged by its
    leaves: one failure makes it a failure, else one refused makes it refused, else one ignored ignored. A type of group
    that is listed stands for the whole group. If a predicate raises, the outcome is ignored and the error is logged.

    Args:
        on: Exception types as a tuple, or a predicate that returns a bool (True: failure) or an :class:`Outcome`.

        ignore: Exception types as a tuple, or a predicate (True: ignored; an :class:`Outcome` decides: SUCCESS for
            an exception that is no failure after all).

        every: A group is a failure only if all its leaves are, or are refused.

        rejections: Rejections are judged like any other exception, and need not be listed.

    Returns:
        None for the native core's own rule (every Exception but a rejection is a failure).
    """
    if on == (Exception,) and ignore == () and not every and not rejections:
        return None
    rule = _rule(on, ignore)
    judged = _listed(on, RejectedError) + _listed(on, DeadlineExceededError)
    groups = _listed(on, BaseExceptionGroup) + _listed(ignore, BaseExceptionGroup)

    def leaf(error: BaseException) -> Outcome:
        if not rejections and is_rejection(error) and not isinstance(error, judged):
            return Outcome.IGNORED
        verdict = rule(error)
        return Outcome.SUCCESS if verdict is None else verdict

    def judge(error: BaseException) -> Outcome:
        if not isinstance(error, Exception):
            return Outcome.IGNORED
        if not isinstance(error, BaseExceptionGroup) or isinstance(error, groups):
            return leaf(error)
        outcomes = {leaf(one) for one in _leaves(error)}
        if every and not outcomes <= {Outcome.FAILURE, Outcome.REFUSED}:
            return Outcome.IGNORED
        return next(kind for kind in _BY_WEIGHT if kind in outcomes)

    return judge


def judge_value(failed_if: Callable[[Any], object] | None) -> Judge | None:
    """Return the judge of results: a failure if `failed_if(result)` is true; None without `failed_if`."""
    if failed_if is None:
        return None
    broken, statuses = _Broken("failed_if", _owner.policy), getattr(failed_if, "statuses", None)  # of a preset
    failing = statuses if isinstance(statuses, frozenset) else None
    asked = getattr(failed_if, "asked", None)
    return AnswerJudge(failed_if, broken, Outcome.SUCCESS, Outcome.FAILURE, failing, asked)


def _rule(on: Any, ignore: Any) -> _Matcher:
    """Return the matcher of both rules: types to ignore are tried first; a predicate judges failures alone."""
    ignored, failed = _matcher("ignore", ignore, Outcome.IGNORED), _matcher("on", on, Outcome.FAILURE)

    def types_first(error: BaseException) -> Outcome | None:
        verdict = ignored(error)
        return failed(error) if verdict is None else verdict

    def predicate_last(error: BaseException) -> Outcome | None:
        verdict = failed(error)
        pardon = ignored(error) if verdict in (Outcome.FAILURE, Outcome.REFUSED) else None
        return verdict if pardon is None else pardon

    return types_first if isinstance(ignore, tuple) else predicate_last


def _matcher(parameter: str, rule: Any, matched: Outcome) -> _Matcher:
    """Return the matcher of a rule; it returns None for a subject that does not match."""
    if isinstance(rule, tuple):
        return lambda error: matched if isinstance(error, rule) else None

    broken = _Broken(parameter, _owner.policy)

    def ask(subject: Any) -> Outcome | None:
        try:
            answer = rule(subject)
            return answer if isinstance(answer, Outcome) else matched if answer else None
        except Exception as error:  # noqa: BLE001 - a predicate is foreign code
            return broken(subject, error)

    return ask


class _Broken:
    """
    Reporter of a predicate that raises: one log line for each kind of subject and error, not a traceback a call.

    Without this line, a policy whose predicate always raises would silently learn nothing.
    """

    __slots__ = ("_parameter", "_policy", "_reported")

    def __init__(self, parameter: str, policy: weakref.ref[Any] | None) -> None:
        self._parameter = parameter
        self._policy = policy
        self._reported: set[tuple[str, str]] = set()

    def __call__(self, subject: object, error: Exception) -> Outcome:
        kind = (type(subject).__name__, type(error).__name__)
        if kind not in self._reported and len(self._reported) < MOST_REPORTED:
            self._reported.add(kind)
            self._say(*kind, error)
        return Outcome.IGNORED

    def _say(self, subject: str, kind: str, error: Exception) -> None:
        from resilio._events import log

        policy = None if self._policy is None else self._policy()
        text = "%s raised for a %s: ignored, and not logged again"
        if policy is None:
            log.say(log.WARNING, text, self._parameter, subject, error=error)
            return
        policy._trouble = f"{self._parameter} raised {kind}"
        where, fields = log.describe(policy.kind, policy.name), {"policy": policy.kind, "policy_name": policy.name}
        log.say(log.WARNING, f"%s: {text}", where, self._parameter, subject, fields=fields, error=error)


def is_rejection(error: BaseException) -> bool:
    """
    Return True if the callee was not called: the error is a rejection, or a deadline that had passed before.

    Args:
        error: The exception that a call has raised.
    """
    return isinstance(error, RejectedError) or (isinstance(error, DeadlineExceededError) and not error.called)


def _listed(rule: Any, family: type[BaseException]) -> tuple[type[BaseException], ...]:
    return tuple(kind for kind in rule if issubclass(kind, family)) if isinstance(rule, tuple) else ()


def _leaves(group: BaseExceptionGroup[Any]) -> Iterator[BaseException]:
    pending: list[BaseException] = list(group.exceptions)
    while pending:
        error = pending.pop()
        if isinstance(error, BaseExceptionGroup):
            pending.extend(error.exceptions)
        else:
            yield error
