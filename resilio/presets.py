"""
Presets for HTTP, models, databases, Redis, Valkey and MCP: which outcomes are failures, and time limits.

The option `on` of every policy takes a preset by name: `circuit_breaker(on="http")`, `standard(..., on="model")`.

A preset judges exceptions (and responses) of any client by their status or SQLSTATE, and by the names of their classes
and those of their causes. It imports no client.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Literal

import attrs

from resilio._failures import aws, sql
from resilio._failures import mcp as mcp_errors
from resilio._failures import redis as redis_errors
from resilio._failures.causes import TIMEOUT_NAMES, UNSENT_NAMES, named, never_connected, no_answer
from resilio._failures.outcome import Outcome
from resilio._failures.retry_after import retry_after_of
from resilio._options.fields import option
from resilio._options.validators import flag, seconds
from resilio.errors import DeadlineExceededError, RejectedError

__all__ = ["Preset", "database", "http", "mcp", "model", "redis"]


def __dir__() -> list[str]:
    return sorted(__all__)


_FAILING = frozenset(range(500, 600))
_PASSING = frozenset({500, 502, 503, 504, 520, 521, 522, 523, 524, 529})
"""Failing statuses that may be gone at the next attempt; 501 is not: the method will not be implemented by then."""
_BUSY = frozenset({408, 425, 429})
_TRIED_AGAIN = _PASSING | _BUSY
_UNSENT_STATUS = frozenset({425, 429})
_TOO_MUCH = frozenset({429, 503, 504, 529})
_REFUSED = frozenset({425, 429})
_UNAVAILABLE = frozenset({503, 529})
_REFUSED_OR_NOT = _REFUSED | _UNAVAILABLE
"""Statuses of which more is read: a 503 or a 529 is a refusal if it says when to come back."""
_REQUEST_AT_FAULT = frozenset(range(400, 500))
_SAYS_NOTHING = 400
"""From this status on, statuses outside `_TOO_MUCH` are no evidence of load: the latency of a 404 is no sample."""
_FOR_GOOD = frozenset(
    {"billing_error", "billing_hard_limit_reached", "billing_not_active", "insufficient_quota", "quota_exceeded"}
)
_IN_A_STREAM = {
    "api_error": 500,
    "overloaded_error": 529,
    "rate_limit_error": 429,
    "rate_limit_exceeded": 429,
    "server_error": 500,
    "server_overloaded": 503,
    "timeout_error": 504,
}
"""The status that an error of this code or type would have had if it had not come in the middle of a 200."""

Part = Literal["drops", "elsewhere", "endpoint", "failing", "momentary", "unsent"]
"""The questions that a policy asks a preset."""
Says = Callable[[Any], object]
Matcher = Says | tuple[type[BaseException], ...]


def status_of(subject: Any) -> int | None:
    """
    Return the HTTP status of an exception or a response, None if it has none.

    Args:
        subject: An exception, with a response or a status of its own, or a response.
    """
    status = _own_status_of(subject)
    return _own_status_of(getattr(subject, "response", None)) if status is None else status


def _own_status_of(holder: Any) -> int | None:
    status = getattr(holder, "status_code", None)
    if isinstance(status, int) and 100 <= status <= 599:
        return int(status)
    if isinstance(holder, dict):
        return aws.status_of(holder)
    status = getattr(holder, "status", None)
    return int(status) if isinstance(status, int) and 100 <= status <= 599 else None


def _unsent_request(error: Any) -> bool:
    if never_connected(error):
        return True
    status = status_of(error)
    return status in _UNSENT_STATUS if status is not None else named(error, UNSENT_NAMES)


def _http_failing(error: Any) -> bool:
    status = status_of(error)
    return status in _FAILING if status is not None else no_answer(error) or _unsent_request(error)


def _http_for_a_moment(error: Any) -> bool:
    status = status_of(error)
    return status in _TRIED_AGAIN if status is not None else _http_failing(error)


# Called for each answer: a status under a usual name is read in this frame, which saves a call.


def _http_result_failing(value: Any) -> bool:
    status = getattr(value, "status_code", None) or getattr(value, "status", None)
    return (status if type(status) is int else status_of(value)) in _FAILING


def _http_result_for_a_moment(value: Any) -> bool:
    status = getattr(value, "status_code", None) or getattr(value, "status", None)
    status = status if type(status) is int else status_of(value)
    return status in _TRIED_AGAIN


def _http_result_unsent(value: Any) -> bool:
    status = getattr(value, "status_code", None) or getattr(value, "status", None)
    return (status if type(status) is int else status_of(value)) in _UNSENT_STATUS


_http_result_failing.statuses = _FAILING  # type: ignore[attr-defined]  # `judge_value` uses it where there is a status
_http_result_for_a_moment.statuses = _TRIED_AGAIN  # type: ignore[attr-defined]
_http_result_unsent.statuses = _UNSENT_STATUS  # type: ignore[attr-defined]


def _drops(error: Any) -> Outcome:
    """Return FAILURE for overload (a timeout, a rejection or a status of `_TOO_MUCH`), else IGNORED."""
    if isinstance(error, DeadlineExceededError) and not error.called:
        return Outcome.IGNORED
    status = status_of(error)
    known = status in _TOO_MUCH if status is not None else named(error, TIMEOUT_NAMES)
    return Outcome.FAILURE if known or isinstance(error, (TimeoutError, RejectedError)) else Outcome.IGNORED


def _http_refused(subject: Any) -> bool:
    """Return True for an exception or a response by which a server has refused to do anything, though it is up."""
    status = status_of(subject)
    return status in _REFUSED or (status in _UNAVAILABLE and retry_after_of(subject) is not None)


def _http_result_drops(value: Any) -> Outcome:
    status = status_of(value) or 0
    if status in _TOO_MUCH:
        return Outcome.FAILURE
    return Outcome.IGNORED if status >= _SAYS_NOTHING else Outcome.SUCCESS


def _codes_of(error: Any) -> frozenset[str]:
    codes = [getattr(error, name, None) for name in ("code", "type", "error_code")]
    body = getattr(error, "body", None)
    if isinstance(body, dict):  # for SDKs that have no attributes for it
        inner = body["error"] if isinstance(body.get("error"), dict) else body
        codes += [inner.get("code"), inner.get("type")]
    return frozenset(code for code in codes if isinstance(code, str))


def _rejected_below(error: Any) -> bool:
    """Return True for an SDK's error that wraps a rejection by a policy below it: the provider was not called."""
    request = getattr(error, "__dict__", {}).get("request")
    details = getattr(request, "extensions", {}).get("resilio")
    return getattr(details, "rejection", None) is not None


