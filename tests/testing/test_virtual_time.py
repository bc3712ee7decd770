"""Virtual time: jumps instead of sleeping, on asyncio, trio and in threads, with the native clock in step."""

from __future__ import annotations

import asyncio
import gc
import math
import socket
import sys
import threading
import time
from collections.abc import Callable, Iterator
from functools import partial
from types import SimpleNamespace
from typing import Any

import anyio
import pytest
import trio

from resilio import _backends
from resilio._context import variables
from resilio._native import clock
from resilio.testing import DeadlockError, VirtualTime, _threads, virtual_event_loop, virtual_time

BACKENDS = ["asyncio", "trio"]


@pytest.fixture
def vt() -> Iterator[VirtualTime]:
    """Virtual time that gives up soon."""
    with virtual_time(patience=5) as vt:
        yield vt


class Waiter:
    """What the backends park, without a core."""

    def __init__(self) -> None:
        self.woken = False
        self.waker: Callable[[], None] | None = None

    def bind(self, waker: Callable[[], None]) -> bool:
        self.waker = waker
        return self.woken

    def unbind(self) -> None:
        self.waker = None

    def wake(self) -> None:
        self.woken = True
        if self.waker is not None:
            self.waker()


def park(seconds: float | None, waiter: Waiter | None = None) -> None:
    """Wait as a blocked thread does."""
    _backends.park_sync(waiter or Waiter(), seconds)


@pytest.mark.parametrize("backend", BACKENDS)
def test_sleeping_jumps_to_the_end_of_the_sleep(vt: VirtualTime, backend: str) -> None:
    """An hour's sleep takes no real time, and both clocks have moved by exactly an hour."""
    began = clock.now_ns()

    async def main() -> str:
        await anyio.sleep(3600)
        assert clock.now_ns() - began == 3600 * 10**9
        return "done"

    real = time.monotonic()
    assert vt.run(main, backend=backend) == "done"
    assert vt.now == 3600.0
    assert time.monotonic() - real < 60


@pytest.mark.parametrize("backend", BACKENDS)
def test_sleepers_wake_in_the_order_of_their_times(vt: VirtualTime, backend: str) -> None:
    """Tasks run at their own times, and see that time on the loop's clock and on the native one."""
    seen: list[tuple[float, float, float]] = []
    began = clock.now_ns()

    async def sleeper(seconds: float) -> None:
        await anyio.sleep(seconds)
        seen.append((seconds, anyio.current_time(), (clock.now_ns() - began) / 1e9))

    async def main() -> None:
        async with anyio.create_task_group() as group:
            for seconds in (3.0, 0.1, 2.5, 1e-6, 0.7, 86400.0 * 3):
                group.start_soon(sleeper, seconds)

    vt.run(main, backend=backend)
    assert [row[0] for row in seen] == [1e-6, 0.1, 0.7, 2.5, 3.0, 86400.0 * 3]
    for wanted, loop_time, native in seen:
        assert loop_time == pytest.approx(wanted, abs=2e-9)
        assert native == pytest.approx(wanted, abs=2e-9)


@pytest.mark.parametrize("backend", BACKENDS)
def test_timeouts_fire_at_their_time(vt: VirtualTime, backend: str) -> None:
    """A cancel scope ends its sleep at its own deadline, not at the sleep's."""

    async def main() -> None:
        with anyio.move_on_after(1.5) as scope:
            await anyio.sleep(10)
        assert scope.cancelled_caught

    vt.run(main, backend=backend)
    assert vt.now == pytest.approx(1.5, abs=2e-9)


@pytest.mark.untraced  # others trace the same lines in less time
@pytest.mark.parametrize("backend", BACKENDS)
def test_many_short_sleeps_add_up(vt: VirtualTime, backend: str) -> None:
    """Ten thousand sleeps of 0.1 s are 1,000 s: no rounding error builds up, and none is lost or doubled."""

    async def main() -> None:
        for _ in range(10_000):
            await anyio.sleep(0.1)

    vt.run(main, backend=backend)
    assert vt.now == pytest.approx(1000.0, abs=1e-4)


