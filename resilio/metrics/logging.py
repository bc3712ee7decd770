"""
Logging of policies, on the logger "resilio" or with structlog.

State changes are always logged, one line each: WARNING when calls begin to be rejected, INFO otherwise. Retries are
logged at INFO, at most one line a policy and a minute; :func:`retries` changes that. A rejection is
a line at DEBUG, and only once :func:`enable` was called, or a policy was made while the logger was enabled for DEBUG.
:func:`summaries` logs the rejections in one line a policy and a minute. Arguments, results and keys are never logged.

A handler that raises has no effect on calls. One that blocks delays the call that its line is about, as everywhere in
Python, unless :func:`in_background` lets a thread of its own write the lines.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any, cast

from resilio._events import log, subscriptions
from resilio._events.log import Target
from resilio._options.validators import choice, positive_int, reject, seconds
from resilio._policy.base import Policy
from resilio._policy.types import Time

__all__ = ["disable", "enable", "in_background", "retries", "slow_calls", "summaries", "use"]


def enable() -> None:
    """Log every rejection of every policy at DEBUG from now on."""
    subscriptions.log_rejections(True)


def disable() -> None:
    """Stop logging rejections, also for policies made while the logger is enabled for DEBUG."""
    subscriptions.log_rejections(False)


def use(target: Target) -> None:
    """
    Choose where lines go from now on.

    Args:
        target: "stdlib": to the logger "resilio"; "structlog": to `structlog.get_logger("resilio")`; "auto", the
            default: to structlog if the application has configured it and given the logger "resilio" no handler of
            its own, else to that logger.

    Raises:
        ValueError: Another target.

        ImportError: structlog is chosen and not installed.
    """
    checked = choice("target", target, ("auto", "stdlib", "structlog"))
    if checked == "structlog":
        try:
            import structlog  # noqa: F401
        except ImportError as error:
            raise ImportError("resilio.metrics.logging needs structlog: pip install structlog") from error
    log.use(cast("Target", checked))


def in_background(on: bool = True) -> None:
    """
    Write lines in a background thread, in order, or stop doing so.

    At most 1000 lines are queued; further ones are dropped, and counted in `resilio_exporter_errors_total`. The last
    ones before the process ends may be lost.

    Args:
        on: True to start, False to stop.
    """
    from resilio.metrics._background_log import Lines

    writing = log.handed_to()
    if on and not isinstance(writing, Lines):
        log.hand_over(Lines())
    elif not on and isinstance(writing, Lines):
        log.hand_over(None)
        writing.close()


def slow_calls(
    above: Time, *, policy: Policy[Any] | None = None, per_minute: int = 10, level: int = log.WARNING
) -> Callable[[], None]:
    """
    Log slow calls, with the time spent in each segment; return a function that stops it.

    "pipeline 'orders': a slow call returned: 2.41s = queue 0.90 + attempt 1.51". Calls that never reached the callee
    are not logged. Of guarded functions that call each other through one pipeline, only the outermost is.

    Args:
        above: Seconds from which a call is slow, >= 0.

        policy: Log only calls whose outermost policy is this one; None: all calls.

        per_minute: Maximum number of lines a minute; the next line includes the number left out.

        level: Level of the lines, as in logging: 30 is WARNING.

    Raises:
        TypeError, ValueError: An option of a wrong type, or out of range.
    """
    if policy is not None and not isinstance(policy, Policy):
        reject("policy", policy, "a policy, or None", TypeError)
    from resilio._time_ledger.slow_calls import SlowCalls

    least = seconds("above", above, zero_ok=True)
    return SlowCalls(least, policy, positive_int("per_minute", per_minute), positive_int("level", level)).stop


def retries(every: Time | None = 60.0) -> None:
    """
    Log the retries of each policy at INFO, at most one line in this time.

    "retry 'payments': attempt 1 failed (ConnectionError), the next one follows in 0.21 s; 41 retries since the last
    such line". The keys of a keyed policy share their lines.

    Args:
        every: Seconds from one line to the next, >= 0: 0 logs every retry. None: log none.

    Raises:
        TypeError, ValueError: No such time.
    """
    log.log_retries(seconds("every", every, zero_ok=True, none_ok=True))


def summaries(
    every: Time = 60.0, *, level: int = log.INFO, policies: Iterable[Policy[Any]] | None = None
) -> Callable[[], None]:
    """
    Log rejections periodically from a thread, at most one line a policy each time; return a function that stops it.

    "bulkhead 'pool' rejected 1,234 calls in 60 s: full 1,200, wait 34". A rejection pays nothing for it. Policies
    beyond the twenty busiest share one line.

    Args:
        every: Seconds between two summaries, > 0.

        level: Level of the lines, as in logging: 20 is INFO.

        policies: Policies to summarise; None: all.

    Raises:
        TypeError, ValueError: An option of a wrong type, or out of range.
    """
    from resilio.metrics._summaries import Summaries

    return Summaries(seconds("every", every), positive_int("level", level), policies).stop
