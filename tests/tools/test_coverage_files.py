"""The report of the coverage is not spoilt by the data files of children that were killed."""

import importlib.util
import sqlite3
from contextlib import closing
from pathlib import Path

import pytest

coverage = pytest.importorskip("coverage", reason="coverage is installed where it is measured")
TOOL = Path(__file__).parents[2] / "tools" / "coverage_files.py"
SOURCE = "resilio/_native/clock.pyx"


@pytest.fixture
def tool():
    spec = importlib.util.spec_from_file_location("coverage_files", TOOL)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def data_file(path, traced=True):
    data = coverage.CoverageData(str(path))
    data.add_lines({SOURCE: [1, 2]})
    if traced:
        data.add_file_tracers({SOURCE: "kept_tracers.Plugin"})
    data.write()
    data.close(force=True)


def test_what_a_killed_child_had_begun_to_write_is_left_out(tmp_path, tool):
    # Seen once: the tables were there and the first row was not. The reader of such a file raised, so the others were
    # not looked at, and the report of the whole suite failed.
    data_file(tmp_path / ".coverage.host.pid1.whole")
    data_file(tmp_path / ".coverage.host.pid2.begun")
    with closing(sqlite3.connect(tmp_path / ".coverage.host.pid2.begun")) as begun, begun:
        begun.execute("delete from coverage_schema")
    (tmp_path / ".coverage.host.pid3.torn").write_bytes(b"SQLite format 3\0" + b"\xff" * 200)
    data_file(tmp_path / ".coverage.host.pid4.untraced", traced=False)

    dropped = tool.drop_unfit(tmp_path)

    assert [line.split(":")[0].rsplit(".")[-1] for line in dropped] == ["begun", "torn", "untraced"]
    assert [path.name for path in tmp_path.iterdir()] == [".coverage.host.pid1.whole"]


def test_an_empty_data_file_does_no_harm(tmp_path, tool):
    (tmp_path / ".coverage.host.pid1.empty").touch()
    assert tool.drop_unfit(tmp_path) == []


def test_a_module_is_read_before_its_parts(tool):
    # The Cython plugin finds gates/breaker.pxd only once it has read gates.pyx. Coverage asked in the order of a set of
    # strings, so one run of CI in about two had no report.
    parts = {"a/gates/breaker.pxd", "a/gates/breaker.pxi", "a/core.py", "z/gates.pyx", "a/clock.pyx"}
    assert tool.modules_first(parts)[:2] == ["a/clock.pyx", "z/gates.pyx"]


def test_data_that_contradict_the_rest_are_left_out_alone(tmp_path, tool, capsys):
    # Combining all at once stopped at the first such file, and what came after it was lost.
    (tmp_path / "pyproject.toml").write_text("")
    data_file(tmp_path / ".coverage.host.pid1.lines")
    branches = coverage.CoverageData(str(tmp_path / ".coverage.host.pid2.branches"))
    branches.add_arcs({"other.py": [(1, 2)]})
    branches.write()
    branches.close(force=True)
    data_file(tmp_path / ".coverage.host.pid3.lines")

    combined = tool.combine(tmp_path)

    assert combined.get_data().measured_files() == {SOURCE}
    assert "left out .coverage.host.pid2.branches" in capsys.readouterr().out
