"""A region among real processes: who has a slot, what happens to the slots of the dead, and which files are refused."""

from __future__ import annotations

import os
import signal
import struct
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest
from workers_of_host import started, until

from resilio._native.shared import NotShared, Region, SharedFull

pytestmark = [
    pytest.mark.skipif(sys.platform != "linux", reason="shared memory of hosts is for Linux"),
    pytest.mark.once,
]

SIZE = 1 << 20
BOOT, OFFSET, EPOCH = 24, 40, 48
"""The bytes of a header: the id of the boot, the offset of the time namespace, the epoch."""


@pytest.fixture
def path() -> Iterator[Path]:
    """A place for a region, in memory if the machine has such a place."""
    with tempfile.TemporaryDirectory(dir="/dev/shm" if os.access("/dev/shm", os.W_OK) else None) as directory:
        yield Path(directory, "region")


def opened(path: Path, workers: int = 64) -> str:
    """The statements with which a process opens a region."""
    return f"from resilio._native.shared import Region; region = Region.open({str(path)!r}, {SIZE}, {workers})"


def slots(region: Region) -> list[int]:
    return [slot for slot, *_ in region.workers()]


# ---- who lives -------------------------------------------------------------------------------------------------------


def test_each_process_that_calls_has_a_slot_of_its_own(path: Path) -> None:
    """A process that has only opened the region, as a server's parent has, is no worker before its first call."""
    region = Region.open(path, SIZE)
    with started(3, opened(path)) as workers:
        assert slots(region) == []
        assert sorted(worker.ask("region.join().slot") for worker in workers) == [0, 1, 2]
        assert [pid for _, pid, *_ in region.workers()] != []
        assert {pid for _, pid, *_ in region.workers()} == {worker.process.pid for worker in workers}
        assert region.member.owner == 0
    region.close()


def test_a_killed_worker_is_found_by_the_others(path: Path) -> None:
    """SIGKILL leaves no word: the kernel drops the lock, the next beat of any worker frees the slot."""
    with started(2, opened(path)) as (first, second):
        assert (first.ask("region.join().slot"), second.ask("region.join().slot")) == (0, 1)
        assert second.ask("region.member.peers") == 2
        first.signal(signal.SIGKILL)
        until(lambda: second.ask("region.reaped") == 1, "the dead worker is found")
        assert second.ask("region.member.peers") == 1
        assert second.ask("[slot for slot, *_ in region.workers()]") == [1]


def test_a_slot_that_is_taken_again_has_another_owner_word(path: Path) -> None:
    """What a late reaper frees can only be the dead worker's: the same slot of a later worker has a later epoch."""
    region = Region.open(path, SIZE)
    words = []
    for _ in range(2):
        with started(1, opened(path)) as (worker,):
            words.append(worker.ask("region.join().owner"))
    assert [word & 255 for word in words] == [1, 1]
    assert words[0] != words[1]
    region.close()


@pytest.mark.real(1.5)
def test_a_stopped_worker_keeps_its_slot_and_leads_no_more(path: Path) -> None:
    """A worker under a debugger may go on at any time: what it holds stays its own, but another learns for all."""
    with started(2, opened(path)) as (first, second):
        first.ask("region.join().slot")
        second.ask("region.join().slot")
        until(lambda: second.ask("region.leader") == 0, "the first worker leads")
        first.signal(signal.SIGSTOP)
        until(lambda: second.ask("region.member.leads"), "the role goes over")
        assert second.ask("[slot for slot, *_ in region.workers()]") == [0, 1]
        first.signal(signal.SIGCONT)
        assert first.ask("(region.member.slot, region.member.leads)") == (0, False)


def test_the_role_goes_over_when_its_worker_dies(path: Path) -> None:
    """Nothing is lost but the law's memory: another worker learns on."""
    with started(2, opened(path)) as (first, second):
        first.ask("region.join().slot")
        second.ask("region.join().slot")
        until(lambda: second.ask("region.leader") == 0, "the first worker leads")
        first.signal(signal.SIGKILL)
        until(lambda: second.ask("region.member.leads"), "the role goes over")


