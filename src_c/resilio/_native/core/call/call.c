/* Call: the awaitable that a guarded coroutine function returns. It looks like a coroutine.
 *
 *     CREATED --first send--> (WAITING <-> park)* --> RUNNING --> DONE
 *                                   ^--------- SLEEPING <---- again, by a strategy
 *
 * Nothing is admitted before the first send, and the user's coroutine does not exist before admission. While WAITING
 * the inner iterator is a park coroutine of the backend; while RUNNING it is the user's.
 */
#include "call/call.h"

/* A freelist of calls. They stay tracked by the garbage collector, and hold the one reference that the next caller
   gets. Counting, tracking and untracking took a tenth of a short call (3 to 4 ns). All fields that a fresh call needs
   empty are empty, and so are those that the collector visits. */
#if !defined(Py_GIL_DISABLED) && !defined(Py_REF_DEBUG) && !defined(RS_PUBLIC_ONLY)
#define RS_KEEP_CALLS
static CallObject *free_calls[RS_FREE_CALLS];
static int n_free;
#endif

/* Leave the lists of a collection that has visited it, and join the youngest generation: a dropped call is found soon,
   though its memory may be old, or frozen by a server that forks. */
void rs_call_make_young(CallObject *self)
{
    PyObject_GC_UnTrack(self);
    PyObject_GC_Track(self);
}

static CallObject *call_alloc(void)
{
#ifdef RS_KEEP_CALLS
    if (RS_LIKELY(n_free > 0))
        return free_calls[--n_free];
#endif
    CallObject *self = PyObject_GC_New(CallObject, &rs_CallType);
    if (self == NULL)
        return NULL;
    memset((char *)self + sizeof(PyObject), 0, offsetof(CallObject, slots) - sizeof(PyObject));
    self->run.slots = self->slots;
    self->frame.run = &self->run;
    self->args = self->inline_args;
    PyObject_GC_Track(self);
    return self;
}

/* Free an empty call without references, unless other code got one from the collector while it was emptied. */
static inline void call_free(CallObject *self)
{
#ifdef RS_KEEP_CALLS
    if (RS_LIKELY(n_free < RS_FREE_CALLS) && RS_USES(spare_calls)) {
        free_calls[n_free++] = self;
        return;
    }
    Py_SET_REFCNT(self, Py_REFCNT(self) - 1);
    if (Py_REFCNT(self) > 0)
        return;
#endif
    PyObject_GC_UnTrack(self);
    PyObject_GC_Del(self);
}

static PyObject *call_origin(int depth)
{
    PyObject *origin = PyList_New(0);
    PyFrameObject *frame = PyThreadState_GetFrame(PyThreadState_Get());
    for (; origin && frame && depth > 0; depth--) {
        PyObject *code = (PyObject *)PyFrame_GetCode(frame);
        PyObject *file = PyObject_GetAttrString(code, "co_filename"), *name = PyObject_GetAttrString(code, "co_name");
        PyObject *entry = file && name ? Py_BuildValue("(OiO)", file, PyFrame_GetLineNumber(frame), name) : NULL;
        if (entry == NULL || PyList_Append(origin, entry) < 0)
            Py_CLEAR(origin);
        Py_XDECREF(entry);
        Py_XDECREF(name);
        Py_XDECREF(file);
        Py_DECREF(code);
        PyFrameObject *back = PyFrame_GetBack(frame);
        Py_DECREF(frame);
        frame = back;
    }
    Py_XDECREF(frame);
    /* CPython 3.11 makes the object of a frame when it is asked for, and may have no memory for it. */
    PyObject *tuple = origin && !PyErr_Occurred() ? PyList_AsTuple(origin) : NULL;
    Py_XDECREF(origin);
    return tuple;
}

