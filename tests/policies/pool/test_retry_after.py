"""A pause that one endpoint asks for: a retry outside of the pool goes to another one, and does not wait for it."""

import pytest

from resilio import Endpoint, RetryBudget, circuit_breaker, pipeline, pool, retry


class Busy(Exception):
    """An answer that asks for a pause."""

    def __init__(self, seconds):
        super().__init__(f"busy for {seconds:g} s")
        self.retry_after = seconds


class Service:
    """Endpoints, of which some answer that they are busy until a time, and some cannot be reached."""

    def __init__(self, vt, busy="", until=0.0, down=""):
        self.vt, self.busy, self.until, self.down, self.calls = vt, busy, until, down, []

    def __call__(self, endpoint):
        self.calls.append((endpoint.name, self.vt.now))
        if endpoint.name in self.busy and self.vt.now < self.until:
            raise Busy(self.until - self.vt.now)
        if endpoint.name in self.down:
            raise OSError("down")
        return endpoint.name

    async def later(self, endpoint):
        return self(endpoint)

    @property
    def names(self):
        return [name for name, _ in self.calls]


def in_order(names="ab", **options):
    """Return a pool that prefers its first endpoints."""
    return pool(None, *[Endpoint(name) for name in names], balance="order", **options)


def retried(p, **options):
    return pipeline(retry(on=(Busy, OSError), budget=RetryBudget(initial=5.0), **options), p)


@pytest.fixture(params=["thread", "asyncio", "trio"])
def call(request, vt):
    """How the call is made: in this thread, or in a task."""
    if request.param == "thread":
        return lambda guard, service: guard.call(service)

    def in_task(guard, service):
        async def main():
            return await guard.acall(service.later)

        return vt.run(main, backend=request.param)

    return in_task


# ---- where to go


@pytest.mark.parametrize("asked", [5.0, 300.0])
def test_a_pause_of_one_endpoint_does_not_delay_an_attempt_elsewhere(asked, call, vt):
    """One replica asked for 5 s: callers waited 9 s before the other one. For 300 s: they failed at once."""
    service = Service(vt, "a", vt.now + asked)
    began = vt.now
    assert call(retried(in_order()), service) == "b"
    assert service.names == ["a", "b"]
    assert vt.now - began <= 0.01  # a tenth of the backoff


def test_a_pause_of_all_endpoints_is_waited_for(call, vt):
    """Once nothing is untried, the last answer counts: the retry waits for as long as it asks."""
    service = Service(vt, "ab", vt.now + 5.0)
    began = vt.now
    assert call(retried(in_order()), service) in "ab"
    assert len(service.calls) == 3
    assert set(service.names[:2]) == {"a", "b"}
    assert service.calls[1][1] - began <= 0.01
    assert vt.now - began >= 5.0


def test_a_pause_of_all_endpoints_that_is_too_long_ends_the_call(call, vt):
    """The other endpoint is asked once; it asks for 300 s too, and the retry gives up."""
    service = Service(vt, "ab", vt.now + 300.0)
    began = vt.now
    with pytest.raises(Busy) as caught:
        call(retried(in_order()), service)
    assert (service.names, caught.value.resilio.stop_reason) == (["a", "b"], "retry_after")
    assert vt.now - began <= 0.01


@pytest.mark.parametrize("out", ["drained", "held", "open"])
def test_an_endpoint_that_lets_nothing_pass_is_nowhere_to_go(out, call, vt):
    """The other endpoint is drained, has asked for a pause or is ejected: the retry waits for the first one."""
    p = in_order(each=lambda endpoint: circuit_breaker(consecutive=1, open_for=60.0))
    shut = {"drained": "", "held": "b", "open": ""}[out]
    if out == "drained":
        p.drain("b")
    else:
        p.drain("a")
        with pytest.raises((Busy, OSError)):
            p.call(Service(vt, shut, vt.now + 60.0, down="b"))
        p.undrain("a")
    service = Service(vt, "a", vt.now + 300.0)
    with pytest.raises(Busy) as caught:
        call(retried(p), service)
    assert (service.names, caught.value.resilio.stop_reason) == (["a"], "retry_after")


