"""Threads that wait for virtual time, beside each other: one of them looks at the others, and is no obstacle itself."""

from __future__ import annotations

import os
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator
from typing import Any

import pytest

from resilio import _backends
from resilio.testing import VirtualTime, _parking, _threads, virtual_time

LookHook = Callable[[Callable[[], None]], None]


@pytest.fixture
def vt() -> Iterator[VirtualTime]:
    """Virtual time that gives up soon."""
    with virtual_time(patience=5) as vt:
        yield vt


@pytest.fixture
def before_look(monkeypatch: pytest.MonkeyPatch) -> LookHook:
    """Run a function in each thread that is about to look at the others."""
    look = _threads._frames

    def install(hook: Callable[[], None]) -> None:
        monkeypatch.setattr(_threads, "_frames", lambda: hook() or look())

    return install


@pytest.fixture
def turns(monkeypatch: pytest.MonkeyPatch) -> Counter[int]:
    """Count the turns that each parked thread has taken, by its identifier."""
    counted, turn = Counter[int](), _parking._turn

    def counting(*args: Any) -> bool:
        counted[threading.get_ident()] += 1
        return turn(*args)

    monkeypatch.setattr(_parking, "_turn", counting)
    return counted


def until(condition: Callable[[], object]) -> None:
    """Wait in real time, and look busy meanwhile."""
    while not condition():
        time.sleep(0.001)


def parked(*seconds: float) -> list[threading.Thread]:
    """Start a thread for each of these waits, and wait until each is on the list."""
    threads = []
    for each in seconds:
        before = len(_backends.threads._due_ns)
        threads.append(threading.Thread(target=_backends.sleep, args=(each,)))
        threads[-1].start()
        until(lambda before=before: len(_backends.threads._due_ns) > before)
    return threads


def test_a_parked_thread_that_looks_at_the_others_is_parked(vt: VirtualTime, before_look: LookHook) -> None:
    """
    Without the GIL, parked threads looked at each other at once, and each took those that looked for busy. So the clock
    of a test with many threads stood still until its patience was over.
    """
    me = threading.get_ident()
    before_look(lambda: None if threading.get_ident() == me else until(lambda: vt.now >= 1.0 or not vt._timeline.open))
    (sleeper,) = parked(1.0)
    vt.advance(2.0)
    sleeper.join()
    assert vt.now == 2.0


def test_one_parked_thread_looks_for_all(vt: VirtualTime, before_look: LookHook, turns: Counter[int]) -> None:
    """Each of the parked threads looked at all the others a thousand times a second."""
    looked: list[int] = []

    def look() -> None:
        looked.append(threading.get_ident())
        until(lambda: len(set(looked)) > 1 or (len(turns) == 3 and sum(turns.values()) > 20))

    sleepers: list[threading.Thread] = []
    before_look(look)
    for seconds in (3.0, 1.0, 2.0):
        sleepers += parked(seconds)
    sleepers[1].join()
    assert set(looked) == {sleepers[0].ident}
    for sleeper in sleepers:
        sleeper.join()
    assert vt.now == 3.0


def test_the_next_parked_thread_looks_when_the_first_has_left(vt: VirtualTime) -> None:
    """The clock goes on when the thread that has looked for all is woken."""
    sleepers = parked(1.0, 2.0, 3.0)
    for sleeper in sleepers:
        sleeper.join()
    assert vt.now == 3.0


def test_an_interrupt_in_a_look_leaves_the_clock_to_the_next(vt: VirtualTime, before_look: LookHook) -> None:
    """Ctrl-C often falls into a look, since the thread that looks is the one that runs."""
    me, sleepers = threading.get_ident(), list[threading.Thread]()

    def interrupt() -> None:
        if threading.get_ident() == me:
            sleepers.extend(parked(5.0))
            raise KeyboardInterrupt

    before_look(interrupt)
    helper = threading.Thread(target=until, args=(lambda: sleepers,))
    helper.start()  # alone, a thread need not look
    with pytest.raises(KeyboardInterrupt):
        _backends.sleep(9.0)
    helper.join()
    sleepers[0].join()
    assert vt.now == 5.0


def test_a_thread_that_was_woken_keeps_the_clock_until_it_runs(
    vt: VirtualTime, monkeypatch: pytest.MonkeyPatch
) -> None:
    """On a busy machine it gets no processor for a while. It looked parked then, and the clock moved without it."""
    seen: list[float] = []
    lock, runs, turn, left = threading.Lock(), threading.Event(), _parking._turn, iter(range(50))
    lock.acquire()

    def late(timeline: Any, watch: Any, own: threading.Lock, moves: int) -> bool:
        if own is lock:
            runs.wait()
        elif not lock.locked() and next(left, None) is None:
            runs.set()
        return turn(timeline, watch, own, moves)

    monkeypatch.setattr(_parking, "_turn", late)
    (sleeper,) = parked(5.0)
    waiter = threading.Thread(target=lambda: _backends.threads.wait(lock, None) or seen.append(vt.now))
    waiter.start()
    until(lambda: lock in vt._timeline._parked)
    lock.release()
    sleeper.join()
    runs.set()
    waiter.join()
    assert seen == [0.0]


@pytest.mark.skipif(not hasattr(os, "fork"), reason="there is no fork on this system")
def test_a_forked_child_waits_for_no_thread_of_its_parent(vt: VirtualTime, in_child: Any) -> None:
    """Its clock stayed for ever at the time at which a thread of the parent was due: nobody could leave that wait."""
    (sleeper,) = parked(5.0)

    def child() -> float:
        _backends.sleep(9.0)
        return vt.now

    assert in_child(child) == 9.0
    sleeper.join()
    assert vt.now == 5.0
