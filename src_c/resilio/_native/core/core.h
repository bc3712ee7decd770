/* Declarations shared by the files of this module.
 *
 * The engine: admit.c, judge.c, settle.c, deliver.c. Its Python types: guard.c, call.c, pipeline.c,
 * permit.c, result.c, rejection.c.
 */
#ifndef RS_CORE_H
#define RS_CORE_H
#define PY_SSIZE_T_CLEAN
#include <Python.h>
#include <stddef.h>
#include <structmember.h>
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

#define RS_INLINE_GATES 8
#define RS_DELEGATE 3 /* in addition to rs_verdict: Python runs the stage at run->cursor */
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

/* ---- a run: the stages that one call holds of a pipeline ---------------------------------------------------- */
typedef struct rs_run {
    rs_pipeline *pipe; /* owned by the owner of the run */
    rs_slot *slots;
    uint32_t epoch;          /* rs_epoch at admission: a run from before a fork is dropped */
    int16_t base;            /* its first stage: earlier ones belong to the call around this one */
    int16_t n;               /* stages from base to here are held; equals base once settled or cancelled */
    int16_t cursor;          /* the gate that returned WAIT or REJECTED, or the strategy that delegates */
    int16_t interrupt_stage; /* the stage that has the call cancelled */
    uint8_t interrupt;       /* its reason: rs_interrupt */
    uint8_t place;           /* rs_place */
    uint8_t hedge;           /* a copy of a call in flight */
    uint8_t inside;          /* part of another call: its time is not counted here */
    uint8_t lent;            /* the ledger is that of a permit around, of the same stream */
    int8_t verdict;          /* an rs_outcome forced by current().fail(), or -1 */
    uint32_t attempt;        /* how often a strategy has run the inner part again */
    uint32_t detached;       /* rs_detached when deadline_ns was found */
    int64_t deadline_ns;     /* by which the inner part must have ended, RS_NEVER without a deadline */
    rs_ledger *ledger;       /* owned; NULL: all of its time is the attempt */
    uint16_t lane;           /* of the ledger, if it is that of a call around */
#ifdef Py_GIL_DISABLED
    rs_lock *viewed; /* the lock of the view that current() gave of it, or NULL */
#endif
} rs_run;

/* Hold the stages up to *n*. A thread that asks the run's view meanwhile is waited for: it may use those held before. */
static inline void rs_run_hold(rs_run *run, int n)
{
#ifdef Py_GIL_DISABLED
    if (RS_UNLIKELY(run->viewed != NULL)) {
        rs_lock_acquire(run->viewed);
        run->n = (int16_t)n;
        rs_lock_release(run->viewed);
        return;
    }
#endif
    run->n = (int16_t)n;
}

/* The run is another's copy, of which no view was given. */
static inline void rs_run_unviewed(rs_run *run)
{
#ifdef Py_GIL_DISABLED
    run->viewed = NULL;
#endif
}

static inline rs_run rs_run_of(rs_pipeline *pipe, rs_slot *slots, int base, uint32_t epoch)
{
    return (rs_run){.pipe = pipe,
                    .slots = slots,
                    .epoch = epoch,
                    .deadline_ns = RS_NEVER,
                    .base = (int16_t)base,
                    .n = (int16_t)base,
                    .verdict = -1,
                    .inside = (uint8_t)(base != 0)};
}

/* 0: unknown. Stages that all work without a clock, like a fallback alone, record no start; they have no ledger. */
static inline int64_t rs_run_began(const rs_run *run)
{
    return run->n > run->base ? run->slots[run->base].admitted_ns : 0;
}

extern uint32_t rs_epoch;

/* Count the time of a run that ended at *now*, while its outermost stage is still held. Not NULL: a
   slow call for rs_ledger_slow. */
static inline PyObject *rs_run_count(rs_run *run, int64_t now)
{
    if (RS_UNLIKELY(run->ledger != NULL))
        return rs_ledger_close(run, now);
    int64_t began = run->slots[0].admitted_ns, took = now - began;
    if (RS_UNLIKELY(run->inside || began == 0 || took < 0))
        return NULL;
    RS_SPEND(run->slots[0].gate, RS_ATTEMPT, took);
    return RS_UNLIKELY(took >= rs_slow_ns) ? rs_ledger_slow_attempt(run->slots[0].gate, took) : NULL;
}
extern int rs_bypass_count, rs_no_wait_count;
extern rs_clock *rs_clk;

