"""Exceptions that the package exports are the same after a pickle and a copy: a worker process may raise them."""

from __future__ import annotations

import asyncio
import copy
import importlib
import inspect
import pickle
import pkgutil
from collections.abc import Callable, Iterator
from concurrent.futures import ProcessPoolExecutor
from multiprocessing import get_context
from pathlib import Path
from typing import Any

import pytest

import resilio
from resilio import cost, errors, sharing, simulation, testing
from resilio.integrations import llm
from resilio.simulation._files import load
from resilio.simulation._table import ScenarioError

pytestmark = pytest.mark.once

SCENARIO = """\
duration = "2s"
[load]
rate = 1
[server]
workers = "many"
service = { law = "exponential", mean = "10ms" }
[stacks.bare]
"""


def raised(call: Callable[[], object]) -> BaseException:
    """Return the exception of a call, as its caller gets it."""
    try:
        call()
    except Exception as error:
        return error
    raise AssertionError("the call has raised nothing")


def rejected(policy: Any, *, held: int = 0) -> BaseException:
    """Return the rejection of a call, while that many permits are held."""
    permits = [permit for permit in (policy.try_acquire() for _ in range(held)) if permit]
    try:
        return raised(lambda: policy.call(int))
    finally:
        for permit in permits:
            permit.success()


def opened() -> BaseException:
    breaker = resilio.circuit_breaker(name="opened")
    breaker.force_open()
    return rejected(breaker)


def late(policy: Any) -> BaseException:
    """Return the error of a call that takes longer than the policy lets it."""
    with testing.virtual_time() as vt:
        return raised(lambda: vt.run(lambda: policy.acall(asyncio.sleep, 5.0)))


def mistaken(path: Path) -> BaseException:
    file = path / "shop.toml"
    file.write_text(SCENARIO)
    return raised(lambda: load(file))


MADE: dict[type[BaseException], Callable[[], BaseException]] = {
    errors.BulkheadFullError: lambda: rejected(resilio.bulkhead(1, name="full"), held=1),
    errors.CallTimeoutError: lambda: late(resilio.timeout(1.0, name="late")),
    errors.CircuitOpenError: opened,
    errors.DeadlineExceededError: lambda: late(resilio.deadline(1.0)),
    errors.NoEndpointError: lambda: rejected(resilio.pool("empty")),
    errors.OverloadedError: lambda: rejected(resilio.adaptive_limit(name="busy", start=1, floor=1, ceiling=1), held=1),
    errors.RateLimitedError: lambda: rejected(resilio.rate_limit("1/min", name="limited", max_wait=0), held=1),
    errors.RejectedError: lambda: errors.RejectedError("gate", "theirs", "closed", 2.0, 1.0, 0.5, "fleet"),
    errors.ResilienceError: lambda: errors.ResilienceError("a text"),
    cost.UnknownModelError: lambda: raised(lambda: cost.Prices({"a": cost.Price(input=1.0, output=1.0)})["b"]),
    simulation.ServerBusy: lambda: simulation.ServerBusy("full", retry_after=0.25),
}
"""How exceptions are made that have more than a text."""


def exported() -> Iterator[type[BaseException]]:
    """Yield the exceptions that public modules export."""
    names = [info.name for info in pkgutil.walk_packages(resilio.__path__, "resilio.")]
    for name in ["resilio", *(name for name in names if "._" not in name and not name.endswith("__main__"))]:
        try:
            module = importlib.import_module(name)
        except ImportError:  # it needs an extra
            continue
        members = (getattr(module, member) for member in getattr(module, "__all__", ()))
        yield from (member for member in members if inspect.isclass(member) and issubclass(member, BaseException))


def in_terms_of_grpc(kind: type[BaseException]) -> BaseException:
    from resilio.integrations._grpc.errors import in_terms

    made: BaseException = in_terms(MADE[getattr(errors, kind.__name__)]())  # type: ignore[arg-type]
    return made


def made(kind: type[BaseException]) -> BaseException:
    """Return an exception of this class as the package makes it, with all that it may carry."""
    if kind.__module__ == "resilio.integrations._grpc.errors":
        error = in_terms_of_grpc(kind)
    else:
        error = MADE.get(kind, lambda: kind("a text"))()
    error.add_note("a note")
    assert type(error) is kind
    return error


def shown(error: BaseException) -> dict[str, object]:
    """Return all that code can read from an exception; the time of a call has no equality but its text."""
    names = {"__notes__", *(name for name in dir(error) if not name.startswith("__"))}
    read = {name: value for name in names if not callable(value := getattr(error, name, None))}
    read["resilio_segments"] = repr(read.get("resilio_segments"))
    return read | {"class": type(error), "text": str(error), "repr": repr(error)}


@pytest.mark.parametrize("protocol", range(2, pickle.HIGHEST_PROTOCOL + 1))
def test_each_exception_survives_a_pickle_and_a_copy(protocol: int) -> None:
    """Where a class passes `Exception` another number of arguments than it takes, a pickle of it cannot be read."""
    kinds = {*exported()}
    assert {*MADE, testing.DeadlockError, sharing.StoreError, llm.InnerRetryWarning} <= kinds
    for kind in sorted(kinds, key=str):
        error = made(kind)
        for again in (pickle.loads(pickle.dumps(error, protocol)), copy.copy(error), copy.deepcopy(error)):
            assert again is not error
            assert shown(again) == shown(error)


def test_a_mistake_in_a_scenario_leaves_the_pool_of_processes_whole(tmp_path: Path) -> None:
    """
    Scenarios are read in a pool of processes, and one file has a mistake.

    The `ScenarioError` of the worker could not be unpickled, since its class takes four arguments and kept one: the
    caller got BrokenProcessPool, and no other file was read.
    """
    error: Any = mistaken(tmp_path)
    assert (error.file, error.line, error.key) == (str(tmp_path / "shop.toml"), 5, "server.workers")
    with ProcessPoolExecutor(1, mp_context=get_context("spawn")) as pool:
        with pytest.raises(ScenarioError) as found:
            pool.submit(load, tmp_path / "shop.toml").result()
        assert (type(found.value), str(found.value), found.value.args) == (ScenarioError, str(error), error.args)
        assert (found.value.file, found.value.line, found.value.key) == (error.file, error.line, error.key)
        assert pool.submit(len, "whole").result() == 5
