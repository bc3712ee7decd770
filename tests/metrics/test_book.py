"""What the reading of policies promises: names are bounded, and a policy that cannot be read costs only itself."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest

from resilio import RetryBudget, bulkhead, circuit_breaker, custom_gate, hedge, registry, retry
from resilio.metrics import _trouble
from resilio.metrics._book import OTHER, Book
from resilio.metrics._buckets import Chooser, bounds_of
from resilio.metrics._sheet import Sheet

prometheus_client = pytest.importorskip("prometheus_client")

from resilio.metrics import prometheus  # noqa: E402


@pytest.fixture(autouse=True)
def _nobody_else() -> None:
    registry.clear()


def book(**options: Any) -> Book:
    return Book(None, Chooser("default"), **options)


def successes(sheet: Sheet) -> dict[str, float]:
    return {labels[1]: value for (name, labels), value in sheet.counters.items() if labels[2:] == ("success",)}


# ---- names -----------------------------------------------------------------------------------------------------------


def test_names_are_bounded() -> None:
    """What is made under ever new names is summed under one, its gauges and latencies too, and a known name stays."""
    read, kept = book(most=3), [circuit_breaker(f"user {at}") for at in range(10)]
    for policy in kept:
        policy.call(int)
    for _ in range(2):
        sheet = read.read()
        assert successes(sheet) == {"user 0": 1, "user 1": 1, "user 2": 1, OTHER: 7}
        assert sheet.gauges["policies", ("circuit_breaker", OTHER)] == 7
        assert sheet.durations["circuit_breaker", OTHER].counts[-1] == 7
    with pytest.raises(ValueError, match="max_names"):
        prometheus.ResilioCollector(prometheus_client.CollectorRegistry(), max_names=0)


def test_a_name_is_bounded_in_length() -> None:
    """A label of a kilobyte is cut; one that cannot be encoded is replaced, and ends no scrape."""

    def call() -> None:
        pass

    kept = []
    for name in ("x" * 1000, "lone \udc80"):
        call.__module__, call.__qualname__ = "m", name
        kept.append(circuit_breaker()(call))
    scraped = prometheus_client.CollectorRegistry()
    prometheus.ResilioCollector(scraped)
    for write in (prometheus.generate_latest, prometheus_client.generate_latest):
        text = write(scraped).decode()
        assert f'policy="m.{"x" * 198}"' in text
        assert 'policy="m.lone ?"' in text


@pytest.mark.parametrize(
    ("given", "names"), [(True, (f"m.{'y' * 198}", "changing 0")), (False, ("changing 0", "changing 1"))]
)
def test_changes_of_state_are_bounded_as_all_else_is(given: bool, names: tuple[str, str]) -> None:
    """Those of names for which there is no room are summed too, and those of a name that is cut are its own."""

    def call() -> None:
        pass

    call.__module__, call.__qualname__ = "m", "y" * 1000
    long = circuit_breaker()
    long(call)
    policies = [long, *(circuit_breaker(f"changing {at}") for at in range(5))]
    read = Book(policies if given else None, Chooser("default"), 2)
    before = read.read()
    for policy in policies:
        policy.force_open()
    read.read()
    sheet = read.read()
    keys = [("state_changes", ("circuit_breaker", name, "forced_open")) for name in (*names, OTHER)]
    assert [sheet.counters[key] - before.counters.get(key, 0) for key in keys] == [1, 1, 4]


def test_changes_of_state_are_counted_by_the_new_one() -> None:
    """Also those of policies that only a lambda gave a name: they are one series."""
    read, named, unnamed = book(), circuit_breaker("counted <here>"), circuit_breaker()
    unnamed(lambda: 1)()
    own = "state_changes", ("circuit_breaker", "unnamed", "forced_open")
    before = read.read().counters.get(own, 0)
    for policy in (named, unnamed):
        policy.force_open()
        policy.reset()
    after = read.read().counters
    assert after["state_changes", ("circuit_breaker", "counted <here>", "forced_open")] == 1
    assert after[own] == before + 1


def test_a_budget_counts_once_under_its_own_name() -> None:
    """Whoever shares it; one without a name has that of its first user."""
    budget = RetryBudget("shared")
    for name in ("one", "two"):
        retry(on=OSError, attempts=2, backoff=0.0, budget=budget, name=name).call(int)
    retry(on=OSError, attempts=2, backoff=0.0, name="alone").call(int)
    counters = book().read().counters
    event = {labels[1]: value for (name, labels), value in counters.items() if labels[2:] == ("deposited",)}
    assert event == {"shared": 2, "alone": 1}


# ---- policies that cannot be read ------------------------------------------------------------------------------------


def test_a_policy_that_cannot_be_read_costs_only_itself(monkeypatch: Any) -> None:
    """Its last numbers stand, the others' are there, and it is counted."""
    read, bad, good = book(), bulkhead(1, name="bad"), circuit_breaker("good")
    bad.call(int)
    good.call(int)
    assert successes(read.read()) == {"bad": 1, "good": 1}
    new, before = bulkhead(1, name="new"), _trouble.errors()
    bad.call(int)
    good.call(int)
    with monkeypatch.context() as patched:
        patched.setattr(type(bad), "latency", property(lambda policy: 1 / 0))
        assert successes(read.read()) == {"bad": 1, "good": 2}
    assert _trouble.errors() == before + 2
    new.call(int)
    assert successes(read.read()) == {"bad": 2, "good": 2, "new": 1}


