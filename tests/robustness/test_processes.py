"""Fork, pickling, and the end of the interpreter with calls in flight. Each script runs in a process of its own."""

from __future__ import annotations

import copy
import os
import pickle
import subprocess
import sys
import textwrap
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

import resilio
from resilio import bulkhead, circuit_breaker, custom_gate, errors, pipeline, policy_of, rate_limit
from resilio.errors import RejectedError

needs_fork = pytest.mark.skipif(not hasattr(os, "fork"), reason="there is no fork here")

PRELUDE = """
import asyncio, gc, os, sys, threading, time
import anyio
from resilio import *
from resilio.testing import assert_no_leaks

def forked(child):
    '''Run `child` in a fork; it must end by returning.'''
    pid = os.fork()
    if pid == 0:
        code = 1
        try:
            child()
            code = 0
        except BaseException:
            import traceback
            traceback.print_exc()
        finally:
            os._exit(code)
    assert os.waitpid(pid, 0)[1] == 0, "the child failed"
"""


def run(source: str) -> str:
    """Run a script to its end and return what it printed; anything on stderr is a failure."""
    root = str(Path(resilio.__file__).parents[1])
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join([root, os.environ.get("PYTHONPATH", "")])}
    command = [sys.executable, "-W", "error", "-X", "faulthandler", "-c", PRELUDE + textwrap.dedent(source)]
    done = subprocess.run(command, env=environment, capture_output=True, text=True, timeout=120, check=False)
    assert (done.returncode, done.stderr) == (0, ""), f"exit code {done.returncode}\n{done.stderr}"
    return done.stdout


# ---- fork ------------------------------------------------------------------------------------------------------------


@needs_fork
def test_a_child_starts_with_nothing_held() -> None:
    """Permits that the parent holds are free in the child, and theirs stay held in the parent."""
    run("""
        pool = bulkhead(2)
        breaker = circuit_breaker(consecutive=1, open_for=0.001)
        permits = [pool.acquire(), pool.acquire()]
        held = breaker.acquire()

        def child():
            assert pool.available == 2 and pool.snapshot().inflight == 0
            assert_no_leaks()
            mine = [pool.try_acquire() for _ in range(3)]
            assert [bool(permit) for permit in mine] == [True, True, False]
            for permit in mine[:2]:
                permit.success()
            for permit in permits:          # results from before the fork are dropped
                permit.failure()
            held.failure()
            assert pool.available == 2 and pool.snapshot().inflight == 0
            assert breaker.snapshot().state == "closed" and breaker.snapshot().failures == 0
            assert_no_leaks()

        forked(child)
        assert pool.available == 0
        for permit in permits:
            permit.success()
        held.ignore()
        assert_no_leaks()
    """)


@needs_fork
def test_a_child_keeps_the_state_and_has_a_life_of_its_own() -> None:
    """An open breaker is open in the child, spent tokens are spent, and neither process sees the other's calls."""
    run("""
        breaker = circuit_breaker(consecutive=1, open_for=60, max_open_for=60)
        limit = rate_limit("1/h", burst=2)
        def fail(): raise OSError
        try: breaker.call(fail)
        except OSError: pass
        assert limit.try_acquire()

        def child():
            assert breaker.state == "open"
            breaker.reset()
            assert bool(limit.try_acquire()) and not limit.try_acquire()

        forked(child)
        assert breaker.state == "open"
        assert bool(limit.try_acquire()) and not limit.try_acquire()
    """)


@needs_fork
def test_a_child_has_no_waiters() -> None:
    """Tasks and threads that wait in the parent are not in the child's queues; in the parent they get their turn."""
    run("""
        import warnings
        warnings.simplefilter("ignore", DeprecationWarning)    # a fork with threads around: that is the point
        pool = bulkhead(1, max_queued=10, max_wait=60)
        limit = rate_limit("1000/s", burst=1, max_wait=60)
        permit = pool.acquire()
        done = []

        def wait():
            with pool:
                done.append(1)

        threads = [threading.Thread(target=wait) for _ in range(4)]
        for thread in threads: thread.start()
        while pool.snapshot().queued < 4: time.sleep(0.001)
        # Without the GIL a thread on its way to its wait may hold the lock of sys.modules: a fork would copy it taken.
        def frame(thread): return sys._current_frames()[thread.ident].f_code.co_filename
        while not all(frame(thread).endswith("threads.py") for thread in threads): time.sleep(0.001)

        def child():
            assert pool.snapshot().queued == 0 and pool.available == 1
            assert pool.call(lambda: 5) == 5
            asyncio.run(anyio.sleep(0))
            async def main():
                async def one():
                    async with pool: await asyncio.sleep(0.001)
                await asyncio.gather(*[one() for _ in range(5)])
            asyncio.run(main())
            assert_no_leaks()

        forked(child)
        assert pool.snapshot().queued == 4
        permit.success()
        for thread in threads: thread.join()
        assert len(done) == 4
        assert_no_leaks()
    """)


