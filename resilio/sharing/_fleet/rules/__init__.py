"""
The store's part in an exchange: `exchange(state, ask, now_us) -> (state, answer)`.

A store's clock may be set back or ahead. Its time is made to go on here, before any rule: each state has the latest
time that was read for it, and what is added to the next. So no rule sees time go back. Nor does it go ahead by more
than has passed: an ask has the time that its courier reckons, from its last answer and its own clock. The store's time
is later than that by `LATE_US` at most, in which an ask may be under way. An asker without an answer reckons nothing,
and takes the clock as it is.

These functions are the rules: engines in memory and in Postgres run them, and the script of Valkey and Redis computes
the same, to the bit. So they use numbers only, whose `+ - * /`, floor, min, max and sqrt are the same everywhere.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from resilio.sharing._fleet.ask import Answer, Ask
from resilio.sharing._fleet.rules import breaker, limit, slots, spend, window
from resilio.sharing._fleet.rules.rows import HEAD, State

__all__ = ["RULES", "exchange", "keeps_us"]

RULES: dict[str, Callable[[State, Any, int], Answer]] = {
    "breaker": breaker.exchange,
    "limit": limit.exchange,
    "slots": slots.exchange,
    "spend": spend.exchange,
    "window": window.exchange,
}
"""The rule of each kind of ask; it changes the state that it is given."""

LATE_US = 100_000
"""An ask may arrive so much later after it is sent than the one before; if it takes longer, time is behind."""

_KEEPS: dict[str, Callable[[Any], int]] = {
    "breaker": breaker.keeps_us,
    "limit": limit.keeps_us,
    "slots": slots.keeps_us,
    "spend": spend.keeps_us,
    "window": window.keeps_us,
}


def exchange(state: State | None, ask: Ask, now_us: int) -> tuple[State, Answer]:
    """
    Return the state after an ask, and the answer.

    Args:
        state: The rows of the ask's key, which stay as they are; None: there are none.

        ask: The ask.

        now_us: The store's time, in microseconds.
    """
    rows: State = {} if state is None else dict(state)
    at_us: float = now_us
    if HEAD in rows:
        *head, last_us, ahead_us = rows[HEAD]
        rows[HEAD] = tuple(head)
        at_us = ahead_us + max(now_us, last_us)
        if ask.by_us > 0:
            at_us = min(at_us, max(ask.by_us + LATE_US, last_us + ahead_us))
    answer: Any = RULES[ask.kind](rows, ask, int(at_us))  # its kinds have the slot, their base has none
    answer.at_us = int(at_us)
    rows[HEAD] = (*rows[HEAD], now_us, at_us - now_us)
    return rows, answer


def keeps_us(ask: Ask) -> int:
    """Return how long the store keeps the state after this ask, if there is no other one."""
    return _KEEPS[ask.kind](ask)
