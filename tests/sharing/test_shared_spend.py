"""Spend limits that the processes of a host share: one amount for all, whatever ends a process."""

from __future__ import annotations

import os
import signal
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from resilio import RateLimitedError, keyed
from resilio._native.shared import MONEY_CELL, SPEND_CELL, Region, SharedFull, Taken
from resilio._options import scope as scope_module
from resilio.cost import SpendLimit, charge, spend_limit
from resilio.sharing._groups import KINDS
from resilio.testing import virtual_time

CENT = 10_000_000


@pytest.fixture
def region() -> Iterator[Region]:
    """A region of this process, which policies are moved into by hand."""
    made = Region.private()
    yield made
    made.close()


def two_of(region: Region, **options: Any) -> list[SpendLimit]:
    """Two policies, as of two processes, that count in one cell."""
    policies = [spend_limit("1 USD/day", **options) for _ in range(2)]
    for policy in policies:
        kind, stock, size = policy._gate.cell_wanted()
        policy._gate.share(region.cell(kind, "money", stock, size))
    return policies


def test_all_spend_of_one_amount(region: Region) -> None:
    """What one has reserved the other cannot: the rejection says that the host's amount is used up."""
    with virtual_time():
        one, other = two_of(region, reserve=0.4)
        held = [one.acquire(), other.acquire()]
        with pytest.raises(RateLimitedError) as caught:
            one.acquire()
        assert caught.value.scope == "host"
        assert one.snapshot().spend.used == other.snapshot().spend.used == pytest.approx(0.8)
        assert one.snapshot().spend.reserved == pytest.approx(0.4)
        held[0].cancel()
        assert other.snapshot().spend.used == pytest.approx(0.4)
        held[1].success()


def test_a_new_day_begins_for_all_without_a_word_between_them(region: Region) -> None:
    """Each process finds out by itself: what is taken lapses, and no process has to set it back."""
    with virtual_time() as vt:
        one, other = two_of(region, reserve=0.25)
        for policy in (one, other):
            policy.call(charge, 0.75)
        assert one.peek() > 0
        vt.advance(86_400)
        assert one.snapshot().spend.used == pytest.approx(0.5)  # what was overspent
        other.call(charge, 0.25)
        assert one.snapshot().spend.used == pytest.approx(0.75)


def test_what_is_under_way_moves_with_the_policy(region: Region) -> None:
    """A policy that begins to share, or ends, takes along what its calls have reserved: nothing is counted twice."""
    with virtual_time():
        policy = spend_limit("1 USD/day", reserve=0.4)
        permit = policy.acquire()
        kind, stock, size = policy._gate.cell_wanted()
        cell = region.cell(kind, "money", stock, size)
        policy._gate.share(cell)
        assert policy.snapshot().spend.used == pytest.approx(0.4)
        permit.cancel()
        assert policy.snapshot().spend.used == 0
        policy.acquire().success()
        policy._gate.share(None)
        assert policy.snapshot().spend.used == pytest.approx(0.4)


def test_other_options_are_another_stock(region: Region) -> None:
    """An amount, a period, a zone or a burst that differs is counted apart; how much is reserved is not."""
    stocks = {
        spend_limit(limit, **options)._gate.stock
        for limit, options in (
            ("1 USD/day", {}),
            ("2 USD/day", {}),
            ("1 USD/month", {}),
            ("1 USD/day", {"timezone": "Europe/Vienna"}),
            ("1 USD/day", {"burst": 0.5}),
        )
    }
    assert len(stocks) == 5
    assert spend_limit("1 USD/day", reserve=0.1, soft=0.5)._gate.stock in stocks


@pytest.mark.skipif(not hasattr(os, "fork"), reason="needs fork")
def test_processes_that_are_killed_overspend_nothing(tmp_path: Path) -> None:
    """
    Eight processes take a cent each time until nothing is left, half of them are killed on the way.

    What was taken is what the limit allows, to the last cent; nothing is given twice, nothing lost but by the dead.
    """
    with open_region(tmp_path / "region") as region:
        taken = Taken(region.cell(SPEND_CELL, "money", b"", 64))
        children = [_take_cents(tmp_path / "region", number) for number in range(8)]
        for number, (child, _) in enumerate(children):
            if number % 2:
                os.kill(child, signal.SIGKILL)
        counts = [_count_of(*child) for child in children]
        assert taken.taken(0) == 5000 * CENT
        assert sum(count for count in counts if count is not None) <= 5000


def open_region(path: Path) -> Any:
    """A region in a file, closed at the end of the block."""
    from contextlib import closing

    try:
        return closing(Region.open(path, 1 << 20))
    except SharedFull as error:
        pytest.skip(str(error))


def _take_cents(path: Path, number: int) -> tuple[int, int]:
    """Start a process that takes cents; return its number, and where it says how many it got."""
    reads, writes = os.pipe()
    child = os.fork()
    if child:
        os.close(writes)
        return child, reads
    try:
        taken, got = Taken(Region.open(path, 1 << 20).cell(SPEND_CELL, "money", b"", 64)), 0
        while taken.take(0, CENT, 5000 * CENT):
            got += 1
        os.write(writes, b"%d" % got)
    finally:
        os._exit(number)


def _count_of(child: int, reads: int) -> int | None:
    os.waitpid(child, 0)
    said = os.read(reads, 20)
    os.close(reads)
    return int(said) if said else None


def test_scope_host_is_an_option(monkeypatch: pytest.MonkeyPatch) -> None:
    """`scope="host"` shares by name, also the limits of keys; its snapshot says with how many."""
    assert scope_module.is_private()
    shared = spend_limit("1 USD/day", reserve=0.1, name="host money", scope="host")
    shared.call(charge, 0.25)
    sharing = shared.snapshot().sharing
    assert sharing is not None
    assert sharing.tokens == {"USD": pytest.approx(0.75)}
    teams = keyed(lambda: spend_limit("1 USD/day", reserve=0.1), key="team", name="host teams", scope="host")
    teams.call(lambda team: charge(0.5), team="a")
    assert teams["a"].snapshot().spend.used == pytest.approx(0.5)
    with pytest.raises(ValueError, match="without a name"):
        spend_limit("1 USD/day", scope="host")
    with pytest.raises(ValueError, match="at most 1,711 a minute where processes share it"):
        spend_limit("2000 USD/minute", name="too much to share", scope="host")


def test_the_cells_of_spend_limits_have_names() -> None:
    """The command that lists what a host shares knew no name of theirs, and gave a number."""
    assert KINDS[SPEND_CELL] == "spend"
    assert KINDS[MONEY_CELL] == "money"
