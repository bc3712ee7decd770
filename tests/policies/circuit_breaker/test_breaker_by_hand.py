"""A breaker in an operator's hand: forced open for a time, made to probe, closed by as many probes as they ask for."""

from __future__ import annotations

import threading
from datetime import timedelta
from typing import Any

import anyio
import pytest
from measured import measured

from resilio import CircuitOpenError, circuit_breaker, events, keyed, pipeline
from resilio.testing import VirtualTime

BACKENDS = pytest.mark.parametrize("backend", ["asyncio", "trio"])


def fail() -> None:
    """Raise what the breaker counts."""
    raise OSError


def test_a_breaker_that_is_forced_open_for_a_time_probes_afterwards(vt: VirtualTime) -> None:
    """An operator had to come back to end what was meant for a minute; until then it rejects, and says how long."""
    breaker = circuit_breaker()
    breaker.force_open(60)
    with pytest.raises(CircuitOpenError) as caught:
        breaker.call(len, "")
    assert (caught.value.reason, caught.value.retry_after) == ("forced_open", 60.0)
    vt.advance(59.9)
    assert (breaker.snapshot().retry_after, breaker.health().ready) == (pytest.approx(0.1), False)
    vt.advance(0.2)
    assert (breaker.state, breaker.snapshot().retry_after, breaker.health().ready) == ("forced_open", 0.0, True)
    assert breaker.call(len, "probe") == 5
    assert breaker.state == "closed"


@BACKENDS
def test_the_probe_after_a_forced_time_is_one(vt: VirtualTime, backend: str) -> None:
    """One call probes while the others are rejected; if it fails, the breaker opens for the first open time."""
    breaker = circuit_breaker(open_for=1.0)
    seen: list[Any] = []
    breaker.on_event(seen.append)

    async def slow() -> None:
        await anyio.sleep(0.5)
        raise OSError

    async def main() -> None:
        breaker.force_open("2s")
        await anyio.sleep(2)
        async with anyio.create_task_group() as group:
            group.start_soon(breaker.try_acall, slow)
            await anyio.sleep(0.1)
            assert (await breaker.try_acall(slow)).error.reason == "probing"  # type: ignore[union-attr]

    vt.run(main, backend=backend)
    assert [(event.old, event.new, event.reason) for event in seen] == [
        ("closed", "forced_open", "manual"),
        ("forced_open", "half_open", "elapsed"),
        ("half_open", "open", "probe_failed"),
    ]


def test_the_time_can_be_changed_and_taken_back(vt: VirtualTime) -> None:
    """A second `force_open` sets another time, or none; no state changes."""
    breaker = circuit_breaker()
    breaker.force_open(timedelta(minutes=1))
    breaker.force_open(5)
    assert breaker.snapshot().retry_after == 5.0
    breaker.force_open()
    vt.advance(100_000)
    with pytest.raises(CircuitOpenError) as caught:
        breaker.call(len, "")
    assert caught.value.retry_after is None
    assert breaker.health().reasons == ("circuit_breaker unnamed is forced_open",)


@pytest.mark.parametrize("wrong", [0, -1, True, float("nan"), "soon", [1]])
def test_a_wrong_time_is_rejected(wrong: Any) -> None:
    """And the state stays."""
    breaker = circuit_breaker()
    with pytest.raises((TypeError, ValueError), match="time must be"):
        breaker.force_open(wrong)
    assert breaker.state == "closed"


@BACKENDS
def test_a_hedge_takes_no_probe_after_a_forced_time(vt: VirtualTime, backend: str) -> None:
    """A copy is no probe, also where the time of a forced state is over: the primary's answer is worth more."""
    breaker, copies = circuit_breaker(), measured(0.05)
    stage = pipeline(copies, breaker)

    async def main() -> None:
        async with anyio.create_task_group() as group:
            group.start_soon(stage.acall, anyio.sleep, 1.0)
            await anyio.sleep(0.01)
            breaker.force_open(0.02)

    vt.run(main, backend=backend)
    assert (breaker.state, breaker.snapshot().rejected) == ("forced_open", 1)


def test_a_breaker_half_opens_by_hand(vt: VirtualTime) -> None:
    """An operator who knows that the dependency is back had to wait for the open time, or lose all that was seen."""
    breaker = circuit_breaker(consecutive=1, failure_rate=None, open_for=60, max_open_for=60, probes=1)
    with pytest.raises(OSError):
        breaker.call(fail)
    assert breaker.state == "open"
    breaker.half_open()
    assert (breaker.state, breaker.call(len, ""), breaker.state) == ("half_open", 0, "closed")


