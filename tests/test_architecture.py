"""
The map of the package: rooms, their order, and what may stand at the top level.

An arrow is an import of one module by another: at module level, in a function, for types alone, in a stub, in native
code. What an upper layer registers for the layers below it, by name, is an arrow from it.
"""

from __future__ import annotations

import ast
import os
import re
from collections.abc import Iterable, Iterator
from functools import cache
from pathlib import Path

import pytest
from page_of_private_names import private_names

import resilio

SOURCE = Path(os.environ.get("RESILIO_SOURCE_TREE", Path(__file__).resolve().parents[1]))
PACKAGE = Path(resilio.__file__).parent
NATIVE = SOURCE / "src_c" / "resilio"
CORE = NATIVE / "_native" / "core"

Arrows = dict[str, set[str]]


# ---- reading the arrows ----------------------------------------------------------------------------------------------


def _module(path: Path, root: Path) -> str:
    parts = path.relative_to(root).with_suffix("").parts
    return ".".join(parts[:-1] if parts[-1] == "__init__" else parts)


def _imported(source: str) -> Iterator[str]:
    """Yield what a file imports, as `a.b` of `from a import b`; and, after a `=`, what it may import by its name."""
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, "modules of the package are imported by their full names"
            yield from (f"{node.module}.{alias.name}" for alias in node.names)
        elif isinstance(node, ast.AnnAssign) and ast.unparse(node.target) == "_HOOKS":
            yield from (f"={key}" for key in re.findall(r"'(resilio[\w.]*)'", ast.unparse(node)))
        elif isinstance(node, ast.Call) and ast.unparse(node.func) in ("_lazily", "import_module"):
            yield from (f"={argument.value}" for argument in node.args if isinstance(argument, ast.Constant))


_CYTHON = re.compile(r"^ *from (resilio[\w.]*) c?import (\([^)]*\)|[^\n#]*)|^ *c?import (resilio[\w.]*)", re.MULTILINE)


def _imported_natively(path: Path) -> Iterator[str]:
    text = path.read_text()
    if path.suffix in (".c", ".h"):
        yield from (f"={name}" for name in re.findall(r'"(resilio(?:\.\w+)+)"', text))
        return
    for module, names, alone in _CYTHON.findall(text):
        yield alone or ("" if names.strip() else module)
        yield from (f"{module}.{name.split()[0]}" for name in names.strip("()").split(",") if name.strip())
    for included in re.findall(r'^include "([^"]+)"', text, re.MULTILINE):
        yield from _imported_natively(path.parent / included)


def _native_sources() -> dict[str, list[Path]]:
    """The sources of each native module: a `.pyx` with what it includes, or a folder of C."""
    found = {_module(path, NATIVE.parent): [path] for path in NATIVE.rglob("*.pyx")}
    for folder in {path.parent for path in NATIVE.rglob("*.c") if not path.with_suffix(".pyx").exists()}:
        name = _module(folder, NATIVE.parent)
        top = ".".join(name.split(".")[:3])  # `resilio._native.core`, whatever folders it has
        found.setdefault(top, []).extend([*folder.glob("*.c"), *folder.glob("*.h")])
    return found


@cache
def arrows() -> Arrows:
    """Return what each module imports; a name that is no module stands for the module that has it."""
    names = {_module(path, PACKAGE.parent): [*_imported(path.read_text())] for path in PACKAGE.rglob("*.py")}
    for native, sources in _native_sources().items() if NATIVE.is_dir() else ():
        names[native] = [name for path in sources for name in _imported_natively(path)]
    for stub in PACKAGE.rglob("*.pyi"):
        names.setdefault(_module(stub, PACKAGE.parent), []).extend(_imported(stub.read_text()))
    found = {module: {_owner(name, names) for name in imported} - {module, ""} for module, imported in names.items()}
    found["resilio"] |= {f"resilio.{name}" for name in resilio._LATER.values()}
    return found


def _owner(name: str, modules: Iterable[str]) -> str:
    if name.startswith("="):  # a string: of a module, or of something else
        return name[1:] if name[1:] in modules else ""
    while name and name not in modules:
        name = name.rpartition(".")[0]
    return name


