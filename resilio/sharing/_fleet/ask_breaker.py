"""What a courier reports and asks about a circuit breaker, and what it is answered."""

from __future__ import annotations

import attrs

from resilio.sharing._fleet.ask import RecordedAnswer, RecordedAsk

__all__ = [
    "BAD",
    "BY_CONSECUTIVE",
    "BY_FAILURE_RATE",
    "BY_PROBE_FAILED",
    "BY_SLOW_RATE",
    "CLOSED",
    "GOOD",
    "HALF_OPEN",
    "OPEN",
    "BreakerAnswer",
    "BreakerAsk",
]

CLOSED, OPEN, HALF_OPEN = 0, 1, 2
"""States, by their numbers in the gate."""
BY_FAILURE_RATE, BY_CONSECUTIVE, BY_SLOW_RATE, BY_PROBE_FAILED = 4, 5, 6, 7
"""What opened it, by its number in the gate."""
GOOD, BAD = 1, 2
"""Results of a probe."""


@attrs.define
class BreakerAnswer(RecordedAnswer):
    """
    The fleet's state.

    Attributes:
        state: 0 closed, 1 open, 2 half open.

        generation: Grows with each change.

        left_us: Until the open time ends.

        reason: What opened it: the number of a reason; 0: it has not been open.

        measured: Of that: failures in a row, or millionths.

        reopened: Failed rounds of probes in a row.

        proven: Probes of this round that succeeded.

        lease: The lease that the asker holds: its number; 0: none.

        peers: Askers, this one included.
    """

    state: int
    generation: int
    left_us: int
    reason: int
    measured: int
    reopened: int
    proven: int
    lease: int
    peers: int
    at_us: int = 0


@attrs.define(kw_only=True)
class BreakerAsk(RecordedAsk):
    """
    A report of one process, or of a host. One whose answer was lost is sent again as it was, and counts once.

    Attributes:
        generation: The fleet's, by which the calls were made; 0: none was known.

        ok, failed, slow: Calls that ended since the report before; slow ones are among the others.

        tail: Failures among them that ended after the last call that did not fail; without such a call all are.

        good_us: How long ago that call ended.

        bad_us: How long ago the first failure of the tail ended.

        gone: Callers that left after an unusually long time, since the report before.

        flying: Calls that began in the row of failures and may still succeed.

        late: Calls that hang: they are unusually long under way, and began after the last one that succeeded.

        result: Of a probe: 0 none, 1 good, 2 bad.

        holds: The lease that the asker holds, as it knows: its number; 0: none.

        ready: 1: it has calls to probe with, and its own breaker would admit one.

        draw: A random number from 0 to 999,999, by which an open time is shorter by up to a tenth.

        tick_us: The time between its reports.

        failed_share, slow_share: Millionths; 0: off.

        min_calls, consecutive, window_calls, window_us, probes, closing, sure: As the breaker's options; 0: off.

        open_us, max_open_us, lease_us: The open time, the longest one, and the time that a probe may take.
    """

    kind = "breaker"
    answer = BreakerAnswer

    generation: int = 0
    ok: int = 0
    failed: int = 0
    slow: int = 0
    tail: int = 0
    good_us: int = 0
    bad_us: int = 0
    gone: int = 0
    flying: int = 0
    late: int = 0
    result: int = 0
    holds: int = 0
    ready: int = 0
    draw: int = 0
    tick_us: int = 250_000
    failed_share: int = 900_000
    slow_share: int = 0
    min_calls: int = 20
    consecutive: int = 10
    window_calls: int = 200
    window_us: int = 60_000_000
    probes: int = 1
    closing: int = 2
    sure: int = 1
    open_us: int = 200_000
    max_open_us: int = 3_000_000
    lease_us: int = 3_000_000
