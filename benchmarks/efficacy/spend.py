"""
`python -m benchmarks.efficacy.spend`: by how much a limit in money is exceeded by calls that run at once.

A hundred callers ask a model, one call after the other, until nothing more is admitted. Answers have lengths of a law,
cut at the call's `max_tokens`; a call takes as long as it answers, or as the law says. The limit pays for about 300 of
them. The rule that counts afterwards, which gateways use, admits a call while what has been charged is below the limit.
The policies are the library's, on virtual time: one of a process, those of four processes of a host, and those of five
hosts of a fleet, with real couriers and rules.
"""

from __future__ import annotations

import heapq
import random
import statistics
from collections.abc import Callable, Sequence
from functools import cache
from typing import Any, Literal

import attrs

from benchmarks.efficacy import _results
from benchmarks.efficacy._budgets import litellm_budget
from benchmarks.efficacy.breaker import virtual_clock
from resilio import RateLimitedError
from resilio._native import clock
from resilio._native.shared import Region
from resilio._policies.spend_limit.config import SpendLimitConfig
from resilio._policies.spend_limit.policy import SpendLimit
from resilio.cost import Price, Prices, Usage
from resilio.sharing import Fleet, MemoryEngine

__all__ = ["CALLERS", "LAWS", "Spent", "laws", "main", "rules", "run", "scopes", "table"]

CALLERS = 100
PAYS = 300
"""The calls that the limit pays for, by the mean."""
MOST = 1000
PRICE = Price(input=1.0, output=10.0)
PRICES = Prices({"m": PRICE})
TOKEN_NS = 10_000_000
TICK_NS = 50_000_000
Rule = Literal["count afterwards", "p50", "p90", "p95", "p99", "max"]
Scope = Literal["process", "host", "fleet"]
RULES: tuple[Rule, ...] = ("count afterwards", "p50", "p90", "p95", "p99", "max")
SCOPES: tuple[Scope, ...] = ("process", "host", "fleet")
POLICIES: dict[Scope, int] = {"process": 1, "host": 4, "fleet": 5}
Law = Callable[[random.Random, float], tuple[float, float]]
"""A law: by how much of the limit is spent, the tokens of an answer, and the tokens' worth of time that it takes."""


def _lognormal(mean: float, spread: float, growth: float = 0.0, noise: float = 0.0) -> Law:
    def draw(chance: random.Random, at: float) -> tuple[float, float]:
        tokens = chance.lognormvariate(mean + growth * min(at, 1.0), spread)
        return tokens, min(tokens, MOST) * chance.lognormvariate(0.0, noise)

    return draw


def _two_kinds(share: float, short: float, long: float, same_time: float = 0.0) -> Law:
    def draw(chance: random.Random, at: float) -> tuple[float, float]:  # noqa: ARG001 - of all laws
        middle = long if chance.random() < share else short
        tokens = max(chance.gauss(middle, middle / 8), 1)
        return tokens, same_time or min(tokens, MOST)

    return draw


LAWS: dict[str, Law] = {
    "lognormal": _lognormal(4.8, 0.6),
    "lognormal, times vary": _lognormal(4.8, 0.6, noise=0.6),
    "lognormal, wider": _lognormal(4.5, 1.0),
    "growing": _lognormal(4.5, 0.5, growth=0.7),
    "two kinds, 1 of 10 long": _two_kinds(0.1, 100, 800),
    "two kinds, 1 of 33 long": _two_kinds(0.03, 100, 900),
    "two kinds, same times": _two_kinds(0.1, 100, 800, same_time=300),
}
"""Laws of lengths; the policy was made with the first, before the others were tried."""


