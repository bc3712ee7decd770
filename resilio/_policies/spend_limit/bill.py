"""Bills: the cost of an attempt, at all spend limits that it went through; and blocks that reserve an amount."""

from __future__ import annotations

from decimal import Decimal
from typing import TYPE_CHECKING, Any

from resilio._context.blocks import ReservingBlock
from resilio._native.core import current, endpoint, gate_calls
from resilio._policies.spend_limit.account import Account, Part
from resilio._policies.spend_limit.money import BILLIONTHS, amount_of, trillionths
from resilio._policies.spend_limit.offers import NO_OFFER, Offer, offer_at
from resilio._policies.spend_limit.prices import Price, Usage

if TYPE_CHECKING:
    from resilio._native.core import Permit

__all__ = ["Bill", "Reservation", "bill", "bill_for", "charge", "cost_of"]


class Bill:
    """
    The cost of one attempt of a call, at all spend limits that it went through; made by :func:`bill`.

    It may be used after the code that made it has left the call's context, as a generator does, and after the call's
    end.
    """

    __slots__ = ("_accounts", "_asked", "_part")

    def __init__(self, accounts: list[Account], part: Part, asked: Offer = NO_OFFER) -> None:
        """
        Take the accounts of the calls in flight.

        Args:
            accounts: The accounts.

            part: What the attempt is for.

            asked: The model that it asks.
        """
        self._accounts = accounts
        self._part: Part = part
        self._asked = asked

    def __bool__(self) -> bool:
        """Return True if the call went through a spend limit."""
        return bool(self._accounts)

    def charge(self, amount: float | Decimal, currency: str | None = None) -> None:
        """
        Charge an amount: it replaces what was reserved for the call, a further one adds to it.

        Args:
            amount: >= 0.

            currency: Only limits in this currency are charged; None: all.

        Raises:
            TypeError: The amount is no number.

            ValueError: The amount is out of range.
        """
        cost = trillionths(amount_of("amount", amount))
        for account in self._accounts:
            if currency is None or account.book.currency == currency:
                account.book.charge(account, cost, self._part)

    def use(self, usage: Usage, model: str | None = None, price: Price | None = None) -> None:
        """
        Charge the tokens that a call to a model has used, by the prices of each limit.

        A limit without a price for the model keeps its reservation.

        Args:
            usage: The tokens.

            model: The name of the model that has answered; None: the one asked for, of the endpoint or of the call.

            price: The price, instead of those of the limits.
        """
        for account in self._accounts:
            account.use(usage, model, self._asked, price, self._part)

    def nothing(self) -> None:
        """Charge nothing: the attempt was not made, or was not billed. The reservation is kept for a further one."""
        for account in self._accounts:
            account.book.nothing(account)

    def keep(self) -> None:
        """Charge what was reserved: the attempt was made, and what it has cost will never be known."""
        for account in self._accounts:
            account.book.keep(account, self._asked)


def _accounts(calls: list[Any]) -> list[Account]:
    return [account for one in calls if isinstance(account := one.data, Account) and not account.ended]


def cost_of(calls: list[Any]) -> dict[str, float]:
    """Return what a call has cost so far, by currency: the most that one of its limits was charged."""
    costs: dict[str, float] = {}
    for one in calls:
        account = one.data
        if isinstance(account, Account) and account.charged is not None:
            unit = account.book.currency
            costs[unit] = max(costs.get(unit, 0.0), account.charged / BILLIONTHS)
    return costs


def bill(attempt: int | None = None) -> Bill:
    """
    Return the bill of the attempt that runs here: of the innermost guarded call, and of all calls around it.

    In a generator call it before the first item: later it is outside of the call's context. Calls in other tasks or
    threads are not around this one, and blocks are none: they have `reserve`.

    Args:
        attempt: The number of the attempt, from 1; None: that of the innermost guarded call.
    """
    return bill_for(offer_at(endpoint(), None), attempt)


def bill_for(asked: Offer, attempt: int | None = None) -> Bill:
    """
    Return the bill of an attempt, see :func:`bill`.

    Args:
        asked: The model that it asks.

        attempt: As of :func:`bill`.
    """
    view = current()
    number = attempt if attempt is not None else 1 if view is None else view.attempt
    part: Part = "answer" if number == 1 else "retry"
    return Bill(_accounts(gate_calls()), "hedge" if view is not None and view.hedge else part, asked)


def charge(amount: float | Decimal, currency: str | None = None) -> None:
    """
    Charge the call in flight an amount, at all spend limits that it went through: in a guarded function.

    Args:
        amount: >= 0. It replaces what was reserved for the call, a further one adds to it.

        currency: Only limits in this currency are charged; None: all.

    Raises:
        TypeError: The amount is no number.

        ValueError: The amount is out of range.
    """
    bill().charge(amount, currency)


class Reservation(ReservingBlock[Bill]):
    """
    A block that reserves money, and gives the bill to charge; made by `reserve`, for one use.

    A block that charges nothing keeps its reservation. One that was never entered has reserved nothing.
    """

    __slots__ = ()

    def _begun(self, permit: Permit) -> Bill:
        return Bill(_accounts(permit._gate_calls()), "answer")
