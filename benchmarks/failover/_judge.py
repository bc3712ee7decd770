"""
The judge: checks of conduct, and the verdict over them.

The verdicts are those of the source. **pass**: the ideal outcome, and all checks hold. **partial**: the ideal outcome,
but an advisory check fails. **safe**: another outcome, but a clean error, and all required checks hold. **fail**: all
else.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from itertools import pairwise
from typing import Literal

import attrs

from benchmarks.failover._evidence import FALLBACK, PRIMARY, Evidence

__all__ = [
    "Check",
    "Outcome",
    "Verdict",
    "advisory",
    "alive_after",
    "at_least",
    "at_most",
    "back_within",
    "exactly",
    "gap_of",
    "judge",
    "names_the_fallback",
    "no_blind_retry",
    "no_masking",
    "served_while_down",
    "usage_known",
    "within",
]

Outcome = Literal["pass", "partial", "safe", "fail"]


@attrs.frozen
class Check:
    """
    One rule of conduct.

    Attributes:
        name: For people.

        holds: Returns whether the rule was kept, with the figure that shows it.

        is_advisory: Whether a failure leaves the scenario partial.

        needs_fallback: Whether it is left out for a system without a second endpoint.
    """

    name: str
    holds: Callable[[Evidence], tuple[bool, str]]
    is_advisory: bool = False
    needs_fallback: bool = False


@attrs.frozen
class Verdict:
    """The outcome of one scenario, and the reason."""

    outcome: Outcome
    reason: str


def advisory(check: Check) -> Check:
    """
    Return a check whose failure leaves a scenario partial.

    Args:
        check: The required one.
    """
    return attrs.evolve(check, is_advisory=True)


def at_least(least: int) -> Check:
    """
    Return the check that the primary was tried so often.

    Args:
        least: Requests.
    """
    return Check(f"at least {least} attempts at the primary", lambda found: _attempts(found, lambda n: n >= least))


def at_most(most: int, *, in_first: float = float("inf")) -> Check:
    """
    Return the check that the primary was not tried more often.

    Args:
        most: Requests.

        in_first: Seconds from the first of them in which they are counted.
    """
    window = "" if in_first == float("inf") else f" in the first {in_first:g} s"
    name = f"at most {most} attempts at the primary{window}"
    return Check(name, lambda found: _attempts(found, lambda n: n <= most, in_first))


def exactly(number: int) -> Check:
    """
    Return the check of the number of attempts at the primary.

    Args:
        number: Requests.
    """
    return Check(f"exactly {number} attempt at the primary", lambda found: _attempts(found, lambda n: n == number))


def _attempts(found: Evidence, holds: Callable[[int], bool], in_first: float = float("inf")) -> tuple[bool, str]:
    times = [request.at for request in found.at(PRIMARY)]
    number = sum(1 for at in times if at - times[0] < in_first)
    return holds(number), f"{number} at the primary"


def no_blind_retry() -> Check:
    """Return the check that a request that is too long is sent again only if it is shorter, and only once."""

    def holds(found: Evidence) -> tuple[bool, str]:
        sizes = [request.size for request in found.at(PRIMARY)]
        return len(sizes) <= 2 and all(b < a for a, b in pairwise(sizes)), f"sizes {sizes}"

    return Check("no request is sent again as it was", holds)


def gap_of(seconds: float) -> Check:
    """
    Return the check that the second attempt at the primary does not come too soon.

    Args:
        seconds: Least time between the first two; a missing second attempt fails.
    """

    def holds(found: Evidence) -> tuple[bool, str]:
        times = [request.at for request in found.at(PRIMARY)]
        gap = times[1] - times[0] if len(times) > 1 else None
        return gap is not None and gap >= seconds, "no second attempt" if gap is None else f"gap {gap:.1f} s"

    return Check(f"{seconds:g} s between the first two attempts", holds)


def within(seconds: float) -> Check:
    """
    Return the check of the time until a call ends.

    Args:
        seconds: At most.
    """
    return Check(
        f"over within {seconds:g} s", lambda found: (found.call.seconds <= seconds, f"{found.call.seconds:.1f} s")
    )


def alive_after() -> Check:
    """Return the check that the same system serves the next call, once the fault is gone."""
    return Check("serves afterwards", lambda found: (found.alive.is_whole, found.alive.error or found.alive.outcome))


def no_masking() -> Check:
    """Return the check that the caller's error is not the fallback's about a prefilled answer."""

    def holds(found: Evidence) -> tuple[bool, str]:
        rejected = sum(request.reply.code == "invalid_prefill" for request in found.at(FALLBACK))
        return not (rejected and found.call.outcome == "error"), f"{rejected} prefilled requests rejected"

    return Check("the fallback's error hides nothing", holds)


def names_the_fallback() -> Check:
    """Return the check that an answer of the fallback names the fallback's model."""

    def holds(found: Evidence) -> tuple[bool, str]:
        answer = found.call.answer
        return not found.at(FALLBACK) or (
            answer is not None and FALLBACK in answer.model
        ), f"model {answer and answer.model}"

    return Check("the answer names the model that gave it", holds, needs_fallback=True)


