"""Policies and their host: names, environment, what degrades and how it is said, tests and virtual time."""

from __future__ import annotations

import logging
import os
import shutil
import sys
import uuid
from collections.abc import Iterator
from enum import Enum
from pathlib import Path
from typing import Any

import attrs
import pytest
from workers_of_host import started, until

import resilio
from resilio import bulkhead, events, keyed, rate_limit, retry
from resilio._doctor._facts import _sharing as sharing_facts
from resilio._doctor._report import _sharing
from resilio._native.shared import Cell, NotShared
from resilio._options import scope
from resilio._policies.rate_limit.policy import RateLimitConfig
from resilio.sharing import Host, SharingWarning, _attach, _directory, _naming, _report, host
from resilio.sharing._links import KeyedLink, canonical
from resilio.testing import virtual_time

pytestmark = pytest.mark.once
linux = pytest.mark.skipif(sys.platform != "linux", reason="shared memory of hosts is for Linux")


class Counting:
    """What stands for a policy and its gate: it keeps the cells that it gets."""

    kind = "rate_limit"

    def __init__(self, name: str | None = "orders", stock: bytes = b"100/s") -> None:
        self.name = self._given = name
        self.stock = stock
        self.cells: list[Cell | None] = []
        self._link: Any = None

    def _sharing_gate(self) -> Counting:
        return self

    def cell_wanted(self) -> tuple[int, bytes, int]:
        return 1, self.stock, 640

    def share(self, cell: Cell | None) -> None:
        self.cells.append(cell)


def options(**changes: Any) -> RateLimitConfig:
    return attrs.evolve(RateLimitConfig(rates=("100/s",)), **changes)


@pytest.fixture
def directory(resilio_shared_host: Path) -> Iterator[Path]:
    """Real sharing, in memory if the machine has such a place."""
    in_memory = Path("/dev/shm", f"resilio-test-{uuid.uuid4().hex}")
    with pytest.MonkeyPatch.context() as patch:
        if os.access("/dev/shm", os.W_OK):
            patch.setenv("RESILIO_SHARED_DIR", str(in_memory))
            yield in_memory
            shutil.rmtree(in_memory, ignore_errors=True)
        else:
            yield resilio_shared_host


# ---- names -----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "make",
    [
        lambda: resilio.circuit_breaker(scope="host"),
        lambda: rate_limit("100/s", scope="host"),
        lambda: resilio.bulkhead(10, scope=host("shop")),
        lambda: resilio.adaptive_limit(scope="host"),
        lambda: resilio.RetryBudget(scope="host"),
        lambda: keyed(lambda: rate_limit("1/s"), key="user", scope="host"),
        lambda: keyed(lambda: rate_limit("1/s", scope="host"), key="user", name="users"),
    ],
)
def test_a_shared_policy_needs_a_name(make: Any) -> None:
    """Processes find each other's policies by name: one without would share nothing, silently."""
    with pytest.raises(ValueError, match=r"scope must be 'process' for an? .* without a name.*give it one, name='...'"):
        make()


def test_a_scope_that_does_not_exist_is_rejected_by_name() -> None:
    """The message has the words that there are."""
    with pytest.raises(ValueError, match=r"scope must be 'process', 'host', what .*, not 'hots'"):
        rate_limit("1/s", name="orders", scope="hots")  # type: ignore[arg-type]
    with pytest.raises(TypeError, match="scope must be"):
        rate_limit("1/s", name="orders", scope=3)  # type: ignore[arg-type]


def test_a_policy_that_cannot_be_shared_says_so() -> None:
    """A keyed retry has nothing that processes could have together."""
    with pytest.raises(TypeError, match="scope must be 'process' for a keyed retry, not 'host': it has nothing to"):
        keyed(lambda: retry(on=OSError), key="user", name="retries", scope="host")


