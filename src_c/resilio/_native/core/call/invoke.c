/* A call in this thread. */
#include "core.h"

static int is_future(PyObject *result)
{
    PyObject *blocking = PyObject_GetAttrString(result, "_asyncio_future_blocking");
    Py_XDECREF(blocking);
    rs_drop_error();
    return blocking != NULL;
}

/* The function returned an awaitable: the call ends when that does. Steals *result*. */
static PyObject *adopt(rs_run *run, PyObject *func, const rs_request *request, PyObject *result, int mode,
                       GuardObject *guard)
{
    if (mode == RS_MODE_RESULT || run->pipe->strategies || !is_future(result))
        return rs_call_adopt(run, func, request, result, mode, guard);
    PyObject *permit = rs_permit_new(run), *done = NULL, *added = NULL;
    if (permit)
        done = PyObject_GetAttrString(permit, "_future_done");
    if (done)
        added = PyObject_CallMethod(result, "add_done_callback", "O", done);
    Py_XDECREF(permit);
    Py_XDECREF(done);
    if (added == NULL)
        Py_CLEAR(result);
    Py_XDECREF(added);
    return result;
}

static PyObject *reject_context_manager(rs_run *run, PyObject *func, PyObject *result)
{
    rs_run_settle(run, RS_IGNORED, NULL, 0, rs_clock_now(rs_clk));
    PyErr_Format(PyExc_TypeError,
                 "%R returned an async context manager (%s), whose body no guard around the function can see: "
                 "use `async with policy:` inside it",
                 func, Py_TYPE(result)->tp_name);
    Py_DECREF(result);
    return NULL;
}

static int is_async_context_manager(PyObject *result)
{
    static PyObject *aenter;
    if (aenter == NULL && (aenter = PyUnicode_InternFromString("__aenter__")) == NULL)
        return 0;
    return rs_type_has(Py_TYPE(result), aenter);
}

static PyObject *returned(rs_run *run, PyObject *func, const rs_request *request, PyObject *result, int mode,
                          GuardObject *guard)
{
    PyTypeObject *type = Py_TYPE(result);
    if (RS_UNLIKELY(rs_is_awaitable(result)))
        return adopt(run, func, request, result, mode, guard);
    if (RS_UNLIKELY(type->tp_flags & Py_TPFLAGS_HEAPTYPE) && is_async_context_manager(result))
        return reject_context_manager(run, func, result);
    int outcome = rs_run_returned(run, result, rs_clock_now(rs_clk));
    if (RS_LIKELY(mode == RS_MODE_RAISE))
        return result;
    PyObject *wrapped = rs_result_value(result, outcome);
    Py_DECREF(result);
    return wrapped;
}

static PyObject *raised(rs_run *run, int mode)
{
    int outcome = rs_run_raised(run, rs_clock_now(rs_clk));
    if (mode == RS_MODE_RAISE || !PyErr_ExceptionMatches(PyExc_Exception))
        return NULL;
    PyObject *error = rs_take_error(), *result = rs_result_error(error, outcome);
    Py_XDECREF(error);
    return result;
}

static PyObject *rejected(rs_run *run, const rs_rejection *why, int mode)
{
    rs_gate *gate = run->slots[run->cursor].gate;
    PyObject *result = NULL;
    if (mode == RS_MODE_RESULT)
        rs_result_attach(result = rs_result_rejected(gate, why), run);
    else {
        rs_rejection_raise(gate, why);
        if (run->n == run->base)
            rs_ledger_attach_pending(run);
    }
    rs_run_forget_rejected(run);
    return result;
}

/* An exception in place of a verdict. */
static PyObject *unasked(rs_run *run)
{
    rs_ledger_attach_pending(run);
    return NULL;
}

static inline int admit_from(rs_run *run, const rs_request *request, int first, int may_wait, rs_rejection *why)
{
    int verdict = rs_run_admit(run, request, first, may_wait, 0, why);
    return RS_UNLIKELY(verdict == RS_WAIT) ? rs_run_wait_sync(run, request, why) : verdict;
}

int rs_admit_sync(rs_run *run, const rs_request *request, int may_wait, rs_rejection *why)
{
    return RS_UNLIKELY(rs_bypass_count) && rs_run_bypassed() ? RS_ADMITTED
                                                             : admit_from(run, request, run->base, may_wait, why);
}

/* ---- with strategies ---------------------------------------------------------------------------------------- */

static PyObject *backend_sleep;

/* Block this thread until *at*. -1 with an exception, usually from a signal. */
static int sleep_until(int64_t at, int64_t now)
{
    if (at <= now || (rs_no_wait_count && rs_skips_waits()))
        return 0;
    PyObject *hook = rs_hook("sleep", &backend_sleep);
    PyObject *slept = hook ? PyObject_CallFunction(hook, "d", (double)(at - now) / 1e9) : NULL;
    Py_XDECREF(slept);
    return slept ? 0 : -1;
}

