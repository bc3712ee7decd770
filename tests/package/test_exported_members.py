"""The public names: what `resilio` exports, where it comes from, and how quickly."""

from __future__ import annotations

import importlib
import inspect
import json
import pkgutil
import re
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

import resilio
from resilio.gates import CustomGate

OTHERS = {
    "anyio",
    "asyncio",
    "httpx2",
    "matplotlib",
    "opentelemetry",
    "prometheus_client",
    "pytest",
    "rich",
    "sniffio",
    "structlog",
    "trio",
    "uvloop",
}


API = Path(__file__).parents[2] / "docs" / "reference" / "api"
WITH_EXTRAS = {"resilio.integrations.mcp", "resilio.metrics.otel", "resilio.metrics.prometheus"}


def python(code: str) -> Any:
    done = subprocess.run([sys.executable, "-c", code], check=True, capture_output=True, text=True)
    return json.loads(done.stdout)


def public_modules() -> list[str]:
    names = [info.name for info in pkgutil.walk_packages(resilio.__path__, "resilio.")]
    return ["resilio", *sorted(name for name in names if not any(part.startswith("_") for part in name.split(".")))]


def test_the_exported_names_are_sorted_and_there() -> None:
    """`__all__` is what `from resilio import *` gives, in order."""
    assert resilio.__all__ == sorted(resilio.__all__)
    assert all(hasattr(resilio, name) for name in resilio.__all__)
    assert sorted(name for name in dir(resilio) if not name.startswith("_")) == resilio.__all__
    with pytest.raises(AttributeError, match="has no attribute 'circut_breaker'"):
        _ = resilio.circut_breaker


@pytest.mark.parametrize("name", ["cost", "errors", "events", "gates", "laws", "presets", "registry"])
def test_a_public_module_shows_its_own_names_only(name: str) -> None:
    """`registry.` followed by a tab showed `Remembered`, `os` and `overload` as well."""
    module = importlib.import_module(f"resilio.{name}")
    assert dir(module) == sorted(module.__all__)
    assert all(hasattr(module, exported) for exported in module.__all__)


def test_a_pattern_is_loaded_when_it_is_named() -> None:
    """Who uses one does not wait for the others; then its name is a plain attribute."""
    code = """if True:
        import json, sys, resilio
        before = [name for name in sys.modules if name.startswith("resilio._policies.")]
        resilio.rate_limit
        after = {name.split(".")[2] for name in sys.modules if name.startswith("resilio._policies.")}
        print(json.dumps([before, sorted(after - {"_rate", "_reservation"}), "rate_limit" in vars(resilio)]))
    """
    assert python(code) == [[], ["rate_limit"], True]


def test_the_patterns_of_this_version_are_exported() -> None:
    """Every factory with its class, and every error."""
    for factory, policy in (
        ("adaptive_limit", "AdaptiveLimit"),
        ("bulkhead", "Bulkhead"),
        ("circuit_breaker", "CircuitBreaker"),
        ("pipeline", "Pipeline"),
        ("rate_limit", "RateLimit"),
    ):
        assert inspect.isfunction(getattr(resilio, factory))
        assert issubclass(getattr(resilio, policy), resilio.Policy)
        assert not inspect.ismodule(getattr(resilio, factory))
    from resilio import errors

    assert set(errors.__all__) <= set(resilio.__all__)


@pytest.mark.parametrize("name", public_modules())
def test_a_public_module_says_what_it_exports(name: str) -> None:
    """`__all__` is true, and everything in it is documented."""
    module = pytest.importorskip(name, exc_type=ImportError)  # it may need an extra
    assert inspect.getdoc(module)
    for exported in getattr(module, "__all__", []):
        member = getattr(module, exported)
        if inspect.isclass(member) or inspect.isroutine(member):
            assert inspect.getdoc(member), f"{name}.{exported} has no docstring"


def test_the_api_pages_show_every_public_name() -> None:
    """The pages name all of `resilio.__all__`, by itself or with the module that it stands in, and nothing else."""
    page = api_pages()
    shown = set(re.findall(r"^\.\. auto(?:class|function|data):: resilio\.(\w+)$", page, re.MULTILINE))
    for name in re.findall(r"^\.\. automodule:: ([\w.]+)$", page, re.MULTILINE):
        module = importlib.import_module(name) if name not in WITH_EXTRAS else None
        shown |= {name.removeprefix("resilio."), *getattr(module, "__all__", ())}
    assert set(resilio.__all__) - shown == set()
    alone = set(re.findall(r":: resilio\.(\w+)$", page, re.MULTILINE))
    modules = {path.stem for path in API.glob("*.md")}
    assert alone - set(resilio.__all__) - modules == set()


def test_the_api_pages_explain_the_names_in_signatures() -> None:
    """`Time`, `Rule` and `Span` stood in the tables of options, and no page said what they are."""
    types = (API / "types.md").read_text(encoding="utf-8")
    explained = set(re.findall(r"^\| `(\w+)` \|", types, re.MULTILINE)) | set(
        re.findall(r":: resilio\.(\w+)$", api_pages(), re.MULTILINE)
    )
    used = set()
    for path in (API.parent / "patterns").glob("*.md"):
        for row in re.findall(r"^\| `\w+` \| `(.*?)` \|", path.read_text(encoding="utf-8"), re.MULTILINE):
            used |= set(re.findall(r"\b[A-Z]\w+", re.sub(r'"[^"]*"', "", row)))
    assert (
        used - explained - {"Any", "BaseException", "Callable", "Iterable", "Literal", "Mapping", "None", "Sequence"}
        == set()
    )


def api_pages() -> str:
    """Return the text of all pages of the API reference."""
    return "\n".join(path.read_text(encoding="utf-8") for path in sorted(API.glob("*.md")))


def test_public_methods_of_policies_are_documented() -> None:
    """Every method and property that a user can call has a docstring."""
    for cls in (
        resilio.AdaptiveLimit,
        resilio.Bulkhead,
        resilio.CircuitBreaker,
        resilio.Pipeline,
        resilio.RateLimit,
        CustomGate,
    ):
        for name, member in inspect.getmembers(cls):
            if not name.startswith("_") and (inspect.isroutine(member) or isinstance(member, property)):
                assert inspect.getdoc(member), f"{cls.__name__}.{name} has no docstring"


def test_import_loads_no_extra_and_no_event_loop() -> None:
    """`import resilio` is quick: extras and event loops come when they are used."""
    loaded = python("import json, sys, resilio; print(json.dumps(sorted(sys.modules)))")
    assert OTHERS.isdisjoint(loaded)
    assert "logging" not in loaded


def test_guarding_and_calling_a_function_loads_no_event_loop() -> None:
    """A program of plain threads never pays for asyncio."""
    code = """if True:
        import json, sys, resilio
        guarded = resilio.pipeline(resilio.rate_limit("9/s"), resilio.circuit_breaker(), resilio.bulkhead(3))(lambda: 1)
        guarded()
        print(json.dumps(sorted(sys.modules)))
    """
    assert OTHERS.isdisjoint(python(code))


def test_the_modules_of_the_implementation_do_not_shadow_public_names() -> None:
    """`resilio.circuit_breaker` is the function whatever is imported."""
    code = """if True:
        import json, pkgutil, importlib, inspect, resilio, resilio._policies
        for info in pkgutil.walk_packages(resilio._policies.__path__, "resilio._policies."):
            importlib.import_module(info.name)
        print(json.dumps([name for name in resilio.__all__ if inspect.ismodule(getattr(resilio, name))]))
    """
    assert python(code) == ["cost", "events", "gates", "laws", "presets", "registry"]
