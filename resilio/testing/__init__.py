"""
Helpers for tests of guarded code: virtual time, switches, scripted faults, recorded events, leak checks.

The import has no effect; each helper acts inside its own block. The fixtures are in `resilio.testing.plugin`, which
pytest loads automatically.
"""

from __future__ import annotations

from resilio.testing._faults import Faults, Phase, down, faults, flaky, healthy, slow
from resilio.testing._leaks import assert_no_leaks
from resilio.testing._recorder import RecordedEvents, record_events
from resilio.testing._seeded import seeded
from resilio.testing._switches import disabled, no_wait
from resilio.testing._threads import DeadlockError
from resilio.testing._virtual_time import VirtualTime, virtual_event_loop, virtual_time

__all__ = [
    "DeadlockError",
    "Faults",
    "Phase",
    "RecordedEvents",
    "VirtualTime",
    "assert_no_leaks",
    "disabled",
    "down",
    "faults",
    "flaky",
    "healthy",
    "no_wait",
    "record_events",
    "seeded",
    "slow",
    "virtual_event_loop",
    "virtual_time",
]
