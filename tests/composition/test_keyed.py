"""What a keyed policy promises."""

from __future__ import annotations

import functools
import gc
import logging
import math
import re
import threading
import weakref

import anyio
import pytest

from resilio import (
    Rate,
    adaptive_limit,
    bulkhead,
    circuit_breaker,
    configure,
    deadline,
    events,
    fallback,
    hedge,
    keyed,
    load_shed,
    override,
    pipeline,
    policy_of,
    rate_limit,
    registry,
    retry,
    timeout,
)
from resilio._composition.keyed_options import parts_of
from resilio.errors import BulkheadFullError, CallTimeoutError, CircuitOpenError
from resilio.testing import assert_no_leaks, record_events

BACKENDS = pytest.mark.parametrize("backend", ["asyncio", "trio"])


def breakers(**options):
    """A breaker of two failures for each host."""
    return keyed(lambda: circuit_breaker(consecutive=2, open_for=10.0, max_open_for=10.0), **{"key": "host", **options})


def calling(host, error=None):
    if error is not None:
        raise error
    return host


def fail(guarded, *args, times=2, **kwargs):
    for _ in range(times):
        with pytest.raises(OSError):
            guarded(*args, error=OSError(), **kwargs)


# ---- options ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("name", "values"),
    [
        ("factory", [None, 5, "breaker", circuit_breaker()]),
        ("key", [None, 5, "not a name", ""]),
        ("max_keys", [0, -1, True, 1.5, "many", None]),
        ("idle", [0, -1, math.nan, True, "60"]),
        ("name", ["", " x", 5]),
    ],
)
def test_a_bad_option_is_rejected_by_name_and_value(name, values):
    """Whatever makes no sense is rejected at construction, with what it was and what it should be."""
    for value in values:
        options = {"factory": circuit_breaker, "key": "host", name: value}
        with pytest.raises((TypeError, ValueError), match=rf"^{name} must be .*, not {re.escape(repr(value)[:30])}"):
            keyed(options.pop("factory"), **options)


def test_an_async_key_function_is_rejected():
    """The key is needed at once."""

    async def key(*args):
        """Never called."""

    with pytest.raises(TypeError, match="key must be a function that answers at once"):
        keyed(circuit_breaker, key=key)


@pytest.mark.parametrize(
    ("factory", "error", "text"),
    [
        (lambda: 5, TypeError, "factory must make a policy; .* made 5"),
        (lambda: circuit_breaker("named"), ValueError, "without a name, not 'named'"),
        (lambda: pipeline(circuit_breaker(), bulkhead(1, name="shared")), ValueError, "without a name, not 'shared'"),
        (lambda: keyed(circuit_breaker, key="x"), TypeError, "make one key of both"),
        (lambda: 1 / 0, ZeroDivisionError, "division by zero"),
    ],
)
def test_a_factory_that_cannot_serve_is_rejected_at_once(factory, error, text):
    """It is called when the keyed policy is made, not in the middle of the first call."""
    with registry.isolated(), pytest.raises(error, match=text):
        keyed(factory, key="host")


def test_a_factory_may_take_the_key_and_makes_the_shared_policy_for_none():
    """A parameter without a default gets the key."""
    seen = []

    def factory(host):
        seen.append(host)
        return bulkhead(5 if host == "big" else 1)

    pools = keyed(factory, key="host")
    assert (pools["big"].config.max_concurrent, pools["small"].config.max_concurrent) == (5, 1)
    assert seen == [None, "big", "small"]


def test_the_policies_of_all_keys_are_of_one_kind_and_new():
    """A factory that makes another kind, or the same object again, is told so; calls share one policy meanwhile."""
    made = {"other": bulkhead(1)}
    mixed = keyed(lambda host: made.get(host) or circuit_breaker(), key="host")
    with pytest.raises(TypeError, match="the same kinds of policies for each key; for 'other' it made <Bulkhead"):
        mixed["other"]
    one = circuit_breaker()
    same = keyed(lambda host: circuit_breaker() if host is None else one, key="host")
    assert same["y"] is one
    with pytest.raises(ValueError, match="a new policy for each key"):
        same["x"]
    assert same(calling)("x") == "x"
    assert same.snapshot().errors == 1
    assert same.overflow.snapshot().calls == 1


@pytest.mark.parametrize("policy", [circuit_breaker, lambda: pipeline(circuit_breaker(), bulkhead(3))])
def test_a_factory_that_returns_one_object_twice_is_rejected(policy):
    """`keyed(lambda: breaker, key="host")` was accepted, and all hosts shared one breaker with a line in the log."""
    one, kept = policy(), []

    def cached():
        kept.append(policy()) if not kept else None
        return kept[0]

    for factory in (lambda: one, lambda host: one, cached):
        with pytest.raises(ValueError, match=r"returned one twice: write it as a function that makes one"):
            keyed(factory, key="host")
    shared = circuit_breaker()
    with pytest.raises(ValueError, match="returned one twice"):
        keyed(lambda: pipeline(shared, bulkhead(3)), key="host")
    by_key = functools.cache(lambda host: policy())
    assert keyed(by_key, key="host")["a"] is by_key("a")


def test_one_name_is_one_keyed_policy():
    """The same name and options give the same object; other options are rejected."""
    with registry.isolated():
        made = keyed(circuit_breaker, key="host", name="one-keyed")
        assert keyed(circuit_breaker, key="host", name="one-keyed") is made
        assert registry.get("one-keyed") is made
        with pytest.raises(ValueError, match="max_keys=10000 against 5"):
            keyed(circuit_breaker, key="host", max_keys=5, name="one-keyed")


# ---- which key -------------------------------------------------------------------------------------------------------