@attrs.frozen
class Call:
    """A call to a model: what a limit sees of it, and what it will use."""

    size: int
    answered: int
    seconds: float
    model: str | None = "m"
    max_tokens: int | None = MOST

    @property
    def usage(self) -> Usage:
        """The tokens that it uses."""
        return Usage(input=self.size // 4, output=self.answered)


@attrs.frozen
class Spent:
    """
    What was spent until nothing more was admitted, as a share of the limit.

    Attributes:
        share: All of it; above 1: an overspend.

        at_risk: The overspend that the snapshots have stated at most, as a share of the limit.

        calls: The calls that were made.
    """

    share: float
    at_risk: float
    calls: int


class _After:
    """The rule that counts afterwards."""

    def __init__(self, limit: float) -> None:
        self.charged, self._limit = 0.0, limit

    def admit(self, call: Call) -> Any:
        """Return what ends the call; None: it is rejected."""
        return (lambda: self._charge(call)) if self.charged < self._limit else None

    def _charge(self, call: Call) -> None:
        self.charged += PRICE.of(call.usage)

    def step(self) -> None:
        """Do nothing."""

    at_risk = 0.0


class _Reserving:
    """Spend limits of the library that have one amount together; each call goes to the next of them."""

    def __init__(self, limit: float, reserve: str, law: Law, learned: int, scope: Scope) -> None:
        self._region = Region.private() if scope == "host" else None
        self._fleets = _fleets(POLICIES[scope]) if scope == "fleet" else []
        self._policies = [self._policy(limit, reserve, i) for i in range(POLICIES[scope])]
        self._next = 0
        self._learn(law, learned)
        self.before = self.charged

    def _policy(self, limit: float, reserve: str, i: int) -> SpendLimit:
        scope = self._fleets[i] if self._fleets else None
        record = SpendLimitConfig(limit=f"{limit:.6f} USD/month", prices=PRICES, reserve=reserve, scope=scope)
        policy = SpendLimit(record, "spent")
        if self._region is not None:
            kind, stock, size = policy._gate.cell_wanted()
            policy._gate.share(self._region.cell(kind, "spent", stock, size))
        return policy

    def _learn(self, law: Law, calls: int) -> None:
        """Let each know calls of an earlier month."""
        chance = random.Random(0)
        for policy in self._policies:
            for _ in range(calls):
                call = drawn(law, chance, 0.0)
                now_ns = clock.now_ns()
                account = policy._gate.book.learned.of("m")
                account.add(call.size, call.usage, 0, round(call.seconds * 1e9))
                clock.set_virtual(now_ns)

    def step(self) -> None:
        """Let couriers make their trips."""
        for one in self._fleets:
            one.step()

    def admit(self, call: Call) -> Any:
        """Return what ends the call; None: all have rejected it."""
        for _ in self._policies:
            self._next = (self._next + 1) % len(self._policies)
            if (end := _admit(self._policies[self._next], call)) is not None:
                return end
        return None

    @property
    def at_risk(self) -> float:
        """What the snapshots say."""
        return sum(policy.snapshot().spend.at_risk for policy in self._policies)

    @property
    def charged(self) -> float:
        """What the calls have cost."""
        return sum(policy.snapshot().spend.charged for policy in self._policies)


def _admit(policy: SpendLimit, call: Call) -> Any:
    block = policy.reserve(None, call)
    try:
        bill = block.__enter__()
    except RateLimitedError:
        return None

    def end() -> None:
        bill.use(call.usage)
        block.__exit__(None, None, None)

    return end


def _fleets(n: int) -> list[Fleet]:
    store = MemoryEngine()
    return [Fleet("shop", store, is_stepped=True) for _ in range(n)]


def drawn(law: Law, chance: random.Random, at: float) -> Call:
    """Return a call by a law."""
    tokens, time = law(chance, at)
    return Call(chance.randint(200, 2000), min(max(round(tokens), 1), MOST), max(time, 1) * TOKEN_NS / 1e9)


@cache
def _limit(name: str) -> float:
    """Return the limit that pays for PAYS calls of a law."""
    chance = random.Random(1)
    return PAYS * statistics.mean(PRICE.of(drawn(LAWS[name], chance, i / 2000).usage) for i in range(2000))


def run(rule: Rule, seed: int, callers: int = CALLERS, law: str = "lognormal", scope: Scope = "process") -> Spent:
    """
    Return what is spent under a rule.

    Args:
        rule: When a call is admitted.

        seed: Of the calls.

        callers: How many there are.

        law: The name of the law of their lengths.

        scope: Of the limit: one process, the processes of a host, or the hosts of a fleet.
    """
    chance, amount = random.Random(seed), _limit(law)
    with virtual_clock():
        learned = 0 if rule == "max" else 40
        limit = _After(amount) if rule == "count afterwards" else _Reserving(amount, rule, LAWS[law], learned, scope)
        now, begun, at_risk, waiting, idle = clock.now_ns(), 0, 0.0, callers, 0
        running: list[tuple[int, int, Any]] = []
        call = drawn(LAWS[law], chance, 0.0)
        while True:
            limit.step()
            while waiting and (end := limit.admit(call)) is not None:
                begun, waiting, idle = begun + 1, waiting - 1, 0
                heapq.heappush(running, (now + round(call.seconds * 1e9), begun, end))
                call = drawn(LAWS[law], chance, begun / PAYS)
            at_risk = max(at_risk, limit.at_risk)
            if not running and (scope != "fleet" or idle > 100):
                return Spent(limit.charged / amount, at_risk / amount, begun)
            if scope == "fleet" and (not running or running[0][0] > now + TICK_NS):
                idle, now = idle + 1, now + TICK_NS
                clock.set_virtual(now)
                continue
            now, _, end = heapq.heappop(running)
            clock.set_virtual(now)
            end()
            waiting += 1


HEADER = ("overspend: mean", "worst", "above 5 %", "spent of the limit: mean", "least", "at risk, at most")
Row = tuple[Rule, str, Scope]


def _figures(seeds: int, rule: Rule, law: str, scope: Scope) -> list[str]:
    spent = [run(rule, seed, law=law, scope=scope) for seed in range(1, seeds + 1)]
    over = [max(one.share - 1, 0) for one in spent]
    used = [min(one.share, 1) for one in spent]
    return [
        f"{statistics.mean(over):.2%}",
        f"{max(over):.2%}",
        f"{sum(one > 0.05 for one in over)} of {seeds}",
        f"{statistics.mean(used):.1%}",
        f"{min(used):.1%}",
        "-" if rule == "count afterwards" else f"{max(one.at_risk for one in spent):.1%}",
    ]


def rules() -> dict[str, Row]:
    """Return a row for each rule."""
    return {rule: (rule, "lognormal", "process") for rule in RULES}


def laws() -> dict[str, Row]:
    """Return a row for each law of lengths, with p95."""
    return {law: ("p95", law, "process") for law in LAWS}


def scopes() -> dict[str, Row]:
    """Return rows for limits that several processes and hosts have together."""
    kept: tuple[Rule, ...] = ("p95", "max")
    return {f"{scope}, {rule}": (rule, "lognormal", scope) for scope in SCOPES for rule in kept}


def table(first: str, rows: dict[str, Row], seeds: int, about: str = "") -> str:
    """
    Return figures as a table in Markdown.

    Args:
        first: The heading of the first column.

        rows: By what stands in it.

        seeds: The number of runs that each row is made of.

        about: What stands above the table.
    """
    found = _results.spread(_figures, [(seeds, *row) for row in rows.values()])
    cells = [[name, *figures] for name, figures in zip(rows, found, strict=True)]
    return _results.section(about, (first, *HEADER), cells)


_ABOUT = (
    f"A limit that pays for about {PAYS} calls, and {CALLERS} callers that ask a model, one call after the other, "
    "until nothing more is admitted. At risk: what the snapshots have stated at most. {}"
)
_TABLES: dict[str, tuple[str, Callable[[], dict[str, Row]], str]] = {
    "R15 a limit in money": ("rule", rules, _ABOUT.format("To count afterwards is what gateways do.")),
    "R15 a limit in money, other lengths": (
        "lengths of answers",
        laws,
        _ABOUT.format("The reservation is the p95; the first law is the one that it was made with."),
    ),
    "R15 a limit in money, shared": (
        "scope, rule",
        scopes,
        _ABOUT.format("One process, four processes of a host, and five hosts with couriers and a store."),
    ),
}


def main(arguments: Sequence[str] | None = None) -> None:
    """Print the tables."""
    parser = _results.command(__doc__)
    parser.add_argument("--seeds", type=int, default=60, help="runs of each row (default: 60)")
    parser.add_argument("--peers", action="store_true", help="litellm's budget alone, in real time; needs litellm")
    given = parser.parse_args(arguments)
    if given.peers:
        found = litellm_budget(CALLERS, PAYS, 1)
        print(f"litellm: {found.calls} calls of {PAYS}, overspend {found.share - 1:.1%}")
        return
    for title, (first, rows, about) in _TABLES.items():
        _results.show(title, table(first, rows(), given.seeds, about), recorded=given.record)


if __name__ == "__main__":
    main()