def test_a_worker_that_closes_all_descriptors_gets_its_slot_back(path: Path) -> None:
    """
    A program that becomes a daemon closes all descriptors, and with them its lock: it was dead to the others for good.

    It finds out at its next beat, opens the file again, and is the owner that it was if no other took the slot.
    """
    with started(1, opened(path)) as (worker,):
        owner = worker.ask("region.join().owner")
        worker.ask("os.closerange(3, 256)")
        until(lambda: worker.ask(_HOLDS), "the lock is taken again")
        assert worker.ask("region.member.owner") == owner


_HOLDS = (
    "any(os.path.exists(f'/proc/self/fd/{n}') and os.fstat(n).st_ino == os.stat(region.path).st_ino "
    "for n in range(3, 99))"
)


def test_a_worker_whose_slot_was_taken_meanwhile_takes_another(path: Path) -> None:
    """Two owners of one slot would free what the other holds."""
    with started(2, opened(path)) as (first, second):
        assert first.ask("region.join().slot") == 0
        first.ask("os.closerange(3, 256)")
        first.signal(signal.SIGSTOP)
        taken = second.ask("region.join().slot")
        first.signal(signal.SIGCONT)
        until(lambda: first.ask("region.member.owner") and first.ask(_HOLDS), "the first worker has a slot again")
        slot = first.ask("region.member.slot")
        assert {slot, taken} == {0, 1}


FORK = """
def fork(report):
    child = os.fork()
    if child == 0:
        before = region.member.owner
        region.join()
        with open(report, "w") as file:
            file.write(repr((before, region.member.slot)))
        __import__("signal").pause()
    return child
"""


def test_a_child_of_a_fork_holds_nothing_and_takes_its_own_slot(path: Path) -> None:
    """A lock that the child inherits would keep its dead parent alive: flock does, record locks do not."""
    report = path.with_name("report")
    with started(2, opened(path) + FORK) as (parent, other):
        assert (parent.ask("region.join().slot"), other.ask("region.join().slot")) == (0, 1)
        child = parent.ask(f"fork({str(report)!r})")
        try:
            assert until(lambda: report.exists() and report.read_text(), "the child has reported") == "(0, 2)"
            parent.signal(signal.SIGKILL)
            until(lambda: other.ask("region.member.peers") == 2, "the parent is found dead while its child lives")
            assert other.ask("[(slot, pid) for slot, pid, *_ in region.workers()]") == [
                (1, other.process.pid),
                (2, child),
            ]
        finally:
            os.kill(child, signal.SIGKILL)


def test_an_exec_gives_the_slot_back(path: Path) -> None:
    """The descriptor is not inherited by the program that replaces this one."""
    with started(2, opened(path)) as (first, second):
        first.ask("region.join().slot")
        second.ask("region.join().slot")
        assert first.process.stdin is not None
        first.process.stdin.write("os.execvp('sleep', ['sleep', '600'])\n")
        first.process.stdin.flush()
        until(lambda: second.ask("region.reaped") == 1, "the slot is free")
        assert first.process.poll() is None


def test_more_workers_than_slots_wait_for_one(path: Path) -> None:
    """The third of two is its own, says so, and takes the slot of the first that dies."""
    with started(3, opened(path, workers=2)) as (first, second, third):
        first.ask("region.join().slot")
        second.ask("region.join().slot")
        assert third.ask("(region.join().owner, region.trouble)") == (0, "no_slot")
        first.signal(signal.SIGKILL)
        until(lambda: third.ask("region.trouble") is None, "the third gets a slot")
        assert third.ask("region.member.slot") == 0


def test_a_file_that_is_removed_is_noticed(path: Path) -> None:
    """The mapping lives on, and other workers would never meet this one again."""
    with started(1, opened(path)) as (worker,):
        worker.ask("region.join().slot")
        path.unlink()
        until(lambda: worker.ask("region.trouble") == "gone", "the file is missed")
        assert worker.ask("region.member.owner") == 0


# ---- the file --------------------------------------------------------------------------------------------------------


