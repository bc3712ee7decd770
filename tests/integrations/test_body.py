"""The permits of a body until it has ended: each way to end them, once, and what is counted."""

from __future__ import annotations

import gc
import logging
import threading
from collections.abc import Callable, Iterator
from contextlib import suppress
from typing import Any

import pytest

import resilio
from resilio import bulkhead, circuit_breaker, pipeline, rate_limit
from resilio._native.core import Permit
from resilio.integrations._httpx.body import AsyncBody, Body
from resilio.integrations._shared import held_permits as _held_permits
from resilio.integrations._shared.held_permits import HeldPermits, Lease, log_abandoned


def held_of(policy: Any, answer: Any = 200, label: str = "test") -> HeldPermits:
    """What a response holds whose headers have come."""
    held, permit = HeldPermits(label), policy.acquire()
    permit.answered(answer)
    held.add(permit)
    return held


def counted(policy: Any) -> dict[str, int]:
    """What a policy has counted, but for what is zero."""
    shown = policy.snapshot()
    names = ("inflight", "successes", "failures", "ignored", "abandoned")
    return {name: getattr(shown, name) for name in names if getattr(shown, name)}


ENDS: dict[str, tuple[Callable[[HeldPermits], None], dict[str, int], dict[str, int]]] = {
    "ended": (HeldPermits.ended, {"successes": 1}, {"failures": 1}),
    "failed": (lambda held: held.failed(OSError()), {"failures": 1}, {"failures": 1}),
    "cancelled": (lambda held: held.failed(KeyboardInterrupt()), {"ignored": 1}, {"ignored": 1}),
    "aborted": (HeldPermits.aborted, {"ignored": 1}, {"failures": 1}),
    "abandoned": (HeldPermits.abandoned, {"ignored": 1, "abandoned": 1}, {"failures": 1, "abandoned": 1}),
}


@pytest.mark.parametrize("how", ENDS)
@pytest.mark.parametrize("answer", [200, 503])
def test_a_body_ends_once_and_as_the_first_says(how: str, answer: int) -> None:
    """The first end counts, with what the headers said; all later ones change nothing."""
    breaker = circuit_breaker(failed_if=lambda status: status >= 500)
    held = held_of(breaker, answer)
    end, well, badly = ENDS[how]
    assert counted(breaker) == {"inflight": 1}
    end(held)
    assert counted(breaker) == (well if answer == 200 else badly)
    for again, _, _ in ENDS.values():
        again(held)
    del held
    assert counted(breaker) == (well if answer == 200 else badly)


def test_each_gate_judges_the_headers_by_its_own_rule() -> None:
    """A status that is a failure for the breaker is none for a bulkhead, which has no opinion of it."""
    breaker, room = circuit_breaker(failed_if=lambda status: status >= 500), bulkhead(1)
    held_of(pipeline(breaker, room), 503).ended()
    assert (counted(breaker), counted(room)) == ({"failures": 1}, {"successes": 1})


def test_a_rule_that_raises_says_nothing(caplog: pytest.LogCaptureFixture) -> None:
    """A predicate that fails at the headers makes the call ignored, at the body's end as well."""
    breaker = circuit_breaker(failed_if=lambda status: status.nothing)
    held_of(breaker).ended()
    assert counted(breaker) == {"ignored": 1}
    assert "failed_if raised" in caplog.text


def test_latency_is_measured_up_to_the_headers(vt: Any) -> None:
    """The time that a body takes is its length and its reader's, and not how quick the dependency is."""
    breaker = circuit_breaker(failed_if=lambda status: status >= 500)
    for answer in (200, 503):
        permit = breaker.acquire()
        vt.advance(0.1)
        permit.answered(answer)
        vt.advance(10.0)
        permit.complete()
    assert breaker.latency.quantile(1.0) == pytest.approx(0.1, rel=0.01)


def test_the_headers_are_a_probes_verdict(vt: Any) -> None:
    """A half-open breaker closes by the headers of long streams, and opens again by bad ones."""
    breaker = circuit_breaker(consecutive=1, open_for=1.0, probes=2, failed_if=lambda status: status >= 500)
    held_of(breaker, 503).ended()
    assert breaker.state == "open"
    vt.advance(2.0)
    streams = [held_of(breaker), held_of(breaker)]
    assert breaker.state == "closed"
    del streams


def test_a_permit_that_is_dropped_is_abandoned() -> None:
    """Whoever drops a permit has not ended it: it comes back, and is counted as abandoned."""
    room = bulkhead(1)
    permit = room.acquire()
    assert isinstance(permit, Permit)
    del permit
    assert counted(room) == {"ignored": 1, "abandoned": 1}
    assert room.try_acquire()


def test_abandoned_is_summed_over_keys() -> None:
    """A keyed policy shows what all its keys' calls have left lying about."""
    per_host = resilio.keyed(lambda: bulkhead(5), key=lambda host: host)
    for host in ("a", "b", "b"):
        held = HeldPermits()
        held.add(per_host.acquire(host))
        del held
    assert per_host.snapshot().abandoned == 3