def _model_status(error: Any) -> int | None:
    """Return the status as `status_of` does; for an error in the middle of a stream, the status of its code."""
    status = status_of(error)
    if status is not None and status >= 300:
        return status
    return next((_IN_A_STREAM[code] for code in _codes_of(error) if code in _IN_A_STREAM), status)


def _model_failing(error: Any) -> Outcome | bool:
    status = _model_status(error)
    if _rejected_below(error) or (status is not None and 400 <= status < 500):
        return Outcome.IGNORED  # no evidence about the provider's health, neither good nor bad
    return status in _FAILING if status is not None else no_answer(error) or _unsent_request(error)


def _model_refused(error: Any) -> bool:
    if _rejected_below(error):
        return False
    return bool(_codes_of(error) & _FOR_GOOD) or _model_status(error) in _REFUSED or _http_refused(error)


def _model_for_a_moment(error: Any) -> bool:
    if _rejected_below(error) or _codes_of(error) & _FOR_GOOD:
        return False
    status = _model_status(error)
    return status in _TRIED_AGAIN if status is not None else _http_for_a_moment(error)


def _model_elsewhere(error: Any) -> bool:
    """Return True if another provider may succeed: it has a quota and a breaker of its own."""
    return _rejected_below(error) or bool(_codes_of(error) & _FOR_GOOD) or _model_for_a_moment(error)


def _model_unsent(error: Any) -> bool:
    if _rejected_below(error) or _codes_of(error) & _FOR_GOOD:
        return False
    return _unsent_request(error) and not getattr(error, "partial", False)


