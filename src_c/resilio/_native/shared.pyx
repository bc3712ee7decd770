# cython: auto_pickle=False
"""
Regions of memory that the processes of a host share, and the cells in them.

A thin layer over the headers of src_c/algorithms/shared/: region.h (the parts of a region), mapping.h (this process's
slot in it), region_file.h (how a file is opened) and housekeeper.h (the thread). `resilio.sharing` is its public face.
"""

from libc.errno cimport errno
from libc.stdint cimport int64_t, uint32_t, uint64_t

import atexit
import os
import sys
import threading

from resilio._support.random_seed import seed64

from resilio._native.clock cimport rs_clock, rs_clock_import, rs_clock_now

from resilio._support.after_fork import free_lock

__all__ = ["Cell", "Member", "NotShared", "Region", "SharedFull", "find", "on_trouble"]

cdef extern from "shared/region_file.h" nogil:
    ctypedef struct rs_cell_wanted:
        uint32_t kind
        uint32_t name_size
        uint32_t stock_size
        uint64_t size
        const char *name
        const char *stock
    ctypedef struct rs_cell_head:
        uint32_t kind
        uint32_t name_size
        uint32_t stock_size
        uint64_t size
        char *text
    ctypedef enum rs_cell_result:
        RS_CELL_FOUND
        RS_CELL_NO_ROOM
        RS_CELL_NO_ENTRY
    ctypedef enum rs_open_result:
        RS_OPENED
        RS_OPEN_FAILED
    enum:
        RS_REGION_ENTRIES
    rs_cell_result rs_region_cell(rs_region *, const rs_cell_wanted *, rs_cell_head **)
    void *rs_cell_body(rs_cell_head *)
    void rs_region_reap(rs_region *, uint32_t)
    bint rs_slot_is_held(int, uint32_t)
    void rs_atomic_store(uint64_t *, uint64_t)
    void rs_slot_enter(rs_member *, rs_region *, uint32_t, int64_t)
    void rs_slot_clear(rs_region *, uint32_t)
    void rs_member_take_roles(rs_member *, rs_region *, int64_t)
    uint32_t rs_mapping_reap(rs_mapping *)
    void rs_mapping_free(rs_mapping *)
    rs_mapping *rs_mapping_open(const char *, uint64_t, uint32_t, rs_open_result *)
    rs_mapping *rs_mapping_private(uint64_t, int64_t, const uint64_t *)

cdef extern from *:
    """
    #include "shared/housekeeper.h"
    /* The entry's cell, or NULL. */
    static rs_cell_head *rs_shared_entry(rs_region *region, uint32_t i)
    {
        uint64_t word = rs_atomic_load(&region->entry[i]);
        return word ? rs_region_at(region, word) : NULL;
    }
    static uint64_t rs_shared_used(rs_region *region) { return rs_atomic_load(&region->used); }
    static uint64_t rs_shared_living(rs_region *region) { return rs_atomic_load(&region->roll.living); }
    static int64_t rs_shared_leader(rs_region *region, rs_role role)
    {
        uint32_t owner = (uint32_t)rs_atomic_load(&region->roll.lead[role]);
        return owner ? (int64_t)rs_owner_slot(owner) : -1;
    }

    /* A report takes the GIL, which a program that ends does not give any more. */
    static rs_word32 rs_shared_is_ending, rs_shared_reports;
    static void (*rs_shared_listener)(void);
    static void rs_shared_report(void)
    {
        rs_atomic_add(&rs_shared_reports, 1);
        if (!rs_atomic_load(&rs_shared_is_ending))
            rs_shared_listener();
        rs_atomic_sub(&rs_shared_reports, 1);
    }
    static void rs_shared_end(void) /* without the GIL */
    {
        struct timespec rest = {0, 1000000};
        rs_atomic_store(&rs_shared_is_ending, 1);
        while (rs_atomic_load(&rs_shared_reports))
            nanosleep(&rest, NULL);
    }
    static void rs_shared_after_fork(void) { rs_atomic_store(&rs_shared_reports, 0); }
    static void rs_shared_begin(void (*listener)(void))
    {
        rs_shared_listener = listener;
        rs_house_open(rs_shared_report);
        pthread_atfork(NULL, NULL, rs_shared_after_fork);
    }
    """
    rs_cell_head *rs_shared_entry(rs_region *, uint32_t) nogil
    uint64_t rs_shared_used(rs_region *) nogil
    uint64_t rs_shared_living(rs_region *) nogil
    int64_t rs_shared_leader(rs_region *, rs_role) nogil
    void rs_shared_begin(void (*)() noexcept)
    void rs_shared_end() nogil
    void rs_house_add(rs_mapping *) nogil
    void rs_house_remove(rs_mapping *) nogil

cdef rs_clock *_clock = rs_clock_import()
cdef object _listener = None
_opening = threading.Lock()
_open = {}          # (device, inode) to the region: a process opens a file once

TROUBLES = (None, "no_slot", "no_locks", "no_thread", "gone")
_REFUSALS = ("", "no_region", "foreign", "remote", "no_region", "other_time", "no_region", "unsupported")