def test_the_environment_shares_policies_with_a_name_and_logs_those_without_once(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """Operations turn sharing on without a change of the code; what has no name stays as it is."""
    monkeypatch.setattr(_report, "_warned", set())
    monkeypatch.setenv("RESILIO_SCOPE", "host")
    caplog.set_level(logging.INFO, "resilio")
    named, first, second, own = Counting(), Counting(None), Counting(None), Counting("own")
    for policy in (named, first, second):
        _attach.share(policy, options())
    _attach.share(own, options(scope="process"))
    assert [policy._link is not None for policy in (named, first, second, own)] == [True, False, False, False]
    assert len([record for record in caplog.records if "without a name stay in their process" in record.message]) == 1


def test_an_environment_that_names_no_scope_is_rejected(monkeypatch: pytest.MonkeyPatch) -> None:
    """A misspelt word would share nothing, silently."""
    monkeypatch.setenv("RESILIO_SCOPE", "hosts")
    with pytest.raises(ValueError, match="RESILIO_SCOPE must be 'process' or 'host', not 'hosts'"):
        rate_limit("1/s")


def test_two_applications_of_one_user_do_not_meet(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """The program, the application's name and the working directory are in the group's name; a port is not."""
    monkeypatch.delenv("RESILIO_HOST_NAME", raising=False)
    names = {}
    for label, argv in {
        "shop": ["/bin/gunicorn", "shop.wsgi:app", "--bind", ":8000"],
        "shop, another port": ["/bin/gunicorn", "--bind", ":8001", "shop.wsgi:app"],
        "stock": ["/bin/gunicorn", "stock.wsgi:app", "--bind", ":8000"],
        "celery": ["/bin/celery", "-A", "shop", "worker"],
        "celery of stock": ["/bin/celery", "-A", "stock", "worker"],
    }.items():
        monkeypatch.setattr(sys, "argv", argv)
        names[label] = _naming.default_name()
    assert names["shop"] == names["shop, another port"]
    assert len(set(names.values())) == 4
    monkeypatch.chdir(tmp_path)
    assert _naming.default_name() not in names.values()


def test_a_group_is_one_object_with_one_set_of_options(directory: Path) -> None:
    """Two sizes of one memory cannot both be true."""
    assert host("shop") is host("shop")
    with pytest.raises(ValueError, match=r"host\('shop'\) has workers=64 and size=4194304, not workers=8"):
        host("shop", workers=8)
    assert host("shop", directory=directory / "other").path != host("shop").path


@pytest.mark.parametrize(
    ("wrong", "error"),
    [
        ({"workers": 65}, ValueError),
        ({"workers": True}, TypeError),
        ({"size": "4 apples"}, ValueError),
        ({"size": 1.5}, TypeError),
        ({"size": 100}, ValueError),
        ({"directory": 7}, TypeError),
        ({"name": ""}, ValueError),
    ],
)
def test_options_of_a_group_are_checked(wrong: dict[str, Any], error: type[Exception]) -> None:
    """The message names the parameter."""
    with pytest.raises(error, match=next(iter(wrong))):
        host(**wrong)


def test_names_that_a_file_cannot_have_are_told_apart() -> None:
    """`a/b` and `a_b` are two groups, and neither leaves the directory."""
    files = [_naming.file_name(name) for name in ("a_b", "a/b", "../a", "ü" * 200)]
    assert len(set(files)) == 4
    assert all("/" not in file and len(file) < 200 for file in files)


# ---- ties ------------------------------------------------------------------------------------------------------------


@linux
def test_processes_with_one_name_and_stock_have_one_cell(directory: Path) -> None:
    """A policy with the same name and options is the same policy in each worker."""
    program = """
from resilio._policies.rate_limit.policy import RateLimitConfig
from resilio.sharing import _attach, host
from test_host import Counting, options
policy = Counting()
_attach.share(policy, options(scope="host"))
"""
    here = str(Path(__file__).parent)
    with started(2, f"sys.path.append({here!r})\n{program}", RESILIO_SHARED_DIR=str(directory)) as workers:
        assert [worker.ask("host().region.cells()") for worker in workers] == [[(1, "orders", b"100/s", 640)]] * 2
        assert [worker.ask("host().region.join().slot") for worker in workers] == [0, 1]
        assert workers[0].ask("policy._link.sharing().peers") == 2


def test_a_changed_stock_is_another_cell_and_a_changed_rule_is_not(directory: Path) -> None:
    """`reconfigure` of a rate leaves the old stock to those that still use it."""
    policy = Counting()
    _attach.share(policy, options(scope="host"))
    _attach.share(policy, options(scope="host", max_queued=3))
    assert len(policy.cells) == 1
    policy.stock = b"200/s"
    _attach.share(policy, options(scope="host"))
    assert [cell is not None for cell in policy.cells] == [True, True]
    _attach.share(policy, options(scope="process"))
    assert (policy.cells[-1], policy._link) == (None, None)


def test_a_policy_can_go_to_another_group(directory: Path) -> None:
    """`configure` may name another group while calls are in flight."""
    policy = Counting()
    _attach.share(policy, options(scope=host("shop")))
    _attach.share(policy, options(scope=host("stock")))
    assert policy._link.sharing().scope == "host:stock"
    assert [None if cell is None else cell.region for cell in policy.cells] == [
        host("shop").region,
        None,
        host("stock").region,
    ]


def test_a_policy_without_room_is_its_own_and_says_so(directory: Path, caplog: pytest.LogCaptureFixture) -> None:
    """The others go on to share."""
    small = host("small", size="64KiB")
    big, other = Counting("big"), Counting("other")
    big.cell_wanted = lambda: (1, b"", 1 << 20)  # type: ignore[method-assign]
    for policy in (big, other):
        _attach.share(policy, options(scope=small))
    assert (big.cells, big._link.sharing().degraded) == ([None], "region_full")
    assert other._link.sharing().degraded is None
    assert [record.levelname for record in caplog.records if "'big'" in record.message] == ["WARNING"]


class Colour(Enum):
    """Keys of an application."""

    RED = 1
    BLUE = 2


def test_keys_have_one_form_in_all_processes() -> None:
    """Two keys have one form only if they are one key; what has no form that all agree on stays in its process."""
    keys = [
        "a",
        b"a",
        "1",
        1,
        1.0,
        True,
        None,
        (),
        ("a", 1),
        ("a1",),
        (("a",), 1),
        Colour.RED,
        Colour.BLUE,
        uuid.UUID(int=1),
    ]
    assert len({canonical(key) for key in keys} - {None}) == len(keys)
    assert [canonical(key) for key in (object(), [1], ("a", object()), type("Sub", (str,), {})("a"))] == [None] * 4


@linux
@pytest.mark.parametrize("asked", ["option", "environment"])
def test_a_standard_stack_shares_its_parts(directory: Path, monkeypatch: pytest.MonkeyPatch, asked: str) -> None:
    """The stack itself has nothing to share, and so `standard(..., scope="host")` was a TypeError."""
    if asked == "environment":
        monkeypatch.setenv("RESILIO_SCOPE", "host")
    options: dict[str, Any] = {"scope": "host"} if asked == "option" else {}
    stack = resilio.standard(f"stack by {asked}", on=OSError, rates="100/s", max_concurrent=5, **options)
    assert stack.call(lambda: 1) == 1
    shared = {part.kind for part in stack.policies if part.snapshot().sharing is not None}
    assert shared == {"rate_limit", "circuit_breaker", *(["bulkhead"] if asked == "option" else [])}


@linux
@pytest.mark.parametrize("keyed_too", [False, True])
def test_the_environment_widens_no_bulkhead(directory: Path, monkeypatch: pytest.MonkeyPatch, keyed_too: bool) -> None:
    """
    A bulkhead as wide as a pool of connections was one for three workers with a pool each: they had 5, 0 and 0.

    Beside it in a key's pipeline a rate limit is the host's; once the code asks for it, the bulkhead is too.
    """
    monkeypatch.setenv("RESILIO_SCOPE", "host")
    if not keyed_too:
        policy = bulkhead(5, name="db")
        assert (policy.config.scope, policy.snapshot().sharing) == ("process", None)
        assert bulkhead(5, name="db", scope=None) is policy
        policy.reconfigure(scope="host")
        assert policy.snapshot().sharing is not None
        return
    per = keyed(lambda: resilio.pipeline(rate_limit("9/s"), bulkhead(5)), key="user", name="per user")

    def shared() -> list[bool]:
        return [part.snapshot().sharing is not None for part in per["ann"].policies]

    assert shared() == [True, False]
    per.reconfigure(scope="host")
    assert shared() == [True, True]


# ---- what degrades ---------------------------------------------------------------------------------------------------


@linux
def test_a_file_that_is_removed_is_made_again_and_policies_go_over(directory: Path) -> None:
    """A cleaner of temporary files, or systemd's RemoveIPC, takes the file: two groups for less than a second."""
    policy = Counting()
    _attach.share(policy, options(scope="host"))
    group, old = host(), host().region
    assert old is not None
    old.join()
    group.path.unlink()
    until(lambda: group.region is not None and group.region is not old, "there is another region")
    until(lambda: policy.cells[-1] is not None and policy.cells[-1].region is group.region, "its gate uses that")
    assert (group.path.exists(), policy._link.sharing().degraded) == (True, None)


@linux
def test_a_directory_that_is_lost_degrades_until_it_is_back(directory: Path, caplog: pytest.LogCaptureFixture) -> None:
    """One event and one log line for each change, and the way back is tried once a second."""
    caplog.set_level(logging.INFO, "resilio")
    policy, heard = Counting(), []
    end = events.subscribe(heard.append, kinds=events.SharingChanged)
    _attach.share(policy, options(scope="host"))
    group = host()
    assert group.region is not None
    group.region.join()
    shutil.rmtree(directory)
    directory.touch()
    until(lambda: policy._link.sharing().degraded == "no_region", "the policy is its own")
    until(lambda: policy.cells[-1] is None, "its gate has no cell")
    directory.unlink()
    until(lambda: policy._link.sharing().degraded is None, "the policy is shared again")
    until(lambda: len(heard) == 2 and len(caplog.records) == 2, "both changes are reported")
    end()
    assert [(event.kind, event.name, event.old, event.new) for event in heard] == [
        ("host", "test", None, "no_region"),
        ("host", "test", "no_region", None),
    ]
    lines = [(record.levelname, record.reason) for record in caplog.records]  # type: ignore[attr-defined]
    assert lines == [("WARNING", "no_region"), ("INFO", "shared")]


def test_what_cannot_be_shared_from_the_beginning_is_one_warning(
    directory: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The policies work as without a scope; the warning names the reason and stands at the line that made the first."""
    monkeypatch.setattr(_report, "_warned", set())
    directory.mkdir(mode=0o700)
    directory.chmod(0o777)
    with pytest.warns(SharingWarning, match=r"host\('test'\) is not shared with other processes \(foreign\)") as warned:
        for name in ("one", "two"):
            policy = Counting(name)
            _attach.share(policy, options(scope="host"))
            now = policy._link.sharing()
            assert (now.scope, now.peers, now.leader, now.degraded) == ("host:test", 1, False, "foreign")
    assert len(warned) == 1


def test_a_platform_without_numbers_of_users_is_a_reason(directory: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Each policy with `RESILIO_SCOPE=host` raised an AttributeError there, and so did `resilio doctor`."""
    monkeypatch.delattr(os, "geteuid")
    monkeypatch.delenv("XDG_RUNTIME_DIR", raising=False)
    monkeypatch.delenv("RESILIO_SHARED_DIR", raising=False)
    monkeypatch.setattr(_report, "_warned", set())
    policy = Counting("one")
    with pytest.warns(SharingWarning, match=r"\(unsupported\): this platform has no numbers of users"):
        _attach.share(policy, options(scope="host"))
    assert policy._link.sharing().degraded == "unsupported"
    assert "no numbers of users" in _sharing(sharing_facts())


def test_a_directory_is_not_made_by_mistake(directory: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """
    A relative path meant another directory in each process, and a mistyped one was made with all its parents.

    So workers of one service did not meet, without a word, or kept their memory on a disk.
    """
    with pytest.raises(ValueError, match=r"directory must be an absolute path, .*, not 'shop'"):
        host("test", directory="shop")
    monkeypatch.setenv("RESILIO_SHARED_DIR", "shop")
    with pytest.raises(ValueError, match=r"RESILIO_SHARED_DIR must be an absolute path, .*, not 'shop'"):
        host("test")
    assert _directory.prepared(directory).is_dir()
    with pytest.raises(NotShared, match=r"/none does not exist, and only its last part is made") as caught:
        _directory.prepared(directory / "none" / "shop")
    assert caught.value.reason == "no_region"
    assert not (directory / "none").exists()


# ---- tests and virtual time ------------------------------------------------------------------------------------------


def test_under_the_plugin_a_host_is_this_process_alone() -> None:
    """Tests meet neither each other nor a service that runs on the machine."""
    assert scope.is_private()
    policy = Counting()
    _attach.share(policy, options(scope="host"))
    region = host().region
    assert region is not None
    assert (region.path, policy._link.sharing().degraded) == (None, None)


@linux
def test_virtual_time_has_a_region_of_its_own(directory: Path) -> None:
    """A time that only this process has means nothing to others."""
    policy = Counting()
    _attach.share(policy, options(scope="host"))
    with virtual_time():
        assert policy.cells[-1].region.path is None  # type: ignore[union-attr]
    assert policy.cells[-1].region.path == str(host().path)  # type: ignore[union-attr]


@linux
def test_what_a_killed_process_left_of_a_new_region_is_removed(directory: Path) -> None:
    """A region is made under another name: a process killed meanwhile left 4 MiB of memory for good."""
    group = host()
    directory.mkdir(mode=0o700)
    old, young = (directory / f"{group.path.name}.{label}.new" for label in ("00000001", "00000002"))
    for path in (old, young):
        path.write_bytes(b"")
    os.utime(old, (0, 0))
    _attach.share(Counting(), options(scope=group))
    assert (old.exists(), young.exists(), group.path.exists()) == (False, True, True)


def test_a_host_prints_as_it_is_made() -> None:
    """It stands in messages."""
    assert repr(host("shop")) == "host('shop')"
    assert isinstance(host("shop"), Host)
    assert KeyedLink.__slots__ == ("apart", "given", "in_code", "region", "ties")
