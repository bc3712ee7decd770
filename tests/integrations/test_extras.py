"""A module that needs an extra says so in one sentence, which names the extra; no other module misses anything."""

from __future__ import annotations

import ast
import functools
import json
import os
import re
import subprocess
import sys
import tomllib
from collections.abc import Iterator
from pathlib import Path

import pytest

import resilio

PACKAGE = Path(resilio.__file__).parent
PYPROJECT = Path(__file__).resolve().parents[2] / "pyproject.toml"
# What the distribution itself depends on, and what that depends on.
CORE = {"anyio", "attr", "attrs", "exceptiongroup", "idna", "resilio", "sniffio", "typing_extensions"}
# pytest imports its plugins itself; event loops are not extras, and are imported where they run already.
BY_ITSELF = {"resilio.testing.plugin": "pytest"}
LOOPS = {"outcome", "sortedcontainers", "trio", "uvloop"}

BLOCKED = """
import importlib, json, sys

class Filter:
    def __init__(self, finders):
        self.finders = finders

    def find_spec(self, name, path=None, target=None):
        top = name.partition(".")[0]
        if top not in allowed and top not in sys.stdlib_module_names and not top.startswith(("_cython", "cython")):
            return None
        return next((spec for finder in self.finders if (spec := finder.find_spec(name, path, target))), None)

allowed = set(json.loads(sys.argv.pop(1)))
sys.meta_path[:] = [Filter(sys.meta_path[:])]
"""
EACH_MODULE = """
outcomes = {}
for name in json.loads(sys.argv[1]):
    try:
        importlib.import_module(name)
    except Exception as error:
        outcomes[name] = [type(error).__name__, str(error)]
print(json.dumps(outcomes))
"""
COMMAND = """
from resilio.cli import main
sys.exit(main(json.loads(sys.argv[1])))
"""


def python(program: str, *arguments: str, **settings: str) -> subprocess.CompletedProcess[str]:
    environment = {**os.environ, "PYTHONPATH": str(PACKAGE.parent), **settings}
    command = [sys.executable, "-c", program, *arguments]
    return subprocess.run(command, capture_output=True, text=True, check=False, env=environment, timeout=250)


def modules() -> Iterator[tuple[str, Path]]:
    """Every Python module of the package, with its file."""
    for path in sorted(PACKAGE.rglob("*.py")):
        name = ".".join(path.relative_to(PACKAGE.parent).with_suffix("").parts).removesuffix(".__init__")
        if not name.endswith("__main__"):  # runs as soon as it is imported
            yield name, path


def is_public(name: str) -> bool:
    return not any(part.startswith("_") for part in name.split("."))


@functools.cache
def outcomes() -> dict[str, list[str]]:
    """What importing each module raised where nothing is installed that the distribution does not depend on."""
    allowed = json.dumps(sorted(CORE | LOOPS))
    result = python(BLOCKED + EACH_MODULE, allowed, json.dumps([name for name, _ in modules()]))
    assert result.returncode == 0, result.stderr
    return json.loads(result.stdout)


def extras() -> dict[str, list[str]]:
    return tomllib.loads(PYPROJECT.read_text())["project"]["optional-dependencies"]


@pytest.mark.real(1.0)
def test_a_public_module_that_misses_its_client_names_the_extra() -> None:
    """One ImportError, the module, what it needs, and the line to type; the extra is one that there is."""
    failed = {name: outcome for name, outcome in outcomes().items() if is_public(name) and name not in BY_ITSELF}
    for name, (kind, text) in failed.items():
        found = re.fullmatch(r"(\S+) needs .+: pip install 'resilio-sdk\[([\w-]+)\]'", text)
        assert found, f"{name}: {kind}: {text}"
        assert kind == "ImportError"
        assert name.startswith(found[1].removesuffix("._extras")), text
        assert found[2] in extras(), text
    assert {"resilio.integrations.sqlalchemy", "resilio.metrics.prometheus", "resilio.metrics.otel"} <= set(failed)