def usage_known() -> Check:
    """Return the check that the answer reports its usage."""
    return Check("usage reported", lambda found: (bool(found.call.answer and found.call.answer.tokens), "no usage"))


def served_while_down(seconds: float) -> Check:
    """
    Return the check that each call during an outage of the primary is answered.

    Args:
        seconds: That the outage takes.
    """

    def holds(found: Evidence) -> tuple[bool, str]:
        calls = [call for call in found.calls if call.at < seconds]
        served = sum(call.is_whole for call in calls)
        return served == len(calls), f"{served} of {len(calls)} served while down"

    return Check("served while the primary is down", holds, needs_fallback=True)


def back_within(seconds: float, *, down: float) -> Check:
    """
    Return the check that the primary is used again after its outage.

    Args:
        seconds: At most, from the end of the outage.

        down: Seconds that the outage takes.
    """

    def holds(found: Evidence) -> tuple[bool, str]:
        back = [request.at - down for request in found.at(PRIMARY) if request.reply.status == 200]
        return bool(back) and back[0] <= seconds, f"back after {back[0]:.1f} s" if back else "never back"

    return Check("returns to the primary", holds, needs_fallback=True)


def judge(found: Evidence, checks: Sequence[Check], ideal: Literal["answer", "error"]) -> Verdict:
    """
    Return the verdict on one scenario.

    Args:
        found: What it showed.

        checks: Its rules.

        ideal: The outcome that a caller wants.
    """
    outcomes = {call.outcome for call in found.calls}
    if "hang" in outcomes:
        return Verdict("fail", f"no end within {found.call.seconds:.0f} s")
    if ideal == "answer" and any(call.answer is not None and not call.is_whole for call in found.calls):
        return Verdict("fail", "a part of the answer was given for the whole")
    failed = [(check, why) for check in checks if _applies(check, found) and (why := _failure(check, found))]
    if required := [why for check, why in failed if not check.is_advisory]:
        return Verdict("fail", "; ".join(required))
    if ideal == "error" and outcomes == {"answer"}:
        return Verdict("partial", "answered elsewhere what a provider had rejected for its content")
    if outcomes != {ideal}:
        error = next(call.error for call in found.calls if call.error is not None)
        return Verdict("safe", f"not answered: {error}")
    return Verdict("partial", "; ".join(why for _, why in failed)) if failed else Verdict("pass", "")


def _applies(check: Check, found: Evidence) -> bool:
    return found.has_fallback or not check.needs_fallback


def _failure(check: Check, found: Evidence) -> str:
    kept, figure = check.holds(found)
    return "" if kept else f"{check.name}: {figure}"
