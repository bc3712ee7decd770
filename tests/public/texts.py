"""Facts about what a user reads or types: errors, reasons, states, metrics, commands and environment variables."""

from __future__ import annotations

import argparse
import re
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from typing import Any
from unittest.mock import patch

from robustness.test_bad_input import TABLE, TOGETHER, bad_values

import resilio
from resilio import cli, errors
from resilio._options.validators import show
from resilio.cost import spend_limit
from resilio.metrics._catalogue import CATALOGUE
from resilio.metrics._text import full_name

ROOT = Path(resilio.__file__).parent
ONE_OF_EACH: dict[str, Callable[[], Any]] = {
    "adaptive_limit": resilio.adaptive_limit,
    "bulkhead": partial(resilio.bulkhead, 1),
    "circuit_breaker": resilio.circuit_breaker,
    "load_shed": resilio.load_shed,
    "pool": partial(resilio.pool, None, resilio.Endpoint("a")),
    "rate_limit": partial(resilio.rate_limit, "1/s"),
    "spend_limit": partial(spend_limit, "1 USD/day"),
}


def lines() -> Iterator[str]:
    """Yield one line for each fact."""
    yield from reasons()
    yield from examples()
    yield from definition_errors()
    yield from numbers()
    yield from commands()
    yield from environment()


def reasons() -> Iterator[str]:
    """Yield the reasons and states of each gate, with the remedy that the text of a rejection adds."""
    for kind, make in ONE_OF_EACH.items():
        gate = make().gates[0]
        yield f"error of {kind}: {gate.error}"
        for reason in gate.rejections():
            plain = f"{kind} rejected the call: {reason}"
            remedy = str(errors.RejectedError(kind, reason=reason)).removeprefix(plain)
            yield f"reason of {kind}: {reason}{remedy}"
        yield from (f"state of {kind}: {state}" for state in sorted(set(gate.states)))
    _, stops = resilio.retry(on=OSError).gates[0].retry_counters
    yield from (f"reason to stop a retry: {reason}" for reason in stops)


def examples() -> Iterator[str]:
    """Yield the text of an example of each form of an error."""
    for error in (
        errors.RejectedError("bulkhead"),
        errors.RejectedError("bulkhead", "shop", "full", 2, 1, 0.25),
        errors.RejectedError("bulkhead", "shop", "full", scope="host"),
        *(errors.CallTimeoutError(clock, 2.0, "shop") for clock in ("total", "first", "idle")),
        errors.DeadlineExceededError(),
        errors.DeadlineExceededError(2.0, 0.0),
        errors.DeadlineExceededError(2.0, 0.5, 1.0, "retry", "shop"),
    ):
        yield f"text of {type(error).__name__}{error.args or ''}: {error}"


def definition_errors() -> Iterator[str]:
    """Yield what each bad value of `tests/robustness` raises, with the value left out, once."""
    for make, good, parameters in TABLE.values():
        for parameter, what in parameters.items():
            for value in bad_values(what):
                bad = partial(make, **{**good, parameter: value})
                yield f"text of {parameter}=<bad>: {text_of(bad, value)}"
    for make, parameter in TOGETHER:
        yield f"text of a {parameter} that does not fit: {text_of(make)}"


def text_of(make: Callable[[], Any], *values: Any) -> str:
    """Return the kind and text of the error that is raised, without these values or the parts of one."""
    try:
        made = make()
    except (TypeError, ValueError) as error:
        text = f"{type(error).__name__}: {' '.join(str(error).split())}"
    else:
        raise AssertionError(f"{made!r} was made of {values}")
    for value in values:
        parts = value if isinstance(value, tuple) else ()
        named = next((one for one in (value, *parts) if show(one) in text), value)
        before, found, after = text.rpartition(show(named))  # the value stands last
        text = f"{before}<bad>{after}" if found else text
    return text


def numbers() -> Iterator[str]:
    """Yield each metric with type, labels and unit, and its name in OpenTelemetry."""
    for one in CATALOGUE.values():
        yield f"metric {full_name(one)}{{{', '.join(one.labels)}}} ({one.type}, {one.unit}, {one.merge}; {one.otel})"


class Stop(Exception):
    """The parser of a command has been found."""


def commands() -> Iterator[str]:
    """Yield each command of the command line, its actions and its options."""
    for command in cli._COMMANDS:
        yield from of_parser(f"resilio {command}", parser_of(command))


def parser_of(command: str) -> argparse.ArgumentParser:
    """Return the parser that a command makes when it is called."""

    def stop(parser: argparse.ArgumentParser, *_: Any) -> Any:
        raise Stop(parser)

    with patch.object(argparse.ArgumentParser, "parse_args", stop):
        try:
            cli._COMMANDS[command][1]([])
        except Stop as found:
            parser: argparse.ArgumentParser = found.args[0]
    return parser


def of_parser(command: str, parser: argparse.ArgumentParser) -> Iterator[str]:
    """Yield a command with its options."""
    yield f"command {command}"
    for action in parser._actions:
        if isinstance(action, argparse._SubParsersAction):
            for name, inner in action.choices.items():
                yield from of_parser(f"{command} {name}", inner)
        elif not isinstance(action, argparse._HelpAction):
            of_choices = "" if action.choices is None else f" {{{','.join(map(str, action.choices))}}}"
            plain = isinstance(action.default, (int, float, str)) and action.default not in (False, argparse.SUPPRESS)
            default = f" = {action.default!r}" if plain else ""  # a path depends on the machine
            yield f"command {command} {' '.join(action.option_strings) or action.dest}{of_choices}{default}"


def environment() -> Iterator[str]:
    """Yield the environment variables of this package."""
    found: set[str] = set()
    for path in ROOT.rglob("*.py"):
        found.update(re.findall(r"\bRESILIO_[A-Z_]+\b", path.read_text(encoding="utf-8")))
    yield from (f"environment variable {name}" for name in found if "__" not in name)
