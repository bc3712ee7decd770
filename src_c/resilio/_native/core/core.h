/* Declarations shared by the files of this module.
 *
 * The engine: admit.c, wait.c, judge.c, settle.c, deliver.c. Its Python types: guard.c, call.c, pipeline.c,
 * permit.c, result.c, rejection.c. All are C because they own the same slots: a run moves from a stack frame to a
 * permit or a call without a copy as Python objects. A call's stages are declared in engine/run.h, the calls and the
 * deadline around it in context/ambient.h.
 */
#ifndef RS_CORE_H
#define RS_CORE_H
#define PY_SSIZE_T_CLEAN
#include <Python.h>
#include <stddef.h>
#include <structmember.h>

#define RS_INLINE_GATES 8
#define RS_NOT_CALLED 4 /* in addition to rs_outcome: of a call that a policy has rejected */
#define RS_DELEGATE 3   /* in addition to rs_verdict: Python runs the stage at run->cursor */
#define RS_MAX_GATES 32
#define RS_LIKELY(x) __builtin_expect(!!(x), 1)
#define RS_UNLIKELY(x) __builtin_expect(!!(x), 0)

/* Give one thread at a time an object that many threads share and no lock guards. Ends early where user code runs or
   the thread waits. With the GIL this holds anyway. No return between the two. */
#ifdef Py_GIL_DISABLED
#define RS_ALONE(object) Py_BEGIN_CRITICAL_SECTION(object)
#define RS_NOT_ALONE() Py_END_CRITICAL_SECTION()
#else
#define RS_ALONE(object) {
#define RS_NOT_ALONE() }
#endif

#if defined(__linux__)
#define RS_THREAD_LOCAL __thread __attribute__((tls_model("initial-exec")))
#else
#define RS_THREAD_LOCAL _Thread_local
#endif

/* Symbols declared below are local: accessed in one step, not through an address. */
#pragma GCC visibility push(hidden)
#include "clock.h"
#include "gate.h"
#include "engine/ledger.h"
#include "pipeline.h"
#include "private.h"
#include "python.h"
#include "strategy.h"
#include "waiters.h"
#include "engine/run.h"
#include "context/ambient.h"

void rs_gate_deliver(rs_gate *gate, PyObject *subject, int in_finaliser);
void rs_notify_rejected(rs_gate *gate, const rs_rejection *why);
void rs_notify_settled(rs_gate *gate, int outcome, int64_t latency_ns, PyObject *error);

int rs_is_rejection(PyObject *error);

static inline void rs_gate_lock(rs_gate *gate) { rs_lock_acquire(&gate->lock); }
static inline void rs_gate_unlock(rs_gate *gate) { rs_lock_release(&gate->lock); }
/* A new reference to the object that the gate owns at *field, or NULL. Another thread, or a call to the
   object itself, may replace it. */
static inline PyObject *rs_gate_own(rs_gate *gate, PyObject **field)
{
    rs_lock_acquire(&gate->lock);
    PyObject *owned = Py_XNewRef(*field);
    rs_lock_release(&gate->lock);
    return owned;
}
PyObject *rs_gate_policy(rs_gate *gate); /* its Python policy, a new reference; NULL: none, or it is dead */
/* Let the next call that ends outside of a finaliser do what a finaliser must not. */
typedef void (*rs_work)(PyObject *about);
extern int rs_deferred; /* is there any? */
void rs_defer(rs_work run, PyObject *about);
void rs_run_deferred(void); /* no lock held, no exception pending */
void rs_defer_after_fork(void);
int rs_defer_add(PyObject *module);
/* Return 1 if the gate has changes or waiters to deliver, or listeners of *events*, or if work was deferred. */
static inline int rs_gate_has_news(const rs_gate *gate, uint32_t events)
{
    return RS_UNLIKELY(((uintptr_t)gate->woken | gate->changes | (gate->listening & events)
                        | (unsigned)__atomic_load_n(&rs_deferred, __ATOMIC_RELAXED))
                       != 0);
}
/* The operations of a gate written in Python call Python: release the lock around them, and
   hold it for the counters. */
