"""Timers in real loops: asyncio, eager tasks, uvloop, loops with habits of their own; in threads; when loops end."""

from __future__ import annotations

import asyncio
import contextvars
import gc
import itertools
import subprocess
import sys
import threading
import time
import weakref
from collections.abc import Callable
from typing import Any, ClassVar

import pytest

from resilio._native import clock
from resilio._native.core import Timer
from resilio.testing import virtual_time

MS = 1_000_000
VARIABLE = contextvars.ContextVar("VARIABLE", default="default")


def eager_loop() -> asyncio.AbstractEventLoop:
    loop = asyncio.new_event_loop()
    loop.set_task_factory(asyncio.eager_task_factory)  # type: ignore[attr-defined]
    return loop


try:
    import uvloop
except ImportError:  # there is none for every Python
    REAL: list[Any] = [asyncio.new_event_loop]
else:
    REAL = [asyncio.new_event_loop, uvloop.new_event_loop]
LOOPS = list(REAL)
if sys.version_info >= (3, 12):
    LOOPS.append(eager_loop)


class CountingLoop(asyncio.SelectorEventLoop):
    """Counts the timers that it is asked for, and may reject one."""

    timers = 0
    rejections: list[BaseException]

    def call_at(self, when: float, callback: Any, *args: Any, context: Any = None) -> asyncio.TimerHandle:
        if getattr(self, "rejections", None):
            raise self.rejections.pop()
        self.timers += 1
        return super().call_at(when, callback, *args, context=context)


def run(factory: Callable[[], asyncio.AbstractEventLoop], main: Callable[[], Any]) -> Any:
    with asyncio.Runner(loop_factory=factory) as runner:
        return runner.run(main())


def wheels() -> int:
    """How many wheels there are in the process."""
    gc.collect()
    return sum(type(found).__name__ == "Wheel" for found in gc.get_objects())


@pytest.mark.parametrize("factory", LOOPS)
def test_timers_fire_in_order_and_never_early(factory: Any) -> None:
    """In a real loop timers come in the order of their times, none before its time."""

    async def main() -> None:
        done, fired = asyncio.Event(), []

        def fire(due: int) -> None:
            fired.append((due, clock.now_ns()))
            if len(fired) == 20:
                done.set()

        armed = {}
        timers = [Timer(fire, after) for after in range(40, 0, -2)]
        for timer, after in zip(timers, range(40, 0, -2), strict=True):
            before = clock.now_ns()
            timer.arm(after / 1e3)
            armed[after] = (before + after * MS, clock.now_ns() + after * MS)  # apart where it was kept from running
        await asyncio.wait_for(done.wait(), 30)
        assert sorted(due for due, _ in fired) == list(range(2, 42, 2))
        for (one, _), (next_one, _) in itertools.pairwise(fired):
            assert armed[one][0] <= armed[next_one][1] + MS  # those of one tick come in any order
        assert all(at >= armed[due][0] for due, at in fired)

    run(factory, main)


@pytest.mark.parametrize("factory", LOOPS)
def test_a_timer_may_be_armed_again_while_it_fires(factory: Any) -> None:
    """A callback arms its own timer, for now and for later, and each firing is one turn of the loop at least."""

    async def main() -> None:
        done, left = asyncio.Event(), [0.002, 0.0, 0.0, 0.001]

        def fire() -> None:
            assert not timer.armed
            if left:
                timer.arm(left.pop())
            else:
                done.set()

        timer = Timer(fire)
        timer.arm(0.0)
        await asyncio.wait_for(done.wait(), 30)

    run(factory, main)


def test_a_timer_that_is_disarmed_costs_the_loop_nothing() -> None:
    """A thousand timeouts that do not come true are one timer of the loop."""

    async def main() -> None:
        loop: Any = asyncio.get_running_loop()
        timer = Timer(print)
        for _ in range(1000):
            timer.arm(30.0)
            timer.disarm()
        assert loop.timers == len(loop._scheduled) == 1

    run(CountingLoop, main)


