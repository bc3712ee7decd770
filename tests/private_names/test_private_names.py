"""What is not public is listed once, is proved before it is used, and has a public way beside it that works."""

from __future__ import annotations

import ast
import operator
import os
import re
import shutil
import subprocess
import sys
import sysconfig
from collections import defaultdict
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from page_of_private_names import private_names

import resilio
from resilio._native import core

HERE = Path(__file__).resolve().parents[1]
SOURCE = Path(os.environ.get("RESILIO_SOURCE_TREE", HERE.parent))
PACKAGE = Path(resilio.__file__).parent
NATIVE = SOURCE / "src_c"
ROWS = private_names(SOURCE)
LISTED = {word for row in ROWS for word in row.words}
STATES = {"in use", "unused", "failed", "not applicable"}

has_sources = pytest.mark.skipif(not NATIVE.is_dir(), reason="the sources of the native layer are not here")


# ---- the list and the sources


def _is_private(name: object) -> bool:
    return isinstance(name, str) and re.fullmatch(r"_[a-zA-Z]\w*", name) is not None


class _Names(ast.NodeVisitor):
    """The private names that a file defines, and those that it reads of others."""

    def __init__(self) -> None:
        self.defined: set[str] = set()
        self.read: set[str] = set()

    def visit_FunctionDef(self, node: ast.FunctionDef) -> None:
        self.defined.add(node.name)
        self.generic_visit(node)

    visit_AsyncFunctionDef = visit_ClassDef = visit_FunctionDef  # noqa: N815 - as `ast` calls them

    def visit_Name(self, node: ast.Name) -> None:
        if isinstance(node.ctx, ast.Store):
            self.defined.add(node.id)

    def visit_Attribute(self, node: ast.Attribute) -> None:
        of = node.value.id if isinstance(node.value, ast.Name) else ""
        own = of in ("self", "cls")
        if not _is_private(of) and of != "cls":  # a module or a class of ours
            (self.defined if own and isinstance(node.ctx, ast.Store) else self.read).add(node.attr)
        self.generic_visit(node)

    def visit_Call(self, node: ast.Call) -> None:
        if isinstance(node.func, ast.Name) and node.func.id in ("getattr", "hasattr", "setattr", "delattr"):
            self.read.update(each.value for each in node.args[1:2] if isinstance(each, ast.Constant))
        self.generic_visit(node)

    def visit_Dict(self, node: ast.Dict) -> None:  # the members of a class that `type` makes
        self.defined.update(
            each.value for each in node.keys if isinstance(each, ast.Constant) and _is_private(each.value)
        )
        self.generic_visit(node)


def _foreign_names() -> Iterator[tuple[str, str]]:
    """Private names that a file reads and that nothing of ours near it defines."""
    native = "\n".join(path.read_text() for path in (PACKAGE / "_native").glob("*.pyi"))
    files = {}
    for path in PACKAGE.rglob("*.py"):
        files[path] = names = _Names()
        names.visit(ast.parse(path.read_text()))
    by_folder: dict[Path, set[str]] = defaultdict(set)
    for path, names in files.items():
        by_folder[path.parent] |= names.defined
    rooms = [folder for folder in by_folder if str(folder.relative_to(PACKAGE)).startswith((".", "_"))]
    below = set().union(*(by_folder[folder] for folder in rooms))  # what all others may build on
    for path, names in files.items():
        ours = names.defined | below | by_folder[path.parent / f"_{path.stem}"]  # `_httpx` of `httpx.py`
        if "integrations" not in path.relative_to(PACKAGE).parts:
            ours |= by_folder[path.parent]
        for name in filter(_is_private, names.read - ours):
            if not name.startswith("_resilio") and not re.search(rf"\b{name}\b", native):
                yield name, str(path.relative_to(PACKAGE.parent))


@pytest.mark.real(1.0)
def test_no_private_name_of_others_is_read_that_is_not_listed() -> None:
    """
    A name that its owner may rename is listed with its check and its public way.

    On 3.14 one that was not listed, asyncio's table of running tasks, went empty, and timeouts never fired.
    """
    assert sorted({found for found in _foreign_names() if found[0] not in LISTED}) == []


