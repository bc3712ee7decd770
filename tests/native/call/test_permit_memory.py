"""Permits are garbage with all that they refer to, wherever they are kept."""

from __future__ import annotations

import functools
import gc
import weakref
from typing import Any

from resilio import Endpoint, circuit_breaker, keyed, pool


class Marker:
    """Something whose end is seen."""


def test_a_permit_of_a_key_may_be_kept_by_the_policy_of_that_key() -> None:
    """What decides about failures may remember the permit: the cycle of both was never collected."""
    kept: list[Any] = [Marker()]
    end = weakref.ref(kept[0])

    def is_failure(value: object, kept: list[Any] = kept) -> bool:
        return not kept

    hosts = keyed(lambda judge=is_failure: circuit_breaker(failed_if=judge), key=lambda host: host)
    kept.append(hosts.acquire("a"))
    del hosts, kept, is_failure
    gc.collect()
    assert end() is None


def test_a_permit_of_an_endpoint_may_be_kept_by_the_policy_of_that_endpoint() -> None:
    """The same for a permit of a pool, which refers to the endpoint that was chosen."""
    kept: list[Any] = [Marker()]
    end = weakref.ref(kept[0])

    def is_failure(value: object, kept: list[Any] = kept) -> bool:
        return not kept

    each = functools.partial(circuit_breaker, failed_if=is_failure)
    both = pool(None, Endpoint("a"), Endpoint("b"), each=lambda endpoint, each=each: each())
    kept.append(both.acquire())
    del both, each, kept, is_failure
    gc.collect()
    assert end() is None
