/* The one timer of the loop that drives a wheel: how it is set, and how it fires. */
#include "timers/loop_wheel.h"
#include "try_hold.h"

#define FAR_OFF_NS INT64_C(50000000) /* no loop fires as early as that by rounding */
#define OFF_NS INT64_C(4000000)      /* nor as early as this after a wait that took no time */
#define FIRST_PAUSE_NS INT64_C(1000)

/* A new reference to the referent of a weak reference, or NULL without an exception. */
static PyObject *strong(PyObject *weak)
{
    PyObject *object;
#if PY_VERSION_HEX >= 0x030D0000
    if (PyWeakref_GetRef(weak, &object) < 0)
        PyErr_Clear();
    return object;
#else
    object = PyWeakref_GetObject(weak);
    return object == Py_None ? NULL : Py_NewRef(object);
#endif
}

PyObject *rs_wheel_loop(WheelObject *self) { return self->weakly ? strong(self->loop) : Py_XNewRef(self->loop); }

/* ---- the alarm ------------------------------------------------------------------------------------------------ */
static void cancel(PyObject *handle)
{
    PyObject *done = PyObject_CallMethod(handle, "cancel", NULL);
    int interrupts = 0;
    while (done == NULL && interrupts < 8 && PyErr_ExceptionMatches(PyExc_KeyboardInterrupt)) {
        PyErr_Clear(); /* it interrupted the cancel, and is raised again below */
        interrupts++;
        done = PyObject_CallMethod(handle, "cancel", NULL);
    }
    if (done == NULL)
        PyErr_WriteUnraisable(handle);
    if (interrupts)
        PyErr_SetInterrupt();
    Py_XDECREF(done);
}

/* Cancel the loop's timer behind a weak reference, and drop the reference. */
static void cancel_weak(PyObject *alarm)
{
    PyObject *handle = alarm ? strong(alarm) : NULL;
    if (handle)
        cancel(handle);
    Py_XDECREF(handle);
    Py_XDECREF(alarm);
}

void rs_wheel_cancel_alarm(WheelObject *self)
{
    PyObject *alarm = self->alarm;
    self->alarm = NULL;
    self->alarm_ns = RS_WHEEL_NEVER;
    cancel_weak(alarm);
}

/* loop.call_later(delay, self, number, context=<empty>): an empty context, so that the
   arming code's is not kept alive. */
static PyObject *call_later(WheelObject *self, PyObject *loop, int64_t delay_ns)
{
    PyObject *method = PyObject_GetAttrString(loop, "call_later"), *context = PyContext_New();
    PyObject *args = Py_BuildValue("(dOK)", (double)delay_ns * 1e-9, self, self->number);
    PyObject *kwargs = Py_BuildValue("{sO}", "context", context);
    PyObject *handle = method && context && args && kwargs ? PyObject_Call(method, args, kwargs) : NULL;
    Py_XDECREF(kwargs);
    Py_XDECREF(args);
    Py_XDECREF(context);
    Py_XDECREF(method);
    return handle;
}

/* Keep the handle that cancels the alarm. A handle without weak references is not cancelled, and fires in vain. */
static void keep_handle(WheelObject *self, PyObject *handle)
{
    self->alarm = PyWeakref_NewRef(handle, NULL);
    if (self->alarm == NULL)
        PyErr_Clear();
}

/* Set the alarm to when_ns, instead of a later one. -1 with an exception, and the old alarm still set. */
int rs_wheel_set_alarm(WheelObject *self, PyObject *loop, int64_t when_ns, int64_t now_ns)
{
    PyObject *old = self->alarm;
    int64_t old_ns = self->alarm_ns, delay_ns = when_ns - now_ns;
    unsigned long long number = ++self->number;
    self->alarm_ns = when_ns; /* before the call: it may run a finaliser that arms a timer as well */
    self->set_ns = now_ns;
    self->alarm = NULL;
    self->time_was_virtual = (uint8_t)time_is_virtual();
    PyObject *handle = call_later(self, loop, delay_ns > self->pause_ns ? delay_ns : self->pause_ns);
    int is_latest = self->number == number, ok = handle != NULL;
    if (!ok && is_latest) {
        self->number--;
        self->alarm_ns = old_ns;
        self->alarm = old;
        return -1;
    }
    if (ok && is_latest)
        keep_handle(self, handle);
    else if (ok)
        cancel(handle); /* the alarm of that finaliser is earlier */
    Py_XDECREF(handle);
    PyObject *type, *error, *traceback;
    PyErr_Fetch(&type, &error, &traceback);
    cancel_weak(old);
    PyErr_Restore(type, error, traceback);
    return ok ? 0 : -1;
}