@has_sources
def test_no_private_name_of_the_interpreter_is_used_in_c_that_is_not_listed() -> None:
    """Functions below `_Py`, fields of the interpreter's own structs, and private names as text."""
    found = set()
    for path in (each for each in NATIVE.rglob("*") if each.suffix in (".c", ".h", ".pyx", ".pxi")):
        code = re.sub(r"/\*.*?\*/|//[^\n]*", "", path.read_text(), flags=re.DOTALL)
        used = re.findall(r"\b_Py_?[A-Z]\w*", code)
        used += re.findall(r"\(\(Py(?!Type|Tuple|List|AsyncM)\w+ ?\*\)\w+\)->(\w+)", code)
        used += re.findall(r"PyThreadState_Get\(\)->(\w+)", code) + re.findall(
            r"->(ob_ref_\w+|gi_code|d_method)\b", code
        )
        used += [name for name in re.findall(r'[^{]"(_[a-z]\w+)"', code) if not _is_our_own(name)]
        found |= {(name, path.name) for name in used if name not in LISTED}
    assert sorted(found) == []


def _is_our_own(name: str) -> bool:
    """Tell whether it is an attribute of the package's own, or one that it puts on others' objects."""
    if name.startswith("_resilio") or name == "_api":
        return True
    in_python = (path.read_text() for path in PACKAGE.rglob("*.py*") if path.suffix in (".py", ".pyi"))
    in_c = (path.read_text() for path in NATIVE.rglob("*.c"))
    in_cython = (path.read_text() for path in NATIVE.rglob("*.pyx"))
    if any(re.search(rf"^{name} = ", text, re.MULTILINE) for text in in_cython):
        return True
    return any(re.search(rf"(?:def |self\.|class ){name}\b", text) for text in in_python) or any(
        f'{{"{name}",' in text for text in in_c
    )


def test_every_row_says_all_of_itself() -> None:
    """What, whose, where, on which versions, the check, and what is done otherwise; the files named are there."""
    for row in ROWS:
        assert all(row), row
        for place in re.findall("`([^`]+)`", row.where):
            root = PACKAGE.parent if place.startswith("resilio/") else SOURCE
            assert not (SOURCE / "src_c").is_dir() or (root / place).is_file(), place
    assert len({row.name for row in ROWS}) == len(ROWS)


# ---- what holds here


def test_the_core_knows_the_state_of_each_name() -> None:
    """Nothing that is in use here has failed, on a Python that the library is tested with."""
    states = core._private_state()
    assert set(states.values()) <= STATES
    if _public_only():
        pytest.skip("this process takes public ways alone")
    assert [name for name, state in states.items() if state == "failed"] == []


def _attribute(name: str) -> Callable[[Any], object]:
    return operator.attrgetter(name)


def _transport_of_httpx(httpx: Any) -> bool:
    with httpx.Client() as client:
        return isinstance(client._mounts, dict) and client._transport._pool._network_backend is not None


def _client_of_an_sdk(sdk: Any) -> bool:
    client = (getattr(sdk, "OpenAI", None) or sdk.Anthropic)(api_key="none")
    return (
        hasattr(client._client, "_transport")
        and callable(client._make_status_error_from_response)
        and sdk._constants.RAW_RESPONSE_HEADER == "X-Stainless-Raw-Response"
    )


def _request_of_requests(requests: Any) -> bool:
    request = requests.Request("GET", "http://localhost").prepare()
    return request._body_position is None and requests.Response()._content is False


def _body_of_aiohttp(aiohttp: Any) -> bool:
    response = aiohttp.ClientResponse
    return (
        "_eof_callbacks" in aiohttp.StreamReader.__init__.__code__.co_names
        and "_cache" in response.__init__.__code__.co_names
        and hasattr(response, "_headers")
        and callable(response._response_eof)
    )


def _loop_of_asyncio(asyncio: Any) -> bool:
    loop = asyncio.SelectorEventLoop()
    try:
        return isinstance(loop._scheduled, list) and loop.create_future()._asyncio_future_blocking is False
    finally:
        loop.close()


def _session_of_mcp(mcp: Any) -> bool:
    session = mcp.ClientSession(object(), object(), read_timeout_seconds=1)
    first = not hasattr(mcp, "MCPError")
    return session._session_read_timeout_seconds == 1 and (not first or session._request_id == 0)