static PyObject *delegated(rs_run *run, PyObject *func, const rs_request *request)
{
    PyObject *inner = rs_inner_call_of(rs_inner_call_new(run->pipe, run->cursor + 1, func, NULL, request, 0), run);
    PyObject *result = inner ? rs_run_delegate(run, inner, "run") : NULL;
    Py_XDECREF(inner);
    return result;
}

/* Go inward from *first* on. Return the result of the nearest strategy's inner part, or NULL if it raised. */
static PyObject *inward(rs_run *run, PyObject *func, const rs_request *request, int verdict, rs_rejection *why,
                        rs_end *end)
{
    end->called = verdict != RS_REJECTED && verdict != -1;
    if (RS_LIKELY(verdict == RS_ADMITTED))
        return rs_vectorcall(func, request->args, (size_t)request->nargs, request->kwnames);
    if (verdict == RS_DELEGATE)
        return delegated(run, func, request);
    if (verdict == RS_REJECTED)
        return rejected(run, why, RS_MODE_RAISE);
    return NULL;
}

/* A strategy's own target has returned *value* (stolen): this call cannot await it. */
static PyObject *at_once(PyObject *target, PyObject *value)
{
    if (RS_LIKELY(value == NULL || !rs_is_awaitable(value)))
        return value;
    PyObject *closed = PyObject_HasAttrString(value, "close") ? PyObject_CallMethod(value, "close", NULL) : NULL;
    Py_XDECREF(closed);
    rs_drop_error();
    PyErr_Format(PyExc_TypeError, "%R returned an awaitable to a call that is not async", target);
    Py_DECREF(value);
    return NULL;
}

static int slept_until(rs_run *run, int64_t at, int64_t now)
{
    if (at > now)
        rs_ledger_go(run, RS_RETRY_SLEEP, now);
    return sleep_until(at, now);
}

/* Carry out the answer of the strategy at run->n - 1. */
static PyObject *answer(rs_run *run, PyObject *func, const rs_request *request, int next, rs_end *end)
{
    rs_rejection why = {-1, NAN, NAN, -1};
    PyObject *target = end->target, *argument = end->argument, *value = NULL;
    end->target = end->argument = NULL;
    end->called = next != RS_AGAIN;
    rs_ledger_answered(run, next, end->now_ns);
    if (next == RS_CALL && argument)
        value = at_once(target, PyObject_CallOneArg(target, argument));
    else if (next == RS_CALL)
        value = at_once(target, rs_vectorcall(target, request->args, (size_t)request->nargs, request->kwnames));
    else if (next == RS_AWAIT)
        PyErr_Format(PyExc_TypeError, "a strategy wants to await %R in a thread", target);
    else if (slept_until(run, end->resume_ns, end->now_ns) == 0) {
        run->attempt++;
        value = inward(run, func, request, admit_from(run, request, run->n, 1, &why), &why, end);
    }
    Py_XDECREF(target);
    Py_XDECREF(argument);
    return value;
}

/* The run is over: produce the caller's result. */
static PyObject *finish(rs_end *end, int mode)
{
    PyObject *result = end->value;
    if (result && mode == RS_MODE_RAISE)
        return result;
    if (result == NULL && (mode == RS_MODE_RAISE || !PyObject_TypeCheck(end->error, (PyTypeObject *)PyExc_Exception))) {
        rs_raise_error(end->error);
        return NULL;
    }
    result = result ? rs_result_value(result, end->outcome) : rs_result_error(end->error, end->outcome);
    Py_XDECREF(end->value);
    Py_XDECREF(end->error);
    return result;
}

static PyObject *invoke_stages(rs_run *run, rs_frame *frame, PyObject *func, const rs_request *request, int mode,
                               GuardObject *guard)
{
    rs_rejection why = {-1, NAN, NAN, -1};
    rs_end end = {.request = request, .func = func};
    int verdict = rs_admit_sync(run, request, 1, &why);
    if (RS_UNLIKELY((verdict == RS_REJECTED || verdict == -1) && run->n == run->base))
        return verdict == RS_REJECTED ? rejected(run, &why, mode) : unasked(run);
    rs_ambient_enter(frame);
    PyObject *value = inward(run, func, request, verdict, &why, &end);
    for (;;) {
        if (RS_UNLIKELY(value && rs_is_awaitable(value))) {
            rs_ambient_leave(frame);
            Py_XDECREF(end.error);
            Py_XDECREF(end.value);
            value = adopt(run, func, request, value, mode, guard);
            break;
        }
        rs_ambient_leave(frame); /* judges and strategies run outside the call */
        if (RS_LIKELY(value && mode == RS_MODE_RAISE && rs_run_succeeded(run))) {
            Py_XDECREF(end.error);
            Py_XDECREF(end.value);
            break;
        }
        rs_end_load(&end, value);
        int next = rs_run_outward(run, &end);
        if (RS_LIKELY(next == RS_PASS)) {
            value = finish(&end, mode);
            break;
        }
        rs_ambient_enter(frame);
        value = answer(run, func, request, next, &end);
    }
    if (RS_UNLIKELY(frame->view != NULL))
        rs_frame_end(frame);
    return value;
}

