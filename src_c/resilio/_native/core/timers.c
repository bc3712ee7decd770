/* The timer wheel of each asyncio loop, and the one timer of the loop that drives it.
 *
 * Who holds whom: the loop's timer holds the wheel, and so does each timer armed in it, and the thread in which it was
 * made (one wheel, until another loop arms here). The wheel holds the loop and the loop's timer weakly. So a loop that is
 * closed takes its timer with it, nothing fires any more, and the wheel goes with the last timer in it.
 *
 * The loop's timer, the alarm, is set only for a timer that is due before it, and stays when that one is disarmed: it
 * fires in vain then, and is set for the next timer if there is one. A call with a timeout costs no loop.call_at.
 * A loop on virtual time would jump to an alarm that means nothing: there an empty wheel has none.
 *
 * Locks: the lists belong to whoever holds the wheel's lock, the alarm belongs to the loop's thread. A lock must outlive
 * the wheel, since a timer may fire and let go of it while another thread is about to disarm that timer; so locks are
 * static, and wheels share them.
 */
#include "core.h"
#include "timers.h"

#define LOCKS 64
#define OUT_OF_STEP_NS INT64_C(50000000)
#define FIRST_PAUSE_NS INT64_C(1000)

typedef struct {
    PyObject_HEAD
    rs_wheel wheel;
    PyObject *loop;                 /* a weak reference, or the loop if it allows none */
    PyObject *alarm;                /* a weak reference to the loop's timer, or NULL */
    int64_t alarm_ns;               /* when it is to fire, in the wheel's time; RS_WHEEL_NEVER: there is none */
    int64_t ahead_ns;               /* the wheel's time is the library's clock and this */
    int64_t pause_ns;               /* how long to wait at least after an alarm that came early; 0 after one that did not */
    unsigned long long number;      /* of the alarm */
    unsigned long thread;
    uint32_t epoch;
    uint16_t lock;
    uint8_t weakly;                 /* the loop is held weakly */
    uint8_t time_was_virtual;       /* when the alarm was set */
} WheelObject;

static rs_lock locks[LOCKS];
static uint32_t wheels_made, epoch;
RS_THREAD_LOCAL struct {
    uint64_t state;                 /* the thread state whose dict holds the wheel */
    WheelObject *wheel;
} here;

static inline int time_is_virtual(void) { return (RS_CLOCK_LOAD(rs_clk->mode) & RS_CLOCK_VIRTUAL) != 0; }
static inline int64_t later(int64_t ns, int64_t by) { return ns > INT64_MAX - by ? INT64_MAX : ns + by; }
static inline int64_t now_in(const WheelObject *self) { return later(rs_clock_now(rs_clk), self->ahead_ns); }
static inline void lock_wheel(WheelObject *self) { rs_lock_acquire(&locks[self->lock]); }
static inline void unlock_wheel(WheelObject *self) { rs_lock_release(&locks[self->lock]); }

/* Was it made before a fork? Another thread may then have been in the midst of its lists: they are left alone. */
static inline int is_from_before_fork(const WheelObject *self)
{
#ifdef Py_GIL_DISABLED
    return self->epoch != epoch;
#else
    return 0;
#endif
}

void rs_timers_after_fork(void)
{
    for (int i = 0; i < LOCKS; i++)
        rs_lock_reset(&locks[i]);
    epoch++;
    if (here.wheel && here.state == PyThreadState_GetID(PyThreadState_Get()))
        here.wheel->epoch = epoch;          /* this thread was not in the midst of it */
    rs_running_loop_after_fork();
}

