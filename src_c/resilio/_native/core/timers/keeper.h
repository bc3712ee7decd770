/* Have a loop keep an object alive (keeper.c). A zeroed rs_keep keeps nothing. */
#ifndef RS_KEEPER_H
#define RS_KEEPER_H
#define PY_SSIZE_T_CLEAN
#include <Python.h>

struct rs_loop_wheel;

typedef struct rs_keep {
    struct rs_keep *prev, *next;    /* a ring; NULL: on none */
    PyObject *keeper;               /* whose ring; whoever has the struct visits it */
    PyObject *kept;                 /* the keeper visits it */
} rs_keep;

/* Keep *kept*, which is alive, as long as *loop* is or until rs_keep_end. Keeps nothing where the loop does not allow it.
   *wheel*: that of the loop, which runs in this thread, or NULL. */
void rs_keep_begin(rs_keep *node, PyObject *loop, struct rs_loop_wheel *wheel, PyObject *kept);

/* Keep it no longer. Any thread, finalisers included. What is let go of may run a finaliser: a pending exception is lost. */
void rs_keep_end(rs_keep *node);

extern PyTypeObject rs_KeeperType;
#endif
