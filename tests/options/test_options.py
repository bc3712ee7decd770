"""One declaration of each option: the record, from which signature, docs and the native setter follow."""

from __future__ import annotations

import ast
import inspect
import re
from collections.abc import Callable, Iterator
from datetime import timedelta
from functools import cache
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import attrs
import pytest

import resilio
from resilio import bulkhead
from resilio._options.fields import options_of
from resilio.integrations import asgi, wsgi
from resilio.integrations._servers.middleware import ServerOptions

PACKAGE = Path(resilio.__file__).parent
NATIVE = Path(__file__).parents[2] / "src_c" / "resilio" / "_native"


def policies() -> list[tuple[Callable[..., Any], type[Any]]]:
    """Return what makes policies by options, each with the record of these."""
    public = [getattr(resilio, name) for name in resilio.__all__]
    made = [(one, one.options_record) for one in public if hasattr(one, "options_record")]
    return [*made, (resilio.RetryBudget, resilio.RetryBudget.Config)]


MIDDLEWARES: list[tuple[Callable[..., Any], type[Any]]] = [(asgi.Middleware, asgi.ASGIOptions)]
MIDDLEWARES += [(wsgi.Middleware, ServerOptions)]
if find_spec("grpc") is not None:
    from resilio.integrations.grpc import server_interceptor

    MIDDLEWARES += [(server_interceptor, vars(server_interceptor)["options_record"])]


FACTORIES = policies()


def parameters(factory: Callable[..., Any]) -> dict[str, inspect.Parameter]:
    """Return the parameters that `help()` and editors show."""
    return dict(inspect.signature(factory).parameters)


@pytest.mark.parametrize(("factory", "config"), FACTORIES + MIDDLEWARES)
def test_the_signature_is_that_of_the_record(factory: Callable[..., Any], config: type[Any]) -> None:
    """A default changed in the record alone is the one that `help()` shows; it stood twice before."""
    shown = parameters(factory)
    for field in options_of(config):
        if "several" not in field.metadata:
            default = inspect.Parameter.empty if field.default is attrs.NOTHING else field.default
            assert shown[field.name].default is default
    assert shown.keys() - {field.name for field in options_of(config)} <= {"name"}


@pytest.mark.parametrize(("factory", "config"), FACTORIES)
def test_each_option_is_documented_once(factory: Callable[..., Any], config: type[Any]) -> None:
    """The docstring of the function has every option, in the order of the signature."""
    assert list(documented(factory)) == list(parameters(factory))


def documented(factory: Callable[..., Any]) -> Iterator[str]:
    """Yield the options of the section "Args"."""
    text = inspect.getdoc(factory) or ""
    section = text.partition("Args:\n")[2].partition("\nRaises:")[0]
    return (found[1] for found in re.finditer(r"^    (\w+): ", section, re.MULTILINE))


def test_what_users_write_is_shown_where_the_record_keeps_another_type() -> None:
    """`max_wait` is kept as seconds, and taken as a timedelta as well."""
    assert parameters(bulkhead)["max_wait"].annotation == float | str | timedelta | None
    assert bulkhead(1, max_queued=1, max_wait=timedelta(seconds=2)).config.max_wait == 2.0


# ---- once ------------------------------------------------------------------------------------------------------------


@cache
def trees() -> list[tuple[str, ast.Module]]:
    """Return all modules of the package."""
    return [(str(path.relative_to(PACKAGE)), ast.parse(path.read_text())) for path in sorted(PACKAGE.rglob("*.py"))]


@cache
def lists_of_names() -> list[tuple[str, frozenset[str]]]:
    """Return every list of names in which options could be declared: parameters of a function, fields of a class."""
    return list(found_lists())


def found_lists() -> Iterator[tuple[str, frozenset[str]]]:
    """Yield place and names of each."""
    for module, tree in trees():
        for node in ast.walk(tree):
            if isinstance(node, (ast.FunctionDef, ast.AsyncFunctionDef)):
                arguments = node.args
                given = [*arguments.posonlyargs, *arguments.args, *arguments.kwonlyargs]
                yield f"{module}:{node.name}", frozenset(one.arg for one in given)
            elif isinstance(node, ast.ClassDef):
                fields = [one.target for one in node.body if isinstance(one, ast.AnnAssign)]
                yield f"{module}:{node.name}", frozenset(one.id for one in fields if isinstance(one, ast.Name))


@pytest.mark.parametrize("config", [config for _, config in FACTORIES])
def test_no_option_is_declared_in_two_places(config: type[Any]) -> None:
    """
    `probe_lease` stood in an overload, a signature, a record, native(), a stub and twice in Cython.

    An ask to a fleet's store carries values of options, in units of its own; it declares none.
    """
    options = {field.name for field in options_of(config)}
    places = [place for place, names in lists_of_names() if len(options & names) > min(3, len(options) - 1)]
    records = (*(f":{record.__name__}" for _, record in FACTORIES), "Ask")
    assert any(place.endswith(f":{config.__name__}") for place in places)
    assert [place for place in places if not place.endswith(records)] == []


def test_gates_take_the_record_and_no_option_by_name() -> None:
    """An option was written twice in Cython and once in a stub, with defaults of its own in some."""
    setters = [found for path in NATIVE.rglob("*.p[yx]?") for found in SETTER.findall(path.read_text())]
    assert len(setters) == 12
    assert all(re.fullmatch(r"config(, \w+ \w+)*", taken) for taken in setters)


SETTER = re.compile(r"def _?configure\(self, (.*?)\):")


def test_options_are_passed_by_name() -> None:
    """`locals()` carried options in 12 places, where neither a type checker nor "find usages" follows them."""
    calls = [
        f"{module}:{node.lineno}"
        for module, tree in trees()
        for node in ast.walk(tree)
        if isinstance(node, ast.Call) and isinstance(node.func, ast.Name) and node.func.id == "locals"
    ]
    assert calls == []


def test_what_is_missing_is_rejected_by_its_check() -> None:
    """`retry()` says what `on` must be, and not that an argument of a constructor that nobody called is missing."""
    for make, message in ((resilio.retry, "on must be an exception type"), (bulkhead, "max_concurrent must be an int")):
        with pytest.raises(TypeError, match=message):
            make()


def test_arguments_by_position_are_bound_as_python_does() -> None:
    """An option cannot be given twice, and those that have to be named cannot be given by position."""
    wrong: Any = bulkhead
    with pytest.raises(TypeError, match="bulkhead is given 'max_concurrent' twice"):
        wrong(1, max_concurrent=2)
    with pytest.raises(TypeError, match=r"bulkhead takes its options by name, like bulkhead\(10\), not 5 by position"):
        wrong(1, 5)
    with pytest.raises(TypeError, match=r"standard takes its options by name, like .*, not 'http' by position"):
        wrong = resilio.standard
        wrong("payments", "http")


def test_a_default_that_follows_another_is_read_from_it() -> None:
    """The attempts and the backoff of a standard stack are those of a retry."""
    stack, plain = (dict(parameters(one)) for one in (resilio.standard, resilio.retry))
    for name in ("attempts", "backoff"):
        assert stack[name].default is plain[name].default