def test_each_key_has_a_state_of_its_own():
    """One host that is down is shut out alone."""
    per_host = breakers()
    call = per_host(calling)
    fail(call, "bad")
    with pytest.raises(CircuitOpenError):
        call("bad")
    assert call("good") == "good"
    assert (per_host["bad"].state, per_host["good"].state) == ("open", "closed")
    assert [key for key, _ in per_host.items()] == list(per_host) == ["bad", "good"]
    assert ("bad" in per_host, "unknown" in per_host, len(per_host), bool(breakers())) == (True, False, 2, True)
    assert per_host.get("unknown") is None
    assert per_host.get("bad") is per_host["bad"]


def test_a_parameter_is_found_by_position_by_keyword_and_by_default():
    """The name stands for the parameter, however a call passes it."""
    per_host = keyed(lambda: bulkhead(9), key="host")

    @per_host
    def plain(path, host="default", *rest, port=1):
        return host

    @per_host
    def other(host, /, **options):
        return host

    @per_host
    def by_keyword(*paths, host):
        return host

    @per_host
    def anything(**options):
        return options["host"]

    plain("p", "a"), plain("p", host="b"), plain("p"), other("c"), by_keyword(1, 2, host="d"), anything(host="e")
    functools.partial(plain, "p")("f"), per_host(functools.partial(calling, error=None))("g")
    assert list(per_host) == ["a", "b", "default", "c", "d", "e", "f", "g"]
    assert per_host.snapshot().errors == 0


def test_a_parameter_that_is_not_there_is_an_error_at_decoration():
    """Not a surprise in the first call."""
    per_host = keyed(circuit_breaker, key="host")
    with pytest.raises(TypeError, match=r"key='host': .*has no such parameter; it has: url, timeout"):
        per_host(lambda url, timeout=1: None)
    with pytest.raises(TypeError, match="has no such parameter; it has: none"):
        pipeline(rate_limit("9/s"), per_host)(lambda: None)
    with pytest.raises(TypeError, match="has no such parameter"):
        per_host(lambda *host: None)
    with pytest.raises(TypeError, match="are not known; give `key` a function"):
        keyed(circuit_breaker, key="default")(getattr)


def test_a_key_function_sees_the_exact_arguments():
    """self included, and keywords as such."""
    seen = []

    def key(*args, **kwargs):
        seen.append((args, kwargs))
        return args[1]

    per_tenant = keyed(lambda: bulkhead(1), key=key)

    class Client:
        @per_tenant
        def get(self, tenant, *, size):
            return tenant

    client = Client()
    assert client.get("t", size=3) == "t"
    assert seen == [((client, "t"), {"size": 3})]
    assert list(per_tenant) == ["t"]


def test_keyed_by_self_each_instance_has_its_own():
    """The state that instances share otherwise; a weak reference as key lets them go."""

    class Client:
        @keyed(lambda: circuit_breaker(consecutive=2), key="self")
        def get(self, error=None):
            return calling(self, error)

        @keyed(lambda: bulkhead(1), key=weakref.ref)
        def weakly(self):
            return 1

    one, two = Client(), Client()
    fail(one.get)
    with pytest.raises(CircuitOpenError):
        one.get()
    assert two.get() is two
    assert one.weakly() == 1
    per_instance = policy_of(Client.weakly)
    assert weakref.ref(one) in per_instance
    gone = weakref.ref(one)
    policy_of(Client.get).reset()
    del one
    gc.collect()
    assert gone() is None


@pytest.mark.parametrize(
    ("key", "args"),
    [
        (lambda host: [host], ("a",)),
        (lambda host: 1 / 0, ("a",)),
        (functools.partial(lambda: 0), ("a",)),
        ("host", ([],)),
    ],
    ids=["unhashable", "raises", "takes no arguments", "unhashable argument"],
)
def test_a_call_without_a_key_shares_a_policy_and_is_logged_once(caplog, key, args):
    """A key function must not decide over the call; that it fails is counted, and logged once."""
    per_host = keyed(lambda: circuit_breaker(consecutive=2), key=key, name=None)
    call = per_host(lambda host: host)
    with caplog.at_level(logging.WARNING, "resilio"):
        assert [call(*args) for _ in range(3)] == [args[0]] * 3
    assert len([record for record in caplog.records if "no key" in record.message]) == 1
    assert (per_host.snapshot().errors, per_host.snapshot().keys, per_host.overflow.snapshot().calls) == (3, 0, 3)


def test_a_call_whose_own_arguments_are_wrong_raises_its_own_error():
    """A missing argument is the caller's TypeError, as without the policy."""
    with pytest.raises(TypeError, match="missing 1 required positional argument"):
        breakers()(calling)()


@pytest.mark.untraced  # the interrupt would come in the tracer
def test_a_key_whose_equality_raises_is_no_key():
    """Nor is one that raises BaseException: only Ctrl-C is raised again."""

    class Odd:
        def __init__(self, error):
            self.error = error

        def __hash__(self):
            raise self.error

    per_host = breakers()
    call = per_host(calling)
    odd = Odd(ValueError())
    assert call(odd) is odd
    with pytest.raises(KeyboardInterrupt):
        call(Odd(KeyboardInterrupt()))
        for _ in range(100_000):
            pass
    assert per_host.snapshot().errors == 2
    with pytest.raises(ValueError):
        per_host[odd]


# ---- the uses --------------------------------------------------------------------------------------------------------


