"""What a release is made of and tested with: the sources beside a wheel, what an index shows, the list of its parts."""

from __future__ import annotations

import importlib.metadata
import json
import os
import re
import shutil
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest

import resilio

ROOT = Path(os.environ.get("RESILIO_SOURCE_TREE", Path(__file__).parents[2]))
READS_SOURCES = re.compile(r"__file__\)\S*\.parents?\b|RESILIO_SOURCE_TREE|^from (benchmarks|examples)", re.MULTILINE)
"""Words of a test that reads files of the tree, or imports what is not installed."""


@pytest.fixture
def sources(tmp_path: Path) -> Path:
    """A folder with exactly the files that the workflow copies beside an installed wheel."""
    if not (ROOT / "resilio").is_dir():
        pytest.skip("the source tree is not here")
    folder = tmp_path / "sources"
    for name in wheels()["test-sources"]:
        source = ROOT / name
        if source.is_dir():
            unwanted = shutil.ignore_patterns("__pycache__", "_build", "*.so")
            shutil.copytree(source, folder / name, ignore=unwanted)
        else:
            folder.mkdir(exist_ok=True)
            shutil.copy(source, folder / name)
    return folder


def wheels() -> dict[str, list[str]]:
    """Return the settings of cibuildwheel."""
    return tomllib.loads((ROOT / "pyproject.toml").read_text())["tool"]["cibuildwheel"]


@pytest.mark.once
@pytest.mark.slow
def test_the_sources_beside_a_wheel_are_enough_for_its_tests(sources: Path, tmp_path: Path) -> None:
    """Each test that reads the tree passes beside a wheel. `src_c` was missing: no wheel could have passed."""
    installed = tmp_path / "site-packages"
    installed.mkdir()
    (installed / "resilio").symlink_to(Path(resilio.__file__).parent)
    chosen = [
        str(path.relative_to(sources))
        for path in (sources / "tests").rglob("test_*.py")
        if READS_SOURCES.search(path.read_text()) and path.name != Path(__file__).name
    ]
    assert "tests/options/test_options.py" in chosen
    marks = re.search(r"-m '([^']+)'", str(wheels()["test-command"]))
    assert marks
    everything = [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", "-n", "2", "-m", marks[1]]
    environment = {**os.environ, "PYTHONPATH": str(installed)}
    environment.pop("RESILIO_SOURCE_TREE", None)
    for command in ([*everything, *chosen], [*everything, "--collect-only"]):
        result = subprocess.run(command, cwd=sources, env=environment, capture_output=True, text=True, check=False)
        assert result.returncode == 0, result.stdout[-8000:] + result.stderr[-2000:]


def links(text: str) -> list[str]:
    """Return the targets of Markdown links and pictures."""
    return re.findall(r"\]\(([\w./#][^)\s]*)\)", text)


def test_an_index_shows_the_readme_with_links_to_the_tag() -> None:
    """A relative link leads nowhere on an index. Pictures are fetched raw, pages are shown."""
    if not (ROOT / "setup.py").exists():
        pytest.skip("the source tree is not here")
    pytest.importorskip("setuptools")
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    program = "import setuptools, runpy; setuptools.setup = lambda **given: print(given['long_description'])\n"
    program += "runpy.run_path('setup.py')"
    made = subprocess.run([sys.executable, "-c", program], cwd=ROOT, capture_output=True, text=True, check=True).stdout
    ours = [link for link in links(made) if link.startswith(project["urls"]["Source"])]
    relative = [link for link in links((ROOT / "README.md").read_text()) if "://" not in link]
    assert len(ours) == len(relative) > 10
    assert [link for link in links(made) if "://" not in link] == []
    at = f"{project['urls']['Source']}/{{}}/v{project['version']}/"
    assert {link for link in ours if link.startswith(at.format("raw"))} == {at.format("raw") + "docs/_static/demo.svg"}
    assert all(link.startswith((at.format("raw"), at.format("blob"))) for link in ours)


@pytest.mark.skipif(os.environ.get("RESILIO_TEST_INSTALLED") != "1", reason="says something of an installed wheel")
def test_a_wheel_lists_what_was_compiled_into_it() -> None:
    """Cython's code is in each module that it has made: PEP 770 has the place where scanners look for that."""
    (bill,) = (path for path in importlib.metadata.files("resilio-sdk") or [] if path.parts[1:2] == ("sboms",))
    found = json.loads(bill.read_text())
    assert (found["bomFormat"], found["specVersion"]) == ("CycloneDX", "1.6")
    assert found["metadata"]["component"]["version"] == importlib.metadata.version("resilio-sdk")
    assert [part["name"] for part in found["components"]] == ["Cython"]
