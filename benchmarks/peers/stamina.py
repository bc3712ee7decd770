"""stamina: tenacity with its decisions made; jitter, and bounds on attempts and time."""

from __future__ import annotations

from typing import Any

import stamina
from stamina.instrumentation import set_on_retry_hooks

DISTRIBUTION = "stamina"
NOTES = {"retried": "always sleeps: a pass of the event loop; logging and metrics switched off"}
CLOCK = dict.fromkeys(("retry", "sync_retry", "retried"), "monotonic")

set_on_retry_hooks([])  # by default it logs each retry, and counts it for Prometheus


def retry(f: Any) -> Any:
    return stamina.retry(on=ConnectionError, attempts=3)(f)


sync_retry = retry


def retried(f: Any) -> Any:
    return stamina.retry(on=ConnectionError, attempts=2, timeout=None, wait_initial=0, wait_max=0, wait_jitter=0)(f)