@BACKENDS
def test_all_uses_find_the_key(vt, backend):
    """call, acall, attempt, permits and blocks by hand; async functions and streams."""
    per_host = keyed(lambda: bulkhead(1), key="host")

    async def main():
        async def later(host):
            return host

        async def items(host):
            yield host

        assert per_host.call(calling, "a") == "a"
        assert await per_host.acall(later, "b") == "b"
        assert per_host.try_call(calling, "c").value == "c"
        assert (await per_host.try_acall(later, host="d")).value == "d"
        permit = per_host.try_acquire(host="e")
        assert permit
        assert not per_host.try_acquire("e")
        permit.success()
        with per_host.permit("f"):
            with pytest.raises(BulkheadFullError):
                per_host.call(calling, "f")
            per_host.call(calling, "g")
        async with per_host.permit(host="h"):
            pass
        permit = await per_host.aacquire("i")
        permit.failure(OSError())
        assert [item async for item in per_host(items)("j")] == ["j"]
        assert await per_host(later)("k") == "k"

    vt.run(main, backend=backend)
    assert "".join(per_host) == "abcdefghijk"
    assert per_host.snapshot().errors == 0
    assert_no_leaks(per_host)


def test_a_permit_without_a_function_needs_its_key():
    """By keyword, or as the only argument."""
    per_host = keyed(lambda: bulkhead(1), key="host")
    per_host.try_acquire(1, 2).success()
    per_host.try_acquire(port=2).success()
    assert (per_host.snapshot().errors, len(per_host)) == (2, 0)


@BACKENDS
def test_waits_are_at_the_gate_of_the_key(vt, backend):
    """Two calls of one key queue, another key goes ahead; nothing is left."""
    pools = keyed(lambda: bulkhead(1, max_queued=5, max_wait=60.0), key="host")
    order = []

    @pools
    async def call(host, number):
        order.append((host, number))
        await anyio.sleep(1)

    async def main():
        async with anyio.create_task_group() as group:
            group.start_soon(call, "a", 1)
            await anyio.sleep(0.1)
            for host, number in (("a", 2), ("b", 1)):
                group.start_soon(call, host, number)
            await anyio.sleep(0.5)
            assert order == [("a", 1), ("b", 1)]
            assert (pools["a"].snapshot().queued, pools.snapshot().queued, pools.snapshot().inflight) == (1, 1, 2)

    vt.run(main, backend=backend)
    assert order[-1] == ("a", 2)
    assert_no_leaks(pools)


@pytest.mark.filterwarnings(
    "ignore::resilio._composition.pipeline.PipelineWarning"
)  # the order is not the recommended one
@BACKENDS
@pytest.mark.parametrize(
    "factory",
    [
        lambda: retry(on=OSError, backoff=0.1, attempts=3, budget=None),
        lambda: fallback(lambda host: host, on=OSError),
        lambda: timeout(5.0),
        lambda: hedge(after=1.0, idempotent=True),
        lambda: rate_limit("100/s"),
        circuit_breaker,
        lambda: pipeline(retry(on=OSError, backoff=0.1, budget=None), circuit_breaker(), bulkhead(2), timeout(5.0)),
    ],
    ids=["retry", "fallback", "timeout", "hedge", "rate_limit", "circuit_breaker", "pipeline"],
)
def test_every_kind_of_policy_can_have_keys(vt, backend, factory):
    """Gates, strategies and pipelines of them, alone and stacked, with other policies around and inside."""
    stage = keyed(factory, key="host")
    attempts = []

    async def call(host):
        attempts.append(host)
        await anyio.sleep(0.01)
        if len(attempts) == 1 and (stage["x"].kind in ("retry", "fallback", "pipeline")):
            raise OSError
        return host

    async def main():
        limit, pool = rate_limit("99/s"), bulkhead(5)
        for guarded in (stage(call), pipeline(limit, stage, pool)(call), limit(stage(pool(call)))):
            assert await guarded("a") == "a"
            assert await guarded(host="b") == "b"

    vt.run(main, backend=backend)
    assert set(stage) == {"a", "b", "x"}
    assert stage.snapshot().successes == 6
    assert_no_leaks(stage)


def test_a_pipeline_for_each_key_is_looked_up_once_a_call():
    """All its stages are of the same key, which is asked for once."""
    asked = []

    def key(host, **_):
        asked.append(host)
        return host

    stage = keyed(lambda: pipeline(circuit_breaker(consecutive=2), bulkhead(1)), key=key)
    call = stage(calling)
    assert [call(host) for host in "abc"] == ["a", "b", "c"]
    assert asked == ["a", "b", "c"]
    fail(call, "a")
    with pytest.raises(CircuitOpenError):
        call("a")
    assert [part.snapshot().calls for part in stage["a"].policies] == [4, 3]
    assert [gate.counters()["calls"] for gate in stage.gates] == [6, 6, 5]
    assert stage["b"].drain(0)


@BACKENDS
def test_a_retry_around_looks_the_key_up_for_each_attempt(vt, backend):
    """And the retry of a key sees what the breaker of the key inside says."""
    stage = keyed(
        lambda: pipeline(retry(on=OSError, backoff=0.1, attempts=5, budget=None), circuit_breaker(consecutive=2)),
        key="host",
    )

    async def broken(host):
        raise OSError(host)

    async def main():
        for guarded in (stage(broken), retry(on=OSError, backoff=0.1, budget=None)(breakers()(broken))):
            with pytest.raises(OSError, match="a"):
                await guarded("a")

    vt.run(main, backend=backend)
    assert stage["a"].policies[1].state == "open"
    assert_no_leaks(stage)