static inline void rs_gate_let_go(rs_gate *gate)
{
    if (RS_UNLIKELY(gate->ops->python))
        rs_lock_release(&gate->lock);
}
static inline void rs_gate_take_back(rs_gate *gate)
{
    if (RS_UNLIKELY(gate->ops->python))
        rs_lock_acquire(&gate->lock);
}

/* ---- rejections ----------------------------------------------------------------------------------------------- */
typedef struct rs_kind { /* derived once from a gate's ops */
    const rs_gate_ops *ops;
    PyObject *kind;    /* str */
    PyObject *reasons; /* tuple of str */
    PyObject *error;   /* the exception's class */
} rs_kind;

const rs_kind *rs_kind_of(const rs_gate_ops *ops);
PyObject *rs_reason(const rs_kind *kind, int reason);
PyObject *rs_rejection_error(rs_gate *gate, const rs_rejection *why); /* a new exception */
void rs_rejection_raise(rs_gate *gate, const rs_rejection *why);

/* ---- the Python types --------------------------------------------------------------------------------------- */
typedef enum { RS_MODE_RAISE = 0, RS_MODE_RESULT = 1, RS_MODE_PERMIT = 2 } rs_mode;
typedef enum { RS_KIND_SYNC = 0, RS_KIND_COROUTINE = 1, RS_KIND_GENERATOR = 2, RS_KIND_ASYNC_GENERATOR = 3 } rs_shape;

typedef struct {
    PyObject_HEAD
    vectorcallfunc vectorcall;
    rs_pipeline *pipe;
    PyObject *func;
    PyObject *stream; /* generator kinds: drives the stream and its permit */
    PyObject *dict;
    PyObject *weakrefs;
    int shape; /* rs_shape */
} GuardObject;

typedef struct { /* the beginning of an InnerCall */
    PyObject_HEAD
    vectorcallfunc vectorcall;
    rs_inside inside;
} rs_inner_head;

extern const rs_core_api rs_api;
extern PyTypeObject rs_GateType, rs_WaiterType, rs_PipelineType, rs_GuardType, rs_CallType, rs_PermitType,
    rs_RejectionType, rs_ResultType, rs_CurrentCallType, rs_AmbientDeadlineType, rs_InnerCallType;

PyObject *rs_call_new(rs_pipeline *pipe, PyObject *func, PyObject *const *args, size_t nargsf, PyObject *kwnames,
                      int mode, GuardObject *guard);
PyObject *rs_call_adopt(rs_run *run, PyObject *func, const rs_request *request, PyObject *awaitable, int mode,
                        GuardObject *guard);
PyObject *rs_invoke_inside(rs_pipeline *pipe, int first, PyObject *func, PyObject *const *args, size_t nargsf,
                           PyObject *kwnames, GuardObject *guard, const rs_inside *inside);
PyObject *rs_inner_call_new(rs_pipeline *pipe, int first, PyObject *func, GuardObject *guard, const rs_request *request,
                            int is_async);
PyObject *rs_inner_call_of(PyObject *inner, rs_run *run);
PyObject *rs_run_delegate(rs_run *run, PyObject *inner, const char *method);
int rs_call_settle_interrupt(PyObject *call, rs_end *end);
int rs_call_interrupt(PyObject *call, int stage, int reason);
int rs_may_block(void);
int rs_admit_sync(rs_run *run, const rs_request *request, int may_wait, rs_rejection *why);
PyObject *rs_invoke(rs_pipeline *pipe, PyObject *func, PyObject *const *args, size_t nargsf, PyObject *kwnames,
                    int mode, GuardObject *guard);
