"""What servers, faults and networks do to calls, one by one and to the millisecond."""

from __future__ import annotations

import pytest

from resilio import bulkhead, circuit_breaker, current_priority, keyed, load_shed, retry, timeout
from resilio.simulation import (
    Cold,
    Constant,
    Delay,
    Errors,
    Exponential,
    Job,
    Load,
    Outage,
    Poisson,
    Queue,
    Regular,
    Scenario,
    Server,
    ServerDown,
    Shrink,
    Slow,
    Stack,
    Surge,
    Trace,
    simulate,
)

pytestmark = pytest.mark.once


def run(at=(0.0,), faults=(), stack=None, *, deadline=10.0, duration=20.0, patience=None, load=None, **server):
    """One worker that takes 100 ms, unless told otherwise; tasks at given times."""
    options = {"service": Constant(0.1), "workers": 1, **server}
    scenario = Scenario(
        load=Load(arrivals=Trace(list(at))) if load is None else load,
        server=Server(**options),
        stacks={"it": stack or Stack()},
        faults=faults,
        deadline=deadline,
        duration=duration,
        patience=patience,
    )
    return simulate(scenario)["it"]


def test_a_queue_is_served_in_order():
    """Three at once take one, two and three times as long."""
    outcome = run((0.0, 0.0, 0.0))
    assert outcome.mean == pytest.approx(0.2, rel=1e-6)


def test_workers_work_at_the_same_time():
    """Three workers serve three at once."""
    assert run((0.0, 0.0, 0.0), workers=3).mean == pytest.approx(0.1, rel=1e-6)


def test_lifo_serves_the_newest_first():
    """The deadline of 200 ms is met by the first and by the newest of those that wait."""
    at = (0.0, 0.01, 0.02, 0.03)
    assert run(at, deadline=0.18).good == 1
    assert run(at, deadline=0.18, queue="lifo").good == 2
    assert run(at, stack=Stack(queue="lifo"), deadline=0.18).good == 2


def test_a_full_queue_rejects():
    """One is served, one waits, and the third gets `ServerBusy`."""
    outcome = run((0.0, 0.0, 0.0), max_queued=1)
    assert (outcome.good, outcome.failed) == (2, 1)
    assert outcome.rejections == (("server", "queue full", 1),)
    assert outcome.failures == (("ServerBusy", 1),)


def test_what_has_expired_is_dropped():
    """Work that nobody waits for any more is not begun; with a margin, nor is work that cannot be done in time."""
    at = (0.0, 0.0, 0.0, 0.0)
    assert run(at, deadline=0.25).served == 4
    assert run(at, deadline=0.25, drop_expired=0.0).served == 3
    assert run(at, deadline=0.25, drop_expired=0.1).served == 2
    assert run(at, stack=Stack(drop_expired=0.1), deadline=0.25).served == 2


class Shedding:
    """A queue of one's own: it takes two, and drops the oldest for a third."""

    def __init__(self) -> None:
        self.jobs: list[Job] = []

    def push(self, job: Job, now_ns: int) -> None:
        assert now_ns >= job.arrived_ns > 0
        self.jobs.append(job)
        if len(self.jobs) > 2:
            self.jobs.pop(0).reject("full")

    def pop(self, now_ns: int) -> Job | None:
        return self.jobs.pop() if self.jobs else None

    def __len__(self) -> int:
        return len(self.jobs)


def test_a_queue_of_ones_own():
    """It decides who is next, and may end a job itself."""
    assert isinstance(Shedding(), Queue)
    outcome = run((0.0, 0.01, 0.02, 0.03), queue=Shedding)
    assert (outcome.good, outcome.failed) == (3, 1)
    assert outcome.rejections == (("server", "full", 1),)


def test_a_job_says_all_that_is_known_of_it():
    """A queue, and the policies of a server, see what is asked for, and by whom."""
    seen = []

    class Watching(Shedding):
        def push(self, job: Job, now_ns: int) -> None:
            seen.append((job.load, job.task, job.call, job.key, job.shard, job.tenant, job.priority, job.gone))
            assert job.request.size is None
            assert job.workers.present == 2
            assert not job.answer.done()
            assert job.deadline_ns == job.request.deadline_ns > now_ns
            assert repr(job) == "<Job of <Request shop task 1 call 0>>"
            super().push(job, now_ns)

    load = Load(name="shop", arrivals=Trace([0.0, 0.01]), tenants=1, priority="critical")
    assert run(load=load, queue=Watching).good == 2
    assert seen == [("shop", 1, 0, 1, 0, "shop-0", "critical", False)]


def test_a_queue_may_keep_its_jobs():
    """One that gives nothing back leaves its worker idle, and its callers wait."""

    class Hoarding(Shedding):
        def pop(self, now_ns: int) -> Job | None:
            return None

    outcome = run((0.0, 0.01), queue=Hoarding)
    assert (outcome.good, outcome.unfinished) == (1, 1)


