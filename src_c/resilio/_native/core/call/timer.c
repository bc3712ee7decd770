/* The timer of a call with timed strategies. When it fires, it starts a hedge or has the call cancelled.
 *
 * A call is interrupted as by asyncio.timeout: a callback of the loop cancels its task, and the strategy takes the
 * cancellation back when it arrives, unless the task was cancelled for another reason too. Meanwhile no second
 * cancellation is sent, whichever strategy expires: the user's cleanup runs undisturbed. The sign is the task's own
 * count of cancellations, which is higher than when the call first suspended, and dies with the task. A call that
 * begins within the cleanup has that count from its start, so its own timeout ends it.
 */
#include "call/call.h"
#include "timers/loop_wheel.h"

static PyObject *current_task;
#if PY_VERSION_HEX < 0x030C0000
static PyObject *current_tasks;
#endif

#define RETRY_NS 1000000 /* until another call's interruption of the same task is over */

static int64_t earliest_wake(const CallObject *self, int64_t until, int *stage)
{
    *stage = -1;
    int64_t earliest = RS_NEVER;
    for (int i = self->run.base; i < self->run.n; i++) {
        const rs_slot *slot = &self->run.slots[i];
        if (slot->gate->ops->strategy && slot->gate->ops->strategy->expired && slot->wake_ns < earliest
            && slot->wake_ns <= until) {
            earliest = slot->wake_ns;
            *stage = i;
            if (until != RS_NEVER)
                break; /* the outermost that is due */
        }
    }
    return earliest;
}

/* The task that the running loop is stepping. Owned; NULL with an exception. Before 3.12 `current_task` is Python, so
   the dict behind it is read here. Later it is C, and since 3.14 that dict is empty. */
static PyObject *task_of(PyObject *loop)
{
#if PY_VERSION_HEX < 0x030C0000
    if (rs_private_is[RS_PRIVATE_current_tasks] == RS_IN_USE)
        return Py_XNewRef(PyDict_GetItemWithError(current_tasks, loop));
#endif
    PyObject *hook = rs_python("asyncio", "current_task", &current_task);
    PyObject *task = hook ? PyObject_CallOneArg(hook, loop) : NULL;
    if (task == Py_None)
        Py_CLEAR(task);
#if PY_VERSION_HEX < 0x030C0000
    if (task && rs_private_is[RS_PRIVATE_current_tasks] == RS_UNUSED) {
        PyObject *tasks = rs_python("asyncio.tasks", "_current_tasks", &current_tasks);
        rs_private_proved(RS_PRIVATE_current_tasks,
                          tasks && PyDict_CheckExact(tasks) && PyDict_GetItemWithError(tasks, loop) == task);
        PyErr_Clear();
    }
#endif
    return task;
}

/* A method that returns a task's count of cancellations. Looked up once for the class of tasks,
   if that class is immutable. */
typedef struct {
    const char *name;
    PyTypeObject *type;
    PyObject *method;
} counting;
static counting cancelling = {"cancelling", NULL, NULL}, uncancel = {"uncancel", NULL, NULL};

static RS_APART PyObject *look_up_and_call(PyObject *task, counting *by)
{
    PyTypeObject *type = Py_TYPE(task);
    PyObject *found = PyType_HasFeature(type, Py_TPFLAGS_IMMUTABLETYPE)
                          ? PyObject_GetAttrString((PyObject *)type, by->name)
                          : NULL;
    PyObject *none = NULL;
    if (found && __atomic_compare_exchange_n(&by->method, &none, found, 0, __ATOMIC_ACQ_REL, __ATOMIC_RELAXED))
        __atomic_store_n(&by->type, type, __ATOMIC_RELEASE); /* both live as long as the process */
    else
        Py_XDECREF(found);
    PyErr_Clear();
    return PyObject_CallMethod(task, by->name, NULL);
}

static long cancelling_of(PyObject *task, counting *by)
{
    PyObject *count = RS_LIKELY(Py_TYPE(task) == __atomic_load_n(&by->type, __ATOMIC_ACQUIRE))
                          ? PyObject_Vectorcall(by->method, &task, 1, NULL)
                          : look_up_and_call(task, by);
    long n = count ? PyLong_AsLong(count) : -1;
    Py_XDECREF(count);
    if (RS_LIKELY(n >= 0))
        return n;
    rs_drop_error();
    return 0;
}

static void call_expired(rs_timer *timer);

