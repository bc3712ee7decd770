# cython: auto_pickle=False
"""The fallback stage: targets for calls whose function has failed; `resilio._policies.fallback` is its public face."""

from cpython.exc cimport PyErr_SetInterrupt
from cpython.object cimport PyObject
from cpython.pycapsule cimport PyCapsule_GetPointer
from cpython.ref cimport Py_INCREF, Py_XDECREF
from libc.stdint cimport int64_t, uint64_t
from libc.string cimport memset

from resilio._native.gate cimport (
    Gate, RS_FAILURE, RS_FALLBACK, RS_NEVER, RS_NO_LATENCY, RS_NO_START, RS_OF_STREAM, RS_SUCCESS, rs_gate, rs_gate_ops,
    rs_is_unserved, rs_lock_acquire, rs_lock_release, rs_request, rs_slot,
)
from resilio._native.options cimport ns_of
from resilio._native.strategy cimport RS_CALL, RS_PASS, rs_core_api, rs_end, rs_strategy_ops

from resilio._events import log as _log
from resilio._native import core
from resilio._failures.notes import note_failure as add_note, put_after
from resilio._failures.replayable import HINT, used_up


# ---- operations called by the core -----------------------------------------------------------------------------

cdef int fallback_ended(rs_gate *gate, rs_slot *slot, rs_end *end) noexcept:
    try:
        return (<FallbackGate><object><PyObject *>gate).ended(slot, end)
    except KeyboardInterrupt:
        PyErr_SetInterrupt()            # again, at the next safe point
    except BaseException:
        say_failed("a fallback failed to decide: what there is goes on")
    return RS_PASS


cdef int passed(object error, rs_end *end) noexcept:
    """Let the end go on. An execution that raises is no success, even if its exception leads to no target."""
    if error is not None and end.outcome == RS_SUCCESS:
        end.outcome = RS_FAILURE
    return RS_PASS


cdef int fallback_pristine(rs_gate *gate, int64_t now) noexcept nogil:
    """Return True: the public face checks for resting targets."""
    return True


cdef rs_strategy_ops fallback_strategy
memset(&fallback_strategy, 0, sizeof(fallback_strategy))
fallback_strategy.ended = fallback_ended

cdef const char *fallback_reasons[1]
fallback_reasons[:] = [NULL]
cdef rs_gate_ops fallback_ops
memset(&fallback_ops, 0, sizeof(fallback_ops))
fallback_ops.kind = "fallback"
fallback_ops.segment = RS_FALLBACK
fallback_ops.error = "ResilienceError"
fallback_ops.reasons = fallback_reasons
fallback_ops.strategy = &fallback_strategy
fallback_ops.pristine = fallback_pristine


# ---- one call that falls back ----------------------------------------------------------------------------------

cdef class Target:
    """
    An alternative to the primary, and the counters of its results.

    Args:
        function: A function of the primary's arguments; or the handler, which takes the primary's exception.

        name: Its name in notes and snapshots.

        is_async: Whether it is a coroutine function.
    """

    cdef readonly object function
    cdef readonly str name
    cdef readonly bint is_async
    cdef readonly uint64_t answered
    cdef readonly uint64_t failed
    cdef int64_t rests_until_ns             # after a recent failure; 0: none

    def __init__(self, object function, str name, bint is_async):
        self.function = function
        self.name = name
        self.is_async = is_async


cdef class _FallbackOptions:
    """The options of one `configure`; a call that falls back keeps them to its end."""

    cdef tuple targets
    cdef Target handler                     # or None
    cdef object default
    cdef bint has_default
    cdef object replayable                  # whether arguments may be passed again; None: by inspection
    cdef int64_t memory_ns


cdef class _Trial:
    """One call of a failed function, on its way through the targets."""

    cdef _FallbackOptions options
    cdef object error                       # the primary's; None: it returned `value`
    cdef object value
    cdef list ahead                         # targets still to be tried, the next one last
    cdef list failures                      # (target's name, its exception, or None if it returned a failure)
    cdef Target current                     # in progress; None: the default
    cdef bint spent                         # the arguments have been used
    cdef str one_shot                       # a stream's argument that is used up; empty: none may be passed again


# ---- the stage -------------------------------------------------------------------------------------------------