/* ---- references ----------------------------------------------------------------------------------------------- */
#if !defined(Py_GIL_DISABLED)
static inline void allow_try_hold(PyObject *object) { (void)object; }
static inline int try_hold(PyObject *object)
{
    if (Py_REFCNT(object) <= 0)
        return 0;                           /* its tp_dealloc is at work */
    Py_INCREF(object);
    return 1;
}
#elif PY_VERSION_HEX >= 0x030E0000
static inline void allow_try_hold(PyObject *object) { PyUnstable_EnableTryIncRef(object); }
static inline int try_hold(PyObject *object) { return PyUnstable_TryIncRef(object); }
#else
#define MAYBE_WEAKLY_HELD 1                 /* a flag of the shared count: freeing looks at the count once more */
#define FLAGS 3
static inline void allow_try_hold(PyObject *object)
{
    Py_ssize_t shared = __atomic_load_n(&object->ob_ref_shared, __ATOMIC_RELAXED);
    while ((shared & FLAGS) == 0
           && !__atomic_compare_exchange_n(&object->ob_ref_shared, &shared, shared | MAYBE_WEAKLY_HELD, 0,
                                           __ATOMIC_ACQ_REL, __ATOMIC_RELAXED))
        ;
}

static inline int try_hold(PyObject *object)
{
    if (_Py_IsOwnedByCurrentThread(object) || _Py_IsImmortal(object)) {
        Py_INCREF(object);
        return 1;
    }
    Py_ssize_t shared = __atomic_load_n(&object->ob_ref_shared, __ATOMIC_RELAXED);
    while (shared != 0 && shared != FLAGS)  /* FLAGS alone: merged, and nobody holds it */
        if (__atomic_compare_exchange_n(&object->ob_ref_shared, &shared, shared + (1 << _Py_REF_SHARED_SHIFT), 0,
                                        __ATOMIC_ACQ_REL, __ATOMIC_RELAXED))
            return 1;
    return 0;
}
#endif

/* A new reference to what a weak reference leads to, or NULL without an exception. */
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

static PyObject *strong_loop(WheelObject *self) { return self->weakly ? strong(self->loop) : Py_XNewRef(self->loop); }

/* Is this the wheel of a loop that is alive? */
static inline int belongs_to(const WheelObject *self, PyObject *loop)
{
    if (RS_UNLIKELY(!self->weakly))
        return self->loop == loop;
    return __atomic_load_n(&((PyWeakReference *)self->loop)->wr_object, __ATOMIC_RELAXED) == loop;
}

/* ---- the alarm ------------------------------------------------------------------------------------------------ */
static void cancel(PyObject *handle)
{
    PyObject *done = PyObject_CallMethod(handle, "cancel", NULL);
    if (done == NULL)
        PyErr_WriteUnraisable(handle);
    Py_XDECREF(done);
}

/* Cancel the loop's timer that a weak reference leads to, and drop the reference. */
static void cancel_weak(PyObject *alarm)
{
    PyObject *handle = alarm ? strong(alarm) : NULL;
    if (handle)
        cancel(handle);
    Py_XDECREF(handle);
    Py_XDECREF(alarm);
}

static void cancel_alarm(WheelObject *self)
{
    PyObject *alarm = self->alarm;
    self->alarm = NULL;
    self->alarm_ns = RS_WHEEL_NEVER;
    cancel_weak(alarm);
}

/* loop.call_later(delay, self, number, context=<empty>): the context of whoever happens to arm is not kept alive. */
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

/* Keep what cancels the alarm. One that allows no weak reference is not cancelled, and fires in vain. */
static void keep_handle(WheelObject *self, PyObject *handle)
{
    self->alarm = PyWeakref_NewRef(handle, NULL);
    if (self->alarm == NULL)
        PyErr_Clear();
}

/* Set the alarm to when_ns, instead of a later one. -1 with an exception, and the old alarm still set. */
static int set_alarm(WheelObject *self, PyObject *loop, int64_t when_ns, int64_t now_ns)
{
    PyObject *old = self->alarm;
    int64_t old_ns = self->alarm_ns, delay_ns = when_ns - now_ns;
    unsigned long long number = ++self->number;
    self->alarm_ns = when_ns;               /* before the call: it may run a finaliser that arms a timer as well */
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
        cancel(handle);                     /* that finaliser's is earlier */
    Py_XDECREF(handle);
    PyObject *type, *error, *traceback;
    PyErr_Fetch(&type, &error, &traceback);
    cancel_weak(old);
    PyErr_Restore(type, error, traceback);
    return ok ? 0 : -1;
}

