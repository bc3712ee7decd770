"""Scenario files: TOML, or Python for scenarios that TOML cannot express."""

from __future__ import annotations

import re
import runpy
import tomllib
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, cast

import attrs

from resilio._options.validators import fraction, positive_int, show
from resilio.simulation import _faults, _laws, _store
from resilio.simulation._arrivals import Arrivals, Bursty, Poisson, Regular, Trace
from resilio.simulation._policy_tables import policies
from resilio.simulation._queues import QUEUES
from resilio.simulation._scenario import Load, Scenario, Stack
from resilio.simulation._server import Server
from resilio.simulation._table import ScenarioError, Source, Table

__all__ = ["Plan", "load"]

_PROCESSES: dict[str, type[Any]] = {one.__name__.lower(): one for one in (Bursty, Poisson, Regular, Trace)}
_LAWS: dict[str, type[Any]] = {name.lower(): vars(_laws)[name] for name in _laws.__all__ if name != "Law"}
_NO_KINDS = ("AtServers", "Fault", "OF_STORE", "Store")
_FAULTS: dict[str, type[Any]] = {
    re.sub("(?<=.)([A-Z])", r"_\1", name).lower(): vars(module)[name]
    for module in (_faults, _store)
    for name in module.__all__
    if name not in _NO_KINDS
}
_TIMES = {"at", "burst", "calm", "deadline", "drop_expired", "duration", "high", "lasts", "latency", "low"} | {
    *("loses", "maximum", "mean", "minimum", "patience", "seconds", "tick", "timeout", "warmup", "window")
}


@attrs.frozen
class Plan:
    """
    Contents of a scenario file.

    Attributes:
        scenarios: One or several, each with the value of the swept key; None without a sweep.

        seed: The seed, unless the command line gives another.

        sweep: The swept key, or None.
    """

    scenarios: tuple[tuple[Any, Scenario], ...]
    seed: int = 1
    sweep: str | None = None


def load(file: Path) -> Plan:
    """
    Read a scenario file.

    Args:
        file: `.toml`, or `.py` with a `Scenario` called `scenario`.

    Raises:
        ScenarioError: A mistake in the file; the message has file, line and key.

        OSError: It cannot be read.
    """
    if file.suffix == ".py":
        return _python(file)
    try:
        text = file.read_text(encoding="utf-8-sig")  # some editors write a byte order mark
    except UnicodeDecodeError as error:
        raise ScenarioError(str(file), None, None, f"is not UTF-8: {error.reason}") from None
    try:
        values = tomllib.loads(text)
    except tomllib.TOMLDecodeError as error:
        raise _syntax(file, text, error) from None
    except RecursionError:
        raise ScenarioError(str(file), None, None, "is nested too deeply to be read") from None
    return _plan(Source(file, text), values)


def _syntax(file: Path, text: str, error: tomllib.TOMLDecodeError) -> ScenarioError:
    message = str(error)
    _, _, place = message.partition("(at line ")
    number = place.partition(",")[0]
    line = int(number) if number.isdigit() else text.count("\n") + 1
    return ScenarioError(str(file), line, None, message.partition(" (at ")[0])


def _python(file: Path) -> Plan:
    try:
        found = runpy.run_path(str(file), run_name="scenario")
    except SyntaxError as error:
        raise ScenarioError(str(file), error.lineno, None, error.msg) from None
    scenario = found.get("scenario")
    if not isinstance(scenario, Scenario):
        raise ScenarioError(str(file), None, None, f"must set `scenario` to a Scenario, not {show(scenario)}")
    try:
        seed = _seed(found.get("seed", 1))
    except (TypeError, ValueError) as error:
        raise ScenarioError(str(file), None, None, str(error)) from None
    return Plan(((None, scenario),), seed)


def _seed(given: Any) -> int:
    return int(positive_int("seed", given, zero_ok=True, high=2**63 - 1))


def _plan(source: Source, values: dict[str, Any]) -> Plan:
    top = Table(source, (), values)
    seed = top.take("seed", 1)
    top.checked(lambda: _seed(seed), "seed")
    sweep = top.take("sweep")
    plain = {key: value for key, value in values.items() if key not in ("seed", "sweep")}
    if sweep is None:
        return Plan(((None, _scenario(source, plain)),), seed)
    table = top.table("sweep", sweep)
    key, swept = table.need("key", "which key to change, like 'load.rate'"), table.need("values", "its values")
    if not isinstance(swept, list) or not swept:
        table.reject("values", f"must be a list of one or more values, not {show(swept)}")
    table.end()
    return Plan(tuple((value, _scenario(source, _changed(table, plain, key, value))) for value in swept), seed, key)


def _changed(table: Table, values: dict[str, Any], key: Any, value: Any, *, at: int = 0) -> dict[str, Any]:
    """Return the tables with one existing value replaced."""
    first, *rest = str(key).split(".")[at:]
    holder = values.get(first)
    if rest and isinstance(holder, dict):
        return {**values, first: _changed(table, holder, key, value, at=at + 1)}
    if rest or first not in values:
        table.reject("key", f"must be a key of this file, like 'load.rate', not {show(key)}")
    return {**values, first: value}


# ---- tables to records ----------------------------------------------------------------------------------------------


