"""
Functions of upper layers that the native core and its strategies call.

The core imports none of these modules: they are registered here, and each is imported when a call first needs it.
"""

from __future__ import annotations

from functools import partial
from importlib import import_module

from resilio import errors
from resilio._context.process_switch import switched_off
from resilio._native import core

__all__ = ["register"]

_HOOKS: dict[str, tuple[str, ...]] = {
    "resilio._backends": ("asleep", "can_block", "park", "park_sync", "sleep", "use_trio"),
    "resilio._context.blocking": ("add_advice", "warn_rejection"),
    "resilio._context.variables": ("bypass", "deadline", "no_wait", "priority"),
    "resilio._context.deadline": ("deadline_error",),
    "resilio._context.process_switch": ("say_once",),
    "resilio._policy.dropped": ("warn_if_at_once",),
    "resilio._context.frames": ("generator_behind",),
    "resilio._time_ledger.ledger": ("note_segments", "segments_header", "segments_line", "segments_text"),
    "resilio._composition.pipeline": ("stacked",),
    "resilio._failures.replayable": ("is_lasting", "is_self"),
    "resilio._failures.retry_after": ("kept_retry_after",),
    "resilio._policy.decorate": ("is_coroutine_function",),
    "resilio._policies.pool.chosen": ("with_endpoint",),
    "resilio._policies.spend_limit.bill": ("cost_of",),
    "resilio._time_ledger.slow_calls": ("report_slow_call",),
    "resilio._strategies.fallback_streams": ("aredirected", "redirected"),
    "resilio._strategies.race_asyncio": ("AsyncioRace",),
    "resilio._strategies.race_trio": ("run_trio_race",),
    "resilio._strategies.scopes": ("run_in_scope", "until_deadline"),
    "resilio._strategies.stream_clocks": ("deadline_items", "items_until_deadline", "timed_items"),
    "resilio._strategies.streams": ("aretried", "retried"),
    "resilio._strategies.threads": ("Threads",),
    "resilio.sharing._attach": ("share", "share_keys"),
    "resilio.errors": tuple(errors.__all__),
    "resilio.events": ("deliver", "rejected", "settled"),
}
"""The names that each module provides."""


def register() -> None:
    """Register the hooks in the core, and let it read the variable `bypass` if the process is switched off."""
    for module, names in _HOOKS.items():
        core.set_hooks(partial(import_module, module), *names)
    if switched_off():
        core.bypass_enter()
