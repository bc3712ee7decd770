"""The search for the few headers that a middleware reads among all that a request has."""

from __future__ import annotations

import pytest

from resilio import bulkhead
from resilio._native.core import find_headers

WANTED = {b"x-request-timeout": "deadline", b"x-priority": "priority"}


@pytest.mark.parametrize(
    ("headers", "found"),
    [
        ([], None),
        ([(b"host", b"a"), (b"x-request-timeouts", b"1"), (b"x-request-timeous", b"2")], None),
        ([(b"x-request-timeout", b"1")], {"deadline": [b"1"]}),
        (
            [(b"x-priority", b"a"), (b"host", b"a"), (b"x-request-timeout", b"1"), (b"x-priority", b"b")],
            {"priority": [b"a", b"b"], "deadline": [b"1"]},
        ),
        (([b"x-priority", b"a"],), {"priority": [b"a"]}),
        (iter([(b"x-priority", b"a")]), {"priority": [b"a"]}),
        ([(b"x-priority",), ("x-priority", b"a"), b"x-priority", None, (b"x-priority", b"a", b"b")], None),
    ],
)
def test_headers_are_found_by_name_with_all_their_values(headers, found) -> None:
    """All values of a wanted header are found, in order; pairs that are none are passed over."""
    assert find_headers(headers, WANTED) == found


@pytest.mark.parametrize("arguments", [(), ([],), ([], {}, {}), ([], []), ([], {"text": "x"}), (3, {})])
def test_what_is_no_search_is_refused(arguments) -> None:
    """Wrong arguments are a TypeError."""
    with pytest.raises(TypeError, match="find_headers"):
        find_headers(*arguments)


def test_an_acquisition_begun_tells_a_permit_from_a_wait() -> None:
    """`_begin` gives the permit if there is one now, raises the refusal, or hands out the call that waits."""
    import asyncio

    gate = bulkhead(1, max_queued=1, max_wait=60.0)

    async def main() -> None:
        permit = gate._begin()
        call, trap = gate._begin()
        assert trap is not None
        with pytest.raises(Exception, match="queue"):
            gate._begin()
        call.close()
        permit.success()

    asyncio.run(main())
    assert (gate.snapshot().inflight, gate.snapshot().queued) == (0, 0)
