"""
A load shedder admits as much as the hardware can serve, keeps latency near normal, and rejects by priority.

Why: a server that admits more than it can process soon finishes nothing in time, as every call waits behind calls whose
callers have given up. When not: in front of a dependency, where the callers are your own code; a bulkhead rejects at
once. It is not a rate limit (it has no quota, only free capacity or none), and it cannot serve more than the hardware
can.

It guards the server's handler. The limit holds for the process: for all threads and event loops together.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from resilio._native.gates import ShedderGate
from resilio._options.fields import GateOptions, option, record
from resilio._options.validators import function, positive_int, seconds
from resilio._policy.base import Policy, make
from resilio._policy.factory import makes
from resilio._policy.types import SecondsOrNone

__all__ = ["LoadShed", "LoadShedConfig", "load_shed"]


@record
class LoadShedConfig(GateOptions):
    """The options of a load shedder, checked; :func:`load_shed` documents each."""

    max_concurrent: int | None = option(positive_int, default=None, none_ok=True)
    target: SecondsOrNone = option(seconds, default=None, none_ok=True)
    tenant: Callable[..., Any] | None = option(function, default=None)
    task: Callable[..., Any] | None = option(function, default=None)


class LoadShed(Policy[LoadShedConfig]):
    """The permits of a server, and a queue of the calls worth serving; see :func:`load_shed`, which makes one."""

    kind = "load_shed"
    Config = LoadShedConfig
    _gate: ShedderGate

    def __init__(self, config: LoadShedConfig, name: str | None = None) -> None:
        """Make an idle load shedder."""
        super().__init__(ShedderGate(config), config, name)

    def _state(self) -> str:
        self._gate.look()
        return "overloaded" if self._gate.overloaded else "normal"

    def _limit(self) -> float:
        return self._gate.limit

    def _explained(self) -> str:
        if self._config.max_concurrent is not None:
            return f"{self.limit} calls at a time, as given; {self.room} may wait now"
        usual = self.usual
        held = "" if usual is None else f", of {usual[0]:.3g} s each"
        law = "rises until latency follows the calls in flight, falls if new ones would be late"
        return f"learnt, {law}; {self.limit} calls at a time now{held}; {self.room} may wait"

    def reset(self) -> None:
        """Forget everything learned: times, limit, tasks and the overload; calls in flight and in the queue stay."""
        self._gate.reset()

    @property
    def limit(self) -> int:
        """The limit of concurrent calls now."""
        return self._gate.limit

    @property
    def room(self) -> int:
        """The number of calls that may wait now."""
        return self._gate.room

    @property
    def rejected_share(self) -> float:
        """The share of the last 500 or so arrivals that was rejected."""
        return self._gate.rejected_share

    @property
    def rejected_by_priority(self) -> dict[tuple[str, str], int]:
        """The number of rejected calls by (priority, reason); calls that could not have waited are not counted."""
        return self._gate.rejected_by_priority()

    @property
    def usual(self) -> tuple[float, float] | None:
        """The mean time that a call holds its permit, and the median of successes, in seconds; None: unknown yet."""
        mean_ns, median_ns = self._gate.usual_ns
        return (mean_ns / 1e9, median_ns / 1e9) if mean_ns else None

    @property
    def tenant_errors(self) -> int:
        """The number of calls whose tenant function raised, or returned a value without hash; they have no tenant."""
        return self._gate.tenant_errors

    @property
    def task_errors(self) -> int:
        """The number of calls whose task function raised, or returned a value without hash; the context's applies."""
        return self._gate.task_errors


@makes(LoadShedConfig, "@load_shed()", "@load_shed(max_concurrent=8)")
def load_shed(config: LoadShedConfig, name: str | None) -> LoadShed:
    """
    Return a load shedder for a server's handler; it needs no option.

    Args:
        max_concurrent: Calls that run at a time, >= 1, in all threads and event loops together; None: learnt.
        target: Seconds of waiting that are still normal, > 0; None: learnt from the time that calls take.
        tenant: A function of the call's arguments that returns the tenant: under overload tenants take turns, by the
            time that they use. If it raises, or its result has no hash, the call has no tenant. None: all calls are of
            one tenant.
        task: A function of the call's arguments that returns the task, like a request of many calls, or a user: it
            decides the order within a class of priority. It overrides the task of `priority(..., task=...)`, unless it
            raises or its result has no hash.
        name: What it is called; the same name and options give the same load shedder.
        enforce: False: reject nothing and count what would have waited; 0 to 1: enforce for this share.

    Raises:
        TypeError: An option of a wrong type; the message names it and the value.
        ValueError: An option out of range, or a name that belongs to another policy.
    """
    return make(LoadShed, name, config)