@pytest.mark.parametrize("backend", BACKENDS)
def test_time_goes_on_over_several_runs(vt: VirtualTime, backend: str) -> None:
    """The second run begins where the first one ended, on the loop's clock too."""

    async def main() -> float:
        await anyio.sleep(5)
        return anyio.current_time()

    assert vt.run(main, backend=backend) == 5.0
    vt.advance(2)
    assert vt.run(main, backend=backend) == 12.0


@pytest.mark.parametrize("backend", BACKENDS)
def test_advance_inside_a_loop_moves_its_timers(vt: VirtualTime, backend: str) -> None:
    """A step by hand makes the timers due that it passes."""

    async def main() -> None:
        with anyio.move_on_after(10) as scope:
            vt.advance(11)
            await anyio.sleep(5)
        assert scope.cancelled_caught
        assert anyio.current_time() == pytest.approx(11.0, abs=2e-9)

    vt.run(main, backend=backend)


@pytest.mark.parametrize("backend", BACKENDS)
def test_arguments_results_and_errors_pass(vt: VirtualTime, backend: str) -> None:
    """`run` hands arguments in, and results and exceptions out unchanged."""

    async def main(value: int) -> int:
        if value < 0:
            raise LookupError(value)
        return value + 1

    assert vt.run(main, 41, backend=backend) == 42
    with pytest.raises(LookupError, match="-1"):
        vt.run(main, -1, backend=backend)


@pytest.mark.untraced  # traced, the work is so slow that the clock of trio has jumped before it began
@pytest.mark.parametrize("backend", BACKENDS)
def test_work_in_a_thread_takes_no_virtual_time(vt: VirtualTime, backend: str) -> None:
    """A timeout does not fire while a worker thread is at work: the clock stands still until it is done."""

    def work() -> float:
        time.sleep(0.05)
        return vt.now

    async def main() -> None:
        with anyio.fail_after(1):
            assert await anyio.to_thread.run_sync(work) == 0.0
        assert vt.now == 0.0
        await anyio.sleep(7)

    vt.run(main, backend=backend)
    assert vt.now == 7.0


@pytest.mark.untraced
@pytest.mark.parametrize("busy", [False, True])
def test_a_worker_that_was_there_before_takes_no_virtual_time_either(busy: bool) -> None:
    """trio keeps the threads of earlier runs: one that gets a job in virtual time is at work like any other."""
    begun, over = threading.Event(), threading.Event()

    def earlier() -> None:
        begun.set()
        over.wait()

    async def before() -> None:
        async with trio.open_nursery() as nursery:
            nursery.start_soon(trio.to_thread.run_sync, earlier)
            await trio.to_thread.run_sync(begun.wait)
            if not busy:
                over.set()

    async def main() -> None:
        over.set()
        await trio.sleep(3)
        before = vt.now
        with trio.fail_after(1):
            await trio.to_thread.run_sync(time.sleep, 0.05)
        assert vt.now == before

    runner = threading.Thread(target=trio.run, args=(before,))
    runner.start()
    if busy:
        begun.wait()
    else:
        runner.join()
    with virtual_time(patience=10) as vt:
        vt.run(main, backend="trio")
    runner.join()


def test_the_default_executor_takes_no_virtual_time(vt: VirtualTime) -> None:
    """`asyncio.to_thread` is waited for, and the runner's shut-down of its workers passes without a jump."""

    async def main() -> None:
        async with asyncio.timeout(1):
            await asyncio.to_thread(time.sleep, 0.05)

    vt.run(main)
    assert vt.now == 0.0


@pytest.mark.parametrize("backend", BACKENDS)
def test_a_blocked_worker_does_not_stop_the_clock(vt: VirtualTime, backend: str) -> None:
    """A worker that waits for something a later timer will bring lets the clock move."""
    event = threading.Event()

    async def main() -> None:
        async with anyio.create_task_group() as group:
            group.start_soon(anyio.to_thread.run_sync, event.wait)
            await anyio.sleep(30)
            event.set()

    vt.run(main, backend=backend)
    assert vt.now == 30.0


