"""The adaptive limit's numbered scenarios: what others got wrong, one promise each."""

from __future__ import annotations

import contextlib
from collections.abc import Awaitable, Callable
from typing import Any

import anyio
import anyio.lowlevel
import pytest

import resilio
from resilio import CircuitOpenError, OverloadedError, adaptive_limit
from resilio.errors import CallTimeoutError
from resilio.testing import VirtualTime, assert_no_leaks

BACKENDS = pytest.mark.parametrize("backend", ["asyncio", "trio"])
LAWS = pytest.mark.parametrize("law", ["default", "gradient", "vegas", "aimd"])


class NotFoundError(Exception):
    """A 404: the caller's own mistake."""


async def waves(call: Callable[[], Awaitable[Any]], width: int, times: int) -> None:
    """Call `width` at a time, `times` in a row; what they raise stays here."""

    async def quiet() -> None:
        with contextlib.suppress(OverloadedError, NotFoundError, TimeoutError, CircuitOpenError):
            await call()

    for _ in range(times):
        async with anyio.create_task_group() as group:
            for _ in range(width):
                group.start_soon(quiet)


def waves_of(call: Callable[[], Awaitable[Any]], width: int, times: int) -> Callable[[], Awaitable[None]]:
    """The async function that virtual time runs."""

    async def main() -> None:
        await waves(call, width, times)

    return main


# ---- LS-06: what the limit does not follow ---------------------------------------------------------------------------


@BACKENDS
@LAWS
def test_ls06_the_callers_errors_teach_nothing(vt: VirtualTime, backend: str, law: Any) -> None:
    """LS-06: a thousand 404s that come at once, at full use, leave the limit where it was."""
    limit = adaptive_limit(law=law, start=10)

    @limit
    async def missing() -> None:
        await anyio.sleep(0.0001)
        raise NotFoundError

    vt.run(waves_of(missing, 10, 100), backend=backend)
    snapshot = limit.snapshot()
    assert (snapshot.limit, snapshot.learned) == (10, pytest.approx(10, abs=1e-3))
    assert (snapshot.ignored, snapshot.failures, snapshot.baseline) == (1000, 0, None)


@BACKENDS
@LAWS
def test_ls06_cancelled_calls_teach_nothing(vt: VirtualTime, backend: str, law: Any) -> None:
    """LS-06: calls that their callers gave up leave the limit where it was, and their permits come back."""
    limit = adaptive_limit(law=law, start=10)
    call = limit(anyio.sleep_forever)

    async def main() -> None:
        for _ in range(100):
            with anyio.move_on_after(0.25):
                await waves(call, 10, 1)

    vt.run(main, backend=backend)
    assert limit.snapshot().learned == pytest.approx(10, abs=1e-3)
    assert limit.used == 0
    assert_no_leaks(limit)


@pytest.mark.untraced  # others trace the same lines in less time
@BACKENDS
@LAWS
def test_ls06_the_limit_neither_grows_nor_shrinks_without_use(vt: VirtualTime, backend: str, law: Any) -> None:
    """LS-06: one call at a time, however fast, is no reason for more; and a silent night none for less."""
    limit = adaptive_limit(law=law, start=10)

    @limit
    async def call() -> None:
        await anyio.sleep(0.01)

    async def main() -> None:
        await waves(call, 1, 500)
        await anyio.sleep(8 * 3600)
        await waves(call, 2, 500)

    vt.run(main, backend=backend)
    assert limit.snapshot().learned == pytest.approx(10, abs=1e-3)


# ---- RL-08: what it does follow --------------------------------------------------------------------------------------


@BACKENDS
@LAWS
def test_rl08_timeouts_shrink_the_limit(vt: VirtualTime, backend: str, law: Any) -> None:
    """RL-08: calls that time out are drops: all take the same time, and the limit does not take that for health."""
    limit = adaptive_limit(law=law, start=20, floor=2)

    @limit
    @resilio.timeout(0.5)
    async def hangs() -> None:
        await anyio.sleep_forever()

    vt.run(waves_of(hangs, 20, 60), backend=backend)
    assert limit.limit < 10
    assert limit.snapshot().failures > 100


@pytest.mark.once
@pytest.mark.untraced  # others trace the same lines in less time
@BACKENDS
@LAWS
def test_rl08_rejections_shrink_the_limit(vt: VirtualTime, backend: str, law: Any) -> None:
    """RL-08: a dependency that rejects at 8 in flight, by an exception or by a result, keeps the limit near 8."""
    for form in ("raise", "return"):
        inflight = 0
        limit = adaptive_limit(law=law, start=20, failed_if=lambda status: status == 429)

        @limit
        async def call(form: str = form) -> int:
            nonlocal inflight
            if inflight == 8:
                await anyio.sleep(0.001)
                if form == "raise":
                    raise OverloadedError("server")
                return 429
            inflight += 1
            await anyio.sleep(0.01)
            inflight -= 1
            return 200

        vt.run(waves_of(call, 20, 200), backend=backend)
        assert 5 <= limit.limit <= (12 if law == "default" else 25), form  # the others grow by 1 a call


@BACKENDS
def test_rl08_only_what_on_names_is_a_drop(vt: VirtualTime, backend: str) -> None:
    """RL-08: `on` says what a drop is and `ignore` what is none after all; rejections of a breaker inside are not."""
    limit = adaptive_limit(law="aimd", start=10, on=TimeoutError, ignore=CallTimeoutError)

    breaker = resilio.circuit_breaker(initial="forced_open")

    @limit
    async def rejected() -> None:
        await breaker.acall(anyio.lowlevel.checkpoint)

    @limit
    @resilio.timeout(0.1)
    async def slow() -> None:
        await anyio.sleep_forever()

    @limit
    async def drops() -> None:
        raise TimeoutError

    async def main() -> None:
        await waves(rejected, 10, 10)
        await waves(slow, 10, 10)
        assert limit.limit == 10
        await waves(drops, 10, 10)
        assert limit.limit < 10

    vt.run(main, backend=backend)


def test_rl08_threads_learn_as_tasks_do(vt: VirtualTime) -> None:
    """RL-08: a guarded sync function that times out shrinks the limit, one that succeeds does not."""
    limit = adaptive_limit(law="aimd", start=10)

    def call(fail: bool) -> None:
        vt.advance(0.01)
        if fail:
            raise TimeoutError

    guarded = limit(call)
    for _ in range(100):
        guarded(False)
    assert limit.limit == 10  # one at a time: no reason to grow
    for _ in range(100):
        with pytest.raises(TimeoutError):
            guarded(True)
    assert limit.limit < 7
