"""Throughput through clients and servers, as the report has it."""

import importlib
from pathlib import Path

import pytest

from benchmarks import integrations
from benchmarks.integrations import _pairs as pairs
from benchmarks.micro._report import terminal
from benchmarks.micro._results import Environment, Results, Row, Skip
from benchmarks.micro._runner import Peers, _throughput
from benchmarks.micro._targets import TARGETS


def shown(table) -> list[str]:
    """The lines of a report with this table."""
    machine = ("CPython, GIL", "Linux x86_64", "a processor", 2)
    where = Environment("3.13.0", *machine, "tsc", "2026-01-02 03:04", {}, "a timer")
    return [line.strip() for line in terminal([Results(where, (table,), "quick")]).splitlines()]


def test_the_bare_rate_and_what_each_guard_takes_are_rows() -> None:
    """
    Of 100 requests that become 98.5 and 90 in as much processor time, 1.5 and 10 % are lost.

    The first guard that guards is held to the target, not what is bare on both sides.
    """

    def of(rate):
        return [(pairs.Slice(100.0, 5.0), pairs.Slice(80.0, 500.0 / rate))] * 9

    guarded = {pairs.AGAIN: of(95.0), "breaker": of(98.5), "standard": of(90.0)}
    found = pairs.rows("httpx", guarded, "throughput_httpx")
    lines = shown(_throughput(Peers(throughput=lambda _: found), 1.0))
    assert any(line.split("  ")[0] == "httpx, bare" and "100 requests/s" in line for line in lines)
    assert any(line.split("  ")[0] == "httpx, breaker" and "1.50 % (1.50 to 1.50)" in line for line in lines)
    assert any(line.split("  ")[0] == "httpx, standard" and "10.00 % (10.00 to 10.00)" in line for line in lines)
    assert any(line.split("  ")[0] == "httpx, standard, on the wall" and "20.00 %" in line for line in lines)
    assert any(TARGETS["throughput_httpx"].what in line and line.endswith("must met") for line in lines)


def test_a_guard_is_held_against_a_middleware_that_does_nothing() -> None:
    """
    Of 100 requests, 97 get through an empty middleware and 95.06 through a guard: the guard takes 2 % of those.

    The target was 2 % of all, of which a middleware of aiohttp that does nothing takes 2.6 % alone.
    """
    pairs_of = {
        guard: [(pairs.Slice(100.0, 5.0), pairs.Slice(rate, 5.0))] * 9
        for guard, rate in {pairs.AGAIN: 100.0, pairs.EMPTY: 97.0, "middleware": 95.06}.items()
    }
    found = pairs.rows("ASGI", pairs_of, beside_empty={"middleware": "throughput_asgi"})
    lines = shown(_throughput(Peers(throughput=lambda _: found), 1.0))
    beside = f"ASGI, middleware, beside {pairs.EMPTY}, on the wall"
    assert any(line.split("  ")[0] == beside and "2.00 % (2.00 to 2.00)" in line for line in lines)
    assert any(TARGETS["throughput_asgi"].what in line and line.endswith("must met") for line in lines)


def test_what_cannot_be_measured_is_said(monkeypatch) -> None:
    """A module of benchmarks that fails costs its own rows, and the report says so."""
    monkeypatch.setattr(integrations, "MODULES", ("no_such_module",))
    (skip,) = integrations.throughput(1.0)
    assert (skip.subject, "no_such_module" in skip.reason) == ("benchmarks.integrations.no_such_module", True)
    line = f"skipped: {skip.subject}: {skip.reason}"
    assert line in shown(_throughput(Peers(throughput=lambda _: [skip]), 1.0))


def test_without_benchmarks_the_table_says_so() -> None:
    """`make bench` alone has no clients and servers to measure."""
    table = _throughput(Peers(), 1.0)
    assert (table.rows, table.skips) == ((), (Skip("clients and servers", "none was given"),))


def test_every_target_is_of_a_row_that_somebody_may_measure() -> None:
    """The clients' rows name targets that there are."""
    clients = importlib.import_module("benchmarks.integrations.clients")
    assert {f"throughput_{name}" for name in clients.CLIENTS} <= set(TARGETS)


@pytest.mark.untraced  # nobody asks how much of the benchmarks is reached
def test_the_clients_that_are_installed_are_measured(monkeypatch) -> None:
    """Real requests through bare and guarded clients: each installed one has its rows, each missing one a skip."""
    clients = importlib.import_module("benchmarks.integrations.clients")
    monkeypatch.setattr(clients, "LEAST", 2)
    found = clients.throughput(0.0)
    for name in clients.CLIENTS:
        of_client = [one for one in found if one.subject.partition(",")[0] == name]
        missing = importlib.util.find_spec(name) is None
        assert [type(one) for one in of_client] == ([Skip] if missing else [Row] * 11)
    assert all(row.value > 0 for row in found if isinstance(row, Row) and row.unit == "requests/s")


def children() -> set[str]:
    """Return the child processes of this one, where the kernel lists them."""
    return {child for listed in Path("/proc/self/task").glob("*/children") for child in listed.read_text().split()}


@pytest.mark.untraced  # nobody asks how much of the benchmarks is reached
def test_the_servers_that_are_installed_are_measured(monkeypatch) -> None:
    """Real requests to bare and guarded apps: each server has its rows, each missing one a skip; no process is left."""
    servers = importlib.import_module("benchmarks.integrations.servers")
    monkeypatch.setattr(servers, "LEAST", 2)
    before = children()  # a pool of an earlier test leaves the resource tracker of multiprocessing
    found = servers.throughput(0.0)
    for kind, target in servers.REPORTED.items():
        of_server = [one for one in found if one.subject.startswith(servers.subject(kind))]
        assert [type(one) for one in of_server] == ([Skip] if servers.missing(kind) else [Row] * 8)
        assert target is None or target in TARGETS
    assert all(row.value > 0 for row in found if isinstance(row, Row) and row.unit == "requests/s")
    assert children() == before
