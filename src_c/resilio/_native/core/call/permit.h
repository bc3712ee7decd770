/* Permit: what its two files share. */
#ifndef RS_PERMIT_H
#define RS_PERMIT_H
#include "core.h"

typedef struct {
    PyObject_VAR_HEAD
    rs_run run;
    rs_pipeline *pipe;
    PyObject *weakrefs;
    int ended;
    int by_hand;                    /* of try_acquire, acquire or aacquire: a drop at once is warned of */
    rs_frame frame;                 /* while the first item is made */
    uint64_t failed, ignored;       /* by slot: how its gate has judged the answer; 0: as a success, or there is none yet */
    PyObject *noted;                /* what a failed answer asks of those who come back, for `on_trip`; or NULL. Never the answer, which
                                       knows the permit: it is collected as soon as it is dropped */
    rs_slot slots[];                /* as many as are held, and one at least: with more it is too large for the quick allocator */
} PermitObject;

/* RuntimeError, for who would end it again. */
PyObject *rs_permit_has_ended(void);

/* How a permit ends, or goes on: told *argument*, while no other thread touches what it holds. */
typedef void (*rs_permit_step)(PermitObject *self, PyObject *argument);

/* Do *end* if it has not ended (1), or RuntimeError (0). On free-threaded builds too, one of two threads wins. */
int rs_permit_close(PermitObject *self, rs_permit_step end, PyObject *argument);

/* Do *step* unless it has ended. */
void rs_permit_do(PermitObject *self, rs_permit_step step, PyObject *argument);

/* End it as *outcome*, or as each gate's own rules judge *error*. NULL with an exception if it had ended. */
PyObject *rs_permit_settle(PermitObject *self, int outcome);
PyObject *rs_permit_raised(PermitObject *self, PyObject *error);

/* End it as its answer was judged; 0: it has ended before. ABORT, ABANDON: the rest of the answer was never read. */
typedef enum { RS_COMPLETE, RS_ABORT, RS_ABANDON } rs_permit_end;
int rs_permit_end_as(PermitObject *self, rs_permit_end how);

/* Each gate judges the answer, of which more may come. */
void rs_permit_judge(PermitObject *self, PyObject *value);
#endif