@pytest.mark.parametrize("stops", [True, False])
def test_who_gives_up_may_stop_the_work(stops):
    """A server that stops cancelled work has its worker back at once; another works on for nobody."""
    outcome = run((0.0, 0.0, 0.06), stack=Stack(client=lambda: timeout(0.05)), stops_cancelled=stops, workers=2)
    assert outcome.failures == (("CallTimeoutError", 3),)
    assert (outcome.served, outcome.wasted) == ((0, 0) if stops else (3, 3))


def test_who_gives_up_in_the_queue_leaves_it():
    """A place in a bounded queue is free again when its caller has gone."""
    at = (0.0, 0.01, 0.07)
    outcome = run(
        at, stack=Stack(client=lambda: timeout(0.05)), stops_cancelled=True, max_queued=1, service=Constant(0.2)
    )
    assert outcome.rejections == ()
    assert outcome.failures == (("CallTimeoutError", 3),)


def test_patience_ends():
    """A caller goes away after his patience, and that is neither an answer nor an error."""
    outcome = run((0.0, 0.0), patience=0.15)
    assert (outcome.good, outcome.gave_up) == (1, 1)


def test_an_outage_rejects():
    """Without a connection nothing reaches a worker, and callers know at once, or after the latency."""
    outcome = run((0.5, 2.0), [Outage(at=0.4, lasts=1.0, mode="refuse", latency=0.2)])
    assert (outcome.good, outcome.failed, outcome.in_outage, outcome.served) == (1, 1, 1, 1)
    assert outcome.failures == (("ServerDown", 1),)
    assert issubclass(ServerDown, ConnectionError)


def test_an_outage_makes_errors():
    """An outage of errors is told apart from one without connections."""
    assert run((0.5,), [Outage(at=0.4, lasts=1.0, mode="error")]).failures == (("ServerError", 1),)


def test_an_outage_hangs():
    """What hangs gets no answer, not even afterwards."""
    outcome = run((0.5, 2.0), [Outage(at=0.4, lasts=1.0, mode="hang")])
    assert (outcome.good, outcome.unfinished, outcome.in_outage) == (1, 1, 1)


def test_an_outage_holds_up():
    """What is held up on the way comes all at once, in order; what its callers have given up comes too."""
    faults = [Outage(at=0.4, lasts=1.0, mode="buffer")]
    outcome = run((0.5, 0.5), faults)
    assert (outcome.good, outcome.in_outage, outcome.arrived, outcome.mean) == (2, 2, 2, pytest.approx(1.05, rel=1e-6))
    gone = Stack(client=lambda: timeout(0.2))
    assert run((0.5, 0.5), faults, gone).wasted == 2
    assert run((0.5, 0.5), faults, gone, stops_cancelled=True).arrived == 0


def test_slow_work_takes_longer():
    """Work that is begun in that time takes `factor` times as long; what faults there are multiply."""
    faults = [Slow(at=1.0, lasts=2.0, factor=3.0), Slow(at=2.0, lasts=2.0, factor=2.0)]
    outcome = run((0.0, 1.5, 2.5, 3.5, 5.0), faults)
    assert outcome.mean == pytest.approx((0.1 + 0.3 + 0.6 + 0.2 + 0.1) / 5, rel=1e-6)


def test_a_cold_server_warms_up():
    """Its speed grows from `start` to the usual one."""
    outcome = run((0.0, 5.0, 10.0), [Cold(at=0.0, lasts=10.0, start=0.5)])
    assert outcome.mean == pytest.approx((0.2 + 0.1 / 0.75 + 0.1) / 3, rel=1e-6)


def test_fewer_workers_take_up_work():
    """A share of the workers is left, one at least; afterwards all take up what waits."""
    faults = [Shrink(at=0.05, lasts=0.2, share=0.01)]
    outcome = run((0.1, 0.1, 0.1, 0.1), faults, workers=4)
    assert outcome.mean == pytest.approx((0.1 + 0.2 + 0.25 + 0.25) / 4, rel=1e-6)


def test_a_share_of_errors():
    """So many requests get an error, after the work; two such faults do not add up to more than all."""
    load = Load(arrivals=Regular(100))
    faults = [Errors(at=0.0, lasts=30.0, share=0.5), Errors(at=0.0, lasts=30.0, share=0.5)]
    outcome = run(faults=faults, load=load, workers=100)
    assert outcome.failed / outcome.offered == pytest.approx(0.75, abs=0.04)
    assert outcome.served == outcome.offered


def test_the_network_takes_its_time():
    """A message takes as long each way, and longer while the network is slow."""
    outcome = run((0.0, 1.5), [Delay(at=1.0, lasts=1.0, seconds=0.05)], network=Constant(0.02))
    assert outcome.mean == pytest.approx((0.14 + 0.24) / 2, rel=1e-6)


