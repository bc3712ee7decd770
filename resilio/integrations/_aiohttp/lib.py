"""aiohttp, found when the first of the modules that need it is imported, and new enough."""

from __future__ import annotations

import importlib
from typing import Any

from resilio._support.extras import missing

__all__ = ["EXPECT", "BytesPayload", "aiohttp"]

try:
    aiohttp: Any = importlib.import_module("aiohttp")
except ImportError as _error:
    raise missing("aiohttp", "aiohttp", _error) from _error
if not hasattr(aiohttp, "ClientHandlerType"):
    raise ImportError(
        f"resilio.integrations.aiohttp needs aiohttp >= 3.12, which has client middlewares, not {aiohttp.__version__}: "
        "pip install 'resilio-sdk[aiohttp]'"
    )
BytesPayload: Any = importlib.import_module("aiohttp.payload").BytesPayload
EXPECT: Any = aiohttp.hdrs.EXPECT
"""Name of the header, in the form that aiohttp's mappings find at once."""