def _mcp_failing(error: Any) -> Outcome | bool:
    verdict = mcp_errors.failing(error)
    return _http_failing(error) if verdict is None else verdict


def _mcp_for_a_moment(error: Any) -> bool:
    verdict = mcp_errors.momentary(error)
    return _http_for_a_moment(error) if verdict is None else verdict


def _mcp_unsent(error: Any) -> bool:
    return mcp_errors.refused(error) or _unsent_request(error)


def _mcp_refused(subject: Any) -> bool:
    return mcp_errors.refused(subject) or _http_refused(subject)


def _mcp_drops(error: Any) -> Outcome:
    return Outcome.FAILURE if mcp_errors.is_timeout(error) else _drops(error)


def _mcp_result_drops(value: Any) -> Outcome:
    return Outcome.IGNORED if mcp_errors.failed(value) else Outcome.SUCCESS


@attrs.frozen(kw_only=True)
class Preset:
    """
    The rules by which policies judge one kind of dependency, and its time limits.

    Attributes:
        failing: Exceptions that are failures of the dependency: they open a circuit breaker.

        momentary: Exceptions that may be gone at the next attempt: they are retried if calls are idempotent.

        unsent: Those of `momentary` after which the dependency has done nothing: they are retried in any case.

        failing_result: Results that count like `failing`; None: no result does.

        momentary_result: Results that count like `momentary`.

        unsent_result: Results that count like `unsent`.

        refused: Exceptions, and results if there are rules for results, by which the dependency has refused to do
            anything, though it is up: they open no circuit breaker, and hold an endpoint of a pool. None: none does.

        drops: Exceptions that mean overload: they shrink an adaptive limit. None: timeouts and rejections.

        drops_result: Results that count like `drops`.

        elsewhere: Exceptions after which a fallback tries its next target. None: those of `momentary`. Rejections of
            policies are always included.

        timeout: Upper bound of an attempt's time, in seconds; the timeout is learned below it.

        first: Seconds until the first item of a stream; None: as `timeout`.

        idle: Seconds between two items of a stream; None: without limit.

        deadline: Seconds that a call may take, all attempts and waits included.

        max_wait: Seconds that a call may wait for its turn if there are `rates`.

        same_first: Whether a retry around a pool goes elsewhere only after the last attempt of a retry that the client
            of the endpoint has: for endpoints whose answers differ.
    """

    failing: Matcher
    momentary: Matcher
    unsent: Matcher
    failing_result: Says | None = None
    momentary_result: Says | None = None
    unsent_result: Says | None = None
    refused: Says | None = None
    drops: Matcher | None = None
    drops_result: Says | None = None
    elsewhere: Matcher | None = None
    timeout: float = option(seconds, default=10.0)
    first: float | None = option(seconds, default=None, none_ok=True)
    idle: float | None = option(seconds, default=None, none_ok=True)
    deadline: float = option(seconds, default=30.0)
    max_wait: float = option(seconds, default=1.0, zero_ok=True)
    same_first: bool = option(flag, default=False)

    def part(self, name: Part) -> tuple[Matcher, Says | None]:
        """
        Return the rules of one part: for exceptions, and for results or None.

        Args:
            name: One of the attributes above; "elsewhere" includes rejections.
        """
        errors, results = self._rules(name)
        if self.refused is None:
            return errors, results
        return _refusable(errors, self.refused, name), results and _refusable(results, self.refused, name)

    def _rules(self, name: Part) -> tuple[Matcher, Says | None]:
        if name == "drops":
            return self.drops or _drops, self.drops_result
        if name == "elsewhere":
            return _or_rejected(self.elsewhere or self.momentary), self.momentary_result
        if name == "endpoint":
            return self.failing, self.failing_result
        return getattr(self, name), getattr(self, f"{name}_result")

    def __repr__(self) -> str:
        known = next((name for name, preset in ALL.items() if preset is self), None)
        return f"<Preset of {self.failing}>" if known is None else repr(known)


_ALL_REFUSALS: tuple[Part, ...] = ("drops", "endpoint", "failing")
"""The parts for which each refusal is one; for the others only one that they act upon."""