@pytest.mark.parametrize("state", ["closed", "forced_open", "forced_closed", "disabled"])
def test_a_probe_by_hand_that_fails_opens_the_breaker(vt: VirtualTime, state: str) -> None:
    """From whatever state, for the first open time and half of it more, with a retry_after meanwhile."""
    breaker = circuit_breaker(initial=state, open_for=1.0)  # type: ignore[arg-type]
    breaker.half_open()
    permit = breaker.acquire()
    with pytest.raises(CircuitOpenError) as caught:
        breaker.acquire()
    assert caught.value.reason == "probing"
    assert 0 < caught.value.retry_after <= 1.0
    permit.failure(OSError())
    assert breaker.state == "open"
    assert 1.3 < (breaker.snapshot().retry_after or 0) <= 1.5


def test_half_open_twice_is_one_change() -> None:
    """And the probe in flight keeps its place."""
    breaker = circuit_breaker()
    seen: list[events.StateChanged] = []
    breaker.on_event(seen.append)
    breaker.half_open()
    permit = breaker.acquire()
    breaker.half_open()
    assert breaker.snapshot().probes == 1
    permit.success()
    assert [event.new for event in seen] == ["half_open", "closed"]


def test_by_hand_from_many_threads() -> None:
    """Each call is counted, and the last word holds."""
    breaker = circuit_breaker()

    def work() -> None:
        for _ in range(200):
            breaker.force_open(60)
            breaker.half_open()
            breaker.try_call(len, "")
            breaker.reset()

    threads = [threading.Thread(target=work) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    breaker.reset()
    snapshot = breaker.snapshot()
    assert (snapshot.state, snapshot.inflight, snapshot.calls) == ("closed", 0, 800)


def test_each_key_is_in_hand() -> None:
    """The breaker of one key is forced, the others go on."""
    per_host = keyed(circuit_breaker, key=lambda host: host)
    per_host["a"].force_open(60)
    with pytest.raises(CircuitOpenError):
        per_host.call(len, "a")
    assert per_host.call(len, "b") == 1


# ---- probes that close -----------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("options", "needed"),
    [({}, 1), ({"probes": 3}, 2), ({"closing_probes": 5}, 5), ({"probes": 8, "closing_probes": 3}, 3)],
)
def test_as_many_probes_close_the_breaker_as_the_user_says(
    vt: VirtualTime, options: dict[str, int], needed: int
) -> None:
    """Two were enough, whatever `probes` was: a dependency that flaps could not be watched for longer."""
    breaker = circuit_breaker(**options)  # type: ignore[arg-type]
    breaker.half_open()
    for _ in range(needed):
        assert breaker.state == "half_open"
        breaker.call(len, "")
    assert breaker.state == "closed"


def test_one_failure_among_closing_probes_opens_again(vt: VirtualTime) -> None:
    """Four successes do not make up for it."""
    breaker = circuit_breaker(closing_probes=5)
    breaker.half_open()
    for _ in range(4):
        breaker.call(len, "")
    with pytest.raises(OSError):
        breaker.call(fail)
    assert breaker.state == "open"


def test_closing_probes_fit_into_the_probes() -> None:
    """A default of `probes` follows; a number that the user has set is a bound."""
    assert circuit_breaker(closing_probes=5).config.probes == 5
    with pytest.raises(ValueError, match="closing_probes must be at most probes, which is 2, not 5"):
        circuit_breaker(probes=2, closing_probes=5)
    with pytest.raises(ValueError, match="closing_probes must be an int from 1 to 16, not 17"):
        circuit_breaker(closing_probes=17)
    with pytest.raises(TypeError, match=r"no option 'success_threshold' \(did you mean 'closing_probes'\?\)"):
        circuit_breaker(success_threshold=3)  # type: ignore[call-overload]


def test_closing_probes_can_be_changed_in_flight(vt: VirtualTime) -> None:
    """With the next verdict."""
    breaker = circuit_breaker(probes=8, closing_probes=8)
    breaker.half_open()
    breaker.call(len, "")
    breaker.reconfigure(closing_probes=2)
    breaker.call(len, "")
    assert breaker.state == "closed"
