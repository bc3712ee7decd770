"""
The tie of a circuit breaker: it reports what calls have shown, and brings what the fleet's store has decided.

A report is numbered and sent again as it was until it is answered, so it counts once however often it arrives. What
calls show meanwhile waits for the next one. A probe's result goes out at once, the first failures a sixteenth of a tick
after the report before, later ones an eighth and half a tick, and anything else waits for the tick. After its first
failures a process also looks soon what others have reported. So an outage is seen early.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any
from weakref import ref

import attrs

from resilio._native.gates import BreakerGate
from resilio._native.shared import Cell
from resilio.sharing._fleet.ask import Answer, Ask, StoreProblem
from resilio.sharing._fleet.ask_breaker import (
    BAD,
    BY_CONSECUTIVE,
    BY_PROBE_FAILED,
    CLOSED,
    GOOD,
    HALF_OPEN,
    OPEN,
    BreakerAnswer,
    BreakerAsk,
)
from resilio.sharing._fleet.store_keys import key_of
from resilio.sharing._fleet.tie import Tie

__all__ = ["BreakerTie"]

MILLION = 1_000_000
RESULTS = {4: GOOD, 5: BAD}
"""Results of a probe by the phase of its lease (shared/verdict.h)."""
REASONS = {CLOSED: 9, HALF_OPEN: 8}
"""Reasons of the other changes, by their numbers in the gate: probes have succeeded, the open time is over."""
PATIENCE = 2
"""Ticks for which a lease waits for a call; then it goes to a process that has one."""
EARLY = (16, 16, 8, 8, 2)
"""The parts of a tick after which failures are reported: first a sixteenth, in the end half of it."""
LOOKS = 4
"""The reports from the first failures on, after which it asks soon in any case."""
REST = 8
"""Ticks without a call after which the breaker of a key rests."""
HELD = (1, 2)
"""Phases in which a lease is held: free, or under way."""


class BreakerTie(Tie):
    """
    The tie of a circuit breaker.

    The breaker here, or that of the host, stays in front. The store can open one that is closed here. Once what it gave
    has ended, its state is forgotten, whatever `on_store_down` names.
    """

    __slots__ = (
        "_asked_ns",
        "_before",
        "_bell",
        "_early",
        "_gate",
        "_given_ns",
        "_key",
        "_lease",
        "_made_ns",
        "_next_ns",
        "_policy",
        "_quiet",
        "_sent",
    )

    def __init__(
        self, policy: Any, gate: BreakerGate, cell: Cell, fleet: Any, *, name: str | None = None, key: bytes = b""
    ) -> None:
        """
        Tie a breaker to its fleet.

        Args:
            policy: The breaker; its options are read as they are at each report.

            gate: Its gate, which has this cell.

            cell: The cell.

            fleet: The fleet.

            name: Of the policy in the store; None: its own.

            key: Of a keyed policy, in the form that all processes agree on.
        """
        super().__init__(cell)
        self._bell = cell
        self._policy = ref(policy)
        self._gate = gate
        plain = f"{{resilio:{fleet.name}:breaker:{policy.name}}}"
        self._key = key_of(fleet.name, "breaker", name or policy.name, repr(key)) if key else plain
        self._quiet = 0  # reports in a row without a call
        self._before: BreakerAsk | None = None  # the latest report, if it did not count: no generation was known then
        self._asked_ns = self._next_ns = self._made_ns = 0
        self._early = 0  # the reports since the first failures, as far as they count in EARLY
        self._sent: BreakerAsk | None = None  # not answered yet
        self._lease = 0  # with its phase, as it was reported
        self._given_ns = 0  # when a lease was given; 0: none is held

    @property
    def is_used(self) -> bool:
        """True as long as the breaker heeds what this tie brings."""
        return self._gate.fleet_is_in(self._bell)

    @property
    def rings(self) -> bool:
        """True if a call has something to report soon."""
        return self._bell.rings

    @property
    def is_idle(self) -> bool:
        """True if there has been no call for some ticks, and there is no open time to wait for."""
        return self._quiet >= REST and not self.rings

    def rest(self, horizon: Cell, now_ns: int) -> bool:  # noqa: ARG002 - as of a limit, which needs a store at rest
        """Let it rest until a call rings; False: there is something to report."""
        return self._gate.fleet_rest(self._bell)

    def due_ns(self, now_ns: int) -> int:
        """Return when to report: at once if a probe has ended, early if a call has failed, else with the tick."""
        if self._bell.rings and self._given_ns:
            return now_ns
        is_soon = self._bell.rings or 0 < self._early < LOOKS
        if not is_soon or self._sent is not None:  # a report that is sent again has no later failures
            return self._next_ns
        return min(self._next_ns, self._asked_ns + self.tick_ns // EARLY[self._early])

    def ask(self, now_ns: int) -> Sequence[BreakerAsk]:
        """Return the report that has not been answered, or a new one."""
        if self._sent is not None and now_ns - self._made_ns >= self.ttl_ns:
            self._sent = self._before = None  # what a store that was away has missed is old
        if self._sent is None:
            self._sent, self._made_ns = self._report(now_ns), now_ns
            if self._sent is not None and self._before is not None:
                self._sent = _joined(_older(self._before, now_ns - self._asked_ns), self._sent)
        else:
            self._sent = _older(self._sent, now_ns - self._asked_ns)
        self._asked_ns, self._next_ns = now_ns, now_ns + self.tick_ns
        return () if self._sent is None else (self._sent,)

    def _report(self, now_ns: int) -> BreakerAsk | None:
        waits_ns = now_ns - self._given_ns if self._given_ns else 0
        rang = self._bell.rings
        policy, seen = self._policy(), self._gate.fleet_report(self._bell, waits_ns >= PATIENCE * self.tick_ns)
        if policy is None or seen is None:
            return None
        generation, ok, failed, slow, gone, flying, late, tail, good_ns, bad_ns = seen[:10]
        self._lease, wanted, ready, lease_ns, draw = seen[10:]
        goes_on = failed + slow + gone > 0 or (self._early > 0 and now_ns < self._next_ns)
        self._early = min(self._early + 1, len(EARLY) - 1) if goes_on else 0
        self._quiet = 0 if rang or ok + failed + slow + gone + flying + wanted else self._quiet + 1
        seq, last = self._bell.number()
        number, phase = self._lease >> 3, self._lease & 7
        return BreakerAsk(
            key=self._key,
            asker=self._bell.asker,
            seq=seq,
            seen=last,
            generation=generation,
            ok=ok,
            failed=failed,
            slow=slow,
            tail=tail,
            good_us=good_ns // 1000,
            bad_us=-(-bad_ns // 1000),
            gone=gone,
            flying=flying,
            late=late,
            result=RESULTS.get(phase, 0),
            holds=number if phase in HELD else 0,
            ready=int(bool(wanted and ready)),
            draw=int(draw * MILLION),
            tick_us=self.tick_ns // 1000,
            lease_us=lease_ns // 1000,
            **_options(policy.config),
        )

    def take(self, asks: Sequence[Ask], answers: Sequence[Answer | StoreProblem], sent_ns: int, now_ns: int) -> None:
        """Act by the fleet's state; a report without an answer is sent again."""
        ask, answer = asks[0], answers[0]
        if not isinstance(ask, BreakerAsk) or not isinstance(answer, BreakerAnswer) or answer.seq != ask.seq:
            return
        self._sent = None
        is_first = ask.generation == 0 != answer.generation and answer.state == CLOSED  # else it counts, or is old
        self._before = ask if is_first else None
        if not self._bell.saw(ask.seen, ask.seq):
            return  # another process has gone on as the courier of this cell
        self._bell.answered(now_ns, sent_ns + self.ttl_ns)
        reason = answer.reason if answer.state == OPEN else REASONS[answer.state]
        self._gate.fleet_take(
            self._bell,
            answer.state,
            reason,
            answer.reopened,
            answer.generation,
            answer.left_us * 1000,
            _measured(answer),
            answer.lease,
            self._lease,
        )
        if answer.left_us:
            self._quiet = 0
        if answer.lease != self._lease >> 3:
            self._given_ns = sent_ns
        if not answer.lease:
            self._given_ns = 0
        if answer.state != CLOSED:
            self._early = 0  # there is no haste any more


