"""
The live page: every policy with its state, rates, latencies and why it refuses, as it happens.

`app.mount("/resilio", live())` puts it into a FastAPI or Starlette app; `resilio watch` serves it alone.
"""

from __future__ import annotations

from resilio.live._app import Live, live

__all__ = ["Live", "live"]