static inline CallObject *call_make(rs_pipeline *pipe, PyObject *func, int mode, GuardObject *guard)
{
    CallObject *self = call_alloc();
    if (self == NULL)
        return NULL;
    self->run.pipe = pipe;
    self->run.base = self->run.n = 0;
    self->run.interrupt = self->run.place = self->run.hedge = self->run.inside = 0;
    self->run.verdict = -1;
    self->run.attempt = 0;
    self->run.deadline_ns = RS_NEVER;
    self->pipe = pipe;
    self->func = func;
    self->guard = guard;
    if (RS_LIKELY(guard != NULL)) /* it owns the other two */
        Py_INCREF((PyObject *)guard);
    else {
        Py_INCREF((PyObject *)pipe);
        Py_XINCREF(func);
    }
    self->state = CREATED;
    self->mode = (uint8_t)mode;
    self->armed = self->suspended = 0;
    return self;
}

CallObject *rs_call_make(rs_pipeline *pipe, PyObject *func, int mode, GuardObject *guard)
{
    return call_make(pipe, func, mode, guard);
}

/* Free a call whose construction failed. */
static PyObject *call_unmade(CallObject *self)
{
    if (self->args == NULL)
        PyErr_NoMemory();
    else if (self->args != self->inline_args)
        PyMem_Free(self->args);
    self->args = self->inline_args;
    if (self->run.slots == NULL)
        self->run.slots = self->slots;
    self->state = DONE;
    Py_DECREF(self);
    return NULL;
}

/* Keep the arguments. 0, or -1 without memory. */
static inline int keep_args(CallObject *self, PyObject *const *args, Py_ssize_t nargs, PyObject *kwnames)
{
    Py_ssize_t total = nargs + (kwnames ? PyTuple_GET_SIZE(kwnames) : 0);
    if (RS_UNLIKELY(total > RS_INLINE_ARGS)
        && (self->args = PyMem_Malloc((size_t)(total + 1) * sizeof(PyObject *))) == NULL)
        return -1;
    self->nargs = nargs;
    self->total = total;
    for (Py_ssize_t i = 0; i < total; i++)
        self->args[i + 1] = Py_NewRef(args[i]);
    self->kwnames = Py_XNewRef(kwnames);
    return 0;
}

PyObject *rs_call_new(rs_pipeline *pipe, PyObject *func, PyObject *const *args, size_t nargsf, PyObject *kwnames,
                      int mode, GuardObject *guard)
{
    CallObject *self = call_make(pipe, func, mode, guard);
    if (self == NULL)
        return NULL;
    if (RS_UNLIKELY((unsigned)pipe->n > RS_INLINE_GATES))
        self->run.slots = rs_slots_new(pipe);
    if (RS_UNLIKELY(self->run.slots == NULL || keep_args(self, args, PyVectorcall_NARGS(nargsf), kwnames) < 0))
        return call_unmade(self);
    int depth = rs_origin_depth();
    if (RS_UNLIKELY(depth > 0) && (self->origin = call_origin(depth)) == NULL)
        PyErr_Clear();
    return (PyObject *)self;
}

/* Move the run into this call. */
static void take_over(CallObject *self, rs_run *run)
{
    rs_slot *slots = self->run.slots;
    self->run = *run;
    rs_run_unviewed(&self->run);
    rs_run_hold(run, run->base);
    if (run->pipe->n <= RS_INLINE_GATES) {
        memcpy(slots, run->slots, (size_t)self->run.n * sizeof(rs_slot));
        self->run.slots = slots;
    }
    else
        run->slots = NULL;
    run->ledger = NULL;
    run->route = NULL;
    run->around = NULL;
}

/* A run for a permit waits: make a call that continues it. Takes the run over. */
CallObject *rs_call_waiting(rs_run *run, const rs_request *request)
{
    CallObject *self = rs_call_make(run->pipe, NULL, RS_MODE_PERMIT, NULL);
    if (self == NULL || keep_args(self, request->args, request->nargs, request->kwnames) < 0) {
        rs_run_cancel(run, run->base, 0, rs_clock_now(rs_clk));
        return self ? (CallObject *)call_unmade(self) : NULL;
    }
    take_over(self, run);
    return self;
}