def _refusable(rule: Matcher, refused: Says, part: Part) -> Says:
    """Return a predicate that judges as the rule does, and refusals as REFUSED."""
    first = part in _ALL_REFUSALS

    def judged(subject: Any) -> object:
        if first and refused(subject):
            return Outcome.REFUSED
        found = isinstance(subject, rule) if isinstance(rule, tuple) else rule(subject)
        acts = found is Outcome.FAILURE or (found and not isinstance(found, Outcome))
        if acts and not first and refused(subject):
            return Outcome.REFUSED
        if part == "endpoint" and not acts and (status_of(subject) or 0) >= _SAYS_NOTHING:
            return Outcome.IGNORED
        return found

    statuses = getattr(rule, "statuses", None)
    if isinstance(statuses, frozenset):
        judged.statuses = statuses  # type: ignore[attr-defined]
        judged.asked = _REFUSED_OR_NOT | (_REQUEST_AT_FAULT if part == "endpoint" else frozenset())  # type: ignore[attr-defined]
    return judged


def _or_rejected(rule: Matcher) -> Says:
    """Return a predicate that is true where the rule matches, and for rejections of policies."""

    def matches(error: Any) -> object:
        if isinstance(error, RejectedError):
            return True
        return isinstance(error, rule) if isinstance(rule, tuple) else rule(error)

    return matches


http: Preset = Preset(
    failing=_http_failing,
    momentary=_http_for_a_moment,
    unsent=_unsent_request,
    failing_result=_http_result_failing,
    momentary_result=_http_result_for_a_moment,
    unsent_result=_http_result_unsent,
    drops_result=_http_result_drops,
    refused=_http_refused,
)
"""
Requests over HTTP: transport errors, timeouts, 5xx; 408, 425 and 429 are tried again. 425, 429, and a 503 or 529 with
a Retry-After are refusals.
"""

model: Preset = attrs.evolve(
    http,
    failing=_model_failing,
    momentary=_model_for_a_moment,
    unsent=_model_unsent,
    elsewhere=_model_elsewhere,
    refused=_model_refused,
    timeout=300.0,
    first=60.0,
    idle=30.0,
    deadline=600.0,
    max_wait=600.0,
    same_first=True,
)
"""
Calls of models: as HTTP, with more time. An exhausted quota is not retried, an error in the middle of a stream counts
by its own code, and 4xx are no evidence about the provider's health. A retry around a pool leaves the first attempts to
that of the provider's client.
"""

database: Preset = Preset(
    failing=sql.failing,
    momentary=sql.momentary,
    unsent=sql.unsent,
    refused=sql.refused,
    timeout=5.0,
    deadline=10.0,
)
"""Transactions: lost connections, a database that shuts down; deadlocks are retried; one without room refuses."""

redis: Preset = Preset(
    failing=redis_errors.failing,
    momentary=redis_errors.momentary,
    unsent=redis_errors.unsent,
    refused=redis_errors.refused,
    timeout=0.5,
    deadline=2.0,
)
"""Commands of Redis and Valkey: lost connections, and a server that serves none; short time limits."""

mcp: Preset = Preset(
    failing=_mcp_failing,
    momentary=_mcp_for_a_moment,
    unsent=_mcp_unsent,
    failing_result=mcp_errors.failed,
    momentary_result=mcp_errors.failed,
    unsent_result=mcp_errors.refused,
    drops=_mcp_drops,
    drops_result=_mcp_result_drops,
    refused=_mcp_refused,
    timeout=60.0,
    deadline=120.0,
)
"""
Tools over MCP: results that are errors, lost connections, timeouts. Errors of the request are no evidence about the
server, and a rejection of a server under guard is a refusal.
"""

ALL = {"database": database, "http": http, "mcp": mcp, "model": model, "redis": redis}


def _nothing(error: Any) -> bool:  # noqa: ARG001
    """Return False: no exception proves that the dependency has done nothing."""
    return False


def of(rule: Any) -> Preset:
    """
    Return the preset of exception classes or a predicate: all matches are momentary, none is surely unsent.

    Args:
        rule: Checked exception types as a tuple, or a predicate.
    """
    return Preset(failing=rule, momentary=rule, unsent=_nothing)
