"""A pair of policies around the scripted server, limits in money and in calls around both, and what must hold."""

from __future__ import annotations

import itertools
from collections import Counter
from collections.abc import Iterator
from contextlib import suppress
from functools import partial
from typing import Any

import anyio
import pytest
from crossings.recipes import BY_PRESET, STRATEGIES, Way
from crossings.server import ANSWERS, PRICE, SERVED, TOLD, Answer, Server, StatusError

from resilio import Hedge, Outcome, RejectedError, deadline, pipeline, rate_limit, spend_limit
from resilio._failures.outcome_table import COUNTED
from resilio.testing import VirtualTime

__all__ = ["FORMS", "Books", "impossible", "play"]

RESERVE = 0.05
TOKENS = 1000.0
DEADLINE = 20.0
BETWEEN = TOLD + 1
"""Seconds between two calls: more than any answer asks for."""
ROUNDING = 1e-6
DAY = 86400
TICK = 0.002
"""Seconds by which a timer may be late: a tick of the wheel."""
EXPECTED = (ConnectionError, RejectedError, StatusError, TimeoutError)
LEAVING = 3
"""Calls whose callers go away in the middle."""

_numbers = itertools.count()
FORMS: dict[str, Way] = {
    "call": Way(),
    "try_call": Way(),
    "decorated": Way(),
    "stream": Way(stream=True),
    "acquire": Way(block=True),
    "acall": Way(threads=False),
    "try_acall": Way(threads=False),
    "adecorated": Way(threads=False),
    "astream": Way(threads=False, stream=True),
    "aacquire": Way(threads=False, block=True),
}
"""The forms of a call."""
DRESSED = ("try_call", "decorated", "try_acall", "adecorated")
"""Forms that differ from another one in how they begin and end alone."""


class Books:
    """The stack and the server, and what must hold of their numbers."""

    def __init__(
        self,
        vt: VirtualTime,
        *policies: Any,
        raising: bool = False,
        scope: Any = "process",
        server: Server | None = None,
        day: Any = None,
        request: tuple[Any, ...] = (),
    ) -> None:
        self.vt = vt
        self.step = getattr(scope, "step", int)
        self.server = server or Server(vt, raising=raising)
        self.policies = policies
        self.request = request
        number = None if scope == "process" else next(_numbers)
        named = {} if number is None else {"name": f"crossing-{number}", "scope": scope}
        self.day = day or spend_limit("1000 USD/day", reserve=RESERVE, **named)
        self.tokens = rate_limit(f"{TOKENS:.0f}/day", **named)
        self.stack = pipeline(self.day, self.tokens, *policies)
        self.asked = 0
        self.overdue: list[float] = []

    def fits(self, form: str) -> bool:
        """Return False if the stack itself says at once that it cannot guard this form of a call."""
        way = FORMS[form]
        if way.block:
            return not any(gate.kind in STRATEGIES for gate in self.stack.gates)
        server = self.server
        plain, stream = (server.serve, server.stream) if way.threads else (server.aserve, server.astream)
        try:
            self.stack(stream if way.stream else plain)
        except TypeError:
            return False
        return True

    # ---- calls

    def ask(self, form: str, script: list[str]) -> None:
        """Make one call in a thread, which may fail in any way."""
        self._begin(script)
        with suppress(*EXPECTED), deadline(DEADLINE):
            self._call(form)
        self._end()

    async def aask(self, form: str, script: list[str], *, leaves: bool = False) -> None:
        """Make one call in a task; its caller may go away in the middle."""
        self._begin(script)
        with anyio.move_on_after(SERVED / 2 if leaves else None), suppress(*EXPECTED):
            async with deadline(DEADLINE):
                await self._acall(form)
        if self.vt.now > self.begun + DEADLINE + TICK:
            self.overdue.append(self.vt.now - self.begun)
        self._end()

    async def warm(self) -> None:
        """Let hedges measure calls, without the limits: before that they start no copies."""
        for policy in self.policies:
            for _ in range(30 if isinstance(policy, Hedge) else 0):
                await policy.acall(anyio.sleep, SERVED)

    def _begin(self, script: list[str]) -> None:
        self.server.begin(script)
        self.begun = self.vt.now
        self.asked += 1

    def _end(self) -> None:
        last = [call.begun - self.begun for call in self.server.calls if call.number == self.server.number]
        self.overdue += [after for after in last if after > DEADLINE + TICK]

    def _call(self, form: str) -> Any:
        serve = self.server.serve
        if form == "stream":
            return list(self.stack(self.server.stream)(*self.request))
        if form != "acquire":
            call = self.stack(serve) if form == "decorated" else partial(getattr(self.stack, form), serve)
            return call(*self.request)
        permit = self.stack.acquire(*self.request)
        try:
            value = serve(endpoint=permit.endpoint)
        except BaseException as error:
            permit.raised(error)
            raise
        permit.returned(value)
        return value

    async def _acall(self, form: str) -> Any:
        serve = self.server.aserve
        if form == "astream":
            return [item async for item in self.stack(self.server.astream)(*self.request)]
        if form != "aacquire":
            call = self.stack(serve) if form == "adecorated" else partial(getattr(self.stack, form), serve)
            return await call(*self.request)
        permit = await self.stack.aacquire(*self.request)
        try:
            value = await serve(endpoint=permit.endpoint)
        except BaseException as error:
            permit.raised(error)
            raise
        permit.returned(value)
        return value

    # ---- books

    def check(self, *, charges_apart: bool = False) -> None:
        """
        Assert what holds after any calls.

        Args:
            charges_apart: What the server charges does not reach the limits around: they pay what they have reserved.
        """
        self.conserved()
        self.counted()
        self.paid(charges_apart)
        self.heeded()
        assert not self.overdue, f"calls were made, or went on, after their deadline: {self.overdue}"

    def conserved(self) -> None:
        """Nothing is held, and tokens are gone for calls that came to the server alone."""
        for snapshot in snapshots(self.stack.snapshot()):
            assert (snapshot.inflight, snapshot.queued) == (0, 0), snapshot
        if self.tokens.snapshot().sharing is not None and self.tokens.snapshot().sharing.regime is not None:
            return  # of a fleet: it has the tokens of its lease; `counted` has what was given back
        left, used = self.tokens.available["requests"], self.server.reached()
        most = min(TOKENS, TOKENS - used + self.vt.now * TOKENS / DAY)
        assert TOKENS - used - ROUNDING <= left <= most + ROUNDING, f"{left} tokens are left after {used} calls"

    def counted(self) -> None:
        """Every part's calls are the sum of their ends; what was never made was cancelled further out."""
        for part in snapshots(self.stack.snapshot()):
            ends = part.successes + part.failures + part.ignored + part.rejected + part.cancelled
            assert part.calls == ends + part.would_reject, part
            assert part.refused <= part.ignored, part
        for outer in (self.day.snapshot(), self.tokens.snapshot()):
            assert (outer.calls, outer.calls - outer.cancelled) == (self.asked, self.server.reached()), outer

    def judged(self, kind: str, policy: Any) -> None:
        """The innermost part has counted each answer as the table of outcomes has it."""
        answers = self.server.answers()
        broken_off = len(self.server.calls) - len(answers)
        part, expected = policy.snapshot(), Counter[str]()
        for answer in answers:
            expected.update(COUNTED[verdict_of(kind, answer, raising=self.server.raising)])
        for counter, count in expected.items():
            assert count <= getattr(part, counter) <= count + broken_off, f"{counter} of {expected}: {part}"
        assert part.successes + part.failures + part.ignored == len(self.server.calls), part

    def paid(self, charges_apart: bool) -> None:
        """The bill is that of the calls that came to the server; a hedge's copies inside of a limit run apart."""
        spend = self.day.snapshot().spend
        assert spend.reserved == 0
        own = sum(call.cost for call in self.server.calls if not call.copy)
        if sum(gate.kind == "hedge" for gate in self.stack.gates) > 1:  # a copy may have a primary of its own
            assert PRICE * self.server.reached() <= spend.used + ROUNDING <= own + 2 * ROUNDING
        else:
            assert spend.used == pytest.approx(RESERVE * self.server.reached() if charges_apart else own)

    def heeded(self) -> None:
        """As long as one call of the caller goes on, no endpoint gets an attempt before the time that it has told."""
        for earlier, later in following(self.server.calls):
            told = None if earlier.answer is None else earlier.answer.told
            if told is not None and earlier.ended is not None and later.begun > earlier.ended:
                assert later.begun >= earlier.ended + told - ROUNDING, (earlier, later)