# ---- the map ---------------------------------------------------------------------------------------------------------


def loops(found: Arrows) -> list[list[str]]:
    """Return the modules of each loop, by Tarjan's algorithm."""
    index: dict[str, int] = {}
    low: dict[str, int] = {}
    stack: list[str] = []
    components: list[list[str]] = []

    def visit(module: str) -> None:
        index[module] = low[module] = len(index)
        stack.append(module)
        for other in found.get(module, ()):
            if other not in index:
                visit(other)
            if other in stack:
                low[module] = min(low[module], low[other])
        if low[module] == index[module]:
            at = stack.index(module)
            components.append(sorted(stack[at:]))
            del stack[at:]

    for module in found:
        if module not in index:
            visit(module)
    return [component for component in components if len(component) > 1]


@pytest.mark.real(1.0)
def test_no_modules_import_each_other_in_a_loop() -> None:
    """
    A loop has no first module to read. Lazy imports, those for types alone and those of native code count.

    25 modules around `registry` and `Policy` were one loop, and 82 with the native layer, which called up by name.
    """
    assert loops(arrows()) == []


def test_no_scripts_of_the_live_page_import_each_other_in_a_loop() -> None:
    """The store publishes and views subscribe: six of the thirteen scripts were one loop."""
    scripts = (PACKAGE / "live" / "static").glob("*.js")
    found = {path.name: set(re.findall(r'from "\./(.+?)"', path.read_text())) for path in scripts}
    assert "store.js" in found["row.js"]
    assert loops(found) == []


def test_a_loop_is_seen() -> None:
    """The check finds what it looks for."""
    assert loops({"a": {"b"}, "b": {"c"}, "c": {"b"}, "d": {"a"}}) == [["b", "c"]]


# ---- the core knows no client and no server --------------------------------------------------------------------------

THIRD_PARTIES = re.compile(
    r"grpc|aiohttp|httpx|httpcore|\b[aw]sgi|\brequests?\.(get|post|Session)|urllib3|uvicorn|gunicorn|starlette"
    r"|http\.(request|response|disconnect)|websocket",
    re.IGNORECASE,
)
INTERPRETERS = {"CPython", "asyncio", "Cython", "greenlet", "trio"}
"""What the core is built on: it may know their private names, which `docs/reference/private-names.md` lists."""


def _private_names_of_others() -> set[str]:
    """Return the listed private names of clients and servers."""
    others = [row for row in private_names(SOURCE) if not INTERPRETERS & {*re.findall(r"\w+", row.of)}]
    return {word for row in others for word in row.words}


def _looked_up(source: str) -> set[str]:
    """Return the names that a C file has as texts, without those that it gives its own types."""
    return {*re.findall(r'"(\w+)"', source)} - {*re.findall(r'\{"(\w+)",', source)}


@pytest.mark.once
@pytest.mark.parametrize("file", sorted(CORE.rglob("*.[ch]")), ids=lambda file: file.relative_to(CORE).as_posix())
def test_the_core_knows_no_client_and_no_server(file: Path) -> None:
    """
    The engine once read private attributes of aiohttp and grpcio in files of its own.

    Integrations import the core, never the reverse: no file of it mentions a client or a server, or looks up a name
    of one.
    """
    source = file.read_text()
    assert not sorted({found.group() for found in THIRD_PARTIES.finditer(source)})
    assert not sorted(_looked_up(source) & _private_names_of_others())


# ---- what is made stays as it was made -------------------------------------------------------------------------------

PATCHED = re.compile(r"\b(?:tp|am|nb|sq|mp)_\w+\s*=(?!=)|\bd_method\b|\bml_meth\b")
"""A slot that is written after its type was made, or the C function of a method descriptor."""


@pytest.mark.once
def test_no_slot_is_patched_and_no_c_function_is_dug_out() -> None:
    """
    The ASGI middleware once replaced the slots of its own type, and called methods of permits behind their descriptors.

    Bodies of httpx and requests replaced those of iterators. A type is what its class says, and methods are called as
    methods.
    """
    files = (file for file in NATIVE.rglob("*") if file.suffix in {".pyx", ".pxi", ".pxd"})
    assert sorted(file.name for file in files if PATCHED.search(file.read_text())) == []


