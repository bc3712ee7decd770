"""`resilio shared` and the doctor: which processes share, seen from another one."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from workers_of_host import Asked, started, until

from resilio import Rate, RetryBudget, adaptive_limit, bulkhead, circuit_breaker, rate_limit, spend_limit
from resilio._native.shared import Region
from resilio.cli import main
from resilio.sharing import host
from resilio.sharing._groups import KINDS, groups, problem_of
from resilio.sharing._stock_texts import in_units

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


def test_a_group_is_found_by_the_name_that_it_was_given(directory: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """A group that `RESILIO_HOST_NAME` called "a/b c" was found by the name of its file only, which no snapshot has."""
    shared = host("a/b c", directory=directory)
    Region.open(shared.path, 64 << 10).close()
    (listed,) = [group.name for group in groups(directory)]
    assert listed != "a/b c"
    for name in ("a/b c", listed):
        assert main(["shared", "show", name, "--directory", str(directory)]) == 0
    assert main(["shared", "show", "a/b d", "--directory", str(directory)]) == 1
    capsys.readouterr()


def test_a_directory_with_a_relative_path_is_an_error_of_the_command(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """Each process would look into another one."""
    monkeypatch.setenv("RESILIO_SHARED_DIR", "here")
    with pytest.raises(SystemExit) as caught:
        main(["shared", "ls"])
    assert caught.value.code == 2
    assert "RESILIO_SHARED_DIR must be an absolute path" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("make", "kind", "text"),
    [
        (lambda: rate_limit("20/s", name="shown"), "limit", "20/s"),
        (lambda: rate_limit("5/s", Rate("90/min", unit="tokens"), burst=7), "limit", "5/s (burst 7), 90/min tokens"),
        (lambda: bulkhead(1), "permits", "1 permit"),
        (lambda: bulkhead(2000), "permits", "2,000 permits"),
        (lambda: adaptive_limit(start=20, ceiling=1000), "adaptive limit", "1 to 1,000 permits, 20 at first"),
        (lambda: spend_limit("5 USD/day"), "spend", "5 USD/day, UTC"),
        (lambda: spend_limit("5 USD/day", burst=0.5), "spend", "5 USD/day, burst 0.5"),
        (circuit_breaker, "breaker", ""),
    ],
)
def test_options_are_shown_in_units(make: Any, kind: str, text: str) -> None:
    """`resilio shared show` printed what the gates keep: "[('requests', 20.0, 1000000000, 20.0, 0)]"."""
    number, options, _ = make()._gate.cell_wanted()
    assert KINDS[number] == kind
    assert in_units(kind, options).startswith(text)


def test_options_of_budgets_and_keys_are_shown_in_units() -> None:
    """A budget was shown as "5000000000 3000000000 58593750 2000000000"; those of another form stay as they are."""
    number, options, _ = RetryBudget(reserve=0.5)._sharing_gate().cell_wanted()
    assert in_units(KINDS[number], options) == "5 tokens at most, 3 at first, reserve 0.5/s"
    number, options, _ = RetryBudget(reserve=0.5)._sharing_gate().fleet_cell_wanted()
    assert in_units(KINDS[number], options) == "reserve 0.5/s"
    number, options, _ = rate_limit("5/min")._gate.keys_wanted(1000)
    assert in_units(KINDS[number], options) == "5/min for each of at most 1,000 keys"
    assert in_units("limit", b"[(]") == "[(]"
    assert in_units("budget", b"1 2") == "1 2"
    assert in_units("limit", b"\xff\x00") == "ff00"


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
