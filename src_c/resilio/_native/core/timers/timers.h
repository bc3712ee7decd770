/* Timers of the asyncio loop that runs in this thread: many of them share one timer of the loop.
 *
 * Put an rs_timer into a struct, zero it, set `fire` and `owner`, and arm it. When its time comes the loop calls
 * fire(timer): never early, at most one tick (1/8 ms) and the loop's own delay late, in an empty context, with the timer
 * disarmed and no lock held. It may arm and disarm any timer, this one included. What it raises is reported as
 * unraisable; an exception that is no Exception (a Ctrl-C) goes on into the loop once all others have fired.
 *
 * `owner` is the Python object that the struct is part of. It is held while it fires; one that is being freed does not
 * fire. Its tp_dealloc must call rs_timer_disarm before anything else. Arming does not keep the owner alive: keeper.h
 * has the loop keep what the owner is to interrupt. An owner of NULL is possible where nothing can free the timer while
 * another thread may be firing it.
 *
 * Without the GIL a timer may fire just after another thread disarmed it, and so must look whether it is still wanted.
 */
#ifndef RS_TIMERS_H
#define RS_TIMERS_H
#define PY_SSIZE_T_CLEAN
#include <Python.h>
#include "wheel.h"

/* Have the timer fire at due_ns of the library's clock, in the loop that runs in this thread; an armed timer is moved.
 *
 * *loop, if asked for, is that loop, borrowed: it is alive as long as it runs. It is set even if arming fails later on.
 * -1 with an exception, and the timer disarmed: no loop runs here (RuntimeError), or what its call_later raised. */
int rs_timer_arm(rs_timer *timer, int64_t due_ns, PyObject **loop);

/* Forget the timer; nothing happens if it is disarmed. Any thread, finalisers included; keeps a pending exception. */
void rs_timer_disarm(rs_timer *timer);

static inline int rs_timer_armed(const rs_timer *timer)
{
    return __atomic_load_n(&timer->wheel, __ATOMIC_ACQUIRE) != NULL;
}

/* The asyncio loop that runs in this thread, borrowed. NULL with RuntimeError if none does. */
PyObject *rs_running_loop(void);

int rs_timers_init(PyObject *module);       /* when the module is executed */
void rs_timers_after_fork(void);            /* in the child */
void rs_running_loop_after_fork(void);      /* called by the above */

extern PyTypeObject rs_WheelType, rs_TimerType;
#endif
