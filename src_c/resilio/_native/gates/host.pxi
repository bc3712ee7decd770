"""
What all gates have in common that take permits from the host.

A gate owns its cell by a plain pointer. The garbage collector clears the references of a gate that is garbage before
the calls that it still guards have ended: they would give their permits back to memory that is gone. A cell refers to
no gate, so this hides no cycle.
"""

from cpython.object cimport PyObject
from cpython.ref cimport Py_INCREF, Py_XDECREF

from resilio._native.gate cimport RS_WAIT, rs_slot, rs_waiter
from resilio._native.shared cimport Cell


cdef enum:
    LEAST_ROOM = 64                                  # permits of a table at least


cdef uint32_t _room_for(int64_t permits) noexcept nogil:
    """The size of a table: a power of two, so that few changes of the number need another one."""
    cdef int64_t room = LEAST_ROOM
    while room < permits:
        room *= 2
    return <uint32_t>room


cdef rs_host *_host_of(Cell cell, rs_permits *permits, uint32_t room) except? NULL:
    """Return what a gate needs to take *permits*, which lie in the cell; NULL if there is no cell."""
    cdef rs_host *host
    if cell is None:
        return NULL
    host = rs_host_new(permits, cell.member, room)
    if host == NULL:
        raise MemoryError("no memory for the permits of the host")
    return host


cdef inline PyObject *_owned(Cell cell):
    if cell is None:
        return NULL
    Py_INCREF(cell)
    return <PyObject *>cell


cdef int _wait_in_queue(rs_host *host, rs_slot *slot, rs_waiter *waiter) noexcept nogil:
    """Let the queued call of *slot* be polled at its deadline or, for permits of a host, to ask for some."""
    slot.wake_ns = waiter.deadline_ns
    if host != NULL:
        rs_host_wait(host, slot, waiter)
    return RS_WAIT
