"""
Log refusals, at DEBUG on the logger "resilio"; state changes are always logged, one line each.

A refusal costs nothing here until `enable()` is called, or a policy is made while the logger is enabled for DEBUG.
Arguments and results of calls are never logged.
"""

from __future__ import annotations

from resilio import events

__all__ = ["disable", "enable"]


def enable() -> None:
    """Have every refusal of every policy logged at DEBUG from now on."""
    events.log_refusals(True)


def disable() -> None:
    """Log refusals no more, also if a policy is made while the logger is enabled for DEBUG."""
    events.log_refusals(False)