def test_a_cycle_is_no_leak() -> None:
    """What holds itself is found by the collector, and its permit comes back then."""
    limit = pipeline(bulkhead(1), rate_limit("100/s"))
    held: Any = held_of(limit)
    cycle: list[Any] = [held]
    cycle.append(cycle)
    del held, cycle
    assert limit.snapshot().inflight == 1
    gc.collect()
    assert (limit.snapshot().inflight, limit.snapshot().abandoned) == (0, 1)


def test_what_is_abandoned_is_logged_once_a_minute(vt: Any, caplog: pytest.LogCaptureFixture) -> None:
    """The line names the policy, is written outside of the finaliser, and at most once a minute for each policy."""
    room = bulkhead(10)
    room.call(int)
    _held_permits._logged.clear()
    caplog.clear()
    with caplog.at_level(logging.WARNING, "resilio"):
        for label in ("one", "one", "two"):
            held_of(room, label=label)
            written = len(caplog.records)
            room.call(int)
        assert written == 1  # by the finaliser of "two": nothing
        assert [record.args for record in caplog.records] == [("one",), ("two",)]
        vt.advance(61.0)
        held_of(room, label="one")
        room.call(int)
    assert len(caplog.records) == 3


def test_labels_are_not_kept_without_bound(vt: Any) -> None:
    """Labels that are made up for each call do not fill the memory."""
    for number in range(_held_permits.MOST_LABELS + 5):
        log_abandoned(f"label {number}")
    bulkhead(1).call(int)
    assert len(_held_permits._logged) <= _held_permits.MOST_LABELS
    assert vt.now >= 0


def test_a_handler_that_raises_fails_nobody(monkeypatch: pytest.MonkeyPatch) -> None:
    """Telling never raises."""

    def broken(*args: Any, **kwargs: Any) -> None:
        raise OSError("disk full")

    monkeypatch.setattr(logging.getLogger("resilio"), "warning", broken)
    log_abandoned("broken")
    assert bulkhead(1).call(int) == 0


@pytest.mark.real(1.0)
def test_threads_that_end_it_at_once_settle_it_once() -> None:
    """Of many threads that end one body, each permit is ended by one: nothing is counted twice, nothing raises."""
    room = bulkhead(1)
    for _ in range(100):
        held = held_of(room)
        gate = threading.Barrier(4)

        def end(how: Callable[[HeldPermits], None], held: HeldPermits = held, gate: threading.Barrier = gate) -> None:
            gate.wait()
            how(held)

        threads = [
            threading.Thread(target=end, args=(how,))
            for how in (HeldPermits.ended, HeldPermits.aborted, HeldPermits.abandoned, HeldPermits.ended)
        ]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
    shown = room.snapshot()
    assert shown.successes + shown.ignored == 100
    assert shown.inflight == 0


def test_a_permit_that_was_ended_by_hand_is_left_alone() -> None:
    """Whoever holds the permit too may end it; the body's end then says nothing more."""
    room = bulkhead(1)
    for end, _, _ in ENDS.values():
        permit = room.acquire()
        permit.success()
        permit.answered(503)
        held = HeldPermits()
        held.add(permit)
        end(held)
    assert counted(room) == {"successes": 5}


@pytest.mark.parametrize(
    ("how", "expected"),
    [
        ("ended", {"successes": 1}),
        ("failed", {"failures": 1}),
        ("aborted", {"ignored": 1}),
        ("abandoned", {"ignored": 1, "abandoned": 1}),
        ("success", {"successes": 1}),
        ("failure", {"failures": 1}),
        ("ignore", {"ignored": 1}),
    ],
)
def test_a_lease_ends_all_its_permits_once(how: str, expected: dict[str, int]) -> None:
    """The first end counts; what is added after it ends in the same way; one ended by hand stays as it is."""
    policy, late, own = resilio.bulkhead(5), resilio.bulkhead(5), resilio.bulkhead(5)
    lease = Lease("an answer")
    lease.take(policy.acquire(), "answer")
    by_hand = own.acquire()
    lease.take(by_hand, "answer")
    by_hand.success()
    assert not lease.over
    lease.end(how, KeyError("broken"))
    lease.end("success")
    lease.take(late.acquire(), "answer")
    assert lease.over
    assert counted(policy) == counted(late) == expected
    assert counted(own) == {"successes": 1}


# ---- bodies of httpx, without a client -------------------------------------------------------------------------------


class Parts:
    """A stream of both kinds, whose iterators are what `make` returns."""

    def __init__(self, make: Callable[[], Any]) -> None:
        self.make = make
        self.closed = 0

    def __iter__(self) -> Any:
        return self.make()

    def __aiter__(self) -> Any:
        return self.make()

    def close(self) -> None:
        self.closed += 1

    async def aclose(self) -> None:
        self.closed += 1