def verdict_of(kind: str, answer: Answer, *, raising: bool) -> Outcome:
    """Return what a part of this kind takes an answer for; what it counts then stands in the table of outcomes."""
    if kind == "adaptive_limit" and answer.outcome != Outcome.REFUSED:  # it learns from overload: a rejection is some
        if answer.error == "rejected":
            return Outcome.FAILURE
        return Outcome.SUCCESS if answer.status == 200 else Outcome.IGNORED
    if kind == "pool" and answer.status == 404:
        return Outcome.IGNORED  # nothing was served
    if kind == "fallback":  # it answers what its preset takes for unserved, and an execution that raises is a failure
        return Outcome.FAILURE if raising and answer.status == 404 else Outcome.SUCCESS
    if kind in BY_PRESET or answer.error == "rejected":
        return answer.outcome
    fails = answer.error is not None or (raising and answer.status is not None and answer.status >= 400)
    return Outcome.FAILURE if fails else Outcome.SUCCESS


def impossible(kind: str, way: Way) -> bool:
    """Return True if such a policy cannot guard such calls, and the library says so at once."""
    if way.block:
        return kind in STRATEGIES
    if kind == "hedge":
        return way.threads or way.stream
    return way.stream and way.threads and kind == "timeout"


def following(calls: list[Any]) -> Iterator[tuple[Any, Any]]:
    """Yield each call with those after it of the same caller's call at the same endpoint."""
    for place, earlier in enumerate(calls):
        for later in calls[place + 1 :]:
            if later.number != earlier.number:
                break
            if later.endpoint == earlier.endpoint:
                yield earlier, later


def snapshots(snapshot: Any) -> Iterator[Any]:
    """Yield a snapshot and those of its parts."""
    yield snapshot
    for part in snapshot.parts:
        yield from snapshots(part)


def scripts(form: str) -> list[list[str]]:
    """Return what the server does at each call: each answer once, and in the plain forms each answer for good."""
    for_good = [] if form in DRESSED else [[answer] for answer in ANSWERS]
    return for_good + [[answer, "200"] for answer in ANSWERS]


def play(books: Books, form: str, backend: str = "asyncio", some: list[list[str]] | None = None) -> None:
    """Make a call for each script, or for some, and a few that are left by their callers."""
    played = scripts(form) if some is None else some

    async def in_a_task() -> None:
        await books.warm()
        for script in played:
            await books.aask(form, script)
            books.step()
            await anyio.sleep(BETWEEN)
        for _ in range(LEAVING):
            await books.aask(form, ["200"], leaves=True)

    if not FORMS[form].threads:
        books.vt.run(in_a_task, backend=backend)
        return
    for script in played:
        books.ask(form, script)
        books.step()
        books.vt.advance(BETWEEN)
    books.vt.advance(DEADLINE)  # threads that a timeout has left end
