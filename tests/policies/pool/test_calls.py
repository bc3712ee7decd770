"""Calls through a pool: every way to make one, and where it goes."""

import asyncio
import inspect

import anyio
import anyio.lowlevel
import pytest

from resilio import (
    CircuitOpenError,
    Endpoint,
    RetryBudget,
    bulkhead,
    circuit_breaker,
    current,
    current_priority,
    events,
    hedge,
    keyed,
    pipeline,
    pool,
    priority,
    rate_limit,
    retry,
    timeout,
)
from resilio._policies.pool.chosen import endpoint_of, pool_of
from resilio.errors import NoEndpointError, RateLimitedError


def three(**options):
    return pool(None, Endpoint("a"), Endpoint("b"), Endpoint("c"), **options)


def tried_by(call):
    """Return the names of the endpoints that the attempts of one failing call went to."""
    names = []

    def fail(endpoint):
        names.append(endpoint.name)
        raise OSError("down")

    with pytest.raises(OSError, match="down"):
        call(fail)
    return names


def retried(p, **options):
    return pipeline(retry(on=OSError, backoff=0, budget=RetryBudget(cap=100, initial=100), **options), p)


# ---- ways to call


def test_call_gives_the_endpoint_first():
    """`p.call(fn, *args)` is `fn(endpoint, *args)`."""
    assert three().call(lambda endpoint, x, *, y: (endpoint.name in "abc", x, y), 1, y=2) == (True, 1, 2)


def test_acall_gives_the_endpoint_first(aio):
    """`await p.acall(fn, *args)` is `await fn(endpoint, *args)`."""

    async def main():
        async def fn(endpoint, x):
            await asyncio.sleep(0) if aio == "asyncio" else None
            return endpoint.name in "abc", x

        return await three().acall(fn, 1)

    assert run(main, aio) == (True, 1)


def run(main, backend):
    if backend == "asyncio":
        return asyncio.run(main())
    import trio

    return trio.run(main)


@pytest.fixture(params=["asyncio", "trio"])
def aio(request):
    return request.param


def test_a_block_holds_an_endpoint(aio):
    """`with p.pick() as endpoint` counts as one call there, and its exception as a failure."""
    p = three()
    with p.pick() as endpoint, pytest.raises(CircuitOpenError):
        assert p._named(endpoint.name).seat.counters()["inflight"] == 1
        for _ in range(5):
            with pytest.raises(OSError, match="down"), p[endpoint.name]:
                raise OSError("down")
        with p[endpoint.name]:
            pass

    async def main():
        async with p.pick() as endpoint:
            return endpoint

    assert run(main, aio) in p.endpoints


def test_a_decorated_function_is_given_the_endpoint_it_has_a_parameter_for():
    """A parameter named `endpoint` is given by keyword, unless the caller gives it."""
    p = three()

    @p
    def named(x, endpoint=None):
        return x, endpoint

    @p
    def other(x):
        return x, current().endpoint

    assert named(1)[1] in p.endpoints
    assert named(1, endpoint="mine") == (1, "mine")
    assert other(1)[1] in p.endpoints


def test_an_async_function_that_is_given_its_endpoint_stays_one():
    """A priority around it, or a web framework, took it for a plain function, and ended before the call had begun."""

    @three()
    async def find(word, *, endpoint):
        return current_priority(), word, endpoint.name in "abc"

    assert inspect.iscoroutinefunction(find)
    assert asyncio.run(priority("critical")(find)("x")) == ("critical", "x", True)


def test_a_pipeline_gives_the_endpoint_to_what_it_calls(aio):
    """`stack.call(fn)` gives `endpoint` by keyword to a function that has such a parameter."""
    p = three()
    stack = pipeline(bulkhead(5), p)

    async def later(*, endpoint):
        return endpoint

    assert stack.call(lambda *, endpoint: endpoint) in p.endpoints
    assert stack.call(lambda: endpoint_of(stack)) in p.endpoints
    assert run(lambda: stack.acall(later), aio) in p.endpoints
    assert pool_of(stack) is p
    assert endpoint_of() is None


def test_the_endpoint_is_known_inside_of_a_timeout_that_python_runs(aio):
    """On trio a timeout runs what is inside of it as a call of its own, which still knows its endpoint."""
    p = three()
    stack = pipeline(p, timeout(5.0))

    async def fn():
        return current().endpoint

    assert run(lambda: stack.acall(fn), aio) in p.endpoints


# ---- elsewhere


