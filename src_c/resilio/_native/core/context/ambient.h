/* What code finds around itself: the calls in flight in this thread, the deadline, and the priority.
 *
 * A part of core.h, which includes it after the macros that it needs.
 */
#ifndef RS_AMBIENT_H
#define RS_AMBIENT_H
#include "engine/run.h"

/* ---- the ambient chain: the calls in flight in this thread, innermost first --------------------------------- */
typedef struct rs_frame {
    rs_run *run;
    struct rs_frame *outer;
    PyObject *view; /* the CurrentCall made for it, owned, or NULL */
} rs_frame;

extern RS_THREAD_LOCAL rs_frame *rs_innermost, *rs_streams;
extern int rs_greenlets;           /* is `greenlet` loaded? */
extern PyObject *rs_modules;       /* sys.modules */
extern Py_ssize_t rs_modules_seen; /* its size when `greenlet` was last looked up */
int rs_greenlets_init(void);
int rs_greenlets_loaded(void);
void rs_greenlet_runs(void); /* make the chains those of the running greenlet */
/* Return 1 if another greenlet, whose stack occupies the same memory, may interrupt the call that begins now. */
static inline int rs_shares_stack(void)
{
    return RS_UNLIKELY(rs_greenlets)
           || (RS_UNLIKELY(PyDict_GET_SIZE(rs_modules) != rs_modules_seen) && rs_greenlets_loaded());
}
static inline rs_frame **rs_ambient(void)
{
    if (RS_UNLIKELY(rs_greenlets))
        rs_greenlet_runs();
    return &rs_innermost;
}
static inline void rs_ambient_enter(rs_frame *frame)
{
    rs_frame **top = rs_ambient();
    frame->outer = *top;
    *top = frame;
}
static inline void rs_ambient_leave(rs_frame *frame)
{
    rs_frame **top = rs_ambient(); /* first: with greenlets it may change frame->outer */
    *top = frame->outer;
}
/* The streams whose first item is in the making: phases are reported to them too. */
static inline rs_frame **rs_ambient_streams(void)
{
    if (RS_UNLIKELY(rs_greenlets))
        rs_greenlet_runs();
    return &rs_streams;
}
void rs_frame_end(rs_frame *frame); /* the run is over: its view raises from now on */

/* ---- the ambient deadline: of the calls in flight in this thread, and of the context ------------------------- */
extern int rs_deadline_count; /* deadlines that some context may hold */
PyObject *rs_deadline_make(int64_t until_ns, int64_t allowed_ns, PyObject *outer);
void rs_deadline_forget(PyObject *deadline);
extern uint32_t rs_detached; /* number of detached blocks begun so far: calls from before a block are outside it */
int rs_detached_from(const rs_run *run); /* is this code in a detached block that began after *run*? */
int64_t rs_deadline_with_context(const rs_frame *top);
PyObject *rs_seconds_left(PyObject *module, PyObject *unused);
PyObject *rs_deadline_allowed(void); /* the seconds for which it was set, or None; NULL with an exception */
int rs_deadline_interrupts(int64_t now);
/* Return 1 if a value set in a generator's frame is in effect: the weakly referenced generator runs.
   NULL: set outside any generator. */
int rs_holds_in(PyObject *reference, int closed);
int rs_is_gone(PyObject *reference, int closed); /* it will never be in effect again */
/* A weak reference to *object*, or NULL for None. -1 with an exception if it can have none. */
int rs_refer_weakly(PyObject *object, PyObject **reference);
/* The time at which the ambient deadline passes, RS_NEVER if there is none. Needs the GIL, and no exception pending. */
static inline int64_t rs_deadline_ns(void)
{
    const rs_frame *top = *rs_ambient();
    if (RS_UNLIKELY(__atomic_load_n(&rs_deadline_count, __ATOMIC_RELAXED) != 0))
        return rs_deadline_with_context(top);
    return top ? top->run->deadline_ns : RS_NEVER;
}

/* ---- the ambient priority, of the context ---------------------------------------------------------------------- */
extern int rs_priority_count; /* priorities that some context may hold */
extern PyTypeObject rs_AmbientPriorityType;
int rs_priority_here(uint64_t *task);
#endif