def test_the_timer_of_the_loop_moves_to_what_is_due_first() -> None:
    """An earlier timer replaces the loop's timer; the other one still comes."""

    async def main() -> None:
        loop: Any = asyncio.get_running_loop()
        done = asyncio.Event()
        late, early = Timer(done.set), Timer(lambda: None)
        late.arm(0.02)
        early.arm(0.01)
        assert loop.timers == 2
        assert sum(not handle.cancelled() for handle in loop._scheduled) == 1
        await asyncio.wait_for(done.wait(), 30)

    run(CountingLoop, main)


def test_callbacks_run_in_a_context_of_their_own() -> None:
    """What the context of whoever armed first holds is neither seen nor kept alive."""

    async def main() -> None:
        VARIABLE.set("changed")
        seen: asyncio.Future[str] = asyncio.get_running_loop().create_future()
        timer = Timer(lambda: seen.set_result(VARIABLE.get()))
        timer.arm(0.001)
        assert await asyncio.wait_for(seen, 30) == "default"

    asyncio.run(main())


def test_an_error_in_a_callback_is_reported_and_loses_no_other_timer(monkeypatch: pytest.MonkeyPatch) -> None:
    """Timers that are due together all fire, though each of them raises."""
    reported: list[Any] = []
    monkeypatch.setattr(sys, "unraisablehook", lambda args: reported.append(args.exc_type))

    async def main() -> None:
        def fail() -> None:
            raise ZeroDivisionError

        timers = [Timer(fail) for _ in range(3)]
        for timer in timers:
            timer.arm(0.001)
        while any(timer.armed for timer in timers):  # noqa: ASYNC110 - what fires is what is tested
            await asyncio.sleep(0.001)

    asyncio.run(main())
    assert reported == [ZeroDivisionError] * 3


def test_an_interrupt_in_a_callback_reaches_the_loop_once_all_have_fired(monkeypatch: pytest.MonkeyPatch) -> None:
    """What is no Exception goes on into the loop; a second one is reported."""
    reported: list[Any] = []
    monkeypatch.setattr(sys, "unraisablehook", lambda args: reported.append(args.exc_type))
    loop, fired = asyncio.new_event_loop(), []

    def interrupt() -> None:
        fired.append("fired")
        raise SystemExit(len(fired))

    timers = [Timer(interrupt), Timer(interrupt), Timer(fired.append, "last")]

    async def main() -> None:
        for timer in timers:
            timer.arm(0.001)
        time.sleep(0.005)  # noqa: ASYNC251 - all of them are due when the loop looks next
        await asyncio.sleep(30)

    task = loop.create_task(main())
    with pytest.raises(SystemExit) as raised:
        loop.run_until_complete(task)
    assert raised.value.code == 1
    assert fired == ["fired", "fired", "last"]
    assert reported == [SystemExit]
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        loop.run_until_complete(task)
    loop.close()


