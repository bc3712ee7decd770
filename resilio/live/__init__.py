"""
The live page: state, rates, latencies and rejection reasons of every policy, in real time.

`app.mount("/resilio", live())` mounts it in a FastAPI or Starlette app. `start(live())` serves it in a thread, and the
command `resilio watch` in a process.
"""

from __future__ import annotations

from resilio.live._app import Live, live
from resilio.live._serve import Running, start

__all__ = ["Live", "Running", "live", "start"]
