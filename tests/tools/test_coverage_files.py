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
def drop_unfit():
    spec = importlib.util.spec_from_file_location("coverage_files", TOOL)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module.drop_unfit


def data_file(path, traced=True):
    data = coverage.CoverageData(str(path))
    data.add_lines({SOURCE: [1, 2]})
    if traced:
        data.add_file_tracers({SOURCE: "Cython.Coverage.Plugin"})
    data.write()
    data.close(force=True)


def test_what_a_killed_child_had_begun_to_write_is_left_out(tmp_path, drop_unfit):
    # Seen once: the tables were there and the first row was not. The reader of such a file raised, so the others were
    # not looked at, and the report of the whole suite failed.
    data_file(tmp_path / ".coverage.host.pid1.whole")
    data_file(tmp_path / ".coverage.host.pid2.begun")
    with closing(sqlite3.connect(tmp_path / ".coverage.host.pid2.begun")) as begun, begun:
        begun.execute("delete from coverage_schema")
    (tmp_path / ".coverage.host.pid3.torn").write_bytes(b"SQLite format 3\0" + b"\xff" * 200)
    data_file(tmp_path / ".coverage.host.pid4.untraced", traced=False)

    dropped = drop_unfit(tmp_path)

    assert [line.split(":")[0].rsplit(".")[-1] for line in dropped] == ["begun", "torn", "untraced"]
    assert [path.name for path in tmp_path.iterdir()] == [".coverage.host.pid1.whole"]


def test_an_empty_data_file_harms_nobody(tmp_path, drop_unfit):
    (tmp_path / ".coverage.host.pid1.empty").touch()
    assert drop_unfit(tmp_path) == []