def test_no_timer_is_armed_where_no_loop_runs() -> None:
    """Outside of a running asyncio loop there is nobody to fire it, also where asyncio was never imported."""

    async def main() -> None:
        pass

    asyncio.run(main())
    with pytest.raises(RuntimeError, match="no running event loop"):
        Timer(print).arm(1.0)
    code = """
from resilio._native.core import Timer
import sys
for name in [name for name in sys.modules if name.startswith("asyncio")]:
    del sys.modules[name]
try:
    Timer(print).arm(1.0)
except RuntimeError as error:
    print(error)
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout == "no running event loop\n"


@pytest.mark.parametrize("seconds", [-1.0, float("nan")])
def test_what_is_no_duration_is_rejected(seconds: float) -> None:
    """A negative time and NaN are named in the error."""
    with pytest.raises(ValueError, match=f"seconds must be a number >= 0, not {seconds}"):
        Timer(print).arm(seconds)


def test_what_is_no_number_or_no_function_is_rejected() -> None:
    """Nonsense is rejected where it is given."""
    with pytest.raises(TypeError):
        Timer(print).arm("1")  # type: ignore[arg-type]
    with pytest.raises(TypeError, match="callback must be callable, not 1"):
        Timer(1)  # type: ignore[arg-type]
    with pytest.raises(TypeError, match="callback must be callable"):
        Timer()  # type: ignore[call-arg]
    with pytest.raises(TypeError, match="no keyword arguments"):
        Timer(print, end="")  # type: ignore[call-arg]


def test_a_timer_for_never_is_armed_and_keeps_nobody_else_from_firing() -> None:
    """An infinite time is a time."""

    async def main() -> None:
        never, done = Timer(print), asyncio.Event()
        never.arm(float("inf"))
        timer = Timer(done.set)
        timer.arm(0.001)
        await asyncio.wait_for(done.wait(), 30)
        assert never.armed

    for factory in REAL:
        run(factory, main)


def test_a_loop_that_rejects_a_timer_leaves_ours_disarmed() -> None:
    """What call_later raises comes out of arm; the timers before it, and the next one, are not harmed."""

    async def main() -> None:
        loop: Any = asyncio.get_running_loop()
        first, second, done = Timer(lambda: None), Timer(lambda: None), asyncio.Event()
        loop.rejections = [MemoryError()]
        with pytest.raises(MemoryError):
            first.arm(0.02)
        assert not first.armed
        first.arm(0.02)
        loop.rejections = [MemoryError()]
        with pytest.raises(MemoryError):
            second.arm(0.01)
        assert (first.armed, second.armed) == (True, False)
        third = Timer(done.set)
        third.arm(0.01)
        await asyncio.wait_for(done.wait(), 30)
        while first.armed:  # noqa: ASYNC110 - what fires is what is tested
            await asyncio.sleep(0.001)

    run(CountingLoop, main)


def test_a_loop_that_rejects_once_while_firing_is_asked_again(monkeypatch: pytest.MonkeyPatch) -> None:
    """A signal handler that raises while the loop's timer is set for the next one is reported, and loses nothing."""
    reported: list[Any] = []
    monkeypatch.setattr(sys, "unraisablehook", lambda args: reported.append(args.exc_type))

    async def main() -> None:
        loop: Any = asyncio.get_running_loop()
        done = asyncio.Event()
        first, second = Timer(lambda: loop.__setattr__("rejections", [ZeroDivisionError()])), Timer(done.set)
        first.arm(0.001)
        second.arm(0.1)
        await asyncio.wait_for(done.wait(), 30)

    run(CountingLoop, main)
    assert reported == [ZeroDivisionError]


def test_a_finaliser_that_arms_while_the_loop_is_asked_is_not_overslept() -> None:
    """A timer armed in the midst of arming another one, and due before it, is on time; the alarm before goes once."""

    class Loop(CountingLoop):
        inner: Timer | None = None
        handles: ClassVar[list[asyncio.TimerHandle]] = []

        def call_at(self, when: float, callback: Any, *args: Any, context: Any = None) -> asyncio.TimerHandle:
            inner, self.inner = self.inner, None
            if inner is not None:
                inner.arm(0.002)
            self.handles.append(super().call_at(when, callback, *args, context=context))
            return self.handles[-1]

    async def main() -> None:
        loop: Any = asyncio.get_running_loop()
        done = asyncio.Event()
        inner, outer, later = Timer(done.set), Timer(print), Timer(print)
        later.arm(2000.0)
        known = weakref.ref(loop.handles[0])  # the same object for all that refer weakly
        count = sys.getrefcount(known)
        loop.inner = inner
        outer.arm(1000.0)
        assert sys.getrefcount(known) == count - 1
        await asyncio.wait_for(done.wait(), 30)
        assert outer.armed
        assert [handle.cancelled() for handle in loop.handles[:3]] == [True, False, True]  # the loop keeps one alarm

    run(Loop, main)