@pytest.mark.parametrize("backend", BACKENDS)
def test_a_parked_worker_is_woken_by_the_loop(vt: VirtualTime, backend: str) -> None:
    """A worker thread that waits under virtual time is due in order with the loop's own timers."""
    seen: list[tuple[str, float]] = []

    def worker() -> None:
        park(2.0)
        seen.append(("worker", vt.now))

    async def main() -> None:
        async with anyio.create_task_group() as group:
            group.start_soon(anyio.to_thread.run_sync, worker)
            for seconds in (1.0, 2.0):
                await anyio.sleep(seconds)
                seen.append(("loop", vt.now))

    vt.run(main, backend=backend)
    assert seen == [("loop", 1.0), ("worker", 2.0), ("loop", 3.0)]


def test_a_thread_wakes_the_loop_for_real(vt: VirtualTime) -> None:
    """`call_soon_threadsafe` from a real thread wakes a loop that has no timer."""

    async def main() -> str:
        loop = asyncio.get_running_loop()
        future: asyncio.Future[str] = loop.create_future()
        threading.Timer(0.05, loop.call_soon_threadsafe, (future.set_result, "hello")).start()
        return await future

    assert vt.run(main) == "hello"
    assert vt.now == 0.0


def test_a_thread_wakes_trio_for_real(vt: VirtualTime) -> None:
    """`TrioToken.run_sync_soon` from a real thread wakes a run that has no deadline."""

    async def main() -> None:
        event = trio.Event()
        token = trio.lowlevel.current_trio_token()
        threading.Timer(0.05, token.run_sync_soon, (event.set,)).start()
        await event.wait()

    vt.run(main, backend="trio")
    assert vt.now == 0.0


@pytest.mark.parametrize("backend", BACKENDS)
def test_real_sockets_work(vt: VirtualTime, backend: str) -> None:
    """A loopback connection is served while the clock stands still, and sleeps still jump."""

    async def echo(stream: anyio.abc.SocketStream) -> None:
        async with stream:
            await stream.send((await stream.receive())[::-1])

    async def main() -> bytes:
        async with await anyio.create_tcp_listener(local_host="127.0.0.1") as listener:
            port = listener.extra(anyio.abc.SocketAttribute.local_port)
            async with anyio.create_task_group() as group:
                group.start_soon(listener.serve, echo)
                async with await anyio.connect_tcp("127.0.0.1", port) as client:
                    await client.send(b"abc")
                    answer = await client.receive()
                await anyio.sleep(60)
                group.cancel_scope.cancel()
        return answer

    assert vt.run(main, backend=backend) == b"cba"
    assert vt.now == 60.0


def test_ready_io_comes_before_the_jump(vt: VirtualTime) -> None:
    """What is readable already is read at the present time, before any timer."""
    left, right = socket.socketpair()
    seen: list[float] = []

    async def main() -> None:
        loop = asyncio.get_running_loop()
        left.setblocking(False)
        loop.call_later(5, seen.append, -1.0)
        right.send(b"x")
        await loop.sock_recv(left, 1)
        seen.append(loop.time())
        await asyncio.sleep(10)

    with left, right:
        vt.run(main)
    assert seen == [0.0, -1.0]


@pytest.mark.parametrize("backend", BACKENDS)
def test_wait_all_tasks_blocked_comes_before_the_jump(vt: VirtualTime, backend: str) -> None:
    """anyio's `wait_all_tasks_blocked` returns while a sleeper still sleeps."""

    async def main() -> None:
        async with anyio.create_task_group() as group:
            group.start_soon(anyio.sleep, 100)
            await anyio.wait_all_tasks_blocked()
            assert vt.now < 100
            group.cancel_scope.cancel()

    vt.run(main, backend=backend)


