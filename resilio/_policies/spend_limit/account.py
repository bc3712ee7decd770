"""The account of one call at one spend limit: what was reserved for it, and what it has cost."""

from __future__ import annotations

import heapq
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

        rung: The part of the quote's `rising` that is reserved.

        charged: What it has cost so far, in billionths; None: unknown.

        period: The number of the period in which it was admitted.

        call: The call to a model; None for other calls.

        quote: What was to be reserved, and for which models that may answer.

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
        "period",
        "quote",
        "reserved",
        "rung",
    )

    def __init__(self, book: Accounts, quote: Quote, reserved: int, period: int) -> None:
        """Open the account of a call that was admitted."""
        self.book: Accounts = book
        self.reserved = reserved
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
        rising = self.quote.rising
        if rising is None or self.charged is not None or self.rung + 1 >= len(rising.rungs):
            return None
        return self.begun_ns + rising.rungs[self.rung + 1].after_ns

    def rise(self, now_ns: int) -> int:
        """Go up to the rung of its age; return the amount to be reserved on top."""
        while (due_ns := self.rises_ns) is not None and due_ns < now_ns:
            self.rung += 1
        rising = self.quote.rising
        return 0 if rising is None else max(0, rising.amount(self.rung) - self.reserved)

    @property
    def risk(self) -> float:
        """By how much the call can still cost more than was reserved for it, in billionths."""
        if self.charged is not None:
            return 0.0
        most = self.quote.most
        return float("inf") if most is None else max(most - self.reserved, 0)


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

    def take(self, now_ns: int) -> Account | None:
        """Take off an account that is due; None: none is."""
        return heapq.heappop(self._heap)[2] if self._heap and self._heap[0][0] < now_ns else None
