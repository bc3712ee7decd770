"""What the simulator's engine computes, against queueing theory and against what must never differ."""

from __future__ import annotations

import hashlib
import json
import math
import platform
import sys

import attrs
import pytest

from resilio import bulkhead, circuit_breaker, constant, deadline, hedge, rate_limit, retry, timeout
from resilio.simulation import (
    Constant,
    Exponential,
    Load,
    Lognormal,
    Mixture,
    Outage,
    Pareto,
    Poisson,
    Regular,
    Scenario,
    Server,
    Stack,
    Uniform,
    simulate,
)


def scenario(rate: float = 900.0, workers: int = 10, **changes):
    """Ten workers at 0.9 of their capacity, unless changed."""
    server = changes.pop("server", Server(workers=workers, service=Exponential(0.01)))
    stacks = changes.pop("stacks", {"bare": Stack()})
    options = {"deadline": 10.0, "duration": 100.0, **changes}
    return Scenario(load=Load(arrivals=Poisson(rate)), server=server, stacks=stacks, **options)


def erlang_c(workers: int, load: float) -> float:
    """The chance to wait in M/M/c."""
    busy = load**workers / math.factorial(workers) / (1 - load / workers)
    return busy / (sum(load**k / math.factorial(k) for k in range(workers)) + busy)


def erlang_b(workers: int, load: float) -> float:
    """The chance to be rejected in M/M/c/c."""
    blocking = 1.0
    for servers in range(1, workers + 1):
        blocking = load * blocking / (servers + load * blocking)
    return blocking


@pytest.mark.real(1.0)
@pytest.mark.once
@pytest.mark.untraced  # a hundred thousand calls, which others trace in small
def test_the_mean_time_is_that_of_m_m_c():
    """A queue before ten workers takes as long as Erlang's formula says, within 2 %."""
    mean = simulate(scenario(duration=200.0, warmup=5.0))["bare"].mean
    assert mean == pytest.approx(0.01 + erlang_c(10, 9.0) / (1000 - 900), rel=0.02)


@pytest.mark.real(1.5)
@pytest.mark.once
@pytest.mark.untraced  # a hundred thousand calls, which others trace in small
def test_a_bulkhead_without_a_queue_rejects_as_erlang_b():
    """A real bulkhead before workers enough for it rejects what Erlang's formula says, within 1 %."""
    result = simulate(scenario(1500.0, 100, stacks={"limit": Stack(client=lambda: bulkhead(10))}, duration=200.0))
    outcome = result["limit"]
    assert outcome.rejected / outcome.offered == pytest.approx(erlang_b(10, 15.0), rel=0.01)
    assert outcome.rejections == (("bulkhead", "full", outcome.rejected),)


@pytest.mark.real(1.5)
@pytest.mark.once
@pytest.mark.untraced  # a hundred thousand calls, which others trace in small
def test_a_server_guarded_by_a_bulkhead_rejects_the_same():
    """The server's own policies are in front of its workers, and what they reject is an error for the client."""
    stacks = {"server": Stack(server=lambda: [bulkhead(10)])}
    outcome = simulate(scenario(1500.0, 10, stacks=stacks, duration=60.0))["server"]
    assert outcome.failed / outcome.offered == pytest.approx(erlang_b(10, 15.0), rel=0.02)
    assert outcome.failures == (("ServerBusy", outcome.failed),)
    assert outcome.rejections == (("server's bulkhead", "full", outcome.failed),)


def all_of_it():
    """Policies of every kind, whose random numbers are drawn in three places."""
    return [
        deadline(1.0),
        retry(on=Exception, attempts=3),
        hedge(idempotent=True, after=0.05),
        rate_limit("2000/s"),
        circuit_breaker(consecutive=3),
        bulkhead(100, max_queued=100, max_wait=0.1),
        timeout(0.3),
    ]


@pytest.mark.untraced  # others trace the same lines in less time
@pytest.mark.once
def test_the_same_seed_gives_the_same_bytes():
    """Arrivals, service times, jitter of breakers and backoffs: one seed decides all of it, another differs."""
    stacks = {"all": Stack(client=all_of_it, server=lambda: [bulkhead(20)])}
    faults = [Outage(at=2.0, lasts=1.0, mode="error", latency=0.02)]
    once = scenario(duration=6.0, clients=3, stacks=stacks, faults=faults, deadline=1.0)

    def run(seed: int) -> str:
        return json.dumps(simulate(once, seed=seed).to_dict())

    assert run(5) == run(5) != run(6)


@pytest.mark.skipif(sys.platform != "linux" or platform.machine() != "x86_64", reason="another library of logarithms")
def test_every_python_gives_the_same_bytes():
    """Random numbers, rounding and order do not depend on the version of Python: these are the bytes of all of them."""
    laws = [(0.5, Exponential(0.01)), (0.25, Lognormal(0.01, 0.5)), (0.25, Pareto(0.001, 1.5))]
    server = Server(workers=3, service=Mixture(laws), replicas=3, balance="two", network=Uniform(0.0, 0.001))
    result = simulate(scenario(500.0, server=server, duration=5.0, patience=0.5), seed=11)
    text = json.dumps(result.to_dict(), sort_keys=True)
    digest = hashlib.sha256(text.encode()).hexdigest()
    assert digest == "d67a300a471af7230aee3a4067d0eeeb208b8d36539eec3ab663f161fc23aa25"