class SharedFull(Exception):
    """There is no room in the region for one more policy."""


class NotShared(Exception):
    """
    A region cannot be used.

    Attributes:
        reason: One of "no_region", "foreign", "remote", "other_time", "unsupported".
    """

    def __init__(self, reason, text):
        super().__init__(text)
        self.reason = reason

    def __reduce__(self):
        return type(self), (self.reason, str(self))


cdef void _call_listener() noexcept with gil:
    if _listener is not None:
        _listener()


def on_trouble(listener):
    """Call `listener()` in a thread of its own whenever the trouble of a region has changed."""
    global _listener
    _listener = listener


def _end():
    with nogil:
        rs_shared_end()


cdef class Region:
    """
    Memory that processes share, or that this process has for itself; made by :meth:`open` or :meth:`private`.

    A process has a slot in it from its first shared call on, or from :meth:`join` on.
    """

    def __dealloc__(self):
        if self.mapping != NULL:
            rs_house_remove(self.mapping)
            rs_mapping_free(self.mapping)

    @staticmethod
    def open(path, uint64_t size, uint32_t workers=RS_WORKERS):
        """
        Return the region in the file *path*, which is made if there is none; the same object if it is open already.

        Args:
            path: Of the file.

            size: Bytes of a new one; 0: make none.

            workers: Slots to choose from, 1 to 64.

        Raises:
            NotShared: The file cannot be used, and why.
        """
        cdef rs_open_result result
        cdef Region region
        cdef bytes raw = os.fsencode(path)
        cdef int number
        with _opening:
            region = _opened(path)
            if region is not None:
                return region
            region = Region.__new__(Region)
            region.mapping = rs_mapping_open(raw, size, workers, &result)
            number = errno
            if region.mapping == NULL:
                raise NotShared(_REFUSALS[<int>result], _why(path, <int>result, number))
            _adopt(region)
            _open[region.mapping.device, region.mapping.inode] = region
        return region

    @staticmethod
    def private(uint64_t size=1 << 20, epoch_ns=None):
        """
        Return a region of this process alone, with a slot for it.

        Args:
            size: Bytes.

            epoch_ns: The time on resilio's clock since which its times are; None: now.
        """
        cdef Region region = Region.__new__(Region)
        cdef uint64_t key[RS_HASH_KEY]
        cdef int64_t now_ns = rs_clock_now(_clock)
        key[0], key[1] = seed64(), seed64()
        region.mapping = rs_mapping_private(size, now_ns if epoch_ns is None else epoch_ns, key)
        if region.mapping == NULL:
            raise MemoryError("no memory for a region")
        _adopt(region)
        _enter(region, region.member)
        return region

    def close(self):
        """
        Give back the slot and forget the file; cells may still be used, for themselves.

        Not for a region that other policies use.
        """
        with _opening:
            _open.pop((self.mapping.device, self.mapping.inode), None)
            with nogil:
                rs_house_remove(self.mapping)

    def cell(self, int kind, str name, bytes stock, uint64_t size, Member member=None):
        """
        Return the cell of this kind, name and stock, which is made if there is none.

        Args:
            kind: One of RS_CELL_LIMIT, ...

            name: Of the policy.

            stock: The options that define the stock, in canonical form. Others are another cell.

            size: Bytes of the body.

            member: Of a private region; None: this process's.

        Raises:
            SharedFull: There is no room for it.
        """
        cdef rs_cell_wanted wanted
        cdef rs_cell_head *found = NULL
        cdef Cell cell = Cell.__new__(Cell)
        cdef bytes called = name.encode("utf-8", "surrogatepass")
        wanted.kind, wanted.size = kind, size
        wanted.name, wanted.name_size = called, <uint32_t>len(called)
        wanted.stock, wanted.stock_size = stock, <uint32_t>len(stock)
        if rs_region_cell(self.mapping.region, &wanted, &found) != RS_CELL_FOUND:
            free = self.mapping.region.size - rs_shared_used(self.mapping.region)
            raise SharedFull(f"{name!r} needs {size} bytes, and the region has {free} of {self.mapping.size} left")
        cell.region, cell.kind, cell.name = self, kind, name
        cell.worker = self.member if member is None else member
        cell.body = rs_cell_body(found)
        cell.key = self.mapping.region.key
        cell.member = cell.worker.it
        return cell

    def join(self):
        """Return this process's member with a slot, as after its first shared call; of a private region a new one."""
        cdef Member member = self.member
        if self.mapping.path != NULL:
            rs_member_owner(member.it)
            return member
        member = Member.__new__(Member)
        member.region, member.it = self, &member.own
        member.own = self.mapping.member
        _enter(self, member)
        return member

    def reap(self):
        """Free what dead workers held, and return their number."""
        return rs_mapping_reap(self.mapping)

    @property
    def path(self):
        """The file's path; None for a private region."""
        return None if self.mapping.path == NULL else os.fsdecode(self.mapping.path)

    @property
    def size(self):
        """Bytes in all."""
        return self.mapping.size

    @property
    def used(self):
        """Bytes in use."""
        return rs_shared_used(self.mapping.region)

    @property
    def trouble(self):
        """Why this process does not share: "no_slot", "no_locks", "no_thread" or "gone"; None: it does, or may."""
        return TROUBLES[self.mapping.trouble]

    @property
    def reaped(self):
        """Dead workers that this process has found."""
        return self.mapping.reaped

    @property
    def leader(self):
        """The slot of the worker that learns for all; None if there is none."""
        slot = rs_shared_leader(self.mapping.region, RS_LEARNER)
        return None if slot < 0 else slot

    def workers(self):
        """Return (slot, process id, seconds since it came, seconds since it beat) of each worker that lives."""
        cdef int64_t now_ns = rs_clock_now(_clock) - self.mapping.member.epoch_ns
        cdef rs_worker *worker
        cdef uint64_t living = rs_shared_living(self.mapping.region)
        found = []
        for slot in range(RS_WORKERS):
            if living >> slot & 1 and self._lives(slot):
                worker = &self.mapping.region.worker[slot]
                since_ns, beat_ns = <int64_t>worker.since_ns, <int64_t>worker.beat_ns
                found.append((slot, worker.pid, (now_ns - since_ns) / 1e9, (now_ns - beat_ns) / 1e9))
        return found

    def _lives(self, uint32_t slot):
        cdef rs_member *me = &self.mapping.member
        is_mine = me.owner != 0 and me.slot == slot
        return is_mine or self.mapping.path == NULL or rs_slot_is_held(self.mapping.fd, slot)

    def cells(self):
        """Return (kind, name, stock, bytes) of each cell."""
        cdef rs_cell_head *cell
        found = []
        for i in range(RS_REGION_ENTRIES):
            cell = rs_shared_entry(self.mapping.region, i)
            if cell != NULL:
                name = cell.text[:cell.name_size].decode("utf-8", "surrogatepass")
                stock = cell.text[cell.name_size:cell.name_size + cell.stock_size]
                found.append((cell.kind, name, stock, cell.size))
        return found


