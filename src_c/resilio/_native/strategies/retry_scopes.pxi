"""
Retry scopes that the chain of calls does not show: of blocks, and of tasks and threads that an attempt has started.

A part of retry.pxi. A scope is the value of a context variable. Only an active retry sets it: for a block that it runs,
and from its second attempt on: in a first attempt it would cost more than all the rest. (55 ns with a retry, 40 ns with
a deadline that sets none, 178 ns with one that sets one; CPython 3.11.) While no scope is alive, it is not read.
"""

cdef extern from *:
    """
    static int64_t rs_scopes;       /* alive in the process; several threads change it at once where there is no GIL */
    #define rs_scopes_add(n) ((void)__atomic_add_fetch(&rs_scopes, (n), __ATOMIC_ACQ_REL))
    #define rs_scopes_alive() (__atomic_load_n(&rs_scopes, __ATOMIC_RELAXED) != 0)
    #define rs_scope_is(flag) __atomic_load_n(&(flag), __ATOMIC_ACQUIRE)
    #define rs_scope_set(flag, on) __atomic_store_n(&(flag), on, __ATOMIC_RELEASE)
    #define RS_ALLOCATIONS_COLLECT (PY_VERSION_HEX < 0x030C0000)    /* else the collector runs between two bytecodes */
    """
    bint RS_ALLOCATIONS_COLLECT
    void rs_scopes_add(int) nogil
    bint rs_scopes_alive() nogil
    bint rs_scope_is(int) nogil
    void rs_scope_set(int, bint) nogil

cdef object _variable = _context.retry_scope
cdef rs_lock _scopes_lock               # of the replaceable references of scopes: other threads follow them


@cython.final
@cython.trashcan(True)
cdef class Scope:
    """
    One active retry: its gate, and the budget that pays for retries inside.

    Tasks and threads that an attempt has started read it in their own contexts while its call writes it. Its references
    are read and replaced under the lock. Replaced objects are released after it, since that may run any code.
    """

    cdef RetryGate gate                 # set once
    cdef RetryBudget payer              # None: retries are free there
    cdef Scope outer                    # the nearest one outside that holds; None
    cdef object generator               # weak reference: holds only while this one runs; None: always
    cdef object token                   # of the context in which it was set last
    cdef int closed
    cdef int over                       # closed permanently: its call is gone

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
        """Set the token; return the one before."""
        rs_lock_acquire(&_scopes_lock)
        before, self.token = self.token, token
        rs_lock_release(&_scopes_lock)
        return before

    cdef int open(self) except -1:
        """Make the scope visible to all that is called or started from here on."""
        rs_scope_set(self.closed, False)
        if self.token is None or _value() is not self:      # else the token would keep the scope itself
            self.keep_token(PyContextVar_Set(_variable, self))
        return 0

    cdef int close(self) except -1:
        """Hide the scope from all that inherited it, in any context."""
        rs_scope_set(self.closed, True)
        self.link(_not_closed(self.outside()))          # a chain has only scopes that were open at the same time
        token = self.keep_token(None)
        if token is not None and _value() is self:
            try:
                _variable.reset(token)
            except ValueError:          # a copy of the context that it was set in: closed is enough
                pass
        return 0

    cdef int end(self) except -1:
        """
        Close the scope permanently, even if an interrupt came before `close`.

        The garbage collector may call this, in any thread. It changes only the context of this thread, and only if that
        still has the scope; the others release it when they are read next. Before CPython 3.12 it changes none: there
        an allocation of a context variable's own code may call the collector, which would free what that code works on.
        """
        rs_scope_set(self.over, True)
        if RS_ALLOCATIONS_COLLECT:
            rs_scope_set(self.closed, True)
            self.link(_not_closed(self.outside()))
            self.keep_token(None)
            return 0
        self.close()
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
    """The scope that is set here, or None. One that is over is removed: the context would keep it for ever."""
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


cdef bint _would_any(Scope scope, object error, bint beyond) except -1:
    """Return True if one of these retries takes an error that came from inside, or from inside of a pool."""
    while scope is not None:
        if scope.holds() and scope.gate.takes(error, beyond):
            return True
        scope = scope.outside()
    return False


cdef int _note_payer(rs_gate *gate, rs_slot *slot, void *context) noexcept:
    if (<rs_retry *>gate).budget != NULL:
        (<PyObject **>context)[0] = <PyObject *>gate
    return 0                            # go on: successes pay in to the budget of the outermost


cdef RetryBudget _payer(rs_slot *slot, Scope own):
    """The budget of the retries around, to which their success pays in; None: no retry, or a free one."""
    cdef Scope scope = _visible(own)
    cdef PyObject *gate = NULL
    cdef RetryBudget payer = None if scope is None else scope.paid_by()
    if payer is not None:
        return payer
    ask_outer(slot, _note_payer, <void *>&gate, NULL)
    return None if gate == NULL else (<RetryGate><object>gate).options().budget
