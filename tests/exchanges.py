"""Exchanges of a limit of a token an hour with the store of a fleet: nothing comes in, however slow the machine is."""

from __future__ import annotations

from resilio.sharing import Engine, StoreError
from resilio.sharing._fleet.ask import TOKEN, LimitAnswer, LimitAsk

__all__ = ["BURST", "PATIENT", "answers", "ask", "granted"]

BURST = 1000 * TOKEN
PATIENT = 30.0
HOUR_US = 3_600_000_000


def ask(seq: int, seen: int, *, key: str = "{k}", asker: int = 1, **amounts: int) -> LimitAsk:
    """Return an ask about the limit; amounts are whole tokens."""
    millionths = {name: value * TOKEN for name, value in amounts.items()}
    return LimitAsk(
        key=key, asker=asker, seq=seq, seen=seen, amount=BURST, period_us=1000 * HOUR_US, burst=BURST, **millionths
    )


def granted(engine: Engine, *asks: LimitAsk) -> list[int | None]:
    """Return the whole tokens of each answer; None: another answer, or none."""
    answers = engine.exchange(asks, PATIENT)
    return [answer.grant // TOKEN if isinstance(answer, LimitAnswer) else None for answer in answers]


def answers(engine: Engine) -> bool:
    """Return True if the store answers."""
    try:
        return bool(engine.exchange([ask(1, 0, key="{other}")], PATIENT))
    except StoreError:
        return False