def test_retries_go_elsewhere():
    """H1: no endpoint is called twice by one call before all were tried."""
    for _ in range(20):
        assert sorted(tried_by(retried(three(), attempts=3).call)) == ["a", "b", "c"]


def test_a_retry_around_the_function_that_uses_the_pool_goes_elsewhere():
    """The pool need not be in the retry's pipeline: the call around it knows what was tried."""
    p = three()
    names = []

    @retry(on=OSError, attempts=3, backoff=0, budget=RetryBudget(cap=100, initial=100))
    def work():
        def fail(endpoint):
            names.append(endpoint.name)
            raise OSError("down")

        p.call(fail)

    with pytest.raises(OSError, match="down"):
        work()
    assert sorted(names) == ["a", "b", "c"]


def again(on):
    """A retry of a client, and one around the pool."""
    free = {"attempts": 2, "backoff": 0, "budget": RetryBudget(cap=10**6, initial=10**6)}
    return retry(on=on, idempotent=True, **free)


@pytest.mark.parametrize(("on", "went"), [("model", ["a", "a", "b", "b"]), ("http", ["a", "b"])])
def test_a_retry_of_a_provider_s_client_comes_before_the_one_around_the_pool(on, went, aio):
    """
    Answers of models differ, and one that was busy for a moment was left at once: its client's own retry stood aside.

    Of HTTP any server will do: there the retry around the pool takes over at once.
    """
    seen = []
    client = again(on)
    stack = pipeline(again(on), pool(None, Endpoint("a", level=0), Endpoint("b", level=1), each=two_chances))

    def ask(name):
        seen.append(name)
        raise ConnectionResetError(name)

    async def aask(name):
        await anyio.lowlevel.checkpoint()
        ask(name)

    async def awork(*, endpoint):
        await client.acall(aask, endpoint.name)

    assert not stack.try_call(lambda *, endpoint: client.call(ask, endpoint.name))
    assert seen == went
    seen.clear()
    assert not anyio.run(stack.try_acall, awork, backend=aio)
    assert seen == went


def two_chances(endpoint):
    return circuit_breaker(consecutive=100)


def test_retries_on_models_without_a_pool_do_not_multiply():
    """Only a pool between them makes them two things: one repeats, and one goes elsewhere."""
    seen = []
    outer, inner = again("model"), again("model")

    def ask():
        seen.append(1)
        raise ConnectionResetError

    assert not outer.try_call(inner.call, ask)
    assert len(seen) == 2


def test_an_endpoint_that_rejects_is_no_attempt():
    """A breaker that is open sends the call to another endpoint, without an attempt and without a failure."""
    p = three()
    p["a"].force_open()
    p["b"].force_open()
    assert {p.call(lambda endpoint: endpoint.name) for _ in range(20)} == {"c"}


def test_all_rejecting_raises_the_soonest():
    """When all endpoints reject, the rejection with the soonest retry_after is raised."""
    p = three()
    for name, seconds in (("a", 30), ("b", 10), ("c", 20)):
        p[name].force_open(seconds)
    with pytest.raises(CircuitOpenError) as caught:
        p.call(lambda endpoint: endpoint)
    assert caught.value.retry_after == pytest.approx(10, abs=1)
    assert p._gate.rejections()["rejected"] == 1


def test_a_quota_that_is_used_up_goes_elsewhere():
    """Each endpoint has its quota; the pool has their sum."""
    p = three(each=lambda e: rate_limit("2/h", burst=2))
    names = sorted(p.call(lambda endpoint: endpoint.name) for _ in range(6))
    assert names == ["a", "a", "b", "b", "c", "c"]
    with pytest.raises(RateLimitedError):
        p.call(lambda endpoint: endpoint)


def test_nothing_to_choose_from():
    """No endpoints, or none that takes calls, is a NoEndpointError with the reason."""
    with pytest.raises(NoEndpointError) as empty:
        pool(None).call(lambda endpoint: endpoint)
    p = three()
    for name in "abc":
        p.drain(name)
    with pytest.raises(NoEndpointError) as drained:
        p.call(lambda endpoint: endpoint)
    assert (empty.value.reason, drained.value.reason) == ("empty", "drained")


def test_one_endpoint_is_its_policy():
    """H5: a pool of one endpoint rejects as that endpoint's policy does."""
    p = pool(None, Endpoint("a"), each=lambda e: circuit_breaker(consecutive=2))
    assert tried_by(p.call) == ["a"]
    tried_by(p.call)
    with pytest.raises(CircuitOpenError) as caught:
        p.call(lambda endpoint: endpoint)
    assert caught.value.reason == "open"