def _older(sent: BreakerAsk, by_ns: int) -> BreakerAsk:
    """Return a report that is sent again: what it has seen is older by this time."""
    by_us = by_ns // 1000
    return attrs.evolve(sent, good_us=sent.good_us + by_us, bad_us=sent.bad_us + by_us)


def _joined(before: BreakerAsk, now: BreakerAsk) -> BreakerAsk:
    """Return a report together with the one before it."""
    sums = {name: getattr(before, name) + getattr(now, name) for name in ("ok", "failed", "slow", "gone")}
    if now.ok > 0:
        return attrs.evolve(now, **sums)
    tail = before.tail if before.ok > 0 else before.failed + before.gone
    bad_us = before.bad_us if tail else now.bad_us
    return attrs.evolve(now, **sums, tail=tail + now.failed + now.gone, good_us=before.good_us, bad_us=bad_us)


def _measured(answer: BreakerAnswer) -> float:
    if answer.reason == BY_PROBE_FAILED:
        return math.nan
    return answer.measured if answer.reason == BY_CONSECUTIVE else answer.measured / MILLION


def _options(config: Any) -> dict[str, int]:
    """Return what the rule needs of a breaker's options."""
    throttle = config.mode == "probabilistic"
    slow_rate = None if config.slow_call is None or throttle else config.slow_rate
    calls = config.window.calls or 0
    return {
        "failed_share": 0 if throttle or config.failure_rate is None else round(config.failure_rate * MILLION),
        "slow_share": 0 if slow_rate is None else round(slow_rate * MILLION),
        "min_calls": min(config.min_calls, calls) if calls else config.min_calls,
        "consecutive": config.consecutive or 0,
        "window_calls": calls,
        "window_us": round((config.window.seconds or 0) * MILLION),
        "probes": config.probes,
        "closing": 1 if throttle else config.closing,
        "sure": int(config.sure != 0),
        "open_us": round(config.open_for * MILLION),
        "max_open_us": round(max(config.open_for, config.max_open_for) * MILLION),
    }
