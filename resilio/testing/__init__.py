"""Test what you guard: virtual time, switches, scripted faults, recorded events, leak checks."""

from __future__ import annotations

from resilio.testing._threads import DeadlockError
from resilio.testing._virtual_time import VirtualTime, virtual_time

__all__ = ["DeadlockError", "VirtualTime", "virtual_time"]
