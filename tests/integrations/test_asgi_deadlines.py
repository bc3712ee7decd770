"""What a request says of itself, and who may: deadlines, priorities and tenants in the headers of ASGI requests."""

from __future__ import annotations

from typing import Any

import anyio
import pytest
from serving.memory import Request

from resilio import bulkhead, current_priority, keyed, load_shed, rate_limit, remaining
from resilio.integrations.asgi import Middleware, ignored_headers, tenant_of

pytestmark = pytest.mark.anyio


def start(status: int = 200) -> dict[str, Any]:
    return {"type": "http.response.start", "status": status, "headers": []}


class Asked:
    """An app that notes what it knows of its request."""

    def __init__(self) -> None:
        self.left: list[float | None] = []
        self.levels: list[str] = []
        self.tenants: list[str | None] = []

    async def __call__(self, scope: Any, receive: Any, send: Any) -> None:
        self.left.append(remaining())
        self.levels.append(current_priority())
        self.tenants.append(tenant_of(scope))
        await send(start())
        await send({"type": "http.response.body"})


async def never(scope: Any, receive: Any, send: Any) -> None:
    raise AssertionError("the app was called")


async def slow(scope: Any, receive: Any, send: Any) -> None:
    await anyio.sleep(10.0)
    await send(start())
    await send({"type": "http.response.body"})


def counted(header: str, why: str) -> int:
    return ignored_headers().get((header, why), 0)


async def test_a_deadline_of_a_trusted_peer_is_the_apps(vt) -> None:
    """What the caller has left is the ambient deadline of the app, in each form of the header."""
    app = Asked()
    for name, value in (("x-request-timeout", "2.5"), ("x-budget-ms", "1500"), ("grpc-timeout", "250m")):
        served = Middleware(app, bulkhead(1), deadline_header=name, trust=True)
        assert (await Request(headers={name: value}).to(served)).status == 200
    assert app.left == [2.5, 1.5, 0.25]
    assert remaining() is None


async def test_a_deadline_is_cut_to_the_longest_and_has_a_default(vt) -> None:
    """`max_deadline` bounds what may be asked for, `default_deadline` stands for those who do not ask."""
    app = Asked()
    served = Middleware(app, bulkhead(1), trust=True, max_deadline=5.0, default_deadline=3.0)
    for headers in ({"x-request-timeout": "60"}, {"x-request-timeout": "1"}, {}, {"x-request-timeout": "-1"}):
        await Request(headers=headers).to(served)
    assert app.left == [5.0, 1.0, 3.0, 3.0]


async def test_an_app_that_is_late_is_interrupted_and_answered_for(vt) -> None:
    """Once the caller has given up the app is interrupted; 504 is what is answered, and the permit is free."""
    gate = bulkhead(1)
    request = await Request(headers={"x-request-timeout": "0.5"}).to(Middleware(slow, gate, trust=True))
    assert vt.now == 0.5
    assert (request.status, request.starts) == (504, 1)
    assert "retry-after" not in request.headers
    assert (gate.snapshot().inflight, gate.snapshot().ignored) == (0, 1)


async def test_an_app_that_is_cut_short_later_than_it_ever_took_has_failed(vt) -> None:
    """A deadline's expiry says something about the app only if it had the p99 of its recent successes."""
    gate = bulkhead(1)

    async def usual(scope: Any, receive: Any, send: Any) -> None:
        await anyio.sleep(0.1)
        await Asked()(scope, receive, send)

    for _ in range(120):
        await Request().to(Middleware(usual, gate))
    served = Middleware(slow, gate, trust=True)
    await Request(headers={"x-request-timeout": "0.05"}).to(served)
    assert (gate.snapshot().failures, gate.snapshot().ignored) == (0, 1)
    await Request(headers={"x-request-timeout": "0.5"}).to(served)
    assert (gate.snapshot().failures, gate.snapshot().ignored) == (1, 1)


