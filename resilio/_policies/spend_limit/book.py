"""
The book of a spend limit: reservations, the cost of calls, and the amount left.

A call is admitted if its reservation is left; the first charge replaces that, later ones (of a call with several
attempts) add to it. A call that ends without a charge keeps its reservation, because providers bill calls that were
cancelled; one that was never made gives it back.

The ledger: of all calls that have ended, the stock has taken exactly what was charged. Amounts are billionths.
"""

from __future__ import annotations

import threading
from typing import TYPE_CHECKING, Any

from resilio._failures.outcome import Outcome
from resilio._native import clock
from resilio._policies.spend_limit.account import Account, Aging, Part
from resilio._policies.spend_limit.costs import Costs
from resilio._policies.spend_limit.gaps import Gaps
from resilio._policies.spend_limit.held import Held
from resilio._policies.spend_limit.history import Learned
from resilio._policies.spend_limit.lease import LeasedStock
from resilio._policies.spend_limit.levels import Levels
from resilio._policies.spend_limit.money import BILLIONTHS
from resilio._policies.spend_limit.offers import Answer, Offer, offers_of
from resilio._policies.spend_limit.periods import Income, Span
from resilio._policies.spend_limit.quote import Quote, call_in, quote
from resilio._policies.spend_limit.stock import OwnStock, Stock
from resilio._support.after_fork import free_lock
from resilio.gates import Reject

if TYPE_CHECKING:
    from resilio._native.custom import GateCall
    from resilio._policies.pool.endpoint import Endpoint
    from resilio._policies.spend_limit.prices import Prices, Usage

__all__ = ["REASONS", "Book"]

REASONS = ("spend", "too_large", "unpriced", "reserved")


