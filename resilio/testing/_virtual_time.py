"""
Virtual time for the whole process: minutes of waiting pass at once, and always in the same way.

While it is on, every policy reads a clock that moves only when a task or thread waits for it: an event loop with
nothing ready jumps to its next timer, a thread that would block moves it to its own timeout, and a test may move it by
hand. It does not affect `time.sleep`, `time.monotonic`, and event loops that were made elsewhere.
"""

from __future__ import annotations

import asyncio
import sys
import threading
import time
from collections.abc import Awaitable, Callable, Iterator
from contextlib import contextmanager
from datetime import timedelta
from functools import partial
from typing import Any, TypeVar

from resilio._context import variables
from resilio._options import validators
from resilio._options.scope import set_private
from resilio._policy.types import Time
from resilio._support.after_fork import free_lock, in_child
from resilio.testing._asyncio_loop import VirtualEventLoop
from resilio.testing._parking import park
from resilio.testing._threads import TICK, DeadlockError
from resilio.testing._timeline import Timeline

__all__ = ["VirtualTime", "virtual_event_loop", "virtual_time"]

T = TypeVar("T")
_entering = threading.Lock()
_active: VirtualTime | None = None


class VirtualTime:
    """The clock of one `virtual_time()` block; only that function makes it."""

    def __init__(self, patience: float) -> None:
        self._timeline = Timeline(patience)

    def __repr__(self) -> str:
        return f"<VirtualTime now={self.now:.9f}>"

    @property
    def now(self) -> float:
        """Seconds since virtual time began."""
        return self._timeline.now

    def advance(self, seconds: Time) -> None:
        """
        Move the clock forward, stopping at each time at which a blocked thread is due.

        In a running loop the clock moves at once, and due timers run in the loop's next iteration.

        Args:
            seconds: Virtual time, >= 0.

        Raises:
            RuntimeError: Virtual time is over, or another thread began it.

            DeadlockError: A thread that was woken has been running for more than `patience` real seconds.
        """
        step = _nanoseconds(seconds)
        self._require("advance()")
        self._timeline.changed()
        target = self._timeline.elapsed_ns + step
        if self._timeline.driver is None:
            self._step_to(target)
        self._timeline.move_to(target)
        if self._timeline.driver is None:
            self._settle()

    def run(self, async_function: Callable[..., Awaitable[T]], *args: Any, backend: str = "asyncio") -> T:
        """
        Run an async function to its end in a fresh event loop on this clock, and return its result.

        Args:
            async_function: Called with `args`.

            args: Its positional arguments.

            backend: "asyncio" or "trio".

        Raises:
            RuntimeError: Called from a running loop, from another thread, or after the end of virtual time.

            DeadlockError: Nothing could ever resume the function.
        """
        validators.choice("backend", backend, ("asyncio", "trio"))
        if not callable(async_function):
            validators.reject("async_function", async_function, "an async function, not its coroutine", TypeError)
        self._require("run()")
        if self._timeline.driver is not None:
            raise RuntimeError("vt.run() cannot be called from a running event loop: await the function there")
        main = partial(_main, async_function, args)
        if backend == "trio":
            return self._run_trio(main)
        with asyncio.Runner(loop_factory=self.loop_factory) as runner:
            return runner.run(main())

    def loop_factory(self) -> asyncio.AbstractEventLoop:
        """Return a new asyncio event loop on this clock: for `asyncio.Runner` and for plugins that take a factory."""
        return VirtualEventLoop(self._timeline)

    def trio_options(self) -> dict[str, Any]:
        """Return keyword arguments for one `trio.run` or `trio.lowlevel.start_guest_run` on this clock."""
        from resilio.testing._trio_clock import trio_options  # trio is optional

        return trio_options(self._timeline)

    def anyio_backend(self, backend: str) -> tuple[str, dict[str, Any]]:
        """
        Return the value of the `anyio_backend` fixture of anyio's pytest plugin, for one test on this clock.

        Args:
            backend: "asyncio" or "trio".
        """
        validators.choice("backend", backend, ("asyncio", "trio"))
        return backend, self.trio_options() if backend == "trio" else {"loop_factory": self.loop_factory}

    def _run_trio(self, main: Callable[[], Awaitable[T]]) -> T:
        import trio

        try:
            return trio.run(main, **self.trio_options())
        except trio.TrioInternalError as error:
            raise (_deadlock_in(error.__cause__) or error) from None

    def _step_to(self, target: int) -> None:
        self._settle()
        while (due := self._timeline.next_parked()) is not None and due <= target:
            self._timeline.move_to(due)
            self._settle()

    def _settle(self) -> None:
        # Wait in real time until the other threads have done all they can at this virtual time.
        watch = self._timeline.watch()
        while self._timeline.waking() or not watch.still():
            time.sleep(TICK)

    def _require(self, what: str) -> None:
        timeline = self._timeline
        if not timeline.open:
            raise RuntimeError(f"vt.{what} was called after its virtual_time() block had ended")
        if threading.get_ident() not in (timeline.owner, timeline.driver_thread):
            raise RuntimeError(f"vt.{what} belongs to the thread that entered virtual_time()")


def _nanoseconds(seconds: Time) -> int:
    # Not `_config.seconds`: a difference of two times may be less than a nanosecond.
    if isinstance(seconds, (str, timedelta)):
        seconds = validators.seconds("seconds", seconds, zero_ok=True)
    return round(validators.number("seconds", seconds, low=0.0, high=validators.ABSURD_SECONDS) * 1e9)


async def _main(async_function: Callable[..., Awaitable[T]], args: tuple[Any, ...]) -> T:
    return await async_function(*args)


def _deadlock_in(error: BaseException | None) -> DeadlockError | None:
    if isinstance(error, BaseExceptionGroup):
        return next((found for inner in error.exceptions if (found := _deadlock_in(inner))), None)
    return error if isinstance(error, DeadlockError) else None


@contextmanager
def virtual_time(*, patience: Time = 30.0) -> Iterator[VirtualTime]:
    """
    Put the whole process on a clock that moves only when a task or thread waits for it.

    Args:
        patience: Real seconds to wait for other threads and for real I/O before a deadlock is declared, > 0.

    Raises:
        RuntimeError: Virtual time is on already, in this thread or another: there is one clock for the process.
    """
    global _active
    seconds = validators.seconds("patience", patience)
    with _entering:
        if _active is not None:
            raise RuntimeError("virtual_time() cannot be nested or used by two threads at once: it is on already")
        vt = _active = VirtualTime(seconds)
        variables.parking = partial(park, vt._timeline)
        _share_alone(on=True)
    try:
        yield vt
    finally:
        with _entering:
            _active = variables.parking = None
            vt._timeline.close()
            _share_alone(on=False)


def _share_alone(*, on: bool) -> None:
    """Let policies that are shared be this process's own while its time is, which others do not have."""
    set_private("virtual time", on=on)
    for room in ("_host", "_fleet.fleet"):
        sharing = sys.modules.get(f"resilio.sharing.{room}")
        if sharing is not None:
            sharing.move_all()


def _after_fork() -> None:
    if _active is not None:
        _active._timeline.after_fork()


free_lock(sys.modules[__name__], "_entering")
in_child("state", _after_fork)


def virtual_event_loop() -> asyncio.AbstractEventLoop:
    """
    Return a new asyncio event loop on the clock of the virtual time that is on: a loop factory for plugins.

    Raises:
        RuntimeError: Virtual time is not on.
    """
    if _active is None:
        raise RuntimeError("virtual_event_loop() needs virtual time: enter virtual_time() first")
    return _active.loop_factory()
