"""The rules as one script for Valkey and Redis: the twins in Lua of the Python files, in one text."""

from __future__ import annotations

import hashlib
from importlib import resources

from resilio.sharing._fleet import rules

__all__ = ["SCRIPT", "SHA"]

PARTS = ("rows", "breaker", "limit", "window", "slots", "spend", "exchange")

SCRIPT = "\n".join((resources.files(rules) / f"{part}.lua").read_text(encoding="utf-8") for part in PARTS)
"""The text, for EVAL."""

SHA = hashlib.sha1(SCRIPT.encode(), usedforsecurity=False).hexdigest()
"""Its name, for EVALSHA."""