def test_a_closed_loop_fires_nothing_and_is_freed() -> None:
    """Timers pending at the end of a loop stay silent, keep no loop alive, and may be armed in the next one."""
    fired: list[str] = []
    timer = Timer(fired.append, "fired")

    async def main() -> weakref.ref[Any]:
        timer.arm(1000.0)  # not while the loop is being closed, however long that takes
        return weakref.ref(asyncio.get_running_loop())

    for factory in REAL:
        loop = run(factory, main)
        gc.collect()
        assert loop() is None
        assert timer.armed

    async def again() -> None:
        timer.arm(0.001)
        while timer.armed:  # noqa: ASYNC110 - what fires is what is tested
            await asyncio.sleep(0.001)

    asyncio.run(again())
    assert fired == ["fired"]


def test_the_wheels_of_threads_and_loops_that_are_gone_are_freed() -> None:
    """Loops one after the other and in threads leave at most the one wheel that this thread will use again."""

    async def main() -> None:
        timer = Timer(print)
        timer.arm(1000.0)
        await asyncio.sleep(0)

    asyncio.run(main())
    before = wheels()
    for _ in range(5):
        asyncio.run(main())
        thread = threading.Thread(target=asyncio.run, args=(main(),))
        thread.start()
        thread.join()
    assert wheels() == before


def test_loops_that_take_turns_in_a_thread_each_fire_their_own() -> None:
    """A timer belongs to the loop in which it was armed."""
    loops = [asyncio.new_event_loop(), asyncio.new_event_loop()]
    fired: list[Any] = []
    timers = [Timer(lambda: fired.append(asyncio.get_running_loop())) for _ in range(4)]

    async def arm(timer: Timer) -> None:
        timer.arm(0.001)

    for timer, loop in zip(timers, loops * 2, strict=True):
        loop.run_until_complete(arm(timer))
    for loop in loops:
        while fired.count(loop) < 2:
            loop.run_until_complete(asyncio.sleep(0.001))
        assert len(fired) == 2 * (loops.index(loop) + 1)
        loop.close()


def test_a_timer_dropped_or_disarmed_in_another_thread_does_not_fire() -> None:
    """The collector may drop a timer in any thread."""

    async def main() -> None:
        fired: list[str] = []
        timers = [Timer(fired.append, "fired") for _ in range(100)]
        for timer in timers:
            timer.arm(0.02)
        del timer
        for ends in (lambda: [timer.disarm() for timer in timers[50:]], timers.clear):
            thread = threading.Thread(target=ends)
            thread.start()
            thread.join()  # the loop stands meanwhile: none of them fires before
        await asyncio.sleep(0.03)
        assert fired == []

    for factory in LOOPS:
        run(factory, main)


def test_arming_and_dropping_in_threads_at_once() -> None:
    """Loops in three threads arm, a fourth thread drops: who is dropped does not fire, everybody else does, once."""
    fired: list[int] = []
    dropped: list[Timer] = []
    over = threading.Event()

    def drop() -> None:
        while not over.is_set():
            while dropped:
                dropped.pop()

    async def main() -> None:
        kept = []
        for number in range(300):
            timer = Timer(fired.append, number)
            timer.arm(number % 7 / 1e3)
            kept.append(timer)
            other = Timer(fired.append, -1)
            other.arm(1000.0)
            dropped.append(other)
            del other
            if number % 10 == 0:
                await asyncio.sleep(0)
        while any(timer.armed for timer in kept):  # noqa: ASYNC110 - what fires is what is tested
            await asyncio.sleep(0.001)

    threads = [threading.Thread(target=asyncio.run, args=(main(),)) for _ in range(3)]
    dropper = threading.Thread(target=drop)
    for thread in [dropper, *threads]:
        thread.start()
    for thread in threads:
        thread.join()
    over.set()
    dropper.join()
    assert sorted(fired) == sorted(list(range(300)) * 3)


