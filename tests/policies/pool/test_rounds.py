"""The thread of a pool's upkeep: when it ends, and what a forked child has of it."""

from __future__ import annotations

import gc
import os
import threading
import time
from collections.abc import Callable

from oracles.bare_pool import BarePool
from resilio._policies.pool.endpoint import Endpoint
from resilio._policies.pool.probes import Probing
from resilio._policies.pool.rounds import Rounds

NAME = "resilio rounds under test"
MANY = 1000
"""Rounds that a busy machine has time for after a stop: all of its threads may wait for a processor."""


class Owner:
    """An object whose rounds are counted."""

    def __init__(self) -> None:
        self.count = 0
        self.rounds = Rounds(self.round, NAME)

    def round(self) -> float:
        self.count += 1
        return 0.001


def running() -> list[threading.Thread]:
    return [thread for thread in threading.enumerate() if thread.name == NAME]


def until(met: Callable[[], object]) -> None:
    while not met():
        time.sleep(0.001)


def in_child(seen: Callable[[], int]) -> int:
    """Return what a forked child has seen."""
    child = os.fork()
    if child == 0:
        code = 99
        try:
            code = seen()
        finally:
            os._exit(code)
    return os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])


def started() -> Owner:
    """Return an object whose first round has ended."""
    owner = Owner()
    owner.rounds.start()
    assert owner.rounds.wait_first(60.0)
    return owner


def test_rounds_that_are_stopped_end_and_do_not_begin_again_in_a_child() -> None:
    """The thread of a stopped pool asked on for ever, or was back in each forked worker."""
    owner = started()
    before = owner.count
    owner.rounds.stop()
    until(lambda: not running() or owner.count > before + MANY)
    assert not running()
    stopped_at = owner.count

    def rounds_of_child() -> int:
        return len(running()) + owner.count - stopped_at

    assert in_child(rounds_of_child) == 0


def test_rounds_end_with_their_owner() -> None:
    """A pool that the garbage collector has taken is asked nothing more."""
    owner = started()
    del owner
    gc.collect()
    until(lambda: not running())


def test_a_child_has_one_thread_of_its_own() -> None:
    """Rounds go on in a forked worker, and do not double with each fork."""
    owner = started()

    def threads_of_child() -> int:
        before = owner.count
        until(lambda: owner.count > before + 1)
        return len(running())

    assert in_child(threads_of_child) == 1
    owner.rounds.stop()
    until(lambda: not running())


def test_a_child_probes_what_its_parent_was_probing() -> None:
    """A worker that was forked during a probe took it for one of its own, and never probed that endpoint again."""
    parent, hung, release = os.getpid(), threading.Event(), threading.Event()
    nodes = BarePool(Endpoint("a"))
    nodes.breakers["a"].reconfigure(open_for="1ms", max_open_for="1ms")

    def probe(endpoint: Endpoint) -> bool:
        hung.set()
        return os.getpid() != parent or release.wait(60.0)

    probing = Probing(nodes, probe)
    nodes.fail("a")
    while not hung.is_set():
        probing.round()
        hung.wait(0.001)

    def probes_of_child() -> int:
        for _ in range(2):  # a breaker closes after two
            probing.round()
            for thread in threading.enumerate():
                if thread is not threading.current_thread():
                    thread.join()
        return ["closed", "half_open", "open"].index(nodes.breakers["a"].state)

    assert in_child(probes_of_child) == 0
    release.set()
    until(lambda: nodes.done)


def test_rounds_that_are_started_twice_run_once() -> None:
    """A second thread would ask twice as often, and the first could be stopped by none."""
    owner = started()
    owner.rounds.start()
    assert len(running()) == 1
    owner.rounds.stop()
    until(lambda: not running())
