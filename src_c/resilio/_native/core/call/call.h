/* The call's fields, and declarations shared by its files. */
#ifndef RS_CALL_H
#define RS_CALL_H
#include "core.h"
#include "timers/keeper.h"
#include "timers/timers.h"

#define RS_INLINE_ARGS 6
#define RS_FREE_CALLS 64

typedef enum { CREATED, WAITING, SLEEPING, RUNNING, DONE } rs_call_state;

typedef struct CallObject {
    PyObject_HEAD
    rs_run run;
    rs_pipeline *pipe;
    PyObject *func;
    GuardObject *guard; /* for names in messages; or NULL */
    PyObject *inner;
    PyObject *kwnames;
    PyObject **args; /* args[0] is free for vectorcall's offset */
    Py_ssize_t nargs, total;
    rs_frame frame;
    PyObject *stop; /* the recycled StopIteration that carried the result */
    PyObject *origin;
    PyObject *weakrefs;
    PyObject *task;               /* the asyncio task that it suspends; NULL: no timer has been armed */
    PyObject *context;            /* a copy of the caller's context when a hedge stage began; or NULL */
    long cancelling;              /* the task's cancelling() at that time */
    rs_timer timer;               /* for the earliest wake_ns of its strategies */
    rs_keep keep;                 /* while it is armed, the loop keeps the task */
    uint8_t state, running, mode; /* running: it is being driven, admission included; no other code may drive it */
    uint8_t armed;                /* the timer is set correctly */
    uint8_t in_use;               /* the timer has been armed, and must be disarmed */
    uint8_t suspended;            /* it has suspended at least once */
    uint8_t met;                  /* visited by a collection since it last left one's lists */
    rs_slot slots[RS_INLINE_GATES];
    PyObject *inline_args[RS_INLINE_ARGS + 1];
} CallObject;

int rs_call_set_inner(CallObject *self, PyObject *awaitable);
void rs_call_drop_args_slowly(CallObject *self);
void rs_call_make_young(CallObject *self);
void rs_call_settle_dropped(CallObject *self);
void rs_call_end_slowly(CallObject *self);
void rs_call_arm(CallObject *self);
void rs_call_end_timer(CallObject *self);
int rs_call_ending(CallObject *self);
CallObject *rs_call_make(rs_pipeline *pipe, PyObject *func, int mode, GuardObject *guard);
PySendResult rs_call_go_on(CallObject *self, int verdict, rs_rejection *why, PyObject **result);
PySendResult rs_call_bypass(CallObject *self, PyObject **result);
PySendResult rs_call_finish(CallObject *self, PyObject *value, PyObject *error, int outcome, PyObject **result);
PySendResult rs_call_parked(CallObject *self, PySendResult sent, PyObject **result);
PySendResult rs_call_slept(CallObject *self, PySendResult sent, PyObject **result);
PySendResult rs_call_ended(CallObject *self, PyObject *value, PyObject **result);
PySendResult rs_call_after(CallObject *self, PySendResult sent, PyObject **result);
PySendResult rs_call_send(CallObject *self, PyObject *value, PyObject **result);
CallObject *rs_call_waiting(rs_run *run, const rs_request *request);
PySendResult rs_call_wait(CallObject *self, PyObject **result);
PyObject *rs_call_iternext(CallObject *self);
PyObject *rs_call_raise_stop(PyObject *value);
const char *rs_call_name(CallObject *self, PyObject **holder);
void rs_call_dealloc(CallObject *self);
int rs_call_traverse(CallObject *self, visitproc visit, void *arg);
int rs_call_clear(CallObject *self);
void rs_call_recycle_stop(PyObject *stop);

/* The call is the ambient one while its inner iterator runs. */
static inline void rs_call_enter(CallObject *self)
{
    rs_ambient_enter(&self->frame);
    self->running = 1;
}

static inline rs_request rs_call_request(CallObject *self)
{
    return (rs_request){.args = self->args + 1,
                        .nargs = self->nargs,
                        .kwnames = self->kwnames,
                        .hedge = self->run.hedge,
                        .func = self->func,
                        .context = (PyObject **)&self->context};
}

static inline void rs_call_leave(CallObject *self)
{
    rs_ambient_leave(&self->frame);
    self->running = 0;
}

static inline void rs_call_drop_args(CallObject *self)
{
    Py_ssize_t total = self->total;
    if (RS_UNLIKELY(self->args != self->inline_args || total != self->nargs)) {
        rs_call_drop_args_slowly(self);
        return;
    }
    self->total = self->nargs = 0;
    for (Py_ssize_t i = 1; i <= total; i++)
        Py_DECREF(self->inline_args[i]);
}

static inline void rs_call_end(CallObject *self)
{
    self->state = DONE;
    self->running = 0;
    if (RS_UNLIKELY(((uintptr_t)self->frame.view | (uintptr_t)self->context | self->in_use) != 0))
        rs_call_end_slowly(self);
}

/* Call *func*. NEXT: its awaitable is the inner iterator; RETURN: it returned a plain value. */
static inline PySendResult rs_call_function(CallObject *self, PyObject *func, PyObject *const *args, size_t nargsf,
                                            PyObject *kwnames, PyObject **result)
{
    self->state = RUNNING;
    rs_call_enter(self);
    PyObject *coroutine = rs_vectorcall(func, args, nargsf, kwnames);
    if (RS_LIKELY(!self->pipe->strategies))
        rs_call_drop_args(self); /* may run a finaliser that holds this call: `running` protects it */
    rs_call_leave(self);
    *result = NULL;
    if (RS_UNLIKELY(coroutine == NULL))
        return PYGEN_ERROR;
    if (RS_LIKELY(PyCoro_CheckExact(coroutine))) {
        self->inner = coroutine;
        return PYGEN_NEXT;
    }
    if (!rs_is_awaitable(coroutine)) {
        *result = coroutine;
        return PYGEN_RETURN;
    }
    return rs_call_set_inner(self, coroutine) < 0 ? PYGEN_ERROR : PYGEN_NEXT;
}

/* All gates admitted: create the user's coroutine. */
static inline PySendResult rs_call_invoke(CallObject *self, PyObject **result)
{
    return rs_call_function(self, self->func, self->args + 1, (size_t)self->nargs | PY_VECTORCALL_ARGUMENTS_OFFSET,
                            self->kwnames, result);
}
#endif