async def test_ls04_a_response_that_has_begun_is_cut_and_never_answered_twice(vt) -> None:
    """LS-04: a stream that outlives its deadline ends with an exception, for the server to cut the connection."""

    async def app(scope: Any, receive: Any, send: Any) -> None:
        await send(start())
        await slow(scope, receive, send)

    gate = bulkhead(1)
    request = Request(headers={"x-request-timeout": "0.5"})
    with pytest.raises(TimeoutError):
        await request.to(Middleware(app, gate, trust=True))
    assert (vt.now, request.starts, gate.snapshot().inflight) == (0.5, 1, 0)


async def test_a_deadline_that_is_not_enforced_is_known_all_the_same(vt) -> None:
    """With enforce_deadline=False nothing is interrupted; what the app calls knows how long it has."""
    app = Asked()

    async def late(scope: Any, receive: Any, send: Any) -> None:
        await anyio.sleep(1.0)
        await app(scope, receive, send)

    served = Middleware(late, bulkhead(1), trust=True, enforce_deadline=False)
    assert (await Request(headers={"x-request-timeout": "0.5"}).to(served)).status == 200
    assert app.left == [0.0]


async def test_ls05_a_request_that_is_already_late_is_rejected_before_any_work() -> None:
    """LS-05: who has no time left is answered 504 without calling the app, and the policy's counters show it."""
    gate = load_shed()
    request = await Request(headers={"x-request-timeout": "0"}, body=(b"a", b"b")).to(
        Middleware(never, gate, trust=True)
    )
    assert (request.status, request.received) == (504, [])
    assert (gate.snapshot().rejected, gate.gates[0].rejections()["deadline"]) == (1, 1)


@pytest.mark.parametrize("enforced", [True, False])
async def test_ls05_a_deadline_that_expires_in_the_queue_drops_the_request(vt, enforced) -> None:
    """LS-05: nobody is served for whom it is too late: the place is free when the time is up."""
    gate = bulkhead(1, max_queued=5, max_wait=60.0)
    permit = gate.try_acquire()
    served = Middleware(never, gate, trust=True, enforce_deadline=enforced)
    request = await Request(headers={"x-request-timeout": "0.5"}).to(served)
    assert (vt.now, request.status) == (0.5, 504)
    assert (gate.snapshot().queued, gate.snapshot().inflight) == (0, 1)
    permit.success()


async def test_a_client_that_leaves_the_queue_is_not_served_whatever_it_said() -> None:
    """A deadline or a priority keeps nobody in the queue who has left."""
    gate = bulkhead(1, max_queued=5, max_wait=60.0)
    permit = gate.try_acquire()
    served = Middleware(never, gate, trust=True, priority_header="x-priority")
    request = Request(headers={"x-request-timeout": "30", "x-priority": "critical"})
    async with anyio.create_task_group() as group:
        group.start_soon(request.to, served)
        await anyio.wait_all_tasks_blocked()
        assert gate.snapshot().queued == 1
        request.leave()
    assert (request.sent, gate.snapshot().queued) == ([], 0)
    permit.success()


@pytest.mark.parametrize(
    "value", ["-1", "nan", "inf", "1e9", "9" * 40, "9" * 9000, "", "\u00b2", "1;2", "\xff\xfe", "0x1", "1 s", "1,1"]
)
async def test_deadlines_that_make_no_sense_are_ignored_and_counted(value) -> None:
    """A huge, negative or otherwise odd deadline even of a trusted peer changes nothing, and is counted."""
    app, before = Asked(), sum(ignored_headers().values())
    await Request(headers={"x-request-timeout": value}).to(Middleware(app, bulkhead(1), trust=True))
    assert app.left == [None]
    assert sum(ignored_headers().values()) == before + 1


async def test_headers_that_come_twice_are_ignored_and_counted() -> None:
    """Of two deadlines none counts: somebody on the way has added one."""
    app, before = Asked(), counted("deadline", "repeated")
    headers = [("X-Request-Timeout", "1"), ("x-request-timeout", "1")]
    await Request(headers=headers).to(Middleware(app, bulkhead(1), trust=True))
    assert app.left == [None]
    assert counted("deadline", "repeated") == before + 1