/* ---- without ------------------------------------------------------------------------------------------------ */

static inline PyObject *invoke_gates(rs_run *run, rs_frame *frame, PyObject *func, const rs_request *request, int mode,
                                     GuardObject *guard)
{
    rs_rejection why = {-1, NAN, NAN, -1};
    int verdict = rs_admit_sync(run, request, 1, &why);
    if (RS_UNLIKELY(verdict != RS_ADMITTED))
        return verdict == RS_REJECTED ? rejected(run, &why, mode) : unasked(run);
    rs_ambient_enter(frame);
    PyObject *result = rs_vectorcall(func, request->args, (size_t)request->nargs, request->kwnames);
    rs_ambient_leave(frame);
    result = RS_LIKELY(result != NULL) ? returned(run, func, request, result, mode, guard) : raised(run, mode);
    if (RS_UNLIKELY(frame->view != NULL))
        rs_frame_end(frame);
    return result;
}

/* How a call begins: its guard, and the call around it. */
typedef struct {
    PyObject *func, *const *args;
    size_t nargsf;
    PyObject *kwnames;
    int mode;
    GuardObject *guard;
    const rs_inside *inside; /* NULL: no other stages of its pipeline are around it */
} beginning;

static inline PyObject *invoke_run(rs_run *run, rs_frame *frame, const beginning *of)
{
    rs_request request = {
        .args = of->args, .nargs = PyVectorcall_NARGS(of->nargsf), .kwnames = of->kwnames, .func = of->func};
    PyObject *pipe = Py_NewRef((PyObject *)run->pipe); /* the function may drop the last reference to its own guard */
    if (RS_UNLIKELY(of->inside != NULL))
        rs_run_enter(run, of->inside);
    PyObject *result = RS_LIKELY(!run->pipe->strategies)
                           ? invoke_gates(run, frame, of->func, &request, of->mode, of->guard)
                           : invoke_stages(run, frame, of->func, &request, of->mode, of->guard);
    Py_DECREF(pipe);
    if (RS_UNLIKELY(((uintptr_t)run->ledger | (uintptr_t)run->route | (uintptr_t)run->around) != 0))
        rs_run_leave(run);
    return result;
}

/* With greenlets, state that other greenlets may read while another one runs is not kept on the stack. */
static __attribute__((noinline)) PyObject *invoke_off_stack(rs_pipeline *pipe, int first, const beginning *of)
{
    struct {
        rs_run run;
        rs_frame frame;
    } *kept = PyMem_Malloc(sizeof *kept);
    rs_slot *slots = kept ? rs_slots_new(pipe) : NULL;
    PyObject *result = NULL;
    if (slots) {
        kept->run = rs_run_of(pipe, slots, first, rs_epoch);
        kept->frame = (rs_frame){&kept->run, NULL, NULL};
        result = invoke_run(&kept->run, &kept->frame, of);
        PyMem_Free(kept->run.slots);
    }
    else if (kept == NULL)
        PyErr_NoMemory();
    PyMem_Free(kept);
    return result;
}

/* Call *func* through the stages from *first* on, in this thread. */
static inline PyObject *invoke_from(rs_pipeline *pipe, int first, const beginning *of)
{
    if (RS_UNLIKELY(rs_shares_stack()))
        return invoke_off_stack(pipe, first, of);
    /* Not larger: nested guards share one stack. */
    rs_slot slots[pipe->n > 0 && pipe->n <= RS_INLINE_GATES ? pipe->n : 1];
    rs_run run = rs_run_of(pipe, rs_slots_for(pipe, slots), first, rs_epoch);
    rs_frame frame = {&run, NULL, NULL};
    if (RS_UNLIKELY(run.slots == NULL))
        return NULL;
    PyObject *result = invoke_run(&run, &frame, of);
    if (RS_UNLIKELY(run.slots && run.slots != slots))
        PyMem_Free(run.slots);
    return result;
}

/* The same for a call that has run the earlier stages. */
PyObject *rs_invoke_inside(rs_pipeline *pipe, int first, PyObject *func, PyObject *const *args, size_t nargsf,
                           PyObject *kwnames, GuardObject *guard, const rs_inside *inside)
{
    return invoke_from(pipe, first, &(beginning){func, args, nargsf, kwnames, RS_MODE_RAISE, guard, inside});
}

PyObject *rs_invoke(rs_pipeline *pipe, PyObject *func, PyObject *const *args, size_t nargsf, PyObject *kwnames,
                    int mode, GuardObject *guard)
{
    return invoke_from(pipe, 0, &(beginning){func, args, nargsf, kwnames, mode, guard, NULL});
}
