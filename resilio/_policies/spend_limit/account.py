"""The account of one call at one spend limit: what was reserved for it, and what it has cost."""

from __future__ import annotations

from typing import Literal, Protocol

from resilio._native import clock
from resilio._policies.spend_limit.prices import Price, Usage
from resilio._policies.spend_limit.quote import ModelCall, Quote

__all__ = ["Account", "Accounts", "Part"]

Part = Literal["answer", "retry", "hedge", "lost"]
"""What a cost was for: the first attempt, a further one, a copy, or an attempt without a result."""


class Accounts(Protocol):
    """The book that an account belongs to."""

    currency: str

    def price_of(self, model: str) -> Price | None:
        """Return the price of a model; None: it has none here."""
        ...

    def charge(
        self, account: Account, cost: int, part: Part, usage: Usage | None = None, model: str | None = None
    ) -> None:
        """Charge an account what its call has cost, in trillionths."""
        ...

    def keep(self, account: Account) -> None:
        """Charge an account its reservation."""
        ...

    def keep_unpriced(self, account: Account, model: str) -> None:
        """Charge an account its reservation, as this model has no price."""


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

        ended: True once the call has ended.
    """

    __slots__ = ("begun_ns", "book", "call", "charged", "ended", "most", "period", "reserved", "rising", "rung")

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
        self.ended = False

    @property
    def model(self) -> str:
        """The name of the model; "" for a call to none."""
        return (self.call.model if self.call is not None else None) or ""

    def use(self, usage: Usage, model: str | None, price: Price | None, part: Part) -> None:
        """Charge the tokens of a call to a model; without a price the reservation."""
        found = price or self.book.price_of(model or self.model)
        if found is None or found.currency != self.book.currency:
            self.book.keep_unpriced(self, model or self.model)
        else:
            self.book.charge(self, found.exactly(usage), part, usage, model)

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
