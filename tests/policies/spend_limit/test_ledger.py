"""The ledger of a spend limit against a list of amounts, after any sequence of calls."""

from __future__ import annotations

from typing import Any

from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule

from resilio._policies.spend_limit.account import Account
from resilio._policies.spend_limit.policy import SpendLimit
from resilio.cost import spend_limit
from resilio.testing import virtual_time

CENT = 10_000_000
DAY = 86_400


class Ledger(RuleBasedStateMachine):
    """Calls are admitted, charged once or several times, kept, cancelled and ended, over several days."""

    def __init__(self) -> None:
        super().__init__()
        self.time = virtual_time()
        self.clock = self.time.__enter__()
        self.policy: SpendLimit = spend_limit("1 USD/day", reserve=lambda cents: cents / 100)
        self.open: list[tuple[Any, Account, int]] = []
        self.reserved = 0
        self.taken = 0  # of today, in billionths
        self.charged = 0
        self.day = 0

    def teardown(self) -> None:
        self.time.__exit__(None, None, None)

    @property
    def book(self) -> Any:
        return self.policy._gate.book

    @initialize()
    def begins(self) -> None:
        self.day = self.book.income.span().number

    @rule(cents=st.integers(1, 60))
    def admit(self, cents: int) -> None:
        """A call is admitted exactly if its reservation is left today."""
        amount = cents * CENT
        fits = self.taken + amount <= 100 * CENT
        permit = self.policy.try_acquire(cents)
        assert bool(permit) == fits
        if not permit:
            assert (permit.retry_after or 0) > 0
            return
        account = next(iter(self.book._open - {one for _, one, _ in self.open}))
        self.open.append((permit, account, self.day))
        self.taken += amount
        self.reserved += amount

    @precondition(lambda self: self.open)
    @rule(data=st.data(), trillionths=st.integers(0, 10**12))
    def charge(self, data: Any, trillionths: int) -> None:
        """The first charge replaces the reservation, others add; a surplus of an earlier day has lapsed."""
        _, account, day = data.draw(st.sampled_from(self.open))
        first, before = account.charged is None, account.charged or 0
        self.book.charge(account, trillionths, "answer")
        amount = account.charged - before
        assert abs(amount * 1000 - trillionths) < 1000
        self._count(amount, account.reserved if first else 0, day)

    def _count(self, amount: int, instead_of: int, day: int) -> None:
        more = amount - instead_of
        self.charged += amount
        self.reserved -= instead_of
        if more > 0 or day == self.day:
            self.taken += more

    @precondition(lambda self: self.open)
    @rule(data=st.data())
    def end(self, data: Any) -> None:
        """Without a charge a call keeps its reservation."""
        one = data.draw(st.sampled_from(self.open))
        self.open.remove(one)
        permit, account, day = one
        if account.charged is None:
            self._count(account.reserved, account.reserved, day)
        permit.success()

    @precondition(lambda self: any(account.charged is None for _, account, _ in self.open))
    @rule(data=st.data())
    def cancel(self, data: Any) -> None:
        """A call that was never made gives back what it has reserved today."""
        one = data.draw(st.sampled_from([one for one in self.open if one[1].charged is None]))
        self.open.remove(one)
        permit, account, day = one
        self.reserved -= account.reserved
        if day == self.day:
            self.taken -= account.reserved
        permit.cancel()

    @rule(hours=st.integers(1, 30))
    def pass_time(self, hours: int) -> None:
        """A day takes a whole amount off what is taken; what is left of it lapses."""
        self.clock.advance(hours * 3600)
        days = self.book.income.span().number - self.day
        self.day += days
        self.taken = max(self.taken - days * 100 * CENT, 0) if days else self.taken

    @invariant()
    def counts_are_right(self) -> None:
        """What is used, reserved and charged is what the list says, to the last billionth."""
        _, used, _ = self.book.look()
        assert used == max(self.taken, 0)
        assert self.book.held.total == self.reserved
        assert self.book.charged == self.charged


Ledger.TestCase.settings = settings(max_examples=60, stateful_step_count=40, deadline=None)
TestLedger = Ledger.TestCase
