"""
`python -m benchmarks.efficacy.quota`: R7, at which failure rate a retry quota runs dry.

Every attempt fails independently with the probability p. Below a threshold p* a quota stays full, above it it drains:
p* is where the mean change of a call is zero. Three rows are the library's retry with its RetryBudget in the loop,
whose balance is read; the others are small implementations of published rules. The same uniform numbers are used at
every p, so the change falls with p and the root is found by bisection.

The published rules, in tokens: AWS takes c for a retry, gives back what the last one took on a success after retries
and 1 on a plain one. gRPC takes 1 for every failed attempt and gives `ratio` for every success. Finagle gives for every
call asked for, well or not, and takes 1 for a retry.
"""

from __future__ import annotations

import random
from collections.abc import Callable, Iterator, Sequence

from benchmarks.efficacy import _results
from resilio import RetryBudget, retry
from resilio.testing import virtual_time

__all__ = ["aws", "finagle", "grpc", "law_of_ours", "main", "ours", "root", "table", "threshold"]

FULL = 1_000_000.0
Attempt = Callable[[], bool]
Rule = Callable[[Attempt, int], float]


def aws(cost: float) -> Rule:
    """
    Return the mean change of AWS's quota by a call of at most three attempts.

    Args:
        cost: Of a retry.
    """

    def change(fails: Attempt, calls: int) -> float:
        total = 0.0
        for _ in range(calls):
            if not fails():
                total += 1.0
            elif not fails():
                continue  # it gives back what it took
            else:
                total -= cost if not fails() else 2 * cost
        return total / calls

    return change


def grpc(ratio: float) -> Rule:
    """
    Return the mean change of gRPC's tokens by a call, which is tried until it succeeds.

    Args:
        ratio: What a success gives.
    """

    def change(fails: Attempt, calls: int) -> float:
        failed = 0
        for _ in range(calls):
            while fails():
                failed += 1
        return ratio - failed / calls

    return change


def finagle(ratio: float) -> Rule:
    """
    Return the mean change of Finagle's budget by a call of at most three attempts, without its reserve.

    Args:
        ratio: What a call gives.
    """

    def change(fails: Attempt, calls: int) -> float:
        retries = 0
        for _ in range(calls):
            retries += fails() and 1 + fails()
        return ratio - retries / calls

    return change


def ours(ratio: float, attempts: int | None) -> Rule:
    """
    Return the mean change of a RetryBudget by a call through the library's retry.

    Args:
        ratio: Of the budget.

        attempts: Of the retry; None: until it succeeds.
    """

    def change(fails: Attempt, calls: int) -> float:
        budget = RetryBudget(ratio=ratio, cap=FULL, initial=FULL / 2, decay=None, reserve=0.0)

        @retry(on=OSError, attempts=attempts, backoff=0.0, budget=budget, failed_if=lambda failed: failed)
        def call() -> bool:
            return fails()

        with virtual_time():
            for _ in range(calls):
                call()
            return (budget.snapshot().balance - FULL / 2) / calls

    return change


def root(change: Callable[[float], float]) -> float:
    """Return where a falling function is zero, between 0 and 1."""
    low, high = 0.0, 1.0
    while high - low > 1e-4:
        middle = (low + high) / 2
        low, high = (middle, high) if change(middle) > 0 else (low, middle)
    return (low + high) / 2


def threshold(rule: Rule, calls: int, seed: int = 1) -> float:
    """
    Return the failure rate at which a quota neither grows nor shrinks.

    Args:
        rule: Gives the mean change by a call.

        calls: How many to look at.

        seed: Of their fates.
    """

    def change(p: float) -> float:
        draw = random.Random(seed).random
        return rule(lambda: draw() < min(p, 0.97), calls)

    return root(change)


def law_of_ours(ratio: float, attempts: int | None) -> float:
    """
    Return the threshold of RetryBudget for retries that cost a token: `ratio S = T - r R`.

    S is the share of calls that succeed in the end, T the retries of a call, R those of calls that succeed. What comes
    back of R is r: 3 while fewer than 44 in 100 attempts fail, else nothing.

    Args:
        ratio: Of the budget.

        attempts: Of the retry, 3; None: until it succeeds.
    """

    def change(p: float) -> float:
        back = 3.0 if p < 0.44 else 0.0
        if attempts is None:
            return ratio - (1 - back) * p / (1 - p)
        return ratio * (1 - p**3) - (p + p * p) + back * (p + 2 * p * p) * (1 - p)

    return root(change)


def table(calls: int) -> Iterator[tuple[str, ...]]:
    """
    Yield the rows.

    Args:
        calls: How many to look at for each p that is tried.
    """
    rows: list[tuple[str, str, float, Rule]] = [
        (f"AWS, a retry costs {cost}", "reference", root(lambda p, c=cost: 1 - p - c * p * p * (1 + p)), aws(cost))  # type: ignore[misc]
        for cost in (5, 10, 14)
    ]
    rows += [
        ("gRPC, tokenRatio 0.1", "reference", 1 / 11, grpc(0.1)),
        ("RetryBudget(ratio=0.1), attempts=None", "resilio", law_of_ours(0.1, None), ours(0.1, None)),
        ("RetryBudget(ratio=0.1), 3 attempts", "resilio", law_of_ours(0.1, 3), ours(0.1, 3)),
        ("RetryBudget(ratio=0.2), 3 attempts", "resilio", law_of_ours(0.2, 3), ours(0.2, 3)),
        ("Finagle, ratio 0.2, 3 attempts", "reference", root(lambda p: 0.2 - p - p * p), finagle(0.2)),
    ]
    for what, by, exact, rule in rows:
        seen = threshold(rule, calls)
        yield what, by, f"{exact:.4f}", f"{seen:.4f}", f"{seen - exact:+.4f}"


def main(arguments: Sequence[str] | None = None) -> None:
    """Print the table."""
    parser = _results.command("At which failure rate a retry quota runs dry.")
    parser.add_argument("--calls", type=int, default=200_000, help="calls for each failure rate that is tried (200000)")
    options = parser.parse_args(arguments)
    text = _results.section(ABOUT, ("quota", "by", "exact p*", "seen p*", "off by"), table(options.calls))
    _results.show("R7 quota thresholds", text, recorded=options.record)


ABOUT = (
    "The failure rate of attempts, independent, at which a quota neither grows nor shrinks. Must: within 0.005 of the "
    "exact one; published are 0.3207, 0.2460 and 0.2149 for AWS, 1/11 for gRPC. RetryBudget is paid by logical calls "
    "that succeed. Its retries cost a token here, as slow ones do, and what a call took comes back threefold when it "
    "succeeds, while fewer than 44 in 100 attempts fail. That share is estimated from some 512 attempts: must, within "
    "0.015 of the exact one. Finagle's payment by failed calls too is not wanted: it goes on adding a fifth of the "
    "load in a total outage."
)

if __name__ == "__main__":
    main()