def test_a_timer_in_a_cycle_is_collected() -> None:
    """Armed or not, a timer whose callback leads back to it is garbage when nobody else holds it."""

    class Holder:
        def __init__(self) -> None:
            self.timer = Timer(self.fire, self)

        def fire(self, _: Holder) -> None:
            raise AssertionError("it was dropped")

    async def main() -> None:
        holder = Holder()
        holder.timer.arm(0.001)
        known = weakref.ref(holder)
        del holder
        gc.collect()
        assert known() is None
        await asyncio.sleep(0.005)

    asyncio.run(main())


@pytest.mark.untraced
def test_in_virtual_time_an_empty_wheel_does_not_hold_the_clock() -> None:
    """A timeout that did not come true is no time to jump to, in whatever thread it was dropped."""

    async def main() -> None:
        loop: Any = asyncio.get_running_loop()
        timer = Timer(print)
        timer.arm(5.0)
        timer.disarm()
        assert all(handle.cancelled() for handle in loop._scheduled)
        timer.arm(5.0)
        await asyncio.to_thread(timer.disarm)
        await asyncio.sleep(0)
        await asyncio.sleep(0)
        assert all(handle.cancelled() for handle in loop._scheduled)
        timer.arm(5.0)

    with virtual_time() as vt:
        vt.run(main)
        assert vt.now == 0


def test_a_timer_outlives_its_loop_in_virtual_time() -> None:
    """Disarming in another thread after the loop was closed asks nothing of it."""
    timer = Timer(print)

    async def main() -> None:
        timer.arm(5.0)

    with virtual_time() as vt:
        loop = vt.loop_factory()
        loop.run_until_complete(main())
        loop.close()
        thread = threading.Thread(target=timer.disarm)
        thread.start()
        thread.join()
    assert not timer.armed


def test_virtual_time_is_exact_to_the_millisecond() -> None:
    """Round durations end to the point, a day included."""

    async def main() -> None:
        for seconds in (0.001, 0.25, 2.0, 86400.0):
            done, before = asyncio.Event(), vt.now
            timer = Timer(done.set)
            timer.arm(seconds)
            await done.wait()
            assert vt.now - before == pytest.approx(seconds, abs=1e-9)

    with virtual_time() as vt:
        vt.run(main)


def test_a_loop_lives_through_the_beginning_and_the_end_of_virtual_time() -> None:
    """A timer is not lost when the library's clock is put forward and back under a loop in real time."""

    async def fires(seconds: float) -> None:
        done = asyncio.Event()
        timer = Timer(done.set)
        timer.arm(seconds)
        await asyncio.wait_for(done.wait(), 30)

    async def main() -> None:
        far = Timer(print)
        far.arm(1e6)
        await fires(0.002)
        clock.set_virtual(clock.now_ns() + 3600 * 10**9)
        try:
            await fires(0.06)
            await fires(0.003)
        finally:
            clock.clear_virtual()
        await fires(0.002)
        assert far.armed

    asyncio.run(main())


def test_a_loop_that_keeps_its_own_time_is_believed() -> None:
    """A loop that jumps by itself, while the library's clock is real, fires by the loop's time."""

    class Jumping(asyncio.SelectorEventLoop):
        at = 0.0

        def time(self) -> float:
            return self.at

        def _run_once(self) -> None:
            if not self._ready and self._scheduled:
                self.at = max(self.at, self._scheduled[0].when())
            super()._run_once()

    async def main() -> None:
        loop = asyncio.get_running_loop()
        for seconds in (1000.0, 5.0):
            done, before = asyncio.Event(), loop.time()
            timer = Timer(done.set)
            timer.arm(seconds)
            await done.wait()
            assert loop.time() - before == pytest.approx(seconds, abs=1.0)

    run(Jumping, main)


