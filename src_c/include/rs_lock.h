/* A lock for short sections: C arithmetic only, no Python call, no allocation inside.
 *
 * With the GIL nothing can run between two C statements, so the lock is empty. Without it, it is a PyMutex.
 * A Python call or an allocation inside a section may run a finaliser that settles a call on the same gate: a deadlock.
 *
 * A build for coverage calls a trace function at each line of Cython, where another thread may get the GIL: there the
 * lock is real. Its own thread may take it again, since such a function may run a finaliser.
 */
#ifndef RS_LOCK_H
#define RS_LOCK_H
#include <Python.h>
#if defined(CYTHON_TRACE_NOGIL) && CYTHON_TRACE_NOGIL
#include <sched.h>
#endif

#ifdef Py_GIL_DISABLED
typedef struct {
    PyMutex mutex;
} rs_lock;
static inline void rs_lock_acquire(rs_lock *lock) { PyMutex_Lock(&lock->mutex); }
static inline void rs_lock_release(rs_lock *lock) { PyMutex_Unlock(&lock->mutex); }
static inline void rs_lock_reset(rs_lock *lock) { lock->mutex = (PyMutex){0}; }
#elif defined(CYTHON_TRACE_NOGIL) && CYTHON_TRACE_NOGIL
typedef struct {
    unsigned long owner; /* the thread; of both fields the GIL is the lock */
    int depth;           /* how often it has the lock; 0: free */
} rs_lock;
static inline void rs_lock_acquire(rs_lock *lock)
{
    unsigned long me = PyThread_get_thread_ident();
    while (lock->depth && lock->owner != me) {
        Py_BEGIN_ALLOW_THREADS;
        sched_yield();
        Py_END_ALLOW_THREADS;
    }
    lock->owner = me;
    lock->depth++;
}
static inline void rs_lock_release(rs_lock *lock) { lock->depth--; }
static inline void rs_lock_reset(rs_lock *lock) { lock->depth = 0; }
#else
typedef struct {
    char unused;
} rs_lock;
static inline void rs_lock_acquire(rs_lock *lock) { (void)lock; }
static inline void rs_lock_release(rs_lock *lock) { (void)lock; }
static inline void rs_lock_reset(rs_lock *lock) { (void)lock; }
#endif
#endif