def test_a_surge_is_of_one_load():
    """Ten times as many tasks of one load arrive, and as many as before of the other."""
    loads = [Load(name="quiet", arrivals=Regular(10)), Load(name="loud", arrivals=Regular(10))]
    outcome = run(faults=[Surge(at=5.0, lasts=5.0, factor=10.0, load="loud")], load=loads, workers=100)
    assert outcome.loads["quiet"]["offered"] == pytest.approx(200, abs=2)
    assert outcome.loads["loud"]["offered"] == pytest.approx(650, abs=12)


@pytest.mark.parametrize("balance", ["random", "round_robin", "least", "two"])
def test_a_retry_goes_to_another_replica(balance):
    """One of two replicas is dead: the second attempt finds the other, whatever balances."""
    faults = [Outage(at=0.0, lasts=20.0, replicas=0)]
    stack = Stack(client=lambda: retry(on=ConnectionError, attempts=2, budget=None))
    outcome = run(faults=faults, stack=stack, load=Load(arrivals=Poisson(10)), replicas=2, balance=balance, workers=10)
    assert outcome.failed == 0 < outcome.in_outage


@pytest.mark.untraced  # others trace the same lines in less time
def test_balancing_by_load_beats_chance():
    """Who sends to the least busy replica waits less than who chooses by chance; two choices are nearly as good."""
    load = Load(arrivals=Poisson(80))
    means = {
        balance: run(load=load, replicas=10, balance=balance, duration=60.0, service=Exponential(0.1)).mean
        for balance in ("random", "round_robin", "least", "two")
    }
    assert means["least"] < means["two"] < means["round_robin"] < means["random"]


def test_a_key_has_its_replica():
    """One replica of ten is dead: a tenth of the keys fail, and a breaker for each shard rejects those alone."""
    faults = [Outage(at=0.0, lasts=20.0, replicas=[3])]
    stack = Stack(client=lambda: keyed(circuit_breaker, key=lambda request: request.shard))
    load = Load(arrivals=Poisson(100), users=1000)
    outcome = run(faults=faults, stack=stack, load=load, replicas=10, balance="key", workers=10)
    assert outcome.success == pytest.approx(0.9, abs=0.02)
    assert outcome.rejected > 5 * outcome.failed > 0


def test_copies_of_a_request_take_the_same_time():
    """With `same_size`, a retry after a timeout meets the same long service time; without, another."""
    stack = Stack(client=lambda: [retry(on=Exception, attempts=5, budget=None), timeout(0.1)])
    load = Load(arrivals=Poisson(5))
    options = {"load": load, "workers": 100, "service": Exponential(0.1), "stack": stack}
    assert run(same_size=1.0, **options).success == pytest.approx(0.63, abs=0.1)
    assert run(same_size=0.0, **options).success > 0.97


def test_the_server_knows_the_deadline_if_it_is_told():
    """A guarded server rejects what has expired on its way, and is told what is left of the others."""
    seen = []

    def limit():
        from resilio import remaining

        return bulkhead(5, weight=lambda job: seen.append((job.task, job.key, remaining())) or 1)

    options = {"deadlines": True, "network": Constant(0.05), "stack": Stack(server=limit)}
    outcome = run((0.0,), deadline=0.3, **options)
    assert outcome.good == 1
    assert seen == [(0, 0, pytest.approx(0.25, rel=1e-3))]
    assert run((0.0,), deadline=0.01, duration=1.0, **options).failed == 1


def test_what_a_server_gives_up_is_an_error():
    """A timeout of the server's own ends its wait, and the caller gets a `ServerError`."""
    outcome = run((0.0, 0.0), stack=Stack(server=lambda: timeout(0.15)))
    assert (outcome.good, outcome.failures) == (1, (("ServerError", 1),))
    assert run((0.0, 0.0), stack=Stack(server=lambda: timeout(0.15)), stops_cancelled=True).served == 1


def test_what_is_given_up_while_the_server_decides():
    """A request that waits at the server's own policies goes away with its caller, and the place is free again."""
    stack = Stack(client=lambda: timeout(0.05), server=lambda: bulkhead(1, max_queued=1, max_wait=10.0))
    outcome = run((0.0, 0.01, 0.07, 0.08), stack=stack, stops_cancelled=True, service=Constant(0.2))
    assert outcome.failures == (("CallTimeoutError", 4),)
    assert outcome.rejections == ()
    late = run((0.0, 0.01, 0.02), stack=stack, service=Constant(0.2), network=Constant(0.03), stops_cancelled=True)
    assert late.failures == (("CallTimeoutError", 3),)