def _scenario(source: Source, values: dict[str, Any]) -> Scenario:
    table = Table(source, (), values)
    options: dict[str, Any] = {
        "load": [_load(each) for each in table.tables("load", table.need("load", "what arrives"))],
        "server": _server(table.table("server", table.need("server", "what is called"))),
        "stacks": _stacks(table.table("stacks", table.need("stacks", "the policies to compare"))),
        "faults": [_fault(each) for each in table.tables("faults", table.take("faults", []))],
    }
    if "store" in table:
        options["store"] = _stored(table.table("store", table.take("store")))
    options["title"] = table.take("title", source.file.stem)
    for name in ("deadline", "duration"):
        if name not in table:
            table.reject(None, f"needs {name!r}: a time like '60s'; a simulation without an end is not begun")
    return cast("Scenario", _record(Scenario, table, options))


def _record(kind: type[Any], table: Table, options: dict[str, Any]) -> Any:
    """Make a record from the remaining values of a table and from `options`."""
    names = [field.name for field in attrs.fields(kind)]
    for name in names:
        if name not in options and name in table:
            value = table.take(name)
            options[name] = table.time(name, value) if name in _TIMES else value
    table.end(names)
    return table.checked(lambda: kind(**options), *names)


def _load(table: Table) -> Load:
    process = _PROCESSES[table.choose("process", _PROCESSES, "poisson")]
    options: dict[str, Any] = {}
    if process is Trace:
        options["at"] = _numbers(table, "at")
    for field in attrs.fields(process):
        if field.name not in options:
            value = table.need(field.name, _WHAT.get(field.name, "see the documentation"))
            options[field.name] = table.time(field.name, value) if field.name in _TIMES else value
    arrivals: Arrivals = table.checked(lambda: process(**options), *options)
    return cast("Load", _record(Load, table, {"arrivals": arrivals}))


_WHAT = {
    "rate": "tasks a second",
    "burst_rate": "tasks a second in bursts",
    "calm": "how long a calm time lasts on average",
    "burst": "how long a burst lasts on average",
}


def _numbers(table: Table, key: str) -> Sequence[Any]:
    """Take numbers out of a table: a list under `key`, or a file beside this one with one number a line."""
    name = table.take("file")
    if name is None:
        return cast("Sequence[Any]", table.need(key, "a list of seconds, or file = 'name'"))
    path = table.source.file.parent / str(name)
    try:
        lines = path.read_text(encoding="utf-8").splitlines()
    except (OSError, UnicodeDecodeError) as error:
        table.reject("file", f"{path} cannot be read: {error}")
    return [_number(path, number, line) for number, line in enumerate(lines, 1) if line.strip()]


def _number(path: Path, number: int, line: str) -> float:
    try:
        return float(line)
    except ValueError:
        raise ScenarioError(str(path), number, None, f"must be a time in seconds, not {show(line)}") from None


def _law(owner: Table, key: str, value: Any) -> Any:
    """Return a law: a time alone is a constant, a table has `law` and its options."""
    if not isinstance(value, dict):
        seconds = owner.time(key, value)
        return owner.checked(lambda: _laws.Constant(seconds), key)
    table = owner.table(key, value)
    kind = _LAWS[table.choose("law", _LAWS)]
    if kind is _laws.Mixture:
        return _mixture(table)
    if kind is _laws.Empirical:
        samples: Any = _numbers(table, "samples")
        table.end()
        return table.checked(lambda: kind(samples), "samples")
    for field in attrs.fields(kind):
        if field.default is attrs.NOTHING and field.name not in table:
            table.reject(None, f"needs {field.name!r}")
    return _record(kind, table, {})


def _mixture(table: Table) -> _laws.Mixture:
    parts: Any = []
    for part in table.tables("parts", table.need("parts", "a list of tables, each with a share and a law")):
        share = _share(part)
        rest = {name: part.take(name) for name in list(part)}
        parts.append((share, _law(Table(part.source, part.path[:-1], {}), cast("str", part.path[-1]), rest)))
    table.end()
    return table.checked(lambda: _laws.Mixture(parts), "parts")


def _share(part: Table) -> float:
    share = part.need("share", "of the draws, > 0")
    return float(part.checked(lambda: fraction("share", share), "share"))


def _server(table: Table) -> Server:
    options: dict[str, Any] = {"service": _law(table, "service", table.need("service", "how long the work takes"))}
    if "network" in table:
        options["network"] = _law(table, "network", table.take("network"))
    _queueing(table, options)
    return cast("Server", _record(Server, table, options))


def _stored(table: Table) -> _store.Store:
    options = {"rtt": _law(table, "rtt", table.take("rtt"))} if "rtt" in table else {}
    return cast("_store.Store", _record(_store.Store, table, options))


def _queueing(table: Table, options: dict[str, Any]) -> None:
    """Take out the queue options that servers and stacks share; in a file, `queue` is "fifo" or "lifo"."""
    if "queue" in table:
        options["queue"] = table.choose("queue", QUEUES)
    if "drop_expired" in table:
        value = table.take("drop_expired")
        seconds = table.time("drop_expired", value)
        options["drop_expired"] = (0.0 if value else None) if isinstance(value, bool) else seconds


def _fault(table: Table) -> _faults.Fault:
    kind = _FAULTS[table.choose("kind", _FAULTS)]
    for field in attrs.fields(kind):
        if field.default is attrs.NOTHING and field.name not in table:
            table.reject(None, f"needs {field.name!r}")
    return cast("_faults.Fault", _record(kind, table, {}))


def _stacks(table: Table) -> Mapping[str, Stack]:
    names = list(table)
    if not names:
        table.reject(None, "must have one stack or more, like [stacks.bare]")
    return {name: _stack(table.table(name, table.take(name))) for name in names}


def _stack(table: Table) -> Stack:
    options: dict[str, Any] = {}
    for side in ("client", "server"):
        if side in table:
            options[side] = policies(table, side, table.take(side))
    _queueing(table, options)
    return cast("Stack", _record(Stack, table, options))