/* ---- firing --------------------------------------------------------------------------------------------------- */
/* Take the first timer that is due: 0 if there is none. *owner is held, or NULL. *fire is NULL if the owner is going. */
static int take(WheelObject *self, rs_timer **timer, PyObject **owner, void (**fire)(rs_timer *))
{
    lock_wheel(self);
    *timer = rs_wheel_due(&self->wheel);
    if (*timer) {
        *owner = (*timer)->owner;
        *fire = (*timer)->fire;
        if (*owner && !try_hold(*owner)) {
            *owner = NULL;
            *fire = NULL;
        }
        rs_wheel_disarm(&self->wheel, *timer);
    }
    unlock_wheel(self);
    return *timer != NULL;
}

/* Report what a callback raised, or keep what the loop has to see. */
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
        Py_DECREF(self);                    /* the timer's; the caller has one */
        if (fire) {
            fire(timer);
            if (RS_UNLIKELY(PyErr_Occurred() != NULL))
                report(owner, interrupt);
        }
        Py_XDECREF(owner);
    }
}

/* Move on to now, or to alarm_ns if the loop says that this is now: loops round, and so may come a little early. One that
   comes much too early keeps a time of its own, as loops for tests do: the wheel then goes by that. */
static void move_on(WheelObject *self, int64_t alarm_ns)
{
    int64_t now = now_in(self);
    self->pause_ns = 0;
    if (alarm_ns != RS_WHEEL_NEVER && now < alarm_ns) {
        if (alarm_ns - now > OUT_OF_STEP_NS) {
            self->ahead_ns = later(self->ahead_ns, alarm_ns - now);
            now = alarm_ns;
        } else
            self->pause_ns = FIRST_PAUSE_NS;
    }
    lock_wheel(self);
    rs_wheel_advance(&self->wheel, now);
    unlock_wheel(self);
}

static int64_t next_due(WheelObject *self)
{
    lock_wheel(self);
    int64_t next = rs_wheel_next_due(&self->wheel);
    unlock_wheel(self);
    return next;
}

/* Have the alarm stand no later than the next timer. A signal handler that raises in the midst of it is not to lose it. */
static void set_next_alarm(WheelObject *self, PyObject **interrupt)
{
    int64_t next = next_due(self);
    if (next == RS_WHEEL_NEVER && self->alarm_ns != RS_WHEEL_NEVER && time_is_virtual())
        cancel_alarm(self);
    PyObject *loop = next < self->alarm_ns ? strong_loop(self) : NULL;
    for (int again = 0; loop && again < 2 && next < self->alarm_ns; again++)
        if (set_alarm(self, loop, next, now_in(self)) < 0)
            report((PyObject *)self, interrupt);
    Py_XDECREF(loop);
}

/* The loop calls: with the alarm's number, or with 0 to look after an alarm that is not needed any more. */
static PyObject *wheel_call(WheelObject *self, PyObject *args, PyObject *kwargs)
{
    static char *names[] = {"number", NULL};
    unsigned long long number;
    int64_t alarm_ns = RS_WHEEL_NEVER;
    int64_t pause_ns = self->pause_ns;
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
    if (self->pause_ns && pause_ns)
        self->pause_ns = 8 * pause_ns;      /* early once more: the loop's time has coarser steps than that */
    fire_due(self, &interrupt);
    set_next_alarm(self, &interrupt);
    Py_DECREF(self);
    if (interrupt == NULL)
        Py_RETURN_NONE;
    PyErr_SetObject((PyObject *)Py_TYPE(interrupt), interrupt);
    Py_DECREF(interrupt);
    return NULL;
}