cdef class FallbackGate(Gate):
    """Takes failed calls to its targets in order; targets that failed recently come last."""

    cdef _FallbackOptions options
    cdef uint64_t fell_back
    cdef uint64_t defaulted
    cdef uint64_t exhausted

    def __cinit__(self, *args, **options):
        self.ops = &fallback_ops
        self.timeless = RS_NO_START | RS_NO_LATENCY

    def __init__(self, config, tuple targets, Target handler):
        """Make a fallback with the options of :meth:`configure`."""
        self.configure(config, targets, handler)

    def configure(self, config, tuple targets, Target handler):
        """
        Take all options; calls that are falling back go on with the old ones.

        Args:
            config: A `FallbackConfig`.

            targets: A Target for each of its functions, in order.

            handler: A Target for its handler, which takes the primary's exception; or None.
        """
        cdef _FallbackOptions options = _FallbackOptions.__new__(_FallbackOptions)
        cdef rs_gate *gate = <rs_gate *><PyObject *>self
        options.targets = targets
        options.handler = handler
        options.default = config.default
        options.has_default = config.has_default
        options.replayable = config.replayable
        options.memory_ns = ns_of(config.memory)
        before = self.options               # released after the lock
        rs_lock_acquire(&gate.lock)
        self.options = options
        rs_lock_release(&gate.lock)

    cdef int ended(self, rs_slot *slot, rs_end *end) except -1:
        cdef object error = None if end.error == NULL else <object>end.error
        cdef _Trial trial
        if error is not None and not isinstance(error, Exception):
            return RS_PASS
        if slot.extra != NULL:
            return self.tried(<_Trial><object>slot.extra, error, end)
        if not rs_is_unserved(end.outcome):
            return passed(error, end)
        trial = self.begin(error, None if end.value == NULL else <object>end.value, _one_shot_of(slot), end)
        Py_INCREF(trial)
        slot.extra = <PyObject *>trial
        return self.go_on(trial, end)

    cdef int count(self, uint64_t *counter) except -1:
        cdef rs_gate *gate = <rs_gate *><PyObject *>self
        rs_lock_acquire(&gate.lock)
        counter[0] += 1
        rs_lock_release(&gate.lock)
        return 0

    cdef _FallbackOptions current(self):
        """The present options, which another thread may replace."""
        cdef rs_gate *gate = <rs_gate *><PyObject *>self
        rs_lock_acquire(&gate.lock)
        options = self.options
        rs_lock_release(&gate.lock)
        return options

    cdef bint rests(self, Target target, int64_t memory_ns, int64_t now_ns) except -1:
        """
        Return True if the target failed recently.

        A rest longer than the memory does not count: the clock has jumped, or the memory changed.
        """
        cdef rs_gate *gate = <rs_gate *><PyObject *>self
        rs_lock_acquire(&gate.lock)
        cdef int64_t until = target.rests_until_ns
        rs_lock_release(&gate.lock)
        return 0 < until - now_ns <= memory_ns

    cdef _Trial begin(self, object error, object value, str one_shot, rs_end *end):
        cdef _Trial trial = _Trial.__new__(_Trial)
        cdef list ready = [], resting = []
        cdef Target target
        self.count(&self.fell_back)
        trial.options = self.current()
        for target in trial.options.targets:
            (resting if self.rests(target, trial.options.memory_ns, end.now_ns) else ready).append(target)
        trial.error, trial.value, trial.failures = error, value, []
        trial.ahead = (ready + resting)[::-1]
        trial.spent = end.called != 0
        trial.one_shot = one_shot
        return trial

    cdef int tried(self, _Trial trial, object error, rs_end *end) except -1:
        """Learn from the end of the current target or the handler, and choose the next step."""
        cdef rs_gate *gate = <rs_gate *><PyObject *>self
        cdef bint failed = rs_is_unserved(end.outcome) or error is not None
        cdef Target target = trial.current
        if target is None:                  # a stream of the default's items
            return RS_PASS
        rs_lock_acquire(&gate.lock)
        if failed:
            target.failed += 1
            target.rests_until_ns = end.now_ns + trial.options.memory_ns if rs_is_unserved(end.outcome) else 0
        else:
            target.answered += 1
            target.rests_until_ns = 0
        rs_lock_release(&gate.lock)
        if target is trial.options.handler or not rs_is_unserved(end.outcome):
            if error is not None:
                put_after(error, trial.error)
            return passed(error, end)
        trial.failures.append((target.name, error))
        return self.go_on(trial, end)

    cdef int go_on(self, _Trial trial, rs_end *end) except -1:
        if trial.ahead and not self.may_call(trial, end):
            trial.ahead.clear()
        if trial.ahead:
            return self.call(trial, trial.ahead.pop(), None, end)
        if trial.options.handler is not None:
            return self.call(trial, trial.options.handler, trial.value if trial.error is None else trial.error, end)
        if trial.options.has_default:
            self.count(&self.defaulted)
            trial.current = None
            end.outcome = RS_SUCCESS
            self.replace(end, trial.options.default, None)
            return RS_PASS
        self.count(&self.exhausted)
        for name, error in trial.failures:
            add_note(trial.error, name, error)
        self.replace(end, trial.value, trial.error)
        end.outcome = RS_FAILURE
        return RS_PASS

    cdef bint may_call(self, _Trial trial, rs_end *end) except -1:
        """Return True if there is time left for a target, and the arguments are not used up."""
        if end.deadline_ns <= end.now_ns:
            trial.failures.append(("targets", "not called: the deadline has passed"))
            return False
        name = self.used_up(trial, end) if trial.spent else None
        if name is not None:
            why = f"{name} can be used only once, and has been; {HINT}" if name else "replayable=... says no"
            trial.failures.append(("targets", f"not called: {why}"))
            return False
        return True

    cdef str used_up(self, _Trial trial, rs_end *end):
        """Return why the arguments must not be passed again, as `resilio._failures.replayable.used_up`."""
        cdef const rs_request *request = end.request
        rule = trial.options.replayable
        if request == NULL or rule is True or (rule is None and api.replayable(request, end.func, 0)):
            return trial.one_shot
        names = <tuple>request.kwnames if request.kwnames != NULL else ()
        return used_up(
            self, rule, <object>end.func if end.func != NULL else None,
            [<object>request.args[at] for at in range(request.nargs)],
            {name: <object>request.args[request.nargs + at] for at, name in enumerate(names)},
        )

    cdef int call(self, _Trial trial, Target target, object argument, rs_end *end) except -1:
        if target.is_async and end.call == NULL:
            error = TypeError(f"fallback to {target.name}, which is async, from a call that is not")
            put_after(error, trial.error)
            self.replace(end, None, error)
            return RS_PASS
        trial.current = target
        trial.spent = True
        Py_INCREF(target.function)
        end.target = <PyObject *>target.function
        if target is trial.options.handler:
            Py_INCREF(argument)
            end.argument = <PyObject *>argument
        return RS_CALL

    cdef int replace(self, rs_end *end, object value, object error) except -1:
        """Go on outward with the value, or else the error."""
        if error is None:
            Py_INCREF(value)
        else:
            Py_INCREF(error)
        Py_XDECREF(end.value)
        Py_XDECREF(end.error)
        end.value = <PyObject *>value if error is None else NULL
        end.error = NULL if error is None else <PyObject *>error
        return 0

    @property
    def replayable(self):
        """Whether arguments may be passed again: a bool, a function of them, or None to inspect them."""
        return self.current().replayable

    def resting(self, int64_t now_ns):
        """Return for each target, in order, whether it is tried last because it failed recently."""
        cdef _FallbackOptions options = self.current()
        return [self.rests(target, options.memory_ns, now_ns) for target in options.targets]

    def forget_failures(self):
        """Forget the failures of all targets."""
        cdef rs_gate *gate = <rs_gate *><PyObject *>self
        cdef Target target
        for target in self.current().targets:
            rs_lock_acquire(&gate.lock)
            target.rests_until_ns = 0
            rs_lock_release(&gate.lock)

    def stream(self, make):
        """Return a stream that is begun at a target if it fails before its first item."""
        return core.hook("redirected")(self, make)

    def astream(self, make):
        """Return an async stream that is begun at a target if it fails before its first item."""
        return core.hook("aredirected")(self, make)

    @property
    def fallback_counters(self):
        """The number of calls whose primary failed, that got the default, and that had no target left."""
        return self.fell_back, self.defaulted, self.exhausted


include "fallback_passage.pxi"
