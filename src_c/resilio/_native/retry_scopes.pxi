"""
Retry scopes that cannot be read off the chain of calls: of blocks, and of what an attempt has started in other tasks.

A part of retry.pyx. A scope is the value of a context variable, written only by a retry that acts: by a block that it
runs, and by its second attempt. While no scope is alive, nobody looks.
"""

cdef object _variable = _context.retry_scope
cdef uint64_t _scopes_alive = 0         # changed with the GIL, or atomically enough: who looks in vain finds none


@cython.final
cdef class Scope:
    """One retry under way: whose it is, and who pays for retries inside of it."""

    cdef RetryGate gate
    cdef RetryBudget payer              # None: retries are free there
    cdef Scope outer                    # the nearest one outside that holds; None
    cdef object generator               # weak reference: holds only while this one runs; None: always
    cdef object token
    cdef bint closed

    def __cinit__(self):
        global _scopes_alive
        _scopes_alive += 1

    def __dealloc__(self):
        global _scopes_alive
        _scopes_alive -= 1

    cdef bint holds(self) except -1:
        if self.closed:
            return False
        if self.generator is None:
            return True
        generator = self.generator()
        return generator is not None and bool(
            generator.gi_running if hasattr(generator, "gi_running") else generator.ag_running
        )

    cdef int open(self) except -1:
        """Have all see it that is called, or started, from here on."""
        self.closed = False
        if self.token is None or _value() is not self:      # else a token would lead back to the scope itself, for good
            self.token = PyContextVar_Set(_variable, self)
        return 0

    cdef int close(self) except -1:
        """Whoever has inherited it sees it no more, in whatever context."""
        self.closed = True
        token, self.token = self.token, None
        if token is not None and _value() is self:
            try:
                _variable.reset(token)
            except ValueError:          # a copy of the context that it was set in: closed is enough
                pass
        return 0


cdef object _value():
    cdef PyObject *found = NULL
    PyContextVar_Get(_variable, NULL, &found)
    if found == NULL:
        return None
    value = <object>found
    Py_DECREF(value)
    return value


cdef Scope _visible(Scope own):
    """The nearest scope here that is not *own*, or None."""
    if _scopes_alive == 0:
        return None
    value = _value()
    cdef Scope scope = value if isinstance(value, Scope) else None
    while scope is not None and (scope is own or not scope.holds()):
        scope = scope.outer
    return scope


cdef bint _would_any(Scope scope, object error) except -1:
    """Is one of these retries one for what has failed inside?"""
    while scope is not None:
        if scope.holds() and scope.gate.takes(error):
            return True
        scope = scope.outer
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