# ---- the rooms -------------------------------------------------------------------------------------------------------

FLOORS = (
    ("_support", "_backends.protocols", "_native.clock", "_native.proofs"),
    ("_native.shared",),
    ("_native.core", "_native.budget", "_options"),
    ("errors", "_events"),
    ("_failures", "_registry", "_policy.late_streams", "_policy.stream_permits"),
    ("events", "presets", "_context", "_time_ledger", "_policy.streams"),
    ("_policy.types",),
    ("_policies.retry.backoff",),
    ("_native",),
    ("laws", "_backends", "_policy"),
    ("gates", "registry", "sharing", "_context.deadline", "_strategies"),
    ("_policies", "testing"),
    ("cost", "integrations._shared"),
    (
        "_composition",
        "integrations._aiohttp",
        "integrations._grpc",
        "integrations._httpx",
        "integrations._mcp",
        "integrations._servers",
    ),
    ("integrations", "integrations.llm"),
    ("_adoption",),
    ("",),
    ("_doctor", "metrics", "simulation"),
    ("live",),
    ("cli",),
    ("__main__",),
)
"""
The rooms of the package, from the ground up. A room imports only what is on the floors below it; "" is the package.

A module that is named here stands on a floor of its own: the core and pure arithmetic under all gates, contracts of
backends, streams, types and backoff under the native strategies, the deadline over the backends that it interrupts by.
"""

PUBLIC = {"__init__", "__main__", "cli", "cost", "errors", "events", "gates", "laws", "presets", "registry"}
PUBLIC_INTEGRATIONS = {
    "__init__",
    "aiohttp",
    "asgi",
    "asyncpg",
    "grpc",
    "httpx",
    "mcp",
    "redis",
    "requests",
    "sqlalchemy",
    "wsgi",
}


def _room(module: str) -> str:
    """The longest name in FLOORS that the module's begins with."""
    name = module.removeprefix("resilio").removeprefix(".")
    while name not in _FLOOR and name:
        name = name.rpartition(".")[0]
    assert name or module == "resilio", f"say in FLOORS where {module} belongs"
    return name


_FLOOR = {room: floor for floor, rooms in enumerate(FLOORS) for room in rooms}


def test_imports_point_down() -> None:
    """A room is read with what is below it in mind, and nothing else."""
    upward = [
        f"{module} -> {other}"
        for module, others in arrows().items()
        for other in sorted(others - {"resilio._native"})
        if _room(module) != _room(other) and _FLOOR[_room(module)] <= _FLOOR[_room(other)]
    ]
    assert upward == []


def test_the_map_of_the_docs_is_this_one() -> None:
    """The page put shared memory below what it imports, and left out seven rooms."""
    page = (SOURCE / "docs" / "explanation" / "architecture.md").read_text(encoding="utf-8")
    floors = re.search(r"```text\n(.*?)```", page, re.DOTALL)[1].split("\n        |\n")
    drawn = [{_name(line.split()[0]) for line in floor.splitlines() if line.startswith("resilio/")} for floor in floors]
    assert drawn[::-1] == [set(rooms) for rooms in FLOORS]


def _name(path: str) -> str:
    """Return the name in FLOORS of a file or folder of the package."""
    return (
        path.removeprefix("resilio/").removesuffix("/").removesuffix(".py").removesuffix("__init__").replace("/", ".")
    )


def test_only_public_modules_stand_at_the_top() -> None:
    """What is private has a room: 43 modules stood loose in the corridor, 25 of them used by three or fewer."""
    assert {path.stem for path in PACKAGE.glob("*.py")} == PUBLIC
    assert {path.stem for path in (PACKAGE / "integrations").glob("*.py")} == PUBLIC_INTEGRATIONS


def test_each_room_says_what_it_is_for() -> None:
    """The first line of a room's `__init__.py` is its sign."""
    rooms = [path.parent for path in PACKAGE.rglob("__init__.py")]
    assert [str(room) for room in rooms if not ast.get_docstring(ast.parse((room / "__init__.py").read_text()))] == []
