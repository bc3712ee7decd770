"""Another distribution on the index installs a package `resilio` too, into the same folder."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path

import attrs
import pytest

import resilio

OTHER = 'VERSION = "1.0"\n'


@pytest.fixture
def site(tmp_path: Path) -> Path:
    """A folder of packages with a copy of this one, whose modules are links, and all that it needs."""
    folder = tmp_path / "site"
    folder.mkdir()
    for other in Path(attrs.__file__).parents[1].iterdir():
        if not other.name.startswith("resilio"):
            (folder / other.name).symlink_to(other)
    shutil.copytree(Path(resilio.__file__).parent, folder / "resilio", copy_function=os.symlink)
    return folder


def install_other(site: Path, *, overwrites: bool) -> None:
    """Add the other distribution, with its RECORD; the one that comes last has its `__init__.py` there."""
    (site / "resilio" / "client.py").write_text(OTHER)
    if overwrites:
        (site / "resilio" / "__init__.py").unlink()
        (site / "resilio" / "__init__.py").write_text(OTHER)
    facts = site / "resilio-1.0.dist-info"
    facts.mkdir()
    (facts / "METADATA").write_text("Metadata-Version: 2.1\nName: resilio\nVersion: 1.0\n")
    (facts / "RECORD").write_text("resilio/__init__.py,,\nresilio/client.py,,\nresilio-1.0.dist-info/RECORD,,\n")


def uninstall_other(site: Path) -> None:
    """Remove what its RECORD lists, as pip does."""
    for line in (site / "resilio-1.0.dist-info" / "RECORD").read_text().splitlines():
        (site / line.partition(",")[0]).unlink()
    shutil.rmtree(site / "resilio-1.0.dist-info")


def python(site: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    """Run Python with this folder as its only one of packages."""
    environment = {**os.environ, "PYTHONPATH": str(site)}
    command = [sys.executable, "-S", *arguments]
    return subprocess.run(command, cwd=site, env=environment, capture_output=True, text=True, check=False)


@pytest.mark.real(2.0)
@pytest.mark.parametrize(
    ("overwrites", "removed", "statement", "remedy"),
    [
        (False, False, "import resilio", "pip uninstall -y resilio resilio-sdk && pip install resilio-sdk"),
        (True, False, "import resilio._native.core", "pip uninstall -y resilio resilio-sdk && pip install resilio-sdk"),
        (True, True, "import resilio.cost", "pip install --force-reinstall resilio-sdk"),
    ],
    ids=["ours last", "the other last", "the other removed"],
)
def test_a_mixed_folder_is_named_with_the_remedy(
    site: Path, overwrites: bool, removed: bool, statement: str, remedy: str
) -> None:
    """An import had none of 94 names, or failed somewhere inside; now one sentence has the reason and the remedy."""
    assert python(site, "-c", "import resilio; resilio.standard").returncode == 0
    install_other(site, overwrites=overwrites)
    if removed:
        uninstall_other(site)
    imported = python(site, "-c", statement)
    assert imported.returncode == 1
    last = imported.stderr.strip().splitlines()[-1]
    assert last.startswith(f"ImportError: {site / 'resilio'} h")
    assert last.endswith(f"two projects with one import name: run `{remedy}`")
    doctor = python(site, "-c", "import sys; from resilio.cli import main; sys.exit(main(['doctor']))")
    assert doctor.returncode == 1
    assert remedy in doctor.stderr
