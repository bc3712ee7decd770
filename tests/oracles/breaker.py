"""A circuit breaker written for reading, not for speed: what the native gate is checked against."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Literal

__all__ = ["BreakerOracle", "Options", "Rejected", "Ticket", "is_proof", "xorshift"]

Outcome = Literal["success", "failure", "ignored"]
SECOND = 1_000_000_000
BUCKETS = 20


def xorshift(seed: int) -> Callable[[], float]:
    """Return the generator of the jitter, xorshift64*, as a function that gives the next number in [0, 1)."""
    state = seed or 1
    mask = (1 << 64) - 1

    def draw() -> float:
        nonlocal state
        state ^= state >> 12
        state ^= state << 25 & mask
        state ^= state >> 27
        return ((state * 0x2545F4914F6CDD1D & mask) >> 11) / (1 << 53)

    return draw


@dataclass(frozen=True)
class Options:
    """What a breaker is made with; times in nanoseconds, None for what is off."""

    failure_rate: float | None = 0.5
    slow_rate: float = 0.5
    min_calls: int = 20
    consecutive: int | None = 10
    slow_ns: int | None = None
    open_ns: int = SECOND // 5
    max_open_ns: int = 3 * SECOND
    lease_ns: int = 3 * SECOND
    ramp_ns: int | None = None
    probes: int = 3
    closing: int | None = None
    window_calls: int | None = 200
    window_ns: int | None = 60 * SECOND
    sure: bool = False


@dataclass(frozen=True)
class Ticket:
    """A call that was admitted; `shadow` if enforcement would have rejected it."""

    generation: int
    lease: int = 0
    ramped: bool = False
    shadow: bool = False
    number: int = 0  # in the order in which calls began; 0: a probe


@dataclass(frozen=True)
class Rejected:
    """Why a call was not admitted, and when another has a chance."""

    reason: str
    retry_after_ns: int | None


@dataclass
class Span:
    """Calls by their numbers, from one that has failed to the latest-begun one that has ended since."""

    first: int
    since_ns: int
    ended: dict[int, bool] = field(default_factory=dict)  # number -> failed
    beyond: set[int] = field(default_factory=set)  # ended without evidence, after the latest of `ended`

    def add(self, number: int, *, failed: bool) -> None:
        """Note the end of a call. Of those that began before the first, one that failed is the first from now on."""
        if failed:
            self.first = min(self.first, number)
        if number >= self.first:
            self.ended[number] = failed
            if self.beyond and max(self.ended) >= max(self.beyond):
                self.ended |= dict.fromkeys(self.beyond, False)
                self.beyond.clear()

    def pass_over(self, number: int) -> None:
        """Note the end of a call without evidence, which makes the span no longer."""
        if number > max(self.ended, default=self.first):
            self.beyond.add(number)
        else:
            self.add(number, failed=False)

    @property
    def calls(self) -> int:
        """How many began in it."""
        return max(self.ended, default=self.first) - self.first + 1

    @property
    def failed(self) -> int:
        """How many of them have failed."""
        return sum(self.ended.values())

    def pending(self, inflight: int) -> int:
        """How many of them may be under way."""
        return min(self.calls - len(self.ended), inflight)


@dataclass
class BreakerOracle:
    """The breaker's rules over plain lists and dicts. Time only goes forwards here."""

    options: Options
    uniform: Callable[[], float]
    enforce: bool = True
    state: str = "closed"
    generation: int = 1
    in_a_row: int = 0
    until_ns: int = 0
    forced_ns: int | None = None  # forced open until then
    open_ns: int = 0
    proven: int = 0
    last_lease: int = 0
    stale: int = 0
    ramp_end_ns: int | None = None
    ramp_credit: int = 0
    outcomes: list[tuple[int, bool, bool]] = field(default_factory=list)  # recorded at, failed, slow
    proof: int = 2  # successful probes that close
    p99_ns: Callable[[], int] = int
    p50_ns: Callable[[], int] = int
    left: int = 0  # callers who have left, of those in a row
    left_ns: int = 0  # when the last of them did
    begun: int = 0  # the number of the latest-begun call
    good: int = 0  # that of the latest-begun one that has succeeded
    row: Span | None = None  # of the failures in a row
    wave: Span | None = None  # of the calls by which the rate is judged while they overlap
    inflight: int = 0
    successes: int = 0
    leases: dict[int, int] = field(default_factory=dict)  # lease -> when it ends
    changes: list[tuple[str, str, str]] = field(default_factory=list)

    def window(self, now_ns: int) -> list[tuple[int, bool, bool]]:
        """Return what is in the window: the last calls, of the last 20 buckets."""
        if self.options.window_ns:
            width = max(1, self.options.window_ns // BUCKETS)
            self.outcomes = [kept for kept in self.outcomes if kept[0] // width > now_ns // width - BUCKETS]
        if self.options.window_calls:
            self.outcomes = self.outcomes[-self.options.window_calls :]
        return self.outcomes

    def admit(self, now_ns: int) -> Ticket | Rejected:
        """Decide about a call at `now_ns`."""
        answer = self._admitted(now_ns)
        if isinstance(answer, Ticket) and not answer.shadow:
            self.inflight += 1
        return answer

    def _admitted(self, now_ns: int) -> Ticket | Rejected:
        if self.state == "open" and now_ns >= self.until_ns:
            self._half_open("elapsed")
        if self.state == "forced_open" and self.forced_ns is not None and now_ns >= self.forced_ns:
            self._half_open("elapsed")
        if self.state == "open":
            return self._reject("open", self.until_ns - now_ns)
        if self.state == "forced_open":
            return self._reject("forced_open", None if self.forced_ns is None else self.forced_ns - now_ns)
        if self.state == "half_open":
            return self._probe(now_ns)
        if self.ramp_end_ns is not None:
            return self._ramp(now_ns)
        return self._ticket()

    def _ticket(self, *, ramped: bool = False) -> Ticket:
        self.begun += 1
        return Ticket(self.generation, ramped=ramped, number=self.begun)

    def settle(self, ticket: Ticket, outcome: Outcome, latency_ns: int, now_ns: int) -> None:
        """Learn from how an admitted call ended."""
        self.successes += outcome == "success"
        if ticket.shadow:
            return
        self.inflight -= 1
        if ticket.generation != self.generation:
            self.stale += 1
            return
        self.leases.pop(ticket.lease, None)
        if outcome == "ignored" or self.state == "disabled":
            if ticket.number:
                self._end_silently(ticket.number)
            return
        slow = self.options.slow_ns is not None and latency_ns > self.options.slow_ns
        if self.state == "half_open":
            self._verdict(outcome == "success" and not slow, now_ns)
        else:
            self._follow(ticket.number, outcome == "failure", now_ns)
            self._record(outcome == "failure", slow, now_ns)

    def leave(self, ticket: Ticket, latency_ns: int, now_ns: int) -> None:
        """Take note of a caller who waits no longer; that is no outcome."""
        if ticket.shadow:
            return
        self.inflight -= 1
        if ticket.generation != self.generation:
            self.stale += 1
            return
        self.leases.pop(ticket.lease, None)
        if self.state == "half_open":
            if self._hopeless(latency_ns, now_ns):
                self._verdict(False, now_ns)
            return
        if self.state != "disabled" and self._hopeless(latency_ns, now_ns):
            self._note_left(ticket.number, now_ns)
        else:
            self._end_silently(ticket.number)

    def _hopeless(self, latency_ns: int, now_ns: int) -> bool:
        if self.successes < 20 or now_ns - self.left_ns < SECOND // 100:
            return False
        return latency_ns > max(SECOND // 4, 4 * self.p50_ns())

    def _note_left(self, number: int, now_ns: int) -> None:
        if self.wave is not None:
            self.wave.add(number, failed=False)
        if not self._extend_row(number, now_ns):
            return
        self.left += 1
        self.left_ns = now_ns
        if self.state == "closed" and self._row_opens(self.window(now_ns), self._run(now_ns)):
            self._open("consecutive", now_ns)

    def cancel(self, ticket: Ticket) -> None:
        """Take back an admission: the callee was never called."""
        self.inflight -= not ticket.shadow
        if ticket.generation == self.generation and not ticket.shadow:
            self.leases.pop(ticket.lease, None)
            if ticket.number:
                self._end_silently(ticket.number)
            if ticket.ramped and self.ramp_end_ns is not None:
                self.ramp_credit = min(self.ramp_credit + SECOND, SECOND)

    def force(self, state: str, until_ns: int | None = None) -> None:
        """Change the state by hand; to the one that it is in, only closing again does something: it forgets."""
        if state == "closed":
            self._start_over()
        if state == "half_open" and state != self.state:
            self._half_open("manual")
        elif state == "closed" or state != self.state:
            self._enter(state, "manual")
        if state == "forced_open":
            self.forced_ns = until_ns

    def _half_open(self, reason: str) -> None:
        """Let probes pass; where it was not open, as if the first open time had ended."""
        if self.state != "open":
            self.open_ns = self.options.open_ns
        self._enter("half_open", reason)

    def extend_open(self, ns: int, now_ns: int) -> None:
        """Stay open for at least `ns` from now, or half-open without a probe."""
        if self.state in ("open", "half_open"):
            self.until_ns = max(self.until_ns, now_ns + ns)

    def _reject(self, reason: str, retry_after_ns: int | None) -> Ticket | Rejected:
        return Rejected(reason, retry_after_ns) if self.enforce else Ticket(self.generation, shadow=True)

    def _enter(self, state: str, reason: str) -> None:
        if state != self.state:
            self.changes.append((self.state, state, reason))
        if state == "half_open":
            self.until_ns = 0
        self.state = state
        self.generation += 1
        self.leases = {}
        self.proven = 0
        self.forced_ns = None
        self.ramp_end_ns = None
        self.row = self.wave = None

    def _start_over(self) -> None:
        self.outcomes = []
        self.in_a_row = self.left = 0

    def _open(self, reason: str, now_ns: int) -> None:
        again = self.state == "half_open"
        self.open_ns = min(self.open_ns * 3 // 2, self.options.max_open_ns) if again else self.options.open_ns
        self.until_ns = now_ns + self.open_ns - int(self.open_ns * 0.1 * self.uniform())
        self._enter("open", reason)

    def _probe(self, now_ns: int) -> Ticket | Rejected:
        self.leases = {lease: end for lease, end in self.leases.items() if end > now_ns}
        places = max(1, self.options.probes - self.proven) if self.proven else 1
        if now_ns < self.until_ns:
            return self._reject("probing", self.until_ns - now_ns)
        if len(self.leases) >= places:
            return self._reject("probing", max(1, min(min(self.leases.values()) - now_ns, self.open_ns)))
        self.last_lease += 1
        self.leases[self.last_lease] = now_ns + self.options.lease_ns
        return Ticket(self.generation, self.last_lease)

    def _verdict(self, good: bool, now_ns: int) -> None:
        if not good:
            self._open("probe_failed", now_ns)
            return
        self.proven += 1
        if self.proven == self._needed():
            self._start_over()
            self._enter("closed", "probes_succeeded")
            if self.options.ramp_ns is not None:
                self.ramp_end_ns = now_ns + self.options.ramp_ns
                self.ramp_credit = SECOND - SECOND // 10

    def _needed(self) -> int:
        return self.options.closing or min(self.proof, self.options.probes)

    def _ramp(self, now_ns: int) -> Ticket | Rejected:
        assert self.ramp_end_ns is not None
        assert self.options.ramp_ns is not None
        left = self.ramp_end_ns - now_ns
        if left <= 0:
            self.ramp_end_ns = None
            return self._ticket()
        self.ramp_credit += SECOND - int((SECOND - SECOND // 10) * min(1.0, left / self.options.ramp_ns))
        if self.ramp_credit < SECOND:
            return self._reject("ramp", min(left, self.options.open_ns))
        self.ramp_credit -= SECOND
        return self._ticket(ramped=True)

    def _spans(self) -> list[Span]:
        return [span for span in (self.row, self.wave) if span is not None]

    def _end_silently(self, number: int) -> None:
        for span in self._spans():
            span.pass_over(number)

    def _follow(self, number: int, failed: bool, now_ns: int) -> None:
        """Keep the row, which only a success of a call that began in it ends, and the wave."""
        if failed:
            if self.wave is None or now_ns - self.wave.since_ns > self._patience_ns():
                self.wave = Span(number, now_ns)
            self.wave.add(number, failed=True)
            self._extend_row(number, now_ns)
            return
        self.good = max(self.good, number)
        if self.row is None or number >= self.row.first:
            self.row, self.in_a_row, self.left = None, 0, 0
        if self.wave is not None:
            self.wave.add(number, failed=False)
            if 8 * self.wave.pending(self.inflight) <= self.wave.calls:
                self.wave = None

    def _extend_row(self, number: int, now_ns: int) -> bool:
        if number < self.good:
            return False
        self.row = self.row or Span(number, now_ns)
        if self.row.pending(self.inflight) == 0:
            self.row.since_ns = now_ns  # what will be under way in it is young
        self.row.add(number, failed=True)
        self.in_a_row += 1
        return True

    def _patience_ns(self) -> int:
        return 60 * SECOND if self.successes < 20 else min(max(SECOND // 4, 2 * self.p99_ns()), 60 * SECOND)

    def _run(self, now_ns: int) -> int:
        """Failures in a row, less what may still prove them wrong."""
        if self.row is None or (not self.left and now_ns - self.row.since_ns > self._patience_ns()):
            return self.in_a_row
        return self.in_a_row - self.row.pending(self.inflight)

    def _early(self, window: int, now_ns: int) -> bool:
        """Whether successes of the calls of which the window holds the failures are under way, or no longer in it."""
        wave = self.wave
        if wave is None or self.options.failure_rate is None or wave.failed / wave.calls >= self.options.failure_rate:
            return False
        overlap = wave.calls >= window or 8 * wave.pending(self.inflight) > window
        return overlap and now_ns - wave.since_ns <= self._patience_ns()

    def _record(self, failed: bool, slow: bool, now_ns: int) -> None:
        self.outcomes.append((now_ns, failed, slow))
        if self.state != "closed":
            return
        reason = self._reason(now_ns)
        if reason is not None:
            self._open(reason, now_ns)

    def _row_opens(self, seen: list[tuple[int, bool, bool]], run: int) -> bool:
        if self.options.consecutive is None or run < self.options.consecutive:
            return False
        row = self.in_a_row - self.left  # those of the row that are in the window; the others there were before
        failed, total = (max(0, count - row) for count in (sum(failed for _, failed, _ in seen), len(seen)))
        return not self.options.sure or is_proof(run, run + failed, run + total)

    def _rate_opens(self, seen: list[tuple[int, bool, bool]]) -> bool:
        limit = self.options.failure_rate
        if limit is None:
            return False
        ratio = sum(failed for _, failed, _ in seen) / len(seen)
        sure = ratio - 2.0 * math.sqrt(ratio * (1 - ratio) / len(seen))
        return ratio >= limit and (sure >= limit or not self.options.sure)

    def _reason(self, now_ns: int) -> str | None:
        seen = self.window(now_ns)
        if self._row_opens(seen, self._run(now_ns)):
            return "consecutive"
        if len(seen) < self.options.min_calls:
            return None
        if self._rate_opens(seen) and not self._early(len(seen), now_ns):
            return "failure_rate"
        if self.options.slow_ns is not None and sum(slow for *_, slow in seen) / len(seen) >= self.options.slow_rate:
            return "slow_rate"
        return None


def is_proof(run: int, equal: int, total: int) -> bool:
    """Return whether so many equal outcomes at the end of `total` are less likely than one in a million by chance."""
    before = max(0, equal - run) + 0.25, max(0, total - run) + 1.0
    return run * math.log(before[0] / before[1]) <= -13.8155
