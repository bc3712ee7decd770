/* Permit: declarations shared by its two files. */
#ifndef RS_PERMIT_H
#define RS_PERMIT_H
#include "core.h"

typedef struct {
    PyObject_VAR_HEAD
    rs_run run;
    rs_pipeline *pipe;
    PyObject *weakrefs;
    int ended;
    int by_hand;    /* of try_acquire, acquire or aacquire: an immediate drop causes a warning */
    rs_frame frame; /* while the first item is made */
    uint64_t failed,
        ignored;      /* by slot: the gate's verdict on the answer; both 0: success, or none yet; both 1: refused */
    PyObject *noted;  /* the Retry-After of a failed answer, for `on_trip`; or NULL. Never the answer,
                                       which refers to the permit: it is collected as soon as it is dropped */
    PyObject *inside; /* a list: what Python gates of inner stages of a stream keep of it; or NULL */
    rs_gate *seat;    /* of the endpoint that an inner stage of a stream has chosen; or NULL */
    rs_slot slots[];  /* one for each stage held, at least one: with more it is too large for the quick allocator */
} PermitObject;

/* RuntimeError for ending a permit twice. */
PyObject *rs_permit_has_ended(void);

/* Ends or continues a permit, with *argument*, while no other thread touches the stages that it holds. */
typedef void (*rs_permit_step)(PermitObject *self, PyObject *argument);

/* Call *end* unless the permit has ended (1), otherwise raise RuntimeError (0). On free-threaded builds too,
   one of two threads wins. */
int rs_permit_close(PermitObject *self, rs_permit_step end, PyObject *argument);

/* Call *step* unless the permit has ended. */
void rs_permit_do(PermitObject *self, rs_permit_step step, PyObject *argument);

/* End it as *outcome*, or as each gate's own rules judge *error*. NULL with an exception if it had ended. */
PyObject *rs_permit_settle(PermitObject *self, int outcome);
PyObject *rs_permit_raised(PermitObject *self, PyObject *error);

/* End it as its answer was judged; 0: it had ended before. ABORT, ABANDON: the rest of the answer was never read. */
typedef enum { RS_COMPLETE, RS_ABORT, RS_ABANDON } rs_permit_end;
int rs_permit_end_as(PermitObject *self, rs_permit_end how);

/* Let each gate judge the answer, of which more may follow. */
void rs_permit_judge(PermitObject *self, PyObject *value);
#endif