def test_a_hedge_goes_elsewhere():
    """A copy of a call goes to another endpoint than its primary."""
    p = three()
    names = []
    stack = pipeline(hedge(idempotent=True, after=0.01, max_extra=1.0), p)

    async def main():
        async def slow(*, endpoint):
            names.append(endpoint.name)
            await asyncio.sleep(0.2 if len(names) == 1 else 0)
            return endpoint.name

        return await stack.acall(slow)

    assert asyncio.run(main()) == names[-1]
    assert len(set(names)) == len(names)


# ---- endpoints come and go


def test_drain_remove_and_add():
    """Endpoints are drained, removed and added while the pool is used."""
    p = three(balance="inflight")
    p.drain("a")
    p.remove("b")
    assert {p.call(lambda endpoint: endpoint.name) for _ in range(20)} == {"c"}
    p.add(Endpoint("d"))
    p.drain("c")
    assert {p.call(lambda endpoint: endpoint.name) for _ in range(20)} == {"d"}
    p.undrain("a")
    assert {p.call(lambda endpoint: endpoint.name) for _ in range(50)} == {"a", "d"}


# ---- streams


def test_a_stream_keeps_its_endpoint_to_the_end(aio):
    """A stream is in flight at its endpoint from the first item to the last, and is given that endpoint."""
    p = three()

    @pipeline(bulkhead(5), p)
    def items(n, *, endpoint):
        for at in range(n):
            yield endpoint, at

    stream = items(3)
    endpoint, _ = next(stream)
    seat = p._named(endpoint.name).seat
    assert seat.counters()["inflight"] == 1
    assert list(stream) == [(endpoint, 1), (endpoint, 2)]
    assert (seat.counters()["inflight"], seat.counters()["successes"]) == (0, 1)

    @p
    async def later(n, endpoint=None):
        for at in range(n):
            yield endpoint, at

    async def main():
        found = []
        async for endpoint, _ in later(3):
            found.append(endpoint)
            assert p._named(endpoint.name).seat.counters()["inflight"] == 1
        return found

    found = run(main, aio)
    assert len(set(found)) == 1
    assert found[0] in p.endpoints


def test_a_stream_with_wrong_arguments_fails_at_the_call():
    """Wrong arguments raise before any endpoint is chosen."""

    @three()
    def items(n, *, endpoint):
        yield n, endpoint

    with pytest.raises(TypeError, match="unexpected"):
        items(wrong=1)


@pytest.mark.parametrize("door", [True, False])
def test_a_stream_that_fails_before_its_first_item_is_retried_elsewhere(door, aio):
    """A retry of a stream goes elsewhere, in a pipeline and in a stack of decorators."""
    p, names = three(), []
    retries = retry(on=OSError, attempts=3, backoff=0, budget=RetryBudget(cap=100, initial=100))
    guard = pipeline(retries, p) if door else lambda fn: retries(p(fn))

    @guard
    def items(*, endpoint):
        names.append(endpoint.name)
        raise OSError("down")
        yield

    with pytest.raises(OSError, match="down"):
        list(items())

    @guard
    async def later(*, endpoint):
        names.append(endpoint.name)
        raise OSError("down")
        yield

    async def main():
        with pytest.raises(OSError, match="down"):
            async for _ in later():
                pass

    run(main, aio)
    assert (sorted(names[:3]), sorted(names[3:])) == (["a", "b", "c"], ["a", "b", "c"])


# ---- waits


def queued(**options):
    return three(each=lambda e: bulkhead(1, max_queued=5, max_wait=1.0), **options)


def test_a_call_waits_only_when_no_endpoint_admits_it_at_once(vt):
    """A full bulkhead with a queue sends the call elsewhere while another endpoint has room; only then it waits."""
    p = queued()

    async def main():
        order = []

        async def work(endpoint, number):
            order.append((number, endpoint.name, vt.now))
            await anyio.sleep(0.5)

        async with anyio.create_task_group() as group:
            for number in range(4):
                group.start_soon(p.acall, work, number)
        return order

    for backend in ("asyncio", "trio"):
        began = vt.now
        order = vt.run(main, backend=backend)
        assert sorted(name for _, name, _ in order[:3]) == ["a", "b", "c"]
        assert [round(at - began, 6) for _, _, at in order] == [0, 0, 0, 0.5]


