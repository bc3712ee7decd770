"""What calls, contexts and results refer to, read in several threads while another one replaces or drops it."""

from __future__ import annotations

from collections.abc import Iterator
from contextvars import copy_context
from typing import Any

import pytest

from resilio import bulkhead, deadline, remaining, retry
from resilio._native.core import AmbientDeadline
from storm.racing import at_once

pytestmark = [pytest.mark.untraced, pytest.mark.usefixtures("often")]

THREADS = 4
FAR_NS = 10**18


def test_threads_that_read_a_rejection_at_once_get_one_error() -> None:
    """
    The error of a rejected result is made when it is first read.

    Two threads that read it at once each made one, and the first was freed while its reader still had it.
    """
    full = bulkhead(1)
    permit = full.try_acquire()
    for _ in range(300):
        result = full.try_call(lambda: None)
        errors: list[Any] = [None] * THREADS

        def read(me: int, result: Any = result, errors: list[Any] = errors) -> None:
            errors[me] = result.error

        at_once(*[lambda me=me: read(me) for me in range(THREADS)])
        assert {id(error) for error in errors} == {id(result.error)}
    permit.success()


def test_a_chain_of_deadlines_is_dropped_in_one_thread_and_read_in_others() -> None:
    """
    A thread that drops the last value of a chain frees those before it, one by one, as far as no other thread has them.

    Whether another one has them was read off a sum of two counts, which without the GIL may never have been true.
    """
    seen, over = [0] * THREADS, [False]
    shared: list[Any] = [None] * 64

    def drop() -> None:
        for turn in range(20_000):
            value = None
            for depth in range(4):
                value = AmbientDeadline(FAR_NS + depth, 1, value)
            shared[turn % 64] = value
        over[0] = True

    def read(me: int) -> None:
        while not over[0]:
            for value in shared:
                at, depth = value, 0
                while at is not None:
                    at, depth = at.outer, depth + 1
                assert depth in (0, 4)
                seen[me] += depth

    at_once(drop, *[lambda me=me: read(me) for me in range(THREADS)])
    assert sum(seen) > 0, "no thread read a chain"


def test_what_a_streams_attempt_has_started_looks_for_retries_while_the_next_attempt_begins() -> None:
    """
    A task that an attempt has started asks which retry is around it, and which generator that belongs to.

    The reference to the generator was replaced by each attempt, and freed under the thread that asked.
    """
    outer = retry(on=OSError, attempts=2000, backoff=0.0, budget=None)
    inner = retry(on=ValueError, attempts=2, backoff=0.0, budget=None)
    asked, over, contexts = [0] * THREADS, [False], []

    @outer
    def items() -> Iterator[int]:
        if len(contexts) < 2000:
            contexts.append(copy_context())
            raise ConnectionError
        yield 1

    @inner
    def step(calls: list[int]) -> None:
        calls.append(1)
        if len(calls) == 1:
            raise ValueError

    def ask(me: int) -> None:
        while not over[0]:
            if contexts:
                contexts[-1].copy().run(step, [])
                asked[me] += 1

    def consume() -> None:
        try:
            list(items())
        except ConnectionError:
            pass
        finally:
            over[0] = True

    at_once(consume, *[lambda me=me: ask(me) for me in range(THREADS)])
    assert sum(asked) > 0, "no thread asked while attempts began"
    with deadline(5):
        assert remaining() is not None
