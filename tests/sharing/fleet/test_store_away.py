"""The warning of a fleet whose store is away."""

from __future__ import annotations

import sys
import warnings

import pytest
from limits_of_fleet import hosts, play

from resilio.sharing import SharingWarning, _report
from resilio.testing import virtual_time

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="shared memory of hosts is for Linux")


@pytest.mark.parametrize("has_answered", [False, True], ids=["from the beginning", "later"])
def test_a_store_that_is_away_is_one_warning(monkeypatch: pytest.MonkeyPatch, has_answered: bool) -> None:
    """
    A fleet without its store was silent: no logging is set up where it is made, and no warning was raised.

    There is one now, once for each fleet; where a filter makes it an error, the courier's thread goes on.
    """
    with virtual_time() as vt:
        for action in ("always", "error"):
            monkeypatch.setattr(_report, "_warned", set())
            (one,) = hosts(1, "400/s")
            one.wire.is_cut = not has_answered
            with warnings.catch_warnings(record=True) as seen:
                warnings.simplefilter(action, SharingWarning)  # type: ignore[arg-type]
                for is_cut in (not has_answered, True, False, True):
                    one.wire.is_cut = is_cut
                    play(vt, [one], [10.0], 6.0)
            assert one.limit.snapshot().sharing.degraded == "store_down"  # type: ignore[union-attr]
            texts = [str(warning.message) for warning in seen]
            assert len(texts) == (action == "always")
            assert all("fleet('shop') is not shared with other hosts (store_down)" in text for text in texts)
