/* The timer wheel of each asyncio loop, and the one timer of the loop that drives it.
 *
 * Ownership: the wheel is held by the loop's timer, by each timer armed in it, and by the thread in which it was made
 * (one wheel, until another loop arms here). The wheel holds the loop and the loop's timer weakly. So a closed loop
 * takes its timer with it, nothing fires any more, and the wheel dies with the last timer in it.
 *
 * The loop's timer, the alarm, is set only for a timer that is due before it, and stays when that one is disarmed. It
 * then fires in vain, and is set for the next timer if there is one. So a call with a timeout costs no loop.call_at. A
 * loop on virtual time would jump to a meaningless alarm: there an empty wheel has none.
 *
 * Locks: the wheel's lock protects the lists; the alarm belongs to the loop's thread. A lock must outlive the
 * wheel, since a firing timer may free the wheel while another thread is about to disarm that timer. So locks
 * are static, and wheels share them.
 */
#include "timers/keeper.h"
#include "timers/loop_wheel.h"
#include "try_hold.h"

rs_lock rs_wheel_locks[RS_WHEEL_LOCKS];
uint32_t rs_wheel_epoch;
static uint32_t wheels_made;
static RS_THREAD_LOCAL struct {
    uint64_t state; /* the thread state whose dict holds the wheel */
    WheelObject *wheel;
} here;

void rs_timers_after_fork(void)
{
    for (int i = 0; i < RS_WHEEL_LOCKS; i++)
        rs_lock_reset(&rs_wheel_locks[i]);
    rs_wheel_epoch++;
    if (here.wheel && here.state == PyThreadState_GetID(PyThreadState_Get()))
        here.wheel->epoch = rs_wheel_epoch; /* this thread was not inside the wheel */
    rs_running_loop_after_fork();
}

/* ---- the wheel of a loop -------------------------------------------------------------------------------------- */
/* Return 1 if this is the wheel of *loop*, which is alive. */
static inline int belongs_to(const WheelObject *self, PyObject *loop)
{
    if (RS_UNLIKELY(!self->weakly))
        return self->loop == loop;
    return __atomic_load_n(&((PyWeakReference *)self->loop)->wr_object, __ATOMIC_RELAXED) == loop;
}

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
    self->epoch = rs_wheel_epoch;
    self->lock = (uint16_t)(__atomic_fetch_add(&wheels_made, 1, __ATOMIC_RELAXED) % RS_WHEEL_LOCKS);
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
    self->weakly = 0; /* belongs to no loop from here on */
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

/* A wheel for the loop that now runs here, a new reference. It replaces this thread's former one. */
static WheelObject *wheel_adopt(PyObject *loop)
{
    PyObject *dict = PyThreadState_GetDict();
    WheelObject *self = dict ? wheel_new(loop) : (WheelObject *)PyErr_NoMemory();
    if (self == NULL)
        return NULL;
    here.wheel = NULL; /* from here on it may be freed */
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
/* Link the timer, for which the caller has taken a reference to the wheel. now_ns: NEVER if the clock was not read. */
static inline void link_timer(WheelObject *self, rs_timer *timer, int64_t due_ns, int64_t now_ns)
{
    __atomic_store_n(&timer->lock, self->lock, __ATOMIC_RELAXED);
    lock_wheel(self);
    if (now_ns != RS_WHEEL_NEVER && self->wheel.pending == 0)
        self->wheel.elapsed = (uint64_t)(now_ns / RS_TICK_NS); /* it did not advance while nothing was armed */
    else if (RS_UNLIKELY(rs_wheel_tick(due_ns) < self->wheel.elapsed)) {
        now_ns = now_in(self);
        if ((uint64_t)(now_ns / RS_TICK_NS) < self->wheel.elapsed)
            rs_wheel_rewind(&self->wheel, now_ns); /* virtual time has ended, or was set back */
    }
    rs_wheel_arm(&self->wheel, timer, due_ns);
    unlock_wheel(self);
}

/* Arm a timer that needs an earlier alarm: read the clock, and call the loop. */
static int arm_with_alarm(WheelObject *self, rs_timer *timer, int64_t due_ns, PyObject *loop)
{
    int64_t now_ns = now_in(self), when_ns = (int64_t)rs_wheel_tick(due_ns) * RS_TICK_NS;
    if (self->time_was_virtual != time_is_virtual())
        rs_wheel_cancel_alarm(self);
    link_timer(self, timer, due_ns, now_ns);
    int64_t next_ns = self->alarm_ns == RS_WHEEL_NEVER && self->wheel.pending > 1 ? rs_wheel_next(self) : when_ns;
    if (rs_wheel_set_alarm(self, loop, next_ns < when_ns ? next_ns : when_ns, now_ns) == 0)
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
        rs_allow_try_hold(timer->owner);
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
        rs_lock_acquire(&rs_wheel_locks[at]);
        if (RS_LIKELY(timer->wheel && timer->lock == at)) {
            self = rs_wheel_of(timer);
            if (is_from_before_fork(self))
                __atomic_store_n(&timer->wheel, NULL, __ATOMIC_RELEASE);
            else
                rs_wheel_disarm(&self->wheel, timer);
            *is_empty = self->wheel.pending == 0;
        }
        rs_lock_release(&rs_wheel_locks[at]);
    } while (RS_UNLIKELY(self == NULL && rs_timer_armed(timer)));
    return self;
}

/* No timer is left in virtual time: cancel the alarm, so that the loop does not jump to it. */
static void drop_alarm(WheelObject *self)
{
    PyObject *type, *error, *traceback, *loop;
    PyErr_Fetch(&type, &error, &traceback);
    if (self->thread == PyThread_get_thread_ident())
        rs_wheel_cancel_alarm(self);
    else if ((loop = rs_wheel_loop(self)) != NULL) {
        PyObject *done = PyObject_CallMethod(loop, "call_soon_threadsafe", "Oi", self, 0);
        if (done == NULL)
            PyErr_Clear(); /* it is closed */
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
    .tp_doc = "Callback of the only timer of an asyncio loop.",
    .tp_call = (ternaryfunc)rs_wheel_call,
    .tp_traverse = (traverseproc)wheel_traverse,
    .tp_clear = (inquiry)wheel_clear,
    .tp_dealloc = (destructor)wheel_dealloc,
};

int rs_timers_init(PyObject *module)
{
    if (PyType_Ready(&rs_WheelType) < 0 || PyModule_AddType(module, &rs_KeeperType) < 0)
        return -1;
    return PyModule_AddType(module, &rs_TimerType);
}