@needs_fork
def test_a_fork_inside_a_call_ends_it_in_both() -> None:
    """A call that forks returns in both processes; the child's end of it counts for nothing."""
    run("""
        pool, breaker = bulkhead(1), circuit_breaker(consecutive=1)
        pid = None

        @breaker
        @pool
        def call():
            global pid
            pid = os.fork()
            if pid == 0: raise OSError("in the child")

        try:
            call()
        except OSError:
            ok = breaker.state == "closed" and pool.available == 1 and pool.snapshot().inflight == 0
            ok = ok and pool.call(lambda: True)
            os._exit(0 if ok else 1)
        assert os.waitpid(pid, 0)[1] == 0
        assert breaker.snapshot().successes == 1
        assert_no_leaks()
    """)


@needs_fork
def test_forked_workers_of_a_pool_work() -> None:
    """Policies made before a pool of forked workers guard calls in each of them."""
    run("""
        import multiprocessing
        pool = bulkhead(2, name="pool")
        breaker = circuit_breaker("breaker")
        held = pool.acquire()

        @breaker
        @pool
        def square(number):
            return number * number

        if __name__ == "__main__":
            with multiprocessing.get_context("fork").Pool(2) as workers:
                assert workers.map(square, range(50)) == [n * n for n in range(50)]
            held.success()
            assert_no_leaks()
    """)


# ---- pickling --------------------------------------------------------------------------------------------------------


@bulkhead(3)
def guarded(value: int) -> int:
    """Be guarded, at module level."""
    return value + 1


@circuit_breaker
async def async_guarded() -> None:
    """Be guarded, at module level."""


def rejections() -> list[RejectedError]:
    """Return one rejection of each policy, as they are raised."""
    full, spent, opened = bulkhead(1), rate_limit("1/h"), circuit_breaker("opened", initial="forced_open")
    permits = [full.acquire(), spent.acquire()]
    found = []
    for policy in (full, spent, opened):
        with pytest.raises(RejectedError) as caught:
            policy.call(print)
        found.append(caught.value)
    for permit in permits:
        permit.ignore()
    return found


FIELDS = ("policy", "name", "reason", "measured", "limit", "retry_after", "called")


@pytest.mark.parametrize("protocol", range(pickle.HIGHEST_PROTOCOL + 1))
def test_rejections_survive_pickling(protocol: int) -> None:
    """Type, text and every field are the same after a round trip."""
    for error in rejections():
        error.add_note("noted")
        again = pickle.loads(pickle.dumps(error, protocol))
        assert type(again) is type(error)
        assert str(again) == str(error)
        assert [getattr(again, field) for field in FIELDS] == [getattr(error, field) for field in FIELDS]
        assert again.__notes__ == ["noted"]
        assert str(copy.copy(error)) == str(copy.deepcopy(error)) == str(error)


@pytest.mark.parametrize("name", errors.__all__)
def test_every_error_class_survives_pickling(name: str) -> None:
    """Also those that no policy of today raises."""
    kind = getattr(errors, name)
    if issubclass(kind, RejectedError):
        error = kind("bulkhead", "n", "full", 1.0, 2.0, 3.0)
    else:
        error = kind(2.0, 0.5, 1.0) if kind is errors.DeadlineExceededError else kind("text")
    again = pickle.loads(pickle.dumps(error))
    assert (type(again), str(again)) == (kind, str(error))


def test_guarded_functions_are_pickled_by_name() -> None:
    """A guarded function of a module comes back as itself."""
    module = sys.modules[__name__]
    if sys.modules.get(module.__name__) is not module:
        pytest.skip("this module cannot be imported by its name here")
    assert pickle.loads(pickle.dumps(guarded)) is guarded
    assert pickle.loads(pickle.dumps(async_guarded)) is async_guarded


def test_named_policies_are_pickled_by_name() -> None:
    """A named policy comes back as the policy of that name; an unnamed one says to give it a name."""
    for policy in (circuit_breaker("one"), bulkhead(2, name="two"), rate_limit("1/s", name="three")):
        assert pickle.loads(pickle.dumps(policy)) is policy
        assert copy.deepcopy(policy) is policy
    stack = pipeline(circuit_breaker("one"), bulkhead(2, name="two"), name="four")
    assert pickle.loads(pickle.dumps(stack)) is stack
    with pytest.raises(TypeError, match="give it a name"):
        pickle.dumps(bulkhead(2))
    assert policy_of(guarded).call(guarded.__wrapped__, 1) == 2


UNPICKLABLE: dict[str, Callable[[], Any]] = {
    "permit": lambda: bulkhead(1).acquire(),
    "gate": lambda: bulkhead(1).gates[0],
    "call": lambda: bulkhead(1).acall(print),
    "custom gate": lambda: custom_gate(_Gate()).gates[0],
}


class _Gate:
    def admit(self, call: Any) -> None:
        """Admit."""

    def settle(self, call: Any, outcome: Any, seconds: float) -> None:
        """Learn nothing."""