def test_processes_that_come_at_once_make_one_file_and_one_cell(path: Path) -> None:
    """The file is published whole by link(2), a cell by one swap: the losers take the winner's."""
    cell = "region.cell(1, 'payments', b'stock', 640) and None"
    with started(6, f"{opened(path)}; {cell}") as workers:
        assert {worker.ask("os.fstat(os.open(region.path, os.O_RDONLY)).st_ino") for worker in workers} == {
            path.stat().st_ino
        }
        assert {tuple(worker.ask("region.cells()")) for worker in workers} == {((1, "payments", b"stock", 640),)}
    assert [*path.parent.iterdir()] == [path]


def test_other_options_of_a_stock_are_another_cell(path: Path) -> None:
    """During a deployment the old rate and the new one are two stocks; a cell is never reinterpreted."""
    region = Region.open(path, SIZE)
    for kind, name, stock, size in [
        (1, "a", b"1/s", 64),
        (1, "a", b"2/s", 64),
        (4, "a", b"1/s", 64),
        (1, "b", b"1/s", 64),
    ]:
        region.cell(kind, name, stock, size)
        region.cell(kind, name, stock, size)
    assert len(region.cells()) == 4
    region.close()


def test_a_region_that_is_full_says_so(path: Path) -> None:
    """Nothing is freed: a policy without room is the process's own."""
    region = Region.open(path, SIZE)
    with pytest.raises(SharedFull, match="'big' needs 2097152 bytes"):
        region.cell(1, "big", b"", 2 << 20)
    region.cell(1, "small", b"", 64)
    region.close()


def test_a_region_of_before_the_boot_is_replaced(path: Path) -> None:
    """On a disk a region outlives its workers: slots and times of another boot mean nothing."""
    old = Region.open(path, SIZE)
    old.cell(1, "old", b"", 64)
    inode = path.stat().st_ino
    old.close()
    _write(path, BOOT, bytes(16))
    new = Region.open(path, SIZE)
    assert (new.cells(), path.stat().st_ino != inode) == ([], True)
    assert [*path.parent.iterdir()] == [path]
    new.close()


def test_a_region_of_another_time_namespace_is_refused(path: Path) -> None:
    """Its clock is another: a limit would count hours that this process has not seen."""
    Region.open(path, SIZE).close()
    _write(path, OFFSET, struct.pack("q", 3600 * 10**9))
    with pytest.raises(NotShared, match="time namespace") as refused:
        Region.open(path, SIZE)
    assert refused.value.reason == "other_time"


def _write(path: Path, at: int, data: bytes) -> None:
    with path.open("r+b") as file:
        file.seek(at)
        file.write(data)


def _open_to_all(path: Path) -> None:
    Region.open(path, SIZE).close()
    path.chmod(0o666)


def _of_another_user(path: Path) -> None:
    if os.geteuid() != 0:
        pytest.skip("needs the right to give a file away")
    Region.open(path, SIZE).close()
    os.chown(path, 12345, 12345)


def _a_link(path: Path) -> None:
    path.with_name("elsewhere").write_bytes(b"")
    path.symlink_to(path.with_name("elsewhere"))


@pytest.mark.parametrize("made", [_open_to_all, _of_another_user, _a_link, Path.mkdir, os.mkfifo])
def test_what_others_can_write_to_is_refused(path: Path, made: object) -> None:
    """A file that another user could have put there, or could change, is no memory of ours."""
    made(path)  # type: ignore[operator]
    with pytest.raises(NotShared) as refused:
        Region.open(path, SIZE)
    assert refused.value.reason in {"foreign", "no_region"}


@pytest.mark.parametrize("data", [b"", b"x" * SIZE, b"RESILIOH" + bytes(SIZE)], ids=["empty", "other", "cut"])
def test_another_programs_file_is_refused_and_left_alone(path: Path, data: bytes) -> None:
    """Whatever it is, it stays as it is."""
    path.write_bytes(data)
    path.chmod(0o600)
    with pytest.raises(NotShared, match="no region"):
        Region.open(path, SIZE)
    assert path.read_bytes() == data