def test_a_loop_that_is_early_each_time_is_asked_a_few_times_only() -> None:
    """Loops round: a timer is not early for that, and the loop does not spin until it is due."""

    class Early(CountingLoop):
        def call_at(self, when: float, callback: Any, *args: Any, context: Any = None) -> asyncio.TimerHandle:
            return super().call_at(when - 0.002, callback, *args, context=context)

    async def main() -> None:
        loop: Any = asyncio.get_running_loop()
        done, start = asyncio.Event(), clock.now_ns()
        timer = Timer(done.set)
        timer.arm(0.05)
        await done.wait()
        assert clock.now_ns() - start >= 50_000_000
        assert loop.timers < 20

    run(Early, main)


class Handle:
    """A timer handle that cannot be weakly referenced."""

    __slots__ = ("handle",)

    def __init__(self, handle: asyncio.TimerHandle) -> None:
        self.handle = handle

    def cancel(self) -> None:
        self.handle.cancel()


class Rigid(asyncio.SelectorEventLoop):
    """Gives out handles that cannot be weakly referenced."""

    def call_later(self, delay: float, callback: Any, *args: Any, context: Any = None) -> Any:
        return Handle(super().call_later(delay, callback, *args, context=context))


class Stubborn(asyncio.SelectorEventLoop):
    """Gives out handles that cannot be cancelled."""

    def call_later(self, delay: float, callback: Any, *args: Any, context: Any = None) -> Any:
        handle = super().call_later(delay, callback, *args, context=context)
        if type(callback).__name__ != "Wheel":
            return handle
        held.append(_Stubborn(handle))
        return held[-1]


class _Stubborn(asyncio.TimerHandle):
    def __init__(self, handle: asyncio.TimerHandle) -> None:
        super().__init__(handle.when(), print, (), asyncio.get_running_loop())

    def cancel(self) -> None:
        raise ZeroDivisionError


held: list[Any] = []


@pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")
@pytest.mark.parametrize("factory", [Rigid, Stubborn])
def test_a_timer_of_the_loop_that_cannot_be_cancelled_fires_in_vain(factory: Any) -> None:
    """Handles without weak references, and such that reject to be cancelled, do no harm."""

    async def main() -> None:
        done = asyncio.Event()
        late, early = Timer(done.set), Timer(lambda: None)
        late.arm(0.01)
        early.arm(0.005)
        early.disarm()
        await asyncio.wait_for(done.wait(), 30)

    run(factory, main)
    held.clear()


def test_a_loop_that_cannot_be_weakly_referenced_works() -> None:
    """Loops written in C or with slots need not allow weak references."""

    class Slotted:
        __slots__ = ("inner",)

        def __init__(self, inner: Any) -> None:
            self.inner = inner

        def call_later(self, *args: Any, **kwargs: Any) -> Any:
            return self.inner.call_later(*args, **kwargs)

    async def main() -> None:
        loop = asyncio.get_running_loop()
        done = asyncio.Event()
        timers = [Timer(done.set), Timer(lambda: timers[2].arm(0.001)), Timer(lambda: None)]
        asyncio._set_running_loop(Slotted(loop))  # type: ignore[arg-type]
        try:
            timers[0].arm(0.01)
            timers[1].arm(0.005)
        finally:
            asyncio._set_running_loop(loop)
        await asyncio.wait_for(done.wait(), 30)

    asyncio.run(main())


def test_the_timer_of_the_loop_rejects_strange_calls() -> None:
    """What a loop holds of the wheel can be called by its number only."""

    async def main() -> None:
        loop: Any = asyncio.get_running_loop()
        timer = Timer(print)
        timer.arm(1000.0)
        wheel = loop._scheduled[0]._callback
        with pytest.raises(TypeError):
            wheel("strange")
        assert wheel(0) is None
        assert timer.armed

    asyncio.run(main())
