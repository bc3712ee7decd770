"""
A policy for each key: the table of keys, the stage that finds a call's own gate in it, and sums over many gates.

A look-up takes no lock. A change of the table holds one lock for all tables, and calls no factory meanwhile.

The table owns the policies by key. Entries and gates refer to their policy weakly, and a call holds the policy of its
key. So a policy that the table drops dies, unless a caller still has it: then it is put back. A key leaves the table
only if its policy equals a new one and dies.
"""

cimport cython
from cpython.exc cimport PyErr_SetInterrupt
from cpython.object cimport PyObject
from cpython.ref cimport Py_DECREF, Py_INCREF
from cpython.weakref cimport PyWeakref_NewRef
from libc.stdint cimport int64_t, uint32_t, uint64_t
from libc.stdlib cimport malloc
from libc.string cimport memset

from resilio._native.clock cimport rs_clock, rs_clock_import, rs_clock_now
from resilio._native.gate cimport (
    rs_counters, rs_counters_add, rs_gate, rs_gate_add, rs_gate_ops, rs_lock_acquire, rs_lock_release, rs_request,
)
from resilio._native.options cimport ns_of
from resilio._native.primitives cimport (
    histogram_adopt, rs_histogram as rs_latencies, rs_histogram_free, rs_histogram_init, rs_histogram_merge,
)

import sys
import threading
from time import sleep

from resilio._support.after_fork import free_lock

__all__ = ["ByKey", "CallKey", "Entry", "KeyedGate", "KeyedTable", "News", "Sums"]

cdef extern from "Python.h":
    object PyObject_Vectorcall(object, PyObject *const *, size_t, PyObject *)
    PyObject *PyTuple_GET_ITEM(object, Py_ssize_t)

cdef extern from *:
    """
    #include <Python.h>
    static inline int rs_dict_find(PyObject *dict, PyObject *key, PyObject **found)    /* -1: the key raises */
    {
    #if PY_VERSION_HEX >= 0x030D0000
        return PyDict_GetItemRef(dict, key, found);
    #else
        *found = Py_XNewRef(PyDict_GetItemWithError(dict, key));
        return *found ? 1 : PyErr_Occurred() ? -1 : 0;
    #endif
    }
    #define rs_count(field) ((void)__atomic_fetch_add(&(field), 1, __ATOMIC_RELAXED))    /* one more, in any thread */
    static inline PyObject **rs_items_of(PyObject *tuple) { return ((PyTupleObject *)tuple)->ob_item; }
    """
    int rs_dict_find(object, object, PyObject **) except -1
    PyObject **rs_items_of(object)
    void rs_count(uint64_t)

cdef rs_clock *_clock = rs_clock_import()
cdef enum:
    TICKS = 256                 # look-ups between two visits of the clock hand
    STEPS = 8                   # entries visited to make room for a key: O(1) in a table of any size
    MOST_FUNCTIONS = 1000       # whose parameter is cached
    SLICE = 1000                # gates read at a stretch, about 0.3 ms

_lock = threading.RLock()       # reentrant: a key's __eq__ may look up another key


free_lock(sys.modules[__name__], "_lock")


include "keyed_entry.pxi"


include "keyed_key.pxi"
include "keyed_table.pxi"


cdef class ByKey:
    """Base class that finds policies in its `_table` by subscription, without a Python frame."""

    def __getitem__(self, key):
        """Return the policy of this key, made if there is none; the shared one if there is no room."""
        return (<KeyedTable?>self._table).policy(key)


cdef int forget(Entry entry) except -1:
    """Cut the reference cycles of the entry, so that unused objects are freed at once."""
    for gate in entry.gates:
        gate.entry = None
    return 0


cdef inline Entry entry_at(rs_gate *gate):
    """The entry of a key's gate, or None; another thread may be about to forget it."""
    rs_lock_acquire(&gate.lock)
    cdef Entry entry = None if gate.entry == NULL else <Entry><PyObject *>gate.entry
    rs_lock_release(&gate.lock)
    return entry


include "keyed_stage.pxi"
include "keyed_sums.pxi"
