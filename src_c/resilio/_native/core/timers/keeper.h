/* Let a loop keep an object alive (keeper.c). A zeroed rs_keep keeps nothing. */
#ifndef RS_KEEPER_H
#define RS_KEEPER_H
#define PY_SSIZE_T_CLEAN
#include <Python.h>

struct rs_loop_wheel;

typedef struct rs_keep {
    struct rs_keep *prev, *next; /* a ring; NULL: on none */
    PyObject *keeper;            /* owner of the ring; visited by the object that contains this struct */
    PyObject *kept;              /* visited by the keeper */
} rs_keep;

/* Keep *kept* alive as long as *loop* lives, or until rs_keep_end. Keeps nothing if the loop does not allow it.
   *wheel*: that of the loop, which runs in this thread, or NULL. */
void rs_keep_begin(rs_keep *node, PyObject *loop, struct rs_loop_wheel *wheel, PyObject *kept);

/* Release it. Any thread, finalisers included. The release may run a finaliser: a pending exception is lost. */
void rs_keep_end(rs_keep *node);

extern PyTypeObject rs_KeeperType;
#endif
