"""
Retry scopes that cannot be read off the chain of calls: of blocks, and of what an attempt has started in other tasks.

A part of retry.pyx. A scope is the value of a context variable, written only by a retry that acts: by a block that it
runs, and by its second attempt. While no scope is alive, nobody looks.
"""

cdef extern from *:
    """
    static int64_t rs_scopes;       /* alive in the process; several threads change it at once where there is no GIL */
    #define rs_scopes_add(n) ((void)__atomic_add_fetch(&rs_scopes, (n), __ATOMIC_ACQ_REL))
    #define rs_scopes_alive() (__atomic_load_n(&rs_scopes, __ATOMIC_RELAXED) != 0)
    """
    void rs_scopes_add(int) nogil
    bint rs_scopes_alive() nogil

cdef object _variable = _context.retry_scope
cdef rs_lock _outer_lock                # every read and write of a scope's `outer`: other threads may walk through it


@cython.final
@cython.trashcan(True)
cdef class Scope:
    """One retry under way: whose it is, and who pays for retries inside of it."""

    cdef RetryGate gate
    cdef RetryBudget payer              # None: retries are free there
    cdef Scope outer                    # the nearest one outside that holds; None
    cdef object generator               # weak reference: holds only while this one runs; None: always
    cdef object token
    cdef bint closed
    cdef bint over                      # closed for good: the call that it was of is gone

    def __cinit__(self):
        rs_scopes_add(1)

    def __dealloc__(self):
        rs_scopes_add(-1)

    cdef bint holds(self) except -1:
        if self.closed:
            return False
        if self.generator is None:
            return True
        generator = self.generator()
        return generator is not None and bool(
            generator.gi_running if hasattr(generator, "gi_running") else generator.ag_running
        )

    cdef Scope outside(self):
        rs_lock_acquire(&_outer_lock)
        outer = self.outer
        rs_lock_release(&_outer_lock)
        return outer

    cdef int link(self, Scope outer) except -1:
        rs_lock_acquire(&_outer_lock)
        before, self.outer = self.outer, outer          # `before` goes after the lock: its end may run anything
        rs_lock_release(&_outer_lock)
        return 0

    cdef int open(self) except -1:
        """Have all see it that is called, or started, from here on."""
        self.closed = False
        if self.token is None or _value() is not self:      # else a token would lead back to the scope itself, for good
            self.token = PyContextVar_Set(_variable, self)
        return 0

    cdef int close(self) except -1:
        """Whoever has inherited it sees it no more, in whatever context."""
        self.closed = True
        self.link(_not_closed(self.outside()))          # so that a chain has only scopes that were open at once
        token, self.token = self.token, None
        if token is not None and _value() is self:
            try:
                _variable.reset(token)
            except ValueError:          # a copy of the context that it was set in: closed is enough
                pass
        return 0

    cdef int end(self) except -1:
        """Close it for good, also where an interrupt came before `close`. A context that still has it, lets go of it."""
        self.close()
        self.over = True
        _still_set()
        return 0


cdef object _value():
    cdef PyObject *found = NULL
    PyContextVar_Get(_variable, NULL, &found)
    if found == NULL:
        return None
    value = <object>found
    Py_DECREF(value)
    return value


cdef Scope _still_set():
    """The scope that is set here, or None. One that is over is taken out: it would be kept, and looked at, for ever."""
    value = _value()
    cdef Scope scope = value if isinstance(value, Scope) else None
    if scope is not None and scope.over:
        scope = _not_closed(scope)
        PyContextVar_Set(_variable, scope)
    return scope


cdef Scope _visible(Scope own):
    """The nearest scope here that is not *own*, or None."""
    if not rs_scopes_alive():
        return None
    cdef Scope scope = _still_set()
    while scope is not None and (scope is own or not scope.holds()):
        scope = scope.outside()
    return scope


cdef Scope _not_closed(Scope scope):
    while scope is not None and scope.closed:
        scope = scope.outside()
    return scope


cdef bint _would_any(Scope scope, object error) except -1:
    """Is one of these retries one for what has failed inside?"""
    while scope is not None:
        if scope.holds() and scope.gate.takes(error):
            return True
        scope = scope.outside()
    return False


cdef int _note_payer(rs_gate *gate, rs_slot *slot, void *context) noexcept:
    if (<rs_retry *>gate).budget != NULL:
        (<PyObject **>context)[0] = <PyObject *>gate
    return 0                            # go on: the outermost is the one that successes pay in for


cdef RetryBudget _payer(const rs_run *run, rs_slot *slot, Scope own):
    """The budget of the retries around, to which their success pays in; None: there is none, or it is free."""
    cdef Scope scope = _visible(own)
    cdef PyObject *gate = NULL
    if scope is not None and scope.payer is not None:
        return scope.payer
    ask_outer(run, slot, _note_payer, <void *>&gate)
    return None if gate == NULL else (<RetryGate><object>gate).options().budget
