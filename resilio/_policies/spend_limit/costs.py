"""Costs of calls since the start, by model and part."""

from __future__ import annotations

from resilio._policies.spend_limit.account import Part
from resilio._policies.spend_limit.money import TRILLIONTHS

__all__ = ["Costs"]

MOST_MODELS = 256
"""The models whose cost is counted apart; further ones are counted together, as "other"."""


class Costs:
    """Sums in trillionths. Its owner locks."""

    __slots__ = ("_by_part",)

    def __init__(self) -> None:
        """Begin with nothing."""
        self._by_part: dict[tuple[str, Part], int] = {}

    def add(self, model: str, part: Part, cost: int) -> None:
        """Add the cost of an attempt, in trillionths."""
        key = (model, part)
        if key not in self._by_part and len(self._by_part) >= 4 * MOST_MODELS:
            key = ("other", part)
        self._by_part[key] = self._by_part.get(key, 0) + cost

    def amounts(self) -> dict[tuple[str, Part], float]:
        """Return the sums in the currency."""
        return {key: cost / TRILLIONTHS for key, cost in self._by_part.items()}