/* A sync function returned an awaitable: the call continues until that ends. Takes the run over; steals *awaitable*. */
PyObject *rs_call_adopt(rs_run *run, PyObject *func, const rs_request *request, PyObject *awaitable, int mode,
                        GuardObject *guard)
{
    CallObject *self = rs_call_make(run->pipe, func, mode, guard);
    if (self == NULL
        || (run->pipe->strategies && keep_args(self, request->args, request->nargs, request->kwnames) < 0)) {
        rs_run_settle(run, RS_IGNORED, NULL, 0, rs_clock_now(rs_clk));
        Py_DECREF(awaitable);
        return self ? call_unmade(self) : NULL;
    }
    take_over(self, run);
    self->run.place = (uint8_t)(self->pipe->placed ? rs_place_here() : RS_ON_ASYNCIO);
    self->state = RUNNING;
    if (rs_call_set_inner(self, awaitable) < 0)
        Py_CLEAR(self);
    return (PyObject *)self;
}

/* A call of the stages from *first* inward. */
PyObject *rs_call_inside(rs_pipeline *pipe, int first, PyObject *func, PyObject *const *args, Py_ssize_t nargs,
                         PyObject *kwnames, GuardObject *guard, const rs_inside *inside)
{
    int own = guard && guard->func == func && guard->pipe == pipe;
    CallObject *self = (CallObject *)rs_call_new(pipe, func, args, (size_t)nargs, kwnames, RS_MODE_RAISE,
                                                 own ? guard : NULL);
    if (self) {
        self->run.base = self->run.n = (int16_t)first;
        rs_run_enter(&self->run, inside);
    }
    return (PyObject *)self;
}

void rs_call_drop_args_slowly(CallObject *self)
{
    Py_ssize_t total = self->total;
    self->total = self->nargs = 0;
    for (Py_ssize_t i = 1; i <= total; i++)
        Py_DECREF(self->args[i]);
    if (RS_UNLIKELY(self->args != self->inline_args)) {
        PyMem_Free(self->args);
        self->args = self->inline_args;
    }
    Py_CLEAR(self->kwnames);
}

int rs_call_traverse(CallObject *self, visitproc visit, void *arg)
{
    self->met = 1;
    if (self->guard)
        Py_VISIT(self->guard);
    else {
        Py_VISIT(self->pipe);
        Py_VISIT(self->func);
    }
    Py_VISIT(self->inner);
    Py_VISIT(self->stop);
    Py_VISIT(self->origin);
    Py_VISIT(self->task);
    Py_VISIT(self->context);
    Py_VISIT(self->keep.keeper);
    int found = rs_run_visit(&self->run, visit, arg);
    if (found)
        return found;
    for (Py_ssize_t i = 1; i <= self->total; i++)
        Py_VISIT(self->args[i]);
    if (self->state == WAITING && self->run.n > self->run.cursor)
        Py_VISIT((PyObject *)self->run.slots[self->run.cursor].waiter);
    return 0;
}

/* For the collector: drop references that may form a cycle, keep those needed for settling. */
int rs_call_clear(CallObject *self)
{
    Py_CLEAR(self->inner);
    rs_call_drop_args(self);
    Py_CLEAR(self->origin);
    return 0;
}

const char *rs_call_name(CallObject *self, PyObject **holder)
{
    *holder = NULL;
    if (self->guard && self->guard->dict)
        *holder = rs_item(self->guard->dict, "__qualname__");
    if (*holder == NULL && self->func)
        *holder = PyObject_GetAttrString(self->func, "__qualname__");
    rs_drop_error();
    const char *name = *holder && PyUnicode_Check(*holder) ? PyUnicode_AsUTF8(*holder) : NULL;
    PyErr_Clear();
    return name ? name : "guarded call";
}