@pytest.mark.untraced  # others trace the same lines in less time
@pytest.mark.once
def test_stacks_face_the_same_arrivals():
    """What a stack does to the calls does not change when tasks come."""
    stacks = {"bare": Stack(), "guarded": Stack(client=all_of_it)}
    result = simulate(scenario(duration=5.0, stacks=stacks))
    arrivals = [[part["offered"] for part in outcome.timeline] for outcome in result.values()]
    assert arrivals[0] == arrivals[1]


@pytest.mark.untraced  # others trace the same lines in less time
@pytest.mark.once
def test_every_task_has_one_fate():
    """Good, late, failed, rejected, given up and unfinished add up to what was offered, in all and in each slice."""
    stacks = {"bare": Stack(), "all": Stack(client=all_of_it)}
    faults = [Outage(at=1.0, lasts=1.0, mode="hang")]
    result = simulate(scenario(1500.0, duration=4.0, stacks=stacks, faults=faults, deadline=0.5, patience=0.7))
    for outcome in result.values():
        fates = (outcome.good, outcome.late, outcome.failed, outcome.rejected, outcome.gave_up, outcome.unfinished)
        assert sum(fates) == outcome.offered == sum(part["offered"] for part in outcome.timeline)
        assert sum(part["good"] for part in outcome.timeline) == outcome.good
    assert result["bare"].gave_up > 0 < result["bare"].late


def test_calls_of_a_task_come_one_after_the_other():
    """A task of three calls takes three times as long, and counts once."""
    load = Load(arrivals=Regular(10), calls=3)
    once = Scenario(
        load=load, server=Server(service=Constant(0.01)), stacks={"bare": Stack()}, deadline=1.0, duration=9.95
    )
    outcome = simulate(once)["bare"]
    assert (outcome.offered, outcome.requests, outcome.served) == (99, 297, 297)
    assert outcome.mean == pytest.approx(0.03, rel=0.01)


@pytest.mark.once
@pytest.mark.untraced  # a hundred thousand calls, which others trace in small
def test_a_run_that_goes_round_without_waiting_is_ended():
    """A retry without a wait of a call that fails at once for ever makes no time pass: the result says so."""
    stacks = {"round": Stack(client=lambda: [retry(on=Exception, attempts=10**6, backoff=constant(0.0), budget=None)])}
    faults = [Outage(at=0.0, lasts=1.0, mode="refuse")]
    result = simulate(scenario(10.0, duration=2.0, stacks=stacks, faults=faults))
    assert not result.complete
    assert "stands still" in result["round"].ended_early or "100 times" in result["round"].ended_early


@pytest.mark.untraced  # others trace the same lines in less time
@pytest.mark.once
def test_a_run_that_attempts_without_end_is_ended(monkeypatch):
    """So many attempts for each call that nobody meant it: the run ends with what there is."""
    monkeypatch.setattr("resilio.simulation._simulate._MORE_ATTEMPTS", 100)
    stacks = {"round": Stack(client=lambda: [retry(on=Exception, attempts=10**6, backoff=constant(1e-4), budget=None)])}
    once = scenario(10.0, duration=20.0, stacks=stacks, faults=[Outage(at=0.0, lasts=18.0, mode="refuse")])
    result = simulate(once)
    assert "100 times" in result["round"].ended_early
    assert result["round"].elapsed < 18.0


def test_a_run_whose_tasks_do_not_end_is_ended(monkeypatch):
    """Tasks that hang without a time-out pile up: the run ends before they have taken all memory."""
    monkeypatch.setattr("resilio.simulation._simulate._UNDER_WAY", 3000)
    result = simulate(scenario(1000.0, duration=100.0, faults=[Outage(at=1.0, lasts=90.0, mode="hang")]))
    assert "more than 3,000 tasks are under way" in result["bare"].ended_early
    assert result["bare"].elapsed < 10
    assert result["bare"].unfinished > 3000


def test_progress_can_stop_it_and_the_result_says_so():
    """What there is by then comes back, marked."""
    seen = []

    def stop(progress):
        seen.append(progress)
        return progress.elapsed < 5.0

    once = scenario(duration=2000.0, stacks={"first": Stack(), "second": Stack()})
    result = simulate(once, progress=stop)
    assert not result.complete
    assert list(result) == ["first"]
    assert result.ended_early == "stopped"
    assert 5.0 <= result["first"].elapsed == pytest.approx(seen[-1].elapsed)
    assert (seen[0].stack, seen[0].number, seen[0].stacks) == ("first", 0, 2)
    assert sum(part["offered"] for part in result["first"].timeline) == result["first"].offered > 0


def test_an_interrupt_ends_it_and_gives_the_clock_back():
    """A Ctrl-C that nobody asked about goes through, and time is real afterwards."""
    from resilio._native import clock

    def interrupt(progress):
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        simulate(scenario(duration=2000.0), progress=interrupt)
    assert clock.source() != "virtual"


def test_it_rejects_to_run_inside_of_a_loop():
    """One thread has one event loop at a time."""
    import asyncio

    async def inside():
        simulate(scenario(duration=1.0))

    with pytest.raises(RuntimeError, match="running event loop"):
        asyncio.run(inside())


def test_what_a_stack_makes_of_it_is_told():
    """A factory that raises ends the simulation with its own error."""

    def broken():
        raise LookupError("no such policy")

    with pytest.raises(LookupError, match="no such policy"):
        simulate(scenario(duration=1.0, stacks={"broken": Stack(client=broken)}))


def test_seeds_are_checked():
    """A seed is an int >= 0."""
    with pytest.raises(ValueError, match=r"seed must be .*not -1"):
        simulate(attrs.evolve(scenario(), duration=1.0), seed=-1)
