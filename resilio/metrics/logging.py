"""
What is logged, and where: on the logger "resilio", or with structlog where that is set up.

State changes are always logged, one line each: WARNING when calls begin to be refused, INFO otherwise. A refusal is a
line at DEBUG, and only once :func:`enable` was called, or a policy was made while the logger was enabled for DEBUG.
:func:`summaries` says in one line a policy and a minute what was refused. Arguments, results and keys are never logged.

A handler that raises changes nothing. One that blocks delays the call that a line is about, as everywhere in Python,
unless :func:`in_background` has the lines written by a thread of their own.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any, cast

from resilio._events import log as _log
from resilio._events import subscriptions
from resilio._events.log import Target
from resilio._options.validators import choice, positive_int, refuse, seconds
from resilio._policy.base import Policy
from resilio._policy.types import Time

__all__ = ["disable", "enable", "in_background", "slow_calls", "summaries", "use"]


def enable() -> None:
    """Have every refusal of every policy logged at DEBUG from now on."""
    subscriptions.log_refusals(True)


def disable() -> None:
    """Log refusals no more, also if a policy is made while the logger is enabled for DEBUG."""
    subscriptions.log_refusals(False)


def use(target: Target) -> None:
    """
    Say where lines go from now on.

    Args:
        target: "stdlib": to the logger "resilio"; "structlog": to `structlog.get_logger("resilio")`; "auto", which
            holds until something else is said: to structlog if the application has configured it and given the
            logger "resilio" no handler of its own.

    Raises:
        ValueError: Something else.

        ImportError: Structlog is asked for and not installed.
    """
    checked = choice("target", target, ("auto", "stdlib", "structlog"))
    if checked == "structlog":
        try:
            import structlog  # noqa: F401
        except ImportError as error:
            raise ImportError("resilio.metrics.logging needs structlog: pip install structlog") from error
    _log.use(cast("Target", checked))


def in_background(on: bool = True) -> None:
    """
    Have lines written by a thread of their own, in order, or no more.

    At most 1000 lines wait; further ones are dropped, and counted in `resilio_exporter_errors_total`. The last ones
    before the process ends may be lost.

    Args:
        on: Whether.
    """
    from resilio.metrics._background_log import Lines

    writing = _log.handed_to()
    if on and not isinstance(writing, Lines):
        _log.hand_over(Lines())
    elif not on and isinstance(writing, Lines):
        _log.hand_over(None)
        writing.close()


def slow_calls(
    above: Time, *, policy: Policy[Any] | None = None, per_minute: int = 10, level: int = _log.WARNING
) -> Callable[[], None]:
    """
    Have calls that took long logged, with what they spent their time on; return a function that ends that.

    "pipeline 'orders': a slow call returned: 2.41s = queue 0.90 + attempt 1.51". Calls that were never called are not
    among them, and only the outermost of guarded functions that call each other through one pipeline.

    Args:
        above: Seconds from which on a call is slow, >= 0.

        policy: The calls of which policy: one that is outermost for them; None: all.

        per_minute: Lines a minute, at most; the next one says how many were left out.

        level: That the lines have, as in logging: 30 is WARNING.

    Raises:
        TypeError, ValueError: An option of a wrong type, or out of range.
    """
    if policy is not None and not isinstance(policy, Policy):
        refuse("policy", policy, "a policy, or None", TypeError)
    from resilio._time_ledger.slow_calls import SlowCalls

    least = seconds("above", above, zero_ok=True)
    return SlowCalls(least, policy, positive_int("per_minute", per_minute), positive_int("level", level)).stop


def summaries(
    every: Time = 60.0, *, level: int = _log.INFO, policies: Iterable[Policy[Any]] | None = None
) -> Callable[[], None]:
    """
    Have a thread log what was refused, one line a policy at most each time; return a function that ends that.

    "bulkhead 'pool' refused 1,234 calls in 60 s: full 1,200, wait 34". Refusals pay nothing for it. Of policies beyond
    the twenty busiest there is one line together.

    Args:
        every: Seconds between two times, > 0.

        level: That the lines have, as in logging: 20 is INFO.

        policies: Whose; None: those of all policies.

    Raises:
        TypeError, ValueError: An option of a wrong type, or out of range.
    """
    from resilio.metrics._summaries import Summaries

    return Summaries(seconds("every", every), positive_int("level", level), policies).stop