def test_a_gate_of_ones_own_counts_what_it_raised() -> None:
    """Errors of its methods are errors of a function, whatever kind it calls itself."""

    class Gate:
        kind = "circuit_breaker"

        def admit(self, call: Any) -> None:
            raise OSError

        def settle(self, call: Any, outcome: Any, seconds: float) -> None:
            pass

    policy = custom_gate(Gate(), name="own")
    policy.call(int)
    sheet = book().read()
    assert sheet.counters["function_errors", (policy.kind, "own", "gate")] >= 1


def test_a_hedge_shows_its_delay() -> None:
    """Once it knows one."""
    hedge(idempotent=True, after=0.25, name="unmeasured")
    from measured import measured

    measured(name="copied")
    delays = {
        labels[1]: value for (name, labels), value in book().read().gauges.items() if name == "hedge_delay_seconds"
    }
    assert delays == {"copied": pytest.approx(0.05, rel=0.2)}


# ---- buckets ---------------------------------------------------------------------------------------------------------


def test_buckets_are_chosen_by_name_then_by_kind() -> None:
    """And "default" is for all others, ours if there is none."""
    choose = Chooser({"payments": "http", "bulkhead": (1, 2), "default": "model"})
    assert choose("bulkhead", "payments") == bounds_of("http")
    assert choose("bulkhead", "pool") == (1.0, 2.0, float("inf"))
    assert choose("circuit_breaker", "other") == bounds_of("model")
    assert Chooser({"payments": "database"})("circuit_breaker", "other") == bounds_of("default")
    for preset in prometheus.PRESETS:
        assert bounds_of(preset)[-1] == float("inf")


@pytest.mark.parametrize("buckets", ["htttp", 5, None, {"payments": "htttp"}, {"payments": ()}])
def test_bad_choices_of_buckets_are_rejected(buckets: Any) -> None:
    """When the collector is made, not at a scrape."""
    with pytest.raises(ValueError, match="buckets must be"):
        prometheus.ResilioCollector(prometheus_client.CollectorRegistry(), buckets=buckets)


# ---- the applications ------------------------------------------------------------------------------------------------


def test_the_asgi_application_serves_the_metrics() -> None:
    """GET and HEAD; anything else is not allowed, and a websocket is left alone."""
    scraped = prometheus_client.CollectorRegistry()
    prometheus.ResilioCollector(scraped)
    application = prometheus.make_asgi_app(scraped)

    def ask(method: str, kind: str = "http") -> list[Any]:
        sent: list[Any] = []

        async def send(message: Any) -> None:
            sent.append(message)

        asyncio.run(application({"type": kind, "method": method}, None, send))
        return sent

    start, body = ask("GET")
    assert start["status"] == 200
    assert dict(start["headers"])[b"content-length"] == str(len(body["body"])).encode()
    assert b"resilio_listener_errors_total" in body["body"]
    assert [ask("HEAD")[0]["status"], ask("HEAD")[1]["body"]] == [200, b""]
    assert b"allow" not in dict(start["headers"])
    rejected, nothing = ask("POST")
    assert (rejected["status"], nothing["body"], dict(rejected["headers"])[b"allow"]) == (405, b"", b"GET, HEAD")
    assert ask("GET", "websocket") == []


@pytest.mark.parametrize("backend", ["asyncio", "trio"])
def test_a_scrape_does_not_stop_the_event_loop(monkeypatch: Any, backend: str) -> None:
    """It is read in a thread, on either loop."""
    import threading

    import anyio

    ran = []
    monkeypatch.setattr(prometheus, "generate_latest", lambda _: (ran.append(threading.current_thread()), b"text")[1])
    sent: list[Any] = []

    async def send(message: Any) -> None:
        sent.append(message)

    anyio.run(prometheus.make_asgi_app(), {"type": "http", "method": "GET"}, None, send, backend=backend)
    assert sent[1]["body"] == b"text"
    assert ran[0] is not threading.current_thread()


def test_the_wsgi_application_serves_the_metrics() -> None:
    """The same."""
    scraped = prometheus_client.CollectorRegistry()
    prometheus.ResilioCollector(scraped)
    application, said = prometheus.make_wsgi_app(scraped), []

    def ask(method: str) -> bytes:
        return b"".join(application({"REQUEST_METHOD": method}, lambda status, headers: said.append((status, headers))))

    body = ask("GET")
    assert b"resilio_listener_errors_total" in body
    assert (ask("HEAD"), ask("POST")) == (b"", b"")
    assert [status for status, _ in said] == ["200 OK", "200 OK", "405 Method Not Allowed"]
    assert dict(said[0][1])["Content-Length"] == str(len(body))
    assert [dict(headers).get("Allow") for _, headers in said] == [None, None, "GET, HEAD"]


def test_beginnings_of_lines_are_not_kept_for_ever(monkeypatch: Any) -> None:
    """Names may come and go: what is remembered is bounded."""
    from resilio.metrics import _text

    monkeypatch.setattr(_text, "MOST_KEPT", 5)
    scraped = prometheus_client.CollectorRegistry()
    collector = prometheus.ResilioCollector(scraped)
    for at in range(20):
        circuit_breaker(f"user {at}")
    text = prometheus.generate_latest(scraped)
    assert text == prometheus.generate_latest(scraped)
    assert len(collector._writer._begins) <= 5
    assert len(collector._writer._buckets) <= 5


@pytest.mark.parametrize(
    ("value", "text"), [(0.5, "0.5"), (float("inf"), "+Inf"), (float("-inf"), "-Inf"), (float("nan"), "NaN")]
)
def test_numbers_are_spelt_as_the_format_has_them(value: float, text: str) -> None:
    """Those that are none, too."""
    from resilio.metrics._text import number

    assert number(value) == text