/* ---- the wheel of a loop -------------------------------------------------------------------------------------- */
static WheelObject *wheel_new(PyObject *loop)
{
    WheelObject *self = PyObject_GC_New(WheelObject, &rs_WheelType);
    if (self == NULL)
        return NULL;
    memset((char *)self + sizeof(PyObject), 0, sizeof(WheelObject) - sizeof(PyObject));
    self->loop = PyWeakref_NewRef(loop, NULL);
    self->weakly = self->loop != NULL;
    if (!self->weakly) {
        PyErr_Clear();
        self->loop = Py_NewRef(loop);
    }
    rs_wheel_init(&self->wheel, 0);
    self->alarm_ns = RS_WHEEL_NEVER;
    self->thread = PyThread_get_thread_ident();
    self->epoch = epoch;
    self->lock = (uint16_t)(__atomic_fetch_add(&wheels_made, 1, __ATOMIC_RELAXED) % LOCKS);
    PyObject_GC_Track(self);
    return self;
}

static int wheel_traverse(WheelObject *self, visitproc visit, void *arg)
{
    Py_VISIT(self->loop);
    Py_VISIT(self->alarm);
    return 0;
}

static int wheel_clear(WheelObject *self)
{
    self->weakly = 0;                       /* of nobody from here on */
    Py_CLEAR(self->loop);
    Py_CLEAR(self->alarm);
    return 0;
}

static void wheel_dealloc(WheelObject *self)
{
    PyObject_GC_UnTrack(self);
    wheel_clear(self);
    PyObject_GC_Del(self);
}

/* A wheel for the loop that has begun to run here. New reference. It replaces the one that this thread has held. */
static WheelObject *wheel_adopt(PyObject *loop)
{
    PyObject *dict = PyThreadState_GetDict();
    WheelObject *self = dict ? wheel_new(loop) : (WheelObject *)PyErr_NoMemory();
    if (self == NULL)
        return NULL;
    here.wheel = NULL;                      /* from here on it may be freed */
    if (PyDict_SetItemString(dict, rs_WheelType.tp_name, (PyObject *)self) < 0) {
        Py_DECREF(self);
        return NULL;
    }
    if (PyDict_GetItemString(dict, rs_WheelType.tp_name) == (PyObject *)self) {
        here.state = PyThreadState_GetID(PyThreadState_Get());
        here.wheel = self;
    }
    return self;
}

/* The wheel of the loop that runs here. New reference. */
static inline WheelObject *wheel_here(PyObject *loop)
{
    WheelObject *self = here.wheel;
    if (RS_LIKELY(self && here.state == PyThreadState_GetID(PyThreadState_Get()) && belongs_to(self, loop)
                  && !is_from_before_fork(self)))
        return (WheelObject *)Py_NewRef(self);
    return wheel_adopt(loop);
}

/* ---- arming and disarming ------------------------------------------------------------------------------------- */
/* Link the timer, whose reference to the wheel the caller has taken. now_ns: NEVER if it was not read. */
static inline void link_timer(WheelObject *self, rs_timer *timer, int64_t due_ns, int64_t now_ns)
{
    __atomic_store_n(&timer->lock, self->lock, __ATOMIC_RELAXED);
    lock_wheel(self);
    if (now_ns != RS_WHEEL_NEVER && self->wheel.pending == 0)
        self->wheel.elapsed = (uint64_t)(now_ns / RS_TICK_NS);      /* it has stood still while nothing was armed */
    else if (RS_UNLIKELY(rs_wheel_tick(due_ns) < self->wheel.elapsed)) {
        now_ns = now_in(self);
        if ((uint64_t)(now_ns / RS_TICK_NS) < self->wheel.elapsed)
            rs_wheel_rewind(&self->wheel, now_ns);                  /* virtual time has ended, or was set back */
    }
    rs_wheel_arm(&self->wheel, timer, due_ns);
    unlock_wheel(self);
}

/* The alarm does not stand in time for this timer. Arming it has to read the clock, and to ask the loop. */
static int arm_with_alarm(WheelObject *self, rs_timer *timer, int64_t due_ns, PyObject *loop)
{
    int64_t now_ns = now_in(self), when_ns = (int64_t)rs_wheel_tick(due_ns) * RS_TICK_NS;
    if (self->time_was_virtual != time_is_virtual())
        cancel_alarm(self);
    link_timer(self, timer, due_ns, now_ns);
    int64_t next_ns = self->alarm_ns == RS_WHEEL_NEVER && self->wheel.pending > 1 ? next_due(self) : when_ns;
    if (set_alarm(self, loop, next_ns < when_ns ? next_ns : when_ns, now_ns) == 0)
        return 0;
    rs_timer_disarm(timer);
    return -1;
}

