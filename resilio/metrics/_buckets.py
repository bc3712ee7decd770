"""Bounds of the duration histogram: presets by kind of dependency, and the choice for each policy."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping
from itertools import pairwise
from typing import Any, TypeAlias

from resilio._options.validators import show

__all__ = ["BUCKETS", "PRESETS", "Bounds", "Choice", "Chooser", "bounds_of"]

BUCKETS = (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0, 60.0)
"""Default upper bounds of the duration histogram, in seconds; infinity is added."""

PRESETS: dict[str, tuple[float, ...]] = {
    "default": BUCKETS,
    "database": (0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0),
    "http": (0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0),
    "model": (0.1, 0.25, 0.5, 1.0, 2.0, 3.0, 5.0, 8.0, 13.0, 20.0, 30.0, 45.0, 60.0, 90.0, 120.0),
}
"""Bounds by kind of dependency: an HTTP service, a model, a database."""

Bounds: TypeAlias = "str | Iterable[float]"
Choice: TypeAlias = "Bounds | Mapping[str, Bounds]"


def bounds_of(value: Any) -> tuple[float, ...]:
    """
    Return checked bounds with infinity last.

    Raises:
        ValueError: Unknown preset, or bounds that do not ascend from above 0.
    """
    if isinstance(value, str):
        if value not in PRESETS:
            raise ValueError(f"buckets must be bounds in seconds or one of {', '.join(PRESETS)}, not {value!r}")
        value = PRESETS[value]
    try:
        bounds = tuple(float(bound) for bound in value if bound != math.inf)
    except TypeError as error:
        raise ValueError(f"buckets must be ascending bounds > 0 in seconds, not {show(value)}") from error
    if not bounds or not bounds[0] > 0 or not all(low < high for low, high in pairwise(bounds)):
        raise ValueError(f"buckets must be ascending bounds > 0 in seconds, not {bounds!r}")
    return (*bounds, math.inf)


class Chooser:
    """
    Choice of the bounds of a policy's histogram.

    Args:
        choice: Bounds, a preset's name, or a mapping of either by the policy's name, else by its kind; its entry
            "default" is for all others.

    Raises:
        ValueError: Unknown preset, or bounds that do not ascend from above 0.
    """

    def __init__(self, choice: Choice) -> None:
        """Check all bounds at once."""
        named = choice if isinstance(choice, Mapping) else {"default": choice}
        self._by_name = {name: bounds_of(bounds) for name, bounds in named.items()}
        self._default = self._by_name.get("default") or bounds_of("default")

    def __call__(self, kind: str, policy: str) -> tuple[float, ...]:
        """Return the bounds for a policy: by name, by kind, or the default."""
        return self._by_name.get(policy) or self._by_name.get(kind) or self._default