/* The call suspends: arm the timer at the earliest wake time of its strategies. */
void rs_call_arm(CallObject *self)
{
    int stage;
    int64_t due = self->run.place == RS_ON_ASYNCIO ? earliest_wake(self, RS_NEVER, &stage) : RS_NEVER;
    PyObject *loop = NULL;
    self->armed = 1;
    if (due == RS_NEVER) {
        if (self->in_use) {
            rs_timer_disarm(&self->timer);
            rs_keep_end(&self->keep);
        }
        return;
    }
    self->timer.fire = call_expired;
    self->timer.owner = self;
    if (rs_timer_arm(&self->timer, due, &loop) < 0) {
        rs_drop_error(); /* no asyncio loop runs this call: no timer */
        return;
    }
    self->in_use = 1;
    if (self->task == NULL && (self->task = task_of(loop)) != NULL)
        self->cancelling = cancelling_of(self->task, &cancelling);
    if (RS_UNLIKELY(self->task == NULL))
        rs_drop_error();
    else if (self->keep.keeper == NULL)
        rs_keep_begin(&self->keep, loop, rs_wheel_of(&self->timer), self->task);
}

void rs_call_end_timer(CallObject *self)
{
    PyObject *type, *value, *traceback;
    int raises = PyErr_Occurred() != NULL;
    if (raises)
        PyErr_Fetch(&type, &value, &traceback);
    if (self->in_use) {
        rs_timer_disarm(&self->timer);
        rs_keep_end(&self->keep);
        Py_CLEAR(self->task);
    }
    self->in_use = 0;
    self->run.interrupt = RS_UNINTERRUPTED;
    Py_CLEAR(self->context);
    if (raises)
        PyErr_Restore(type, value, traceback);
}

/* Return 1 if the call is about to end: it is interrupted, or its task was cancelled otherwise
   since it first suspended. */
int rs_call_ending(CallObject *self)
{
    return self->run.interrupt || (self->task && cancelling_of(self->task, &cancelling) > self->cancelling);
}

/* 1: it is (being) interrupted; 0: it cannot be, since it is ending; -1: its task is being interrupted or cancelled
   right now. *tie*: the interruption in flight began in this same moment, so a deadline outranks a timeout. */
static int interrupt(CallObject *self, int stage, int reason, int tie)
{
    if (self->state == DONE || self->task == NULL || stage >= self->run.n)
        return 0;
    if (self->run.interrupt) {
        if (stage < self->run.interrupt_stage) {
            self->run.interrupt_stage = (int16_t)stage;
            self->run.interrupt = (uint8_t)reason;
        }
        else if (tie && reason == RS_OUT_OF_TIME && self->run.interrupt == RS_TIMED_OUT)
            self->run.interrupt = (uint8_t)reason;
        return 1;
    }
    if (rs_call_ending(self)) /* cancelled already: its cleanup runs undisturbed, however long it takes */
        return -1;
    self->run.interrupt = (uint8_t)reason;
    self->run.interrupt_stage = (int16_t)stage;
    PyObject *cancelled = PyObject_CallMethod(self->task, "cancel", NULL);
    int sent = cancelled == Py_True;
    Py_XDECREF(cancelled);
    if (!sent)
        self->run.interrupt = RS_UNINTERRUPTED;
    return sent;
}

int rs_call_interrupt(PyObject *call, int stage, int reason)
{
    int done = interrupt((CallObject *)call, stage, reason, 0);
    rs_drop_error();
    return done;
}

/* The interruption has arrived at its stage: take it back, and record in *end* whether it was the only one. */
int rs_call_settle_interrupt(PyObject *call, rs_end *end)
{
    CallObject *self = (CallObject *)call;
    int reason = self->run.interrupt, cancelled = 0;
    if (self->task)
        cancelled = cancelling_of(self->task, &uncancel) > self->cancelling;
    self->run.interrupt = RS_UNINTERRUPTED;
    end->cancelled = (uint8_t)cancelled;
    end->fired = (uint8_t)(cancelled ? RS_UNINTERRUPTED : reason);
    return reason;
}

/* Runs in a callback of the loop. */
static void call_expired(rs_timer *timer)
{
    CallObject *self = (CallObject *)((char *)timer - offsetof(CallObject, timer));
    int stage;
    if (self->running || self->state == DONE)
        return;
    int64_t now = rs_clock_now(rs_clk);
    int tie = !self->run.interrupt;
    while (self->state != DONE && earliest_wake(self, now, &stage) != RS_NEVER) {
        rs_slot *slot = &self->run.slots[stage];
        int64_t was = slot->wake_ns;
        slot->wake_ns = RS_NEVER;
        int reason = slot->gate->ops->strategy->expired(slot->gate, slot, (PyObject *)self, stage, now);
        if (reason && interrupt(self, stage, reason, tie) < 0) {
            slot->wake_ns = Py_MAX(was, now) + RETRY_NS;
            break;
        }
        rs_drop_error();
    }
    rs_drop_error();
    if (self->state != DONE)
        rs_call_arm(self);
}
