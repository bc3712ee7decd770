"""Gates that are no pattern: a gate written in Python, and the door of a pipeline."""

from cpython.exc cimport PyErr_Fetch, PyErr_Restore, PyErr_SetInterrupt
from cpython.ref cimport Py_DECREF, Py_INCREF, PyObject
from libc.math cimport NAN
from libc.stdint cimport int64_t, uint8_t
from libc.stdlib cimport calloc
from libc.string cimport memset

from resilio._native.primitives cimport (
    histogram_adopt, rs_histogram, rs_histogram_copy, rs_lock_acquire, rs_lock_release,
)

from resilio._events import log as _log
from resilio._native import core as _core
from resilio._failures.outcome import Outcome

__all__ = ["DoorGate", "GateCall", "PythonGate", "latency_of"]

cdef int MOST_KINDS = 16    # the core keeps derived data for at most 64 kinds, its own included


def latency_of(Gate gate not None):
    """Return a copy of the latencies of a gate's successes and failures, as a LatencyHistogram."""
    cdef rs_histogram copy
    rs_lock_acquire(&gate.lock)
    cdef int failed = rs_histogram_copy(&copy, &gate.latency)
    rs_lock_release(&gate.lock)
    if failed:
        raise MemoryError("no memory for a copy of the latencies")
    return histogram_adopt(&copy)


# ---- the door of a pipeline: counts the calls inside, and can be shut ------------------------------------------

cdef const char *door_reasons[2]
door_reasons[:] = ["draining", NULL]
cdef const char *door_states[4]
door_states[:] = ["serving", "draining", "drained", NULL]


cdef int door_admit(rs_gate *gate, rs_slot *slot, const rs_request *request, int64_t now,
                    rs_rejection *why) noexcept nogil:
    if (<rs_door *>gate).state == SERVING:
        return RS_ADMITTED
    why.reason = 0
    why.measured = why.limit = NAN
    why.retry_after_ns = -1
    return RS_REJECTED


cdef void door_gone(rs_gate *gate, int64_t now) noexcept nogil:
    """Note that a call has left; the core has updated the counters already."""
    if (<rs_door *>gate).state == DRAINING and gate.counters.inflight == 0:
        (<rs_door *>gate).state = DRAINED
        rs_gate_change(gate, DRAINING, DRAINED, 0, now)


cdef void door_cancel(rs_gate *gate, rs_slot *slot, int64_t now) noexcept nogil:
    door_gone(gate, now)


cdef void door_settle(rs_gate *gate, rs_slot *slot, int outcome, int64_t latency, int64_t now) noexcept nogil:
    door_gone(gate, now)


cdef void door_forget(rs_gate *gate, int64_t now) noexcept nogil:
    door_gone(gate, now)


cdef int door_pristine(rs_gate *gate, int64_t now) noexcept nogil:
    return (<rs_door *>gate).state == SERVING


cdef rs_gate_ops door_ops
memset(&door_ops, 0, sizeof(door_ops))
door_ops.kind = "pipeline"
door_ops.error = "RejectedError"
door_ops.reasons = door_reasons
door_ops.states = door_states
door_ops.admit = door_admit
door_ops.cancel = door_cancel
door_ops.settle = door_settle
door_ops.forget = door_forget
door_ops.pristine = door_pristine


cdef class DoorGate(Gate):
    """The outermost gate of a pipeline: counts the calls inside and, once shut, rejects new ones."""

    def __cinit__(self):
        cdef rs_door *seen = <rs_door *><PyObject *>self
        if <void *>&seen.state != <void *>&self.door:
            raise SystemError("resilio._native.custom was built against another gate.h")
        self.ops = &door_ops
        self.door = SERVING

    @property
    def state(self):
        """"serving", "draining" (shut, with calls inside) or "drained"."""
        return ("serving", "draining", "drained")[self.door]

    def shut(self, int64_t now_ns):
        """Reject new calls from now on; return the number of calls inside."""
        rs_lock_acquire(&self.lock)
        if self.door == SERVING:
            self.door = DRAINING
            rs_gate_change(<rs_gate *><PyObject *>self, SERVING, DRAINING, 0, now_ns)
        door_gone(<rs_gate *><PyObject *>self, now_ns)
        inside = self.counters.inflight
        rs_lock_release(&self.lock)
        return inside

    def open(self, int64_t now_ns):
        """Admit calls again."""
        rs_lock_acquire(&self.lock)
        if self.door != SERVING:
            rs_gate_change(<rs_gate *><PyObject *>self, <uint8_t>self.door, SERVING, 0, now_ns)
            self.door = SERVING
        rs_lock_release(&self.lock)