def test_a_stream_finds_its_key_as_other_calls_do(vt):
    """By position, by keyword and by default, whatever other arguments there are."""
    per_host = breakers()

    @per_host
    def stream(path, host="default", *more):
        yield (path, host)

    @per_host
    async def astream(path, host="default", *more):
        yield (path, host)

    async def main():
        return [item async for item in astream("p", "c", 1)] + [item async for item in astream(path="p", host="d")]

    calls = [stream("p"), stream("p", "a"), stream("p", host="b")]
    assert [list(each) for each in calls] == [[("p", "default")], [("p", "a")], [("p", "b")]]
    assert vt.run(main) == [("p", "c"), ("p", "d")]
    assert list(per_host) == ["default", "a", "b", "c", "d"]
    assert per_host.snapshot().errors == 0


def test_a_stream_without_a_key_shares_a_policy():
    """A key function that raises must not decide over a stream, either."""
    retries = keyed(lambda: retry(on=OSError, backoff=0.0), key=lambda host: 1 // 0)
    assert list(retries(flowing(fails=1))("a")) == ["a", "a"]
    assert (len(retries), retries.snapshot().errors, retries.overflow.snapshot().retries) == (0, 1, 1)


def flowing(fails=0):
    """A generator function whose first runs fail before their first item."""
    begun = []

    def stream(host):
        begun.append(host)
        if begun.count(host) <= fails:
            raise OSError(host)
        yield host
        yield host

    return stream


def flowing_slowly(fails=0, first=0.0, between=0.0):
    """The same as an async generator function that takes its time."""
    begun = []

    async def stream(host):
        begun.append(host)
        await anyio.sleep(first)
        if begun.count(host) <= fails:
            raise OSError(host)
        yield host
        await anyio.sleep(between)
        yield host

    return stream


STACK = [
    lambda: retry(on=OSError, backoff=0.1),
    lambda: pipeline(retry(on=OSError, backoff=0.1), circuit_breaker(), timeout(first=5.0), bulkhead(2)),
    lambda: fallback(lambda host: [host, host], on=OSError),
    lambda: pipeline(deadline(9.0), fallback(lambda host: [host, host], on=OSError)),
]


@BACKENDS
@pytest.mark.parametrize("factory", STACK, ids=["retry", "stack", "fallback", "pipeline"])
def test_a_keyed_strategy_guards_a_stream(vt, backend, factory):
    """Each key's stream is begun again or elsewhere by that key's policy, which counts it; one look-up a call."""
    asked = []

    def key(host):
        asked.append(host)
        return host

    stage = keyed(factory, key=key)
    call, plain = stage(flowing_slowly(fails=2)), factory()(flowing_slowly(fails=2))

    async def main():
        for stream in (call, plain):
            assert [item async for item in stream("a")] == ["a", "a"]
        assert [item async for item in call("b")] == ["b", "b"]

    vt.run(main, backend=backend)
    assert asked == ["a", "b"]
    assert [stage[host].snapshot().successes for host in "ab"] == [1, 1]
    assert stage.snapshot().calls == 2
    assert_no_leaks(stage)


@pytest.mark.parametrize("factory", [STACK[0], STACK[2], STACK[3]], ids=["retry", "fallback", "pipeline"])
def test_a_keyed_strategy_guards_a_plain_generator(vt, factory):
    """The same for generators that are not async."""
    stage = keyed(factory, key="host")
    assert list(stage(flowing(fails=2))("a")) == ["a", "a"]
    assert stage["a"].snapshot().successes == 1
    assert_no_leaks(stage)


@BACKENDS
@pytest.mark.parametrize(("times", "clock"), [({"first": 1.0}, "first"), ({"between": 1.0}, "idle")])
def test_the_clocks_of_a_keyed_timeout_run_on_a_stream(vt, backend, times, clock):
    """First and idle, each key by its own policy."""
    stage = keyed(lambda: timeout(first=0.5, idle=0.5), key="host")
    call = stage(flowing_slowly(**times))

    async def main():
        with pytest.raises(CallTimeoutError) as caught:
            [item async for item in call("a")]
        assert caught.value.clock == clock

    vt.run(main, backend=backend)
    assert stage["a"].snapshot().failures == 1


@pytest.mark.parametrize(
    ("factory", "stream"),
    [
        (lambda: hedge(idempotent=True), flowing()),
        (lambda: hedge(idempotent=True), flowing_slowly()),
        (lambda: timeout(5.0), flowing()),
        (lambda: pipeline(retry(on=OSError), hedge(idempotent=True)), flowing_slowly()),
    ],
    ids=["hedge", "async hedge", "timeout", "pipeline"],
)
def test_what_cannot_guard_a_stream_cannot_with_keys(factory, stream):
    """The error is that of the policy without keys, where the stream is decorated."""
    with pytest.raises(TypeError) as plain:
        factory()(stream)
    with pytest.raises(TypeError, match=re.escape(str(plain.value))):
        keyed(factory, key="host")(stream)


def test_policy_of_gives_the_keyed_policy():
    """Also under wrappers, and what guards one function guards another."""
    per_host = breakers()
    assert policy_of(per_host(calling)) is per_host
    assert per_host(calling)("a") == per_host(lambda host: host)("a") == "a"
    assert len(per_host) == 1


# ---- bounded ---------------------------------------------------------------------------------------------------------


def test_beyond_max_keys_new_ones_share_a_policy(vt):
    """Those that are there keep theirs, whatever comes."""
    per_host = breakers(max_keys=3)
    call = per_host(calling)
    for host in "abc":
        fail(call, host, times=1)
    for host in "defg":
        call(host)
    assert list(per_host) == ["a", "b", "c"]
    assert (per_host["z"] is per_host.overflow, per_host.overflow.snapshot().calls) == (True, 4)
    snapshot = per_host.snapshot()
    assert (snapshot.keys, snapshot.overflowed, snapshot.calls, snapshot.evicted) == (3, 5, 7, 0)


def test_a_key_that_is_as_new_makes_room(vt):
    """At max_keys those go that nobody can tell from new ones, the least used first."""
    pools = keyed(lambda: bulkhead(1), key="host", max_keys=3)
    call = pools(calling)
    permit = pools.try_acquire(host="held")
    for number in range(100):
        call(number)
    assert pools["held"].used == 1
    assert len(pools) <= 3
    permit.success()
    snapshot = pools.snapshot()
    assert (snapshot.calls, snapshot.successes) == (101, 101)
    assert snapshot.evicted + snapshot.keys + snapshot.overflowed >= 101


def test_a_key_in_use_is_never_forgotten(vt):
    """Neither an open breaker nor one with something in its window; after that, when new keys come, it goes."""
    per_host = breakers(idle=30.0)
    call = per_host(calling)
    fail(call, "down")
    fail(call, "failed once", times=1)
    call("fine")
    for number in range(100):
        call(number)
    assert {"down", "failed once", "fine"} <= set(per_host)
    vt.advance(61.0)  # the window is empty, and everybody idle
    for _ in range(4):
        for number in range(1000, 1100):
            call(number)
        vt.advance(31.0)
    assert {"down", "failed once"} <= set(per_host)  # a failure in a row counts for ever
    assert "fine" not in per_host
    assert per_host.snapshot().evicted >= 50
    assert per_host.snapshot().calls == 2 + 1 + 1 + 100 + 400


def test_what_somebody_else_has_in_hand_is_not_forgotten(vt):
    """A policy that was looked up, a permit, a call under way, and a listener keep a key."""
    pools = keyed(lambda: bulkhead(5), key="host", max_keys=4)
    mine = pools["mine"]
    permit = pools.try_acquire(host="held")
    heard = []
    pools["heard"].on_event(heard.append, kinds=(events.Settled,))
    changed = pools["changed"]
    changed.reconfigure(max_concurrent=7)
    del changed
    call = pools(calling)
    for number in range(50):
        call(number)
    assert {"mine", "held", "heard", "changed"} == set(pools)
    assert pools["mine"] is mine
    call("heard")
    assert [event.key for event in heard] == ["heard"]
    permit.success()


def test_an_evicted_policy_is_freed_at_once(vt):
    """Without a collection: many keys that come and go must not wait for one."""
    pools = keyed(lambda: bulkhead(1), key="host", max_keys=1)
    gc.disable()
    try:
        gone = weakref.ref(pools["a"])
        for number in range(10):
            pools(calling)(number)
        assert "a" not in pools
        assert gone() is None
    finally:
        gc.enable()


@pytest.mark.filterwarnings(
    "ignore::resilio._composition.pipeline.PipelineWarning"
)  # the order is not the recommended one
@pytest.mark.parametrize(
    "factory",
    [
        lambda: bulkhead(2),
        circuit_breaker,
        adaptive_limit,
        load_shed,
        lambda: rate_limit("9/s", Rate("9/s", unit="tokens", cost=lambda host: 1)),
        lambda: retry(on=OSError, budget=None),
        lambda: hedge(idempotent=True),
        lambda: timeout(5.0, thread=True),
        lambda: deadline(5.0),
        lambda: fallback(lambda host: host, on=OSError),
        lambda: pipeline(pipeline(retry(on=OSError, budget=None), circuit_breaker()), bulkhead(2)),
    ],
    ids=lambda factory: factory().kind,
)
def test_what_is_as_new_of_any_kind_makes_room_and_dies(vt, factory):
    """Nothing but the table keeps a key's policy alive, whatever it is made of."""
    stage = keyed(factory, key="host", max_keys=2, idle=1.0)
    gc.disable()
    try:
        gone = [weakref.ref(part) for part in parts_of(stage["first"])]
        for number in range(10):
            vt.advance(1_000.0)
            stage[number]
        assert "first" not in stage
        assert [one() for one in gone] == [None] * len(gone)
        assert stage.snapshot().evicted >= 8
    finally:
        gc.enable()


def test_a_policy_that_is_referred_to_from_inside_is_forgotten_like_others(vt):
    """
    Whether a caller had a policy was told by how many references were fewest so far.

    One that the factory has given a reference to its own gate never had as few, and kept its place for good.
    """

    def factory(host):
        made = bulkhead(1)
        if host == "first":
            made.own_gate = made.gates[0]
        return made

    pools = keyed(factory, key="host", max_keys=3, idle=1.0)
    for host in ("other", "first", *range(20)):
        vt.advance(1_000.0)
        pools[host]
    assert "first" not in pools


@pytest.mark.parametrize(
    ("options", "is_kept"),
    [({"budget": None}, False), ({"budget": "keyed-for-all"}, False), ({}, True)],
    ids=["no budget", "one for all", "one of its own"],
)
def test_a_key_whose_retries_have_saved_on_their_own_is_kept(vt, options, is_kept):
    """A budget for each key knows of that key's calls; without one, or with one for all, a key goes."""
    retries = keyed(lambda: retry(on=OSError, **options), key="host", max_keys=2)
    call = retries(calling)
    for number in range(20):
        call(number)
    assert (set(retries) == {0, 1}) is is_kept
    assert (retries.snapshot().evicted == 0) is is_kept


async def slowly(host):
    await anyio.sleep(0.01)


@BACKENDS
@pytest.mark.parametrize(
    "factory",
    [
        lambda: retry(on=OSError),
        lambda: hedge(after="p50", idempotent=True),
        lambda: timeout("p50*3", ceiling=9.0),
        lambda: pipeline(
            deadline(9.0),
            retry(on=OSError),
            hedge(idempotent=True),
            circuit_breaker(window=(100, "60s")),
            bulkhead(9),
            timeout("p99*3", ceiling=9.0),
        ),
    ],
    ids=["retry", "hedge", "timeout", "stack"],
)
def test_what_a_strategy_has_learned_goes_after_ten_idle_minutes(vt, backend, factory):
    """Used and idle, each is kept as long as what it knows differs from nothing, and then makes room for others."""
    stage = keyed(factory, key="host", max_keys=2, idle=1.0)
    call = stage(slowly)

    async def main():
        for host in ("a", "b"):
            for _ in range(50):
                await call(host)
        for number in range(50):
            await call(number)
        assert set(stage) == {"a", "b"}
        await anyio.sleep(601)
        for number in range(50):
            await call(number)

    vt.run(main, backend=backend)
    assert not {"a", "b"} & set(stage)
    assert stage.snapshot().calls == 200
    assert_no_leaks(stage)


def test_a_key_whose_retries_are_spent_is_kept(vt):
    """A new budget would retry again: one that has less than a new one stays, however long nobody calls."""
    retries = keyed(lambda: retry(on=OSError, backoff=0.0), key="host", max_keys=2)
    call = retries(calling)
    fail(call, "down", times=1)
    call("up")
    vt.advance(86_400.0)
    for number in range(20):
        call(number)
    assert "down" in retries
    assert "up" not in retries


def test_an_idle_key_goes_without_new_ones_too(vt):
    """Look-ups of other keys have the hand move on."""
    pools = keyed(lambda: bulkhead(1), key="host", idle=10.0)
    call = pools(calling)
    for number in range(20):
        call(number)
    for _ in range(60):
        vt.advance(11.0)
        for _ in range(512):
            call("busy")
    assert list(pools) == ["busy"]


def test_reset_forgets_all_keys(vt):
    """What they have counted stays in the sum; a call under way ends where it began."""
    per_host = breakers()
    call = per_host(calling)
    fail(call, "a")
    permit = per_host.try_acquire("b")
    per_host.reset()
    assert len(per_host) == 0
    assert call("a") == "a"
    permit.success()
    assert per_host.snapshot().calls == 4
    assert per_host.snapshot().inflight == 0


def ended(policy):
    """How many calls have an end, of however many there were."""
    shown = policy.snapshot()
    return shown.successes + shown.failures + shown.ignored + shown.rejected + shown.cancelled


def test_what_is_under_way_at_a_reset_is_counted_to_its_end(vt):
    """
    It was a call without an end for good, and not in flight meanwhile.

    So were waiting ones, and those that enforcement would have rejected.
    """
    per_host = keyed(lambda: bulkhead(1, max_queued=1, max_wait=9.0), key="host")
    shadow = keyed(lambda: bulkhead(1, enforce=False), key="host")

    async def hold(permit):
        await anyio.sleep(1)
        permit.failure(OSError("late"))

    @per_host
    async def wait(host):
        return host

    async def main():
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(hold, per_host.try_acquire("a"))
            tasks.start_soon(wait, "a")
            passes = [shadow.try_acquire("a") for _ in range(3)]
            await anyio.wait_all_tasks_blocked()
            for policy in (per_host, shadow):
                policy.reset()
                policy.reset()  # and once more, while they are under way
            assert (len(per_host), per_host.snapshot().calls, ended(per_host)) == (0, 2, 0)
            assert (per_host.snapshot().inflight, per_host.snapshot().queued) == (1, 1)
            for permit in passes:
                permit.success()
        assert (shadow.snapshot().calls, shadow.snapshot().successes, shadow.snapshot().would_reject) == (3, 3, 2)
        shown = per_host.snapshot()
        assert (shown.calls, shown.failures, shown.successes, shown.inflight, shown.queued) == (2, 1, 1, 0, 0)

    vt.run(main)
    assert per_host.latency.count == 2
    assert per_host.waited_seconds == pytest.approx(1.0)


def test_what_a_reset_has_left_goes_when_nobody_has_it():
    """Its counts stay in the sum; a policy that somebody holds counts there as long as he does."""
    per_host = keyed(lambda: bulkhead(1), key="host")
    kept = per_host["a"]
    gone = weakref.ref(kept)
    per_host.reset()
    kept.call(int)
    assert per_host.snapshot().successes == 1
    assert [gate.policy for gate in per_host.gates[0].left()] == [kept]
    del kept
    per_host.call(lambda host: host, "b")
    assert per_host.gates[0].left() == []
    assert gone() is None
    assert per_host.snapshot().successes == 2


def test_a_key_that_was_looked_at_while_it_was_made_is_forgotten_too(vt):
    """
    References tell whether somebody has a key's policy, and were counted while a scrape had all policies there are.

    It had one of them too many for good then, and kept its place.
    """
    looking = []

    def factory(host):
        made = bulkhead(1)
        if host == "seen":
            looking.append(made)
        return made

    per_host = keyed(factory, key="host", max_keys=3, idle=1.0)
    call = per_host(calling)
    for host in ("other", "seen"):
        call(host)
    looking.clear()
    for number in range(50):
        vt.advance(2.0)
        call(number)
    assert "seen" not in per_host
    call("seen")
    per_host.reset()
    assert len(per_host.gates[0].left()) == 1
    looking.clear()
    call("other")
    assert per_host.gates[0].left() == []


def test_reset_reaches_the_stages_of_the_policy_that_keys_share():
    """Of a pipeline it reset nothing: a breaker that had opened for keys without room stayed open."""
    per_host = keyed(lambda: pipeline(circuit_breaker(consecutive=2, open_for=10.0), bulkhead(1)), key="host")
    shared = per_host.overflow
    fail(per_host(calling), ["no key"])
    shared.drain(timeout=0)
    assert shared.policies[0].state == "open"
    per_host.reset()
    assert shared.policies[0].state == "closed"
    assert shared.health()


# ---- one of many -----------------------------------------------------------------------------------------------------


def test_the_snapshot_adds_all_keys_up(vt):
    """Counters, states and latencies are those of all keys."""
    per_host = breakers(name=None)
    call = per_host(calling)
    fail(call, "down")
    for host in "ab":
        call(host)
    snapshot = per_host.snapshot()
    assert (snapshot.kind, snapshot.keys, snapshot.states) == ("keyed", 3, {"open": 1, "closed": 2})
    assert (snapshot.calls, snapshot.successes, snapshot.failures) == (4, 2, 2)
    assert per_host.latency.count == 4
    assert per_host.health()
    with pytest.raises(CircuitOpenError):
        call("down")
    assert per_host.gates[0].rejections()["open"] == 1


def test_names_and_rejections_are_those_of_the_whole():
    """The policies of keys are not listed, and called like the keyed one; unnamed it is called after its function."""
    with registry.isolated():
        before = set(registry.all())
        named, unnamed = breakers(name="hosts"), breakers()
        early = unnamed["x"]
        call = unnamed(calling)
        fail(named(calling), "a")
        with pytest.raises(CircuitOpenError) as caught:
            named(calling)("a")
        assert caught.value.name == "hosts"
        assert call("b") == "b"
        assert unnamed["b"].name == early.name == unnamed.name == f"{__name__}.calling"
        assert set(registry.all()) - before == {named, unnamed}


def test_events_say_which_key():
    """Who listens to all, or to the keyed policy, hears of every key; who listens to one hears of that."""
    per_host = breakers()
    whole, single = [], []
    per_host.on_event(whole.append, kinds=(events.StateChanged, events.Rejected, events.Settled))
    per_host["b"].on_event(single.append)
    call = per_host(calling)
    with record_events(kinds=(events.StateChanged,)) as everything:
        for host in "ab":
            fail(call, host)
            with pytest.raises(CircuitOpenError):
                call(host)
    assert [event.key for event in everything] == ["a", "b"]
    assert [event.key for event in single] == ["b"]
    assert [(type(event).__name__, event.key) for event in whole if event.key == "a"] == [
        ("Settled", "a"),
        ("StateChanged", "a"),
        ("Settled", "a"),
        ("Rejected", "a"),
    ]


def test_reconfigure_reaches_all_keys_and_those_made_later(vt):
    """Options of the policies by their names, own ones by theirs; all or nothing."""
    per_host = breakers()
    call = per_host(calling)
    call("a")
    per_host.reconfigure(consecutive=5, max_keys=2)
    assert (per_host["a"].config.consecutive, per_host["b"].config.consecutive, per_host.config.max_keys) == (5, 5, 2)
    assert per_host.overflow.config.consecutive == 5
    with pytest.raises(ValueError, match="probes"):
        per_host.reconfigure(consecutive=7, probes=0)
    with pytest.raises(TypeError, match="no option 'nonsense'"):
        per_host.reconfigure(nonsense=1)
    with pytest.raises(TypeError, match="factory and key cannot be changed"):
        per_host.reconfigure(key="other")
    assert per_host["a"].config.consecutive == 5
    with pytest.raises(TypeError, match="a pipeline has no options"):
        keyed(lambda: pipeline(bulkhead(1)), key="host").reconfigure(max_concurrent=3)
    pools = keyed(lambda: bulkhead(1), key="host", max_keys=1)
    pools["a"]
    pools.reconfigure(max_concurrent=3)
    for number in range(10):
        pools(calling)(number)  # changed for all it is still as new
    assert "a" not in pools


class Unreadable:
    """A factory whose parameters Python does not know, as those of some compiled functions."""

    __signature__ = "unknown"

    def __call__(self):
        """Make a bulkhead."""
        return bulkhead(2)


@pytest.mark.parametrize("factory", [lambda: bulkhead(2), lambda key: bulkhead(2), Unreadable()])
def test_options_change_whatever_the_factory_takes(factory):
    """A factory that takes the key, takes nothing, or has no readable signature: the options change alike."""
    pools = keyed(factory, key="host")
    assert pools["early"].config.max_concurrent == 2
    pools.reconfigure(max_concurrent=5)
    assert [pools[key].config.max_concurrent for key in ("early", "late")] == [5, 5]
    other = override(pools, max_concurrent=7)
    assert (other["early"].config.max_concurrent, pools["early"].config.max_concurrent) == (7, 5)
    with pytest.raises(ValueError, match="max_concurrent"):
        override(pools, max_concurrent=0)
    with registry.isolated():
        configure({"early-pools": {"max_concurrent": 9}})  # checked by a policy that the factory makes
        assert keyed(factory, key="host", name="early-pools")["early"].config.max_concurrent == 9


def test_a_factory_gets_the_key_and_none_for_the_shared_policy():
    """A policy can be made for its key, and one for the keys without room."""
    asked = []

    def factory(key, /, room=3, *rest, more=1):
        asked.append(key)
        return bulkhead(room)

    pools = keyed(factory, key="host", max_keys=1)
    assert pools["a"].config.max_concurrent == 3
    assert asked == [None, "a"]


def test_configure_by_name_also_before_it_is_made():
    """As for every other policy."""
    with registry.isolated():
        configure({"later-hosts": {"consecutive": 7, "idle": 5.0}})
        per_host = breakers(name="later-hosts")
        assert (per_host["a"].config.consecutive, per_host.config.idle) == (7, 5.0)
        configure({"later-hosts": {"consecutive": 8}})
        assert per_host["a"].config.consecutive == 8
        with pytest.raises(ValueError, match="keyed 'later-hosts': consecutive"):
            configure({"later-hosts": {"consecutive": -1}})


def test_explain_and_lint_see_the_policies_of_the_keys():
    """A keyed breaker is a breaker with a key there, and stands in the wrong order as one does."""
    stack = pipeline(breakers(name=None), keyed(lambda: pipeline(bulkhead(3), timeout(1.0)), key="host"))
    steps = stack.explain().steps
    assert [(step.position, step.kind) for step in steps] == [(1, "circuit_breaker"), (2, "bulkhead"), (3, "timeout")]
    assert steps[0].options["key"] == "host"
    assert steps[0].options["consecutive"] == 2
    assert steps[0].rejects_with == "CircuitOpenError"
    with pytest.warns(UserWarning, match="bulkhead-outside-breaker"):
        pipeline(bulkhead(3), breakers())
    with pytest.warns(UserWarning, match="bulkhead-outside-breaker"):
        bulkhead(3)(breakers()(calling))
    with pytest.warns(UserWarning, match="twice"):
        per_host = breakers()
        pipeline(per_host, per_host)


def test_metrics_show_one_series_for_all_keys():
    """By the kind of the policies and the name of the whole; what evicted keys have counted stays."""
    prometheus = pytest.importorskip("prometheus_client")
    from resilio.metrics.prometheus import ResilioCollector

    with registry.isolated():
        per_host = breakers(name="metered")
        both = keyed(lambda: pipeline(circuit_breaker(), bulkhead(1)), key="host", name="both")
        collected = prometheus.CollectorRegistry()
        ResilioCollector(collected, policies=(per_host, both))
        call = per_host(calling)
        fail(call, "down")
        for host in "abc":
            call(host)
            both(calling)(host)
        value = collected.get_sample_value
        labels = {"kind": "circuit_breaker", "policy": "metered"}
        assert value("resilio_calls_total", {**labels, "outcome": "success"}) == 3
        assert value("resilio_calls_total", {**labels, "outcome": "failure"}) == 2
        assert value("resilio_state", {**labels, "state": "open"}) == 1
        assert value("resilio_state", {**labels, "state": "closed"}) == 3
        assert value("resilio_call_duration_seconds_count", labels) == 5
        assert value("resilio_calls_total", {"kind": "bulkhead", "policy": "both", "outcome": "success"}) == 3
        permit = per_host.try_acquire("a")
        per_host.reset()
        assert value("resilio_calls_total", {**labels, "outcome": "success"}) == 3
        assert value("resilio_inflight", labels) == 1
        permit.success()
        assert value("resilio_calls_total", {**labels, "outcome": "success"}) == 4
        del permit
        call("new")
        assert per_host.gates[0].left() == []
        assert value("resilio_calls_total", {**labels, "outcome": "success"}) == 5
        assert value("resilio_inflight", labels) == 0


def test_a_keyed_policy_is_pickled_by_name():
    """Like every other."""
    import pickle

    with registry.isolated():
        per_host = keyed(circuit_breaker, key="host", name="pickled-hosts")
        assert pickle.loads(pickle.dumps(per_host)) is per_host


# ---- processes and threads -------------------------------------------------------------------------------------------


def test_a_forked_child_goes_on_with_the_keys(in_child):
    """Keys and their states are there, nothing is held, and new keys are made."""
    pools = keyed(lambda: bulkhead(1), key="host")
    permit = pools.try_acquire("a")

    def child():
        return [pools(calling)(host) for host in "ab"], len(pools), pools.snapshot().inflight

    assert in_child(child) == (["a", "b"], 2, 0)
    permit.success()


def test_threads_that_meet_at_a_key_share_its_policy():
    """However many come at once with a new key, there is one policy; none of its permits is handed out twice."""
    pools = keyed(lambda: bulkhead(2), key="host", max_keys=5)
    start, most, wrong = threading.Barrier(8), {}, []
    lock = threading.Lock()

    @pools
    def call(host):
        with lock:
            most[host] = most.get(host, 0) + 1
            if most[host] > 2:
                wrong.append(host)
        for _ in range(20):
            pass
        with lock:
            most[host] -= 1

    def run():
        start.wait()
        for number in range(2000):
            pools.try_call(call.__wrapped__, number % 4)
            if number % 50 == 0:
                pools.call(calling, f"passing {number}")

    threads = [threading.Thread(target=run) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert wrong == []
    assert pools.snapshot().inflight == 0
    assert len(pools) <= 5


# ---- efficacy --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("seconds", "most"), [(60, 0.06), (240, 0.05)])
def test_one_dead_shard_of_ten_gets_few_calls(vt, seconds, most):
    """With a breaker for each shard, at 10 calls/s on each, the dead one gets a few percent of its calls only."""
    shards = keyed(circuit_breaker, key="shard")
    sent = [0] * 10

    @shards
    def call(shard):
        sent[shard] += 1
        if shard == 0:
            raise OSError

    for _ in range(seconds * 10):
        for shard in range(10):
            shards.try_call(call.__wrapped__, shard)
        vt.advance(0.1)
    assert sent[1:] == [seconds * 10] * 9
    assert 0.01 < sent[0] / (seconds * 10) < most


def test_a_key_that_is_evicted_while_states_are_counted_is_left_out() -> None:
    """A snapshot takes the gates first and asks each then: one that another thread evicts in between has no policy."""
    by_key = keyed(circuit_breaker, key=lambda key: key)
    gone, here = by_key["gone"].gates[0], by_key["here"].gates[0]
    gone.policy = None

    class Stage:
        states = here.states

        def gates(self) -> list[object]:
            return [gone, here]

    assert by_key._states(Stage()) == {"closed": 1}
