/* Take a reference to an object that may be in deallocation, if another reference still exists.
 *
 * The owner of the pointer makes this sound: the object's tp_dealloc must clear the pointer, under the lock under which
 * it is read. Without the GIL a holder of a reference has to call rs_allow_try_hold first.
 */
#ifndef RS_TRY_HOLD_H
#define RS_TRY_HOLD_H
#include <Python.h>

#if !defined(Py_GIL_DISABLED)
static inline void rs_allow_try_hold(PyObject *object) { (void)object; }
static inline int rs_try_hold(PyObject *object)
{
    if (Py_REFCNT(object) <= 0)
        return 0; /* its tp_dealloc is running */
    Py_INCREF(object);
    return 1;
}
#elif PY_VERSION_HEX >= 0x030E0000
static inline void rs_allow_try_hold(PyObject *object) { PyUnstable_EnableTryIncRef(object); }
static inline int rs_try_hold(PyObject *object) { return PyUnstable_TryIncRef(object); }
#else
#define MAYBE_WEAKLY_HELD 1 /* a flag of the shared count: freeing reads the count again */
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
    while (shared != 0 && shared != FLAGS) /* FLAGS alone: merged, no reference left */
        if (__atomic_compare_exchange_n(&object->ob_ref_shared, &shared, shared + (1 << _Py_REF_SHARED_SHIFT), 0,
                                        __ATOMIC_ACQ_REL, __ATOMIC_RELAXED))
            return 1;
    return 0;
}
#endif

/* True if the caller's reference is the only one: no other thread can reach the object then. Without the GIL the count
 * has two halves, and their sum may never have been true at one moment: only a count that lies in one half is valid. */
static inline int rs_is_only_reference(PyObject *object)
{
#if !defined(Py_GIL_DISABLED)
    return Py_REFCNT(object) == 1;
#elif PY_VERSION_HEX >= 0x030E0000
    return PyUnstable_Object_IsUniquelyReferenced(object);
#else
    Py_ssize_t shared = __atomic_load_n(&object->ob_ref_shared, __ATOMIC_ACQUIRE);
    if (_Py_IsOwnedByCurrentThread(object))
        return shared >> _Py_REF_SHARED_SHIFT == 0 && Py_REFCNT(object) == 1; /* no other thread changes this half */
    return shared == ((1 << _Py_REF_SHARED_SHIFT) | FLAGS);                   /* merged: the other half is empty */
#endif
}

#endif
