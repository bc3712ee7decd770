/* The wheel of one asyncio loop: declarations shared by timers.c (arming) and alarm.c (firing). */
#ifndef RS_LOOP_WHEEL_H
#define RS_LOOP_WHEEL_H
#include "core.h"
#include "timers/timers.h"

#define RS_WHEEL_LOCKS 64

typedef struct rs_loop_wheel {
    PyObject_HEAD
    rs_wheel wheel;
    PyObject *loop;            /* a weak reference, or the loop if it allows none */
    PyObject *alarm;           /* a weak reference to the loop's timer, or NULL */
    struct rs_keeper *keeper;  /* the loop's, which owns it: cleared when that is freed; NULL: not looked up yet */
    int64_t alarm_ns;          /* when it fires, in the wheel's time; RS_WHEEL_NEVER: none is set */
    int64_t set_ns;            /* when it was set */
    int64_t ahead_ns;          /* the wheel's time is the library's clock plus this */
    int64_t pause_ns;          /* least delay after an alarm that came early; 0 after one that did not */
    unsigned long long number; /* of the alarm */
    unsigned long thread;
    uint32_t epoch;
    uint16_t lock;
    uint8_t weakly;           /* the loop is held weakly */
    uint8_t time_was_virtual; /* when the alarm was set */
} WheelObject;

extern rs_lock rs_wheel_locks[RS_WHEEL_LOCKS];
extern uint32_t rs_wheel_epoch; /* counts forks */

static inline int time_is_virtual(void) { return (RS_CLOCK_LOAD(rs_clk->mode) & RS_CLOCK_VIRTUAL) != 0; }
static inline int64_t later(int64_t ns, int64_t by) { return ns > INT64_MAX - by ? INT64_MAX : ns + by; }
static inline int64_t now_in(const WheelObject *self) { return later(rs_clock_now(rs_clk), self->ahead_ns); }
static inline void lock_wheel(WheelObject *self) { rs_lock_acquire(&rs_wheel_locks[self->lock]); }
static inline void unlock_wheel(WheelObject *self) { rs_lock_release(&rs_wheel_locks[self->lock]); }

/* The wheel that an armed timer is in. */
static inline WheelObject *rs_wheel_of(const rs_timer *timer)
{
    return (WheelObject *)((char *)timer->wheel - offsetof(WheelObject, wheel));
}

/* Return 1 if it was made before a fork. Another thread may have been inside its lists then: they are left alone. */
static inline int is_from_before_fork(const WheelObject *self)
{
#ifdef Py_GIL_DISABLED
    return self->epoch != rs_wheel_epoch;
#else
    return 0;
#endif
}

PyObject *rs_wheel_loop(WheelObject *self); /* new reference; NULL without an exception if the loop is gone */
int64_t rs_wheel_next(WheelObject *self);   /* rs_wheel_next_due, with the lock */
void rs_wheel_cancel_alarm(WheelObject *self);
int rs_wheel_set_alarm(WheelObject *self, PyObject *loop, int64_t when_ns, int64_t now_ns);
PyObject *rs_wheel_call(WheelObject *self, PyObject *args, PyObject *kwargs);
#endif