static void warn_never_awaited(CallObject *self)
{
    PyObject *type, *value, *traceback, *holder;
    PyErr_Fetch(&type, &value, &traceback);
    const char *name = rs_call_name(self, &holder);
    if (PyErr_WarnFormat(PyExc_RuntimeWarning, 1, "coroutine '%s' was never awaited", name) < 0)
        PyErr_WriteUnraisable(NULL); /* not self: it is being freed */
    Py_XDECREF(holder);
    PyErr_Restore(type, value, traceback);
}

/* End it without an outcome; possibly in a finaliser. */
void rs_call_settle_dropped(CallObject *self)
{
    rs_run_drop(&self->run, self->state == RUNNING, 1, rs_clock_now(rs_clk));
}

static inline void keep_or_untrack(CallObject *self)
{
#ifdef RS_KEEP_CALLS
    Py_SET_REFCNT(self, 1);
#else
    PyObject_GC_UnTrack(self);
#endif
}

/* The last reference but the freelist's is gone. A collection in progress must not find it without a reference, nor
   keep it in its list of objects to clear: it would clear the next call. */
static void resurrect(CallObject *self)
{
    if (RS_UNLIKELY(self->weakrefs != NULL)) {
        PyObject_GC_UnTrack(self);
        PyObject_ClearWeakRefs((PyObject *)self); /* leaves weakrefs NULL */
        PyObject_GC_Track(self);
    }
#ifdef RS_KEEP_CALLS
    if (RS_UNLIKELY(self->met))
        rs_call_make_young(self);
    self->met = 0;
#endif
    keep_or_untrack(self);
}

/* Return 1 if nothing is left to clean up, as in nearly all calls. */
static inline int is_empty(const CallObject *self)
{
    return (((uintptr_t)self->weakrefs | (uintptr_t)self->context | (uintptr_t)self->inner
             | (uintptr_t)self->frame.view)
            | ((uintptr_t)self->kwnames | (uintptr_t)self->origin | (uintptr_t)self->run.ledger | (uintptr_t)self->total
               | (uintptr_t)self->run.route | (uintptr_t)self->run.around)
            | (uint8_t)(self->met | self->in_use | (self->state ^ DONE)) | (uint16_t)(self->run.n ^ self->run.base)
            | ((uintptr_t)self->run.slots ^ (uintptr_t)self->slots))
           == 0;
}

static RS_APART void make_empty(CallObject *self)
{
    resurrect(self);
    if (self->in_use || self->context)
        rs_call_end_timer(self);
    if (self->state == CREATED)
        warn_never_awaited(self);
    Py_CLEAR(self->inner); /* the user's cleanup runs first, under its permit */
    if (self->run.n != self->run.base)
        rs_call_settle_dropped(self);
    if (self->frame.view)
        rs_frame_end(&self->frame);
    if (self->total != 0 || self->kwnames)
        rs_call_drop_args(self);
    if (self->run.ledger)
        self->run.lent = 0;
    rs_run_leave(&self->run);
    if (self->run.slots != self->slots) {
        PyMem_Free(self->run.slots);
        self->run.slots = self->slots;
    }
    Py_CLEAR(self->origin);
}

void rs_call_dealloc(CallObject *self)
{
    if (RS_LIKELY(is_empty(self)))
        keep_or_untrack(self);
    else
        make_empty(self);
    PyObject *stop = self->stop;
    if (stop) {
        self->stop = NULL; /* freeing its value may trigger a collection */
        rs_call_recycle_stop(stop);
    }
    PyObject *guard = (PyObject *)self->guard, *func = self->func, *pipe = (PyObject *)self->pipe;
    self->guard = NULL;
    self->func = NULL;
    self->pipe = NULL;
    self->state = DONE;
    call_free(self);
    if (RS_LIKELY(guard != NULL)) /* it owns the other two */
        Py_DECREF(guard);
    else {
        Py_XDECREF(func);
        Py_XDECREF(pipe);
    }
}
