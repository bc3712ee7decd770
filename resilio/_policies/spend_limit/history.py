"""
What the latest calls of a model have used, and what to reserve for one by how long it has lasted.

Long answers take long. So those that are under way for long are not like all calls: of a hundred that run at once, a
twentieth costs more than the p95 of all, and these are the last to end. A call's reservation therefore follows its age:
it is the quantile of those calls that have lasted at least as long.
"""

from __future__ import annotations

from collections import deque
from typing import Any

import attrs

from resilio._options.quantile import Quantile
from resilio._policies.spend_limit.prices import Usage

__all__ = ["ENOUGH", "History", "Learned", "Rung", "at_quantile"]

ENOUGH = 20
"""Calls of a model after which a quantile of them is reserved, instead of the most that one can cost."""
FEW = 6
"""Of so few that have lasted longer no quantile is known: then it is the most."""
KEPT = 200
"""The latest calls of a model whose usage is kept."""
MOST_MODELS = 256
"""The models with a history of their own; names come from requests."""
MOST_OTHERS = 8
"""The other models that are remembered to answer in a model's place."""
FRESH = 16
"""The quantiles of older calls are found anew when this part of the calls is new."""


@attrs.frozen
class Rung:
    """
    What calls have used that have lasted for a time.

    Attributes:
        after_ns: That time.

        value: The quantile of what they have used; None: of so old ones too few are known.
    """

    after_ns: int
    value: float | None


class Ended:
    """The latest calls that have ended: how long each has lasted, and what it has used."""

    __slots__ = ("_calls", "_law", "_new", "_rungs")

    def __init__(self) -> None:
        """Begin without calls."""
        self._calls: deque[tuple[int, float]] = deque(maxlen=KEPT)
        self._law: Quantile | None = None
        self._new = 0
        self._rungs: tuple[Rung, ...] = ()

    def __len__(self) -> int:
        return len(self._calls)

    def add(self, age_ns: int, used: float) -> None:
        """Learn from a call."""
        self._calls.append((age_ns, used))
        self._new += 1

    def rungs(self, law: Quantile) -> tuple[Rung, ...]:
        """Return the quantile of all calls, of the half that has lasted longest, the half of that, and so on."""
        if law != self._law or self._new * FRESH > len(self._calls):
            self._law, self._new = law, 0
            self._rungs = tuple(_rungs(sorted(self._calls), law))
        return (Rung(0, at_quantile([used for _, used in self._calls], law)), *self._rungs[1:])


def _rungs(ranked: list[tuple[int, float]], law: Quantile) -> list[Rung]:
    found: list[Rung] = []
    first, least = 0, 0.0
    while not found or len(ranked) - first >= FEW:
        least = max(least, at_quantile([used for _, used in ranked[first:]], law))
        found.append(Rung(ranked[first - 1][0] if first else 0, least))
        first += (len(ranked) - first + 1) // 2
    return [*found, Rung(ranked[first - 1][0], None)]


def at_quantile(values: Any, law: Quantile) -> Any:
    """Return the quantile of some values: one that they have reached."""
    ranked = sorted(values)
    return ranked[min(int(law.q * len(ranked)), len(ranked) - 1)]


class History:
    """
    The latest calls of one model.

    Attributes:
        inputs: Tokens for each byte of a request.

        outputs: Tokens of the answers.

        amounts: Of calls to no model, in billionths.

        others: Names of other models that have answered calls to this one.
    """

    __slots__ = ("amounts", "inputs", "others", "outputs")

    def __init__(self) -> None:
        """Begin without calls."""
        self.inputs: deque[float] = deque(maxlen=KEPT)
        self.outputs: Ended = Ended()
        self.amounts: Ended = Ended()
        self.others: dict[str, None] = {}

    def add(self, size: int, usage: Usage | None, amount: int, age_ns: int, other: str | None = None) -> None:
        """
        Learn from a call: of a model by its request's size and its usage, else by its amount.

        Args:
            size: The bytes of its request.

            usage: The tokens; None: it was no call to a model.

            amount: Its cost in billionths, if it was none.

            age_ns: How long it has lasted.

            other: The name of the model that has answered, if it is another one.
        """
        if other is not None and len(self.others) < MOST_OTHERS:
            self.others[other] = None
        if usage is None:
            self.amounts.add(age_ns, amount)
        elif size > 0:
            self.inputs.append((usage.input + usage.cached + usage.written) / size)
            self.outputs.add(age_ns, usage.output)


class Learned:
    """Usage of the latest calls, by model. Its owner locks."""

    def __init__(self) -> None:
        """Begin without calls."""
        self._by_model: dict[str | None, History] = {}

    def of(self, model: str | None) -> History:
        """Return the history of a model."""
        known = self._by_model.get(model)
        if known is None:
            name = model if len(self._by_model) < MOST_MODELS else None
            known = self._by_model.setdefault(name, History())
        return known
