"""
Retry scopes that cannot be read off the chain of calls: of blocks, and of what an attempt has started in other tasks.

A part of retry.pxi. A scope is the value of a context variable, written only by a retry that acts: by a block that it
runs, and by its second attempt. While no scope is alive, nobody looks.
"""

cdef extern from *:
    """
    static int64_t rs_scopes;       /* alive in the process; several threads change it at once where there is no GIL */
    #define rs_scopes_add(n) ((void)__atomic_add_fetch(&rs_scopes, (n), __ATOMIC_ACQ_REL))
    #define rs_scopes_alive() (__atomic_load_n(&rs_scopes, __ATOMIC_RELAXED) != 0)
    #define rs_scope_is(flag) __atomic_load_n(&(flag), __ATOMIC_ACQUIRE)
    #define rs_scope_set(flag, on) __atomic_store_n(&(flag), on, __ATOMIC_RELEASE)
    """
    void rs_scopes_add(int) nogil
    bint rs_scopes_alive() nogil
    bint rs_scope_is(int) nogil
    void rs_scope_set(int, bint) nogil

cdef object _variable = _context.retry_scope
cdef rs_lock _scopes_lock               # of what a scope refers to and may be replaced: other threads walk through it


@cython.final
@cython.trashcan(True)
cdef class Scope:
    """
    One retry under way: whose it is, and who pays for retries inside of it.

    Tasks and threads that an attempt has started read it in contexts of their own while its call writes it. What it
    refers to is read and replaced under the lock, and what was replaced is dropped after it: that may run any code.
    """

    cdef RetryGate gate                 # set once
    cdef RetryBudget payer              # None: retries are free there
    cdef Scope outer                    # the nearest one outside that holds; None
    cdef object generator               # weak reference: holds only while this one runs; None: always
    cdef object token                   # of the context in which it was set last
    cdef int closed
    cdef int over                       # closed for good: the call that it was of is gone

    def __cinit__(self):
        rs_scopes_add(1)

    def __dealloc__(self):
        rs_scopes_add(-1)

    cdef bint holds(self) except -1:
        if rs_scope_is(self.closed):
            return False
        rs_lock_acquire(&_scopes_lock)
        reference = self.generator
        rs_lock_release(&_scopes_lock)
        if reference is None:
            return True
        generator = reference()
        return generator is not None and bool(
            generator.gi_running if hasattr(generator, "gi_running") else generator.ag_running
        )

    cdef Scope outside(self):
        rs_lock_acquire(&_scopes_lock)
        outer = self.outer
        rs_lock_release(&_scopes_lock)
        return outer

    cdef RetryBudget paid_by(self):
        rs_lock_acquire(&_scopes_lock)
        payer = self.payer
        rs_lock_release(&_scopes_lock)
        return payer

    cdef int link(self, Scope outer) except -1:
        rs_lock_acquire(&_scopes_lock)
        before, self.outer = self.outer, outer
        rs_lock_release(&_scopes_lock)
        return 0

    cdef int pay_by(self, RetryBudget payer) except -1:
        rs_lock_acquire(&_scopes_lock)
        before, self.payer = self.payer, payer
        rs_lock_release(&_scopes_lock)
        return 0

    cdef int run_in(self, object reference) except -1:
        rs_lock_acquire(&_scopes_lock)
        before, self.generator = self.generator, reference
        rs_lock_release(&_scopes_lock)
        return 0

    cdef object keep_token(self, object token):
        """The token before."""
        rs_lock_acquire(&_scopes_lock)
        before, self.token = self.token, token
        rs_lock_release(&_scopes_lock)
        return before

    cdef int open(self) except -1:
        """Have all see it that is called, or started, from here on."""
        rs_scope_set(self.closed, False)
        if self.token is None or _value() is not self:      # else a token would lead back to the scope itself, for good
            self.keep_token(PyContextVar_Set(_variable, self))
        return 0

    cdef int close(self) except -1:
        """Whoever has inherited it sees it no more, in whatever context."""
        rs_scope_set(self.closed, True)
        self.link(_not_closed(self.outside()))          # so that a chain has only scopes that were open at once
        token = self.keep_token(None)
        if token is not None and _value() is self:
            try:
                _variable.reset(token)
            except ValueError:          # a copy of the context that it was set in: closed is enough
                pass
        return 0

    cdef int end(self) except -1:
        """
        Close it for good, also where an interrupt came before `close`.

        It may be the garbage collector that ends it, in any thread. Of contexts only that of this thread is touched, and only
        if it still has the scope; each of the others lets go of it when it is asked next.
        """
        self.close()
        rs_scope_set(self.over, True)
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
    if scope is not None and rs_scope_is(scope.over):
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
    while scope is not None and rs_scope_is(scope.closed):
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
    cdef RetryBudget payer = None if scope is None else scope.paid_by()
    if payer is not None:
        return payer
    ask_outer(run, slot, _note_payer, <void *>&gate)
    return None if gate == NULL else (<RetryGate><object>gate).options().budget