@pytest.mark.parametrize(
    ("module", "holds"),
    [
        ("asyncio", _attribute("_get_running_loop")),
        ("asyncio", _attribute("Task._log_destroy_pending")),
        ("asyncio", _loop_of_asyncio),
        (
            "contextlib",
            lambda found: found.contextmanager(iter).__code__.co_qualname == "contextmanager.<locals>.helper",
        ),
        ("sys", _attribute("_current_frames")),
        ("trio.testing", _attribute("MockClock._autojump")),
        ("httpx", _transport_of_httpx),
        ("httpx2", _transport_of_httpx),
        ("openai", _client_of_an_sdk),
        ("anthropic", _client_of_an_sdk),
        ("requests", _request_of_requests),
        ("urllib3", lambda found: found.HTTPResponse(original_response=None)._original_response is None),
        ("aiohttp", _body_of_aiohttp),
        ("aiohttp.connector", _attribute("BaseConnector._wait_for_available_connection")),
        (
            "grpc.aio._interceptor",
            _attribute("_InterceptedStreamRequestMixin._proxy_writes_as_request_iterator"),
        ),
        ("mcp", _session_of_mcp),
        ("mcp.server.fastmcp", lambda found: found.FastMCP("tools")._mcp_server.request_handlers),
        ("sqlalchemy", lambda found: "_max_overflow" in vars(found.QueuePool(lambda: None))),
        ("valkey", lambda found: "_sock" in vars(found.Connection())),
        ("redis", lambda found: "_sock" in vars(found.Connection())),
    ],
)
def test_a_name_that_is_read_at_its_use_is_there(module: str, holds: Callable[[Any], object]) -> None:
    """A newer version without it is served otherwise, by the last column of the page: here that is seen first."""
    found = pytest.importorskip(module)
    value = holds(found)
    assert value is not None
    assert value is not False


def _public_only() -> bool:
    return core._private_state()["with_order"] == "failed"


# ---- public ways alone

CALLS = """
import asyncio, sys, time
import resilio
from resilio import bulkhead, circuit_breaker, deadline, pipeline, retry, timeout
from resilio._native import core

in_use = {name for name, state in core._private_state().items() if state == "in use"}
assert in_use <= {"with_order"}, in_use
pool, breaker = bulkhead(1, name="pool"), circuit_breaker(name="breaker")
tries = []

@pipeline(timeout(30), breaker, pool)
async def answer(x):
    tries.append(x)
    await asyncio.sleep(0)
    return x

@timeout(0.01)
async def endless():
    await asyncio.Event().wait()

@retry(on=OSError, attempts=3, backoff=0)
async def flaky(left=[2]):
    if left[0]:
        left[0] -= 1
        raise OSError
    return None if not left else "well"

@breaker
def plain(x):
    return x

async def main():
    assert [await answer(x) for x in (1, None, "x", (2,))] == [1, None, "x", (2,)]
    assert await asyncio.gather(asyncio.create_task(flaky())) == ["well"]
    try:
        await endless()
    except resilio.CallTimeoutError:
        pass
    else:
        raise AssertionError("the timeout has not fired")
    async with pool:
        assert pool.used == 1
    async with deadline(5):
        assert 0 < resilio.remaining() <= 5
    assert resilio.remaining() is None

asyncio.run(main())
with pool, deadline(5):
    assert (plain(7), pool.used) == (7, 1)
assert (pool.used, breaker.snapshot().failures, breaker.snapshot().inflight) == (0, 0, 0)
try:
    import greenlet
except ImportError:
    pass
else:
    assert greenlet.greenlet(lambda: plain(8)).switch() == 8
print("well")
"""


def _in_a_process(code: str, root: Path, **environment: str) -> None:
    settings = {**os.environ, "PYTHONPATH": str(root), **environment}
    done = subprocess.run(
        [sys.executable, "-c", code],
        cwd=root,  # before all else on the path
        env=settings,
        capture_output=True,
        text=True,
        check=False,
        timeout=300,
    )
    assert (done.returncode, done.stdout) == (0, "well\n"), done.stderr