async def test_ls03_headers_of_strangers_are_ignored_and_counted() -> None:
    """LS-03: by default nobody may say how long he waits, how important he is, or who he is."""
    app = Asked()
    served = Middleware(app, bulkhead(1), priority_header="x-priority", tenant_header="x-tenant")
    before = {what: counted(what, "untrusted") for what in ("deadline", "priority", "tenant")}
    headers = {"x-request-timeout": "0", "x-priority": "critical", "x-tenant": "somebody"}
    assert (await Request(headers=headers).to(served)).status == 200
    assert (app.left, app.levels, app.tenants) == ([None], ["standard"], [None])
    assert {what: counted(what, "untrusted") - count for what, count in before.items()} == {
        "deadline": 1,
        "priority": 1,
        "tenant": 1,
    }


async def test_ls03_the_priority_header_is_not_even_read_unless_it_is_named() -> None:
    """LS-03: without `priority_header` there is none."""
    app = Asked()
    await Request(headers={"x-priority": "critical"}).to(Middleware(app, bulkhead(1), trust=True))
    assert app.levels == ["standard"]


async def test_priority_and_tenant_of_a_trusted_peer_count(vt) -> None:
    """A trusted peer says how important its request is and whose, with or without a deadline."""
    app = Asked()
    served = Middleware(app, bulkhead(1), trust=True, priority_header="x-priority", tenant_header="x-tenant")
    await Request(headers={"x-priority": "Critical", "x-tenant": "acme"}).to(served)
    await Request(headers={"x-priority": "background", "x-request-timeout": "1"}).to(served)
    await Request(headers={"x-priority": "urgent", "x-tenant": "caf\u00e9"}).to(served)
    assert app.levels == ["critical", "background", "standard"]
    assert app.tenants == ["acme", None, None]
    assert app.left == [None, 1.0, None]


async def test_ls02_priorities_from_the_wire_reserve_headroom() -> None:
    """LS-02: under load what is important is served, and what is not is rejected, by the header of a trusted peer."""
    shed = load_shed(max_concurrent=2)
    held = [shed.try_acquire(), shed.try_acquire()]
    served = Middleware(Asked(), shed, trust=True, priority_header="x-priority")
    async with anyio.create_task_group() as group:
        important, other = (Request(headers={"x-priority": level}) for level in ("critical", "background"))
        group.start_soon(other.to, served)
        await anyio.wait_all_tasks_blocked()
        group.start_soon(important.to, served)
        await anyio.wait_all_tasks_blocked()
        held[0].success()
        await anyio.wait_all_tasks_blocked()
        assert important.status == 200
        held[1].success()
    assert shed.snapshot().inflight == 0


async def test_a_policy_sees_the_tenant() -> None:
    """`tenant_of` is a key and a tenant function."""
    per_tenant = keyed(lambda: rate_limit("1/min"), key=tenant_of)
    served = Middleware(Asked(), per_tenant, trust=True, tenant_header="x-tenant")
    statuses = [(await Request(headers={"x-tenant": who}).to(served)).status for who in ("a", "b", "a")]
    assert statuses == [200, 200, 429]


async def test_who_is_outside_sees_what_is_noted_of_a_request_with_a_tenant() -> None:
    """
    The tenant is noted in the scope itself: `respond` reads it, and what wraps the middleware sees the app's notes.

    The app had a copy: metrics around it knew the route of every request but of those that named a tenant.
    """
    asked = []

    async def routed(scope: Any, receive: Any, send: Any) -> None:
        scope["route"] = "/orders/{id}"
        await Asked()(scope, receive, send)

    def respond(scope: Any, rejection: Exception) -> None:
        asked.append(tenant_of(scope))

    options = {"trust": True, "tenant_header": "x-tenant", "respond": respond}
    served = Middleware(routed, rate_limit("1/min"), **options)
    first = Request(headers={"x-tenant": "a"})
    assert [(await one.to(served)).status for one in (first, Request(headers={"x-tenant": "b"}))] == [200, 429]
    assert (first.scope["route"], asked) == ("/orders/{id}", ["b"])


