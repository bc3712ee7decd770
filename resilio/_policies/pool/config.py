"""The options of a pool."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Literal, get_args

from resilio._options.call_key import call_key
from resilio._options.fields import NamedFirstOptions, option, record, several
from resilio._options.validators import (
    choice,
    exceptions,
    flag,
    fraction,
    function,
    number,
    policy_name,
    reject,
    seconds,
)
from resilio._policies.pool.endpoint import Endpoint, endpoints_of
from resilio._policies.pool.names import Lookup
from resilio._policies.pool.prices import Condition, checked_condition
from resilio._policies.pool.probes import Probe
from resilio._policy.base import Policy
from resilio._policy.rules import rule
from resilio._policy.types import Failures, Judged, SecondsOrNone, Unjudged

__all__ = ["Balance", "PoolConfig"]

Balance = Literal["latency", "inflight", "order"]
MOST_OVERPROVISION = 100.0


def _overprovision(name: str, value: Any) -> float:
    return float(number(name, value, low=1.0, high=MOST_OVERPROVISION))


def _zone(name: str, value: Any, *, none_ok: bool = True) -> str | None:  # noqa: ARG001 - a check's signature
    return policy_name(name, value)


def _function(name: str, value: Any, *, right: str) -> Any:
    """Return a function, sync or async, or None."""
    if value is not None and (not callable(value) or isinstance(value, type)):
        reject(name, value, f"{right}, or None", TypeError)
    return value


@record
class PoolConfig(NamedFirstOptions):
    """The options of a pool, checked; :func:`pool` documents each."""

    endpoints: tuple[Endpoint, ...] = several(endpoints_of, default=())
    zone: str | None = option(_zone, default=None, none_ok=True)
    each: Callable[[Endpoint], Policy[Any]] | None = option(function, default=None, takes=("endpoint",))
    balance: Balance = option(choice, default="latency", options=get_args(Balance))
    affinity: str | Callable[..., Any] | None = option(call_key, default=None, none_ok=True)
    overprovision: float = option(_overprovision, default=1.4)
    max_ejected: float = option(fraction, default=0.5)
    warm_up: SecondsOrNone = option(seconds, default=None, none_ok=True)
    probe: Probe | None = option(_function, default=None, right="probe_http('/health'), a function of an endpoint")
    spill: bool = option(flag, default=True)
    resolve: Lookup | None = option(
        _function, default=None, right="dns('search.internal', 443), a function that returns endpoints"
    )
    cheaper: Condition | None = option(checked_condition, default=None, none_ok=True, eq=id)
    on: Failures = option(rule, default=Exception)
    ignore: Unjudged = option(exceptions, default=())
    failed_if: Judged | None = option(function, default=None, takes=("result",))
