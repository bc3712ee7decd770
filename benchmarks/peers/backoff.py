"""backoff: retries around a generator of waits."""

from __future__ import annotations

from typing import Any

import backoff

DISTRIBUTION = "backoff"
NOTES = {"retried": "always sleeps: a pass of the event loop; logging switched off"}
CLOCK = dict.fromkeys(("retry", "sync_retry", "retried"), "datetime.now")


def retry(f: Any) -> Any:
    return backoff.on_exception(backoff.expo, ConnectionError, max_tries=3, logger=None)(f)


sync_retry = retry


def retried(f: Any) -> Any:
    wait = {"interval": 0, "jitter": None}
    return backoff.on_exception(backoff.constant, ConnectionError, max_tries=2, logger=None, **wait)(f)
