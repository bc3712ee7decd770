"""One stack a host: made at its first call, enforced or in shadow."""

from __future__ import annotations

import threading
from typing import TYPE_CHECKING, Any

import attrs

from resilio import presets
from resilio._adoption.tally import Tally
from resilio._composition.pipeline import pipeline
from resilio._composition.standard import standard
from resilio._events import log
from resilio._policies.bulkhead.policy import bulkhead
from resilio._policies.circuit_breaker.policy import circuit_breaker
from resilio.gates import custom_gate

if TYPE_CHECKING:
    from resilio._adoption.settings import Settings
    from resilio._policy.base import Policy

__all__ = ["MOST", "OTHERS", "Hosts", "Stack"]

MOST = 500
"""Hosts that have a stack of their own. A program that calls more is a crawler: the further hosts share one stack."""

OTHERS = "other hosts"


@attrs.frozen(eq=False)
class Stack:
    """
    The policy of one host.

    Attributes:
        host: The host, with its port unless that is the scheme's own.

        client: The name of the client that called it first.

        preset: The name of the preset by which it judges.

        tally: What shadow mode counts; None: the policy is enforced.
    """

    host: str
    client: str
    preset: str
    policy: Policy[Any]
    tally: Tally | None


class Hosts:
    """The stacks by host and preset; safe in threads."""

    def __init__(self, settings: Settings) -> None:
        """
        Begin without a stack.

        Args:
            settings: The settings of the trial.
        """
        self.settings = settings
        self._made: dict[tuple[str, str], Stack | None] = {}
        self._lock = threading.Lock()

    def __iter__(self) -> Any:
        return iter([one for one in list(self._made.values()) if one is not None])

    def of(self, host: str, client: str, preset: str) -> Stack | None:
        """
        Return the stack of a host, None if its calls are left alone: an error in making it is logged, once.

        Args:
            host: The host, with its port unless that is the scheme's own.

            client: The name of the client that calls it.

            preset: The name of the preset by which its calls are judged.
        """
        key = (host, preset)
        try:
            return self._made[key]
        except KeyError:
            pass
        with self._lock:
            if key not in self._made:
                self._made[key] = self._new(host, client, preset)
            return self._made[key]

    def _new(self, host: str, client: str, preset: str) -> Stack | None:
        others = (OTHERS, preset)
        if len(self._made) >= MOST and host != OTHERS:
            if others not in self._made:
                self._made[others] = self._new(OTHERS, client, preset)
            return self._made[others]
        try:
            options = self.settings.of(host)
            if options is None:
                return None
            name = host if preset == "http" else f"{preset}:{host}"
            make = _in_shadow if self.settings.shadow else _enforced
            policy, tally = make(name, {"on": preset, **options})
        except Exception as error:  # noqa: BLE001 - a trial is never why a call fails
            log.say(log.WARNING, "calls of %s are not guarded: no stack could be made", host, error=error)
            return None
        return Stack(host, client, preset, policy, tally)


def _enforced(name: str, options: dict[str, Any]) -> tuple[Policy[Any], None]:
    return standard(name, **options), None


def _in_shadow(name: str, options: dict[str, Any]) -> tuple[Policy[Any], Tally]:
    """Return a stack that rejects, repeats and interrupts nothing: what could, is left out or counts."""
    on: Any = options["on"]
    preset = presets.ALL[on] if isinstance(on, str) else on
    errors, results = preset.part("momentary")
    tally = Tally()
    most = options.get("max_concurrent", 100)
    breaker = circuit_breaker(f"{name}.circuit_breaker", on=preset, enforce=False)
    tally.breaker = breaker
    counts = custom_gate(tally, name=f"{name}.trial", on=errors, failed_if=results)
    limits = () if most is None else (bulkhead(most, name=f"{name}.bulkhead", enforce=False),)
    return pipeline(counts, breaker, *limits, name=name), tally