PyObject *rs_permit_new(rs_run *run);
PyObject *rs_permit_by_hand(PyObject *given);
PyObject *rs_permit_of_part(rs_run *run, int first, int counts, int64_t now);
int rs_hand_over(rs_run *run, int first, rs_end *end, PyObject **slow);
int rs_hand_over_add(PyObject *module);
int rs_permit_leave(PyObject *permit, PyObject *error);
void rs_permit_clock(PyObject *permit);
int rs_is_permit(PyObject *around);
void rs_permit_lend(PyObject *permit, rs_run *to);
int rs_permit_has_untried(PyObject *permit);
void rs_permit_drop(PyObject *permit);
PyObject *rs_endpoint_of(rs_gate *seat);
int rs_block_add(PyObject *module);
int rs_answer_judge_add(PyObject *module);
PyObject *rs_is_one_shot(PyObject *module, PyObject *value);
PyObject *rs_rejection_new(rs_gate *gate, const rs_rejection *why);
PyObject *rs_result_value(PyObject *value, int outcome);
PyObject *rs_result_error(PyObject *error, int outcome);
PyObject *rs_result_rejected(rs_gate *gate, const rs_rejection *why);
void rs_result_attach(PyObject *result, rs_run *run);
rs_waiter *rs_waiter_new(void);
int rs_waiter_wake(rs_waiter *waiter);
void rs_waiter_lose(rs_waiter *waiter);
void rs_waiter_enter(rs_waiter *waiter, rs_gate *gate);
void rs_waiter_leave(rs_waiter *waiter, int64_t waited_ns);
int rs_is_coroutine_function(PyObject *callable);
PyObject *rs_pipeline_new(PyTypeObject *type, PyObject *args, PyObject *kwargs);
int rs_pipeline_init(rs_pipeline *self, PyObject *args, PyObject *kwargs);
void rs_gate_forget_all(void);
void rs_waiter_after_fork(void);
void rs_ledger_after_fork(void);
int rs_finalizing(void); /* is the interpreter shutting down? */

/* How many calls of C a guarded call counts for. 3.12 and 3.13 bound their number as if none took more than 800 bytes of the
   stack, as a guarded one does. Later Pythons look at the stack itself. */
#define RS_AS_CALLS (PY_VERSION_HEX >= 0x030C0000 && PY_VERSION_HEX < 0x030E0000 ? 2 : 1)

/* Call *func*. The vectorcall of a Python function is read directly: PyObject_Vectorcall looks up the thread state
   first. Any other callable may be a guard in turn, and the interpreter limits the depth of its own frames only. */
static inline PyObject *rs_vectorcall(PyObject *func, PyObject *const *args, size_t nargsf, PyObject *kwnames)
{
    if (RS_LIKELY(PyFunction_Check(func))) {
#ifndef RS_PUBLIC_ONLY
        if (RS_USES(function))
            return ((PyFunctionObject *)func)->vectorcall(func, args, nargsf, kwnames);
#endif
        return PyObject_Vectorcall(func, args, nargsf, kwnames);
    }
    int entered = 0;
    while (entered < RS_AS_CALLS && Py_EnterRecursiveCall(" in a guarded call") == 0)
        entered++;
    PyObject *result = entered == RS_AS_CALLS ? PyObject_Vectorcall(func, args, nargsf, kwnames) : NULL;
    while (entered--)
        Py_LeaveRecursiveCall();
    return result;
}

/* Return 1 if *object* can be awaited: it has __await__, or is a generator of a types.coroutine function. */
static inline int rs_is_awaitable(PyObject *object)
{
    PyAsyncMethods *async = Py_TYPE(object)->tp_as_async;
    if (async && async->am_await)
        return 1;
    if (RS_LIKELY(!PyGen_CheckExact(object)))
        return 0;
#if PY_VERSION_HEX >= 0x030C0000
    PyObject *code = (PyObject *)PyGen_GetCode((PyGenObject *)object);
#else
    PyObject *code = Py_NewRef((PyObject *)((PyGenObject *)object)->gi_code);
#endif
    int iterable_coroutine = (rs_code_flags(code) & CO_ITERABLE_COROUTINE) != 0;
    Py_DECREF(code);
    return iterable_coroutine;
}

/* When the stage is left, drop the slot's extra state. Keeps a pending exception. */
void rs_slot_leave_slowly(rs_slot *slot);
static inline void rs_slot_leave(rs_slot *slot)
{
    if (RS_UNLIKELY(((uintptr_t)slot->extra | slot->flags) != 0))
        rs_slot_leave_slowly(slot);
}

/* The slots of a run, inside its owner if they fit. NULL with an exception. */
rs_slot *rs_slots_new(const rs_pipeline *pipe);
static inline rs_slot *rs_slots_for(const rs_pipeline *pipe, rs_slot *inline_slots)
{
    return RS_LIKELY((unsigned)pipe->n <= RS_INLINE_GATES) ? inline_slots : rs_slots_new(pipe);
}
#pragma GCC visibility pop
#endif