class Book:
    """
    The numbers of one spend limit; thread-safe.

    Attributes:
        income: What comes in.

        stock: What was taken, by this process or by all that share it.

        lease: The same if a fleet shares it; else None.

        held: Of it, what calls in flight of this process have reserved and not yet been charged.

        kept: What calls have kept of their reservations, as their cost is unknown, since the start.

        charged: What calls have cost since the start, the kept reservations included.

        costs: The same, by model and part.

        learned: What the latest calls have used.

        errors: How often a function that reserves has failed.

        levels: Its state; None: it has none.

        gaps: The calls whose cost is unknown; None: they are not reported.

        prices: The prices of models; None: calls are none to models.

        endpoints: Those of pools that it is the limit of; none: calls to any endpoint pass it.
    """

    def __init__(self, income: Income, currency: str, reserve: Any, prices: Prices | None) -> None:
        """
        Begin with nothing taken.

        Args:
            income: What comes in.

            currency: The currency of all amounts.

            reserve: What to reserve for a call, see :func:`quote`.

            prices: The prices of models; None: calls are none to models.
        """
        self._lock = threading.RLock()  # reentrant: the collector may end a call while the lock is held
        free_lock(self, "_lock")
        self.income: Income = income
        self.stock: Stock = OwnStock()
        self.lease: LeasedStock | None = None
        self.held = Held()
        self.kept = 0
        self.charged = 0
        self.costs = Costs()
        self.learned = Learned()
        self.errors = 0
        self.levels: Levels | None = None
        self.gaps: Gaps | None = None
        self.endpoints: tuple[Endpoint, ...] = ()
        self.currency: str = currency
        self._reserve, self.prices = reserve, prices
        self._open: set[Account] = set()
        self._rising = Aging()
        self._rest = 0  # trillionths that are too few for a billionth

    def locked(self) -> threading.RLock:
        """Return the lock, to read several numbers together."""
        return self._lock

    def reserve_by(self, reserve: Any, prices: Prices | None) -> None:
        """Reserve by these options from now on."""
        with self._lock:
            self._reserve, self.prices = reserve, prices

    # ---- the gate: see resilio.gates.GateProtocol

    def admit(self, call: GateCall) -> Reject | None:
        """Reserve what the call may cost, or reject it. In shadow mode a rejected call has an account too."""
        with self._lock:
            asked = self._ask(call.args, call.kwargs)
            if asked is None:
                call.data = Account(self, Quote(0, None), 0, self.income.span().number)
                if self.gaps is not None and (asks := call_in(call.args)) is not None:
                    self.gaps.rejected(offers_of(asks, self.endpoints), self.prices, self.currency)
                return Reject("unpriced")
            span = self.income.span()
            self._raise(span)
            if self._takes(asked, span):
                self._admitted(call, asked, span)
                return None
            call.data = Account(self, asked, 0, span.number)
            return self._reject(max(asked.reserved, 1), span)

    def settle(self, call: GateCall, outcome: Outcome, seconds: float) -> None:  # noqa: ARG002 - of every gate
        """End a call; without a charge it keeps its reservation, unless the server has refused it and did nothing."""
        account: Account = call.data
        with self._lock:
            if account.charged is None and (account.free or outcome is Outcome.REFUSED):
                self._charge(account, 0, "answer", account.model)
            elif account.charged is None:
                self._keep(account, account.reserved)
                if self.gaps is not None and account.call is None and not self.charged:
                    self.gaps.uncharged()
            account.ended = True

    def cancel(self, call: GateCall) -> None:
        """Give back the reservation of a call that was never made; what a fallback's handler has charged stays."""
        account: Account = call.data
        with self._lock:
            if account.charged is None:
                self._close(account)
                self._give_back(account, account.reserved)
            account.ended = True

    # ---- charges

    def charge(
        self, account: Account, cost: int, part: Part, usage: Usage | None = None, answer: Answer | None = None
    ) -> None:
        """
        Charge an account what its call has cost: the first charge replaces the reservation, a later one adds to it.

        Args:
            account: An account of this book.

            cost: The cost in trillionths.

            part: What it was for.

            usage: The tokens that the call has used, to learn from; None: unknown.

            answer: The model that has answered; None: that of the call.
        """
        with self._lock:
            self._charge(account, cost, part, account.model if answer is None else answer.model)
            age_ns = clock.now_ns() - account.begun_ns
            if account.call is None:
                self.learned.of(None).add(0, None, cost // 1000, age_ns)
            elif usage is not None and answer is not None:
                self.learned.of(answer.asked).add(account.call.size, usage, 0, age_ns, answer.other)
            self._note(answer)

    def nothing(self, account: Account) -> None:
        """Note that an attempt has cost nothing: the reservation is there for a further one, until the call ends."""
        with self._lock:
            account.free = True

    def keep(self, account: Account, asked: Offer, answer: Answer | None = None) -> None:
        """Charge an account what was reserved for a model, as the cost, or the price of the answer, is unknown."""
        with self._lock:
            self._keep(account, account.kept(asked), None if answer is None else answer.model)
            self._note(answer)

    def _note(self, answer: Answer | None) -> None:
        if self.gaps is not None and answer is not None:
            self.gaps.used(answer, self.prices)

    def _keep(self, account: Account, amount: int, model: str | None = None) -> None:
        self._charge(account, amount * 1000, "lost", model or account.model)
        self.kept += amount

    def _charge(self, account: Account, cost: int, part: Part, model: str) -> None:
        amount, self._rest = divmod(cost + self._rest, 1000)
        first = account.charged is None
        if first:
            self._close(account)
            self.held.lasted(account.begun_ns)
        more = amount - account.reserved if first else amount
        account.charged = amount + (account.charged or 0)
        if more > 0:
            self.stock.debit(self.income.span().base, more)
        else:
            self._give_back(account, -more)
        self.costs.add(model, part, cost)
        self.charged += amount
        span = self.income.span()
        self.held.spend(span.number, amount)
        self._look(span)

    def _give_back(self, account: Account, amount: int) -> None:
        """Give back what was taken in this period; of an earlier one it has lapsed."""
        if amount > 0 and account.period == self.income.span().number:
            self.stock.give_back(amount)

    def _close(self, account: Account) -> None:
        """Take an account off those whose reservation stands for an unknown cost."""
        if account in self._open:
            self._open.discard(account)
            self.held.release(account.period, account.reserved)

    # ---- admission

    def _ask(self, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Quote | None:
        """Ask what to reserve. A function that fails must not stop calls: nothing is reserved."""
        try:
            return quote(self._reserve, self.prices, self.currency, self.learned, args, kwargs, self.endpoints)
        except Exception:  # noqa: BLE001 - counted and shown
            self.errors += 1
            return Quote(0, None)

    def _takes(self, asked: Quote, span: Span) -> bool:
        """Take a reservation; one of nothing needs something that is left, unless the call is free."""
        if asked.reserved == 0:
            return asked.most == 0 or self.stock.taken(span.base) < span.most
        return self.stock.take(span.base, asked.reserved, span.most)

    def _raise(self, span: Span) -> None:
        """Reserve more for calls that have lasted so long that they will cost more, as far as that is left."""
        now_ns, unmet = clock.now_ns(), []
        while (account := self._rising.take(now_ns)) is not None:
            if account not in self._open or account.period != span.number:
                continue
            wanted = account.rise(now_ns)
            more = min(wanted, max(self._left(span), 0))
            if more > 0 and self.stock.take(span.base, more, span.most):
                account.reserved += more
                self.held.reserve(span.number, more)
            if more < wanted:
                unmet.append(account)
            else:
                self._rising.add(account, account.rises_ns)
        for account in unmet:  # before any call that is admitted
            self._rising.add(account, 0)

    def _left(self, span: Span) -> int:
        """Return what can be taken now."""
        if self.lease is not None:
            return self.lease.report(span.base).held
        return span.most - self.stock.taken(span.base)

    def _admitted(self, call: GateCall, asked: Quote, span: Span) -> None:
        account = Account(self, asked, asked.reserved, span.number)
        self._open.add(account)
        self._rising.add(account, account.rises_ns)
        self.held.reserve(span.number, asked.reserved)
        if self.gaps is not None and asked.call is not None:
            self.gaps.admitted(offers_of(asked.call, self.endpoints), self.prices)
        self._look(span)
        call.data = account

    def _look(self, span: Span) -> None:
        if self.levels is not None:
            used = self.stock.taken(span.base) - span.base
            self.levels.look(span.number, used - self.held.reserved(span.number), used, self.income.limit)

    def _reject(self, amount: int, span: Span) -> Reject:
        left = span.most - self.stock.taken(span.base)
        if amount > self.income.limit:
            return Reject("too_large", measured=amount / BILLIONTHS, limit=self.income.limit / BILLIONTHS)
        reason, wait = self._wait(span, amount - left)
        return Reject(reason, retry_after=wait, measured=amount / BILLIONTHS, limit=left / BILLIONTHS)

    def _wait(self, span: Span, short: int) -> tuple[str, float]:
        """Return why `short` more is not there, and the seconds until it may be; a fleet has it, if none is short."""
        if short <= 0 and self.lease is not None:
            return "spend", self.lease.soon
        comes = max(self.income.wait(span, short), 1e-9)
        used, alone = self.stock.taken(span.base) - span.base, isinstance(self.stock, OwnStock)
        ends = self.held.wait(span.number, used, short, alone=alone)
        return ("spend", comes) if ends is None or comes <= ends else ("reserved", ends)

    # ---- what can be seen

    def look(self) -> tuple[Span, int, float]:
        """Return the span now, what was taken of it, and by how much calls in flight can still cost more."""
        with self._lock:
            span = self.income.span()
            risk = sum(account.risk for account in self._open)
            if self.lease is not None:
                risk += self.lease.at_risk(span.base)
            return span, self.stock.taken(span.base) - span.base, risk

    def all_costs(self) -> dict[tuple[str, Part], float]:
        """Return what calls have cost since the start, by model and part."""
        with self._lock:
            return self.costs.amounts()

    def wait(self, args: tuple[Any, ...], kwargs: dict[str, Any]) -> float:
        """Return the seconds until a call like this would be admitted; infinity: no wait helps. Changes nothing."""
        with self._lock:
            asked = self._ask(args, kwargs)
            if asked is None or asked.reserved > self.income.limit:
                return float("inf")
            span = self.income.span()
            amount = max(asked.reserved, 1)
            short = self.stock.taken(span.base) + amount - span.most
            if short <= 0 and (self.lease is None or self.lease.holds(span.base, amount)):
                return 0.0
            return self._wait(span, short)[1]

    def is_new(self) -> bool:
        """Return True if a new book would be equal, counters aside."""
        with self._lock:
            base = self.income.span().base
            if self.lease is not None:
                return not self._open and self.lease.is_new(base)
            return not self._open and self.stock.taken(base) == base

    def base(self) -> int:
        """Return where the period of now begins, see `Span`."""
        with self._lock:
            return self.income.span().base

    def look_again(self) -> None:
        """Look at the state: others may have spent, or given back."""
        with self._lock:
            self._look(self.income.span())

    # ---- changes

    def use(self, income: Income) -> None:
        """Let this come in from now on; what was taken in the period stays taken."""
        with self._lock:
            base = self.income.span().base
            taken, self.income = self.stock.taken(base) - base, income
            self.stock.set(income.span().base + taken)

    def move_to(self, stock: Stock | None) -> None:
        """
        Count in this stock from now on, None: in one of its own, with the amount taken now.

        What calls in flight have reserved moves with them.
        """
        with self._lock:
            base, before = self.income.span().base, self.stock
            taken = before.taken(base)
            if self.held.total:
                before.give_back(self.held.total)
            self.stock = OwnStock(taken) if stock is None else stock
            self.lease = stock if isinstance(stock, LeasedStock) else None
            if stock is not None and self.held.total:
                stock.debit(base, self.held.total)
            self.held.begin(self.income.span().number)

    def reset(self) -> None:
        """Let the whole limit be there, but for what calls in flight have reserved."""
        with self._lock:
            self.income.restart()
            if self.levels is not None:
                self.levels.restart()
            self.stock.set(self.income.span().base + self.held.total)
            self.held.begin(self.income.span().number)

    def spend(self, amount: int) -> None:
        """Take an amount that was spent elsewhere."""
        with self._lock:
            span = self.income.span()
            if amount > 0:
                self.stock.debit(span.base, amount)
            self.held.spend(span.number, amount)

    def forget(self) -> None:
        """Drop the accounts of the parent process: they are settled there. What they have reserved stays taken."""
        self._open, self._rising = set(), Aging()
        self.held = Held()
