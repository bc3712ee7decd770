"""
The timeout of a standard stack: the time of an attempt, chosen by the caller or by the preset.

A number is taken literally. A time learned by default must not end calls that are occasionally slow: it follows a far
quantile, and never goes below a second.
"""

from __future__ import annotations

from collections.abc import Mapping
from datetime import timedelta
from typing import TYPE_CHECKING, Any

from resilio._options.fields import Unset, options_of
from resilio._options.quantile import OR_QUANTILE, Quantile, is_quantile, parse_quantile
from resilio._options.suggestions import hint
from resilio._options.validators import reject, seconds, show
from resilio._policies.timeout import TimeOf, Timeout, TimeoutConfig
from resilio._policy.types import Time
from resilio._support.client_target import heeds_time
from resilio.presets import Preset

if TYPE_CHECKING:
    from resilio._policy.decorate import Kind

__all__ = ["FLOOR", "LAW", "PerAttempt", "per_attempt", "reject_plain", "timeout_config"]

PerAttempt = Time | TimeOf | Mapping[str, Any] | Timeout

LAW = Quantile(0.999, 3.0)
"""The default law. Three times the p99 ended 1 call in 200 permanently if 1 call in 200 is 20 times slower."""
FLOOR = 1.0
"""The least learned time by default, in seconds, however quick other attempts are, if the preset allows as much."""

_OPTIONS = [field.name for field in options_of(TimeoutConfig)]
_RIGHT = (
    "a time like 2.0 or '2s', a multiple of a quantile like 'p99*3', a function of the arguments, a timeout, a mapping "
    "of its options, or None"
)


def timeout_config(preset: Preset, given: Any) -> TimeoutConfig | None:
    """
    Return the options of a stack's timeout, None if it has none.

    Args:
        preset: The source of the ceiling, and of the times of streams.

        given: Seconds, a timedelta, a multiple of a quantile, a function of a call's arguments, a mapping of options,
            None for no limit to an attempt, or `Unset.OF_PRESET` for the preset's time.

    Raises:
        TypeError: Something else, or an option that a timeout does not have.

        ValueError: Out of range.
    """
    changes = _changes(given)
    total = changes.get("total", LAW)
    options = {"first": preset.first, "idle": preset.idle, **changes, "total": total}
    if is_quantile(total) or callable(total):
        options["ceiling"] = ceiling = seconds("ceiling", changes.get("ceiling", preset.timeout))
        if "total" not in changes:
            options.setdefault("floor", min(FLOOR, ceiling))
    if options["total"] is options["first"] is options["idle"] is None:
        return None
    return TimeoutConfig(**options)


def per_attempt(_: str, given: Any) -> Any:
    """Return the option `timeout` of a stack, checked: a time in seconds, the rest as it is."""
    changes = _changes(given)
    if isinstance(given, (Mapping, Timeout)):
        return changes
    return given if is_quantile(given) or callable(given) else changes.get("total", given)


def _changes(given: Any) -> dict[str, Any]:
    if given is Unset.OF_PRESET:
        return {}
    if isinstance(given, Mapping):
        for name in given:
            if name not in _OPTIONS:
                raise TypeError(f"timeout must have {', '.join(_OPTIONS)}, not {name!r}{hint(name, _OPTIONS)}")
        return dict(given)
    if isinstance(given, Timeout):
        return {name: getattr(given.config, name) for name in _OPTIONS}
    if is_quantile(given):
        return {"total": parse_quantile("timeout", given)}
    return {"total": _total(given)}


def _total(given: Any) -> Any:
    if callable(given):
        return given
    if given is None or isinstance(given, (int, float, str, timedelta)):
        return seconds("timeout", given, none_ok=True, other=OR_QUANTILE)
    return reject("timeout", given, _RIGHT, TypeError)


def reject_plain(stack: str, timeout: Timeout, kind: Kind, fn: Any) -> None:
    """
    Raise a TypeError for a function that a timeout cannot interrupt, if the caller has set that timeout.

    Args:
        stack: The name of the standard stack.

        timeout: Its timeout.

        kind: The kind of the function.

        fn: The function, or a client's stand-in.

    Raises:
        TypeError: The message names the remedies.
    """
    total = timeout.config.total
    if total is None or kind not in ("sync", "generator") or heeds_time(fn):
        return
    if kind == "sync" and timeout.config.thread:
        return
    text = f"{total:g}" if isinstance(total, float) else show(total) if callable(total) else repr(str(total))
    threads = f", run it in a thread (timeout={{'total': {text}, 'thread': True}})" if kind == "sync" else ""
    raise TypeError(
        f"standard {stack!r} cannot guard {fn!r} with timeout={text}: it is not async, and nothing can interrupt it. "
        f"Give the client that it calls a timeout of its own, like httpx.Client(timeout=...){threads}, or leave "
        "`timeout` out"
    )
