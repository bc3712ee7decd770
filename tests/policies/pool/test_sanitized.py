"""The choice of endpoints under ThreadSanitizer, where the compiler has it: threads call while the endpoints change."""

from __future__ import annotations

from pathlib import Path

import pytest
from thread_sanitizer import COMPILER, SOURCES, built, folder_of_programs, printed

SCENE = Path(__file__).parent / "sanitized" / "pool.c"

pytestmark = [
    pytest.mark.once,
    pytest.mark.skipif(COMPILER is None, reason="NOT TESTED: ThreadSanitizer, for want of a C compiler"),
    pytest.mark.skipif(not SOURCES.exists(), reason="NOT TESTED: the headers of pools, whose source is not here"),
]


def test_threads_that_call_and_change_a_pool_do_not_race() -> None:
    """
    Without the GIL a choice reads what calls at other endpoints write: under a lock, or as one word.

    The number of calls in flight, the time of a Retry-After and the place of an endpoint were neither.
    """
    with folder_of_programs() as folder:
        assert built(SCENE, folder / "pool", f"-I{SCENE.parent / 'stub'}")
        found = printed(folder / "pool")
    assert found["calls"] == 60000
    assert found["left"] == 0
    assert min(found["changes"], found["ejections"]) > 10  # it raced
