# cython: boundscheck=False, wraparound=False, cdivision=True
"""
Pools: the table of endpoints, the gate of each endpoint, and the stage that chooses one for a call.

In the flat array of gates a pool is its first stage, followed by one stage for each gate of an endpoint's own policy.
The first stage resolves to the *seat* of the endpoint that the pool has chosen: a gate that always admits, counts what
is in flight, and learns latencies and prices. The later stages resolve, by the seat, to that endpoint's own gates, as
those of a keyed policy do by the key. If one of these rejects the call, the engine gives back what the pool's stages
hold and asks the first one anew (core/engine/elsewhere.c).
"""

cimport cython
from cpython.exc cimport PyErr_SetInterrupt
from cpython.object cimport PyObject
from cpython.ref cimport Py_INCREF
from cpython.weakref cimport PyWeakref_NewRef
from libc.math cimport NAN
from libc.stdint cimport UINT32_MAX, int64_t, uint8_t, uint32_t, uint64_t

from resilio._native.clock cimport rs_clock, rs_clock_import, rs_clock_now
from resilio._native.gate cimport (
    RS_ADMITTED, RS_FAILURE, RS_MOST_PLACES, RS_REJECTED, RS_SEAT, RS_SUCCESS, rs_choice, rs_gate, rs_gate_add,
    rs_gate_change,
    rs_gate_ops, rs_lock, rs_lock_acquire, rs_lock_release, rs_rejection, rs_request, rs_slot, rs_warden,
)
from resilio._native.keyed cimport CallKey, Gate, KeyedGate, Pipeline, Table
from resilio._native.options cimport ns_of

import sys
import threading

from resilio._support.after_fork import free_lock
from resilio._support.random_seed import seed64

__all__ = ["PoolStage", "PoolTable", "Seat"]

cdef extern from "platform.h" nogil:
    uint32_t rs_process_id()

cdef extern from "rs_lock.h" nogil:
    void rs_lock_reset(rs_lock *)

cdef extern from "Python.h":
    PyObject *PyTuple_GET_ITEM(object, Py_ssize_t)

cdef extern from "pipeline.h" nogil:
    ctypedef struct rs_pipeline:
        rs_gate **gate
        int n

cdef extern from "pool.h" nogil:
    enum:
        RS_BY_LATENCY
        RS_BY_INFLIGHT
        RS_BY_ORDER
        RS_MOST_LEVELS
    double RS_POOL_PRICE
    ctypedef struct rs_seat:
        rs_gate *gate
        double latency_ns
        double good_ns
        int64_t joined_ns
        int64_t hold_ns
        int64_t look_ns
        double share
        double weight
        uint64_t name
        uint8_t place
        uint8_t level
        uint8_t zone
        uint8_t owes
        uint8_t failed
    ctypedef struct rs_levels:
        int n
        uint8_t load[RS_MOST_LEVELS]
    ctypedef struct rs_pool:
        rs_lock lock
        rs_seat *seat[RS_MOST_PLACES]
        uint64_t places
        uint64_t drained
        uint64_t ejected
        uint64_t due
        rs_levels levels
        int64_t look_ns
        double overprovision
        int64_t warm_up_ns
        uint64_t random
        uint8_t balance
        double max_ejected
        uint8_t spill
        uint64_t with_key
        uint64_t at_home
    double rs_peek(const double *)
    void rs_put(double *, double)
    void rs_seat_hold(rs_seat *, int64_t)
    void rs_seat_hold_refused(rs_seat *, int64_t)
    void rs_seat_charge(rs_seat *, double, int64_t)
    double rs_seat_left(const rs_seat *, int64_t)
    void rs_seat_count(rs_seat *, bint)
    void rs_seat_learn(rs_seat *, int, double, double, int64_t)
    double rs_pool_median(const rs_pool *)
    void rs_pool_unserved(const rs_pool *, rs_seat *, int64_t)
    double rs_pool_warmth(const rs_pool *, const rs_seat *, int64_t)
    bint rs_pool_set_share(rs_pool *, rs_seat *, double, int64_t, int64_t)
    void rs_pool_share_out(rs_pool *)
    rs_seat *rs_pool_to_look_at(rs_pool *, int64_t)
    rs_seat *rs_pool_draw(rs_pool *, int, uint64_t, int64_t)
    rs_seat *rs_pool_choose(rs_pool *, rs_choice *)

cdef extern from "pool_arrange.h" nogil:
    ctypedef struct rs_row:
        rs_seat *seat
        double weight
        int place, level, zone, drained
    void rs_pool_arrange(rs_pool *, const rs_row *, int)

cdef extern from "pool_eject.h" nogil:
    void rs_pool_count_failure(rs_pool *)
    void rs_pool_count_success(rs_pool *)
    bint rs_pool_may_eject(rs_pool *, const rs_seat *, int64_t)

cdef extern from "pool_untried.h" nogil:
    bint rs_pool_has_untried(const rs_pool *, const rs_choice *)

cdef rs_clock *_clock = rs_clock_import()
_lock = threading.RLock()               # of the lists of all tables: endpoints come and go
free_lock(sys.modules[__name__], "_lock")
cdef dict _BALANCES = {"latency": RS_BY_LATENCY, "inflight": RS_BY_INFLIGHT, "order": RS_BY_ORDER}

include "gates/pool_affinity.pxi"
include "gates/pool_seat.pxi"
include "gates/pool_table.pxi"
include "gates/pool_stage.pxi"
