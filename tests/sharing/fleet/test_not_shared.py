"""What a fleet does not share is an error where it is defined: one line with the reason and what to use."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

from resilio import adaptive_limit, bulkhead, configure, keyed, pipeline, retry
from resilio.sharing import MemoryEngine
from resilio.sharing._fleet.fleet import Fleet

LAW = (
    "its law learns from the latency of each call, of which a store hears late; use scope='host', or a bulkhead of the "
    "fleet"
)
SLOTS = (
    "the slots of a key would lie on lease for seconds at processes without calls of it; use scope='host', or a keyed "
    "rate_limit of the fleet"
)


def _keyed(make: Callable[[], Any], scope: Fleet) -> Any:
    return keyed(make, key="user", name="users", scope=scope)


@pytest.mark.parametrize(
    ("make", "kind", "why"),
    [
        (lambda scope: adaptive_limit(name="upstream", scope=scope), "an adaptive_limit", LAW),
        (lambda scope: _keyed(adaptive_limit, scope), "a keyed adaptive_limit", LAW),
        (lambda scope: _keyed(lambda: bulkhead(3), scope), "a keyed bulkhead", SLOTS),
        (lambda scope: _keyed(lambda: pipeline(bulkhead(3), adaptive_limit()), scope), "a keyed bulkhead", SLOTS),
    ],
)
def test_what_a_fleet_does_not_share_is_an_error(make: Callable[[Fleet], Any], kind: str, why: str) -> None:
    """Also of a pipeline of which nothing is shared: it would be each process's own, though the code asks for more."""
    with pytest.raises(TypeError) as caught:
        make(Fleet("shop", MemoryEngine(), is_stepped=True))
    assert str(caught.value) == f"scope must be 'process' or 'host' for {kind}, not fleet('shop'): {why}"


def test_a_scope_that_is_configured_later_is_no_other(vt: Any) -> None:
    """The policy keeps the scope that it has."""
    upstream = adaptive_limit(name="upstream of one process")
    with pytest.raises(TypeError, match=r"not fleet\('shop'\): its law learns"):
        configure({"upstream of one process": {"scope": Fleet("shop", MemoryEngine(), is_stepped=True)}})
    assert upstream.snapshot().sharing is None


def test_what_has_nothing_to_share_has_the_scope_of_the_process() -> None:
    """A host would be no remedy."""
    with pytest.raises(TypeError, match=r"scope must be 'process' for a keyed retry, not fleet\('shop'\)"):
        _keyed(lambda: retry(on=OSError), Fleet("shop", MemoryEngine(), is_stepped=True))