@pytest.mark.parametrize("backend", BACKENDS)
def test_a_deadlock_is_an_error(vt: VirtualTime, backend: str) -> None:
    """A wait that nothing can end raises instead of hanging."""

    async def main() -> None:
        await anyio.Event().wait()

    with pytest.raises(DeadlockError, match="no timer is set, no I/O is pending"):
        vt.run(main, backend=backend)
    assert vt.run(anyio.sleep, 1, backend=backend) is None


def test_io_that_never_comes_ends_patience() -> None:
    """A read that nobody answers raises after `patience` real seconds, and says that I/O was pending."""
    left, right = socket.socketpair()

    async def main() -> None:
        left.setblocking(False)
        await asyncio.get_running_loop().sock_recv(left, 1)

    with left, right, virtual_time(patience=0.2) as vt, pytest.raises(DeadlockError, match="real I/O is pending"):
        vt.run(main)


def test_a_lone_thread_moves_the_clock_to_its_timeout(vt: VirtualTime) -> None:
    """A blocking wait by the only thread returns at once, with the clock at its timeout."""
    park(12.5)
    assert vt.now == 12.5
    waiter = Waiter()
    waiter.wake()
    park(10.0, waiter)
    assert vt.now == 12.5


def test_a_lone_thread_without_timeout_is_a_deadlock(vt: VirtualTime) -> None:
    """A blocking wait without limit that nobody can end raises."""
    with pytest.raises(DeadlockError):
        park(None)


def test_advance_wakes_blocked_threads_at_their_times(vt: VirtualTime) -> None:
    """Each thread sees the clock at its own timeout, also when one step passes several of them."""
    seen: list[float] = []

    def waiter(*waits: float) -> None:
        for seconds in waits:
            park(seconds)
            seen.append(vt.now)

    threads = [threading.Thread(target=waiter, args=waits) for waits in ((1.0, 2.0), (2.0,), (20.0,))]
    for thread in threads:
        thread.start()
    vt.advance(10)
    assert vt.now == 10.0
    assert sorted(seen) == [1.0, 2.0, 3.0]
    vt.advance(10)
    for thread in threads:
        thread.join()
    assert sorted(seen) == [1.0, 2.0, 3.0, 20.0]


def test_a_blocked_thread_goes_on_while_the_test_joins_it(vt: VirtualTime) -> None:
    """When all other threads are blocked, the clock moves to the next timeout by itself."""
    thread = threading.Thread(target=park, args=(4.0,))
    thread.start()
    thread.join()
    assert vt.now == 4.0


def test_a_thread_that_was_woken_and_has_no_processor_yet_keeps_the_clock(monkeypatch: pytest.MonkeyPatch) -> None:
    """It still looks blocked by what it does, but not to the system."""
    event = threading.Event()
    thread = threading.Thread(target=event.wait)
    thread.start()
    try:
        while thread in _threads.others().busy:  # on its way into the wait
            time.sleep(0.001)
        monkeypatch.setattr(_threads, "_is_ready", lambda found: found is thread)
        assert thread in _threads.others().busy
    finally:
        event.set()
        thread.join()


@pytest.mark.skipif(sys.version_info >= (3, 12), reason="collections wait for a safe point there")
def test_no_collection_comes_while_threads_are_looked_at(monkeypatch: pytest.MonkeyPatch) -> None:
    """In 3.11 what it frees may wait for ever: for a lock that looking holds."""
    found, look = list[bool](), sys._current_frames
    monkeypatch.setattr(sys, "_current_frames", lambda: found.append(gc.isenabled()) or look())
    _threads.idle_workers()
    assert found == [False]
    assert gc.isenabled()


