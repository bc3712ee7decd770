/* A lock for short sections: C arithmetic only, no Python call, no allocation inside.
 *
 * With the GIL nothing can run between two C statements, so the lock is empty. Without it, it is a PyMutex.
 * A Python call or an allocation inside a section may run a finaliser that settles a call on the same gate: a deadlock.
 */
#ifndef RS_LOCK_H
#define RS_LOCK_H
#include <Python.h>

#ifdef Py_GIL_DISABLED
typedef struct {
    PyMutex mutex;
} rs_lock;
static inline void rs_lock_acquire(rs_lock *lock) { PyMutex_Lock(&lock->mutex); }
static inline void rs_lock_release(rs_lock *lock) { PyMutex_Unlock(&lock->mutex); }
static inline void rs_lock_reset(rs_lock *lock) { lock->mutex = (PyMutex){0}; }
#else
typedef struct {
    char unused;
} rs_lock;
static inline void rs_lock_acquire(rs_lock *lock) { (void)lock; }
static inline void rs_lock_release(rs_lock *lock) { (void)lock; }
static inline void rs_lock_reset(rs_lock *lock) { (void)lock; }
#endif
#endif
