"""
Engines: where the rules of the store run.

An engine has one method, `exchange(asks, timeout)`. It is called by the courier's thread alone, one call at a time.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Protocol, runtime_checkable

from resilio.sharing._fleet.ask import Answer, Ask, StoreProblem

__all__ = ["Engine", "StoreError"]


class StoreError(Exception):
    """Error of a store that gave no answer: it is away, slow, or rejected what was asked."""


@runtime_checkable
class Engine(Protocol):
    """
    A store that policies of several hosts share: one method.

    An engine of your own runs `resilio.sharing.exchange(state, ask, now_us)` for each ask. Meanwhile the state cannot
    change: there is a lock on its row, or it is a script. The time is the store's own. The state is kept at least for
    `resilio.sharing.keeps_us(ask)` microseconds.
    """

    def exchange(self, asks: Sequence[Ask], timeout: float) -> Sequence[Answer | StoreProblem]:
        """
        Exchange all asks, each by itself, and return the answers in their order; or the problem, of one without.

        It logs nothing: a change is reported once, by the fleet.

        Args:
            asks: What policies ask, of any number of keys.

            timeout: Seconds for all of it; later, the answers are not needed any more.

        Raises:
            StoreError: No answer to any of them; the cause is the client's own error.
        """
        ...
