"""
The live page: every policy with its state, rates, latencies and why it refuses, as it happens.

`app.mount("/resilio", live())` puts it into a FastAPI or Starlette app; `start(live())` serves it in a thread, and
`resilio watch` as a command.
"""

from __future__ import annotations

from resilio.live._app import Live, live
from resilio.live._serve import Running, start

__all__ = ["Live", "Running", "live", "start"]