# ---- a gate written in Python ----------------------------------------------------------------------------------

cdef class GateCall:
    """
    The call as a gate written in Python sees it.

    Attributes:
        args: The positional arguments of the call.

        kwargs: The keyword arguments of the call.

        data: Free for the gate's own use until the call ends.
    """

    def __repr__(self):
        return f"<{type(self).__name__}>"   # without the arguments, which may be secret


cdef GateCall call_of(const rs_request *request):
    cdef PyObject *const *values = <PyObject *const *>request.args
    cdef GateCall call = GateCall.__new__(GateCall)
    cdef Py_ssize_t i
    call.args = tuple([<object>values[i] for i in range(request.nargs)])
    call.kwargs = {}
    if request.kwnames is not NULL:
        for i, name in enumerate(<tuple><PyObject *>request.kwnames):
            call.kwargs[name] = <object>values[request.nargs + i]
    return call


cdef PythonGate gate_of(rs_gate *gate):
    return <PythonGate><PyObject *>gate


cdef bint enforced(rs_gate *gate) noexcept:
    """Return True if this rejection applies; count it if not. The core has released the lock."""
    rs_lock_acquire(&gate.lock)
    cdef bint yes = rs_gate_enforced(gate)
    gate.counters.would_reject += not yes
    rs_lock_release(&gate.lock)
    return yes


cdef int python_admit(rs_gate *gate, rs_slot *slot, const rs_request *request, int64_t now, rs_rejection *why) noexcept:
    cdef PythonGate self = gate_of(gate)
    slot.custom.call = NULL
    try:
        call = call_of(request)
        rejection = self.target.admit(call)
        if rejection is not None:
            self.explain(rejection, why)
            if enforced(gate):
                return RS_REJECTED
            if not self.own:
                slot.state = RS_SLOT_SHADOW
                return RS_ADMITTED
        Py_INCREF(call)
        slot.custom.call = <PyObject *>call
    except BaseException as error:
        self.failed("admit", error)
    return RS_ADMITTED


cdef object taken(rs_slot *slot):
    """Take the call that `admit` left in the slot; None if there is none."""
    if slot.custom.call == NULL:
        return None
    call = <object>slot.custom.call
    slot.custom.call = NULL
    Py_DECREF(call)
    return call


cdef void end_call(rs_gate *gate, rs_slot *slot, int outcome, int64_t latency) noexcept:
    """Settle a call, or cancel it if *outcome* is -1; may run in a finaliser, while another exception propagates."""
    cdef PyObject *kind
    cdef PyObject *value
    cdef PyObject *traceback
    cdef PythonGate self = gate_of(gate)
    PyErr_Fetch(&kind, &value, &traceback)
    try:
        call = taken(slot)
        if call is not None and outcome >= 0:
            self.target.settle(call, Outcome(outcome), latency / 1e9)
        elif call is not None and self.cancels is not None:
            self.cancels(call)
    except BaseException as error:
        self.failed("settle" if outcome >= 0 else "cancel", error)
    PyErr_Restore(kind, value, traceback)


cdef void python_settle(rs_gate *gate, rs_slot *slot, int outcome, int64_t latency, int64_t now) noexcept:
    end_call(gate, slot, outcome, latency)


cdef void python_cancel(rs_gate *gate, rs_slot *slot, int64_t now) noexcept:
    end_call(gate, slot, -1, 0)