int rs_run_admit(rs_run *run, const rs_request *request, int first, int may_wait, int64_t now, rs_rejection *why);
int rs_run_resume(rs_run *run, const rs_request *request, int64_t now, rs_rejection *why);
int rs_run_wait_sync(rs_run *run, const rs_request *request, rs_rejection *why);
void rs_run_cancel(rs_run *run, int floor, int in_finaliser, int64_t now);
void rs_run_drop(rs_run *run, int waiting, int in_finaliser, int64_t now);
int rs_run_floor(const rs_run *run, int at);
void rs_run_forget_rejected(rs_run *run);
int rs_ask_judge(const rs_pipeline *pipe, rs_gate *gate, int of_value, PyObject *subject);
/* Return 1 if this gate judges answers in this pipeline. */
static inline int rs_judges_values(const rs_pipeline *pipe, const rs_gate *gate)
{
    return RS_UNLIKELY(gate->judge_value != NULL)
           || RS_UNLIKELY(pipe->judges && (gate->value_rule || gate->replay_value));
}
#define RS_JUDGES 6 /* of a client: the judges of errors and of answers, by rule */
int rs_judge_error(const rs_run *run, int stage, PyObject *error, int64_t now);
int rs_gate_judge(rs_gate *gate, PyObject *inner, PyObject *value, PyObject *error);
int rs_judge_exception(const rs_pipeline *pipe, rs_gate *gate, PyObject *error);
int rs_judge_out_of_time(rs_slot *slot, int64_t now); /* of an attempt that a deadline has ended */
int rs_run_outward(rs_run *run, rs_end *end);
int rs_run_succeeded(rs_run *run);
void rs_end_load(rs_end *end, PyObject *value);
void rs_run_settle(rs_run *run, int outcome, PyObject *subject, int in_finaliser, int64_t now);
int rs_run_returned(rs_run *run, PyObject *value, int64_t now);
int rs_run_raised(rs_run *run, int64_t now);
void rs_run_first_item(rs_run *run, int64_t now);
int rs_run_note_first_item(rs_run *run, int64_t now, rs_gate **changed);
void rs_gates_deliver(rs_gate **changed, int n);
int rs_run_bypassed(void);
int64_t rs_wait_now(const rs_run *run);
int rs_skips_waits(void);
int rs_place_here(void);

void rs_gate_deliver(rs_gate *gate, PyObject *subject, int in_finaliser);
void rs_notify_rejected(rs_gate *gate, const rs_rejection *why);
void rs_notify_settled(rs_gate *gate, int outcome, int64_t latency_ns, PyObject *error);

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

/* ---- the ambient chain: the calls in flight in this thread, innermost first --------------------------------- */
typedef struct rs_frame {
    rs_run *run;
    struct rs_frame *outer;
    PyObject *view; /* the CurrentCall made for it, owned, or NULL */
} rs_frame;

extern RS_THREAD_LOCAL rs_frame *rs_innermost, *rs_streams;
extern int rs_greenlets;           /* is `greenlet` loaded? */
extern PyObject *rs_modules;       /* sys.modules */
extern Py_ssize_t rs_modules_seen; /* its size when `greenlet` was last looked up */
int rs_greenlets_init(void);
int rs_greenlets_loaded(void);
void rs_greenlet_runs(void); /* make the chains those of the running greenlet */
/* Return 1 if another greenlet, whose stack occupies the same memory, may interrupt the call that begins now. */
static inline int rs_shares_stack(void)
{
    return RS_UNLIKELY(rs_greenlets)
           || (RS_UNLIKELY(PyDict_GET_SIZE(rs_modules) != rs_modules_seen) && rs_greenlets_loaded());
}
static inline rs_frame **rs_ambient(void)
{
    if (RS_UNLIKELY(rs_greenlets))
        rs_greenlet_runs();
    return &rs_innermost;
}
static inline void rs_ambient_enter(rs_frame *frame)
{
    rs_frame **top = rs_ambient();
    frame->outer = *top;
    *top = frame;
}
static inline void rs_ambient_leave(rs_frame *frame)
{
    rs_frame **top = rs_ambient(); /* first: with greenlets it may change frame->outer */
    *top = frame->outer;
}
/* The streams whose first item is in the making: phases are reported to them too. */
static inline rs_frame **rs_ambient_streams(void)
{
    if (RS_UNLIKELY(rs_greenlets))
        rs_greenlet_runs();
    return &rs_streams;
}
void rs_frame_end(rs_frame *frame); /* the run is over: its view raises from now on */