@pytest.mark.real(1.0)
def test_what_is_imported_later_is_looked_for_first() -> None:
    """A package that may be missing, or a private module that needs it, is not imported without a word about that."""
    absent = set(outcomes())
    careless = [
        f"{path.relative_to(PACKAGE.parent)}:{node.lineno}"
        for name, path in modules()
        if name not in absent
        for node in _careless(path, absent)
    ]
    assert not careless


def _careless(path: Path, absent: set[str]) -> Iterator[ast.stmt]:
    source = path.read_text()
    if "find_spec(" in source:
        return
    for node, guarded in _imports(ast.parse(source), guarded=False):
        names = [alias.name for alias in node.names] if isinstance(node, ast.Import) else [node.module or ""]
        if not guarded and any(_may_be_missing(name, absent) for name in names):
            yield node


def _imports(node: ast.AST, *, guarded: bool) -> Iterator[tuple[ast.Import | ast.ImportFrom, bool]]:
    if isinstance(node, ast.Import | ast.ImportFrom):
        yield node, guarded
    if isinstance(node, ast.Try):
        guarded = guarded or any(_catches(handler) for handler in node.handlers)
    if isinstance(node, ast.If) and any(word in ast.unparse(node.test) for word in ("TYPE_CHECKING", "version_info")):
        guarded = True  # a part of the standard library that came later is asked for by version
    for child in ast.iter_child_nodes(node):
        yield from _imports(child, guarded=guarded)


def _catches(handler: ast.ExceptHandler) -> bool:
    return handler.type is not None and "ImportError" in ast.unparse(handler.type)


def _may_be_missing(name: str, absent: set[str]) -> bool:
    top = name.partition(".")[0]
    foreign = top not in sys.stdlib_module_names | CORE | LOOPS
    return foreign or (name in absent and not is_public(name))


@pytest.mark.untraced  # in a folder without the sources Cython.Coverage prints a traceback of its own
@pytest.mark.parametrize(
    ("arguments", "extra"),
    [
        (["top", "http://127.0.0.1:1"], "cli"),
        (["watch", "http://127.0.0.1:1", "--port", "0"], "live"),  # suites of several Pythons run at once
    ],
)
def test_a_command_that_misses_a_package_says_so(arguments: list[str], extra: str, tmp_path: Path) -> None:
    """In a line, with exit code 1, and without a traceback."""
    result = python(
        f"import os; os.chdir({str(tmp_path)!r})" + BLOCKED + COMMAND, json.dumps(sorted(CORE)), json.dumps(arguments)
    )
    assert result.returncode == 1, result.stderr
    assert f"pip install 'resilio-sdk[{extra}]'" in result.stderr
    assert "Traceback" not in result.stderr


@pytest.mark.untraced  # others trace the same lines in less time
@pytest.mark.real(1.5)
def test_every_command_explains_itself_without_extras() -> None:
    """`--help` needs nothing."""
    from resilio.cli import _COMMANDS

    for command in sorted(set(_COMMANDS) - {"version"}):
        result = python(BLOCKED + COMMAND, json.dumps(sorted(CORE)), json.dumps([command, "--help"]))
        assert (result.returncode, result.stderr) == (0, ""), command


@pytest.mark.parametrize("module", ["resilio", "resilio.integrations", "resilio.metrics", "resilio.presets"])
def test_a_package_loads_none_of_its_parts(module: str) -> None:
    """Whatever is installed: nothing but what the distribution depends on."""
    program = """
import sys
before = set(sys.modules)
import {module}
print(*sorted({{name.partition(".")[0] for name in set(sys.modules) - before}}))
"""
    result = python(program.format(module=module))
    assert result.returncode == 0, result.stderr
    loaded = set(result.stdout.split()) - sys.stdlib_module_names
    assert {name for name in loaded if not name.startswith(("_cython", "cython"))} <= CORE
