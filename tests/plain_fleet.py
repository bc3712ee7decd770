"""A policy of a fleet that counts one token a tick: what the frame of fleets is tested with, without any gate."""

from __future__ import annotations

import os
from collections.abc import Sequence
from types import SimpleNamespace
from typing import Any

from resilio._native.shared import Cell
from resilio.sharing import Answer, Ask, StoreProblem
from resilio.sharing._attach import share
from resilio.sharing._fleet.ask import TOKEN, LimitAnswer, LimitAsk
from resilio.sharing._fleet.tie import Tie
from resilio.sharing._fleet.ties import TIES

__all__ = ["Gate", "PlainTie", "Policy"]

KIND = 60  # of no gate; the body begins with a courier


class PlainTie(Tie):
    """A tie that asks for one token each tick."""

    __slots__ = ("due", "got", "heard", "key", "lost")

    def __init__(self, policy: Any, gate: Any, cell: Cell, fleet: Any) -> None:
        super().__init__(cell)
        self.key = fleet.key("limit", policy.name, b"plain")
        self.due = 0
        self.got = 0
        self.lost = 0
        self.heard: list[str] = []

    def due_ns(self, now_ns: int) -> int:
        return 0 if self.cell is not None and self.cell.rings else self.due

    def ask(self, now_ns: int) -> Sequence[Ask]:
        self.due = now_ns + self.tick_ns
        assert self.cell is not None
        (seq, seen), asker = self.cell.number(), self.cell.asker
        options = {"amount": 1000 * TOKEN, "period_us": 1_000_000, "burst": 1000 * TOKEN, "want": TOKEN}
        return [LimitAsk(key=self.key, asker=asker, seq=seq, seen=seen, **options)]

    def take(self, asks: Sequence[Ask], answers: Sequence[Answer | StoreProblem], sent_ns: int, now_ns: int) -> None:
        assert self.cell is not None
        (answer,) = answers
        if isinstance(answer, LimitAnswer) and self.cell.saw(asks[0].seen, answer.seq):
            self.got += answer.grant
            self.cell.answered(now_ns, sent_ns + self.ttl_ns)
        else:
            self.lost += 1

    def down(self, now_ns: int, peers: int) -> None:
        self.heard.append("down")

    def up(self, now_ns: int) -> None:
        self.heard.append("up")


class Gate:
    """What a gate of a fleet's policy has."""

    def __init__(self) -> None:
        self.cell: Cell | None = None

    def fleet_cell_wanted(self) -> tuple[int, bytes, int]:
        return KIND, b"stock", 64

    def share_fleet(self, cell: Cell | None) -> None:
        self.cell = cell


class Policy:
    """What a policy has of what sharing looks at."""

    kind = "plain"

    def __init__(self, name: str = "orders") -> None:
        self.name = self._given = name
        self.gate = Gate()
        self._link: Any = None

    def _sharing_gate(self) -> Gate:
        return self.gate

    def give(self, scope: object) -> None:
        """Change the scope, as `reconfigure` does; its kind has the plain tie meanwhile."""
        before, TIES[KIND] = TIES.get(KIND), (__name__, "PlainTie")
        try:
            share(self, SimpleNamespace(scope=scope))
        finally:
            if before is not None:
                TIES[KIND] = before

    @property
    def tie(self) -> PlainTie:
        """Its tie."""
        found: PlainTie = self._link.tie
        return found

    @property
    def where(self) -> tuple[int, int]:
        """The process, and the id by which the store knows it."""
        assert self.gate.cell is not None
        return os.getpid(), self.gate.cell.asker