def test_calls_go_by_public_ways_alone_where_the_environment_says_so() -> None:
    """`RESILIO_PUBLIC_ONLY=1`: timeouts fire, retries retry, blocks give back, results come out."""
    _in_a_process(CALLS + "assert not in_use, in_use\n", PACKAGE.parent, RESILIO_PUBLIC_ONLY="1")


ORDER = """
import resilio._native.proofs as proofs
proofs.with_order = lambda: ("entry", "entry", "exit")
from resilio import bulkhead
from resilio._native import core
assert core._private_state()["with_order"] == "failed"
pool = bulkhead(1)
with pool:
    assert pool.used == 1
assert pool.used == 0
print("well")
"""


@pytest.mark.skipif(not hasattr(os, "fork"), reason="wants a folder of links")
def test_a_with_statement_that_fetches_otherwise_is_served_by_hand(tmp_path: Path) -> None:
    """A Python that fetched more than an entry and an exit would have blocks own the wrong permit."""
    shutil.copytree(
        PACKAGE, tmp_path / "resilio", symlinks=True, ignore=shutil.ignore_patterns("__pycache__", "static")
    )
    proofs = tmp_path / "resilio" / "_native" / "proofs.py"
    proofs.write_text(proofs.read_text() + '\n\ndef with_order():\n    return ("entry", "entry", "exit")\n')
    _in_a_process(ORDER.split("\n", 3)[3], tmp_path, RESILIO_PUBLIC_ONLY="0")


GREENLETS = """
import greenlet
class Table:
    pass
greenlet._C_API = None
from resilio import circuit_breaker
from resilio._native import core
breaker = circuit_breaker()
assert greenlet.greenlet(lambda: breaker.call(int)).switch() == 0
assert core._private_state()["greenlet"] == "failed"
print("well")
"""


def test_greenlets_are_asked_for_by_their_public_name_where_the_table_is_gone() -> None:
    """Once without its table, calls of a greenlet were taken for those of another."""
    pytest.importorskip("greenlet")
    if _public_only():
        pytest.skip("this process takes public ways alone")
    _in_a_process(GREENLETS, PACKAGE.parent)


NEWER = """
from resilio._native import core
in_use = {name for name, state in core._private_state().items() if state == "in use"}
assert in_use == {"with_order"}, in_use
print("well")
"""
"""A block by hand costs 2.4 us, ten times as much: a newer Python keeps what is proved by watching it."""


@has_sources
@pytest.mark.slow
@pytest.mark.once
def test_a_build_without_private_ways_runs_calls(tmp_path: Path) -> None:
    """What a Python newer than those tested gets: a core compiled with RS_PUBLIC_ONLY, which knows nobody's layout."""
    compiler = shutil.which((sysconfig.get_config_var("CC") or "cc").split()[0]) or shutil.which("cc")
    if compiler is None or not Path(sysconfig.get_path("include"), "Python.h").exists():
        pytest.skip("no compiler, or no headers of this Python")
    shutil.copytree(PACKAGE, tmp_path / "resilio", ignore=shutil.ignore_patterns("__pycache__", "core.*.so", "static"))
    _compile_core(compiler, tmp_path / "resilio" / "_native")
    _in_a_process(CALLS, tmp_path)
    _in_a_process(NEWER, tmp_path, RESILIO_PUBLIC_ONLY="0")


def _compile_core(compiler: str, into: Path) -> None:
    """Build the core alone, quickly, with two processes."""
    target = into / f"core{sysconfig.get_config_var('EXT_SUFFIX')}"
    core = NATIVE / "resilio" / "_native" / "core"
    sources = sorted(core.rglob("*.c"))
    options = ["-O0", "-fPIC", "-std=gnu11", "-fvisibility=hidden", "-DRS_PUBLIC_ONLY", "-Werror=implicit"]
    headers = Path(sysconfig.get_path("include"))
    options += [f"-I{headers}", f"-I{headers.parent}", f"-I{NATIVE / 'include'}", f"-I{core}"]
    running = [
        subprocess.Popen([compiler, *options, "-c", *map(str, half)], cwd=into)
        for half in (sources[::2], sources[1::2])
    ]
    assert [each.wait(timeout=300) for each in running] == [0, 0]
    subprocess.run([compiler, "-shared", *map(str, into.glob("*.o")), "-o", str(target)], check=True, timeout=120)