cdef list known_kinds = []      # (what makes them different, address of the operations, the strings they point to)


cdef int own_pristine(rs_gate *gate, int64_t now) noexcept nogil:
    return True                                 # the policy's own `_is_new` knows


cdef int own_is_shared(const rs_gate *gate) noexcept:
    return (<PythonGate><PyObject *>gate).shared


cdef const rs_gate_ops *ops_of(str kind, tuple reasons, str error, bint own) except NULL:
    """The operations for this kind and these reasons, made once: the core identifies a kind by their address."""
    cdef rs_named_ops *made
    for known, address, _ in known_kinds:
        if known == (kind, reasons, error, own):
            return &(<rs_named_ops *><size_t>address).ops
    if len(known_kinds) == MOST_KINDS:
        raise ValueError(f"kind: at most {MOST_KINDS} kinds of custom gates in a process, and {kind!r} is one more")
    if not 1 <= len(reasons) <= RS_REASONS:
        raise ValueError(f"reasons: from 1 to {RS_REASONS}, not {reasons!r}")
    made = <rs_named_ops *>calloc(1, sizeof(rs_named_ops))
    if made is NULL:
        raise MemoryError()
    strings = [text.encode() for text in (kind, *reasons, error)]
    made.ops.kind = <const char *>strings[0]
    for i in range(len(reasons)):
        made.reasons[i] = <const char *>strings[i + 1]
    made.ops.reasons = made.reasons
    made.ops.error = <const char *>strings[-1]
    made.ops.python = 1
    made.ops.admit = python_admit  # the core holds the GIL when it calls these
    made.ops.settle = python_settle
    made.ops.cancel = python_cancel
    if own:
        made.ops.pristine = own_pristine
        made.ops.is_shared = own_is_shared
    known_kinds.append(((kind, reasons, error, own), <size_t>made, strings))
    return &made.ops


def _log_failure(failure):
    _log.gate_failed(*failure)


cdef class PythonGate(Gate):
    """
    The native side of a gate written in Python: exceptions of its methods are counted and never reach a call.

    Args:
        target: The object with `admit`, `settle` and perhaps `cancel`.

        kind: The kind of gate, for metrics, logs and rejections.

        reasons: Its closed set of reasons, 1 to 16; the first replaces a reason that is not in the set.

        error: The name of the exception in `resilio.errors` that a rejected call gets.

        own: True for a gate of a policy of the library, whose `_is_new` knows whether it is as new. It also learns the
            end of the calls that it rejected and shadow mode let pass.

    Attributes:
        errors: The number of exceptions that methods of the target raised.

        shared: Which processes have what rejects a call together: 0: this one alone, 1: those of the host, 2: those of
            a fleet; of an own gate.
    """

    def __cinit__(self, object target, str kind not None, tuple reasons not None, str error="RejectedError",
                  bint own=False):
        self.ops = ops_of(kind, reasons, error, own)
        self.own = own
        self.target = target
        self.cancels = getattr(target, "cancel", None)
        self.reasons = reasons

    cdef int explain(self, object rejection, rs_rejection *why) except -1:
        """Convert the target's answer for the core; raises unless it is a Reject, and then the call is admitted."""
        why.measured = NAN if rejection.measured is None else rejection.measured
        why.limit = NAN if rejection.limit is None else rejection.limit
        why.retry_after_ns = -1 if rejection.retry_after is None else <int64_t>(<double>rejection.retry_after * 1e9)
        why.reason = self.reasons.index(rejection.reason) if rejection.reason in self.reasons else 0
        return 0

    cdef void failed(self, str method, object error) noexcept:
        """Count an exception of the target and log the first, later: a finaliser may end a call."""
        self.errors += 1
        try:
            if isinstance(error, KeyboardInterrupt):
                PyErr_SetInterrupt()
            elif self.errors == 1:
                _core.defer(_log_failure, (self.kind, self.name, method, error))
        except BaseException:
            pass
