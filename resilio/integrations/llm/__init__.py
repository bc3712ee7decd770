"""
Calls to models through the SDKs of OpenAI and Anthropic: `llm.openai.guard` and `llm.anthropic.guard`.

Importing this loads neither SDK.
"""

from __future__ import annotations

from resilio.integrations.llm._call import ModelCall
from resilio.integrations.llm._classify import Meaning, meaning_of
from resilio.integrations.llm._details import given_up, partial_of, rejection_of, segments_of, trail_of
from resilio.integrations.llm._guard import ModelGuard, guard_of
from resilio.integrations.llm._guard_state import InnerRetryWarning, UsageWarning
from resilio.integrations.llm._limits import TokenCost, token_rate

__all__ = [
    "InnerRetryWarning",
    "Meaning",
    "ModelCall",
    "ModelGuard",
    "TokenCost",
    "UsageWarning",
    "given_up",
    "guard_of",
    "meaning_of",
    "partial_of",
    "rejection_of",
    "segments_of",
    "token_rate",
    "trail_of",
]
