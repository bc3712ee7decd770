"""Retries in the log: one line a policy and minute, unless the user wants more or none."""

from __future__ import annotations

import logging
import threading
from collections.abc import Iterator
from typing import Any

import anyio
import anyio.lowlevel
import pytest

from resilio import keyed, retry, retrying
from resilio.metrics import logging as resilio_logging
from resilio.testing import VirtualTime

BACKENDS = pytest.mark.parametrize("backend", ["asyncio", "trio"])


@pytest.fixture(autouse=True)
def as_ever(caplog: pytest.LogCaptureFixture) -> Iterator[None]:
    """Lines of INFO are seen, and once a minute is the default again afterwards."""
    caplog.set_level(logging.INFO, logger="resilio")
    yield
    resilio_logging.retries()


def lines(caplog: pytest.LogCaptureFixture) -> list[str]:
    """The lines about retries."""
    return [record.getMessage() for record in caplog.records if " follows in " in record.getMessage()]


class Fails:
    """A function that fails every other time."""

    def __init__(self) -> None:
        self.calls = 0

    def __call__(self, *args: Any) -> int:
        self.calls += 1
        if self.calls % 2:
            raise ConnectionError("the text is private")
        return self.calls

    async def later(self, *args: Any) -> int:
        await anyio.lowlevel.checkpoint()
        return self(*args)


def test_the_first_retry_of_a_minute_is_logged(vt: VirtualTime, caplog: pytest.LogCaptureFixture) -> None:
    """An operator saw nothing of a dependency that fails and is retried, but the latency."""
    policy = retry(on=OSError, backoff=0.25, budget=None, name="payments")
    for _ in range(42):
        policy.call(Fails())
        vt.advance(1.0)
    assert lines(caplog) == ["retry 'payments': attempt 1 failed (ConnectionError), the next one follows in 0.25 s"]
    vt.advance(60)
    policy.call(Fails())
    assert lines(caplog)[1].endswith("; 42 retries since the last such line")
    record = caplog.records[-1]
    fields = {
        name: getattr(record, name) for name in ("levelname", "policy", "policy_name", "attempt", "retries", "reason")
    }
    assert fields == {
        "levelname": "INFO",
        "policy": "retry",
        "policy_name": "payments",
        "attempt": 1,
        "retries": 42,
        "reason": "ConnectionError",
    }
    assert "private" not in caplog.text


@BACKENDS
def test_retries_of_tasks_share_a_line(vt: VirtualTime, caplog: pytest.LogCaptureFixture, backend: str) -> None:
    """A hundred calls that fail together are one line; another policy has its own."""
    first, second = retry(on=OSError, budget=None, name="a"), retry(on=OSError, budget=None, name="b")

    async def main() -> None:
        async with anyio.create_task_group() as group:
            for _ in range(50):
                group.start_soon(first.acall, Fails().later)
                group.start_soon(second.acall, Fails().later)

    vt.run(main, backend=backend)
    assert sorted(line.partition(":")[0] for line in lines(caplog)) == ["retry 'a'", "retry 'b'"]


def test_retries_of_threads_share_a_line(caplog: pytest.LogCaptureFixture) -> None:
    """However many retry at once."""
    policy = retry(on=OSError, backoff=0, budget=None, name="threads")
    threads = [threading.Thread(target=lambda: [policy.call(Fails()) for _ in range(50)]) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert policy.snapshot().retries == 200  # type: ignore[attr-defined]
    assert len(lines(caplog)) == 1


def test_blocks_and_failed_results_are_logged_too(vt: VirtualTime, caplog: pytest.LogCaptureFixture) -> None:
    """A result has no class of exception."""
    for attempt in retrying(on=OSError, backoff=0):
        with attempt:
            if attempt.number == 1:
                raise OSError
    retry(on=OSError, failed_if=lambda result: result, attempts=2, backoff=0, budget=None).call(lambda: True)
    assert [line.partition("attempt ")[2] for line in lines(caplog)] == [
        "1 failed (OSError), the next one follows in 0 s",
        "1 failed (a failed result), the next one follows in 0 s",
    ]


def test_keys_share_a_line(vt: VirtualTime, caplog: pytest.LogCaptureFixture) -> None:
    """A thousand keys are one policy, and its line names no key."""
    policy = keyed(lambda: retry(on=OSError, backoff=0, budget=None), key=lambda host: host, name="hosts")
    for host in range(100):
        policy.call(Fails(), f"secret-{host}")
    assert lines(caplog) == ["retry 'hosts': attempt 1 failed (ConnectionError), the next one follows in 0 s"]
    assert "secret" not in caplog.text
    vt.advance(61)
    policy.call(Fails(), "secret-0")
    assert len(lines(caplog)) == 2


@pytest.mark.parametrize(("every", "expected"), [(0, 5), (2.5, 2), (None, 0), (60, 1)])
def test_the_time_between_lines_can_be_set(
    vt: VirtualTime, caplog: pytest.LogCaptureFixture, every: float | None, expected: int
) -> None:
    """Every retry, for a while; or none."""
    policy = retry(on=OSError, backoff=0, budget=None)
    resilio_logging.retries(every)
    for _ in range(5):
        policy.call(Fails())
        vt.advance(1.0)
    assert len(lines(caplog)) == expected


def test_a_clock_that_was_set_back_does_not_silence_a_policy(caplog: pytest.LogCaptureFixture) -> None:
    """Virtual time begins anew with each test: a line of the one before must not count."""
    from resilio.testing import virtual_time

    policy = retry(on=OSError, backoff=0, budget=None)
    for begin in (10_000.0, 0.0):
        with virtual_time() as vt:
            vt.advance(begin)
            policy.call(Fails())
    assert len(lines(caplog)) == 2


def test_a_wrong_time_is_rejected() -> None:
    """And the time stays."""
    with pytest.raises((TypeError, ValueError), match="every must be a time in seconds"):
        resilio_logging.retries(-1)