async def generated(*parts: Any) -> Any:
    for part in parts:
        if isinstance(part, BaseException):
            raise part
        yield part


class ByCoroutines:
    """An async iterator as one writes it by hand: its parts are awaited as coroutines."""

    def __init__(self, *parts: Any) -> None:
        self.parts = iter(parts)

    def __aiter__(self) -> Any:
        return self

    async def __anext__(self) -> Any:
        part = next(self.parts, None)
        if part is None:
            raise StopAsyncIteration
        if isinstance(part, BaseException):
            raise part
        return part


class Waiting:
    """An async iterator whose awaitable is not from this world: an iterator without `throw` and `close`."""

    def __aiter__(self) -> Any:
        return self

    def __anext__(self) -> Any:
        return self

    def __await__(self) -> Any:
        return iter([None])


def guarded(kind: Any, make: Callable[[], Any]) -> tuple[Any, Any, Parts]:
    """A policy, a body that holds a permit of it, and the stream inside."""
    room, stream = bulkhead(1), Parts(make)
    permit = room.acquire()
    permit.answered(200)
    body = type("Derived", (kind,), {"label": "test", "__slots__": ()})(stream, {})
    body.add(permit)
    return room, body, stream


def run(coroutine: Any) -> Any:
    """What a coroutine returns that never waits."""
    with pytest.raises(StopIteration) as stop:
        coroutine.send(None)
    return stop.value.value


async def read(body: Any) -> list[Any]:
    return [part async for part in body]


@pytest.mark.parametrize("iterator", [generated, ByCoroutines])
def test_an_async_body_gives_its_parts_and_ends_its_permit(iterator: Any) -> None:
    """Generators and hand-written iterators alike; the stream is closed by who closes the body, once."""
    room, body, stream = guarded(AsyncBody, lambda: iterator(b"a", b"b"))
    assert run(read(body)) == [b"a", b"b"]
    assert counted(room) == {"successes": 1}
    run(close(body))
    run(close(body))
    assert stream.closed == 1
    assert run(read(body)) == []


async def close(body: Any) -> None:
    await body.aclose()


@pytest.mark.parametrize("iterator", [generated, ByCoroutines])
def test_an_error_passes_an_async_body_as_it_is(iterator: Any) -> None:
    """The permit fails, and what was raised is raised."""
    broken = OSError("cut")
    room, body, _ = guarded(AsyncBody, lambda: iterator(b"a", broken))
    with pytest.raises(OSError, match="cut") as caught:
        read(body).send(None)
    assert caught.value is broken
    assert counted(room) == {"failures": 1}


def test_a_body_of_threads_gives_its_parts_and_ends_its_permit() -> None:
    """By any iterator, with or without an exception at its end; then it stays there."""
    for make in (lambda: iter([b"a", b"b"]), lambda: (part for part in (b"a", b"b"))):
        room, body, stream = guarded(Body, make)
        assert list(body) == [b"a", b"b"]
        assert next(body, None) is None
        assert counted(room) == {"successes": 1}
        body.close()
        body.close()
        assert stream.closed == 1
        assert list(body) == []


def test_an_error_passes_a_body_of_threads_as_it_is() -> None:
    """The permit fails, and what was raised is raised."""
    broken = OSError("cut")

    def cut() -> Iterator[bytes]:
        yield b"a"
        raise broken

    room, body, _ = guarded(Body, cut)
    with pytest.raises(OSError, match="cut") as caught:
        list(body)
    assert caught.value is broken
    assert counted(room) == {"failures": 1}


def test_who_waits_for_a_part_may_be_cancelled_or_gone() -> None:
    """An error thrown at who waits says what it says; one that is closed says nothing. No iterator needs `throw`."""
    for make in (Waiting, generated_after_a_wait):
        for ends, expected in (
            (lambda reader: reader.throw(OSError("late")), {"failures": 1}),
            (lambda reader: reader.throw(KeyboardInterrupt()), {"ignored": 1}),
            (lambda reader: reader.close(), {"ignored": 1}),
        ):
            room, body, _ = guarded(AsyncBody, make)
            reader = read(body)
            reader.send(None)
            with suppress(OSError, KeyboardInterrupt):
                ends(reader)
            assert counted(room) == expected


class Pause:
    def __await__(self) -> Any:
        yield


async def generated_after_a_wait() -> Any:
    await Pause()
    yield b"a"


def test_a_body_that_is_dropped_is_abandoned() -> None:
    """As any other that holds permits."""
    for kind in (AsyncBody, Body):
        room, body, _ = guarded(kind, lambda: iter(()))
        del body
        assert counted(room) == {"ignored": 1, "abandoned": 1}


def test_what_is_no_async_iterator_is_said() -> None:
    """As `async for` says it."""
    _, body, _ = guarded(AsyncBody, lambda: iter(()))
    with pytest.raises(TypeError, match="async iterator"):
        read(body).send(None)