def test_who_has_gone_before_the_request_arrives_is_not_served():
    """A request whose caller gave up while it was on its way is not worked on by a server that stops such work."""
    stack = Stack(client=lambda: timeout(0.05))
    assert run((0.0,), stack=stack, network=Constant(0.1), stops_cancelled=True).arrived == 0
    assert run((0.0,), stack=stack, network=Constant(0.1)).wasted == 1


def test_the_important_ones_are_served():
    """Both sides know the priority of a load: a shedder rejects the background, and serves what is critical."""
    seen = set()

    def client():
        return bulkhead(1000, weight=lambda _: seen.add(current_priority()) or 1)

    loads = [
        Load(name="users", arrivals=Regular(20), priority="critical"),
        Load(name="jobs", arrivals=Regular(50), priority="background"),
    ]
    stack = Stack(client=client, server=lambda: load_shed(max_concurrent=4))
    outcome = run(load=loads, stack=stack, workers=4, deadline=1.0)
    assert seen == {"critical", "background"}
    assert outcome.loads["users"]["success"] > 0.99
    assert outcome.loads["jobs"]["success"] < 0.6
    assert {who for who, _, _ in outcome.rejections} == {"server's load_shed"}


def test_tenants_and_users_are_drawn():
    """Policies see whose task it is."""
    seen = set()

    def client():
        return bulkhead(1000, weight=lambda request: seen.add((request.tenant, request.key, request.load)) or 1)

    load = Load(name="shop", arrivals=Regular(50), users=10, tenants=3)
    run(load=load, stack=Stack(client=client), workers=100)
    assert {tenant for tenant, _, _ in seen} == {"shop-0", "shop-1", "shop-2"}
    assert {key for _, key, _ in seen} == set(range(10))
    assert {name for _, _, name in seen} == {"shop"}


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"service": 0.1}, "service must be a law of times"),
        ({"workers": 0}, "workers must be"),
        ({"balance": "best"}, "balance must be one of"),
        ({"queue": "sorted"}, "queue must be one of"),
        ({"queue": 3}, "queue must be 'fifo'"),
        ({"stops_cancelled": 1}, "stops_cancelled must be True or False"),
        ({"network": 0.1}, "network must be a law of times.* or None"),
        ({"load": 3}, "load must be a Load"),
        ({"load": []}, "load must be"),
        ({"load": [Load(arrivals=Poisson(1)), Load(arrivals=Poisson(2))]}, "load must be loads of different names"),
        ({"load": Load(arrivals=Poisson(1e6)), "duration": 1e6}, "duration must be so short"),
        (
            {"load": Load(arrivals=Poisson(1e5)), "faults": [Surge(at=0, lasts=20, factor=100)]},
            "duration must be so short",
        ),
        ({"duration": 1e9}, "duration must be"),
        ({"deadline": 0}, "deadline must be"),
        ({"faults": [3]}, "faults must be"),
        ({"faults": 3}, "faults must be"),
        ({"faults": [Slow(at=30, lasts=1, factor=2)]}, r"faults\[0\].at must be less than duration=20"),
        ({"faults": [Slow(at=3, lasts=1, factor=2, replicas=[1])]}, r"faults\[0\].replicas must be"),
        ({"faults": [Surge(at=3, lasts=1, factor=2, load="x")]}, r"faults\[0\].load must be"),
    ],
)
def test_a_scenario_with_a_mistake_is_rejected(changes, message):
    """The message names the parameter and the value."""
    with pytest.raises((TypeError, ValueError), match=message):
        run(**changes)


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: Stack(client=bulkhead(3)), "client must be a function that makes the policies"),
        (lambda: Stack(queue="sorted"), "queue must be one of"),
        (lambda: Load(arrivals=3), "arrivals must be a process"),
        (lambda: Load(arrivals=Poisson(1), name=" "), "name must be a text"),
        (lambda: Load(arrivals=Poisson(1), priority="urgent"), "priority must be one of"),
        (lambda: Outage(at=0, lasts=1, mode="odd"), "mode must be one of"),
        (lambda: Outage(at=0, lasts=1, replicas=[]), "replicas must be"),
        (lambda: Surge(at=0, lasts=1, factor=2, load=3), "load must be"),
        (lambda: Slow(at=0, lasts=1, factor=0), "factor must be"),
        (
            lambda: Scenario(
                load=Load(arrivals=Poisson(1)), server=Server(service=Constant(1)), stacks={}, deadline=1, duration=1
            ),
            "stacks must be",
        ),
        (
            lambda: Scenario(
                load=Load(arrivals=Poisson(1)),
                server=Server(service=Constant(1)),
                stacks={"a": Stack()},
                deadline=1,
                duration=1,
                warmup=1,
            ),
            "warmup must be less than duration=1",
        ),
    ],
)
def test_a_part_with_a_mistake_is_rejected(make, message):
    """The message names the parameter and the value."""
    with pytest.raises((TypeError, ValueError), match=message):
        make()