def test_memory_that_is_not_there_is_refused_at_once(path: Path) -> None:
    """The file is allocated whole: a full tmpfs is an error here, and not a SIGBUS in some later call."""
    about = os.statvfs(path.parent)
    with pytest.raises(NotShared, match="No space") as refused:
        Region.open(path, 2 * about.f_frsize * about.f_blocks)
    assert refused.value.reason == "no_region"
    assert [*path.parent.iterdir()] == []


def test_a_file_system_that_is_not_known_to_be_local_is_refused() -> None:
    """On a network file system another machine's workers would have other locks, and other memory."""
    queues = Path("/dev/mqueue")
    if not os.access(queues, os.W_OK):
        pytest.skip("no writable file system here that is not in the list")
    with pytest.raises(NotShared, match="network file system") as refused:
        Region.open(queues / f"resilio-test-{os.getpid()}", SIZE)
    assert refused.value.reason == "remote"
    assert not (queues / f"resilio-test-{os.getpid()}").exists()


def test_a_directory_that_is_not_there_is_named(path: Path) -> None:
    """The reason names the file."""
    with pytest.raises(NotShared, match=r"nowhere/region: No such file"):
        Region.open(path.parent / "nowhere" / "region", SIZE)


def test_a_process_opens_a_file_once(path: Path) -> None:
    """Closing a second descriptor would drop the locks of the first."""
    region = Region.open(path, SIZE)
    assert Region.open(path, SIZE) is region
    region.close()


# ---- a region of one process -----------------------------------------------------------------------------------------


def test_a_private_region_has_members_that_come_and_go() -> None:
    """The simulator puts several clients on one host, and kills some."""
    region = Region.private()
    other = region.join()
    assert (region.member.slot, other.slot, other.peers, region.member.leads, other.leads) == (0, 1, 2, True, False)
    cell = region.cell(1, "orders", b"", 64, other)
    assert (cell.worker is other, region.cell(1, "orders", b"", 64).worker is region.member) == (True, True)
    region.member.leave()
    assert (other.peers, other.leads, region.member.slot) == (1, True, None)
    other.leave()
    assert other.slot is None
    assert region.path is None


HELD = """
import threading, time
from types import SimpleNamespace
from resilio._native.shared import Region, housekeeper, on_trouble
from resilio.testing import DeadlockError, _threads
begun, done = threading.Event(), threading.Event()
def listener():
    threading.current_thread()
    begun.set()
    done.wait()
on_trouble(listener)
def starved():
    now = [100.0]
    _threads.time = SimpleNamespace(monotonic=lambda: now[0])
    watch = _threads.Watch(frozenset(), patience=3600.0)
    watch.starve(False, "the test")
    now[0] += 1.0
    try:
        watch.starve(False, "the test")
    except DeadlockError as error:
        return str(error)
"""


REGIONS = """
import os
from resilio._native.shared import Region

there = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
regions = [Region.private(256 << 20) for _ in range(2 * there // (256 << 20))]
child = os.fork()
if child == 0:
    os._exit(0)
print(os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]))
"""


def test_regions_that_are_not_used_are_no_memory() -> None:
    """With many fleets a process could start no other: "Cannot allocate memory", though hardly any was in use."""
    done = subprocess.run([sys.executable, "-c", REGIONS], capture_output=True, text=True, check=False)
    assert (done.returncode, done.stdout, done.stderr) == (0, "0\n", "")


@pytest.mark.once
def test_virtual_time_does_not_wait_for_the_housekeeper(path: Path) -> None:
    """It is among Python's threads once it has reported; a deadlock was then found after the whole patience."""
    with started(1, HELD + opened(path)) as (worker,):
        assert worker.ask("housekeeper()") == 0
        worker.ask("region.join() and None")
        path.unlink()
        assert worker.ask("begun.wait()")
        assert worker.ask("[one.ident == housekeeper() for one in threading.enumerate()]") == [False, True]
        assert worker.ask("starved()").endswith("other threads: none")
        worker.ask("done.set()")