/* ---- firing --------------------------------------------------------------------------------------------------- */
/* Take the first due timer: 0 if there is none. *owner is held, or NULL. *fire is NULL if the owner is being freed. */
static int take(WheelObject *self, rs_timer **timer, PyObject **owner, void (**fire)(rs_timer *))
{
    lock_wheel(self);
    *timer = rs_wheel_due(&self->wheel);
    if (*timer) {
        *owner = (*timer)->owner;
        *fire = (*timer)->fire;
        if (*owner && !rs_try_hold(*owner)) {
            *owner = NULL;
            *fire = NULL;
        }
        rs_wheel_disarm(&self->wheel, *timer);
    }
    unlock_wheel(self);
    return *timer != NULL;
}

/* Report an exception of a callback, or keep it in *interrupt* if the loop must see it. */
static void report(PyObject *owner, PyObject **interrupt)
{
    PyObject *type, *traceback;
    if (*interrupt || PyErr_ExceptionMatches(PyExc_Exception))
        return PyErr_WriteUnraisable(owner);
    PyErr_Fetch(&type, interrupt, &traceback);
    PyErr_NormalizeException(&type, interrupt, &traceback);
    if (traceback)
        PyException_SetTraceback(*interrupt, traceback);
    Py_XDECREF(type);
    Py_XDECREF(traceback);
}

static void fire_due(WheelObject *self, PyObject **interrupt)
{
    rs_timer *timer;
    PyObject *owner;
    void (*fire)(rs_timer *);
    while (take(self, &timer, &owner, &fire)) {
        Py_DECREF(self); /* the timer's reference; the caller has one */
        if (fire) {
            fire(timer);
            if (RS_UNLIKELY(PyErr_Occurred() != NULL))
                report(owner, interrupt);
        }
        Py_XDECREF(owner);
    }
}

/* The loop's time is alarm_ns, yet the clock's is earlier. Return 1 if the loop keeps its own time, as test loops do,
   or if the library's clock stands still in a virtual time that this loop does not follow. */
static int is_out_of_step(const WheelObject *self, int64_t alarm_ns, int64_t now)
{
    int64_t early = alarm_ns - now, passed = now - self->set_ns;
    return early > FAR_OFF_NS || passed == 0 || (early > OFF_NS && passed < (alarm_ns - self->set_ns) / 8);
}

/* Advance to now. A loop rounds, and so may fire a little early: then the alarm is set again. A loop out of step is
   trusted: the wheel follows its time from then on. */
static void move_on(WheelObject *self, int64_t alarm_ns)
{
    int64_t now = now_in(self), pause_ns = self->pause_ns;
    self->pause_ns = 0;
    if (alarm_ns != RS_WHEEL_NEVER && now < alarm_ns) {
        if (is_out_of_step(self, alarm_ns, now)) {
            self->ahead_ns = later(self->ahead_ns, alarm_ns - now);
            now = alarm_ns;
        }
        else /* early again: the loop's time has coarser steps than the last pause */
            self->pause_ns = pause_ns ? 8 * pause_ns : FIRST_PAUSE_NS;
    }
    lock_wheel(self);
    rs_wheel_advance(&self->wheel, now);
    unlock_wheel(self);
}

int64_t rs_wheel_next(WheelObject *self)
{
    lock_wheel(self);
    int64_t next = rs_wheel_next_due(&self->wheel);
    unlock_wheel(self);
    return next;
}

/* Set the alarm no later than the next timer. A signal handler that raises meanwhile must not lose it. */
static void set_next_alarm(WheelObject *self, PyObject **interrupt)
{
    int64_t next = rs_wheel_next(self);
    if (next == RS_WHEEL_NEVER && self->alarm_ns != RS_WHEEL_NEVER && time_is_virtual())
        rs_wheel_cancel_alarm(self);
    PyObject *loop = next < self->alarm_ns ? rs_wheel_loop(self) : NULL;
    for (int again = 0; loop && again < 2 && next < self->alarm_ns; again++)
        if (rs_wheel_set_alarm(self, loop, next, now_in(self)) < 0)
            report((PyObject *)self, interrupt);
    Py_XDECREF(loop);
}

/* Called by the loop: with the alarm's number, or with 0 to remove an alarm that is not needed any more. */
PyObject *rs_wheel_call(WheelObject *self, PyObject *args, PyObject *kwargs)
{
    static char *names[] = {"number", NULL};
    unsigned long long number;
    int64_t alarm_ns = RS_WHEEL_NEVER;
    PyObject *interrupt = NULL;
    if (!PyArg_ParseTupleAndKeywords(args, kwargs, "K:wheel", names, &number))
        return NULL;
    if (is_from_before_fork(self))
        Py_RETURN_NONE;
    if (number == self->number) {
        alarm_ns = self->alarm_ns;
        self->alarm_ns = RS_WHEEL_NEVER;
        Py_CLEAR(self->alarm);
    }
    Py_INCREF(self);
    self->thread = PyThread_get_thread_ident();
    move_on(self, alarm_ns);
    fire_due(self, &interrupt);
    set_next_alarm(self, &interrupt);
    Py_DECREF(self);
    if (interrupt == NULL)
        Py_RETURN_NONE;
    PyErr_SetObject((PyObject *)Py_TYPE(interrupt), interrupt);
    Py_DECREF(interrupt);
    return NULL;
}