def test_a_level_that_calls_do_not_spill_to_is_nowhere_to_go(vt):
    """With `spill=False` no attempt goes to the other level while the first one takes all calls."""
    p = pool(None, Endpoint("a", level=0), Endpoint("b", level=1), spill=False)
    service = Service(vt, "a", vt.now + 300.0)
    with pytest.raises(Busy):
        retried(p).call(service)
    assert service.names == ["a"]


# ---- how long to wait


def test_the_first_wait_before_another_endpoint_is_a_tenth(call, vt):
    """A backoff gives a server time to recover. Another server needs none; what is left keeps callers apart."""
    service = Service(vt, down="ab")
    with pytest.raises(OSError, match="down"):
        call(retried(in_order("abc", each=None), backoff=2.0, attempts=2), service)
    first, second = [at for _, at in service.calls]
    assert 0.1 <= second - first <= 0.2


def test_waits_after_the_first_are_whole(vt):
    """Endpoints that fail one after another may be one failure: only the first wait is short."""
    service = Service(vt, down="abc")
    with pytest.raises(OSError, match="down"):
        retried(in_order("abcd"), backoff=2.0, attempts=3).call(service)
    _, second, third = [at for _, at in service.calls]
    assert third - second == pytest.approx(2.0)


def test_short_waits_differ(vt):
    """Callers that fail together do not come to the next endpoint together, even with a fixed backoff."""
    waits = set()
    for _ in range(20):
        service = Service(vt, down="a")
        retried(in_order(), backoff=2.0).call(service)
        waits.add(service.calls[1][1] - service.calls[0][1])
    assert len(waits) == 20


def test_an_attempt_elsewhere_is_paid_for_as_any_retry(vt):
    """With an empty budget no call goes elsewhere: a failure of all endpoints must not double the load."""
    budget = RetryBudget(initial=0.0, reserve=0.0)
    guard = pipeline(retry(on=Busy, budget=budget), in_order())
    service = Service(vt, "ab", vt.now + 300.0)
    with pytest.raises(Busy) as caught:
        guard.call(service)
    assert (service.names, caught.value.resilio.stop_reason) == (["a"], "budget")


# ---- pools further in, and streams


def test_a_retry_of_a_function_that_uses_the_pool_goes_elsewhere(vt):
    """The pool may be in the function that the retry repeats."""
    p, service = in_order(), Service(vt, "a", vt.now + 300.0)
    assert retry(on=Busy).call(lambda: p.call(service)) == "b"


def test_a_pause_that_another_server_asks_for_is_waited_for(vt):
    """The function calls a pool, and a server that is in none: this one's Retry-After is not the pool's."""
    p, service = in_order(), Service(vt)

    def both():
        p.call(service)
        raise Busy(300.0)

    with pytest.raises(Busy):
        retry(on=Busy).call(both)
    assert service.names == ["a"]


def test_a_pool_that_is_gone_is_not_asked(vt):
    """The function makes a pool for itself: its retry must not look for endpoints of one that has been freed."""

    def alone():
        in_order().call(Service(vt, "a", vt.now + 300.0))
        raise Busy(300.0)

    with pytest.raises(Busy):
        retry(on=Busy, attempts=2).call(alone)


@pytest.mark.parametrize("fused", [True, False])
@pytest.mark.parametrize("backend", ["thread", "asyncio", "trio"])
def test_a_stream_goes_elsewhere_too(fused, backend, vt):
    """A stream that one endpoint refuses to begin is begun by the other one at once."""
    p, service = in_order(), Service(vt, "a", vt.now + 300.0)
    retries = retry(on=Busy)
    guard = pipeline(retries, p) if fused else lambda fn: retries(p(fn))
    began = vt.now

    @guard
    def items(*, endpoint):
        yield service(endpoint)

    @guard
    async def later(*, endpoint):
        yield service(endpoint)

    async def main():
        return [item async for item in later()]

    found = list(items()) if backend == "thread" else vt.run(main, backend=backend)
    assert found == ["b"]
    assert vt.now - began <= 0.01
