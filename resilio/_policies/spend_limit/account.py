"""The account of one call at one spend limit: what was reserved for it, and what it has cost."""

from __future__ import annotations

import heapq
from collections.abc import Iterator
from typing import Literal, Protocol

import attrs

from resilio._native import clock
from resilio._policies.spend_limit.offers import Answer, ModelCall, Offer, answer_of
from resilio._policies.spend_limit.prices import Price, Prices, Usage
from resilio._policies.spend_limit.quote import Quote

__all__ = ["Account", "Accounts", "Aging", "Part"]

Part = Literal["answer", "retry", "hedge", "lost"]
"""What a cost was for: the first attempt, a further one, a copy, or an attempt without a result."""


class Accounts(Protocol):
    """The book that an account belongs to."""

    currency: str
    prices: Prices | None

    def charge(
        self, account: Account, cost: int, part: Part, usage: Usage | None = None, answer: Answer | None = None
    ) -> None:
        """Charge an account what its call has cost, in trillionths."""
        ...

    def nothing(self, account: Account) -> None:
        """Note that an attempt of its call has cost nothing."""
        ...

    def keep(self, account: Account, asked: Offer, answer: Answer | None = None) -> None:
        """Charge an account what was reserved for an answer of this model."""


class Account:
    """
    The account of a call. The book's lock protects it.

    Attributes:
        book: The book of the spend limit.

        reserved: The reservation, in billionths; it rises as the call grows older.

        begun_ns: When it was admitted.

        rising: What to reserve as it grows older; None: the same.

        rung: The part of `rising` that is reserved.

        most: The most that the call can cost, in billionths; None: unknown.

        charged: What it has cost so far, in billionths; None: unknown.

        period: The number of the period in which it was admitted.

        call: The call to a model; None for other calls.

        quote: What was reserved for each model that may answer.

        free: True if an attempt has cost nothing: without a charge the call has cost nothing either.

        ended: True once the call has ended.
    """

    __slots__ = (
        "begun_ns",
        "book",
        "call",
        "charged",
        "ended",
        "free",
        "most",
        "period",
        "quote",
        "reserved",
        "rising",
        "rung",
    )

    def __init__(self, book: Accounts, quote: Quote, reserved: int, period: int) -> None:
        """Open the account of a call that was admitted."""
        self.book: Accounts = book
        self.reserved = reserved
        self.most = quote.most
        self.rising = quote.rising
        self.rung = 0
        self.begun_ns: int = clock.now_ns()
        self.call: ModelCall | None = quote.call
        self.period = period
        self.charged: int | None = None
        self.quote = quote
        self.free = False
        self.ended = False

    @property
    def model(self) -> str:
        """The name of the model; "" for a call to none."""
        return (self.call.model if self.call is not None else None) or ""

    def use(self, usage: Usage, answered: str | None, asked: Offer, price: Price | None, part: Part) -> None:
        """
        Charge the tokens of an answer; without a price what was reserved for its model.

        Args:
            usage: The tokens.

            answered: The name of the model in the answer; None: it has none.

            asked: The model asked for.

            price: The price, whatever the limit's is; None: that of the limit or of the endpoint.

            part: What they were for.
        """
        if asked.model is None:
            asked = attrs.evolve(asked, model=self.model)
        answer = answer_of(answered, asked if price is None else attrs.evolve(asked, price=price), self.book)
        if price is not None and price.currency != self.book.currency:
            answer = attrs.evolve(answer, price=None)
        if answer.price is None:
            self.book.keep(self, asked, answer)
        else:
            self.book.charge(self, answer.price.exactly(usage), part, usage, answer)

    def kept(self, asked: Offer) -> int:
        """Return the reservation for an answer of this model, in billionths; for an unknown one the whole."""
        one = self.quote.parts.get(asked)
        return self.reserved if one is None else min(self.reserved, one.at(clock.now_ns() - self.begun_ns))

    @property
    def rises_ns(self) -> int | None:
        """When more is to be reserved; None: never."""
        if self.rising is None or self.charged is not None or self.rung + 1 >= len(self.rising.rungs):
            return None
        return self.begun_ns + self.rising.rungs[self.rung + 1].after_ns

    def rise(self, now_ns: int) -> int:
        """Go up to the rung of its age; return the amount to be reserved on top."""
        while (due_ns := self.rises_ns) is not None and due_ns < now_ns:
            self.rung += 1
        return 0 if self.rising is None else max(0, self.rising.amount(self.rung) - self.reserved)

    @property
    def risk(self) -> float:
        """By how much the call can still cost more than was reserved for it, in billionths."""
        if self.charged is not None:
            return 0.0
        return float("inf") if self.most is None else max(self.most - self.reserved, 0)


class Aging:
    """Accounts that are looked at again as their calls grow older, by time. The book's lock protects it."""

    __slots__ = ("_heap", "_number")

    def __init__(self) -> None:
        """Begin without accounts."""
        self._heap: list[tuple[int, int, Account]] = []
        self._number = 0

    def add(self, account: Account, due_ns: int | None) -> None:
        """Add an account that is due at this time; None: never."""
        if due_ns is not None:
            self._number += 1
            heapq.heappush(self._heap, (due_ns, self._number, account))

    def due(self, now_ns: int) -> Iterator[Account]:
        """Take off the accounts that are due, and yield them."""
        while self._heap and self._heap[0][0] < now_ns:
            yield heapq.heappop(self._heap)[2]
