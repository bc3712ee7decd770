"""
How a call's end is judged: success, failure or ignored.

The judges made here are called by the native core when a call has raised or returned; what they do not decide, the core
does. A cancellation is never an outcome: whatever is not an `Exception` (CancelledError, trio.Cancelled, GeneratorExit,
KeyboardInterrupt, SystemExit, and a group that holds one, which is a plain BaseExceptionGroup then) is ignored.
"""

from __future__ import annotations

import enum
import threading
import weakref
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

from resilio._native.core import Statuses
from resilio.errors import DeadlineExceededError, RejectedError

__all__ = ["Judge", "Outcome", "is_refusal", "judge_error", "judge_value", "judging_for"]


class Outcome(enum.IntEnum):
    """What a call's end says about its dependency; a predicate may return one instead of a bool."""

    SUCCESS = 0
    FAILURE = 1
    IGNORED = 2


Judge = Callable[[Any], Outcome]
_Matcher = Callable[[Any], Outcome | None]
MOST_REPORTED = 100
"""Kinds of subjects and errors that one broken predicate is logged for."""


class _Owner(threading.local):
    """Whose judges this thread makes: their log lines name it."""

    policy: weakref.ref[Any] | None = None


_owner = _Owner()


@contextmanager
def judging_for(policy: Any) -> Iterator[None]:
    """
    Have judges that are made in the block name a policy when a predicate raises, in the log and on the live page.

    Args:
        policy: With `kind` and `name`, which may change; held weakly. `_trouble` is set to what has happened.
    """
    before, _owner.policy = _owner.policy, weakref.ref(policy)
    try:
        yield
    finally:
        _owner.policy = before


def judge_error(on: Any, ignore: Any = (), *, every: bool = False, refusals: bool = False) -> Judge | None:
    """
    Return the judge of exceptions: refusals, then `ignore`, then `on`; the rest is success.

    A predicate as `ignore` is asked last, and only about what `on` calls a failure: it may rely on what `on` has made
    sure of, `error.status` say, which other exceptions do not have.

    A refusal is ignored unless its class is listed in `on` (`Exception` does not list it). Of a group the leaves are
    judged: one failure makes it a failure, else one that is ignored makes it ignored; a type of group that is listed
    stands for the whole group. A predicate that raises means ignored, and is logged.

    Args:
        on: Exception types as a tuple, or a predicate that returns a bool (True: failure) or an :class:`Outcome`.

        ignore: Exception types as a tuple, or a predicate (True: ignored; an :class:`Outcome` decides: SUCCESS for
            what is no failure after all).

        every: A group is a failure only if all its leaves are.

        refusals: They are judged like any other exception, and need not be listed.

    Returns:
        None for the rule that the native core applies by itself (every Exception but a refusal is a failure).
    """
    if on == (Exception,) and ignore == () and not every and not refusals:
        return None
    rule = _rule(on, ignore)
    judged = _listed(on, RejectedError) + _listed(on, DeadlineExceededError)
    groups = _listed(on, BaseExceptionGroup) + _listed(ignore, BaseExceptionGroup)

    def leaf(error: BaseException) -> Outcome:
        if not refusals and is_refusal(error) and not isinstance(error, judged):
            return Outcome.IGNORED
        verdict = rule(error)
        return Outcome.SUCCESS if verdict is None else verdict

    def judge(error: BaseException) -> Outcome:
        if not isinstance(error, Exception):
            return Outcome.IGNORED
        if not isinstance(error, BaseExceptionGroup) or isinstance(error, groups):
            return leaf(error)
        outcomes = {leaf(one) for one in _leaves(error)}
        if every and outcomes != {Outcome.FAILURE}:
            return Outcome.IGNORED
        return next(kind for kind in (Outcome.FAILURE, Outcome.IGNORED, Outcome.SUCCESS) if kind in outcomes)

    return judge


def judge_value(failed_if: Callable[[Any], object] | None) -> Judge | None:
    """Return the judge of results: a failure where `failed_if(result)` says so; None if there is none."""
    if failed_if is None:
        return None
    success, failure = Outcome.SUCCESS, Outcome.FAILURE
    broken = _Broken("failed_if", _owner.policy)

    def judge(value: Any) -> Outcome:  # one frame: each call pays for it
        try:
            answer = failed_if(value)
            if answer is False:
                return success
            return answer if isinstance(answer, Outcome) else failure if answer else success
        except Exception as error:  # noqa: BLE001 - a predicate is foreign code
            return broken(value, error)

    statuses = getattr(failed_if, "statuses", None)  # of a preset: each answer would pass two frames a gate
    return judge if not isinstance(statuses, frozenset) else Statuses(statuses, judge, success, failure)


def _rule(on: Any, ignore: Any) -> _Matcher:
    """What both say about an exception: types to ignore come first, a predicate has only failures to judge."""
    ignored, failed = _matcher("ignore", ignore, Outcome.IGNORED), _matcher("on", on, Outcome.FAILURE)

    def types_first(error: BaseException) -> Outcome | None:
        verdict = ignored(error)
        return failed(error) if verdict is None else verdict

    def predicate_last(error: BaseException) -> Outcome | None:
        verdict = failed(error)
        pardon = ignored(error) if verdict is Outcome.FAILURE else None
        return verdict if pardon is None else pardon

    return types_first if isinstance(ignore, tuple) else predicate_last


def _matcher(parameter: str, rule: Any, matched: Outcome) -> _Matcher:
    """What the rule says about a subject; None if it does not match."""
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
    Says that a predicate raises, once for each kind of subject and of error: not in a traceback a call.

    Without this line, one that always raises would be a policy that silently learns nothing.
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


def is_refusal(error: BaseException) -> bool:
    """
    Tell whether an exception says that the callee was not called: a refusal, or a deadline that had passed before.

    Args:
        error: What a call has raised.
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