def test_a_thread_that_ends_gives_what_it_has_left_time_to_be_seen(monkeypatch: pytest.MonkeyPatch) -> None:
    """However long it was waited for: it may have woken somebody with its last step."""
    now = 100.0
    monkeypatch.setattr(_threads, "time", SimpleNamespace(monotonic=lambda: now))
    before = frozenset(one.ident or 0 for one in threading.enumerate())  # a native thread that has reported is listed
    monkeypatch.setattr(_threads, "others", partial(_threads.others, before))
    watch = _threads.Watch(frozenset(), patience=10.0)
    gone = threading.Event()
    thread = threading.Thread(target=gone.wait)
    thread.start()
    watch.starve(io=False, where="a test")
    gone.set()
    thread.join()
    now += 5.0
    watch.starve(io=False, where="a test")
    now += 5.0
    with pytest.raises(DeadlockError):
        watch.starve(io=False, where="a test")


def test_a_busy_thread_keeps_the_clock(vt: VirtualTime) -> None:
    """A blocked thread does not run ahead of another that may still wake it."""
    waiter = Waiter()
    seen: list[float] = []

    def wake() -> None:
        time.sleep(0.1)
        waiter.wake()

    waker = threading.Thread(target=wake)
    waker.start()
    park(5.0, waiter)
    seen.append(vt.now)
    waker.join()
    assert seen == [0.0]


def test_a_thread_that_is_being_started_keeps_the_clock(vt: VirtualTime, monkeypatch: pytest.MonkeyPatch) -> None:
    """On a loaded machine a thread's first step is late; whoever starts it looks blocked, and yet goes on by itself."""
    starting = threading.Thread(target=print)
    seen: list[float] = []

    def step() -> None:
        threading.Event().wait(0.1)  # blocked, as in Thread.start
        seen.append(vt.now)
        threading._limbo.pop(starting)  # type: ignore[attr-defined]  # where a thread is until its first step

    monkeypatch.setitem(threading._limbo, starting, starting)  # type: ignore[attr-defined]
    stepper = threading.Thread(target=park, args=(5.0,))
    stepper.start()
    step()
    stepper.join()
    assert seen == [0.0]
    assert vt.now == 5.0


@pytest.mark.parametrize("backend", BACKENDS)
def test_a_timer_between_two_nanoseconds_is_due_when_it_runs(vt: VirtualTime, backend: str) -> None:
    """anyio asks for the time when its timer runs; told a fraction of a nanosecond less, it waited for ever."""

    async def main() -> None:
        for tenths in range(1, 300):
            with anyio.move_on_after(tenths / 10) as scope:
                await anyio.sleep(60)
            assert scope.cancelled_caught

    vt.run(main, backend=backend)
    assert vt.now == pytest.approx(0.1 * 300 * 299 / 2)


def test_nesting_is_an_error(vt: VirtualTime) -> None:
    """There is one clock for the process."""
    with pytest.raises(RuntimeError, match="cannot be nested"), virtual_time():
        pass


def test_another_thread_cannot_move_the_clock(vt: VirtualTime) -> None:
    """Only the thread that entered may call `advance` and `run`."""
    errors: list[str] = []

    def other() -> None:
        for call in (lambda: vt.advance(1), lambda: vt.run(anyio.sleep, 1)):
            with pytest.raises(RuntimeError) as caught:
                call()
            errors.append(str(caught.value))

    thread = threading.Thread(target=other)
    thread.start()
    thread.join()
    assert len(errors) == 2
    assert all("belongs to the thread that entered" in error for error in errors)


@pytest.mark.parametrize("backend", BACKENDS)
def test_running_inside_a_loop_is_an_error(vt: VirtualTime, backend: str) -> None:
    """`run` in a running loop says to await instead."""

    async def main() -> None:
        with pytest.raises(RuntimeError, match="await the function"):
            vt.run(anyio.sleep, 1, backend=backend)

    vt.run(main, backend=backend)


def test_after_the_end_the_clock_is_real_again() -> None:
    """The native clock is given back, and what was made under virtual time says that it is over."""
    with virtual_time() as vt:
        loop = vt.loop_factory()
        inside = clock.now_ns()
        assert clock.now_ns() == inside
    assert variables.parking is None
    before = clock.now_ns()
    time.sleep(0.001)
    assert clock.now_ns() > before
    for call in (lambda: vt.advance(1), lambda: vt.run(anyio.sleep, 1), loop.run_forever):
        with pytest.raises(RuntimeError, match=r"ended|is over"):
            call()
    loop.close()