@pytest.mark.parametrize(
    ("trust", "client", "trusted"),
    [
        (True, None, True),
        (False, ("10.0.0.7", 1), False),
        ("10.0.0.0/8", ("10.9.9.9", 1), True),
        ("10.0.0.0/8", ("11.0.0.1", 1), False),
        (["127.0.0.1", "::1", "fd00::/8"], ("::1", 1), True),
        (["127.0.0.1", "::1", "fd00::/8"], ("fd12::1", 1), True),
        ("10.0.0.0/8", ("::ffff:10.1.1.1", 1), True),
        ("10.0.0.0/8", ("fe80::1%eth0", 1), False),
        ("10.0.0.0/8", ("testclient", 1), False),
        ("10.0.0.0/8", None, False),
        (["10.1.2.3/8"], ("10.200.0.1", 1), True),
        (lambda scope: scope["client"][1] == 4, ("1.2.3.4", 4), True),
        (lambda scope: scope["client"][1] == 4, ("1.2.3.4", 5), False),
        (lambda scope: scope["nothing"], ("1.2.3.4", 5), False),
        ([], ("10.0.0.7", 1), False),
    ],
)
async def test_who_is_trusted(trust, client, trusted) -> None:
    """Trust is said by networks of peers, or by a function; who cannot be told, or makes it raise, is a stranger."""
    app = Asked()
    served = Middleware(app, bulkhead(1), trust=trust, priority_header="x-priority")
    for _ in range(2):  # the second time from memory
        await Request(headers={"x-priority": "critical"}, client=client).to(served)
    assert app.levels == ["critical" if trusted else "standard"] * 2


async def test_the_memory_of_peers_is_bounded() -> None:
    """A million addresses take no more memory than a few thousand."""
    app = Asked()
    served = Middleware(app, bulkhead(1), trust="10.0.0.0/8", priority_header="x-priority")
    for at in range(5000):
        await Request(headers={"x-priority": "critical"}, client=(f"10.0.{at % 256}.{at // 256}", 1)).to(served)
    assert len(served._server.trusts._known) <= 4096
    assert set(app.levels) == {"critical"}


@pytest.mark.parametrize(
    ("option", "value", "error", "says"),
    [
        ("trust", 3, TypeError, "trust must be True, False, networks"),
        ("trust", "10.0.0.0/99", ValueError, "trust must be an address or a network"),
        ("trust", [3], TypeError, "trust must be an address or a network as text"),
        ("deadline_header", "a b", ValueError, "deadline_header must be a header's name"),
        ("priority_header", 3, TypeError, "priority_header must be a header's name"),
        ("tenant_header", "", ValueError, "tenant_header must be a header's name"),
        ("default_deadline", 0, ValueError, "default_deadline must be a time"),
        ("max_deadline", "5", ValueError, "max_deadline must be a time"),
        ("enforce_deadline", 1, TypeError, "enforce_deadline must be True or False"),
        ("exempt", "/healthz", TypeError, "exempt must be paths"),
        ("exempt", ["healthz"], ValueError, "exempt must be paths"),
        ("exempt", [3], TypeError, "exempt must be paths"),
        ("exempt", Asked().__call__, TypeError, "exempt must be a function"),
        ("respond", 3, TypeError, "respond must be a function"),
        ("server_timing", None, TypeError, "server_timing must be True or False"),
    ],
)
def test_bad_options_are_rejected_by_name(option, value, error, says) -> None:
    """What an option cannot be is said at construction, with the option's name and the value."""
    with pytest.raises(error, match=says):
        Middleware(never, bulkhead(1), **{option: value})


async def test_headers_that_are_not_read_cost_nothing_and_say_nothing() -> None:
    """With deadline_header=None no header is looked at."""
    app = Asked()
    served = Middleware(app, bulkhead(1), deadline_header=None, trust=True)
    await Request(headers={"x-request-timeout": "0"}).to(served)
    assert app.left == [None]
