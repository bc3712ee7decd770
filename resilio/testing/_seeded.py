"""Reproducible random numbers."""

from __future__ import annotations

import random
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import partial

from resilio._native import budget
from resilio._options.validators import positive_int
from resilio._support import random_seed

__all__ = ["seeded"]


@contextmanager
def seeded(seed: int) -> Iterator[None]:
    """
    Seed the random numbers of backoffs, and of policies made in the block; restore the previous source at its end.

    Args:
        seed: The seed, 0 to 2**63 - 1. Concurrent threads share the sequence in the order in which they draw.

    Raises:
        TypeError, ValueError: `seed` is no such int.
    """
    before = budget._reseed(positive_int("seed", seed, zero_ok=True, high=2**63 - 1))
    source = random_seed.replace(_numbers(seed))
    try:
        yield
    finally:
        random_seed.replace(source)
        budget._reseed(before)


def _numbers(seed: int) -> Callable[[], int]:
    return partial(random.Random(seed).getrandbits, 64)  # noqa: S311 - repeats on purpose