/* ---- the ambient deadline: of the calls in flight in this thread, and of the context ------------------------- */
extern int rs_deadline_count; /* deadlines that some context may hold */
PyObject *rs_deadline_make(int64_t until_ns, int64_t allowed_ns, PyObject *outer);
void rs_deadline_forget(PyObject *deadline);
extern uint32_t rs_detached; /* number of detached blocks begun so far: calls from before a block are outside it */
int rs_detached_from(const rs_run *run); /* is this code in a detached block that began after *run*? */
int64_t rs_deadline_with_context(const rs_frame *top);
PyObject *rs_seconds_left(PyObject *module, PyObject *unused);
PyObject *rs_deadline_allowed(void); /* the seconds for which it was set, or None; NULL with an exception */
int rs_deadline_interrupts(int64_t now);
/* Return 1 if a value set in a generator's frame is in effect: the weakly referenced generator runs.
   NULL: set outside any generator. */
int rs_holds_in(PyObject *reference, int closed);
int rs_is_gone(PyObject *reference, int closed); /* it will never be in effect again */
/* A weak reference to *object*, or NULL for None. -1 with an exception if it can have none. */
int rs_refer_weakly(PyObject *object, PyObject **reference);
/* The time at which the ambient deadline passes, RS_NEVER if there is none. Needs the GIL, and no exception pending. */
static inline int64_t rs_deadline_ns(void)
{
    const rs_frame *top = *rs_ambient();
    if (RS_UNLIKELY(__atomic_load_n(&rs_deadline_count, __ATOMIC_RELAXED) != 0))
        return rs_deadline_with_context(top);
    return top ? top->run->deadline_ns : RS_NEVER;
}

/* ---- the ambient priority, of the context ---------------------------------------------------------------------- */
extern int rs_priority_count; /* priorities that some context may hold */
extern PyTypeObject rs_AmbientPriorityType;
int rs_priority_here(uint64_t *task);

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

extern const rs_core_api rs_api;
extern PyTypeObject rs_GateType, rs_WaiterType, rs_PipelineType, rs_GuardType, rs_CallType, rs_PermitType,
    rs_RejectionType, rs_ResultType, rs_CurrentCallType, rs_AmbientDeadlineType, rs_InnerCallType;

PyObject *rs_call_new(rs_pipeline *pipe, PyObject *func, PyObject *const *args, size_t nargsf, PyObject *kwnames,
                      int mode, GuardObject *guard);
PyObject *rs_call_adopt(rs_run *run, PyObject *func, const rs_request *request, PyObject *awaitable, int mode,
                        GuardObject *guard);
PyObject *rs_invoke_inside(rs_pipeline *pipe, int first, PyObject *func, PyObject *const *args, size_t nargsf,
                           PyObject *kwnames, GuardObject *guard, rs_ledger *ledger, uint16_t lane, uint32_t attempt);
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
void rs_permit_drop(PyObject *permit);
int rs_block_add(PyObject *module);
int rs_statuses_add(PyObject *module);
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
void rs_gate_forget_all(void);
void rs_waiter_after_fork(void);
void rs_ledger_after_fork(void);
int rs_finalizing(void); /* is the interpreter shutting down? */

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
    if (Py_EnterRecursiveCall(" in a guarded call"))
        return NULL;
    PyObject *result = PyObject_Vectorcall(func, args, nargsf, kwnames);
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
