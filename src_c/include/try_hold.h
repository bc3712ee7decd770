/* A reference to an object that may be on its way out: taken if anybody else still holds one.
 *
 * What makes this sound is the owner of the pointer: the object's tp_dealloc must take it back, under the lock under which
 * it is read. Without the GIL whoever holds a reference has to allow it before.
 */
#ifndef RS_TRY_HOLD_H
#define RS_TRY_HOLD_H
#include <Python.h>

#if !defined(Py_GIL_DISABLED)
static inline void rs_allow_try_hold(PyObject *object) { (void)object; }
static inline int rs_try_hold(PyObject *object)
{
    if (Py_REFCNT(object) <= 0)
        return 0;                           /* its tp_dealloc is at work */
    Py_INCREF(object);
    return 1;
}
#elif PY_VERSION_HEX >= 0x030E0000
static inline void rs_allow_try_hold(PyObject *object) { PyUnstable_EnableTryIncRef(object); }
static inline int rs_try_hold(PyObject *object) { return PyUnstable_TryIncRef(object); }
#else
#define MAYBE_WEAKLY_HELD 1                 /* a flag of the shared count: freeing looks at the count once more */
#define FLAGS 3
static inline void rs_allow_try_hold(PyObject *object)
{
    Py_ssize_t shared = __atomic_load_n(&object->ob_ref_shared, __ATOMIC_RELAXED);
    while ((shared & FLAGS) == 0
           && !__atomic_compare_exchange_n(&object->ob_ref_shared, &shared, shared | MAYBE_WEAKLY_HELD, 0,
                                           __ATOMIC_ACQ_REL, __ATOMIC_RELAXED))
        ;
}

static inline int rs_try_hold(PyObject *object)
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

/* Is the caller's reference the only one? Then no other thread can reach the object. Without the GIL the count is kept in two
 * halves, and a sum of both may never have been true: only a count that lies in one half is believed. */
static inline int rs_is_only_reference(PyObject *object)
{
#if !defined(Py_GIL_DISABLED)
    return Py_REFCNT(object) == 1;
#elif PY_VERSION_HEX >= 0x030E0000
    return PyUnstable_Object_IsUniquelyReferenced(object);
#else
    Py_ssize_t shared = __atomic_load_n(&object->ob_ref_shared, __ATOMIC_ACQUIRE);
    if (_Py_IsOwnedByCurrentThread(object))
        return shared >> _Py_REF_SHARED_SHIFT == 0 && Py_REFCNT(object) == 1;   /* its own half is this thread's to change */
    return shared == ((1 << _Py_REF_SHARED_SHIFT) | FLAGS);     /* merged: nothing is in the other half */
#endif
}

#endif