@pytest.mark.parametrize("what", list(UNPICKLABLE))
def test_what_belongs_to_this_process_is_not_pickled(what: str) -> None:
    """A permit, a gate and a call under way mean nothing elsewhere: TypeError, not a broken copy."""
    thing = UNPICKLABLE[what]()
    with pytest.raises(TypeError):
        pickle.dumps(thing)
    if hasattr(thing, "close"):
        thing.close()


def test_a_spawned_process_finds_policies_and_functions(tmp_path: Path) -> None:
    """Functions and named policies sent to a process that starts afresh are its own there."""
    (tmp_path / "service.py").write_text(
        textwrap.dedent("""
            from resilio import bulkhead
            pool = bulkhead(2, name="pool")

            @pool
            def square(number):
                return number * number

            def use(policy, number):
                assert policy is pool
                return policy.call(square.__wrapped__, number)
        """)
    )
    run(f"""
        import multiprocessing
        sys.path.insert(0, {str(tmp_path)!r})
        import service
        if __name__ == "__main__":
            with multiprocessing.get_context("spawn").Pool(1) as workers:
                assert workers.map(service.square, range(5)) == [0, 1, 4, 9, 16]
                assert workers.starmap(service.use, [(service.pool, 3)]) == [9]
    """)


# ---- the end of the interpreter --------------------------------------------------------------------------------------


ENDINGS = {
    "permits, blocks and streams in globals": """
        pool = bulkhead(9)
        permit = pool.acquire()
        block = pool.permit()
        block.__enter__()

        @pool
        def stream():
            yield 1
            yield 2

        items = stream()
        next(items)
        cycle = [pool.acquire()]
        cycle.append(cycle)
    """,
    "a call under way in a coroutine that nobody drives": """
        pool = bulkhead(9, max_queued=5, max_wait=60)

        @pool
        async def call():
            class Pause:
                def __await__(self):
                    yield
            await Pause()

        running = call()
        running.send(None)
    """,
    "tasks that run and wait in a loop that is never closed": """
        pool = bulkhead(1, max_queued=5, max_wait=60)

        @pool
        async def call():
            await asyncio.sleep(60)

        loop = asyncio.new_event_loop()
        tasks = [loop.create_task(call()) for _ in range(3)]
        loop.run_until_complete(asyncio.sleep(0.01))
        for task in tasks:
            task._log_destroy_pending = False
        import warnings
        warnings.simplefilter("ignore", ResourceWarning)        # the loop itself
    """,
    "daemon threads in a queue and in a call": """
        pool = bulkhead(1, max_queued=5, max_wait=60)
        limit = rate_limit("1/h", burst=1, max_wait=86400, max_queued=9)
        limit.acquire()

        def call(policy):
            policy.call(time.sleep, 60)

        for policy in (pool, pool, pool, limit):
            threading.Thread(target=call, args=(policy,), daemon=True).start()
        while pool.snapshot().queued < 2 or limit.snapshot().queued < 1:
            time.sleep(0.001)
    """,
    "a rejection, a listener and an exporter at exit": """
        import atexit
        from resilio import events
        from resilio.events import Rejected, Settled, StateChanged
        breaker = circuit_breaker(consecutive=1)
        events.subscribe(lambda event: None, kinds=[Rejected, Settled, StateChanged])

        def fail():
            raise OSError

        @atexit.register
        def last():
            for _ in range(3):
                try:
                    breaker.call(fail)
                except (OSError, CircuitOpenError):
                    pass
            print("rejected", breaker.snapshot().rejected)
    """,
    "a breaker that trips in the last collection": """
        breaker = circuit_breaker(consecutive=1)

        class Last:
            def __del__(self):
                breaker.acquire().failure()

        last = Last()
        cycle = [last]
        cycle.append(cycle)
    """,
}


@pytest.mark.parametrize("ending", list(ENDINGS))
def test_the_interpreter_ends_quietly(ending: str) -> None:
    """It ends with exit code 0 and not a word, with things held, waiting and under way."""
    run(ENDINGS[ending])


def test_an_exception_ends_the_interpreter_as_ever() -> None:
    """SystemExit from inside a guarded call and a queue's block ends the process with its code."""
    source = """
        pool = bulkhead(1, max_queued=3, max_wait=60)
        with pool:
            bulkhead(2).call(sys.exit, 7)
    """
    with pytest.raises(AssertionError, match="exit code 7"):
        run(source)


@needs_fork
def test_a_child_has_timers_of_its_own() -> None:
    """A child forked out of a running loop arms none there; in a loop of its own it arms, fires and drops old ones."""
    run("""
        from resilio._native.core import Timer

        def child(old):
            try:
                Timer(print).arm(1.0)
            except RuntimeError:
                pass
            else:
                raise AssertionError("armed in the parent's loop")
            old.clear()
            asyncio._set_running_loop(None)

            async def main():
                done = asyncio.Event()
                timer = Timer(done.set)
                timer.arm(0.001)
                await asyncio.wait_for(done.wait(), 30)
            asyncio.run(main())

        async def main():
            timers = [Timer(print) for _ in range(3)]
            for timer in timers:
                timer.arm(1000.0)
            forked(lambda: child(timers))
            assert all(timer.armed for timer in timers)

        asyncio.run(main())
        """)