cdef class Member:
    """A worker's place in a region: this process's, or one of several that a private region has."""

    @property
    def owner(self):
        """The owner word, 0 without a slot."""
        return self.it.owner

    @property
    def slot(self):
        """The number of the slot; None without one."""
        return self.it.slot if self.it.owner else None

    @property
    def peers(self):
        """The number of workers that live, at least 1."""
        return rs_member_peers(self.it)

    @property
    def leads(self):
        """True if this worker learns for all."""
        return rs_member_leads(self.it, RS_LEARNER)

    def beat(self):
        """Beat for the living process, and take the roles that no living one has; for a private region."""
        cdef int64_t now_ns = rs_clock_now(_clock)
        if self.it.owner and self.region.mapping.path == NULL:
            rs_atomic_store(&self.it.workers[self.it.slot].beat_ns, <uint64_t>(now_ns - self.it.epoch_ns))
            rs_member_take_roles(self.it, self.region.mapping.region, now_ns)

    def leave(self):
        """Give back the slot of a private region and all that it holds, as after the death of a process."""
        if self.it.owner and self.region.mapping.path == NULL:
            slot, self.it.owner = self.it.slot, 0
            rs_slot_clear(self.region.mapping.region, slot)
            self.region.members.remove(self)
            if self.region.members:
                _take_roles(self.region.members[0])


cdef class Cell:
    """The part of a region that one policy uses."""


def find(path):
    """Return the region in this file if this process has it open, else None."""
    return _opened(path)


cdef Region _opened(path):
    try:
        there = os.stat(path)
    except OSError:
        return None
    return _open.get((there.st_dev, there.st_ino))


cdef int _adopt(Region region) except -1:
    cdef Member member = Member.__new__(Member)
    member.region, member.it = region, &region.mapping.member
    region.member = member
    region.members = []
    rs_house_add(region.mapping)
    return 0


cdef int _enter(Region region, Member member) except -1:
    """Take a free slot of a private region."""
    cdef uint64_t living = rs_shared_living(region.mapping.region)
    for slot in range(RS_WORKERS):
        if not living >> slot & 1:
            rs_slot_enter(member.it, region.mapping.region, slot, member.it.epoch_ns)
            region.members.append(member)
            _take_roles(member)
            return 0
    raise SharedFull(f"all {RS_WORKERS} slots of the region are taken")


cdef int _take_roles(Member member) except -1:
    """Take the roles of a private region that no member has; none of them ever falls silent."""
    rs_member_take_roles(member.it, member.region.mapping.region, member.it.epoch_ns)
    return 0


cdef str _why(path, int result, int number):
    if result == 1:
        return f"{path}: {os.strerror(number)}"
    return f"{path}: " + (
        "",
        "",
        "not a regular file of this user that no other may write to",
        "on a network file system, or on one that is not known to be local",
        "no region of this version",
        "made in another time namespace",
        "replaced again and again",
        "this system has no shared memory that survives what processes do to it",
    )[result]


free_lock(sys.modules[__name__], "_opening")
rs_shared_begin(&_call_listener)
atexit.register(_end)
