"""Randomness that repeats."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

from resilio._config import positive_int
from resilio._native import budget

__all__ = ["seeded"]


@contextmanager
def seeded(seed: int) -> Iterator[None]:
    """
    Have every backoff of this process draw the same jitter in every run of the block; afterwards as before.

    Args:
        seed: Which jitter, 0 to 2**63 - 1. Threads that draw at once share the sequence in the order they come.

    Raises:
        TypeError, ValueError: Not such an int.
    """
    before = budget._reseed(positive_int("seed", seed, zero_ok=True, high=2**63 - 1))
    try:
        yield
    finally:
        budget._reseed(before)
