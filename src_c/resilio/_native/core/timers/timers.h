/* Timers of the asyncio loop that runs in this thread: many of them share one timer of the loop.
 *
 * Put an rs_timer into a struct, zero it, set `fire` and `owner`, and arm it. When its time comes the loop calls
 * fire(timer) in an empty context, with the timer disarmed and no lock held. It is never early, and late by at most one
 * tick (1/8 ms) and the loop's own delay. It may arm and disarm any timer, this one included. Its exceptions are
 * reported as unraisable. One that is no Exception (a Ctrl-C) reaches the loop after all others have fired.
 *
 * `owner` is the Python object that contains the struct. It is held while it fires; one that is being freed does not
 * fire. Its tp_dealloc must call rs_timer_disarm before anything else. Arming does not keep the owner alive: with
 * keeper.h the loop keeps the object that the owner will interrupt. The owner may be NULL if nothing can free the timer
 * while another thread may be firing it.
 *
 * Without the GIL a timer may fire just after another thread disarmed it, so the callback must check
 * that it is still wanted.
 */
#ifndef RS_TIMERS_H
#define RS_TIMERS_H
#define PY_SSIZE_T_CLEAN
#include <Python.h>
#include "wheel.h"

/* Arm the timer to fire at due_ns of the library's clock, in the loop that runs in this thread;
 * an armed timer is moved.
 *
 * *loop, if not NULL, receives that loop, borrowed: it is alive while it runs. It is set even if arming fails later. -1
 * with an exception, and the timer disarmed: no loop runs here (RuntimeError), or its call_later raised. */
int rs_timer_arm(rs_timer *timer, int64_t due_ns, PyObject **loop);

/* Disarm the timer; nothing happens if it is disarmed. Any thread, finalisers included; keeps a pending exception. */
void rs_timer_disarm(rs_timer *timer);

static inline int rs_timer_armed(const rs_timer *timer)
{
    return __atomic_load_n(&timer->wheel, __ATOMIC_ACQUIRE) != NULL;
}

/* The asyncio loop that runs in this thread, borrowed. NULL with RuntimeError if none does. */
PyObject *rs_running_loop(void);

int rs_timers_init(PyObject *module);  /* when the module is executed */
void rs_timers_after_fork(void);       /* in the child */
void rs_running_loop_after_fork(void); /* called by the above */

extern PyTypeObject rs_WheelType, rs_TimerType;
#endif
