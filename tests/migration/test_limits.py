"""What the page about limits shows, run beside limits."""

from __future__ import annotations

import random
import sys
from collections.abc import Callable
from contextlib import ExitStack
from pathlib import Path

import pytest
from servers.processes import installed
from servers.valkey import Valkey
from workers_of_host import started, until

from migration.pairs import PAGES, Pair, Side, call_both, pairs_of
from migration.workers import passed
from resilio.testing import VirtualTime

LIBRARY = "limits"

Pairs = Callable[[str], Pair]


def _allowed(side: Side, count: int, *arguments: object) -> int:
    return sum(bool(side["allowed"](*arguments)) for _ in range(count))


@pytest.mark.parametrize("seed", range(5))
def test_windows_let_the_same_calls_pass(pair: Pairs, vt: VirtualTime, seed: int) -> None:
    """Ten in any minute, at any times."""
    draw = random.Random(seed)
    before, after = pair("window").both()
    for _ in range(400):
        assert before["allowed"]() == after["allowed"]()
        vt.advance(draw.choice([0.0, draw.expovariate(1), draw.expovariate(0.1)]))


def test_a_decorator_rejects_the_same_calls(pair: Pairs, vt: VirtualTime) -> None:
    """Ours has the time to come back in its exception."""
    sides = pair("decorator").both("answer")
    for _ in range(10):
        assert call_both(sides).value == "answer"
    for side in sides:
        assert isinstance(side.call().error, side["Rejected"])
    assert getattr(sides[1].call().error, "retry_after", None) == pytest.approx(60.0)
    vt.advance(60.001)
    assert call_both(sides).value == "answer"


def test_each_user_has_a_limit(pair: Pairs) -> None:
    """The others lose nothing by it."""
    for side in pair("keys").both():
        assert [_allowed(side, 5, user) for user in ("ada", "bob", "ada")] == [3, 3, 0]


def test_a_fixed_window_lets_twice_as_many_pass_around_its_border(pair: Pairs, vt: VirtualTime) -> None:
    """Ours does not."""
    before, after = pair("fixed").both()
    found = []
    for side in (before, after):
        assert _allowed(side, 1) == 1  # a window begins
        vt.advance(59.0)
        before_border = _allowed(side, 20)
        vt.advance(2.0)
        found.append((before_border, _allowed(side, 20)))
    assert found == [(9, 10), (9, 1)]


def test_several_limits_and_costs(pair: Pairs, vt: VirtualTime) -> None:
    """A call that the second limit rejects has been counted by the first one of limits, and by none of ours."""
    before, after = pair("several").both()
    for side in (before, after):
        assert (side["allowed"](3), side["allowed"](3), _allowed(side, 3)) == (True, False, 2)
    vt.advance(60.001)
    for side in (before, after):
        assert side["allowed"](4) is False  # three are left of the hour
    assert [_allowed(side, 4) for side in (before, after)] == [1, 3]


def test_what_is_left_is_the_same(pair: Pairs) -> None:
    """Before and after, and once it is forgotten."""
    for side in pair("left").both():
        assert (_allowed(side, 4), side["left"](), side["would_pass"]()) == (4, 6, True)
        assert (_allowed(side, 9), side["left"](), side["would_pass"]()) == (6, 0, False)
        side["forget"]()
        assert side["left"]() == 10


@pytest.mark.once
@pytest.mark.skipif(sys.platform != "linux", reason="shared memory of hosts is for Linux")
def test_workers_have_one_limit(pair: Pairs, resilio_shared_host: Path) -> None:
    """Three processes of limits let thirty pass, ours ten."""
    assert pair("workers")
    assert [passed(LIBRARY, side) for side in (0, 1)] == [30, 10]


@pytest.mark.once
@pytest.mark.untraced
@pytest.mark.skipif(sys.platform != "linux", reason="shared memory of hosts is for Linux")
@pytest.mark.parametrize("side", [0, 1])
def test_hosts_have_one_limit(pair: Pairs, side: int, tmp_path: Path) -> None:
    """Three processes on three hosts let twenty pass in all, ours a few less if a lease ends unused."""
    pytest.importorskip("redis")
    assert pair("hosts")
    code = pairs_of(PAGES / "limits.md")["hosts"][side]
    code = code.replace('["CACHE_URL"])\nsearch', '["CACHE_URL"], timeout=30)\nsearch')  # for a busy machine
    with installed(Valkey) as server, ExitStack() as stack:
        hosts = []
        for n in range(3):
            where = tmp_path / str(n)
            where.mkdir(mode=0o700)
            url = f"redis://127.0.0.1:{server.port}/0"
            hosts += stack.enter_context(started(1, code, CACHE_URL=url, RESILIO_SHARED_DIR=str(where)))
        admitted = sum(host.ask("bool(allowed())") for host in hosts)
        if side == 1:
            answered = "search.snapshot().sharing.age is not None"
            until(lambda: all(host.ask(answered) for host in hosts), "the store has answered each host")

        def all_passed() -> bool:
            nonlocal admitted
            admitted += sum(host.ask("bool(allowed())") for host in hosts)
            return admitted >= (20 if side == 0 else 15)  # a lease may end unused where a machine stands still

        until(all_passed, "the calls pass")
        more = sum(host.ask("sum(bool(allowed()) for _ in range(50))") for host in hosts)
        assert admitted + more <= (20 if side == 0 else 25 + 3)
