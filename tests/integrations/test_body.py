"""What is held of policies until a body has ended: each way to end it, once, and what is counted."""

from __future__ import annotations

import gc
import logging
import threading
from collections.abc import Callable
from typing import Any

import pytest

import resilio
from resilio import bulkhead, circuit_breaker, pipeline, rate_limit
from resilio._native.core import Permit
from resilio.integrations import _body
from resilio.integrations._body import Held, Lease


def held_of(policy: Any, answer: Any = 200, label: str = "test") -> Held:
    """What a response holds whose headers have come."""
    held, permit = Held(label), policy.acquire()
    permit.answered(answer)
    held.add(permit)
    return held


def counted(policy: Any) -> dict[str, int]:
    """What a policy has counted, but for what is zero."""
    shown = policy.snapshot()
    names = ("inflight", "successes", "failures", "ignored", "abandoned")
    return {name: getattr(shown, name) for name in names if getattr(shown, name)}


ENDS: dict[str, tuple[Callable[[Held], None], dict[str, int], dict[str, int]]] = {
    "ended": (Held.ended, {"successes": 1}, {"failures": 1}),
    "failed": (lambda held: held.failed(OSError()), {"failures": 1}, {"failures": 1}),
    "cancelled": (lambda held: held.failed(KeyboardInterrupt()), {"ignored": 1}, {"ignored": 1}),
    "aborted": (Held.aborted, {"ignored": 1}, {"failures": 1}),
    "abandoned": (Held.abandoned, {"ignored": 1, "abandoned": 1}, {"failures": 1, "abandoned": 1}),
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
        held = Held()
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
    _body.tell()
    _body._logged.clear()
    caplog.clear()
    room = bulkhead(10)
    with caplog.at_level(logging.WARNING, "resilio"):
        for label in ("one", "one", "two"):
            held_of(room, label=label)
            assert _body.untold()
            written = len(caplog.records)
            _body.tell()
        assert written == 1  # by the finaliser of "two": nothing
        assert [record.args for record in caplog.records] == [("one",), ("two",)]
        vt.advance(61.0)
        held_of(room, label="one")
        _body.tell()
    assert len(caplog.records) == 3
    assert not _body.untold()


def test_labels_are_not_kept_without_bound(vt: Any) -> None:
    """Labels that are made up for each call do not fill the memory."""
    for number in range(_body.MOST_LABELS + 5):
        _body._note_abandoned(f"label {number}")
        _body.tell()
    assert len(_body._logged) <= _body.MOST_LABELS
    assert vt.now >= 0


def test_a_handler_that_raises_fails_nobody(monkeypatch: pytest.MonkeyPatch) -> None:
    """Telling never raises."""

    def broken(*args: Any, **kwargs: Any) -> None:
        raise OSError("disk full")

    monkeypatch.setattr(logging.getLogger("resilio"), "warning", broken)
    _body._note_abandoned("broken")
    _body.tell()
    assert not _body.untold()


def test_threads_that_end_it_at_once_settle_it_once() -> None:
    """Of many threads that end one body, each permit is ended by one: nothing is counted twice, nothing raises."""
    room = bulkhead(1)
    for _ in range(200):
        held = held_of(room)
        gate = threading.Barrier(4)

        def end(how: Callable[[Held], None], held: Held = held, gate: threading.Barrier = gate) -> None:
            gate.wait()
            how(held)

        threads = [
            threading.Thread(target=end, args=(how,)) for how in (Held.ended, Held.aborted, Held.abandoned, Held.ended)
        ]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
    shown = room.snapshot()
    assert shown.successes + shown.ignored == 200
    assert shown.inflight == 0


def test_a_permit_that_was_ended_by_hand_is_left_alone() -> None:
    """Whoever holds the permit too may end it; the body's end then says nothing more."""
    room = bulkhead(1)
    for end, _, _ in ENDS.values():
        permit = room.acquire()
        permit.success()
        permit.answered(503)
        held = Held()
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
