"""Waits of plain functions where an event loop runs in the thread: rejected with an explanation, or allowed."""

from __future__ import annotations

import asyncio
import sys
import threading
import warnings
from collections.abc import Callable
from types import ModuleType, SimpleNamespace
from typing import Any

import pytest
import trio

import resilio
from resilio import WouldBlockWarning, _backends, adaptive_limit, allow_blocking, bulkhead, load_shed, rate_limit, retry
from resilio.errors import RejectedError

LOOPS = pytest.mark.parametrize("run", [asyncio.run, trio.run], ids=["asyncio", "trio"])


class Flaky:
    """Fails twice, then returns how often it was called."""

    def __init__(self) -> None:
        self.calls = 0

    def __call__(self) -> int:
        self.calls += 1
        if self.calls < 3:
            raise ConnectionError("flaky")
        return self.calls


def in_loop(run: Callable[..., Any], fn: Callable[[], Any]) -> Any:
    """Call a plain function in a thread that runs an event loop."""

    async def main() -> Any:
        return fn()

    return run(main) if run is trio.run else run(main())


def notes_of(error: BaseException) -> str:
    return "\n".join(error.__notes__)


@LOOPS
def test_a_retry_that_must_not_wait_says_so(run: Callable[..., Any]) -> None:
    """
    In Jupyter and under Playwright's sync API a plain function was tried once, without a word. Where it cannot wait it
    warns, and notes on the exception what to do.
    """
    policy, flaky = retry(on=ConnectionError, backoff=0.001, name=f"in {run.__module__}"), Flaky()
    warned = pytest.warns(WouldBlockWarning, match=r"retry 'in .*allow_blocking")
    with warned as seen, pytest.raises(ConnectionError) as caught:
        in_loop(run, lambda: policy.call(flaky))
    assert flaky.calls == 1
    assert seen[0].filename == __file__
    assert caught.value.resilio.stop_reason == "would_block"  # type: ignore[attr-defined]
    assert "asyncio.to_thread" in notes_of(caught.value)


def test_a_retried_block_says_so_too() -> None:
    """`for attempt in retrying(...)` waits in the thread as well; the async form does not."""
    policy = retry(on=ConnectionError, backoff=0.001)

    def block() -> None:
        for attempt in policy.retrying():
            with attempt:
                raise ConnectionError

    with pytest.warns(WouldBlockWarning), pytest.raises(ConnectionError) as caught:
        in_loop(asyncio.run, block)
    assert "allow_blocking" in notes_of(caught.value)


def test_a_result_that_is_not_retried_is_warned_of() -> None:
    """There is no exception to note anything on."""
    policy = retry(on=(), failed_if=lambda value: value == 0, backoff=0.001)
    with pytest.warns(WouldBlockWarning):
        assert in_loop(asyncio.run, lambda: policy.call(int)) == 0


def bulkhead_taken() -> tuple[Any, Any]:
    pool = bulkhead(1, max_queued=1, max_wait=60.0)
    return pool, pool.acquire()


def tokens_taken() -> tuple[Any, Any]:
    limit = rate_limit("10/s", burst=1, max_wait=60.0)
    return limit, limit.acquire()


def shedder_taken() -> tuple[Any, Any]:
    shedder = load_shed(max_concurrent=1)
    return shedder, shedder.acquire()


def limit_taken() -> tuple[Any, Any]:
    limit = adaptive_limit(start=1, floor=1, ceiling=1, max_queued=1, max_wait=60.0)
    return limit, limit.acquire()


@pytest.mark.parametrize("taken", [bulkhead_taken, tokens_taken, shedder_taken, limit_taken])
@LOOPS
def test_every_wait_that_is_rejected_is_explained(run: Callable[..., Any], taken: Any) -> None:
    """The reason `would_block` alone is no help; the warning, the message and a note say what to do."""
    policy, permit = taken()
    with pytest.warns(WouldBlockWarning, match=policy.kind) as seen, pytest.raises(RejectedError) as caught:
        in_loop(run, lambda: policy.call(int))
    permit.success()
    assert len(seen) == 1
    assert caught.value.reason == "would_block"
    assert str(caught.value).endswith("would_block (a wait would block the event loop of this thread: await the call)")
    assert "allow_blocking" in notes_of(caught.value)


def test_a_place_warns_once() -> None:
    """A loop of a thousand calls is one line, as for any warning of Python's; another place has a line of its own."""
    pool, permit = bulkhead_taken()

    def calls() -> None:
        for _ in range(10):
            assert pool.try_call(int).error.reason == "would_block"
        assert pool.try_call(int).error.reason == "would_block"

    with warnings.catch_warnings(record=True) as seen:
        warnings.simplefilter("default")
        in_loop(asyncio.run, calls)
    permit.success()
    assert [one.category for one in seen] == [WouldBlockWarning] * 2


