"""`resilio shared` and the doctor: which processes share, seen from another one."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from workers_of_host import Asked, started, until

from resilio.cli import main
from resilio.sharing._groups import groups, problem_of

pytestmark = [
    pytest.mark.skipif(sys.platform != "linux", reason="shared memory of hosts is for Linux"),
    pytest.mark.once,
]


@pytest.fixture
def worker(directory: Path) -> Iterator[Asked]:
    """A process of the group "shop" with a limit."""
    path = str(directory / "resilio-h2-shop")
    program = f"""
from resilio._native.shared import Region
region = Region.open({path!r}, 1 << 20)
region.cell(1, "orders", b"100/s", 640)
region.join()
"""
    with started(1, program) as (one,):
        yield one


def test_groups_are_listed_without_becoming_a_member(
    directory: Path, worker: Asked, capsys: pytest.CaptureFixture[str]
) -> None:
    """A look takes no slot, and makes no file where there is none."""
    assert main(["shared", "ls", "--directory", str(directory)]) == 0
    listed = capsys.readouterr().out
    assert "shop" in listed
    assert main(["shared", "show", "shop", "--directory", str(directory)]) == 0
    shown = capsys.readouterr().out
    assert f"{worker.process.pid}" in shown
    assert "limit           orders" in shown
    assert worker.ask("region.member.peers") == 1
    assert main(["shared", "show", "shoe", "--directory", str(directory)]) == 1
    assert "no group 'shoe'" in capsys.readouterr().err
    assert main(["shared", "ls", "--directory", str(directory / "none")]) == 0
    assert [path.name for path in directory.iterdir()] == ["resilio-h2-shop"]


def test_a_group_in_use_is_removed_by_force_only(
    directory: Path, worker: Asked, capsys: pytest.CaptureFixture[str]
) -> None:
    """Its workers would begin anew, so that is asked for."""
    assert main(["shared", "rm", "shop", "--directory", str(directory)]) == 1
    assert "has 1 worker" in capsys.readouterr().err
    assert main(["shared", "rm", "shop", "--directory", str(directory), "--force"]) == 0
    until(lambda: worker.ask("region.trouble") == "gone", "the worker notices")


def test_a_file_that_is_no_region_is_named_as_such(directory: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """It is listed with the reason, and left alone."""
    (directory / "resilio-h2-broken").write_bytes(b"x" * 100_000)
    main(["shared", "ls", "--directory", str(directory)])
    assert "no region of this version" in capsys.readouterr().out
    assert [group.name for group in groups(directory)] == ["broken"]


def test_the_doctor_tries_whether_sharing_is_possible(directory: Path) -> None:
    """It makes a file and removes it: nothing else shows that a directory will do."""
    assert problem_of(directory / "made") is None
    assert not (directory / "made").exists()
    (directory / "file").touch()
    assert "file" in str(problem_of(directory / "file"))
    directory.chmod(0o777)
    assert "others may write" in str(problem_of(directory))
    directory.chmod(0o700)