def test_a_wait_in_vain_tries_the_others_once_more(vt):
    """A call whose wait at one endpoint ends in a rejection is taken by another one that has room by then."""
    p = queued()

    async def main():
        ended = []

        async def hold(endpoint, seconds):
            await anyio.sleep(seconds)
            ended.append(endpoint.name)

        async def late(endpoint):
            return endpoint.name

        async with anyio.create_task_group() as group:
            for _ in range(3):
                group.start_soon(p.acall, hold, 10.0)
            await anyio.sleep(0.1)
            group.start_soon(call_late, late, ended)
            await anyio.sleep(0.5)
            full = next(e.name for e in p.endpoints if p[e.name].snapshot().queued)
            other = next(e.name for e in p.endpoints if e.name != full)
            p[other].resize(2)
        return ended

    async def call_late(late, ended):
        ended.append(await p.acall(late))

    for backend in ("asyncio", "trio"):
        assert len(vt.run(main, backend=backend)) == 4
        p = queued()


def test_a_breaker_that_opens_during_a_wait_sends_the_call_elsewhere(vt):
    """After a wait at the quota of an endpoint its breaker is asked again, and if that is open now another endpoint."""
    p = pool(
        None,
        Endpoint("a"),
        Endpoint("b"),
        balance="order",
        each=lambda e: pipeline(circuit_breaker(), bulkhead(1, max_queued=5, max_wait=5.0)),
    )

    async def main():
        async def hold(endpoint):
            await anyio.sleep(1.0 if endpoint.name == "a" else 0.5)

        async def late(endpoint):
            return endpoint.name

        async with anyio.create_task_group() as group:
            group.start_soon(p.acall, hold)
            await anyio.sleep(0.1)
            group.start_soon(p.acall, hold)
            await anyio.sleep(0.1)
            p["b"].policies[0].force_open(0.3)
            group.start_soon(open_a)
            return await p.acall(late)

    async def open_a():
        await anyio.sleep(0.5)
        p["a"].policies[0].force_open()

    for backend in ("asyncio", "trio"):
        assert vt.run(main, backend=backend) == "b"
        p["a"].policies[0].force_closed()
        vt.advance(5.0)


# ---- errors


@pytest.mark.parametrize(
    ("each", "error", "match"),
    [
        (lambda e: None, TypeError, "each must make a policy of an endpoint"),
        (lambda e: keyed(circuit_breaker, key="x"), TypeError, "no policy with keys"),
        (lambda e: circuit_breaker() if e.name == "a" else bulkhead(1), ValueError, "the same kinds of policies"),
        (lambda e: SHARED, ValueError, "'b' has that of 'a'"),
    ],
)
def test_each_makes_a_policy_of_the_same_kind_for_each_endpoint(each, error, match):
    """What `each` makes is checked when an endpoint comes, with what is wrong and what to do."""
    with pytest.raises(error, match=match):
        three(each=each)


SHARED = circuit_breaker()


def test_a_pipeline_has_one_pool():
    """A call goes to one endpoint at a time; the error names both ways out, and they work."""
    p, other = three(), pool(None, Endpoint("x"))
    fix = "give one pool the endpoints of both, or use the other one in the function that is called"
    with pytest.raises(ValueError, match=f"at most one pool, .*: {fix}"):
        pipeline(p, other)
    with pytest.raises(ValueError, match=fix):
        p(other(lambda endpoint: endpoint.name))
    both = pipeline(p).call(lambda *, endpoint: (endpoint.name, other.call(lambda inner: inner.name)))
    assert both[1] == "x"
    p.add(Endpoint("x"))
    assert "x" in p


def test_wrong_calls_name_the_function():
    """`call` of a coroutine function, and of no function, says what to use instead."""

    async def later(endpoint):
        return endpoint

    with pytest.raises(TypeError, match=r"later.*await acall"):
        three().call(later)
    with pytest.raises(TypeError, match="must be given a function, not 3"):
        three().call(3)


def test_listeners_of_a_pool_hear_all_its_endpoints():
    """`p.on_event` hears ejections, and the end of each call, of endpoints that come later too."""
    p, seen = three(), []
    end = p.on_event(seen.append, kinds=(events.StateChanged, events.Settled))
    p.add(Endpoint("d"))
    for name in "abc":
        p.drain(name)
    seen.clear()
    p.call(lambda endpoint: endpoint)
    p["d"].force_open()
    p._table.look()
    end()
    assert [(type(e).__name__, e.key) for e in seen] == [("Settled", "d"), ("StateChanged", "d")]