int rs_timer_arm(rs_timer *timer, int64_t due_ns, PyObject **loop_out)
{
    rs_timer_disarm(timer);
    PyObject *loop = rs_running_loop();
    if (loop_out)
        *loop_out = loop;
    WheelObject *self = loop ? wheel_here(loop) : NULL;
    if (RS_UNLIKELY(self == NULL))
        return -1;
    if (timer->owner)
        allow_try_hold(timer->owner);
    due_ns = later(due_ns, self->ahead_ns);
    if (RS_UNLIKELY((int64_t)rs_wheel_tick(due_ns) * RS_TICK_NS < self->alarm_ns
                    || self->time_was_virtual != time_is_virtual()))
        return arm_with_alarm(self, timer, due_ns, loop);
    link_timer(self, timer, due_ns, RS_WHEEL_NEVER);
    return 0;
}

/* Unlink the timer and return its wheel with the timer's reference to it; NULL if another thread was faster. */
static inline WheelObject *unlink_timer(rs_timer *timer, int *is_empty)
{
    WheelObject *self = NULL;
    do {
        uint16_t at = __atomic_load_n(&timer->lock, __ATOMIC_RELAXED);
        rs_lock_acquire(&locks[at]);
        if (RS_LIKELY(timer->wheel && timer->lock == at)) {
            self = (WheelObject *)((char *)timer->wheel - offsetof(WheelObject, wheel));
            if (is_from_before_fork(self))
                __atomic_store_n(&timer->wheel, NULL, __ATOMIC_RELEASE);
            else
                rs_wheel_disarm(&self->wheel, timer);
            *is_empty = self->wheel.pending == 0;
        }
        rs_lock_release(&locks[at]);
    } while (RS_UNLIKELY(self == NULL && rs_timer_armed(timer)));
    return self;
}

/* Virtual time, and nothing is armed any more: the loop must not jump to the alarm. */
static void drop_alarm(WheelObject *self)
{
    PyObject *type, *error, *traceback, *loop;
    PyErr_Fetch(&type, &error, &traceback);
    if (self->thread == PyThread_get_thread_ident())
        cancel_alarm(self);
    else if ((loop = strong_loop(self)) != NULL) {
        PyObject *done = PyObject_CallMethod(loop, "call_soon_threadsafe", "Oi", self, 0);
        if (done == NULL)
            PyErr_Clear();                  /* it is closed */
        Py_XDECREF(done);
        Py_DECREF(loop);
    }
    PyErr_Restore(type, error, traceback);
}

void rs_timer_disarm(rs_timer *timer)
{
    int is_empty = 0;
    if (!rs_timer_armed(timer))
        return;
    WheelObject *self = unlink_timer(timer, &is_empty);
    if (RS_UNLIKELY(self == NULL))
        return;
    if (RS_UNLIKELY(is_empty && time_is_virtual()))
        drop_alarm(self);
    Py_DECREF(self);
}

PyTypeObject rs_WheelType = {
    PyVarObject_HEAD_INIT(NULL, 0).tp_name = "resilio._native.core.Wheel",
    .tp_basicsize = sizeof(WheelObject),
    .tp_flags = Py_TPFLAGS_DEFAULT | Py_TPFLAGS_HAVE_GC | Py_TPFLAGS_DISALLOW_INSTANTIATION,
    .tp_doc = "What the one timer of an asyncio loop calls.",
    .tp_call = (ternaryfunc)wheel_call,
    .tp_traverse = (traverseproc)wheel_traverse,
    .tp_clear = (inquiry)wheel_clear,
    .tp_dealloc = (destructor)wheel_dealloc,
};

int rs_timers_init(PyObject *module)
{
    return PyType_Ready(&rs_WheelType) < 0 ? -1 : PyModule_AddType(module, &rs_TimerType);
}