def test_time_never_steps_back_from_one_virtual_time_to_the_next() -> None:
    """A policy that lives through several virtual times sees its clock only move forward."""
    with virtual_time() as vt:
        vt.advance(100_000)
        last = clock.now_ns()
    with virtual_time():
        assert clock.now_ns() >= last
        assert clock.now_ns() % (3600 * 10**9) == 0


@pytest.mark.parametrize(
    ("call", "error", "text"),
    [
        (lambda vt: vt.advance(-1), ValueError, "seconds must be"),
        (lambda vt: vt.advance(math.nan), ValueError, "seconds must be"),
        (lambda vt: vt.advance(math.inf), ValueError, "seconds must be"),
        (lambda vt: vt.advance(True), TypeError, "seconds must be"),
        (lambda vt: vt.advance([1]), TypeError, "seconds must be"),
        (lambda vt: vt.run(anyio.sleep, 1, backend="curio"), ValueError, "backend must be one of"),
        (lambda vt: vt.run(None), TypeError, "async_function must be"),
        (lambda vt: virtual_time(patience=0).__enter__(), ValueError, "patience must be"),
    ],
)
def test_bad_input_is_named(vt: VirtualTime, call: Callable[[Any], object], error: type[Exception], text: str) -> None:
    """Every parameter rejects what makes no sense, by name."""
    with pytest.raises(error, match=text):
        call(vt)


@pytest.mark.parametrize("backend", BACKENDS)
def test_a_busy_thread_that_never_ends_ends_patience(backend: str) -> None:
    """The clock stands for a thread at work, but not for ever: the error names the thread."""
    stop = threading.Event()

    def work() -> None:
        while not stop.is_set():
            time.sleep(0.001)

    worker = threading.Thread(target=work, name="worker at work")
    try:
        with virtual_time(patience=0.2) as vt:
            worker.start()
            with pytest.raises(DeadlockError, match="worker at work"):
                vt.run(anyio.sleep, 1, backend=backend)
    finally:
        stop.set()
        worker.join()


def test_one_loop_drives_at_a_time(vt: VirtualTime) -> None:
    """A second loop in another thread is rejected while the first one runs."""
    errors: list[str] = []

    def other() -> None:
        loop = vt.loop_factory()
        with pytest.raises(RuntimeError) as caught:
            loop.run_forever()
        errors.append(str(caught.value))
        loop.close()

    async def main() -> None:
        await asyncio.to_thread(other)

    vt.run(main)
    assert "driven by one event loop at a time" in errors[0]


def test_a_loop_factory_needs_virtual_time() -> None:
    """`virtual_event_loop` makes loops on the clock that is on, and says so where none is."""
    with pytest.raises(RuntimeError, match="enter virtual_time"):
        virtual_event_loop()
    with virtual_time() as vt, asyncio.Runner(loop_factory=virtual_event_loop) as runner:
        runner.run(asyncio.sleep(60))
        assert vt.now == 60.0


def test_files_may_be_watched_otherwise(vt: VirtualTime) -> None:
    """A socket that is watched for reading and then for writing too is both."""
    left, right = socket.socketpair()
    seen: list[str] = []

    async def main() -> None:
        loop = asyncio.get_running_loop()
        loop.add_reader(left, lambda: seen.append("read") or left.recv(1))
        loop.add_writer(left, lambda: seen.append("write") or loop.remove_writer(left))
        right.send(b"x")
        await asyncio.sleep(1)
        loop.remove_reader(left)

    with left, right:
        vt.run(main)
    assert sorted(seen) == ["read", "write"]


def test_the_fixtures(resilio_virtual_time: VirtualTime, resilio_events: Any, resilio_no_leaks: None) -> None:
    """The plugin's fixtures work here as anywhere."""
    resilio_virtual_time.advance(3)
    assert repr(resilio_virtual_time) == "<VirtualTime now=3.000000000>"
    assert resilio_events == []
