"""The sixteen scenarios: the fault, the ideal outcome, and the rules of conduct; times are those of the source."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal

import attrs

from benchmarks.failover import _judge as conduct
from benchmarks.failover._faults import HEALTHY, Reply, Script, always, once, until
from benchmarks.failover._judge import Check, advisory

__all__ = ["SCENARIOS", "WELL", "Scenario"]

WELL: Script = always(HEALTHY)
"""The script of an endpoint without a fault."""


@attrs.frozen
class Scenario:
    """
    One way to misbehave, and the conduct that is expected on the caller's side.

    Attributes:
        key: As in the source: "S01" to "S16".

        title: The fault in a few words.

        primary: The script of the endpoint that is asked first.

        checks: The rules of conduct.

        patience: Seconds after which a call counts as a hang.

        fallback: The script of the other endpoint.

        ideal: The outcome that a caller wants.

        calls: How many are made.

        every: Seconds between the beginnings of two calls.
    """

    key: str
    title: str
    primary: Script
    checks: Sequence[Check]
    patience: float
    fallback: Script = WELL
    ideal: Literal["answer", "error"] = "answer"
    calls: int = 1
    every: float = 0.0


_RATE = Reply(429, "rate_limit_exceeded")
_OVERLOADED = Reply(503, "overloaded")
_CUT = Reply(tokens=40)
_DOWN = 60.0

SCENARIOS: Sequence[Scenario] = (
    Scenario(
        "S01",
        "429 with Retry-After, once",
        once(attrs.evolve(_RATE, retry_after=2.0)),
        (advisory(conduct.at_least(2)), advisory(conduct.gap_of(1.8)), conduct.at_most(2, in_first=1.5)),
        patience=20.0,
    ),
    Scenario(
        "S02",
        "429 without Retry-After, always",
        always(_RATE),
        (conduct.at_most(4, in_first=3.0), conduct.at_most(6)),
        patience=40.0,
    ),
    Scenario("S03", "500 once", once(Reply(500)), (advisory(conduct.at_least(2)),), patience=20.0),
    Scenario("S04", "503 always", always(_OVERLOADED), (conduct.at_most(6),), patience=40.0),
    Scenario("S05", "connection reset before the status, once", once(Reply(0)), (), patience=20.0),
    Scenario(
        "S06",
        "no answer at all",
        always(Reply(silence=120.0)),
        (conduct.within(100.0), advisory(conduct.at_most(1))),
        patience=130.0,
    ),
    Scenario(
        "S07",
        "first token after 20 s",
        always(Reply(first=20.0)),
        (attrs.evolve(advisory(conduct.within(15.0)), needs_fallback=True),),
        patience=60.0,
    ),
    Scenario("S08", "stream closed after 40 of 60 tokens", always(_CUT), (), patience=40.0),
    Scenario(
        "S09",
        "stream silent for 30 s after 20 tokens",
        always(Reply(tokens=20, stall=30.0)),
        (conduct.within(45.0), conduct.alive_after()),
        patience=70.0,
    ),
    Scenario("S10", "an event that is no JSON", always(Reply(garbage=10)), (conduct.alive_after(),), patience=30.0),
    Scenario(
        "S11",
        "no last event",
        always(Reply(ended=False)),
        (conduct.within(8.0), advisory(conduct.usage_known())),
        patience=30.0,
    ),
    Scenario(
        "S12",
        "400: the context is too long",
        always(Reply(400, "context_length_exceeded")),
        (conduct.no_blind_retry(),),
        patience=20.0,
    ),
    Scenario(
        "S13",
        "400: rejected by a content filter",
        always(Reply(400, "content_policy_violation")),
        (conduct.exactly(1),),
        patience=20.0,
        ideal="error",
    ),
    Scenario(
        "S14",
        "stream closed, and the fallback takes no prefilled answer",
        always(_CUT),
        (conduct.no_masking(),),
        patience=40.0,
        fallback=always(Reply(prefill=False)),
    ),
    Scenario(
        "S15",
        "503 for 60 s, twenty calls",
        until(_DOWN, _OVERLOADED),
        (conduct.served_while_down(_DOWN), conduct.back_within(30.0, down=_DOWN)),
        patience=30.0,
        calls=20,
        every=4.0,
    ),
    Scenario(
        "S16",
        "503 always: the account of it",
        always(_OVERLOADED),
        (
            conduct.names_the_fallback(),
            attrs.evolve(advisory(conduct.usage_known()), needs_fallback=True),
            conduct.at_most(6),
        ),
        patience=40.0,
    ),
)
