"""
Regions of memory that the processes of a host share, and the cells in them.

A thin layer over the headers of src_c/algorithms/shared/: region.h (the parts of a region), mapping.h (this process's
slot in it), region_file.h (how a file is opened) and housekeeper.h (the thread). `resilio.sharing` is its public face.
"""

from libc.errno cimport errno
from libc.stdint cimport INT64_MAX, int64_t, uint32_t, uint64_t
from libc.stdlib cimport calloc, free

import atexit
import os
import sys
import threading

from resilio._support.random_seed import seed64

from resilio._native.clock cimport rs_clock, rs_clock_import, rs_clock_now

from resilio._support.after_fork import free_lock

__all__ = [
    "MONEY_CELL", "SPEND_CELL", "Cell", "Member", "NotShared", "Region", "SharedFull", "Taken", "Words", "find",
    "housekeeper", "on_trouble",
]

cdef extern from "shared/region_file.h" nogil:
    ctypedef struct rs_cell_wanted:
        uint32_t kind
        uint32_t name_size
        uint32_t stock_size
        uint64_t size
        const char *name
        const char *stock
        uint64_t leave
    ctypedef struct rs_cell_head:
        uint32_t kind
        uint32_t name_size
        uint32_t stock_size
        uint64_t size
        char *text
    ctypedef enum rs_cell_result:
        RS_CELL_FOUND
        RS_CELL_NO_ROOM
    ctypedef enum rs_open_result:
        RS_OPENED
    enum:
        RS_REGION_ENTRIES
    rs_cell_result rs_region_cell(rs_region *, const rs_cell_wanted *, rs_cell_head **)
    void *rs_cell_body(rs_cell_head *)
    uint64_t rs_region_size(rs_region *)
    bint rs_slot_is_held(int, uint32_t)
    void rs_atomic_store(uint64_t *, uint64_t)
    uint64_t rs_atomic_load(uint64_t *)
    uint64_t rs_atomic_add(uint64_t *, uint64_t)
    void rs_slot_enter(rs_member *, rs_region *, uint32_t, int64_t)
    void rs_slot_clear(rs_region *, uint32_t)
    void rs_member_take_roles(rs_member *, rs_region *, int64_t)
    uint32_t rs_mapping_reap(rs_mapping *)
    void rs_mapping_free(rs_mapping *)
    rs_mapping *rs_mapping_open(const char *, uint64_t, uint32_t, rs_open_result *)
    rs_mapping *rs_mapping_private(uint64_t, int64_t, const uint64_t *)

cdef extern from "shared/limit.h" nogil:
    ctypedef uint64_t rs_word64
    uint64_t rs_word_load "rs_atomic_load"(rs_word64 *)
    void rs_word_store "rs_atomic_store"(rs_word64 *, uint64_t)
    uint64_t rs_word_add "rs_atomic_add"(rs_word64 *, uint64_t)
    uint64_t rs_word_sub "rs_atomic_sub"(rs_word64 *, uint64_t)
    bint rs_word_swap "rs_atomic_swap"(rs_word64 *, uint64_t *, uint64_t)
    bint rs_word_move(rs_word64 *, uint64_t, int64_t, int64_t, int64_t)

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

    static int rs_shared_grow(rs_mapping *mapping, uint64_t more)
    {
        rs_mutex_lock(&rs_house.lock); /* of the descriptor */
        int grown = rs_mapping_grow(mapping, more);
        rs_mutex_unlock(&rs_house.lock);
        return grown;
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
        rs_atomic_store(&rs_shared_is_ending, 1);
        while (rs_atomic_load(&rs_shared_reports))
            rs_rest_ns(1000000);
    }
    static void rs_shared_after_fork(void) { rs_atomic_store(&rs_shared_reports, 0); }
    static void rs_shared_begin(void (*listener)(void))
    {
        rs_shared_listener = listener;
        rs_house_open(rs_shared_report);
        rs_at_fork(NULL, NULL, rs_shared_after_fork);
    }
    """
    rs_cell_head *rs_shared_entry(rs_region *, uint32_t) nogil
    uint64_t rs_shared_used(rs_region *) nogil
    uint64_t rs_shared_living(rs_region *) nogil
    int64_t rs_shared_leader(rs_region *, rs_role) nogil
    void rs_shared_begin(void (*)() noexcept)
    void rs_shared_end() nogil
    unsigned long rs_house_ident() nogil
    void rs_house_add(rs_mapping *) nogil
    void rs_house_remove(rs_mapping *) nogil
    bint rs_shared_grow(rs_mapping *, uint64_t) nogil

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


def housekeeper():
    """
    Return the identifier of the native thread that looks after regions; 0: it does not run.

    Python lists it among its threads once it has reported, and it never waits for a lock of Python's.
    """
    cdef unsigned long ident
    with nogil:
        ident = rs_house_ident()
    return ident


def _end():
    with nogil:
        rs_shared_end()


include "shared_region.pxi"
include "shared_member.pxi"
include "shared_taken.pxi"


include "shared_cell.pxi"


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