def test_where_warnings_are_errors_the_rejection_is_the_error() -> None:
    """Turning the warning into an error would hide what the callee has raised."""
    pool, permit = bulkhead_taken()
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        with pytest.raises(RejectedError, match="would_block"):
            in_loop(asyncio.run, lambda: pool.call(int))
        with pytest.raises(ConnectionError):
            in_loop(asyncio.run, lambda: retry(on=ConnectionError, backoff=0.001).call(Flaky()))
    permit.success()
    assert pool.snapshot().inflight == pool.snapshot().queued == 0


@LOOPS
def test_waits_are_allowed_where_the_caller_says_so(run: Callable[..., Any]) -> None:
    """`allow_blocking()` lets a retry wait between attempts, and a call wait for tokens, and for a permit."""
    policy, flaky = retry(on=ConnectionError, backoff=0.001), Flaky()
    limit, _ = tokens_taken()
    pool, permit = bulkhead_taken()
    waiting = threading.Thread(target=lambda: (_until(lambda: pool.snapshot().queued), permit.success()))

    def calls() -> tuple[int, int, int]:
        with allow_blocking():
            waiting.start()
            return policy.call(flaky), limit.call(int), pool.call(int)

    assert in_loop(run, calls) == (3, 0, 0)
    waiting.join()
    assert not in_loop(run, _backends.can_block)


def _until(condition: Callable[[], Any]) -> None:
    while not condition():
        threading.Event().wait(0.001)


def test_a_decorated_function_is_allowed_to_wait() -> None:
    """For a whole function that is called where a loop happens to run."""
    flaky = Flaky()

    @allow_blocking()
    @retry(on=ConnectionError, backoff=0.001)
    def fetch() -> int:
        return flaky()

    assert in_loop(asyncio.run, fetch) == 3


@pytest.fixture
def ipython(monkeypatch: pytest.MonkeyPatch) -> SimpleNamespace:
    """Have IPython's public interface answer as it does in a notebook."""
    shell, module = SimpleNamespace(kernel=object()), ModuleType("IPython")
    module.get_ipython = lambda: shell  # type: ignore[attr-defined]
    monkeypatch.setitem(sys.modules, "IPython", module)
    return shell


def test_a_cell_of_a_notebook_waits(ipython: SimpleNamespace) -> None:
    """Cells run in the kernel's loop, and block it: a retry in one was given up after one attempt, without a word."""
    assert ipython.kernel is not None
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert in_loop(asyncio.run, lambda: retry(on=ConnectionError, backoff=0.001).call(Flaky())) == 3


def test_only_cells_of_a_notebook_wait(ipython: SimpleNamespace) -> None:
    """A loop in another thread of the kernel is a server's, say; IPython in a terminal has no kernel."""
    found: list[bool] = []
    other = threading.Thread(target=lambda: found.append(in_loop(asyncio.run, _backends.can_block)))
    other.start()
    other.join()
    assert found == [False]
    assert not in_loop(trio.run, _backends.can_block)
    ipython.kernel = None
    assert not in_loop(asyncio.run, _backends.can_block)


@pytest.mark.usefixtures("ipython")
def test_a_drain_in_a_notebook_does_not_wait_for_its_own_loop() -> None:
    """The calls that it waits for may run in that loop: it would never end."""
    for drain in (bulkhead(1).drain, resilio.pipeline(bulkhead(1)).drain):
        with pytest.raises(RuntimeError, match="adrain"):
            in_loop(asyncio.run, drain)


def test_an_interface_of_ipython_that_raises_is_no_notebook(monkeypatch: pytest.MonkeyPatch) -> None:
    """What is asked there is foreign code."""
    module = ModuleType("IPython")
    module.get_ipython = lambda: 1 / 0  # type: ignore[attr-defined]
    monkeypatch.setitem(sys.modules, "IPython", module)
    assert not in_loop(asyncio.run, _backends.can_block)


CELL = """
from resilio import retry
calls = []
@retry(on=ConnectionError, backoff=0.001)
def fetch():
    calls.append(1)
    if len(calls) < 3:
        raise ConnectionError
    return len(calls)
print(fetch())
"""


@pytest.mark.slow
def test_a_real_kernel_runs_a_retry_to_its_end() -> None:
    """In a cell that a kernel of Jupyter executes, in its running loop; skipped where ipykernel is not installed."""
    pytest.importorskip("ipykernel", reason="ipykernel is not installed: no real kernel is asked")
    manager = pytest.importorskip("jupyter_client.manager")
    kernel, client = manager.start_new_kernel(kernel_name="python3")
    printed: list[str] = []
    try:
        reply = client.execute_interactive(
            CELL, timeout=60, output_hook=lambda message: printed.append(str(message["content"].get("text", "")))
        )
    finally:
        client.stop_channels()
        kernel.shutdown_kernel(now=True)
    assert reply["content"]["status"] == "ok", reply["content"]
    assert "".join(printed).strip() == "3"
