/* Private APIs in use: each is proven before it is used, and has a public alternative.
 *
 * docs/reference/private-names.md lists them all. A Python newer than those tested reads no private layout: of this list
 * it uses `with_order` alone, which is proven by watching. RS_PUBLIC_ONLY builds so on any Python; RESILIO_PUBLIC_ONLY=1
 * runs without any of them.
 */
#ifndef RS_PRIVATE_H
#define RS_PRIVATE_H
#define PY_SSIZE_T_CLEAN
#include <Python.h>

#if PY_VERSION_HEX >= 0x03100000 && !defined(RS_PUBLIC_ONLY) /* newest tested: 3.15 */
#define RS_PUBLIC_ONLY
#endif

// clang-format off
#define RS_PRIVATE_NAMES(X)                                                                                            \
    X(with_order) X(running_loop_holder) X(running_loop) X(current_tasks) X(origin_depth) X(stop_iteration)            \
    X(function) X(code_flags) X(spare_steps) X(spare_calls) X(type_lookup) X(exception_group) X(greenlet)

typedef enum {
#define X(name) RS_PRIVATE_##name,
    RS_PRIVATE_NAMES(X)
#undef X
    RS_PRIVATES
} rs_private;
// clang-format on

typedef enum { RS_UNUSED, RS_IN_USE, RS_PRIVATE_FAILED, RS_NOT_HERE } rs_private_state;

extern uint8_t rs_private_is[RS_PRIVATES];

#define RS_USES(name) __builtin_expect(rs_private_is[RS_PRIVATE_##name] == RS_IN_USE, 1)

/* Return 1 if its proof may be tried: it is not failed or inapplicable. */
static inline int rs_private_may(rs_private which) { return rs_private_is[which] <= RS_IN_USE; }
static inline void rs_private_proved(rs_private which, int holds)
{
    rs_private_is[which] = holds ? RS_IN_USE : RS_PRIVATE_FAILED;
}

int rs_private_init(void); /* before the first use; -1 with an exception */
PyObject *rs_private_report(PyObject *module, PyObject *unused);

/* ---- each with its public alternative; a new reference, or NULL with an exception -------------------------------- */
PyObject *rs_group_leaves(PyObject *group);          /* of an exception group; attributes of its class are ignored */
PyObject *rs_stop_value(PyObject *stop);             /* of a StopIteration; None if it has none */
int rs_type_has(PyTypeObject *type, PyObject *name); /* never an exception */
long rs_flags_asked(PyObject *code);

static inline long rs_code_flags(PyObject *code)
{
#ifndef RS_PUBLIC_ONLY
    if (RS_USES(code_flags))
        return ((PyCodeObject *)code)->co_flags;
#endif
    return rs_flags_asked(code);
}

int rs_depth_asked(void);
static inline int rs_origin_depth(void) /* of sys.set_coroutine_origin_tracking_depth */
{
#ifndef RS_PUBLIC_ONLY
    if (RS_USES(origin_depth))
        return PyThreadState_Get()->coroutine_origin_tracking_depth;
#endif
    return rs_depth_asked();
}
#endif
