"""
Asks of a courier to the store, for a policy, and the store's answers.

Amounts are in millionths of a token, times in microseconds, both ints: what Python and a script of the store compute
from them is equal to the bit. Each asker numbers its asks, so that one that arrives twice or late counts once.
"""

from __future__ import annotations

from operator import attrgetter
from typing import Any, ClassVar

import attrs

from resilio._native.gates import LimitAnswerNumbers, LimitAskNumbers, StoreProblem, WindowAskNumbers

__all__ = [
    "TOKEN",
    "Answer",
    "Ask",
    "LimitAnswer",
    "LimitAsk",
    "RecordedAnswer",
    "RecordedAsk",
    "StoreProblem",
    "WindowAsk",
]

TOKEN = 1_000_000
"""A token, in the unit of amounts."""


class Answer:
    """
    Answer of the store.

    Attributes:
        seq: The number of the ask.

        peers: Askers, this one included; at least 1.

        at_us: The key's time at the answer.
    """

    __slots__ = ()

    seq: int
    peers: int
    at_us: int

    def numbers(self) -> tuple[int, ...]:
        """Return all fields, in their order."""
        raise NotImplementedError


class Ask:
    """
    Fields of all asks.

    Attributes:
        kind: The rule that answers it.

        answer: The class of its answer.

        key: Where the store has the state: "{resilio:<fleet>:<kind>:<name>:<hash of the options>}".

        asker: The random id of the process, or of the host, that asks: 1 to 2^53.

        seq: The number of the ask: 1, 2, ... of one asker.

        seen: The number of the last ask whose answer arrived; 0: none.

        by_us: The key's time now, as its courier reckons from its last answer; 0: it has had none. The courier sets it.
    """

    __slots__ = ()

    kind: ClassVar[str]
    answer: ClassVar[Any]  # a class of Answer

    key: str
    asker: int
    seq: int
    seen: int
    by_us: int

    def numbers(self) -> tuple[int, ...]:
        """Return all fields but the key, in their order."""
        raise NotImplementedError

    def text(self) -> str:
        """Return the kind and the numbers as a line for a script of the store."""
        return f"{self.kind} {self.numbers()}"

    def read(self, line: bytes) -> Answer:
        """
        Return the answer in a line of the script's reply.

        Raises:
            ValueError: It is none.
        """
        found: Answer = self.answer(*map(int, line.split()))
        return found


@attrs.define
class RecordedAnswer(Answer):
    """Base of the answers whose fields are those of a record."""

    seq: int

    def numbers(self) -> tuple[int, ...]:
        """Return all fields, in their order."""
        return tuple([getattr(self, field.name) for field in attrs.fields(type(self))])


@attrs.define(kw_only=True)
class RecordedAsk(Ask):
    """Base of the asks whose fields are those of a record."""

    key: str
    asker: int
    seq: int
    seen: int = 0
    by_us: int = 0

    def numbers(self) -> tuple[int, ...]:
        """Return all fields but the key, in their order."""
        read = _readers.get(type(self))
        if read is None:
            read = _readers[type(self)] = attrgetter(*[field.name for field in attrs.fields(type(self))][1:])
        found: tuple[int, ...] = read(self)
        return found


class LimitAnswer(LimitAnswerNumbers, Answer):
    """
    Tokens of a rate limit.

    Attributes:
        grant: Millionths that the asker may spend until its lease ends.

        credit: Millionths that it may spend beyond that until the next answer; they are its debt then.

        wait_us: Until `least` would be there; 0 if it was.

        peers: Askers that have a lease, this one included.

        left: Millionths that the store has left.
    """

    __slots__ = ()


class LimitAsk(LimitAskNumbers, Ask):
    """
    An ask for tokens of a rate limit; the rest of the lease before goes back with it.

    Attributes:
        amount: Millionths that come in each period.

        period_us: That period.

        burst: Millionths, leases included.

        left: What goes back; below zero: a debt, spent on credit.

        kept: What the asker keeps to spend while it waits for the answer; it is out until the next ask.

        demand: Millionths a second that its callers want, rejected calls included.

        want: What it asks for, at most.

        spare: What it takes beyond that for a burst, at most: an equal part of half of what is left.

        least: Below this it takes nothing, and is answered how long to wait; 0: it takes what there is, and no more
            than a fair share where demands are above the rate.

        cost: What one call costs, at most: a share is not smaller.

        tick_us: The time between its asks.

        ttl_us: The time that a lease lasts, from when it is granted.
    """

    __slots__ = ()

    answer = LimitAnswer


class WindowAsk(WindowAskNumbers, Ask):
    """
    An ask for tokens of an exact window: as for those of a rate limit, but for these numbers.

    Attributes:
        left: What goes back of the latest grant. The rest of that is spent.

        spare: What calls have given back of any grant; none of it is in `left`.

        kept: 0: the asker keeps nothing while it waits.
    """

    __slots__ = ()

    answer = LimitAnswer


_readers: dict[type, attrgetter[Any]] = {}  # of the numbers of each kind of ask: made once, a trip reads many
