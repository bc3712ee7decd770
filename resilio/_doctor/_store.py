"""The store of a fleet, asked as a fleet's courier asks it."""

from __future__ import annotations

import time
from typing import Any

__all__ = ["store_at"]

SECONDS = 10
"""How long the store keeps what it has been asked about."""


def store_at(url: str, timeout: float) -> dict[str, Any]:
    """
    Return where a store is, why it gives no answer (None: it does), and the seconds of the first and the second trip.

    It is asked about a limit of its own, by an asker whose id is random. The URL's user and password are not returned.
    """
    from resilio.sharing._fleet.make import without_password

    found: dict[str, Any] = {"at": without_password(url), "problem": None}
    try:
        found["first"], found["seconds"] = _ask(url, timeout)
    except Exception as error:  # noqa: BLE001 - a missing extra, a URL that is none, a store that is away
        found["problem"] = f"{error}" or type(error).__name__
    return found


def _ask(url: str, timeout: float) -> tuple[float, float]:
    from resilio._support.random_seed import seed64
    from resilio.sharing._fleet.ask import TOKEN, LimitAsk
    from resilio.sharing._fleet.make import engine_of

    engine, asker = engine_of(url, timeout), seed64() >> 12 | 1
    taken = []
    for seq in (1, 2):
        ask = LimitAsk(
            key="{resilio:doctor}",
            asker=asker,
            seq=seq,
            seen=seq - 1,
            amount=TOKEN,
            period_us=SECONDS * 1_000_000,
            burst=TOKEN,
        )
        begin = time.perf_counter()
        engine.exchange([ask], timeout)
        taken.append(time.perf_counter() - begin)
    getattr(engine, "close", bool)()
    return taken[0], taken[1]
